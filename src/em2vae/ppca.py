"""Probabilistic PCA: the book's reference model, whose log p(x) and posterior are exact."""

import torch
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal, Normal

from em2vae.checks import check_positive, check_table


class ProbabilisticPCA:
    """z ~ N(0, I), x | z ~ N(W z + mean, sigma^2 I) (chapter 01, eq. ppca).

    Args:
        weight: W, (D, K).
        mean: of x, (D,).
        sigma: standard deviation of the noise, positive.

    Raises:
        ValueError: shapes that do not match, or a sigma that is not positive.
    """

    def __init__(self, weight: Tensor, mean: Tensor, sigma: float) -> None:
        if weight.ndim != 2 or mean.shape != weight.shape[:1]:
            shapes = f"{tuple(weight.shape)} and {tuple(mean.shape)}"
            raise ValueError(f"weight and mean must be (D, K) and (D,), got {shapes}")
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma!r}")
        self.weight, self.mean, self.sigma = weight, mean, float(sigma)

    @classmethod
    def fit(cls, x: Tensor, latent_dim: int) -> "ProbabilisticPCA":
        """The maximum-likelihood model of data x (N, D), in closed form (Tipping & Bishop, 1999).

        Raises:
            TypeError, ValueError: x is not a finite table, latent_dim is not in 1, ..., D - 1, or x
                leaves no variance for the noise.
        """
        check_table(x, x.shape[-1])
        check_positive(latent_dim=latent_dim)
        if latent_dim >= x.shape[-1]:
            raise ValueError(f"latent_dim must be below D = {x.shape[-1]}, got {latent_dim}")
        variances, directions = torch.linalg.eigh(x.T.cov(correction=0))  # ascending
        noise = variances[:-latent_dim].mean()  # what the K directions leave over
        if not noise > len(variances) * torch.finfo(x.dtype).eps * variances[-1]:
            raise ValueError(f"x must vary in more than latent_dim = {latent_dim} directions")
        scales = (variances[-latent_dim:] - noise).clamp(min=0).sqrt()
        return cls(directions[:, -latent_dim:] * scales, x.mean(0), noise.sqrt().item())

    def decode(self, z: Tensor) -> Normal:
        """p(x|z) for latent points z (..., K): a Normal of batch shape (..., D)."""
        return Normal(z @ self.weight.T + self.mean, self.sigma)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x) = log N(x; mean, W W^T + sigma^2 I) for x (N, D): (N,), in nats.

        Chapter 01, eq. ppca-exact. Raises TypeError or ValueError if x is not (N, D).
        """
        check_table(x, len(self.mean))
        noise = torch.full_like(self.mean, self.sigma**2)
        return LowRankMultivariateNormal(self.mean, self.weight, noise).log_prob(x)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z|x) = N(M^-1 W^T (x - mean), sigma^2 M^-1), M = W^T W + sigma^2 I, batch shape (N,).

        Chapter 01, eq. ppca-posterior. Raises TypeError or ValueError if x is not (N, D).
        """
        check_table(x, len(self.mean))
        eye = torch.eye(self.weight.shape[-1]).to(self.weight)
        precision = self.weight.T @ self.weight / self.sigma**2 + eye  # M / sigma^2, (K, K)
        means = torch.linalg.solve(precision, self.weight.T @ (x - self.mean).T / self.sigma**2).T
        return MultivariateNormal(means, precision_matrix=precision)
