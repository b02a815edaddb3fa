"""Divergences and their optima (chapter 04), against oracles that do not know the formulas."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize
from torch.distributions import (
    Bernoulli,
    Categorical,
    MultivariateNormal,
    Normal,
    Uniform,
    kl_divergence,
)

means = st.floats(-3, 3)
widths = st.floats(0.2, 3)


def normal_log_density(z, mean, width):
    return -0.5 * ((z - mean) / width) ** 2 - math.log(width) - 0.5 * math.log(2 * math.pi)


def integrate(f, low, high, points=None):
    return quad(f, low, high, points=points, limit=400, epsabs=1e-11)[0]


# Between normals.


def kl_gaussian(m, s, mu, sigma):  # eq. kl-gaussian
    return math.log(sigma / s) + (s**2 + (m - mu) ** 2) / (2 * sigma**2) - 0.5


def kl_gaussian_full(m, S, mu, Sigma):  # eq. kl-gaussian-full
    inverse = torch.linalg.inv(Sigma)
    log_det_ratio = torch.logdet(Sigma) - torch.logdet(S)
    distance = (m - mu) @ inverse @ (m - mu)
    return 0.5 * (log_det_ratio - len(m) + (inverse @ S).trace() + distance)


@settings(deadline=None)
@given(means, widths, means, widths)
def test_normals_against_quadrature_and_torch(m, s, mu, sigma):
    def integrand(z):
        log_q = normal_log_density(z, m, s)
        return math.exp(log_q) * (log_q - normal_log_density(z, mu, sigma))

    formula = kl_gaussian(m, s, mu, sigma)
    assert formula == pytest.approx(integrate(integrand, m - 12 * s, m + 12 * s, [m]), abs=1e-8)
    q, p = (Normal(*torch.tensor(pair, dtype=torch.double)) for pair in ((m, s), (mu, sigma)))
    assert formula == pytest.approx(kl_divergence(q, p).item(), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_full_matrices_against_torch_and_an_exact_average(seed):
    """The log-ratio is quadratic, so Gauss-Hermite nodes under q give its average exactly."""
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.double}
    m, mu = torch.randn(2, 3, **draw)
    roots = torch.randn(2, 3, 5, **draw)
    S, Sigma = roots @ roots.mT
    q, p = MultivariateNormal(m, S), MultivariateNormal(mu, Sigma)
    nodes, weights = (torch.as_tensor(a) for a in np.polynomial.hermite_e.hermegauss(4))
    weights = weights / weights.sum()
    u = torch.cartesian_prod(nodes, nodes, nodes)  # (64, 3), standard normal nodes
    mass = torch.cartesian_prod(weights, weights, weights).prod(-1)
    z = m + u @ torch.linalg.cholesky(S).T
    average = (mass * (q.log_prob(z) - p.log_prob(z))).sum()
    formula = kl_gaussian_full(m, S, mu, Sigma)
    torch.testing.assert_close(formula, average)
    torch.testing.assert_close(formula, kl_divergence(q, p))


def test_diagonal_matrices_give_the_term_of_the_vae():
    m, s = torch.tensor([0.5, -2.0]).double(), torch.tensor([0.3, 1.7]).double()
    formula = kl_gaussian_full(m, torch.diag(s**2), torch.zeros(2).double(), torch.eye(2).double())
    summed = sum(kl_gaussian(a.item(), b.item(), 0.0, 1.0) for a, b in zip(m, s, strict=True))
    assert formula.item() == pytest.approx(summed)
    assert formula.item() == pytest.approx(0.5 * (m**2 + s**2 - 1 - 2 * s.log()).sum().item())


# Gibbs' inequality and its edges.

logits = st.lists(st.floats(-8, 8), min_size=4, max_size=4)


@given(logits, logits)
def test_gibbs_inequality_and_its_equality_case(a, b):
    log_q, log_p = (torch.tensor(v).double().log_softmax(-1) for v in (a, b))
    kl = (log_q.exp() * (log_q - log_p)).sum().item()
    total = (log_q.exp() - log_p.exp()).abs().sum().item()
    assert kl >= 0.5 * total**2 - 1e-12  # Pinsker: more than Gibbs, and positive unless equal
    assert kl == pytest.approx(kl_divergence(*map(as_categorical, (log_q, log_p))).item(), abs=1e-9)


def as_categorical(log_probabilities):
    return Categorical(logits=log_probabilities)


def test_infinite_where_p_forbids_what_q_allows():
    narrow, wide = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.25, 0.5])
    assert kl_divergence(Categorical(wide), Categorical(narrow)).item() == math.inf
    inside = kl_divergence(Categorical(narrow), Categorical(wide)).item()
    assert inside == pytest.approx(math.log(2))
    assert kl_divergence(Uniform(0.0, 2.0), Uniform(0.0, 1.0)).item() == math.inf
    assert kl_divergence(Uniform(0.0, 1.0), Uniform(0.0, 2.0)).item() == pytest.approx(math.log(2))


def test_infinite_although_p_is_positive_everywhere():
    """Cauchy against normal: truncated integrals grow without end, linearly in the range."""

    def truncated(limit):
        def integrand(z):
            q = 1 / (math.pi * (1 + z * z))
            return q * (math.log(q) - normal_log_density(z, 0, 1))

        return 2 * integrate(integrand, 0, limit)

    rise = (truncated(2000) - truncated(1000)) / 1000
    assert rise == pytest.approx(1 / math.pi, rel=0.01)


def test_coins_of_the_chapter():
    fair, biased = Bernoulli(torch.tensor(0.5).double()), Bernoulli(torch.tensor(0.99).double())
    expected = 0.5 * math.log(0.5 / 0.99) + 0.5 * math.log(0.5 / 0.01)
    assert kl_divergence(fair, biased).item() == pytest.approx(expected)
    assert kl_divergence(biased, fair).item() < expected / 2


# The best normal for two bumps, in both directions.

WEIGHTS, SCALE = (0.3, 0.7), 0.6


def target(separation, weights=WEIGHTS):
    """log p as a function of z (any array), and its two centres."""
    centres = (-separation / 2, separation / 2)

    def log_p(z):
        parts = [
            math.log(w) + normal_log_density(z, c, SCALE)
            for w, c in zip(weights, centres, strict=True)
        ]
        return np.logaddexp(*parts)

    return log_p, centres


NODES = np.linspace(-10, 10, 801)


def forward_kl(log_p, m, s):
    """KL(p || N(m, s^2)) by a plain sum, which is exact enough for smooth, vanishing ends."""
    z = NODES
    ratio = log_p(z) - normal_log_density(z, m, s)
    return float((np.exp(log_p(z)) * ratio).sum() * (z[1] - z[0]))


def reverse_kl(log_p, m, s):
    z = m + s * NODES
    ratio = normal_log_density(z, m, s) - log_p(z)
    return float((np.exp(normal_log_density(NODES, 0, 1)) * ratio).sum() * (NODES[1] - NODES[0]))


def optimum(divergence, log_p, m, s):
    """The nearest minimum by Nelder-Mead, which uses no gradient."""
    found = minimize(
        lambda a: divergence(log_p, a[0], math.exp(a[1])),
        (m, math.log(s)),
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-11, "initial_simplex": simplex(m, math.log(s))},
    )
    return found.x[0], math.exp(found.x[1]), found.fun


def simplex(a, b):
    return [(a, b), (a + 0.1, b), (a, b + 0.1)]


def grid_search(divergence, log_p, centre):
    """The lowest of a fine table around a centre, and half a step of the table."""
    table = {
        (m, s): divergence(log_p, m, s)
        for m in np.arange(centre - 1, centre + 1.001, 0.1)
        for s in np.arange(0.3, 2.6, 0.1)
    }
    return min(table, key=table.get), min(table.values())


@settings(max_examples=10, deadline=None)
@given(st.floats(0, 6), st.floats(0.05, 0.95))
def test_forward_optimum_has_the_moments_of_p(separation, share):
    log_p, _ = target(separation, (share, 1 - share))
    m, s, _ = optimum(forward_kl, log_p, 0.0, 1.0)
    mean = (1 - 2 * share) * separation / 2
    variance = SCALE**2 + share * (1 - share) * separation**2
    assert m == pytest.approx(mean, abs=1e-3)
    assert s == pytest.approx(math.sqrt(variance), abs=1e-3)


def test_forward_optimum_against_grid_search():
    log_p, _ = target(4.0)
    m, s, kl = optimum(forward_kl, log_p, 0.0, 1.0)
    (grid_m, grid_s), lowest = grid_search(forward_kl, log_p, 0.8)
    assert abs(m - grid_m) < 0.051 and abs(s - grid_s) < 0.051
    assert kl <= lowest


@pytest.mark.parametrize("bump", [0, 1])
def test_reverse_has_an_optimum_on_each_bump(bump):
    log_p, centres = target(4.0)
    m, s, kl = optimum(reverse_kl, log_p, centres[bump], 0.5)
    (grid_m, grid_s), lowest = grid_search(reverse_kl, log_p, centres[bump])
    assert abs(m - grid_m) < 0.051 and abs(s - grid_s) < 0.051
    assert kl <= lowest
    assert m == pytest.approx(centres[bump], abs=0.05) and s == pytest.approx(SCALE, abs=0.05)
    # Never more than the price of one component, eq. kl-component, and here just below it.
    price = -math.log(WEIGHTS[bump])
    assert reverse_kl(log_p, centres[bump], SCALE) <= price
    assert price - 0.01 < kl < price


def test_reverse_may_have_a_third_optimum_in_the_valley():
    log_p, _ = target(4.0, (0.4, 0.6))
    m, s, kl = optimum(reverse_kl, log_p, 0.4, 2.05)
    assert (m, s) == (pytest.approx(0.313, abs=2e-3), pytest.approx(1.762, abs=2e-3))
    around = [(m + 0.1 * math.cos(t), s + 0.1 * math.sin(t)) for t in np.linspace(0, 6.2, 32)]
    assert kl < min(reverse_kl(log_p, *point) for point in around)


# The best q of all is the posterior.


def test_free_q_reaches_the_posterior():
    """An optimizer that knows only the bound, on seven outcomes, with an unnormalized target."""
    joint = torch.tensor([0.02, 1e-4, 0.3, 0.05, 0.11, 0.004, 0.2]).double()
    logits = torch.zeros(7, dtype=torch.double, requires_grad=True)
    lbfgs = torch.optim.LBFGS([logits], max_iter=500, line_search_fn="strong_wolfe")
    lbfgs.param_groups[0].update(tolerance_grad=1e-12, tolerance_change=1e-16)

    def loss():
        lbfgs.zero_grad()
        value = -bound(logits.softmax(-1), joint)
        value.backward()
        return value

    lbfgs.step(loss)
    q = logits.detach().softmax(-1)
    torch.testing.assert_close(q, joint / joint.sum(), atol=1e-6, rtol=1e-4)
    assert bound(q, joint).item() == pytest.approx(joint.sum().log().item(), abs=1e-9)


def bound(q, joint):
    return (q * (joint.log() - q.log())).sum()  # eq. kl-functional


@settings(deadline=None)
@given(logits, logits, st.lists(st.floats(-1, 1), min_size=4, max_size=4))
def test_variations_against_finite_differences(a, b, direction):
    q, joint = (torch.tensor(v).double().mul(0.4).exp() for v in (a, b))
    q = q / q.sum()
    direction = torch.tensor(direction).double()
    eta = q * (direction - (q * direction).sum())  # sums to zero, |eta| <= 2 q
    assume(eta.abs().max() > 1e-3)
    first = (eta * (joint.log() - q.log() - 1)).sum().item()  # eq. kl-first-variation
    second = -(eta**2 / q).sum().item()  # eq. kl-second-variation
    t = 1e-4
    up, here, down = (bound(q + step * eta, joint).item() for step in (t, 0.0, -t))
    assert first == pytest.approx((up - down) / (2 * t), abs=1e-6)
    assert second == pytest.approx((up - 2 * here + down) / t**2, rel=1e-2, abs=1e-4)


def test_constant_on_blocks_takes_the_averaged_logarithm():
    """Eq. kl-blocks: no other q on the blocks has a higher bound; the forward choice is lower."""
    generator = torch.Generator().manual_seed(0)
    joint = torch.rand(3, 4, generator=generator).double() ** 3  # 3 blocks of 4 points
    best = joint.log().mean(-1).softmax(0)

    def block_bound(c):
        return bound((c / 4)[:, None].expand(3, 4), joint).item()

    others = torch.randn(2000, 3, generator=generator).double().mul(0.3)
    near = (best.log() + others).softmax(-1)
    assert all(block_bound(c) <= block_bound(best) + 1e-12 for c in near)
    assert block_bound(joint.sum(-1) / joint.sum()) < block_bound(best) - 1e-4
