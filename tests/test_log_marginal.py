"""log p(x) by quadrature, against closed forms, total probability and a brute-force grid."""

import itertools
import math

import pytest
import torch
from scipy.integrate import quad
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal
from torch.nn.functional import softplus

from em2vae import VAE, bounds
from em2vae.bounds import log_marginal_2d

TOLERANCE = 1e-3  # nats, what the docstring promises
PIXELS = 6


class GaussianPixel(nn.Module):
    """One pixel whose p(x = 1|z) is a mean of exp(-g(z)), with g quadratic: log p(x) is exact."""

    def __init__(self, centres: list, precisions: list, floor: float = 0.1) -> None:
        super().__init__()
        self.centres = torch.tensor(centres, dtype=torch.double)  # (J, 2)
        self.precisions = torch.tensor(precisions, dtype=torch.double)  # (J, 2, 2)
        self.floor = floor  # g is at least this, so that p < 1

    def forward(self, z):
        offset = z[..., None, :] - self.centres  # (..., J, 2)
        g = 0.5 * torch.einsum("...ji,jik,...jk->...j", offset, self.precisions, offset)
        log_p = (-g - self.floor).logsumexp(-1) - math.log(len(self.centres))
        logits = log_p - torch.log(-torch.expm1(log_p))
        return Bernoulli(logits=logits[..., None], validate_args=False)

    def log_p_ink(self):
        """log of the integral of p(x = 1|z) p(z): a linear-Gaussian model's evidence."""
        covariances = self.precisions.inverse()
        identity = torch.eye(2, dtype=torch.double)
        normals = MultivariateNormal(torch.zeros(2).double(), identity + covariances)
        areas = math.log(2 * math.pi) + 0.5 * covariances.logdet()
        terms = normals.log_prob(self.centres) + areas - self.floor
        return terms.logsumexp(0) - math.log(len(terms))


def model_with(decoder, data_dim=1):
    vae = VAE(latent_dim=2, hidden_dims=(2,), data_dim=data_dim).double().requires_grad_(False)
    vae.decoder = decoder
    return vae


ROUND = [[1.0, 0.0], [0.0, 1.0]]
TILTED = [[60.0, 35.0], [35.0, 40.0]]
NEEDLE = [[900.0, 0.0], [0.0, 1600.0]]  # sd 1/30 and 1/40, a third of a cell
CASES = {
    "wide": ([[0.3, -0.7]], [ROUND]),
    "tilted": ([[1.234, -0.567]], [TILTED]),
    "needle between grid points": ([[0.7, 0.2]], [NEEDLE]),
    "needle on a grid point": ([[0.75, 0.25]], [NEEDLE]),
    "far out": ([[4.1, -3.9]], [TILTED]),
    "two peaks": ([[-1.6, 0.4], [1.9, -0.3]], [TILTED, NEEDLE]),
    "two peaks of unequal height": ([[-2.0, -2.0], [0.0, 0.0]], [NEEDLE, TILTED]),
}


@pytest.mark.parametrize("centres, precisions", CASES.values(), ids=CASES)
def test_it_equals_the_closed_form(centres, precisions):
    decoder = GaussianPixel(centres, precisions)
    ink, blank = log_marginal_2d(model_with(decoder), torch.tensor([[1.0], [0.0]]).double())
    log_p = decoder.log_p_ink()
    assert abs(ink - log_p) < TOLERANCE
    assert abs(blank - torch.log(-torch.expm1(log_p))) < TOLERANCE


class KinkedPixel(nn.Module):
    """p(x = 1|z) = exp(-sum of slope |z_k - c_k|): the midpoint rule converges slowly."""

    centre, slope = (0.61, -1.14), 15.0

    def forward(self, z):
        distance = (z - torch.tensor(self.centre).to(z)).abs().sum(-1)
        log_p = -self.slope * distance - 0.1
        return Bernoulli(logits=(log_p - torch.log(-torch.expm1(log_p)))[..., None])

    def log_p_ink(self):
        def density(z, c):
            return math.exp(-self.slope * abs(z - c) - z * z / 2) / math.sqrt(2 * math.pi)

        parts = [quad(density, -7, 7, args=(c,), points=[c], epsabs=1e-12) for c in self.centre]
        return sum(math.log(value) for value, _ in parts) - 0.1


def test_kinks_are_halved_until_the_promise_holds():
    decoder = KinkedPixel()
    [ink] = log_marginal_2d(model_with(decoder), torch.ones(1, 1).double())
    assert abs(ink - decoder.log_p_ink()) < TOLERANCE


@pytest.fixture(scope="module")
def steep():
    """A network with six pixels whose posteriors are neither the prior nor a Gaussian."""
    vae = (
        VAE(2, (12, 12), data_dim=PIXELS, activation=nn.Tanh, seed=3).double().requires_grad_(False)
    )
    for weight in vae.parameters():
        weight *= 3
    return vae


@pytest.fixture(scope="module")
def every_image():
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=PIXELS))).double()


@pytest.fixture(scope="module")
def log_p_of_every_image(steep, every_image):
    return log_marginal_2d(steep, every_image)


def test_probabilities_of_all_images_sum_to_one(log_p_of_every_image):
    assert log_p_of_every_image.shape == (2**PIXELS,)
    assert log_p_of_every_image.max() - log_p_of_every_image.min() > 3  # the images differ
    assert abs(log_p_of_every_image.logsumexp(0)) < TOLERANCE


def brute_force(vae, x, step, limit=7.0):
    """The same integral on one fine grid: (B,)."""
    axis = torch.arange(-limit + step / 2, limit, step, dtype=torch.double)
    parts = []
    for z in torch.cartesian_prod(axis, axis).split(
        400_000 // x.shape[1]
    ):  # they stay in the cache
        logits = vae.decoder(z).logits
        log_p_x_given_z = x.double() @ logits.T - softplus(logits).sum(-1)
        log_prior = -0.5 * (z**2).sum(-1) - math.log(2 * math.pi)
        parts.append((log_p_x_given_z + log_prior).logsumexp(1))
    return torch.stack(parts).logsumexp(0) + 2 * math.log(step)


def test_it_equals_a_fine_grid(steep, every_image, log_p_of_every_image):
    fine = brute_force(steep, every_image, 0.02)
    assert (log_p_of_every_image - fine).abs().max() < TOLERANCE


@pytest.mark.parametrize("activation", [nn.SiLU, nn.ReLU])
def test_it_equals_a_fine_grid_in_single_precision(activation):
    """With 784 pixels and narrow posteriors; ReLU's kinks slow the convergence down."""
    vae = VAE(2, (16,), activation=activation, seed=1).requires_grad_(False)
    for weight in vae.decoder.parameters():
        weight *= 4
    x = torch.bernoulli(vae.decode(torch.tensor([[0.4, -0.9], [1.5, 0.2]])).mean)
    log_p = log_marginal_2d(vae, x)
    assert log_p.dtype == torch.float32
    fine = brute_force(vae.double(), x, 0.02)
    assert (log_p - fine).abs().max() < 2 * TOLERANCE  # and single precision's own


def test_a_finer_start_changes_less_than_promised(steep, every_image, monkeypatch):
    """The promise itself: the step it ends at, halved once more."""
    ends = {}

    def spy(vae, x, image, z):
        for i in image.unique().tolist():
            ends[i] = (z[image == i][0] - z[image == i][1]).abs().max().item()
        return log_joint(vae, x, image, z)

    log_joint = bounds._log_joint
    monkeypatch.setattr(bounds, "_log_joint", spy)
    images = every_image[::8]
    log_p = log_marginal_2d(steep, images)
    assert len(ends) == len(images)  # each was halved at least once
    for i, step in ends.items():
        finer = brute_force(steep, images[i : i + 1], step / 2)
        assert abs(log_p[i] - finer.item()) < TOLERANCE


def test_images_do_not_depend_on_their_company():
    vae = model_with(GaussianPixel([[0.7, 0.2]], [NEEDLE]))
    x = (torch.arange(503) % 50 > 0).double()[:, None]  # more than 500: two parts
    together = log_marginal_2d(vae, x)
    ink, blank = (log_marginal_2d(vae, torch.full((1, 1), v).double()) for v in (1.0, 0.0))
    assert torch.allclose(together, torch.where(x[:, 0] == 1, ink, blank), atol=1e-9)


def test_small_pieces_give_the_same(steep, every_image, monkeypatch):
    whole = log_marginal_2d(steep, every_image[:10])
    monkeypatch.setattr(bounds, "VALUES_AT_ONCE", PIXELS * 1000)
    assert torch.allclose(log_marginal_2d(steep, every_image[:10]), whole, atol=1e-9)


def test_bad_input_says_what_was_expected():
    x = torch.zeros(3, 784)
    with pytest.raises(ValueError, match="log_marginal_2d needs latent_dim = 2, got 3"):
        log_marginal_2d(VAE(3, (4,)), x)
    with pytest.raises(ValueError, match=r"x must have shape \(N, 784\), got \(3, 783\)"):
        log_marginal_2d(VAE(2, (4,)), x[:, :-1])
    with pytest.raises(ValueError, match="x must be binary"):
        log_marginal_2d(VAE(2, (4,)), x + 0.5)
    with pytest.raises(TypeError, match="floating-point tensor"):
        log_marginal_2d(VAE(2, (4,)), x.long())


def test_it_carries_no_gradient():
    assert not log_marginal_2d(VAE(2, (4,), data_dim=3), torch.ones(1, 3)).requires_grad
