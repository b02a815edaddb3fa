"""The KL explorer: what the browser computes, against SciPy's quadrature and optimizer."""

import math
import re

import numpy as np
import pytest
import traitlets
from scipy.integrate import quad
from scipy.optimize import minimize
from widgets import SENTENCE, wait_until_drawn, words_of

from em2vae.interactive.kl_explorer import SCALE, WEIGHT, KLExplorer

PAGE = "book/04-kl-and-variations"
NUMBER = r"−?\d+\.\d\d"
NUMBERS = re.compile(
    rf"q has mean ({NUMBER}) and width ({NUMBER})\..*from p to q: ({NUMBER}) nats\."
    rf".*from q to p: ({NUMBER}) nats\."
)


def log_normal(z, mean, width):
    return -0.5 * ((z - mean) / width) ** 2 - math.log(width) - 0.5 * math.log(2 * math.pi)


def log_target(z, separation):
    left = math.log(1 - WEIGHT) + log_normal(z, -separation / 2, SCALE)
    return np.logaddexp(left, math.log(WEIGHT) + log_normal(z, separation / 2, SCALE))


def divergence(log_a, log_b, centres, reach):
    """KL(a || b), a negligible beyond `reach` of its centres."""

    def integrand(z):
        return math.exp(log_a(z)) * (log_a(z) - log_b(z))

    low, high = min(centres) - reach, max(centres) + reach
    return quad(integrand, low, high, points=centres, limit=300)[0]


def forward_kl(mean, width, separation):
    bumps = [-separation / 2, separation / 2]
    return divergence(
        lambda z: log_target(z, separation), lambda z: log_normal(z, mean, width), bumps, 10 * SCALE
    )


def reverse_kl(mean, width, separation):
    return divergence(
        lambda z: log_normal(z, mean, width),
        lambda z: log_target(z, separation),
        [mean],
        10 * width,
    )


@pytest.fixture
def figure(open_page):
    return open_page(PAGE, figures_only=True).locator("figure[data-interactive='kl-explorer']")


def numbers(figure) -> list[float]:
    """Mean, width, forward and reverse divergence, as the figure says them."""
    text = words_of(figure)
    return [float(n.replace("−", "-")) for n in NUMBERS.search(text).groups()]


def put(figure, mean, width, separation) -> None:
    """Move the sliders and wait for the paint that follows."""
    values = {"Mean of q": mean, "Width of q": width, "Separation": separation}
    for label, value in values.items():
        figure.get_by_label(label).fill(str(value))
    figure.locator(SENTENCE).filter(has_text=said(mean, width)).wait_for()
    wait_until_drawn(figure.page)


def said(mean, width) -> str:
    return f"q has mean {mean:.2f} and width {width:.2f}.".replace("-", "−")


@pytest.mark.parametrize(
    "mean, width, separation",
    [(2, 0.6, 4), (0.5, 2.05, 4), (-1.25, 0.3, 3.2), (4, 3.5, 6), (0, 1, 0)],
)
def test_shown_divergences_are_the_integrals(figure, mean, width, separation):
    put(figure, mean, width, separation)
    assert numbers(figure)[:2] == [mean, width]
    expected = [kl(mean, width, separation) for kl in (forward_kl, reverse_kl)]
    assert numbers(figure)[2:] == [pytest.approx(value, abs=0.0051) for value in expected]
    forward, reverse = numbers(figure)[2:]
    assert figure.locator("strong").all_inner_texts() == [
        f"Forward KL(p‖q) = {forward:.2f} nats",
        f"Reverse KL(q‖p) = {reverse:.2f} nats",
    ]


@pytest.mark.parametrize("separation", [1, 4, 6])
def test_forward_button_matches_the_moments(figure, separation):
    put(figure, -3, 0.5, separation)
    figure.get_by_role("button", name="To the forward optimum").click()
    mean = (2 * WEIGHT - 1) * separation / 2
    width = math.sqrt(SCALE**2 + WEIGHT * (1 - WEIGHT) * separation**2)
    figure.locator(SENTENCE).filter(has_text=said(mean, width)).wait_for()


@pytest.mark.parametrize("mean, width, separation", [(-2.5, 1, 4), (0, 4, 4), (-2, 0.5, 2)])
def test_reverse_button_finds_the_local_optimum(figure, mean, width, separation):
    """Whichever bump it ends on, an optimizer without gradients finds nothing better nearby."""
    put(figure, mean, width, separation)
    before = numbers(figure)[3]
    figure.get_by_role("button", name="To the reverse optimum").click()
    output = figure.locator(SENTENCE)
    output.filter(has_not_text=said(mean, width)).wait_for()
    m, s, _, reverse = numbers(figure)
    assert reverse < before
    best = minimize(
        lambda a: reverse_kl(a[0], math.exp(a[1]), separation),
        (m, math.log(s)),
        method="Nelder-Mead",
        options={"xatol": 1e-3, "fatol": 1e-7},
    )
    assert (m, s) == pytest.approx((best.x[0], math.exp(best.x[1])), abs=0.011)
    assert reverse == pytest.approx(best.fun, abs=0.0051)


def test_reverse_has_two_resting_places_and_says_their_prices(figure):
    prices = []
    for mean in (-2.5, 2.5):
        put(figure, mean, 1, 6)
        figure.get_by_role("button", name="To the reverse optimum").click()
        figure.locator(SENTENCE).filter(has_not_text=said(mean, 1)).wait_for()
        prices.append(numbers(figure)[3])
    assert prices == [pytest.approx(-math.log(w), abs=0.006) for w in (1 - WEIGHT, WEIGHT)]


def test_close_bumps_no_longer_hold_the_small_one(figure):
    """Reverse from the small bump: stays at 3.2, goes to the large one at 3, covers both at 2."""
    means = []
    for separation in (3.2, 3, 2):
        put(figure, -separation / 2, 0.6, separation)
        before = words_of(figure)
        figure.get_by_role("button", name="To the reverse optimum").click()
        figure.locator(SENTENCE).filter(has_not_text=before).wait_for()
        means.append(numbers(figure)[0] / separation)
    assert means == pytest.approx([-0.47, 0.49, 0.19], abs=0.02)


def test_reset_restores_the_opening(figure):
    opening = words_of(figure)
    assert "holding 0.30 and 0.70 of its mass" in opening
    put(figure, -1, 1, 3)
    figure.get_by_role("button", name="Reset").click()
    figure.locator(SENTENCE).filter(has_text=said(2, 0.6)).wait_for()
    assert words_of(figure) == opening
    assert figure.get_by_label("Separation").input_value() == "4"


def test_animation_ends_where_the_jump_does(figure):
    put(figure, -3, 0.5, 4)
    figure.page.emulate_media(reduced_motion="no-preference")
    figure.get_by_role("button", name="To the forward optimum").click()
    width = math.sqrt(SCALE**2 + WEIGHT * (1 - WEIGHT) * 16)
    figure.locator(SENTENCE).filter(has_text=said(0.8, width)).wait_for()


def test_dragging_moves_the_mean_and_the_shoulder_sets_the_width(figure):
    put(figure, 0, 1, 4)
    box = figure.locator("canvas").first.bounding_box()
    mouse = figure.page.mouse

    def at(z, density):  # the axes end about here inside the canvas
        x = box["x"] + box["width"] * (0.1 + 0.86 * (z + 7) / 14)
        return x, box["y"] + box["height"] * (0.86 - 0.78 * density / 0.7)

    def drag(start, end):
        mouse.move(*start)
        mouse.down()
        mouse.move(*end, steps=4)
        mouse.up()
        wait_until_drawn(figure.page)
        return numbers(figure)[:2]

    mean, width = drag(at(0, 0.4), at(2, 0.4))
    assert mean == pytest.approx(2, abs=0.4) and width == 1
    moved, width = drag(at(mean + 1, 0.242), at(mean + 2, 0.242))
    assert moved == mean and width == pytest.approx(2, abs=0.4)


def test_drawings_say_what_they_show(figure):
    put(figure, 1, 0.5, 3)
    labels = [c.get_attribute("aria-label") for c in figure.locator("canvas").all()]
    assert "bumps at −1.50 and 1.50" in labels[0] and "mean 1.00 and width 0.50" in labels[0]
    forward, reverse = numbers(figure)[2:]
    assert f"in all {forward:.2f} nats" in labels[1]
    assert f"in all {reverse:.2f} nats" in labels[2]


def test_values_outside_the_sliders_are_refused():
    explorer = KLExplorer(mean=-1, width=2)
    assert (explorer.mean, explorer.width, explorer.separation) == (-1, 2, 4)
    for name, value in (("width", 0), ("width", 5), ("mean", 6), ("separation", -1)):
        with pytest.raises(traitlets.TraitError, match=name):
            setattr(explorer, name, value)


def test_what_is_said_never_shrinks_under_the_hand(figure):
    """One bump takes fewer words than two; another width of the page begins anew."""
    separation, heights = figure.get_by_label("Separation"), []
    separation.fill("0")
    figure.page.set_viewport_size({"width": 640, "height": 900})
    for value in (0, 4, 0, 3.2, 0):
        separation.fill(str(value))
        wait_until_drawn(figure.page)
        assert ("one bump" in words_of(figure)) == (value == 0)
        heights.append(figure.evaluate("(figure) => figure.offsetHeight"))
    assert heights == sorted(heights)
    assert heights[0] < heights[-1]
