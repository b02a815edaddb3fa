"""The contract that every interactive figure keeps, on every page that shows one."""

import pytest
from pages import PAGES
from widgets import figures_on, wait_until_drawn, words_of

FIGURES = "figure.em2vae[data-interactive]"
# What a person perceives of a figure: its pixels, its drawing, the numbers in words.
SNAPSHOT = """(figure) => [
    ...[...figure.querySelectorAll("canvas")].map((e) => e.toDataURL()),
    ...[...figure.querySelectorAll("svg, .em2vae-said")].map((e) => e.outerHTML),
].join("\\n")"""
# Whether it is another one than window.before within 2 s: an animation may take its time.
CHANGED = f"""async (figure) => {{
    const end = performance.now() + 2000;
    while (({SNAPSHOT})(figure) === window.before) {{
        if (performance.now() > end) return false;
        await new Promise(requestAnimationFrame);
    }}
    return true;
}}"""
NAME = """(control) =>
    control.tagName === "BUTTON"
        ? control.innerText.trim() || control.getAttribute("aria-label") || ""
        : [...control.labels].filter((e) => e.checkVisibility()).map((e) => e.innerText).join(" ")
"""
KEYS = {"range": ("ArrowRight", "ArrowLeft"), "select-one": ("ArrowDown", "ArrowUp"), "text": "xyz"}
KINDS = ("range", "select-one", "text", "button", "submit", "checkbox", "radio")


@pytest.fixture(scope="module", params=PAGES)
def figures(request, site, browser, opening):
    """Those of one page, which is opened once for all tests."""
    expected = figures_on(site / f"{request.param}.html")
    with opening(browser) as open_page:
        figures = open_page(request.param).locator(FIGURES).all() if expected else []
        assert len(figures) == expected, request.param
        yield figures


def test_the_book_has_figures(site):
    assert sum(figures_on(site / f"{name}.html") for name in PAGES) >= 2


def test_every_figure_becomes_ready(figures):
    assert {figure.get_attribute("data-state") for figure in figures} <= {"ready"}


def test_figures_say_what_they_are(figures):
    for figure in figures:
        assert figure.locator("figcaption").inner_text().strip()
        spoken = figure.locator('output[aria-live="polite"]')
        spoken.filter(has_text=words_of(figure)).wait_for()  # at rest, a voice says what is shown
        assert words_of(figure).strip()
        drawings = figure.locator("canvas, svg:not(svg svg)").all()
        assert drawings
        for drawing in drawings:
            labelled = drawing.locator('xpath=ancestor-or-self::*[@role="img" and @aria-label]')
            hidden = drawing.locator('xpath=ancestor-or-self::*[@aria-hidden="true"]')
            assert labelled.count() or hidden.count(), html(drawing)
        for control in controls(figure):
            assert control.evaluate(NAME), html(control)


def test_every_control_answers_the_keyboard(figures):
    for figure in figures:
        figure.page.emulate_media(reduced_motion="no-preference")  # a jump may lead nowhere new
        for control in controls(figure):
            if control.is_enabled() and not is_full_screen_button(control):
                assert changes(figure, control), html(control)
        figure.page.emulate_media(reduced_motion="reduce")


def controls(figure) -> list:
    """Those on show; a figure may reveal some later, such as the slider of an interpolation."""
    return [c for c in figure.locator("input, select, button").all() if c.is_visible()]


def html(element) -> str:
    return f"{element.page.url}: {element.evaluate('e => e.outerHTML')[:300]}"


def is_full_screen_button(control) -> bool:
    return "full screen" in control.evaluate(NAME).lower()


def changes(figure, control) -> bool:
    """Whether one of a few presses of the control's keys changes what a person perceives."""
    kind = control.evaluate("e => e.type")
    assert kind in KINDS, f"no native control: {kind}"
    for key in KEYS.get(kind, ("Space", "Space", "Space")):
        figure.evaluate(f"(figure) => (window.before = ({SNAPSHOT})(figure))")
        control.press(key)
        if figure.evaluate(CHANGED):
            return True
    return False


def test_full_screen_enlarges_the_figure_and_shows_all_of_it(figures):
    for figure in figures:
        width = figure.bounding_box()["width"]
        [button] = [b for b in figure.locator("button").all() if is_full_screen_button(b)]
        button.press("Enter")
        figure.page.wait_for_function("document.fullscreenElement !== null")
        assert figure.evaluate("e => document.fullscreenElement.contains(e)")
        assert figure.bounding_box()["width"] > width
        wait_until_drawn(figure.page)
        assert figure.evaluate("e => e.scrollHeight - e.clientHeight") <= 25, html(figure)
        figure.page.evaluate("document.exitFullscreen()")
        figure.page.wait_for_function("document.fullscreenElement === null")
