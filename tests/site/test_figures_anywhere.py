"""Figures wherever a reader opens them: under a policy, in a frame, under a finger, for a voice, on
paper, in forced colours, on a phone, on the wall, and where frames are rare."""

import re

import pytest
from pages import HTML_TYPE, figures_alone
from widgets import HOLD_REST, IMPORT, SENTENCE, wait_until_drawn

from em2vae.interactive.figure import HERE

READY = "figure.em2vae[data-state=ready]"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DRAGGABLE = {
    "book/02-jensen": "jensen",
    "book/03-em": "em-stepper",
    "book/04-kl-and-variations": "kl-explorer",
    "book/05-mean-field": "mean-field",
    "book/06-elbo": "elbo-explorer",
    "book/08-reparameterization": "gumbel-simplex",
    "book/10-autoencoders": "ae-versus-vae",
    "book/11-vae": "training-scrubber",
    "book/12-latent-space": "latent-explorer",
}


@pytest.fixture
def visit(browser, site, site_url):
    """Opens a page in a context of its own kind and returns it once its first figure is ready.

    With `figures_only` there is nothing around the figures.
    """
    contexts = []

    def visit(name, policy=None, wait_for=READY, script="", figures_only=False, **options):
        context = browser.new_context(**{"reduced_motion": "reduce", **options})
        context.set_default_timeout(20_000)
        contexts.append(context)
        if policy:
            context.route("**/*.html", lambda route: with_policy(route, policy))
        if figures_only:
            html = figures_alone((site / f"{name}.html").read_text(encoding="utf-8"))
            context.route(
                "**/*.html", lambda route: route.fulfill(body=html, content_type=HTML_TYPE)
            )
        page = context.new_page()
        if script:
            page.add_init_script(script)
        page.goto(f"{site_url}{name}.html")
        page.locator(wait_for).first.wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()


def with_policy(route, policy):
    response = route.fetch()
    headers = {**response.headers, "content-security-policy": policy}
    route.fulfill(response=response, headers=headers)


# Policies and frames ----------------------------------------------------------------------------


def test_a_policy_without_blob_still_lets_figures_start(visit):
    """Two modules on one page, as inline scripts."""
    page = visit("book/12-latent-space", "script-src 'self' 'unsafe-inline'")
    page.wait_for_function("document.querySelectorAll('figure[data-state=ready]').length === 2")
    slider = page.locator(".em2vae-sliders input").first
    before = page.locator("figure canvas.em2vae-map").first.get_attribute("aria-label")
    slider.fill("2.5")
    wait_until_drawn(page)
    assert page.locator("figure canvas.em2vae-map").first.get_attribute("aria-label") != before


@pytest.mark.parametrize("policy", ["script-src 'self'", "script-src 'self' 'nonce-1'"])
def test_a_policy_that_allows_no_figure_is_named(visit, policy):
    page = visit("book/02-jensen", policy, wait_for=".em2vae-message")
    text = page.locator(".em2vae-message").first.inner_text()
    assert "Content-Security-Policy" in text and "blob:" in text and "downloaded copy" in text
    assert page.locator(".em2vae-message a").first.get_attribute("href").endswith(".ipynb")


def test_an_old_browser_is_told_what_it_lacks(visit):
    lacks = "delete self.DecompressionStream"
    page = visit("book/02-jensen", wait_for=".em2vae-message", script=lacks)
    assert "browser of 2023 or later" in page.locator(".em2vae-message").first.inner_text()


# Of a sandboxed frame over file:// nothing comes but its HTML: browsers refuse it every local file.
@pytest.mark.parametrize(
    "scheme, sandbox", [("http", ""), ("file", ""), ("http", 'sandbox="allow-scripts"')]
)
def test_figures_start_in_a_frame(request, browser, scheme, sandbox):
    base = request.getfixturevalue({"http": "site_url", "file": "file_url"}[scheme])
    page = browser.new_page()
    page.goto(f"{base}search.html")
    frame = f'<iframe {sandbox} src="book/04-kl-and-variations.html" width=900 height=700></iframe>'
    page.evaluate("(html) => (document.body.innerHTML = html)", frame)
    page.frame_locator("iframe").locator(READY).wait_for(timeout=20_000)
    page.close()


# Fingers ----------------------------------------------------------------------------------------


def values(figure) -> list[str]:
    return [control.input_value() for control in figure.locator("input[type=range]").all()]


# Where the page is once it has been there for ten frames.
RESTING_PLACE = """() => new Promise((done) => {
    let [last, same] = [scrollY, 0];
    const look = () => {
        same = scrollY === last ? same + 1 : 0;
        last = scrollY;
        if (same < 10) requestAnimationFrame(look);
        else done(last);
    };
    requestAnimationFrame(look);
})"""


def swipe(page, box, start, move) -> int:
    """A finger's way in shares of the box and in pixels; how far the page scrolls meanwhile."""
    x, y = box["x"] + start[0] * box["width"], box["y"] + start[1] * box["height"]
    client = page.context.new_cdp_session(page)
    before = page.evaluate(RESTING_PLACE)

    def touch(kind, *points):
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", {"x": x, "y": y})
    for step in range(1, 11):
        touch("touchMove", {"x": x + move[0] * step / 10, "y": y + move[1] * step / 10})
    touch("touchEnd")
    return page.evaluate(RESTING_PLACE) - before


def in_the_middle(page, canvas) -> dict:
    canvas.evaluate("e => e.scrollIntoView({ block: 'center', behavior: 'instant' })")
    page.evaluate(RESTING_PLACE)
    return canvas.bounding_box()


@pytest.mark.parametrize("name", DRAGGABLE)
def test_a_finger_that_goes_up_scrolls_and_one_that_goes_sideways_drags(visit, name):
    page = visit(name, **PHONE)
    figure = page.locator(f"figure[data-interactive={DRAGGABLE[name]}]").first
    for canvas in figure.locator("canvas.em2vae-draggable").all():
        box, before = in_the_middle(page, canvas), values(figure)
        assert swipe(page, box, (0.5, 0.95), (3, -150)) > 90
        assert values(figure) == before
        # Nothing to drag may lie near the start of one of these two ways.
        for way in ((0.3, 0.5), (0.75, 0.3)):
            box = in_the_middle(page, canvas)
            assert abs(swipe(page, box, way, (70, 4))) < 5
        assert values(figure) != before


def test_a_finger_on_the_ring_moves_it_upwards_and_the_page_stays(visit):
    page = visit("book/index", **PHONE)
    figure = page.locator("figure[data-interactive=latent-explorer]")
    canvas = figure.locator("canvas.em2vae-map")
    limit = float(figure.locator("input[type=range]").last.get_attribute("max"))
    box = in_the_middle(page, canvas)
    sliders = [figure.get_by_role("slider", name=name) for name in ("z₁", "z₂")]
    z = [float(slider.input_value()) for slider in sliders]
    ring = [0.5 + z[0] / 2 / limit, 0.5 - z[1] / 2 / limit]
    assert abs(swipe(page, box, ring, (2, -60))) < 5
    after = [float(slider.input_value()) for slider in sliders]
    assert after[1] - z[1] == pytest.approx(2 * limit * 60 / box["height"], rel=0.2)


def test_a_tap_moves_the_ring(visit):
    page = visit("book/index", **PHONE)
    figure = page.locator("figure[data-interactive=latent-explorer]")
    before = values(figure)
    box = in_the_middle(page, figure.locator("canvas.em2vae-map"))
    page.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + 0.2 * box["height"])
    wait_until_drawn(page)
    assert values(figure) != before


def test_the_pad_is_drawn_on_and_leaves_room_to_scroll(visit):
    page = visit("book/09-amortized-inference", **PHONE)
    figure = page.locator("figure[data-interactive=amortized-pad]")
    pad = figure.locator(".em2vae-pad")
    box = in_the_middle(page, pad)
    assert 180 < box["width"] < 390 - 2 * 60
    figure.get_by_role("button", name="Clear the pad").click()
    box = in_the_middle(page, pad)
    assert abs(swipe(page, box, (0.5, 0.9), (0, -150))) < 5
    assert "your drawing" in pad.get_attribute("aria-label")
    assert swipe(page, box, (1.2, 0.9), (0, -150)) > 90


# Voices -----------------------------------------------------------------------------------------

# Notes every sentence that a screen reader hears and every one that is shown.
LISTEN = """(figure) => {
    const heard = (window.heard = []);
    const shown = (window.shown = []);
    const note = (texts, element) => () => texts.push(element.textContent);
    const watch = (selector, texts) => {
        const element = figure.querySelector(selector);
        new MutationObserver(note(texts, element)).observe(element, { childList: true });
    };
    watch("output", heard);
    watch(".em2vae-said", shown);
}"""
AT_REST = """(figure) =>
    figure.querySelector(".em2vae-said").textContent.replaceAll("\\u00a0", " ") ===
    figure.querySelector("output").textContent"""
RUNS = [
    ("book/index", "latent-explorer", "Interpolate"),
    ("book/04-kl-and-variations", "kl-explorer", "To the reverse optimum"),
    ("book/05-mean-field", "mean-field", "Run q"),
    ("book/07-score-function", "gradient-race", "Run"),
    ("book/11-vae", "training-scrubber", "Play the training"),
]


@pytest.mark.parametrize("name, figure, button", RUNS)
def test_a_voice_hears_one_sentence_when_a_run_has_come_to_rest(visit, name, figure, button):
    page = visit(name, reduced_motion="no-preference", figures_only=True)
    figure = page.locator(f"figure[data-interactive={figure}]").first
    if button == "To the reverse optimum":
        figure.get_by_label("Mean of q").fill("-3")
        page.wait_for_function(AT_REST, arg=figure.element_handle())
    figure.evaluate(LISTEN)
    figure.get_by_role("button", name=button, exact=True).click()
    page.wait_for_function("heard.length > 0")
    page.wait_for_function(AT_REST, arg=figure.element_handle())
    page.wait_for_timeout(1000)
    heard, shown = page.evaluate("[heard, shown]")
    assert len(shown) >= 5
    assert len(heard) == 1
    assert heard[-1] == shown[-1].replace("\u00a0", " ")


# What ten presses of an arrow do, a frame apart: a driver's own may come too late for one breath.
TEN_PRESSES = """async (slider) => {
    for (let press = 0; press < 10; press++) {
        slider.stepDown();
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        await new Promise(requestAnimationFrame);
    }
    await new Promise(requestAnimationFrame);
    await rested();
}"""


def test_ten_presses_of_an_arrow_give_one_sentence(visit):
    page = visit("book/07-score-function", figures_only=True)
    figure = page.locator("figure[data-interactive=gradient-race]")
    page.evaluate(HOLD_REST)
    figure.evaluate(LISTEN)
    figure.get_by_label("Steps taken").evaluate(TEN_PRESSES)
    assert len(page.evaluate("shown")) == 10
    assert len(page.evaluate("heard")) == 1
    assert "After 30 steps" in page.evaluate("heard[0]")


# Paper and forced colours -----------------------------------------------------------------------

# Brightness of the canvas' paper and of the ink that differs most, but for a few stray pixels.
INK = """(canvas) => {
    const grey = (r, g, b) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
    const paper = grey(...getComputedStyle(canvas).backgroundColor.match(/[\\d.]+/g).map(Number));
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const inks = [];
    for (let i = 0; i < data.length; i += 4)
        if (data[i + 3] > 250) inks.push(grey(data[i], data[i + 1], data[i + 2]));
    inks.sort((a, b) => Math.abs(b - paper) - Math.abs(a - paper));
    return { paper, ink: inks[Math.min(40, inks.length - 1)] };
}"""
DRAWN_IN_INK = [
    ("book/06-elbo", "canvas.em2vae-plot"),
    ("book/12-latent-space", "canvas.em2vae-map"),
]


@pytest.mark.parametrize("name, canvas", DRAWN_IN_INK)
def test_a_dark_page_is_printed_with_dark_ink(visit, name, canvas):
    page = visit(name, color_scheme="dark")
    canvas = page.locator(canvas).first
    on_screen = canvas.evaluate(INK)
    assert on_screen["paper"] < 80 < 150 < on_screen["ink"]
    page.emulate_media(media="print")
    printed = canvas.evaluate(INK)
    assert printed["ink"] < 60 < 200 < printed["paper"]
    figure = page.locator("figure.em2vae").first
    color = figure.evaluate("e => getComputedStyle(e.querySelector('figcaption')).color")
    assert max(map(int, re.findall(r"\d+", color)[:3])) < 90
    page.emulate_media(media="screen")
    assert canvas.evaluate(INK) == on_screen
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert canvas.evaluate(INK) == printed
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert canvas.evaluate(INK) == on_screen


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("system", ["light", "dark"])
@pytest.mark.parametrize("name, canvas", DRAWN_IN_INK)
def test_forced_colours_are_those_of_the_system_whatever_the_theme(
    visit, name, canvas, system, theme
):
    page = visit(name, color_scheme=system, forced_colors="active", figures_only=True)
    page.evaluate("(theme) => (document.documentElement.dataset.theme = theme)", theme)
    wait_until_drawn(page)
    seen = page.locator(canvas).first.evaluate(INK)
    paper = page.evaluate("""() => {
        const probe = document.body.appendChild(document.createElement("div"));
        probe.style.cssText = "forced-color-adjust: none; background: Canvas";
        return getComputedStyle(probe).backgroundColor;
    }""")
    expected = max(map(int, re.findall(r"\d+", paper)[:3]))
    assert seen["paper"] == pytest.approx(expected, abs=2)
    assert abs(seen["ink"] - seen["paper"]) > 180


# Phones and walls -------------------------------------------------------------------------------

CLOSE = {
    "book/04-kl-and-variations": "kl-explorer",
    "book/05-mean-field": "mean-field",
    "book/07-score-function": "gradient-race",
    "book/08-reparameterization": "gumbel-simplex",
}


@pytest.mark.parametrize("name", CLOSE)
def test_on_a_phone_the_sliders_are_in_sight_of_what_they_move(visit, name):
    page = visit(name, **PHONE)
    figure = page.locator(f"figure[data-interactive={CLOSE[name]}]")
    drawing = figure.locator("canvas").first.bounding_box()
    sliders = [slider.bounding_box() for slider in figure.locator("input[type=range]").all()]
    assert max(box["y"] + box["height"] for box in sliders) - drawing["y"] < 844 - 250


def test_the_two_maps_stand_side_by_side_on_a_phone(visit):
    page = visit("book/10-autoencoders", **PHONE)
    maps = [m.bounding_box() for m in page.locator("canvas.em2vae-map").all()]
    assert maps[0]["y"] == maps[1]["y"] and min(m["width"] for m in maps) > 140
    assert page.locator("figure.em2vae").first.bounding_box()["height"] < 1300


@pytest.mark.parametrize("name", ["book/01-latent-variables", "book/08-reparameterization"])
def test_values_stay_beside_their_labels_and_words_apart_from_the_frame(visit, name):
    page = visit(name, **PHONE)
    figure = page.locator("figure.em2vae").first
    for slider in figure.locator(".em2vae-slider").all():
        value, track = (slider.locator(part).bounding_box() for part in (".em2vae-value", "input"))
        assert value["height"] < 30
        assert value["y"] + value["height"] <= track["y"] + 4
        assert value["x"] + value["width"] == pytest.approx(track["x"] + track["width"], abs=1)
    assert "%" not in re.sub("\u00a0%", "", figure.locator(SENTENCE).inner_text())
    below = figure.locator(".em2vae-sentence").evaluate(
        "e => parseFloat(getComputedStyle(e).marginBottom)"
    )
    assert below >= 6


SIZES = [(1366, 768), (1024, 700), (800, 1200), (1600, 900)]


@pytest.mark.parametrize(
    "name", ["book/01-latent-variables", "book/05-mean-field", "book/08-reparameterization",
             "book/12-latent-space", "book/13-tug-of-war"],
)  # fmt: skip
def test_full_screen_fits_again_after_a_resize_and_is_never_smaller_than_the_page(visit, name):
    page = visit(name, viewport={"width": 1366, "height": 768}, figures_only=True)
    figure = page.locator("figure.em2vae").last
    font = "e => parseFloat(getComputedStyle(e).fontSize)"
    inline = [part.evaluate(font) for part in (figure, figure.locator("figcaption"))]
    figure.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement !== null")
    screen = page.context.new_cdp_session(page)
    for width, height in SIZES:
        # Playwright's own way is refused by a window that is a full screen.
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        screen.send("Emulation.setDeviceMetricsOverride", size)
        page.wait_for_function(
            "([w, h]) => innerWidth === w && innerHeight === h", arg=[width, height]
        )
        wait_until_drawn(page)
        assert figure.evaluate("e => e.scrollHeight - e.clientHeight") <= 25, (width, height)
        full = [part.evaluate(font) for part in (figure, figure.locator("figcaption"))]
        assert full[0] >= inline[0] and full[1] >= inline[1] - 0.01


# Where frames are rare --------------------------------------------------------------------------

RARE_FRAMES = """
    const frame = requestAnimationFrame;
    window.frames_seen = 0;
    window.requestAnimationFrame = (callback) =>
        setTimeout(() => frame((now) => { window.frames_seen += 1; callback(now); }), 250);
"""


def test_the_climb_takes_its_time_and_not_its_frames(visit):
    page = visit(
        "book/06-elbo", script=RARE_FRAMES, reduced_motion="no-preference", figures_only=True
    )
    figure = page.locator("figure[data-interactive=elbo-explorer]")
    figure.get_by_role("button", name="Start wide").click()
    page.wait_for_timeout(600)
    before = figure.locator(SENTENCE).inner_text()
    page.evaluate("window.frames_seen = 0")
    figure.get_by_role("button", name="Climb").click()
    figure.locator(SENTENCE).filter(has_not_text=before).wait_for()
    assert page.evaluate("window.frames_seen") < 40  # for more than a hundred steps


def test_the_refinement_takes_its_time_and_not_its_frames(visit):
    page = visit(
        "book/09-amortized-inference",
        script=RARE_FRAMES,
        reduced_motion="no-preference",
        figures_only=True,
    )
    figure = page.locator("figure[data-interactive=amortized-pad]")
    page.evaluate("window.frames_seen = 0")
    figure.get_by_role("button", name="Refine").click()
    figure.locator(SENTENCE).filter(has_text="after 40 steps").wait_for()
    assert page.evaluate("window.frames_seen") < 20


def test_work_between_frames_follows_their_distance(open_page):
    """In milliseconds, under a clock of the test's own: little work where frames are close."""
    shared = (HERE / "shared.js").read_text(encoding="utf-8")
    shares = open_page("book/glossary", figures_only=True).evaluate(
        f"""async (text) => {{
            const {{ frameBudget }} = await ({IMPORT})(text);
            const clock = performance.now;
            let time = 0;
            performance.now = () => time;
            const budget = frameBudget();
            const shares = [0, 16, 46, 166, 566, 9000].map((at) => budget((time = at)) - at);
            performance.now = clock;
            return shares;
        }}""",
        shared,
    )
    assert shares == pytest.approx([6, 6, 10, 40, 50, 6])
