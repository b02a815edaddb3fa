"""Chapter 14: the ladder below exact values, the floor of grey values, its other identities."""

import math
import os

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal

from em2vae import VAE, fit, iwae_bound, load_digits
from em2vae.bounds import log_marginal_2d, log_weights
from em2vae.data import binarize


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def vae():
    x, _ = load_digits("train")
    vae = VAE(latent_dim=2, hidden_dims=(32,))
    fit(vae, x, epochs=5, learning_rate=5e-3)
    return vae.requires_grad_(False)


@pytest.fixture(scope="module")
def x():
    return binarize(load_digits("test")[0])[:60]


def test_the_ladder_of_a_trained_model_rises_to_the_exact_value(vae, x):
    exact = log_marginal_2d(vae, x).mean().item()
    log_w = log_weights(vae, x, 4096, seeded())  # (S, B)
    rungs = [  # the same draws for every k, so that the order holds without noise
        (log_w.unflatten(0, (-1, k)).logsumexp(1) - math.log(k)).mean().item()
        for k in (1, 4, 64, 1024)
    ]
    assert rungs == sorted(rungs)
    assert rungs[0] < exact - 1
    assert exact - 1 < rungs[-1] < exact + 0.05
    elbo = vae.elbo(x, 500, generator=seeded(1)).elbo.mean().item()
    assert rungs[0] == pytest.approx(elbo, abs=0.5)


def test_an_estimate_is_hardly_ever_too_high(vae, x):
    """Markov's inequality, eq. eval-lucky, for 60 images and 200 estimates of each."""
    exact = log_marginal_2d(vae, x)
    estimates = torch.stack([iwae_bound(vae, x, 5, seeded(s)) for s in range(200)])  # (200, B)
    for b in (0.5, 1.0, 2.0):
        n = estimates.numel()
        too_high = (estimates >= exact + b).double().mean().item()
        assert too_high <= math.exp(-b) + 4 * math.sqrt(0.25 / n)
    assert (estimates >= exact).any()  # it does happen


def floor(x) -> float:
    """The mean entropy of drawing each pixel from its grey value, in nats, written out in NumPy."""
    t = x.numpy().astype(np.float64)
    inside = np.where((t > 0) & (t < 1), t, 0.5)
    h = -inside * np.log(inside) - (1 - inside) * np.log(1 - inside)
    return np.where((t > 0) & (t < 1), h, 0.0).sum(-1).mean()


def test_entropy_floor_of_the_digits_at_hand(vae):
    x, _ = load_digits("test")
    assert floor(x) == pytest.approx(46.3, abs=0.05)
    assert floor(x) == pytest.approx(Bernoulli(x).entropy().sum(-1).mean().item(), abs=1e-3)
    # No model predicts fresh draws better, not even the one that is told the grey values.
    told = Bernoulli(x).log_prob(binarize(x, seeded(3))).sum(-1)
    assert told.mean().item() == pytest.approx(-floor(x), abs=4 * told.std().item() / 1000**0.5)


@pytest.mark.skipif(
    not os.environ.get("EM2VAE_DATA"),
    reason="all of MNIST is not here: set EM2VAE_DATA to the path of an mnist.npz",
)
def test_entropy_floor_of_all_of_mnist():
    assert floor(load_digits("test", source="mnist")[0]) == pytest.approx(45.5, abs=0.05)


def test_weights_of_a_narrow_q_are_pareto():
    """Eq. eval-pareto: w / p(x) = c^2 U^-(1 - c^2), checked by its distribution function."""
    c = 0.5
    u = c * torch.randn(200_000, 2, generator=seeded())
    log_r = (Normal(0.0, 1.0).log_prob(u) - Normal(0.0, c).log_prob(u)).sum(-1)
    assert log_r.min().item() >= 2 * math.log(c) - 1e-5
    for share in (0.5, 0.1, 0.01):  # P(U < share) = share
        threshold = 2 * math.log(c) - (1 - c**2) * math.log(share)
        measured = (log_r > threshold).double().mean().item()
        assert measured == pytest.approx(share, abs=4 * math.sqrt(share / 200_000))
