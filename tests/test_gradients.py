"""The gradient estimators of chapters 07 and 08 against enumeration and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monte_carlo import Z_MAX, z_score
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import chisquare
from torch.distributions import (
    Bernoulli,
    Beta,
    Exponential,
    Gamma,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    RelaxedOneHotCategorical,
    TransformedDistribution,
)
from torch.distributions.transforms import AffineTransform

from em2vae.gradients import gumbel_softmax, pathwise, score_function, straight_through

LEAVE_ONE_OUT = "leave-one-out"
REPEATS = 20_000


def exact_gradient(f, logits):
    """Of E[f] over K independent one-hot variables (K, C): a sum over all C^K corners."""
    n_variables, n_classes = logits.shape
    lam = logits.clone().requires_grad_()
    total = 0.0
    for classes in itertools.product(range(n_classes), repeat=n_variables):
        corner = torch.eye(n_classes, dtype=logits.dtype)[list(classes)]  # (K, C)
        total = total + (lam.softmax(-1) * corner).sum(-1).prod() * f(corner)
    return torch.autograd.grad(total, lam)[0]


def one_hot(logits):
    return OneHotCategorical(logits=logits)


def mixing(z):
    """No sum of terms, no symmetry, with a jump: f of one-hot draws (..., 2, 3)."""
    u = z @ torch.tensor([-1.0, 0.5, 2.0], dtype=z.dtype)
    return 3 + u[..., 0] * u[..., 1] + 2 * (u[..., 0] > u[..., 1])


LOGITS = torch.tensor([[0.3, -0.5, 0.8], [0.0, 1.0, -1.0]], dtype=torch.double)


# Score function (chapter 07)


@pytest.mark.parametrize("baseline", [0.0, 3.0, -7, LEAVE_ONE_OUT])
@pytest.mark.parametrize("n_samples", [2, 5])
def test_score_function_averages_to_the_enumerated_gradient(baseline, n_samples):
    many = LOGITS.expand(REPEATS, 2, 3)
    draws = score_function(mixing, one_hot, many, n_samples, baseline=baseline)
    assert draws.shape == many.shape
    assert z_score(draws, exact_gradient(mixing, LOGITS)) < Z_MAX


class AllOutcomes(OneHotCategorical):
    """Its draw of S samples from batch (C^S, 1) holds each of the C^S outcomes once."""

    def sample(self, sample_shape):
        n_classes = self.event_shape[0]
        outcomes = itertools.product(range(n_classes), repeat=sample_shape[0])
        classes = torch.tensor(list(outcomes)).T  # (S, C^S)
        return torch.eye(n_classes, dtype=self.logits.dtype)[classes][:, :, None]


@given(
    logits=st.lists(st.floats(-3, 3), min_size=2, max_size=4),
    pay=st.lists(st.floats(-10, 10), min_size=4, max_size=4),
    n_samples=st.sampled_from([2, 3]),
    baseline=st.one_of(st.floats(-10, 10), st.just(LEAVE_ONE_OUT)),
)
@settings(max_examples=60, deadline=None)
def test_the_mean_over_all_outcomes_is_exact(logits, pay, n_samples, baseline):
    """No chance left: a baseline that knew its own draw would show at once."""
    logits = torch.tensor(logits, dtype=torch.double)
    pay = torch.tensor(pay[: len(logits)], dtype=torch.double)

    def f(z):
        return (z @ pay).sum(-1)

    n_outcomes = len(logits) ** n_samples
    q = logits.softmax(-1)
    chances = torch.cartesian_prod(*[q] * n_samples).prod(-1)  # (C^S,)
    estimates = score_function(
        f,
        lambda lam: AllOutcomes(logits=lam),
        logits.expand(n_outcomes, 1, -1),
        n_samples,
        baseline=baseline,
    )
    mean = (chances[:, None, None] * estimates).sum(0)  # (1, C)
    torch.testing.assert_close(mean, exact_gradient(f, logits[None]), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("baseline", [0.0, 2.5, LEAVE_ONE_OUT])
def test_it_is_the_sum_of_values_times_scores(baseline):
    """With its own draws recorded, and the scores of a softmax written by hand: z - q."""
    seen = []
    logits = torch.stack([LOGITS, -LOGITS, 2 * LOGITS])  # three independent problems

    def f(z):
        seen.append(z)
        return mixing(z)

    estimate = score_function(f, one_hot, logits, n_samples=4, seed=3, baseline=baseline)
    [z] = seen  # (4, 3, 2, 3)
    values = mixing(z)
    centred = (values - values.mean(0)) * 4 / 3  # eq. score-centred
    if baseline != LEAVE_ONE_OUT:
        centred = values - baseline
    scores = z - logits.softmax(-1)
    torch.testing.assert_close(estimate, (centred[..., None, None] * scores).mean(0))


def cost(z):
    return ((z - 1) ** 2).sum(-1)


def unit(mu):
    return Normal(mu, 1.0)


# S times the variance along mu_1 at mu = 0 (chapter 07, eq. score-variance-normal to
# score-loo-variance), with the best constant 2K + 2 and one that is 3 off.
LAWS = {
    "none": lambda K, S: (0.0, 4 * K**2 + 14 * K + 12),
    "mean": lambda K, S: (2.0 * K, 6 * K + 12),
    "best": lambda K, S: (2.0 * K + 2, 6 * K + 8),
    "off": lambda K, S: (2.0 * K + 5, 6 * K + 17),
    LEAVE_ONE_OUT: lambda K, S: (LEAVE_ONE_OUT, 6 * K + 12 + (6 * K + 4) / (S - 1)),
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("n_latents", "n_samples"), [(1, 2), (4, 2), (4, 8), (16, 3)])
def test_baselines_leave_the_mean_and_give_the_derived_variance(name, n_latents, n_samples):
    baseline, law = LAWS[name](n_latents, n_samples)
    many = torch.zeros(REPEATS, n_latents, dtype=torch.double)
    slopes = score_function(cost, unit, many, n_samples, baseline=baseline)[:, 0]
    assert z_score(slopes, -2.0) < Z_MAX
    assert z_score((slopes + 2) ** 2, law / n_samples) < Z_MAX


def test_scale_parameters_have_their_own_best_baseline():
    """Along log sigma_1 the variance is 64 + 12 (K - 1) at b = 2K + 4, and the slope 2."""

    def family(parameters):
        mu, log_sigma = parameters.chunk(2, -1)
        return Normal(mu, log_sigma.exp())

    n_latents = 3
    many = torch.zeros(REPEATS, 2 * n_latents, dtype=torch.double)
    slopes = score_function(cost, family, many, baseline=2 * n_latents + 4)[:, n_latents]
    assert z_score(slopes, 2.0) < Z_MAX
    assert z_score((slopes - 2) ** 2, 64.0 + 12 * (n_latents - 1)) < Z_MAX


@pytest.mark.parametrize("baseline", [0.0, LEAVE_ONE_OUT])
def test_f_may_count_or_decide(baseline):
    """No derivative of f is asked for: the slope of P(z > 1) is a density."""
    many = torch.zeros(REPEATS, 1, dtype=torch.double)

    def decide(z):
        return (z > 1).any(-1)

    density = Normal(0.0, 1.0).log_prob(torch.tensor(1.0)).exp()
    slopes = score_function(decide, unit, many, n_samples=4, baseline=baseline)
    assert z_score(slopes, density) < Z_MAX
    counted = score_function(lambda z: decide(z).long(), unit, many, 4, baseline=baseline)
    assert torch.equal(slopes, counted)


@pytest.mark.parametrize(("power", "mean"), [(3.0, 1 / 4), (1.0, -1 / 2)])
def test_the_end_of_a_support_may_move_where_the_density_falls_to_zero(power, mean):
    """z = theta Beta(1, power) has mean theta / (1 + power). With power 1, the uniform density, its
    end is a hard edge: the estimate loses what enters there, 1, of the slope 1/2 (chapter 07)."""

    def scaled(theta):
        one = torch.ones_like(theta)
        return TransformedDistribution(Beta(one, power * one), [AffineTransform(0.0, theta)])

    many = torch.full((REPEATS, 1), 2.0, dtype=torch.double)
    assert z_score(score_function(lambda z: z.sum(-1), scaled, many, n_samples=4), mean) < Z_MAX


def test_seeds_decide_and_the_global_generator_stays():
    lam = torch.zeros(3, 2)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, again, other = (
        score_function(lambda z: z.sum(-1), lambda p: Bernoulli(logits=p), lam, 6, seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_parameters_and_their_graph_stay_as_they_were():
    lam = torch.zeros(2, requires_grad=True)
    estimate = score_function(cost, unit, 2 * lam, n_samples=3)
    assert lam.grad is None
    assert not estimate.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_estimate_has_the_dtype_of_the_parameters(dtype):
    assert score_function(cost, unit, torch.zeros(2, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("baseline", "n_samples"),
    [("mean", 5), (None, 5), (float("nan"), 5), (torch.ones(5), 5), ([1.0], 5), (LEAVE_ONE_OUT, 1)],
)
def test_baseline_is_a_number_or_leave_one_out(baseline, n_samples):
    with pytest.raises(ValueError, match="baseline must be a number, or 'leave-one-out'"):
        score_function(cost, unit, torch.zeros(2), n_samples, baseline=baseline)


@pytest.mark.parametrize("n_samples", [0, 2.0, True])
def test_score_function_needs_a_whole_number_of_draws(n_samples):
    with pytest.raises(ValueError, match="n_samples must be a whole number of at least 1"):
        score_function(cost, unit, torch.zeros(2), n_samples)


def test_score_function_says_what_f_family_and_parameters_must_be():
    with pytest.raises(ValueError, match=r"f must return one value a draw, \(3, 4\), got"):
        score_function(lambda z: z, unit, torch.zeros(4, 2), 3)
    with pytest.raises(ValueError, match=r"distribution of batch shape \(\.\.\., K\)"):
        score_function(cost, unit, torch.tensor(0.0))
    with pytest.raises(ValueError, match="parameters must be a floating-point tensor"):
        score_function(cost, unit, torch.zeros(2, dtype=torch.long))


# Pathwise (chapter 08)


def diagonal(parameters):
    mu, log_sigma = parameters.chunk(2, -1)
    return Normal(mu, log_sigma.exp())


GAUSSIAN = torch.tensor([0.3, -1.0, 0.2, -0.7], dtype=torch.double)  # mu, then log sigma


def gaussian_gradient(f, nodes=80):
    """Of E[f(z_1, z_2)] in mu and log sigma: autograd through a product of quadratures."""
    points, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(nodes))
    weights = weights / weights.sum()
    lam = GAUSSIAN.clone().requires_grad_()
    mu, sigma = lam[:2], lam[2:].exp()
    z = torch.cartesian_prod(points, points) * sigma + mu
    mean = torch.cartesian_prod(weights, weights).prod(-1) @ f(z)
    return torch.autograd.grad(mean, lam)[0]


def entangled(z):
    """Smooth, and no sum of terms."""
    return (z[..., 0] * z[..., 1]).sin() + z[..., 0] ** 2 * z[..., 1]


@pytest.mark.parametrize("f", [entangled, cost])
@pytest.mark.parametrize("n_samples", [1, 3])
def test_pathwise_averages_to_the_gradient_by_quadrature(f, n_samples):
    draws = pathwise(f, diagonal, GAUSSIAN.expand(REPEATS, -1), n_samples)
    assert draws.shape == (REPEATS, 4)
    assert z_score(draws, gaussian_gradient(f)) < Z_MAX


@pytest.mark.parametrize("n_latents", [1, 4, 16])
def test_pathwise_variance_does_not_depend_on_the_number_of_variables(n_latents):
    """4 along mu_1 (eq. pathwise-variance) and 12 along log sigma_1, at mu = 0 and sigma = 1."""
    many = torch.zeros(REPEATS, 2 * n_latents, dtype=torch.double)
    draws = pathwise(cost, diagonal, many, n_samples=2)[:, [0, n_latents]]
    exact = torch.tensor([-2.0, 2.0])
    assert z_score(draws, exact) < Z_MAX
    assert z_score((draws - exact) ** 2, torch.tensor([4.0, 12.0]) / 2) < Z_MAX


def test_pathwise_draws_are_shift_and_scale_of_outside_noise():
    torch.manual_seed(5)
    eps = torch.randn(7, 2, dtype=torch.double)
    mu, sigma = GAUSSIAN[:2], GAUSSIAN[2:].exp()
    slope = 2 * (mu + sigma * eps - 1)
    expected = torch.cat([slope.mean(0), (slope * sigma * eps).mean(0)])
    torch.testing.assert_close(pathwise(cost, diagonal, GAUSSIAN, 7, seed=5), expected)


@pytest.mark.parametrize(
    ("family", "parameter", "f", "exact"),
    [
        (lambda r: Exponential(r), 2.0, lambda z: (z**2).sum(-1), -4 / 2.0**3),
        # E[log z] = digamma(a) for a gamma variable, whose slope is trigamma(a)
        (
            lambda a: Gamma(a, torch.ones_like(a)),
            2.5,
            lambda z: z.log().sum(-1),
            0.4903577561002348,
        ),
    ],
)
def test_pathwise_beyond_location_and_scale(family, parameter, f, exact):
    many = torch.full((REPEATS, 1), parameter, dtype=torch.double)
    assert z_score(pathwise(f, family, many), exact) < Z_MAX


def test_pathwise_misses_a_jump_and_the_score_function_does_not():
    many = torch.zeros(REPEATS, 1, dtype=torch.double)

    def jump(z):
        return (z.sign().sum(-1) + 1) / 2

    density = Normal(0.0, 1.0).log_prob(torch.tensor(0.0)).exp()
    assert not pathwise(jump, unit, many).any()
    assert z_score(score_function(jump, unit, many), density) < Z_MAX


def test_pathwise_can_be_the_noisier_one():
    """f = sin(omega z) at mu = 0.3, sigma = 1: mean and variance of eq. pathwise-sine."""
    omega, mu = 3.0, 0.3
    many = torch.full((REPEATS, 1), mu, dtype=torch.double)
    draws = pathwise(lambda z: (omega * z).sin().sum(-1), unit, many)
    slope = omega * np.cos(omega * mu) * np.exp(-(omega**2) / 2)
    variance = omega**2 / 2 * (1 + np.cos(2 * omega * mu) * np.exp(-2 * omega**2)) - slope**2
    assert z_score(draws, slope) < Z_MAX
    assert z_score((draws - slope) ** 2, variance) < Z_MAX
    rival = score_function(lambda z: (omega * z).sin().sum(-1), unit, many)
    assert draws.var() > 2 * rival.var()


def test_pathwise_refuses_what_has_no_path():
    with pytest.raises(ValueError, match="OneHotCategorical has none: use score_function"):
        pathwise(lambda z: z.sum((-1, -2)), one_hot, LOGITS)
    with pytest.raises(ValueError, match="Bernoulli has none"):
        pathwise(cost, lambda lam: Bernoulli(logits=lam), torch.zeros(2))
    with pytest.raises(ValueError, match="no path leads from the parameters to the values of f"):
        pathwise(lambda z: (z > 0).double().sum(-1), unit, torch.zeros(2))
    with pytest.raises(ValueError, match="family must use its argument"):
        pathwise(cost, lambda _: Normal(torch.zeros(2), 1.0), torch.zeros(2))
    with pytest.raises(ValueError, match=r"batch shape \(\.\.\., K\)"):
        pathwise(cost, lambda mu: MultivariateNormal(mu, torch.eye(2)), torch.zeros(2))


# Relaxed one-hot draws (chapter 08)

RELAXED = [gumbel_softmax, straight_through]


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_corners_come_as_often_as_their_probabilities(temperature):
    """Gumbel-max, by a chi-square test, with the corners that straight-through shows to f."""
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    counts = torch.zeros(4, dtype=torch.double)

    def f(z):
        counts.add_(z.detach().sum((0, 1)))
        assert set(z.detach().unique().tolist()) == {0.0, 1.0}
        return z.sum((-1, -2))

    logits = torch.from_numpy(probabilities).log()[None]
    straight_through(f, one_hot, logits, n_samples=100_000, temperature=temperature)
    assert chisquare(counts.numpy(), 100_000 * probabilities).pvalue > 1e-4


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_gumbel_softmax_is_pathwise_through_torchs_relaxation(temperature):
    def family(logits):
        return RelaxedOneHotCategorical(temperature, logits=logits)

    def smooth(z):
        u = z @ torch.tensor([-1.0, 0.5, 2.0], dtype=z.dtype)
        return (u[..., 0] * u[..., 1]).exp()

    ours = gumbel_softmax(smooth, one_hot, LOGITS, 9, seed=4, temperature=temperature)
    torch.testing.assert_close(ours, pathwise(smooth, family, LOGITS, 9, seed=4))


def two_class_mean(slope, logit, temperature, hard):
    """E of the estimate for classes 0 and 1, by adaptive quadrature (eq. gumbel-tradeoff)."""

    def integrand(y):
        z = expit(y)
        at = float(y > 0) if hard else z
        noise = temperature * y - logit
        return slope(at) * z * (1 - z) * expit(noise) * expit(-noise)

    return quad(integrand, -40, 0, epsabs=1e-10)[0] + quad(integrand, 0, 40, epsabs=1e-10)[0]


def two_classes(logit):
    return OneHotCategorical(logits=torch.stack([torch.zeros_like(logit), logit], -1))


def cubic(z):
    u = z[..., 0, 1]  # how much of class 1
    return 2 * u**3 - u


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_relaxed_estimators_have_the_stated_bias(hard, temperature):
    logit = 0.7
    expected = two_class_mean(lambda u: 6 * u**2 - 1, logit, temperature, hard)
    many = torch.full((REPEATS, 1), logit, dtype=torch.double)
    draws = RELAXED[hard](cubic, two_classes, many, n_samples=2, temperature=temperature)
    assert z_score(draws, expected) < Z_MAX


def test_limits_at_low_temperature():
    """Gumbel-Softmax reaches the exact gradient; straight-through the trapezoid rule's."""
    logit, p = 0.7, expit(0.7)
    exact, trapezoid = p * (1 - p) * 1.0, p * (1 - p) * (-1 + 5) / 2
    many = torch.full((400_000, 1), logit, dtype=torch.double)
    for estimator, limit in ((gumbel_softmax, exact), (straight_through, trapezoid)):
        draws = estimator(cubic, two_classes, many, temperature=0.01)
        assert z_score(draws, limit) < Z_MAX
    assert trapezoid == 2 * exact


VALUES = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.double)


def squared(z):
    """The objective that chapters 07 and 08 share, of one-hot or relaxed draws (..., K, 3)."""
    return ((z @ VALUES - 1) ** 2).sum(-1)


@pytest.mark.parametrize("estimator", RELAXED)
def test_bias_shrinks_and_variance_grows_as_it_cools(estimator):
    logits = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.double).log()
    exact = exact_gradient(squared, logits)
    bias, error, variance = [], [], []
    for temperature in (2.0, 1.0, 0.5, 0.25):
        many = logits.expand(100_000, 1, 3)
        draws = estimator(squared, one_hot, many, temperature=temperature)[:, 0]
        bias.append((draws.mean(0) - exact).norm().item())
        error.append((draws.var(0).sum() / len(draws)).sqrt().item())
        variance.append(draws.var(0).sum().item())
    for (hot, cold), noise in zip(itertools.pairwise(bias), error[1:], strict=True):
        assert hot - cold > Z_MAX * noise
    assert all(cold > 1.5 * hot for hot, cold in itertools.pairwise(variance))


@pytest.mark.parametrize("estimator", RELAXED)
def test_other_variables_add_no_noise_to_relaxed_gradients(estimator):
    logits = torch.tensor([0.5, 0.3, 0.2], dtype=torch.double).log()
    draws = estimator(squared, one_hot, logits.expand(REPEATS, 8, 3))
    assert z_score(draws, draws.mean((0, 1))) < Z_MAX  # eight alike
    alone = estimator(squared, one_hot, logits.expand(8 * REPEATS, 1, 3), seed=1)
    torch.testing.assert_close(draws.var(0).mean(0), alone.var(0)[0], rtol=0.03, atol=0)


@pytest.mark.parametrize("estimator", RELAXED)
def test_relaxed_estimators_say_what_they_need(estimator):
    with pytest.raises(ValueError, match="family must give a OneHotCategorical, got Normal"):
        estimator(cost, unit, torch.zeros(2))
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature must be positive"):
            estimator(squared, one_hot, torch.zeros(1, 3), temperature=temperature)
    with pytest.raises(ValueError, match="n_samples must be a whole number"):
        estimator(squared, one_hot, torch.zeros(1, 3), n_samples=0)
    with pytest.raises(ValueError, match="f must return one value a draw"):
        estimator(lambda z: z.sum(-1), one_hot, torch.zeros(1, 3))


@pytest.mark.parametrize(
    ("estimator", "f", "family", "lam"),
    [(pathwise, cost, unit, torch.zeros(3, 2))]
    + [(e, lambda z: (z[..., 1] ** 2).sum(-1), one_hot, torch.zeros(3, 2, 3)) for e in RELAXED],
)
def test_chapter_08_estimators_keep_seeds_graph_and_dtype(estimator, f, family, lam):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, again, other = (estimator(f, family, lam, 4, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == lam.shape and first.dtype == lam.dtype and not first.requires_grad
    alone = estimator(f, family, lam[:1], 4)
    assert alone.shape == lam[:1].shape
