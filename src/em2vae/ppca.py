"""Probabilistic PCA: the book's reference model, whose log p(x) and posterior are exact."""

import math

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from em2vae.checks import check_float, check_like, check_positive, check_table


class ProbabilisticPCA:
    """z ~ N(0, I), x | z ~ N(W z + mean, sigma^2 I) (chapter 01, eq. ppca).

    Args:
        weight: W, (D, K).
        mean: of x, (D,).
        sigma: standard deviation of the noise, positive.

    Raises:
        TypeError, ValueError: shapes, dtypes or devices that do not match, values that are not
            finite, or a sigma that is not positive.
    """

    def __init__(self, weight: Tensor, mean: Tensor, sigma: float) -> None:
        if weight.ndim != 2 or mean.shape != weight.shape[:1]:
            shapes = f"{tuple(weight.shape)} and {tuple(mean.shape)}"
            raise ValueError(f"weight and mean must be (D, K) and (D,), got {shapes}")
        check_float(weight=weight, mean=mean)
        check_like(mean, weight, "mean")
        if not (weight.isfinite().all() and mean.isfinite().all()):
            raise ValueError("weight and mean must be finite")
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be positive and finite, got {sigma!r}")
        self.weight, self.mean, self.sigma = weight, mean, float(sigma)

    @classmethod
    def fit(cls, x: Tensor, latent_dim: int) -> "ProbabilisticPCA":
        """The maximum-likelihood model of data x (N, D), in closed form (Tipping & Bishop, 1999).

        Raises:
            TypeError, ValueError: x is not a finite table, latent_dim is not in 1, ..., D - 1, or x
                leaves no variance for the noise.
        """
        check_float(x=x)
        check_table(x, x.shape[-1] if x.ndim else 0)
        check_positive(latent_dim=latent_dim)
        if latent_dim >= x.shape[-1]:
            raise ValueError(f"latent_dim must be below D = {x.shape[-1]}, got {latent_dim}")
        # Variances have twice the digits of deviations: in float32 the noise would drown.
        covariance = x.double().T.cov(correction=0)
        variances, directions = torch.linalg.eigh(covariance)  # ascending
        noise = variances[:-latent_dim].mean()  # what the K directions leave over
        rounding = max(
            len(variances) * torch.finfo(torch.double).eps, torch.finfo(x.dtype).eps ** 2
        )
        if not noise > rounding * variances[-1]:
            raise ValueError(f"x must vary in more than latent_dim = {latent_dim} directions")
        scales = (variances[-latent_dim:] - noise).clamp(min=0).sqrt()
        weight = directions[:, -latent_dim:] * scales
        return cls(weight.to(x), x.double().mean(0).to(x), noise.sqrt().item())

    def decode(self, z: Tensor) -> Normal:
        """p(x|z) for latent points z (..., K): a Normal of batch shape (..., D).

        Raises TypeError or ValueError for a wrong last dimension, dtype or device.
        """
        check_float(z=z)
        if not z.ndim or z.shape[-1] != self.weight.shape[1]:
            shape = tuple(z.shape)
            raise ValueError(f"z must have shape (..., {self.weight.shape[1]}), got {shape}")
        check_like(z, self.weight, "z")
        return Normal(z @ self.weight.T + self.mean, self.sigma)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x) = log N(x; mean, W W^T + sigma^2 I) for x (N, D): (N,), in nats.

        The quadratic form is |x - mean - W m|^2 / sigma^2 + |m|^2 with the posterior mean m, a sum
        of squares: the difference of two large numbers, which Woodbury's identity gives for it,
        would lose thousands of nats in float32 where sigma is small.

        Chapter 01, eq. ppca-exact. Raises TypeError or ValueError if x is not (N, D).
        """
        means, half = self._posterior(x)
        residual = x - self.mean - means @ self.weight.T
        squares = residual.square().sum(-1) / self.sigma**2 + means.square().sum(-1)
        n_pixels = len(self.mean)
        log_det = 2 * (n_pixels * math.log(self.sigma) - half.diagonal().log().sum())
        return -0.5 * (squares + log_det + n_pixels * math.log(2 * math.pi))

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z|x) = N(M^-1 W^T (x - mean), sigma^2 M^-1), M = W^T W + sigma^2 I, batch shape (N,).

        Chapter 01, eq. ppca-posterior. Raises TypeError or ValueError if x is not (N, D).
        """
        means, half = self._posterior(x)
        return MultivariateNormal(means, scale_tril=half)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means (N, K) of p(z|x) and the Cholesky factor (K, K) of its covariance.

        M itself is never formed: [W; sigma I] = Q R has R^T R = M, and half of the digits that M
        would need. The columns stand in reverse, so that R^-1, reversed again, is lower triangular.
        """
        check_table(x, len(self.mean))
        check_like(x, self.weight)
        eye = torch.eye(self.weight.shape[1]).to(self.weight)
        q, r = torch.linalg.qr(torch.cat([self.weight, self.sigma * eye]).flip(1))
        inverse = torch.linalg.solve_triangular(r, eye, upper=True).flip(0, 1)
        means = (x - self.mean) @ q[: len(self.mean)].flip(1) @ inverse.T
        return means, self.sigma * inverse * inverse.diagonal().sign()
