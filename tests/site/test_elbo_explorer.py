"""The ELBO explorer: the browser's numbers against Python's, and where its climb ends."""

import math
import re

import pytest
import traitlets
from scipy.optimize import minimize
from widgets import SENTENCE, wait_until_drawn, words_of

from em2vae.interactive.elbo_explorer import ElboExplorer, terms

PAGE = "book/06-elbo"
NAMES = ("reconstruction", "kl", "elbo", "gap", "log_p_x")


@pytest.fixture
def figure(open_page):
    return open_page(PAGE, figures_only=True).locator("figure[data-interactive='elbo-explorer']")


def shown(figure) -> dict[str, float]:
    """The five numbers that the output says, in its order."""
    wait_until_drawn(figure.page)
    text = words_of(figure).replace("−", "-")
    return dict(zip(NAMES, map(float, re.findall(r"-?\d+\.\d+", text)), strict=True))


def values(figure) -> list[float]:
    """Mean, width and x, to the two digits beside the sliders."""
    text = figure.locator(".em2vae-value").all_inner_texts()
    return [float(value.replace("−", "-")) for value in text]


def set_sliders(figure, mu, sigma, x):
    for label, value in {"Mean of q": mu, "Width of q": sigma, "Value of x": x}.items():
        figure.get_by_label(label).fill(str(value))


@pytest.mark.parametrize(
    "mu, sigma, x",
    [(0.4, 0.8, 1.5), (-3, 0.2, 3), (3, 2, -0.5), (1.1, 0.24, 1.5), (-0.7, 1.36, 0), (2, 1, 2.2)],
)
def test_numbers_agree_with_python_and_add_up(figure, mu, sigma, x):
    set_sliders(figure, mu, sigma, x)
    browser = shown(figure)
    assert browser == pytest.approx(terms(mu, sigma, x), abs=1e-3)
    total = browser["reconstruction"] - browser["kl"] + browser["gap"]
    assert total == pytest.approx(browser["log_p_x"], abs=2.1e-3)  # four rounded numbers


def test_it_opens_away_from_a_top_with_every_bar_on_show(figure):
    first = ElboExplorer()
    assert shown(figure) == pytest.approx(terms(first.mu, first.sigma, first.x), abs=1e-3)
    assert min(abs(value) for value in shown(figure).values()) > 0.1


@pytest.mark.parametrize("side", ["left", "right", "wide"])
def test_the_climb_ends_where_an_optimizer_ends(figure, side):
    """The page prefers reduced motion, so the climb jumps to its end."""
    figure.get_by_role("button", name=f"Start {side}").click()
    wait_until_drawn(figure.page)
    mu, sigma, x = values(figure)
    best = minimize(lambda p: -terms(p[0], math.exp(p[1]), x)["elbo"], (mu, math.log(sigma)))
    start = shown(figure)["elbo"]
    figure.get_by_role("button", name="Climb").click()
    assert shown(figure)["elbo"] == pytest.approx(-best.fun, abs=1.5e-3)
    assert shown(figure)["elbo"] > start + 0.05
    assert values(figure)[:2] == pytest.approx([best.x[0], math.exp(best.x[1])], abs=0.02)


def test_the_animated_climb_rises_and_stops(figure):
    figure.page.emulate_media(reduced_motion="no-preference")
    before = shown(figure)["elbo"]
    said = figure.locator(SENTENCE)
    old = said.inner_text()
    figure.get_by_role("button", name="Climb").click()
    figure.page.wait_for_function(
        "([e, old]) => e.innerText !== old", arg=[said.element_handle(), old]
    )
    after = shown(figure)
    assert after["elbo"] > before + 0.5
    wait_until_drawn(figure.page)
    assert shown(figure) == after


def test_dragging_the_top_of_q_moves_mean_and_width(figure):
    canvas = figure.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page = figure.page
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    wait_until_drawn(figure.page)
    mean, width, _ = values(figure)
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.up()
    wait_until_drawn(figure.page)
    assert values(figure)[0] > mean + 0.5
    assert values(figure)[1] < width - 0.05


def test_a_width_that_is_not_positive_is_refused():
    with pytest.raises(traitlets.TraitError, match="sigma"):
        ElboExplorer(sigma=-1)
