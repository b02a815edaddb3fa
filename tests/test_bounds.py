from itertools import pairwise

import pytest
import torch
from monte_carlo import Z_MAX, z_score
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from em2vae import VAE, bounds, iwae_bound
from em2vae.bounds import log_weights

PIXELS = 5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# A VAE with one latent dimension, where log p(x) is a sum over a fine grid.


@pytest.fixture
def vae():
    """Weights large enough that the posterior is neither the prior nor a Gaussian."""
    model = VAE(latent_dim=1, hidden_dims=(6,), data_dim=PIXELS, seed=2).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 2.5
    return model.requires_grad_(False)


@pytest.fixture
def x():
    p = torch.full((3, PIXELS), 0.5, dtype=torch.double)
    return torch.bernoulli(p, generator=seeded())


GRID = torch.linspace(-12, 12, 20_001, dtype=torch.double)[:, None]


def integrate(values):
    """The trapezoid rule over z, whose ends are zero here: as exact as double precision."""
    return values.sum(0) * (GRID[1] - GRID[0])


def log_joint(vae, x):
    """log p(x, z) of every image on the grid (G, B)."""
    log_p_x_given_z = vae.decoder(GRID[:, None]).log_prob(x).sum(-1)
    return log_p_x_given_z + Normal(0.0, 1.0).log_prob(GRID)


def exact_log_p(vae, x):
    return integrate(log_joint(vae, x).exp()).log()


def exact_elbo(vae, x):
    log_q = vae.encode(x).log_prob(GRID[:, None]).squeeze(-1)
    return integrate(log_q.exp() * (log_joint(vae, x) - log_q))


def test_weights_average_to_p(vae, x):
    """E_q[w] = p(x): any missing constant or term would show."""
    ratios = (log_weights(vae, x, 50_000) - exact_log_p(vae, x)).exp()
    assert ratios.shape == (50_000, len(x))
    assert z_score(ratios, 1.0) < Z_MAX


def test_elbo_equals_its_integral_and_lies_below_log_p(vae, x):
    elbo = vae.elbo(x.repeat(20_000, 1)).elbo.reshape(20_000, -1)
    assert z_score(elbo, exact_elbo(vae, x)) < Z_MAX
    gap = exact_log_p(vae, x) - elbo.mean(0)
    assert (gap / (elbo.std(0) / 20_000**0.5)).min() > Z_MAX


def test_one_sample_gives_the_elbo_in_expectation(vae, x):
    draws = iwae_bound(vae, x.repeat(20_000, 1), n_samples=1).reshape(20_000, -1)
    assert z_score(draws, exact_elbo(vae, x)) < Z_MAX


def test_bound_rises_with_every_further_sample_and_stays_below_log_p(vae, x):
    many = x.repeat(5_000, 1)
    ladder = [iwae_bound(vae, many, n).reshape(5_000, -1) for n in (1, 2, 5, 20)]
    for lower, higher in pairwise(ladder):
        rise = higher - lower
        assert (rise.mean(0) / (rise.std(0) / 5_000**0.5)).min() > Z_MAX
    gap = exact_log_p(vae, x) - ladder[-1]
    assert (gap.mean(0) / (gap.std(0) / 5_000**0.5)).min() > Z_MAX


def test_many_samples_reach_log_p(vae, x):
    log_p = exact_log_p(vae, x)
    error = (log_weights(vae, x, 20_000) - log_p).exp().std(0) / 20_000**0.5
    assert error.max() < 0.02  # else what follows says little
    assert ((iwae_bound(vae, x, n_samples=20_000) - log_p).abs() / error).max() < Z_MAX


def test_own_generator_repeats_the_bound(vae, x):
    first, second, other = (iwae_bound(vae, x, 3, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("values_at_once", [1, 2 * 15, 3 * 15, 7 * 15, 10**9])
def test_chunks_do_not_change_the_bound(vae, x, monkeypatch, values_at_once):
    table = 10 * torch.randn(7, len(x), generator=seeded(), dtype=torch.double)
    rows, sizes = iter(table), []

    def next_rows(vae, x, n_samples, generator=None):
        sizes.append(n_samples)
        return torch.stack([next(rows) for _ in range(n_samples)])

    monkeypatch.setattr(bounds, "log_weights", next_rows)
    monkeypatch.setattr(bounds, "VALUES_AT_ONCE", values_at_once)
    expected = table.exp().mean(0).log()
    torch.testing.assert_close(iwae_bound(vae, x, n_samples=7), expected)
    assert sum(sizes) == 7
    assert max(sizes) == min(7, max(1, values_at_once // x.numel()))


@pytest.mark.parametrize("size", [0, -5, 2.5, True])
def test_number_of_samples_must_be_whole_and_positive(vae, x, size):
    with pytest.raises(ValueError, match="n_samples must be a whole number of at least 1"):
        iwae_bound(vae, x, n_samples=size)


# The same code on a linear-Gaussian model, where posterior and log p(x) have closed forms.


class LinearGaussian(nn.Module):
    """v -> Normal(v A^T + b, sigma): a decoder p(x|z), and also an encoder q(z|x)."""

    def __init__(self, matrix, bias, sigma):
        super().__init__()
        self.matrix, self.bias, self.sigma = matrix, bias, sigma

    def forward(self, v):
        mean = v @ self.matrix.T + self.bias
        return Normal(mean, self.sigma.expand_as(mean))


@pytest.fixture
def linear():
    """A model with x | z ~ N(Wz + b, s^2 I) and, as W has orthogonal columns, a diagonal posterior.

    The posterior is N(V W^T (x - b) / s^2, V) with 1 / V_k = 1 + |w_k|^2 / s^2.
    """
    w = torch.linalg.qr(torch.randn(PIXELS, 2, generator=seeded(), dtype=torch.double)).Q
    w = w * torch.tensor([1.5, 0.4], dtype=torch.double)
    b = torch.linspace(0, 1, PIXELS, dtype=torch.double)
    s = torch.tensor(0.5, dtype=torch.double)
    variance = 1 / (1 + (w**2).sum(0) / s**2)
    to_mean = variance[:, None] * w.T / s**2
    model = VAE(latent_dim=2, hidden_dims=(1,), data_dim=PIXELS).double()
    model.decoder = LinearGaussian(w, b, s)
    model.encoder = LinearGaussian(to_mean, -to_mean @ b, variance.sqrt())
    return model


def linear_log_p(linear, x):
    """N(b, W W^T + s^2 I) from torch.distributions, by another route than z."""
    w, b, s = linear.decoder.matrix, linear.decoder.bias, linear.decoder.sigma
    return MultivariateNormal(b, w @ w.T + s**2 * torch.eye(PIXELS).double()).log_prob(x)


def test_every_weight_is_log_p_at_the_true_posterior(linear, x):
    weights = log_weights(linear, x, 50)
    torch.testing.assert_close(weights, linear_log_p(linear, x).expand(50, -1))


@pytest.mark.parametrize("n_samples", [1, 10])
def test_bound_is_tight_at_the_true_posterior(linear, x, n_samples):
    torch.testing.assert_close(iwae_bound(linear, x, n_samples), linear_log_p(linear, x))


def test_elbo_averages_to_log_p_at_the_true_posterior(linear, x):
    elbo = linear.elbo(x.repeat(20_000, 1)).elbo.reshape(20_000, -1)
    assert z_score(elbo, linear_log_p(linear, x)) < Z_MAX


def shift_the_mean(q):
    q.bias = q.bias + 0.3


def widen(q):
    q.sigma = 1.5 * q.sigma


def narrow(q):
    q.sigma = 0.7 * q.sigma


@pytest.mark.parametrize("spoil", [shift_the_mean, widen, narrow])
def test_a_wrong_posterior_costs_its_kl(linear, x, spoil):
    posterior = linear.encode(x)
    spoil(linear.encoder)
    kl = kl_divergence(linear.encode(x), posterior).sum(-1)
    many, log_p = x.repeat(20_000, 1), linear_log_p(linear, x)
    assert kl.min() > 0.05
    elbo = linear.elbo(many).elbo.reshape(20_000, -1)
    assert z_score(elbo, log_p - kl) < Z_MAX
    iwae = iwae_bound(linear, many, n_samples=5).reshape(20_000, -1)
    error = iwae.std(0) / 20_000**0.5
    assert ((log_p - iwae.mean(0)) / error).min() > Z_MAX
    assert ((iwae.mean(0) - (log_p - kl)) / error).min() > Z_MAX
