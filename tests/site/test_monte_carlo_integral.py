"""The Monte Carlo integral: its numbers against the library's, its controls, its traits."""

import math
import re

import numpy as np
import pytest
import torch
import traitlets
from widgets import SENTENCE, evaluate, run_network, words_of

from em2vae import ProbabilisticPCA, load_digits
from em2vae.interactive.figure import HERE
from em2vae.interactive.monte_carlo_integral import MonteCarloIntegral, axes, pack_model

PAGE = "book/01-latent-variables"
DIMS = (2, 3, 5, 8, 12, 20)  # on the page
# The draws of one seed, as the page makes them.
DRAWS = """async ([text, seed, count]) => {
    const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    const { normal } = (await import(url)).seededRandom(seed);
    return Array.from({ length: count }, normal);
}"""
NUMBER = r"(−?[\d.]+)"


@pytest.fixture(scope="module")
def x():
    return load_digits("test")[0].double()[:10]


@pytest.fixture(scope="module")
def models():
    x_train = load_digits("train")[0].double()
    return {K: ProbabilisticPCA.fit(x_train, K) for K in (2, 8, 20)}


@pytest.fixture
def figure(open_page):
    return open_page(PAGE, figures_only=True).locator(
        "figure[data-interactive='monte-carlo-integral']"
    )


def show(figure, latent_dim: int, n_samples: int) -> None:
    figure.get_by_role("slider", name="Latent dimensions").fill(str(DIMS.index(latent_dim)))
    figure.get_by_role("slider", name="Samples").fill(str(round(math.log10(n_samples), 1)))
    said = figure.locator(SENTENCE).filter(has_text=f"K = {latent_dim}, {n_samples:,} sample")
    said.wait_for()


def numbers(figure) -> tuple[float, float, float]:
    """Estimate, exact value and the best sample's share, as the figure says them."""
    text = words_of(figure)
    pattern = f"is {NUMBER} nats, {NUMBER} (below|above) the exact {NUMBER}. .* {NUMBER} %"
    estimate, miss, side, exact, share = re.search(pattern, text).groups()
    estimate, miss, exact = (float(n.replace("−", "-")) for n in (estimate, miss, exact))
    signed = -miss if side == "below" else miss
    assert signed == pytest.approx(estimate - exact, abs=0.11)  # each is rounded
    return estimate, exact, float(share) / 100


@pytest.mark.parametrize("latent_dim", [2, 8, 20])
def test_the_exact_value_is_that_of_the_library(figure, models, x, latent_dim):
    show(figure, latent_dim, 1000)
    expected = models[latent_dim].log_likelihood(x)
    for digit in [*range(3, 10), 0]:
        figure.locator(SENTENCE).filter(has_text=f"K = {latent_dim},").wait_for()
        label = figure.get_by_role("img", name=f"The digit x, number {digit + 1} of 10")
        label.wait_for()
        assert numbers(figure)[1] == pytest.approx(expected[digit].item(), abs=0.06)
        figure.get_by_role("button", name="Another digit").click()


@pytest.mark.parametrize("latent_dim", [2, 8])
def test_the_estimate_is_that_of_the_library_on_the_same_draws(figure, models, x, latent_dim):
    shared = (HERE / "shared.js").read_text(encoding="utf-8")
    draws = evaluate(figure.page, DRAWS, [shared, 0, 1000 * DIMS[-1]])
    z = torch.tensor(draws, dtype=torch.float64).reshape(1000, DIMS[-1])[:, :latent_dim]
    model = models[latent_dim]
    # The figure's axes: the left singular vectors, each turned so that it sums to more than zero.
    U, s, _ = torch.linalg.svd(model.weight, full_matrices=False)
    turned = ProbabilisticPCA(U * U.sum(0).sign() * s, model.mean, model.sigma)
    log_w = turned.decode(z).log_prob(x[3]).sum(-1)  # over pixels
    for n_samples in (1, 100, 1000):
        show(figure, latent_dim, n_samples)
        expected = log_w[:n_samples].logsumexp(0).item() - math.log(n_samples)
        estimate, _, share = numbers(figure)
        assert estimate == pytest.approx(expected, abs=0.06)
        assert share == pytest.approx(log_w[:n_samples].softmax(0).max().item(), abs=0.006)


def test_it_opens_on_a_miss_and_few_dimensions_mend_it(figure):
    estimate, exact, share = numbers(figure)
    assert estimate < exact - 20
    assert share > 0.9
    show(figure, 2, 10_000)
    estimate, exact, share = numbers(figure)
    assert estimate == pytest.approx(exact, abs=0.5)
    assert share < 0.1


def test_every_control_changes_the_picture(figure):
    canvases = "f => [...f.querySelectorAll('canvas')].map((c) => c.toDataURL())"
    said = figure.locator(SENTENCE)
    for act in (
        lambda: figure.get_by_role("button", name="New samples").click(),
        lambda: figure.get_by_role("button", name="Another digit").click(),
        lambda: figure.get_by_role("slider", name="Latent dimensions").press("ArrowLeft"),
        lambda: figure.get_by_role("slider", name="Samples").press("ArrowLeft"),
    ):
        before, words = figure.evaluate(canvases), said.inner_text()
        act()
        figure.page.wait_for_function(
            "([said, words]) => said.textContent !== words", arg=[said.element_handle(), words]
        )
        after = figure.evaluate(canvases)
        assert len(after) == 4
        assert after[0] != before[0] and after[1] != before[1]


def test_packed_numbers_give_back_the_likelihood(models, x):
    model = models[8]
    packed, _ = pack_model(model, x)
    z = torch.randn(50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scales, codes, remainders = (
        torch.tensor(packed[name], dtype=torch.float64)
        for name in ("scales", "codes", "remainders")
    )
    distance = remainders[:, None] + (codes[:, None] - scales * z).square().sum(-1)
    U, s = axes(model)
    means = model.mean + z @ (U * s).T
    assert torch.allclose(distance, torch.cdist(x, means) ** 2, rtol=1e-3)
    assert torch.allclose(codes @ torch.diag(scales), (x - model.mean) @ (U * s), atol=0.01)


@pytest.mark.parametrize("latent_dim", [2, 8, 20])
def test_packed_pictures_stay_within_two_of_255(models, x, latent_dim):
    packed, pictures = pack_model(models[latent_dim], x)
    U, s = axes(models[latent_dim])
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(300, latent_dim, dtype=torch.float64, generator=generator)
    expected = models[latent_dim].mean + z @ (U * s).T
    shown = torch.tensor(
        np.stack([run_network(packed["decoder"], pictures, row) for row in z.numpy()])
    )
    assert (shown.clamp(0, 1) - expected.clamp(0, 1)).abs().max() <= 2 / 255
    assert expected.max() > 0.9


def test_traits_refuse_what_the_figure_cannot_show(models, x):
    figure = MonteCarloIntegral(list(models.values()), x)
    assert (figure.latent_dim, figure.n_samples, figure.latent_dims) == (2, 1000, [2, 8, 20])
    figure.latent_dim, figure.n_samples, figure.digit = 20, 10_000, 9
    for name, value in (("latent_dim", 3), ("n_samples", 0), ("n_samples", 10_001), ("digit", 10)):
        with pytest.raises(traitlets.TraitError, match=name):
            setattr(figure, name, value)


def test_wrong_arguments_say_what_was_expected(models, x):
    with pytest.raises(ValueError, match=r"shape \(N, 784\)"):
        MonteCarloIntegral(list(models.values()), x[:, :100])
    for wrong in ([], [ProbabilisticPCA(torch.ones(784, 1), torch.zeros(784), 1.0)]):
        with pytest.raises(ValueError, match="K >= 2"):
            MonteCarloIntegral(wrong, x)
