"""The ELBO explorer of chapter 06: lay a Gaussian over a posterior that is none."""

import torch
import traitlets
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from em2vae.figures import LINE_COLORS
from em2vae.interactive.figure import InteractiveFigure, Number

# x | z ~ N(f(z), NOISE^2) with f(z) = OFFSET + sum of scale * tanh(weight * z + bias)
UNITS = ((1.4, 2.0, -2.0), (-1.0, 2.0, 2.0))
OFFSET = 2.2
NOISE = 0.5


def decode(z: Tensor) -> Normal:
    """p(x|z) for latent values z of any shape: a Normal of that batch shape (chapter 06)."""
    mean = OFFSET + sum(scale * torch.tanh(weight * z + bias) for scale, weight, bias in UNITS)
    return Normal(mean, NOISE)


def terms(mu: float, sigma: float, x: float) -> dict[str, float]:
    """What the bars show for q(z) = N(mu, sigma^2) (chapter 06, eq. elbo-three-ways).

    Returns:
        reconstruction, kl, elbo, gap and log_p_x, in nats, by quadrature. The gap is computed
        from its own integral.
    """
    z = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    zero, one = z.new_zeros(()), z.new_ones(())
    q, prior = Normal(mu * one, sigma * one), Normal(zero, one)
    log_p_x_given_z, log_q = decode(z).log_prob(x * one), q.log_prob(z)
    log_joint = log_p_x_given_z + prior.log_prob(z)
    log_p_x = torch.trapezoid(log_joint.exp(), z).log()
    reconstruction = torch.trapezoid(log_q.exp() * log_p_x_given_z, z)
    kl = kl_divergence(q, prior)
    gap = torch.trapezoid(log_q.exp() * (log_q - log_joint + log_p_x), z)
    values = {"reconstruction": reconstruction, "kl": kl, "elbo": reconstruction - kl}
    values |= {"gap": gap, "log_p_x": log_p_x}
    return {name: value.item() for name, value in values.items()}


class ElboExplorer(InteractiveFigure):
    """q(z) = N(mu, sigma^2) over the posterior of a decoder with two tanh units.

    Attributes:
        mu, sigma: the variational parameters of q, from -3 to 3 and from 0.2 to 2.
        x: the observation, from -0.5 to 3.

    Raises:
        traitlets.TraitError: a value outside its range.
    """

    mu = Number(0.4, min=-3, max=3).tag(sync=True)
    sigma = Number(0.8, min=0.2, max=2).tag(sync=True)
    x = Number(1.5, min=-0.5, max=3).tag(sync=True)
    _units = traitlets.List([list(unit) for unit in UNITS]).tag(sync=True)
    _offset = traitlets.Float(OFFSET).tag(sync=True)
    _noise = traitlets.Float(NOISE).tag(sync=True)
    _colors = traitlets.List(list(LINE_COLORS)).tag(sync=True)
