"""Jensen's inequality, its gap and the ladder of samples, on models whose log p(x) is known."""

import itertools
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monte_carlo import Z_MAX, z_score
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence
from traitlets import TraitError

from em2vae import BernoulliMixture, ProbabilisticPCA
from em2vae.interactive.jensen import Jensen

PIXELS = 4
same_every_time = settings(deadline=None, derandomize=True, max_examples=50)


def distributions(size, least=0):
    """Probabilities (size,), of which some may be zero if `least` is."""
    counts = st.lists(st.integers(least, 50), min_size=size, max_size=size).filter(any)
    return counts.map(lambda n: torch.tensor(n).double() / sum(n))


@st.composite
def beliefs(draw):
    """A random discrete model, one image, and a guess q of its cause, which may miss causes."""
    size = draw(st.integers(2, 6))
    ink = st.lists(st.floats(0.01, 0.99), min_size=PIXELS, max_size=PIXELS)
    means = draw(st.lists(ink, min_size=size, max_size=size))
    model = BernoulliMixture(draw(distributions(size, least=1)), torch.tensor(means).double())
    x = draw(st.lists(st.integers(0, 1), min_size=PIXELS, max_size=PIXELS))
    return model, torch.tensor([x]).double(), draw(distributions(size))


def joint_by_hand(model, x):
    """p(x, z) for each cause, as plain products of numbers: (K,)."""
    pixels = np.where(x.numpy() == 1, model.means.numpy(), 1 - model.means.numpy())
    return model.weights.numpy() * pixels.prod(-1)  # over pixels


@same_every_time
@given(beliefs())
def test_gap_is_the_divergence_to_the_posterior(belief):
    model, x, q = belief
    joint = joint_by_hand(model, x)
    posterior = torch.tensor(joint / joint.sum())
    gap = math.log(joint.sum()) - model.elbo(x, q[None]).item()
    divergence = kl_divergence(Categorical(probs=q), Categorical(probs=posterior)).item()
    assert gap == pytest.approx(divergence, abs=1e-6)
    assert gap >= -1e-12


@same_every_time
@given(beliefs())
def test_a_guess_that_misses_causes_loses_at_least_their_share(belief):
    model, x, q = belief
    joint = joint_by_hand(model, x)
    seen = joint[q.numpy() > 0]
    assert model.elbo(x, q[None]).item() <= math.log(seen.sum()) + 1e-12
    best = torch.zeros_like(q)
    best[q > 0] = torch.tensor(seen / seen.sum())  # the posterior among the causes that q allows
    assert model.elbo(x, best[None]).item() == pytest.approx(math.log(seen.sum()))


@same_every_time
@given(beliefs())
def test_bound_touches_at_the_posterior_and_nowhere_else(belief):
    model, x, q = belief
    log_p, posterior = model.log_likelihood(x), model.e_step(x)
    assert model.elbo(x, posterior).item() == pytest.approx(log_p.item(), abs=1e-12)
    distance = (q - posterior).abs().sum().item()
    pinsker = distance**2 / 2  # no divergence is smaller
    assert (log_p - model.elbo(x, q[None])).item() >= pinsker - 1e-12


# The ladder: exact rungs by listing all outcomes, and by counting how often each cause was drawn.


def rung_by_outcomes(log_w, q, n_samples):
    """E log (1/S) sum_s w_s over all K^S ordered draws."""
    total = 0.0
    for draws in itertools.product(range(len(q)), repeat=n_samples):
        chance = math.prod(q[k] for k in draws)
        total += chance * math.log(sum(math.exp(log_w[k]) for k in draws) / n_samples)
    return total


def rung_by_counts(log_w, q, n_samples):
    """The same with multinomial coefficients, in log space."""
    total = 0.0
    for draws in itertools.combinations_with_replacement(range(len(q)), n_samples):
        counts = torch.bincount(torch.tensor(draws), minlength=len(q))
        ways = math.factorial(n_samples) // math.prod(math.factorial(n) for n in counts.tolist())
        mean = log_w[list(draws)].logsumexp(0) - math.log(n_samples)
        total += ways * (q**counts).prod().item() * mean.item()
    return total


@same_every_time
@given(beliefs())
def test_rungs_rise_from_the_bound_towards_log_p_of_what_q_covers(belief):
    model, x, q = belief
    covered = q > 0
    q = q[covered]
    log_w = model.log_joint(x)[0, covered] - q.log()
    rungs = [rung_by_counts(log_w, q, n_samples) for n_samples in range(1, 5)]
    full = torch.zeros(len(covered)).double()
    full[covered] = q
    assert rungs[0] == pytest.approx(model.elbo(x, full[None]).item())
    assert all(lower <= higher + 1e-12 for lower, higher in pairwise(rungs))
    assert rungs[-1] <= math.log(joint_by_hand(model, x)[covered.numpy()].sum()) + 1e-12


def test_two_ways_to_list_the_draws_agree():
    q = torch.tensor([0.25, 0.5, 0.25]).double()
    log_w = torch.tensor([-3.0, 0.5, 1.0]).double()
    for n_samples in (1, 2, 3, 5):
        expected = rung_by_outcomes(log_w.tolist(), q.tolist(), n_samples)
        assert rung_by_counts(log_w, q, n_samples) == pytest.approx(expected)


def test_two_causes_climb_the_whole_ladder():
    """With two causes a rung has S + 1 terms, so the limit is within reach."""
    means = torch.tensor([[0.9] * PIXELS, [0.2] * PIXELS]).double()
    model = BernoulliMixture(torch.tensor([0.75, 0.25]).double(), means)
    x, q = torch.tensor([[1.0, 1.0, 0.0, 1.0]]).double(), torch.tensor([0.375, 0.625]).double()
    log_w, log_p = model.log_joint(x)[0] - q.log(), model.log_likelihood(x).item()
    gaps = [log_p - rung_by_counts(log_w, q, n_samples) for n_samples in (1, 10, 100, 500)]
    assert all(lower > higher > 0 for lower, higher in pairwise(gaps))
    w = log_w.exp()
    variance = (q @ w**2 - (q @ w) ** 2) / (q @ w) ** 2
    assert gaps[-1] * 2 * 500 / variance.item() == pytest.approx(1, abs=0.01)  # jensen-slow-gap


# Probabilistic PCA, where the cause is continuous.

LATENT = 3


@pytest.fixture
def pca():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, LATENT, generator=generator).double()
    return ProbabilisticPCA(weight, torch.linspace(-1, 1, 6).double(), 0.7)


@pytest.fixture
def x():
    return torch.randn(2, 6, generator=torch.Generator().manual_seed(1)).double()


def log_weights(pca, x, width, n_samples):
    """log p(x, z) / q(z) for S draws from the posterior with its scales times `width`: (S, N)."""
    posterior = pca.posterior(x)
    q = MultivariateNormal(posterior.mean, scale_tril=width * posterior.scale_tril)
    noise = torch.randn(
        n_samples, len(x), LATENT, generator=torch.Generator().manual_seed(2)
    ).double()
    z = q.mean + (q.scale_tril @ noise[..., None])[..., 0]
    log_prior = Normal(0.0, 1.0).log_prob(z).sum(-1)  # over latent dimensions
    log_p_x_given_z = pca.decode(z).log_prob(x).sum(-1)  # over data dimensions
    return log_p_x_given_z + log_prior - q.log_prob(z), kl_divergence(q, posterior)


def test_every_weight_is_p_at_the_posterior(pca, x):
    log_w, _ = log_weights(pca, x, 1.0, 20)
    torch.testing.assert_close(log_w, pca.log_likelihood(x).expand(20, -1))


@pytest.mark.parametrize("width", [0.6, 1.5])
def test_log_weights_average_to_the_bound(pca, x, width):
    log_w, divergence = log_weights(pca, x, width, 50_000)
    assert divergence.min() > 0.1
    assert z_score(log_w, pca.log_likelihood(x) - divergence) < Z_MAX


def test_rungs_rise_and_fall_short_by_half_the_variance(pca, x):
    """The gap at large S is Var(w) / (2 S p^2), whose closed form chapter 02 derives."""
    log_w, divergence = log_weights(pca, x, 1.5, 2**19)
    log_p, sizes = pca.log_likelihood(x), (1, 4, 16, 64)
    gaps, errors = [], []
    for size in sizes:
        groups = log_w.reshape(-1, size, len(x)).logsumexp(1) - math.log(size)
        # (w - p) / p has mean zero: subtracting it changes no expectation, and takes most noise
        control = (groups - log_p).expm1()
        draws = log_p - groups + control
        gaps.append(draws.mean(0))
        errors.append(draws.std(0) / len(draws) ** 0.5)
    assert ((gaps[0] - divergence).abs() / errors[0]).max() < Z_MAX
    assert all((lower < higher).all() for higher, lower in pairwise(gaps))
    assert ((gaps[-1] / errors[-1]) > Z_MAX).all()  # still below log p(x)
    variance = (1.5**2 / math.sqrt(2 * 1.5**2 - 1)) ** LATENT - 1
    ratio = gaps[-1] * 2 * sizes[-1] / variance
    torch.testing.assert_close(ratio, torch.ones(2).double(), atol=0.03, rtol=0)


# The figure's traits.


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("points", [0.1, 1.0, 1.0], "points must hold 3 finite numbers from 0.2 to 6"),
        ("points", [1.0, math.nan, 1.0], "points must hold 3 finite numbers from 0.2 to 6"),
        ("weights", [0.0, 0.5, 0.5], "weights must hold 3 finite numbers from 0.05 to 1"),
        ("points", [1.0, 2.0], "points must hold 3 finite numbers from 0.2 to 6"),
        ("curve", "exp", "log"),
    ],
)
def test_figure_refuses_what_it_cannot_draw(trait, value, message):
    with pytest.raises(TraitError, match=message):
        setattr(Jensen(), trait, value)
