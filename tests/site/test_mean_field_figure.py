"""The mean-field figure: what the browser computes, against the formulas of chapter 05."""

import math
import re

import pytest
import torch
import traitlets
from torch.distributions import MultivariateNormal, kl_divergence
from widgets import SENTENCE, wait_until_drawn, words_of

from em2vae.interactive.mean_field import MeanField

PAGE = "book/05-mean-field"
NUMBER = r"(−?\d+(?:\.\d+)?)"
SAID = re.compile(
    rf"After {NUMBER} updates? q has mean {NUMBER}, {NUMBER} and variances {NUMBER}; .*"
    rf"The bound lies {NUMBER} nats below log p\(x\), of which {NUMBER} are there to stay."
    rf"(?: The {NUMBER} Gibbs draws have variances {NUMBER} and {NUMBER} and correlation {NUMBER}; "
    rf"they are worth (?:less than one|about {NUMBER}) independent draws?.)?"
)


@pytest.fixture
def figure(open_page):
    return open_page(PAGE, figures_only=True).locator("figure[data-interactive='mean-field']")


def said(figure) -> list[float]:
    wait_until_drawn(figure.page)
    groups = SAID.fullmatch(words_of(figure)).groups()
    return [float(text.replace("−", "-")) for text in groups if text]


def expected(rho: float, start: list[float], updates: int) -> list[float]:
    """Mean, variance and KL to the posterior, the latter from torch.distributions."""
    covariance = torch.tensor([[1, rho], [rho, 1]]).double()
    p_z, m = MultivariateNormal(torch.zeros(2).double(), covariance), list(start)
    for t in range(updates):
        m[t % 2] = rho * m[1 - t % 2]
    variance = torch.eye(2).double() / covariance.inverse()[0, 0]
    kl, least = (
        kl_divergence(MultivariateNormal(torch.tensor(mean).double(), variance), p_z).item()
        for mean in (m, [0.0, 0.0])
    )
    return [updates, *m, variance[0, 0].item(), kl, least]


def worth_of_mean(rho: float, sweeps: int, start: float = -2.4) -> float:
    """One over the mean squared error of the mean of T draws of z2 from a chain with that start."""
    t = torch.arange(1, sweeps + 1).double()
    correlation = rho ** (2 * (t[:, None] - t).abs())  # of draws s and t in the long run
    covariance = correlation - rho ** (2 * (t[:, None] + t))  # a start that is known has none
    bias = (start * rho ** (2 * t)).mean()
    return 1 / (covariance.mean() + bias**2).item()


def test_it_opens_with_the_point(figure):
    python = MeanField()
    numbers = said(figure)
    for shown, value in zip(
        numbers[:6], expected(python.rho, python.start, python.updates), strict=True
    ):
        assert shown == pytest.approx(value, abs=0.00501)
    assert numbers[3] < 0.2 < 0.8 < min(numbers[7:9])  # q far too narrow, the draws not
    assert numbers[6] == python.sweeps


@pytest.mark.parametrize("rho, start", [(0.5, (2.0, -1.0)), (-0.8, (0.5, 2.5)), (0.0, (1.0, 1.0))])
def test_updates_follow_the_formula(figure, rho, start):
    figure.get_by_label("Correlation ρ").fill(str(rho))
    for axis, value in zip("₁₂", start, strict=True):
        figure.get_by_label(f"Mean of q(z{axis})").fill(str(value))
    for updates in range(4):
        for shown, value in zip(said(figure)[:6], expected(rho, start, updates), strict=True):
            assert shown == pytest.approx(value, abs=0.00501)
        figure.get_by_role("button", name="Update q").click()


@pytest.mark.parametrize("rho", [0.8, -0.5])
def test_a_long_chain_has_the_posteriors_moments(figure, rho):
    figure.get_by_label("Correlation ρ").fill(str(rho))
    figure.get_by_label("Gibbs sweeps").fill("1000")
    sweeps, *variances, correlation, worth = said(figure)[6:]
    assert sweeps == 1000
    assert worth == round(worth_of_mean(rho, 1000))
    squares = 1000 * (1 - rho**4) / (1 + rho**4)  # autocorrelation of z^2 is rho^4 a sweep
    assert variances == pytest.approx([1, 1], abs=5 * math.sqrt(2 / squares))
    assert correlation == pytest.approx(rho, abs=5 * (1 - rho**2) / math.sqrt(squares))


def test_few_draws_from_a_far_start_are_worth_less_than_one(figure):
    for sweeps in (2, 3, 10, 100):
        figure.get_by_label("Gibbs sweeps").fill(str(sweeps))
        worth = round(worth_of_mean(MeanField().rho, sweeps))
        assert said(figure)[10:] == ([worth] if worth else [])
    assert worth == 10


def test_a_drag_moves_q_and_starts_again(figure):
    canvas = figure.locator("canvas").first
    box = canvas.bounding_box()
    canvas.click(position={"x": 0.55 * box["width"], "y": 0.4 * box["height"]})
    numbers = said(figure)
    assert numbers[0] == 0
    assert -0.5 < numbers[1] < 0.5
    assert 0 < numbers[2] < 1


def test_running_walks_and_pausing_stops_the_walk(figure):
    figure.get_by_role("button", name="Restart").click()
    assert said(figure)[0] == 0
    assert "Gibbs" not in words_of(figure)
    figure.get_by_role("button", name="Run Gibbs").click()
    figure.locator(SENTENCE).filter(has_text=re.compile(r"\d\d Gibbs draws")).wait_for()
    figure.get_by_role("button", name="Pause").click()
    wait_until_drawn(figure.page)
    stopped = words_of(figure)
    figure.page.wait_for_timeout(300)  # five steps' time
    assert words_of(figure) == stopped
    figure.get_by_role("button", name="Gibbs sweep", exact=True).click()
    assert said(figure)[6] == float(SAID.fullmatch(stopped).groups()[6]) + 1


def test_running_q_ends_at_the_lasting_gap(figure):
    figure.get_by_label("Correlation ρ").fill("0.5")
    figure.get_by_role("button", name="Restart").click()
    figure.get_by_role("button", name="Run q").click()
    figure.locator(SENTENCE).filter(has_text="mean 0.00, 0.00 and").wait_for()
    figure.get_by_role("button", name="Run q").wait_for()  # "Pause" until it stops by itself
    updates, m1, m2, _, gap, least = said(figure)
    assert updates > 3
    assert m1 == m2 == 0
    assert gap == least == pytest.approx(-0.5 * math.log(0.75), abs=0.00501)


@pytest.mark.parametrize(
    "trait, value", [("rho", 1.0), ("start", [0.0, 4.0]), ("start", [0.0, math.nan]),
                     ("start", [0.0]), ("updates", -1), ("sweeps", 1001)],
)  # fmt: skip
def test_values_out_of_range_are_refused(trait, value):
    with pytest.raises(traitlets.TraitError):
        MeanField(**{trait: value})
