"""The contract that every interactive figure keeps, on every page that shows one."""

import itertools
import json

import pytest
from bs4 import BeautifulSoup
from pages import PAGES
from widgets import wait_until_drawn, words_of

FIGURES = "figure.em2vae[data-interactive]"
# What a person perceives of a figure: its pixels, its drawing, the numbers in words.
SNAPSHOT = """(figure) => [
    ...[...figure.querySelectorAll("canvas")].map((e) => e.toDataURL()),
    ...[...figure.querySelectorAll("svg, .em2vae-said")].map((e) => e.outerHTML),
].join("\\n")"""
NAME = """(control) =>
    control.tagName === "BUTTON"
        ? control.innerText.trim() || control.getAttribute("aria-label") || ""
        : [...control.labels].filter((e) => e.checkVisibility()).map((e) => e.innerText).join(" ")
"""
KEYS = {"range": ("ArrowRight", "ArrowLeft"), "select-one": ("ArrowDown", "ArrowUp")}
KINDS = ("range", "select-one", "button", "submit", "checkbox", "radio")


def expected_figures(site, name: str) -> int:
    """How many views of our figures the page's source holds."""
    soup = BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    scripts = {kind: soup.find_all("script", type=f"application/vnd.jupyter.widget-{kind}+json")
               for kind in ("state", "view")}  # fmt: skip
    models = {}
    for state in scripts["state"]:
        models |= json.loads(state.string)["state"]
    ids = [json.loads(view.string)["model_id"] for view in scripts["view"]]
    return sum("_figure" in models.get(model_id, {"state": {}})["state"] for model_id in ids)


@pytest.fixture
def shown(site, open_page):
    """Opens each page that holds figures and yields its figures, page by page."""

    def shown(scheme: str = "http"):
        for name in PAGES:
            if expected := expected_figures(site, name):
                figures = open_page(name, scheme).locator(FIGURES).all()
                assert len(figures) == expected, name
                yield figures

    return shown


def test_the_book_has_figures(site):
    assert sum(expected_figures(site, name) for name in PAGES) >= 2


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_every_figure_becomes_ready(shown, scheme):
    for figures in shown(scheme):
        assert {figure.get_attribute("data-state") for figure in figures} == {"ready"}


def test_figures_say_what_they_are(shown):
    for figure in itertools.chain(*shown()):
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


def test_every_control_answers_the_keyboard(shown):
    for figure in itertools.chain(*shown()):
        figure.page.emulate_media(reduced_motion="no-preference")  # a jump may lead nowhere new
        for control in controls(figure):
            if control.is_enabled() and not is_full_screen_button(control):
                assert changes(figure, control), html(control)


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
        before = figure.evaluate(SNAPSHOT)
        control.focus()
        control.press(key)
        for _ in range(40):  # 2 s: an animation may take its time to the next picture
            if figure.evaluate(SNAPSHOT) != before:
                return True
            figure.page.wait_for_timeout(50)
    return False


def test_full_screen_enlarges_the_figure_and_shows_all_of_it(shown):
    for figure in itertools.chain(*shown()):
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
