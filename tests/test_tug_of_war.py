"""The tug of war of chapter 13: rate and distortion, implied beta, free bits, active units."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from em2vae import VAE, fit
from em2vae.interactive.loss_scaling import (
    ERRORS,
    LossScaling,
    implied_beta,
    rate_and_distortion,
)
from em2vae.vae import active_units

PIXELS = 12


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def vae():
    """A model whose dimensions cost very different amounts: about 1e-1, 1e-2, ... nats."""
    model = VAE(latent_dim=3, hidden_dims=(16,), data_dim=PIXELS).double()
    with torch.no_grad():
        model.encoder.heads.weight *= torch.tensor([3, 1, 0.1] * 2).double()[:, None]
    return model


@pytest.fixture
def x():
    return torch.rand(20, PIXELS, generator=seeded(), dtype=torch.double).round()


def kls(vae, x):
    """The KL of every image and dimension (B, K), from torch.distributions."""
    return kl_divergence(vae.encode(x), Normal(0.0, 1.0))


@pytest.mark.parametrize("error", ERRORS)
def test_rate_and_distortion_add_up_to_the_bound(vae, x, error):
    numbers = rate_and_distortion(vae, x, error)
    q_z = vae.encode(x)
    z = vae.rsample(q_z, 1, seeded())[0]
    assert numbers["rate"] == pytest.approx(kls(vae, x).sum(-1).mean().item())
    if error == "cross-entropy":
        total = -vae.elbo(x, generator=seeded()).elbo.mean().item()
    else:  # the constant of D unit normals is left out
        p_x = Normal(vae.decode(z).mean, 1.0)
        log_p = p_x.log_prob(x).sum(-1) + PIXELS / 2 * math.log(2 * math.pi)
        total = (-log_p + kls(vae, x).sum(-1)).mean().item()
    assert numbers["rate"] + numbers["distortion"] == pytest.approx(total)


def gradient(model, loss):
    parts = torch.autograd.grad(loss, model.parameters(), retain_graph=True)
    return torch.cat([part.ravel() for part in parts])


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("how", list(itertools.product(("sum", "mean"), repeat=4)))
def test_implied_beta_gives_a_parallel_gradient(vae, x, error, how):
    pixels, images, latents, kl_images = how
    p_x = vae.decode(vae.rsample(vae.encode(x), 1, seeded())[0])
    if error == "squared error":
        errors, exact = (x - p_x.mean) ** 2, -Normal(p_x.mean, 1.0).log_prob(x)
    else:
        errors, exact = -p_x.log_prob(x), -p_x.log_prob(x)
    reduce = {"sum": torch.sum, "mean": torch.mean}
    error_term = reduce[images](reduce[pixels](errors, -1), 0)
    kl_term = reduce[kl_images](reduce[latents](kls(vae, x), -1), 0)
    loss = gradient(vae, error_term + 0.7 * kl_term)
    beta = implied_beta(error, *how, 0.7, PIXELS, 3, len(x))

    def misses(beta):
        objective = gradient(vae, (exact.sum(-1) + beta * kls(vae, x).sum(-1)).mean())
        return (loss / loss.norm() - objective / objective.norm()).norm().item()

    assert misses(beta) < 1e-12
    assert misses(1.01 * beta) > 1e-9


@pytest.mark.parametrize("how", list(itertools.product(("sum", "mean"), repeat=4)))
def test_weight_of_a_squared_error_is_the_variance_of_a_normal(vae, x, how):
    """The loss of every reduction has the gradient of the bound with sigma^2 = beta."""
    pixels, images, latents, kl_images = how
    p_x = vae.decode(vae.rsample(vae.encode(x), 1, seeded())[0])
    reduce = {"sum": torch.sum, "mean": torch.mean}
    error = reduce[images](reduce[pixels]((x - p_x.mean) ** 2, -1), 0)
    loss = gradient(vae, error + 0.3 * reduce[kl_images](reduce[latents](kls(vae, x), -1), 0))
    variance = implied_beta("squared error", *how, 0.3, PIXELS, 3, len(x))

    def misses(variance):
        log_p = Normal(p_x.mean, math.sqrt(variance)).log_prob(x).sum(-1)
        bound = gradient(vae, (kls(vae, x).sum(-1) - log_p).mean())
        return (loss / loss.norm() - bound / bound.norm()).norm().item()

    assert misses(variance) < 1e-12
    assert misses(1.01 * variance) > 1e-9


def test_published_case_of_a_tiny_weight():
    settings = {"error": "squared error", "pixels": "mean", "n_pixels": 64 * 64 * 3}
    assert implied_beta(**settings, weight=0.00025) == pytest.approx(1.536)
    assert implied_beta(**settings, weight=1.0) == 6144


def test_learned_variance_has_the_gradient_of_the_best_fixed_one(vae, x):
    p_x = vae.decode(vae.rsample(vae.encode(x), 1, seeded())[0])
    error = ((x - p_x.mean) ** 2).sum(-1).mean()
    best = (error / PIXELS).item()
    fixed = -Normal(p_x.mean, math.sqrt(best)).log_prob(x).sum(-1).mean()
    learned = PIXELS / 2 * error.log()
    torch.testing.assert_close(gradient(vae, learned), gradient(vae, fixed))
    for other in (0.9 * best, 1.1 * best):
        worse = -Normal(p_x.mean, math.sqrt(other)).log_prob(x).sum(-1).mean()
        assert worse > fixed


@pytest.mark.parametrize("free_bits", [0.0, 0.005, 0.5, 10.0])
@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_free_bits_replace_what_costs_less(vae, x, free_bits, beta):
    terms = vae.elbo(x, beta=beta, free_bits=free_bits, generator=seeded())
    price = sum(max(free_bits, kl) for kl in kls(vae, x).mean(0).tolist())
    expected = terms.log_likelihood.mean().item() - beta * price
    assert terms.elbo.mean().item() == pytest.approx(expected)
    torch.testing.assert_close(terms.kl, kls(vae, x).sum(-1))


def test_some_dimensions_lie_below_the_free_bits_and_some_above(vae, x):
    """What makes the test above one of both branches."""
    costs = kls(vae, x).mean(0)
    assert costs.min() < 0.005 < costs.max() < 10


def test_dimensions_below_the_free_bits_have_no_gradient_of_their_kl(vae, x):
    costs = kls(vae, x).mean(0)
    free_bits = costs.sort().values[:2].mean().item()  # one dimension lies below
    terms = vae.elbo(x, free_bits=free_bits, generator=seeded())
    pull = gradient(vae.encoder, (terms.log_likelihood - terms.elbo).mean())
    expected = gradient(vae.encoder, kls(vae, x)[:, costs > free_bits].sum(-1).mean())
    torch.testing.assert_close(pull, expected)
    assert not torch.allclose(pull, gradient(vae.encoder, terms.kl.mean()), rtol=1e-4)


def test_free_bits_keep_a_collapsing_code_alive(x):
    def rate(free_bits):
        model = VAE(latent_dim=3, hidden_dims=(16,), data_dim=PIXELS)
        history = fit(
            model, x.float(), epochs=150, learning_rate=1e-2, beta=20, free_bits=free_bits
        )
        return history.kl[-1]

    assert rate(0.0) < 0.05
    assert rate(0.3) == pytest.approx(0.9, abs=0.3)


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_fit_refuses_free_bits_that_are_no_amount(x, value):
    model = VAE(latent_dim=2, hidden_dims=(4,), data_dim=PIXELS)
    with pytest.raises(ValueError, match="free_bits must be a finite number of at least 0"):
        fit(model, x.float(), free_bits=value)


def test_active_units_of_a_model_whose_means_are_known(x):
    """mu_k = c_k * (1 if the first pixel is on else -1), so Var(mu_k) = c_k^2 N / (N - 1)."""
    x = torch.cat([x, x])
    x[:, 0] = torch.arange(len(x)) % 2
    scales = torch.tensor([0.0, 0.09, 0.11, 1.0]).double()
    model = VAE(latent_dim=4, hidden_dims=(1,), data_dim=PIXELS).double()
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight.zero_()
        model.encoder.body[0].weight[0, 0] = 1.0  # hidden unit: the first pixel
        model.encoder.heads.weight[:4, 0] = 2 * scales
        model.encoder.heads.bias[:4] = 5 - scales  # a constant is no activity
    assert active_units(model, x).tolist() == [False, False, True, True]
    assert active_units(model, x, threshold=0.5).tolist() == [False, False, False, True]
    assert active_units(model, x, threshold=0.001).sum() == 3


def test_active_units_need_two_images(vae, x):
    with pytest.raises(ValueError, match="at least two images"):
        active_units(vae, x[:1])


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="latents must be 'sum' or 'mean', got 'none'"):
        implied_beta(latents="none")
    with pytest.raises(ValueError, match="error must be one of"):
        implied_beta("absolute error")


def test_figure_has_the_beta_of_its_traits():
    models = {1.0: VAE(2, (4,))}
    figure = LossScaling(models, models, torch.rand(9, 784, generator=seeded()))
    assert figure.beta == 784
    figure.error, figure.latents, figure.weight = "squared error", "mean", 0.1
    assert figure.beta == pytest.approx(0.5 * 0.1 * 784 / 8)
