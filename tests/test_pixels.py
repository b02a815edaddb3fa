"""Likelihoods of grey values and colours: mass one, tails, extremes, bits (chapter 17)."""

import math

import pytest
import torch
from monte_carlo import Z_MAX, z_score
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Normal,
    SigmoidTransform,
    TransformedDistribution,
    Uniform,
)

from em2vae.pixels import (
    LIKELIHOODS,
    DiscretizedLogistic,
    GaussianPixels,
    LogisticPixels,
    bits_per_dim,
    check_levels,
    dequantize,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def all_levels(n=256, dtype=torch.double):
    """Every grey value, (n, 1)."""
    return torch.arange(n, dtype=dtype)[:, None] / (n - 1)


def logistic(mu, scale):
    """The same logistic, by torch.distributions."""
    unit = Uniform(torch.zeros_like(mu), torch.ones_like(mu))
    return TransformedDistribution(unit, [SigmoidTransform().inv, AffineTransform(mu, scale)])


MU = torch.tensor([-3.0, -0.2, 0.0, 0.301, 0.5, 0.998, 1.0, 1.7], dtype=torch.double)
LOG_SCALE = torch.tensor([-12.0, -6.0, -4.0, -2.0, -0.5, 1.0, 6.0], dtype=torch.double)


@pytest.mark.parametrize("levels", [2, 3, 16, 256])
@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_the_levels_have_mass_one(levels, dtype):
    mu, log_scale = MU.to(dtype), LOG_SCALE.to(dtype)[:, None, None]
    p = DiscretizedLogistic(mu, log_scale, levels)  # (7, 1, 8)
    log_p = p.log_prob(all_levels(levels, dtype))  # (7, levels, 8)
    total = log_p.double().logsumexp(1)
    assert total.abs().max() < {torch.double: 1e-12, torch.float: 2e-4}[dtype]
    assert log_p.max() <= 0


def test_the_masses_are_differences_of_the_cdf_of_torch():
    """In the middle, where a difference of two numbers below one still has its digits."""
    mu, scale = MU[2:6], torch.tensor([[0.02], [0.1], [1.0]], dtype=torch.double)
    edges = torch.arange(257, dtype=torch.double)[:, None, None] / 256
    cdf = logistic(mu, scale).cdf(edges)
    cdf[0], cdf[-1] = 0, 1  # the first and the last level take the tails
    ours = DiscretizedLogistic(mu, scale.log()).log_prob(all_levels()[..., None])
    torch.testing.assert_close(ours.exp(), cdf.diff(dim=0), rtol=1e-9, atol=1e-13)


def test_tails_keep_their_digits():
    """Far from its centre the mass of a cell is e^(-distance/scale) (e^(width/scale) - 1)."""
    scale, mu = 0.01, -2.0
    p = DiscretizedLogistic(torch.tensor(mu), torch.tensor(scale).log())
    for k in (1, 100, 254):
        inner = -((k + 1) / 256 - mu) / scale + math.log(math.expm1(1 / 256 / scale))
        assert p.log_prob(torch.tensor(k / 255)).item() == pytest.approx(inner, rel=1e-6)
    last = -(255 / 256 - mu) / scale
    assert p.log_prob(torch.tensor(1.0)).item() == pytest.approx(last, rel=1e-6)
    naive = logistic(torch.tensor(mu), torch.tensor(scale)).cdf(torch.tensor([100, 101]) / 256)
    assert naive.diff().item() == 0  # what a plain difference has there


def test_a_wide_scale_keeps_its_digits_in_single_precision():
    single = DiscretizedLogistic(torch.tensor(0.4), torch.tensor(6.0))
    double = DiscretizedLogistic(torch.tensor(0.4).double(), torch.tensor(6.0).double())
    x = torch.tensor(100 / 255)
    assert single.log_prob(x).item() == pytest.approx(double.log_prob(x.double()).item(), rel=1e-6)


def test_two_levels_are_a_bernoulli():
    mu, log_scale = MU[:, None], LOG_SCALE
    logits = (mu - 0.5) / log_scale.exp()
    x = all_levels(2)[..., None]
    ours, theirs = DiscretizedLogistic(mu, log_scale, 2), Bernoulli(logits=logits)
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours.mean, theirs.mean)


def test_a_narrow_cell_has_its_width_times_the_density():
    mu, scale = torch.tensor(0.4).double(), torch.tensor(0.3).double()
    x = torch.tensor(90 / 255).double()
    density = logistic(mu, scale).log_prob(torch.tensor(90.5 / 256).double())
    mass = DiscretizedLogistic(mu, scale.log()).log_prob(x)
    assert mass.item() == pytest.approx(density.item() - math.log(256), abs=1e-4)


EXTREME = [-200.0, -104.0, -30.0, -12.0, 0.0, 12.0, 30.0, 88.0, 200.0]


@pytest.mark.parametrize("log_scale", EXTREME)
@pytest.mark.parametrize("mu", [-1e6, -1.0, 0.5 / 256, 0.5, 1.0, 1e6])
@pytest.mark.parametrize("x", [0.0, 1 / 255, 128 / 255, 1.0])
def test_values_and_gradients_are_finite_at_extremes(mu, log_scale, x):
    leaves = [torch.tensor(v, requires_grad=True) for v in (mu, log_scale)]
    log_p = DiscretizedLogistic(*leaves).log_prob(torch.tensor(x))
    slopes = torch.autograd.grad(log_p, leaves)
    assert log_p <= 0 and log_p.isfinite()
    assert all(slope.isfinite() for slope in slopes)


@pytest.mark.parametrize("kind", [GaussianPixels, LogisticPixels])
@pytest.mark.parametrize("log_scale", EXTREME)
def test_a_network_may_say_anything(kind, log_scale):
    out = torch.tensor([[[0.2]], [[log_scale]]], requires_grad=True)  # (2, 1, 1)
    log_p = kind()(out).log_prob(torch.tensor([0.0])).sum()
    log_p.backward()
    assert log_p.isfinite() and out.grad.isfinite().all()


def test_gradient_equals_finite_differences():
    mu, log_scale = (v.clone().requires_grad_() for v in (MU[:, None, None], LOG_SCALE[1:-1, None]))
    x = all_levels(8)[:, 0]
    assert torch.autograd.gradcheck(
        lambda m, s: DiscretizedLogistic(m, s, 8).log_prob(x), (mu, log_scale), rtol=1e-4
    )


def test_mean_is_the_mean_of_the_masses():
    p = DiscretizedLogistic(MU[:, None], LOG_SCALE, 256)
    x = all_levels()[..., None]
    torch.testing.assert_close(p.mean, (p.log_prob(x).exp() * x).sum(0))


def test_draws_follow_the_masses():
    p = DiscretizedLogistic(torch.tensor([-0.05, 0.4, 1.2]), torch.tensor([-2.0, -3.0, -1.0]), 16)
    draws = p.sample((40_000,), seeded())
    check_levels(draws, 16)
    for x in all_levels(16, torch.float)[:, 0]:
        mass = p.log_prob(x).exp()
        if (mass * 40_000 > 50).all():
            assert z_score((draws == x).float(), mass) < Z_MAX
    assert z_score(draws, p.mean) < Z_MAX
    assert torch.equal(draws, p.sample((40_000,), seeded()))


@pytest.mark.parametrize("log_sigma", [-3.0, 0.0, 1.0])
def test_the_gaussian_is_a_density_of_mass_one_and_torchs(log_sigma):
    out = torch.tensor([[[0.3]], [[log_sigma]]]).double()
    p = GaussianPixels()(out)
    theirs = Normal(torch.tensor([0.8]).double(), math.exp(log_sigma - 2))
    grid = torch.linspace(-40, 40, 400_001).double()[:, None]
    torch.testing.assert_close(p.log_prob(grid), theirs.log_prob(grid))
    assert torch.trapezoid(p.log_prob(grid).exp()[:, 0], grid[:, 0]).item() == pytest.approx(1)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_numbers_of_a_network_become_pixels_in_order(name):
    kind = LIKELIHOODS[name]()
    out = torch.randn(2, 5, 3 * kind.numbers, 4, 6, generator=seeded())  # of 3 colours
    p = kind(out)
    assert p.batch_shape == (2, 5, 72)
    first = {"bernoulli": "logits", "gaussian": "loc", "logistic": "mu"}[name]
    shift = 0.0 if name == "bernoulli" else 0.5
    torch.testing.assert_close(getattr(p, first), out[..., :3, :, :].flatten(-3) + shift)
    if kind.numbers == 2:
        spread = p.log_var / 2 if name == "gaussian" else p.log_scale
        torch.testing.assert_close(spread, out[..., 3:, :, :].flatten(-3) - 2)


# Dequantization and bits


def test_dequantized_values_lie_in_their_cells():
    x = all_levels(256, torch.float).expand(256, 500)
    y = dequantize(x)
    k = (y * 256).floor()
    assert torch.equal(k / 255, x)
    assert y.min() >= 0 and y.max() < 1
    assert z_score((y * 256 - k).T, 0.5) < Z_MAX
    assert torch.equal(y, dequantize(x)) and not torch.equal(y, dequantize(x, seeded(1)))


def test_a_dequantized_density_bounds_the_mass_of_the_levels():
    """Mean log-density minus log 256 is below log of the cell's mass, and close if sigma is not."""
    x = all_levels()[:, 0]
    for sigma, gap in ((0.3, 1e-4), (0.002, 0.3)):
        p = Normal(torch.tensor(0.5).double(), sigma)
        u = (torch.arange(1000).double()[:, None] + 0.5) / 1000  # a quadrature over u
        bound = p.log_prob((255 * x + u) / 256).mean(0) - math.log(256)
        edges = torch.arange(257).double() / 256
        mass = p.cdf(edges).diff().log()
        inside = mass > -200
        lost = (mass - bound)[inside]
        assert lost.min() > 0
        assert (lost.max() < gap) == (sigma == 0.3)
        assert bits_per_dim(bound[100] + math.log(256), 1, 256) == bits_per_dim(bound[100], 1)


def test_bits_are_nats_over_log_two():
    assert bits_per_dim(torch.tensor(-784 * math.log(2)), 784).item() == pytest.approx(1)
    uniform = DiscretizedLogistic(torch.zeros(12), torch.full((12,), 25.0)).log_prob(
        torch.full((12,), 0.5)
    )
    assert bits_per_dim(torch.tensor(-12 * math.log(256)), 12).item() == pytest.approx(8)
    assert uniform.sum() < -12 * math.log(256)  # nearly all of its mass lies at the ends
    flat = Uniform(0.0, 1.0).log_prob(torch.rand(12, generator=seeded())).sum()
    assert bits_per_dim(flat, 12, levels=256).item() == pytest.approx(8)


# What is refused


@pytest.mark.parametrize("x", [[0.5], [-1 / 255], [256 / 255], [math.nan], [math.inf]])
def test_what_is_no_level_is_refused(x):
    for call in (check_levels, dequantize):
        with pytest.raises(ValueError, match="x must hold whole grey values divided by 255"):
            call(torch.tensor(x))


def test_whole_numbers_are_no_levels():
    with pytest.raises(TypeError, match="x must be a float32 or float64 tensor"):
        check_levels(torch.zeros(3, dtype=torch.uint8))


@pytest.mark.parametrize("levels", [1, 0, 2.0, True])
def test_levels_are_at_least_two(levels):
    with pytest.raises(ValueError, match="levels must be a whole number of at least 2"):
        DiscretizedLogistic(torch.zeros(2), torch.zeros(2), levels)


def test_mu_and_log_scale_are_floats():
    with pytest.raises(TypeError, match="log_scale must be a float32 or float64 tensor"):
        DiscretizedLogistic(torch.zeros(2), torch.zeros(2, dtype=torch.int64))
