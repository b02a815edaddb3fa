"""The normal distribution that a network gives by its mean and its log-variance (chapter 11)."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal, register_kl

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class LogVarNormal(Normal):
    """N(mu, exp(log_var)) that keeps its log-variance: `.log_var`, of the shape of `.mean`.

    Whoever takes the logarithm of a variance that was computed from it gets an infinite number, or
    a gradient that is none, where the variance is too small or too large for its type: in float32
    below a log-variance of -103 or above 88. Entropy, density and KL here use the log-variance.

    Args:
        mu: the mean, (..., K).
        log_var: log sigma^2, (..., K).
    """

    def __init__(self, mu: Tensor, log_var: Tensor) -> None:
        super().__init__(mu, (0.5 * log_var).exp(), validate_args=False)
        self.log_var = log_var.expand(self.loc.shape)

    def expand(self, batch_shape: torch.Size, _instance=None) -> "LogVarNormal":
        """The same distribution, repeated to the batch shape."""
        return LogVarNormal(self.loc.expand(batch_shape), self.log_var.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """log N(value; mu, sigma^2) of each number, in nats."""
        eps = (value - self.loc) / self.scale
        return -0.5 * (eps**2 + self.log_var) - HALF_LOG_2PI

    def entropy(self) -> Tensor:
        """-E[log q] of each number, in nats."""
        return 0.5 * (1 + self.log_var) + HALF_LOG_2PI


def log_variance(q: Normal) -> Tensor:
    """log sigma^2 of any Normal, (..., K): the number that it was made of where it keeps it."""
    return q.log_var if isinstance(q, LogVarNormal) else 2 * q.scale.log()


@register_kl(LogVarNormal, Normal)
def _kl_to_normal(q: LogVarNormal, p: Normal) -> Tensor:
    log_ratio = q.log_var - log_variance(p)
    distance = (q.loc - p.loc) / p.scale
    return 0.5 * (log_ratio.expm1() - log_ratio + distance**2)
