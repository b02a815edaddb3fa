"""Every built page, from a folder, in dark, in light and on a small phone: clean, accessible,
nothing cut off; its figures ready; and printed from the dark on white.

Each page is opened once, dark and on a phone; a test puts on the look that it is about.
"""

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe
from pages import PAGES, faults
from test_interactive import FIGURES
from widgets import figures_on, wait_until_drawn

# The dark page is the light one in other colours, the phone's is the light one in another shape.
RULES = {
    "phone": {"rules": {"color-contrast": {"enabled": False}}},
    "dark": {"runOnly": ["color-contrast", "link-in-text-block"]},
    "light": {},
}
# Axe takes milliseconds for the contrast of one text, and a chapter holds thousands, most of them
# like each other: the same letters on elements that paint the same, all the way up to the root. Of
# each kind axe is shown the first, the middle and the last.
SAMPLE = """() => {
    const ids = new Map(), grounds = new Map(), samples = new Map();
    const id = (...parts) => {
        const key = parts.join("\\n");
        if (!ids.has(key)) ids.set(key, ids.size + 1);
        return ids.get(key);
    };
    const PLAIN = "rgba(0, 0, 0, 0) none 1 none normal static auto";
    const ground = (e) => {
        if (!e) return 0;
        if (grounds.has(e)) return grounds.get(e);
        const s = getComputedStyle(e), under = ground(e.parentElement);
        const paint = [s.backgroundColor, s.backgroundImage, s.opacity, s.filter, s.mixBlendMode,
                       s.position, s.zIndex].join(" ");
        grounds.set(e, paint === PLAIN ? under : id(under, paint));
        return grounds.get(e);
    };
    const hasText = (e) => e.matches("input, select, textarea, button") ||
        [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    const seen = { opacityProperty: true, visibilityProperty: true };
    for (const e of document.querySelectorAll("body, body *")) {
        e.removeAttribute("data-sample");
        if (!hasText(e) || !e.checkVisibility(seen) || !e.getClientRects().length) continue;
        const s = getComputedStyle(e), off = (c) => Boolean(c?.matches(":disabled"));
        const kind = id(ground(e), s.color, s.fontSize, s.fontWeight, s.textShadow, e.localName,
                        off(e), off(e.closest("label")?.control));
        if (!samples.has(kind)) samples.set(kind, []);
        samples.get(kind).push(e);
    }
    for (const like of samples.values())
        for (const e of [like[0], like[like.length >> 1], like.at(-1)])
            e.setAttribute("data-sample", "");
}"""
RULE = "{ id: 'color-contrast', selector: '[data-sample]' }"
AXE = f"{AXE_SCRIPT}; axe.configure({{ rules: [{RULE}] }})"
OVERFLOWING = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const wide = [...document.querySelectorAll("body *")]
        .filter((e) => e.getBoundingClientRect().right > width + 1)
        .map((e) => `${e.tagName.toLowerCase()}.${e.className}`);
    return wide.length ? wide : ["text beyond its element"];
}"""
# Text that is less than 4.5 times as dark as white paper, which gets no backgrounds.
PALE = """() => {
    const linear = (v) => v <= 10 ? v / 3295 : ((v / 255 + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const pale = new Set();
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const { data, parentElement } = texts.currentNode;
        if (!data.trim() || !parentElement.checkVisibility({ visibilityProperty: true })) continue;
        const { color } = getComputedStyle(parentElement);
        const ratio = 1.05 / (luminance(color.match(/[0-9.]+/g).map(Number)) + 0.05);
        if (ratio < 4.5) pale.add(`${color}: ${data.trim().slice(0, 40)}`);
    }
    return [...pale];
}"""
# From now on, notes of each canvas the texts of its last drawing that its sides or a clip cut off.
WATCH_CANVASES = """() => {
    const draws = CanvasRenderingContext2D.prototype, of = new Map();
    const onPage = () => [...of].filter(([context]) => context.canvas.isConnected); // not axe's
    window.cutTexts = () => onPage().flatMap(([, { texts }]) => texts);
    const before = (name, note) => {
        const original = draws[name];
        draws[name] = function (...args) {
            if (!of.has(this)) of.set(this, { texts: [] });
            note.call(this, of.get(this), ...args);
            return original.apply(this, args);
        };
    };
    before("reset", (seen) => { seen.texts = []; seen.sides = null; });
    before("rect", (seen, x, y, width) => { seen.rect = [x, x + width]; });
    before("clip", (seen) => { seen.sides = seen.rect; });
    before("fillText", function (seen, text, x) {
        const { actualBoundingBoxLeft: l, actualBoundingBoxRight: r } = this.measureText(text);
        const [low, high] = seen.sides ?? [0, this.canvas.width];
        if (x - l < low - 2 || x + r > high + 2) seen.texts.push(`cut off: ${text}`);
    });
}"""
THEME = "document.documentElement.dataset.theme"
# The theme lets a keyboard reach what a narrower window makes scrollable 0.3 s after the resize.
REACHABLE = """() => [...document.querySelectorAll("pre")]
    .every((e) => e.scrollWidth <= e.clientWidth || e.tabIndex === 0)"""


@pytest.fixture(scope="module", params=PAGES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def page(name, browser, opening):
    with opening(browser) as open_page:
        page = open_page(name, "file", dark=True, width=360)
        page.evaluate(AXE)
        page.evaluate(WATCH_CANVASES)
        yield page


def test_every_figure_is_ready(page, name, site):
    states = [figure.get_attribute("data-state") for figure in page.locator(FIGURES).all()]
    assert states == ["ready"] * figures_on(site / f"{name}.html"), name


def test_a_dark_page_is_printed_dark_on_white(page):
    put_on(page, "dark")
    page.emulate_media(media="print")
    page.wait_for_function(f"{THEME} === 'light'")
    assert page.evaluate(PALE) == []
    page.emulate_media(media="screen")
    page.wait_for_function(f"{THEME} === 'dark'")


@pytest.mark.parametrize("look", RULES)
def test_page_is_clean_accessible_and_no_wider_than_the_screen(page, look):
    put_on(page, look)
    cut = page.evaluate(OVERFLOWING) + page.evaluate("cutTexts()")
    assert faults(page) + cut == [], page.url
    found = violations(page, look)
    assert not found.violations_count, f"{page.url}\n{found.generate_report()}"


def put_on(page, look: str) -> None:
    """The colours and the width, drawn, on a screen."""
    theme = "dark" if look == "dark" else "light"
    page.set_viewport_size({"width": 360 if look == "phone" else 1280, "height": 900})
    page.emulate_media(color_scheme=theme, media="screen")
    page.wait_for_function(f"{THEME} === '{theme}'")
    page.wait_for_function(REACHABLE)
    wait_until_drawn(page)


def violations(page, look: str):
    """What axe, which is on the page already, finds in this look."""
    page.evaluate(SAMPLE)
    # Axe would fetch the style sheets a second time, which browsers refuse over file://.
    options = {"resultTypes": ["violations"], "preload": False, **RULES[look]}
    return Axe(axe_script="null").run(page, options=options)


PALE_ONE = """<!doctype html><html lang="en"><title>Pale</title><main><h1>Pale</h1>
<p style="background: #fff; color: #000">{} <code {}>pale</code> {}</p></main></html>"""
SAME = "<code>like the others</code> " * 50


@pytest.mark.parametrize("fault", ["style='color: #999'", "style='background: #444'"])
def test_one_pale_word_among_many_is_found(browser, fault):
    page = browser.new_page()
    page.set_content(PALE_ONE.format(SAME, fault, SAME))
    page.evaluate(AXE)
    [violation] = violations(page, "light").response["violations"]
    assert violation["id"] == "color-contrast"
    assert [node["html"] for node in violation["nodes"]] == [
        f'<code {fault.replace(chr(39), chr(34))} data-sample="">pale</code>'
    ]
    page.close()
