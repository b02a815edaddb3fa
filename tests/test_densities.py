"""The normal distribution that keeps its log-variance, against the one of torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from em2vae.densities import LogVarNormal, log_variance

MU = torch.tensor([[0.5, -1.0, 0.0], [2.0, 0.0, 1.0]], dtype=torch.double)
LOG_VAR = torch.tensor([[-2.0, 1.5, 0.0], [0.3, -6.0, 3.0]], dtype=torch.double)


@pytest.fixture
def pair():
    """The same distribution, ours and theirs."""
    return LogVarNormal(MU, LOG_VAR), Normal(MU, (0.5 * LOG_VAR).exp())


def test_moments_density_and_entropy_are_those_of_a_normal(pair):
    ours, theirs = pair
    assert isinstance(ours, Normal)
    value = torch.linspace(-3, 3, 5, dtype=torch.double)[:, None, None]
    for name in ("mean", "stddev", "variance", "batch_shape"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())


def test_kl_is_that_of_normals(pair):
    ours, theirs = pair
    other, plain = LogVarNormal(MU.flip(0), LOG_VAR.flip(1)), Normal(0.3, 2.0)
    for p in (other, plain, theirs):
        torch.testing.assert_close(kl_divergence(ours, p), kl_divergence(theirs, p))
        torch.testing.assert_close(kl_divergence(p, ours), kl_divergence(p, theirs))
    torch.testing.assert_close(
        kl_divergence(ours, other), kl_divergence(theirs, Normal(other.mean, other.stddev))
    )


def test_expanding_and_grouping_keep_the_log_variance(pair):
    ours, theirs = pair
    assert torch.equal(ours.expand((4, 2, 3)).log_var, LOG_VAR.expand(4, 2, 3))
    value = torch.zeros(4, 2, 3, dtype=torch.double)
    grouped = Independent(ours, 1).expand((4, 2))
    torch.testing.assert_close(grouped.log_prob(value), theirs.log_prob(value).sum(-1))
    shared = LogVarNormal(MU, torch.zeros(()))  # one log-variance for all
    assert shared.log_var.shape == MU.shape


def test_log_variance_of_any_normal(pair):
    ours, theirs = pair
    assert log_variance(ours) is ours.log_var
    torch.testing.assert_close(log_variance(theirs), LOG_VAR)


@pytest.mark.parametrize("log_var", [-200.0, -104.0, -100.0, 88.0, 150.0])
def test_extreme_log_variances_in_single_precision(log_var):
    leaf = torch.tensor(log_var, requires_grad=True)
    q = LogVarNormal(torch.tensor(2.0), leaf)
    half_log_2_pi = 0.5 * math.log(2 * math.pi)
    for value, expected in (
        (q.entropy(), 0.5 * log_var + 0.5 + half_log_2_pi),
        (q.log_prob(torch.tensor(2.0)), -0.5 * log_var - half_log_2_pi),
        (kl_divergence(q, LogVarNormal(torch.tensor(2.0), torch.tensor(log_var))), 0.0),
    ):
        assert value.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        (slope,) = torch.autograd.grad(value, leaf, retain_graph=True)
        assert slope.isfinite()


def test_kl_near_the_prior_keeps_its_digits():
    """sigma^2 - 1 - log sigma^2 would be a difference of numbers that agree in most digits."""
    q = LogVarNormal(torch.tensor(0.0), torch.tensor(1e-3))
    kl = kl_divergence(q, Normal(0.0, 1.0)).item()
    assert kl == pytest.approx(0.5 * (math.expm1(1e-3) - 1e-3), rel=1e-4)
