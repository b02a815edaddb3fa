"""The gradient race: what the browser computes, against the same mathematics in NumPy."""

import re

import numpy as np
import pytest
import traitlets
from widgets import SENTENCE, wait_until_drawn, words_of

from em2vae.interactive.gradient_race import LIMITS, GradientRace

PAGE = "book/07-score-function"
TRIALS = 300
NUMBERS = r"score function (\d+\.\d+), leave-one-out (\d+\.\d+), pathwise (\d+\.\d+)"


def normals(seed, count):
    """seededRandom of shared.js: a Weyl sequence, its bits mixed, and the Box-Muller transform."""
    state = np.arange(1, 2 * count + 1, dtype=np.uint64) * 0x9E3779B9 + (seed % 2**32)
    bits = state.astype(np.uint32)
    bits = (bits ^ (bits >> 16)) * np.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * np.uint32(0xC2B2AE35)
    u = ((bits ^ (bits >> 16)) / 2**32).reshape(-1, 2)
    return np.sqrt(-2 * np.log1p(-u[:, 0])) * np.cos(2 * np.pi * u[:, 1])


def estimates(mu, eps):
    """The three estimates (..., K) from noise (..., S, K), in the racers' order."""
    z = mu + eps
    f = ((z - 1) ** 2).sum(-1, keepdims=True)  # (..., S, 1)
    n_samples = eps.shape[-2]
    others = (f.sum(-2, keepdims=True) - f) / (n_samples - 1)  # eq. leave-one-out
    return (f * eps).mean(-2), ((f - others) * eps).mean(-2), (2 * (z - 1)).mean(-2)


def expected(step=40, n_samples=4, n_latents=4, step_size=0.05, seed=0):
    """Heights above the lowest value and typical errors, three each."""
    size = n_samples * n_latents
    noise = normals(seed, LIMITS["step"] * size).reshape(-1, n_samples, n_latents)
    trials = normals(-1 - seed, TRIALS * size).reshape(TRIALS, n_samples, n_latents)
    heights, errors = [], []
    for racer in range(3):
        mu = np.zeros(n_latents)
        for t in range(step):
            mu = mu - step_size * estimates(mu, noise[t])[racer]
        misses = estimates(mu, trials)[racer][:, 0] - 2 * (mu[0] - 1)
        heights.append(((mu - 1) ** 2).sum())
        errors.append(np.sqrt((misses**2).mean()))
    return heights, errors


@pytest.fixture
def race(open_page):
    return open_page(PAGE, figures_only=True).locator("figure[data-interactive='gradient-race']")


def shown(figure):
    """Heights and errors from the words on the page, and they agree with the labels."""
    said = words_of(figure)
    words = [[float(v) for v in match] for match in re.findall(NUMBERS, said)]
    labels = " ".join(c.get_attribute("aria-label") for c in figure.locator("canvas").all())
    assert [[float(v) for v in match] for match in re.findall(NUMBERS, labels)] == words
    return words


def assert_as_expected(figure, **settings):
    wait_until_drawn(figure.page)
    for words, numbers in zip(shown(figure), expected(**settings), strict=True):
        assert words == pytest.approx(numbers, abs=0.0051)


def set_sliders(figure, **values):
    labels = {"n_samples": "Draws S", "n_latents": "Variables K", "step_size": "Step size"}
    labels["step"] = "Steps taken"
    for name, value in values.items():
        figure.get_by_label(labels[name]).fill(str(value))


def test_it_opens_on_a_race_that_makes_the_point(race):
    assert_as_expected(race)
    heights, errors = shown(race)
    assert heights == sorted(heights, reverse=True)
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"step": 0},
        {"step": 60, "n_samples": 16, "n_latents": 16, "step_size": 0.03},
        {"n_samples": 2, "n_latents": 2, "step_size": 0.1},
    ],
)
def test_sliders_give_what_numpy_gives(race, settings):
    set_sliders(race, **settings)
    assert_as_expected(race, **settings)


def test_errors_at_the_start_are_those_of_the_chapter(race):
    """The square roots of 132 / 4, 46 / 4 and 4 / 4, each from 300 estimates."""
    set_sliders(race, step=0)
    wait_until_drawn(race.page)
    _, errors = shown(race)
    laws = np.sqrt(np.array([132, 6 * 4 + 12 + 28 / 3, 4]) / 4)
    assert errors == pytest.approx(laws, rel=0.2)


def test_buttons_step_start_again_and_draw_anew(race):
    race.get_by_role("button", name="One step").click()
    assert_as_expected(race, step=41)
    race.get_by_role("button", name="New draws").click()
    assert_as_expected(race, step=41, seed=1)
    race.get_by_role("button", name="Back to the start").click()
    assert_as_expected(race, step=0, seed=1)


def test_a_run_goes_to_the_end_and_stops(race):
    set_sliders(race, step=30)  # thirty steps before "Pause" is "Run" again
    race.get_by_role("button", name="Run").click()
    race.get_by_role("button", name="Pause").wait_for()
    race.locator(SENTENCE).filter(has_text="After 60 steps of size 0.05").wait_for()
    race.get_by_role("button", name="Run").wait_for()
    assert_as_expected(race, step=60)


def test_the_last_step_is_the_last(race):
    set_sliders(race, step=59)
    one_step = race.get_by_role("button", name="One step")
    one_step.click()
    assert_as_expected(race, step=60)
    assert one_step.is_disabled()
    race.get_by_role("button", name="Back to the start").click()
    assert_as_expected(race, step=0)
    assert one_step.is_enabled()


@pytest.mark.parametrize(
    ("settings", "reach"), [({"step": 0}, 16), ({"step": 0, "n_latents": 16}, 64)]
)
def test_the_axis_of_the_errors_grows_with_the_widest(race, settings, reach):
    """2.5 typical errors fit: of 5.7 at first, of 18 (the root of 1260 / 4) for K = 16."""
    set_sliders(race, **settings)
    wait_until_drawn(race.page)
    label = race.locator("canvas").nth(1).get_attribute("aria-label")
    assert f"from −{reach} to {reach}," in label


def test_a_race_that_runs_away_is_said_and_not_an_error(race):
    set_sliders(race, step=60, n_samples=2, n_latents=16, step_size=0.1)
    wait_until_drawn(race.page)
    assert "score function over 1000" in words_of(race)
    assert race.get_attribute("data-state") == "ready"


def test_traits_outside_their_ranges_are_refused():
    for trait, value in (("step", 61), ("n_samples", 1), ("n_latents", 17), ("step_size", 0.2)):
        with pytest.raises(traitlets.TraitError, match=trait):
            GradientRace(**{trait: value})
