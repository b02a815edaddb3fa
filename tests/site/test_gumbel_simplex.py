"""The Gumbel simplex: what the browser computes against PyTorch's estimators."""

import re

import pytest
import torch
import traitlets
from monte_carlo import Z_MAX
from scipy.stats import chisquare
from torch.distributions import OneHotCategorical
from widgets import wait_until_drawn, words_of

from em2vae.gradients import gumbel_softmax, score_function, straight_through
from em2vae.interactive.gumbel_simplex import VALUES, GumbelSimplex

PAGE = "book/08-reparameterization"
DOTS = 400
V = torch.tensor(VALUES, dtype=torch.double)
ROUNDED = 0.005 + 0.01  # two decimals are shown, of an average over 32,768 even points


@pytest.fixture
def figure(open_page):
    return open_page(PAGE, figures_only=True).locator("figure[data-interactive='gumbel-simplex']")


def words(figure) -> str:
    wait_until_drawn(figure.page)
    return words_of(figure)


def bars(figure) -> dict[str, tuple[float, float]]:
    """Bias and spread of each estimator, from the label of the drawing."""
    words(figure)
    label = figure.locator("canvas").nth(1).get_attribute("aria-label")
    found = re.findall(r"([^:;]+) bias ([\d.]+), spread ([\d.]+)", label)
    return {name.strip(): (float(bias), float(spread)) for name, bias, spread in found}


def shares(figure, name: str) -> list[float]:
    """Three percentages that follow `name` in the words below the figure."""
    return [
        float(n) for n in re.search(rf"{name}(\d+) %, (\d+) %, (\d+) %", words(figure)).groups()
    ]


def probabilities(figure) -> torch.Tensor:
    """From the sliders, before they are rounded for display."""
    sliders = [figure.get_by_label(f"Weight {c}", exact=True) for c in (1, 2, 3)]
    weights = torch.tensor([float(s.input_value()) for s in sliders], dtype=torch.double)
    return weights / weights.sum()


def measured(estimator, p, repeats=200_000, **options) -> tuple[float, float, float]:
    """Bias of one draw, its standard error, and spread, by the library."""

    def f(z):
        return ((z @ V - 1) ** 2).sum(-1)

    pay = (V - 1) ** 2
    exact = p * (pay - p @ pay)
    many = p.log().expand(repeats, 1, 3)
    draws = estimator(f, lambda logits: OneHotCategorical(logits=logits), many, **options)[:, 0]
    variance = draws.var(0).sum()
    error = (variance / repeats).sqrt().item()
    return (draws.mean(0) - exact).norm().item(), error, variance.sqrt().item()


@pytest.mark.parametrize("power", [-3, -1, 1])
@pytest.mark.parametrize("weights", [None, ("0.2", "0.3", "0.9")])
def test_bias_and_spread_are_those_of_the_library(figure, power, weights):
    for c, weight in enumerate(weights or (), 1):
        figure.get_by_label(f"Weight {c}", exact=True).fill(weight)
    figure.get_by_role("slider", name="Temperature").fill(str(power))
    shown, p = bars(figure), probabilities(figure)
    mean = (p @ (V - 1) ** 2).item()
    expected = {
        "Gumbel-Softmax": measured(gumbel_softmax, p, temperature=2.0**power),
        "straight-through": measured(straight_through, p, temperature=2.0**power),
        "score function": measured(score_function, p),
        "… minus E[f]": measured(score_function, p, baseline=mean),
    }
    assert set(shown) == set(expected)
    for name, (bias, error, spread) in expected.items():
        seen_bias, seen_spread = shown[name]
        stated = 0.0 if "score" in name or "E[f]" in name else bias
        assert abs(seen_bias - stated) < ROUNDED + Z_MAX * error, name
        assert abs(seen_spread - spread) < ROUNDED + 0.02 * spread, name


def test_averaging_shrinks_the_spread_and_leaves_the_bias(figure):
    one = bars(figure)
    figure.get_by_role("slider", name="Draws").fill("4")  # 16
    many = bars(figure)
    for name, (bias, spread) in one.items():
        assert many[name][0] == bias
        assert abs(many[name][1] - spread / 4) < 0.01
    assert one["Gumbel-Softmax"][0] > 0.1


def test_nearest_corners_follow_the_probabilities_at_every_temperature(figure):
    before = shares(figure, "Nearest corners: ")
    counts = [round(share * DOTS / 100) for share in before]
    expected = probabilities(figure) * sum(counts)
    assert chisquare(counts, expected).pvalue > 1e-3
    for power in ("-3", "2"):
        figure.get_by_role("slider", name="Temperature").fill(power)
        assert shares(figure, "Nearest corners: ") == before
    figure.get_by_role("button", name="New noise").click()
    assert shares(figure, "Nearest corners: ") != before
    figure.get_by_role("button", name="Start again").click()
    assert shares(figure, "Nearest corners: ") == before


def test_cooling_drives_the_points_into_the_corners(figure):
    def near() -> int:
        words(figure)
        label = figure.locator("canvas").first.get_attribute("aria-label")
        return int(re.search(r"(\d+) % of them almost in a corner", label).group(1))

    warm = near()
    figure.get_by_role("slider", name="Temperature").fill("-3")
    cold = near()
    figure.get_by_role("slider", name="Temperature").fill("2")
    assert cold > 70 > warm > near()


def test_the_ring_can_be_dragged_and_the_sliders_follow(figure):
    canvas = figure.locator("canvas").first
    box = canvas.bounding_box()
    canvas.click(position={"x": 0.5 * box["width"], "y": 0.2 * box["height"]})  # towards the top
    probabilities_shown = shares(figure, "probabilities are ")
    assert probabilities_shown[1] > 70
    assert abs(probabilities_shown[0] - probabilities_shown[2]) <= 3
    slider = figure.get_by_label("Weight 2", exact=True)
    assert slider.get_attribute("aria-valuetext") == f"{probabilities_shown[1]:.0f} %"
    slider.press("Home")
    assert shares(figure, "probabilities are ")[1] < probabilities_shown[1]


def test_traits_refuse_what_the_sliders_cannot_show():
    figure = GumbelSimplex(weights=[1, 0.5, 0.05], temperature=0.125, n_samples=256)
    with pytest.raises(traitlets.TraitError, match=r"weights must hold 3 .* from 0\.05 to 1,"):
        figure.weights = [0.0, 0.5, 0.5]
    for name, value in (("temperature", 0.1), ("n_samples", 0), ("weights", [0.5, 0.5])):
        with pytest.raises(traitlets.TraitError):
            setattr(figure, name, value)
