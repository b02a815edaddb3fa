"""Likelihoods of pictures that are not black and white, and their bits (chapter 17)."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution
from torch.nn.functional import logsigmoid

from em2vae.checks import check_float
from em2vae.densities import LogVarNormal

LARGEST = 30.0  # size of a log-scale, beyond which single precision runs out of numbers


def bits_per_dim(log_p: Tensor, data_dim: int, levels: int = 1) -> Tensor:
    """Bits that each of the D numbers of an image costs (chapter 17, eq. bits-per-dim).

    Args:
        log_p: log-probabilities of images, or bounds on them, any shape, in nats.
        data_dim: D.
        levels: where log_p is a log-density over [0, 1] of images from `dequantize`, the number
            of levels there; 1 where it is a log-probability.
    """
    return (math.log(levels) - log_p / data_dim) / math.log(2)


def dequantize(x: Tensor, generator: torch.Generator | None = None, levels: int = 256) -> Tensor:
    """A point of each grey value's cell, drawn uniformly (chapter 17, eq. dequantize).

    The mean of a log-density over these points, minus log(levels) a number, is a lower bound on
    the log-probability of the levels.

    Args:
        x: grey values k / (levels - 1), any shape.
        generator: source of the draw; by default one with a fixed seed.
        levels: of a grey value or of a colour.

    Returns:
        (k + u) / levels with u uniform in [0, 1), of the shape and type of x.

    Raises:
        TypeError, ValueError: x holds something else than such levels.
    """
    check_levels(x, levels)
    generator = generator or torch.Generator().manual_seed(0)
    u = torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x)
    return ((x * (levels - 1)).round() + u) / levels


def check_levels(x: Tensor, levels: int = 256) -> None:
    """Raise if x is not a float tensor of grey values k / (levels - 1) with k from 0 on."""
    check_float(x=x)
    k = x * (levels - 1)
    if not bool(((k - k.round()).abs() <= 1e-3).all() & (k >= 0).all() & (k < levels).all()):
        raise ValueError(
            f"x must hold whole grey values divided by {levels - 1}, from 0 to 1, for this "
            "likelihood: use (255 * x).round() / 255 for pictures of 8 bits"
        )


class DiscretizedLogistic(Distribution):
    """A logistic distribution cut into grey levels k / (levels - 1) (eq. discretized-logistic).

    Level k has the mass of the cell from k / levels to (k + 1) / levels; the first and the last
    take what lies beyond them, so that all levels together have mass 1. With two levels it is the
    Bernoulli of the logit (mu - 1/2) / scale.

    Args:
        mu: centre of the logistic on the interval [0, 1] that the cells divide, any shape.
        log_scale: log of its scale, broadcast with mu; beyond -30 and 30 it counts as these.
        levels: of a grey value or of a colour.

    Raises:
        TypeError: mu or log_scale is no float tensor.
        ValueError: levels is below 2.
    """

    def __init__(self, mu: Tensor, log_scale: Tensor, levels: int = 256) -> None:
        check_float(mu=mu, log_scale=log_scale)
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
            raise ValueError(f"levels must be a whole number of at least 2, got {levels!r}")
        self.mu, self.log_scale = torch.broadcast_tensors(mu, log_scale)
        self.levels, self.scale = levels, self.log_scale.clamp(-LARGEST, LARGEST).exp()
        super().__init__(self.mu.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P of grey values k / (levels - 1), each in nats: finite and at most 0."""
        k = (value * (self.levels - 1)).round()
        a = (k / self.levels - self.mu) / self.scale  # the cell's ends, in units of the scale
        b = ((k + 1) / self.levels - self.mu) / self.scale
        inner = (-torch.expm1(-1 / (self.levels * self.scale))).log()  # of b - a, not rounded
        first, last = k <= 0, k >= self.levels - 1
        # eq. log-difference: log(sigmoid(b) - sigmoid(a)), in three terms of one sign
        log_p = torch.where(last, 0.0, logsigmoid(b)) + torch.where(first, 0.0, logsigmoid(-a))
        return log_p + torch.where(first | last, 0.0, inner)

    @property
    def mean(self) -> Tensor:
        """Mean grey value: the masses above each of the inner edges, over levels - 1."""
        edges = (torch.arange(1, self.levels).to(self.mu) / self.levels).unbind()
        return sum(((self.mu - edge) / self.scale).sigmoid() for edge in edges) / len(edges)

    @torch.no_grad()
    def sample(self, sample_shape=(), generator: torch.Generator | None = None) -> Tensor:
        """Grey values k / (levels - 1), drawn: (*sample_shape, ...)."""
        shape = (*sample_shape, *self.batch_shape)
        u = torch.rand(shape, generator=generator, dtype=self.mu.dtype).to(self.mu)
        k = ((self.mu + self.scale * u.logit()) * self.levels).floor()
        return k.clamp(0, self.levels - 1) / (self.levels - 1)


class BernoulliPixels(nn.Module):
    """The network's one number for each pixel is the logit of ink (chapter 11)."""

    numbers = 1

    def forward(self, out: Tensor) -> Bernoulli:
        return Bernoulli(logits=out.flatten(-3), validate_args=False)


class GaussianPixels(nn.Module):
    """Two numbers for each pixel and colour: a mean and the log of a deviation (chapter 17)."""

    numbers = 2

    def forward(self, out: Tensor) -> LogVarNormal:
        mu, log_sigma = (part.flatten(-3) for part in out.chunk(2, dim=-3))
        return LogVarNormal(mu + 0.5, 2 * (log_sigma - 2).clamp(-LARGEST, LARGEST))


class LogisticPixels(nn.Module):
    """Two numbers for each pixel and colour: centre and log-scale of 256 levels (chapter 17)."""

    numbers = 2

    def forward(self, out: Tensor) -> DiscretizedLogistic:
        mu, log_scale = (part.flatten(-3) for part in out.chunk(2, dim=-3))
        return DiscretizedLogistic(mu + 0.5, log_scale - 2)


LIKELIHOODS = {
    "bernoulli": BernoulliPixels,
    "gaussian": GaussianPixels,
    "logistic": LogisticPixels,
}
