"""The faces of the bound (chapter 06) on models where every sum can be written out."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monte_carlo import Z_MAX, z_score
from scipy.integrate import quad
from scipy.special import rel_entr
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from em2vae import BernoulliMixture, ProbabilisticPCA
from em2vae.interactive.elbo_explorer import NOISE, OFFSET, UNITS, terms

PIXELS = 3
ALL_IMAGES = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * PIXELS)  # (8, 3)


@st.composite
def discrete_models(draw):
    """A Bernoulli mixture with K components, N images (some alike), and a q (N, K) for them."""
    n_images, n_components = draw(st.integers(1, 6)), draw(st.integers(2, 5))

    def table(*shape):
        values = st.floats(-4, 4, allow_nan=False)
        return torch.from_numpy(draw(arrays("float64", shape, elements=values)))

    weights, means = table(n_components).softmax(-1), table(n_components, PIXELS).sigmoid()
    which = draw(st.lists(st.integers(0, 7), min_size=n_images, max_size=n_images))
    q = table(n_images, n_components).softmax(-1)
    return BernoulliMixture(weights, means), torch.tensor(which), q


def posterior_by_hand(model, x):
    """p(z|x) and log p(x) from products of probabilities, without a logarithm before the end."""
    p_x_given_z = torch.where(x[:, None] == 1, model.means, 1 - model.means).prod(-1)  # (N, K)
    joint = model.weights * p_x_given_z
    return joint / joint.sum(-1, keepdim=True), joint.sum(-1).log(), p_x_given_z


@settings(deadline=None, max_examples=60)
@given(discrete_models())
def test_three_forms_are_one_number(drawn):
    model, which, q = drawn
    x = ALL_IMAGES[which]
    posterior, log_p_x, p_x_given_z = posterior_by_hand(model, x)
    bound = model.elbo(x, q)  # energy plus entropy
    prior = Categorical(model.weights.expand(len(x), -1))
    reconstruction = (q * p_x_given_z.log()).sum(-1)
    torch.testing.assert_close(
        bound, reconstruction - kl_divergence(Categorical(q), prior), rtol=0, atol=1e-10
    )
    gap = torch.from_numpy(rel_entr(q.numpy(), posterior.numpy()).sum(-1))
    torch.testing.assert_close(bound + gap, log_p_x, rtol=0, atol=1e-10)


@settings(deadline=None, max_examples=60)
@given(discrete_models())
def test_average_bound_is_the_joint_divergence(drawn):
    """Over all pairs (x, z) of the whole space; images may repeat, so H(p~) may be below log N."""
    model, which, q = drawn
    x = ALL_IMAGES[which]
    _, _, p_x_given_z = posterior_by_hand(model, ALL_IMAGES)
    decode = model.weights * p_x_given_z  # (8, K)
    # Equal images share one q: an encoder cannot tell them apart.
    first = torch.tensor([which.tolist().index(i) for i in which.tolist()])
    q = q[first]
    encode = torch.zeros_like(decode).index_add(0, which, q / len(q))  # p~(x) q(z|x), (8, K)
    joint_kl = rel_entr(encode.numpy(), decode.numpy()).sum()
    empirical = torch.bincount(which, minlength=8).double() / len(which)
    entropy = torch.special.entr(empirical).sum().item()
    average = model.elbo(x, q).mean().item()
    assert average == pytest.approx(-entropy - joint_kl, abs=1e-10)
    marginal_kl = rel_entr(empirical.numpy(), decode.sum(-1).numpy()).sum()
    log_p_x = model.log_likelihood(x)
    gap = (log_p_x - model.elbo(x, q)).mean().item()
    assert joint_kl == pytest.approx(marginal_kl + gap, abs=1e-10)
    assert joint_kl >= marginal_kl - 1e-12


@settings(deadline=None, max_examples=60)
@given(discrete_models())
def test_surgery(drawn):
    """Average KL = mutual information (from entropies) + KL of the aggregate."""
    model, _, q = drawn
    aggregate = Categorical(q.mean(0))
    mean_kl = kl_divergence(Categorical(q), Categorical(model.weights.expand(len(q), -1))).mean()
    information = aggregate.entropy() - Categorical(q).entropy().mean()  # H(z) - H(z | i)
    leftover = kl_divergence(aggregate, Categorical(model.weights))
    torch.testing.assert_close(mean_kl, information + leftover, rtol=0, atol=1e-10)
    assert -1e-12 < information.item() <= math.log(len(q)) + 1e-12


def test_the_best_q_closes_the_gap():
    model = BernoulliMixture(torch.tensor([0.3, 0.7]).double(), torch.rand(2, PIXELS).double())
    posterior, log_p_x, _ = posterior_by_hand(model, ALL_IMAGES)
    torch.testing.assert_close(model.elbo(ALL_IMAGES, posterior), log_p_x, rtol=0, atol=1e-12)


# The bars of the explorer.


def decoder_mean(z):
    return OFFSET + sum(a * math.tanh(w * z + b) for a, w, b in UNITS)


@pytest.mark.parametrize("mu, sigma, x", [(0.4, 0.8, 1.5), (-3.0, 0.2, 3.0), (1.0, 2.0, -0.5)])
def test_explorer_terms_by_adaptive_quadrature(mu, sigma, x):
    def normal(value, mean, sd):
        return math.exp(-(((value - mean) / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi))

    def log_likelihood(z):
        return -((x - decoder_mean(z)) ** 2) / (2 * NOISE**2) - math.log(
            NOISE * math.sqrt(2 * math.pi)
        )

    evidence = quad(lambda z: math.exp(log_likelihood(z)) * normal(z, 0, 1), -12, 12, limit=400)[0]
    ends = (mu - 12 * sigma, mu + 12 * sigma)
    reconstruction = quad(lambda z: normal(z, mu, sigma) * log_likelihood(z), *ends, limit=400)[0]
    got = terms(mu, sigma, x)
    assert got["log_p_x"] == pytest.approx(math.log(evidence), abs=1e-7)
    assert got["reconstruction"] == pytest.approx(reconstruction, abs=1e-7)
    assert got["kl"] == pytest.approx((mu**2 + sigma**2 - 1) / 2 - math.log(sigma), abs=1e-12)
    assert got["elbo"] == pytest.approx(got["reconstruction"] - got["kl"], abs=1e-12)
    assert got["elbo"] + got["gap"] == pytest.approx(got["log_p_x"], abs=1e-9)


# The ladder on probabilistic PCA: log p(x) and the ELBO of a mean-field q are exact.

RUNGS = (1, 4, 16, 64, 256)


@pytest.fixture(scope="module")
def ladder():
    """log p(x), the exact ELBO, and independent draws of the k-sample bound for each k."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(6, 3, generator=generator).double()
    model = ProbabilisticPCA(weight, torch.zeros(6).double(), sigma=0.7)
    x = model.decode(torch.randn(1, 3, generator=generator).double()).mean + 0.3
    posterior = model.posterior(x)
    precision = posterior.precision_matrix[0]
    q = Normal(posterior.mean[0], precision.diagonal().rsqrt())
    kl = kl_divergence(MultivariateNormal(q.mean, q.variance.diag()), posterior).item()
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))  # chapter 06
    assert kl == pytest.approx(gap.item(), abs=1e-9)
    assert gap > 0.3

    def draws(k, n_groups=2000):
        z = q.mean + q.stddev * torch.randn(n_groups, k, 3, generator=generator).double()
        log_joint = model.decode(z).log_prob(x).sum(-1) + Normal(0.0, 1.0).log_prob(z).sum(-1)
        return (log_joint - q.log_prob(z).sum(-1)).logsumexp(-1) - math.log(k)

    log_p_x = model.log_likelihood(x).item()
    return log_p_x, log_p_x - kl, {k: draws(k) for k in RUNGS}


def test_the_first_rung_is_the_elbo(ladder):
    _, elbo, draws = ladder
    assert z_score(draws[1], elbo) < Z_MAX


def test_the_ladder_rises_and_stays_below(ladder):
    log_p_x, _, draws = ladder
    for low, high in pairwise(RUNGS):
        error = math.hypot(*(draws[k].std().item() / len(draws[k]) ** 0.5 for k in (low, high)))
        assert draws[high].mean() - draws[low].mean() > -Z_MAX * error
    for values in draws.values():
        assert values.mean() - log_p_x < Z_MAX * values.std() / len(values) ** 0.5
    assert draws[16].mean() - draws[1].mean() > 0.2


def test_the_ladder_converges(ladder):
    log_p_x, _, draws = ladder
    left = {k: log_p_x - values.mean().item() for k, values in draws.items()}
    assert left[256] < 0.2 * left[1]
    assert z_score(draws[256].exp(), math.exp(log_p_x)) < Z_MAX  # the average weight is unbiased
