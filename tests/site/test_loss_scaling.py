"""The scaling lab: the beta, the rates and the pictures of the browser against Python's."""

import itertools
import re

import pytest
from widgets import wait_until_drawn, words_of

from em2vae.interactive.loss_scaling import implied_beta

PAGE = "book/13-tug-of-war"
LABELS = {
    "error": "Kind",
    "pixels": "Over pixels",
    "images": "Error over the batch",
    "latents": "Over latents",
    "kl_images": "KL over the batch",
    "weight": "Weight",
    "n_pixels": "Pixels D",
    "n_latents": "Latents K",
    "batch_size": "Batch B",
}
PICTURES = "f => [...f.querySelectorAll('canvas.em2vae-digit')].map((c) => c.toDataURL())"
# The distance of the most different pair of the eight tiles in a row, in grey levels a pixel.
SPREAD = """f => {
    const canvas = f.querySelectorAll('canvas.em2vae-digit')[2];
    const copy = new OffscreenCanvas(224, 28).getContext('2d', { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, 224, 28);
    const tile = (n) => Array.from({ length: 784 }, (_, i) =>
        data[4 * (224 * Math.floor(i / 28) + 28 * n + (i % 28))]);
    const tiles = Array.from({ length: 8 }, (_, n) => tile(n));
    let most = 0;
    for (const a of tiles) for (const b of tiles)
        most = Math.max(most, a.reduce((sum, v, i) => sum + Math.abs(v - b[i]), 0) / 784);
    return most;
}"""


@pytest.fixture
def lab(open_page):
    return open_page(PAGE, figures_only=True).locator("figure[data-interactive='loss-scaling']")


def choose(lab, **choices):
    for trait, value in choices.items():
        lab.get_by_label(LABELS[trait], exact=True).select_option(str(value))
    wait_until_drawn(lab.page)


def chosen(lab):
    choices = {t: lab.get_by_label(label, exact=True).input_value() for t, label in LABELS.items()}
    numbers = {t: float(v) for t, v in choices.items() if re.fullmatch(r"[\d.]+", v)}
    return {**choices, **numbers}


def shown(lab):
    """beta, that of the model shown, its rate and its distortion."""
    text = words_of(lab).replace(",", "")
    return [
        float(re.search(pattern, text)[1])
        for pattern in (
            r"β = .*? = ([\d.e-]+)\. That",
            r"trained at \S+ = ([\d.]+) ",
            r"rate ([\d.]+) nats",
            r"distortion ([\d.]+) nats",
        )
    ]


def test_it_opens_on_a_collapse(lab):
    beta, trained, rate, _ = shown(lab)
    assert (beta, trained) == (784, 784)
    assert rate < 0.05
    assert lab.evaluate(SPREAD) < 12
    lab.get_by_role("button", name="The bound").click()
    wait_until_drawn(lab.page)
    assert lab.evaluate(SPREAD) > 24


@pytest.mark.parametrize("error", ["cross-entropy", "squared error"])
def test_every_reduction_gives_the_beta_of_python(lab, error):
    choose(lab, error=error, weight=0.1, n_latents=20, batch_size=32)
    for how in itertools.product(("sum", "mean"), repeat=4):
        choose(lab, **dict(zip(("pixels", "images", "latents", "kl_images"), how, strict=True)))
        expected = implied_beta(error, *how, 0.1, 784, 20, 32)
        assert shown(lab)[0] == pytest.approx(expected, rel=1e-3)


PRESETS = {
    "The bound": (1, "the bound itself"),
    "Mean over pixels": (784, "a looser bound"),
    "Mean over latents": (1 / 8, "no bound"),
    "Means everywhere": (98, "a looser bound"),
    "KL sum over batch": (784 * 128, "a looser bound"),
    "Weight 0.00025": (1.536, "normal decoder with σ² = 1.536"),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_say_what_they_imply(lab, name):
    beta, verdict = PRESETS[name]
    lab.get_by_role("button", name=name, exact=True).click()
    wait_until_drawn(lab.page)
    assert shown(lab)[0] == pytest.approx(beta, rel=1e-3)
    assert verdict in words_of(lab)
    assert implied_beta(**chosen(lab)) == pytest.approx(beta, rel=1e-3)


def test_a_larger_beta_shows_a_model_with_less_rate_and_more_distortion(lab):
    choose(lab, pixels="sum", latents="sum")
    seen = []
    for weight in (0.01, 0.1, 1, 4, 100):
        choose(lab, weight=weight)
        seen.append(shown(lab)[1:])
    models, rates, distortions = zip(*seen, strict=True)
    assert models == pytest.approx((1 / 64, 1 / 8, 1, 4, 784), rel=1e-3)
    assert list(rates) == sorted(rates, reverse=True)
    assert list(distortions) == sorted(distortions)


def test_new_samples_change_the_samples_alone(lab):
    lab.get_by_role("button", name="The bound").click()
    wait_until_drawn(lab.page)
    before = lab.evaluate(PICTURES)
    lab.get_by_role("button", name="New samples").click()
    wait_until_drawn(lab.page)
    after = lab.evaluate(PICTURES)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False]


def test_squared_errors_show_grey_digits(lab):
    before = lab.evaluate(PICTURES)
    choose(lab, error="squared error")
    after = lab.evaluate(PICTURES)
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert shown(lab)[:2] == [392, 392]


def test_it_works_from_a_stick(open_page):
    lab = open_page(PAGE, "file").locator("figure[data-interactive='loss-scaling']")
    assert lab.get_attribute("data-state") == "ready"
    assert shown(lab)[0] == 784
