"""Mixture models and their EM algorithm (chapter 03)."""

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from em2vae.checks import check_data, check_float, check_like, check_positive, check_table


class Mixture:
    """What EM shares between mixtures; each brings its `log_joint` and its `m_step`."""

    def __init__(self, weights: Tensor, means: Tensor) -> None:
        check_float(weights=weights, means=means)
        if means.ndim != 2 or weights.shape != means.shape[:1]:
            shapes = f"{tuple(weights.shape)} and {tuple(means.shape)}"
            raise ValueError(f"weights and means must be (K,) and (K, D), got {shapes}")
        if not (weights >= 0).all() or abs(weights.sum() - 1) > 1e-5:
            raise ValueError(f"weights must be probabilities that sum to one, got {weights}")
        if weights.dtype != means.dtype or not means.isfinite().all():
            raise ValueError("means must be finite and of the weights' dtype")
        self.weights, self.means = weights / weights.sum(), means

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x) = log sum_k p(x, z = k) for data x (N, D): (N,), in nats (eq. mixture)."""
        return self.log_joint(x).logsumexp(-1)  # over components

    def e_step(self, x: Tensor) -> Tensor:
        """Responsibilities p(z = k | x) for data x (N, D): (N, K), rows sum to one (eq. e-step)."""
        return self.log_joint(x).softmax(-1)  # over components

    def elbo(self, x: Tensor, responsibilities: Tensor) -> Tensor:
        """The bound E_q[log p(x, z) - log q(z)] on log p(x) (chapter 03, eq. mixture-bound).

        Args:
            x: data (N, D).
            responsibilities: q(z = k) for each example, (N, K), rows sum to one.

        Returns:
            The bound for each example, (N,), in nats.

        Raises:
            TypeError, ValueError: x or responsibilities are not what is described here.
        """
        log_joint = self.log_joint(x)
        check_responsibilities(responsibilities, log_joint)
        energy = (responsibilities * log_joint).where(responsibilities > 0, 0)  # 0 log 0 = 0
        return (energy + torch.special.entr(responsibilities)).sum(-1)  # over components

    def fit(self, x: Tensor, n_steps: int = 100, tolerance: float = 0.0) -> list[float]:
        """Maximize the mean log-likelihood of data x (N, D) by EM, in place (chapter 03).

        Args:
            x: data (N, D).
            n_steps: M-steps at most.
            tolerance: stop once a step gains less than this, in nats an example.

        Returns:
            The mean bound after the first E-step and after the E-step that follows each M-step,
            where it equals the mean log-likelihood, in nats: at most n_steps + 1 numbers.
        """
        check_positive(n_steps=n_steps)
        responsibilities = self.e_step(x)
        bounds = [self.elbo(x, responsibilities).mean().item()]
        for _ in range(n_steps):
            self.m_step(x, responsibilities)
            responsibilities = self.e_step(x)
            bounds.append(self.elbo(x, responsibilities).mean().item())
            if bounds[-1] - bounds[-2] < tolerance:
                break
        return bounds


class GaussianMixture(Mixture):
    """p(x) = sum_k pi_k N(x; mu_k, Sigma_k) (chapter 03, eq. gaussian-mixture).

    Args:
        weights: pi, (K,), probabilities that sum to one.
        means: mu, (K, D).
        covariances: Sigma, (K, D, D), symmetric, every eigenvalue at least min_variance.
        min_variance: no M-step lets a variance, in any direction, fall below it. Without such a
            floor the likelihood has no maximum: a component that shrinks onto one example lifts
            it without end.

    Raises:
        TypeError, ValueError: shapes or dtypes that do not match, weights that are no
            probabilities, a covariance that is not symmetric or has a variance below min_variance.
    """

    def __init__(
        self, weights: Tensor, means: Tensor, covariances: Tensor, min_variance: float = 1e-6
    ) -> None:
        super().__init__(weights, means)
        check_float(covariances=covariances)
        n_components, data_dim = means.shape
        if covariances.shape != (n_components, data_dim, data_dim):
            expected = (n_components, data_dim, data_dim)
            raise ValueError(f"covariances must be {expected}, got {tuple(covariances.shape)}")
        if not min_variance > 0:
            raise ValueError(f"min_variance must be positive, got {min_variance!r}")
        if covariances.dtype != means.dtype or not torch.allclose(covariances, covariances.mT):
            raise ValueError("covariances must be symmetric and of the means' dtype")
        variances = torch.linalg.eigvalsh(covariances)  # (K, D), ascending
        if (variances[:, 0] + rounding(variances) < min_variance * (1 - 1e-5)).any():
            least = variances.min().item()
            raise ValueError(f"covariances must have no variance below {min_variance}, got {least}")
        self.covariances, self.min_variance = covariances, min_variance

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z = k) = log pi_k + log N(x; mu_k, Sigma_k) for x (N, D): (N, K), in nats."""
        check_table(x, self.means.shape[-1])
        check_like(x, self.means)
        components = MultivariateNormal(self.means, self.covariances)  # batch shape (K,)
        return self.weights.log() + components.log_prob(x[:, None])  # (N, K)

    def m_step(self, x: Tensor, responsibilities: Tensor) -> None:
        """Set weights, means and covariances to the bound's maximum (chapter 03, eq. m-step).

        Eigenvalues of a covariance below min_variance are lifted to it, which is the maximum under
        that constraint, so the bound still never falls. They are lifted further where rounding
        demands it: in float32 to about D millionths of the component's largest. A component that no
        example belongs to keeps its mean and covariance, and its weight becomes zero.
        """
        check_table(x, self.means.shape[-1])
        check_like(x, self.means)
        check_responsibilities(responsibilities, x.new_empty(len(x), len(self.weights)))
        self.weights, shares, alive = share_out(responsibilities)
        means = shares.T @ x  # (K, D)
        centered = x[:, None] - means  # (N, K, D)
        scatter = torch.einsum("nk,nkd,nke->kde", shares, centered, centered)
        variances, directions = torch.linalg.eigh(scatter)
        floor = rounding(variances).clamp(min=self.min_variance)[:, None]
        lifted = directions * variances.maximum(floor)[:, None] @ directions.mT
        self.means = means.where(alive[:, None], self.means)
        self.covariances = ((lifted + lifted.mT) / 2).where(alive[:, None, None], self.covariances)


class BernoulliMixture(Mixture):
    """p(x) = sum_k pi_k prod_d Bernoulli(x_d; mu_kd) (chapter 03, eq. bernoulli-mixture).

    Args:
        weights: pi, (K,), probabilities that sum to one.
        means: mu, (K, D), the probability of ink in each pixel, in (0, 1).
        min_mean: every M-step keeps the means in [min_mean, 1 - min_mean]. Without it a pixel that
            never shows ink in training would make any later image that shows it impossible.

    Raises:
        TypeError, ValueError: shapes or dtypes that do not match, weights that are no
            probabilities, means outside [min_mean, 1 - min_mean], min_mean outside (0, 1/2).
    """

    def __init__(self, weights: Tensor, means: Tensor, min_mean: float = 1e-3) -> None:
        super().__init__(weights, means)
        if not 0 < min_mean < 0.5:
            raise ValueError(f"min_mean must lie between 0 and 1/2, got {min_mean!r}")
        if not ((means - 0.5).abs() <= 0.5 - min_mean + 1e-6).all():
            raise ValueError(f"means must lie in [{min_mean}, 1 - {min_mean}]")
        self.min_mean = min_mean

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z = k) for binary x (N, D): (N, K), in nats."""
        check_data(x, self.means.shape[-1], binary=True)
        check_like(x, self.means)
        empty = (-self.means).log1p().sum(-1)  # over pixels: no ink anywhere
        return self.weights.log() + empty + x @ self.means.logit().T  # (N, K)

    def m_step(self, x: Tensor, responsibilities: Tensor) -> None:
        """Set weights and means to the bound's maximum under min_mean (chapter 03, eq. m-step).

        A component that no example belongs to keeps its means, and its weight becomes zero.
        """
        check_data(x, self.means.shape[-1], binary=True)
        check_like(x, self.means)
        check_responsibilities(responsibilities, x.new_empty(len(x), len(self.weights)))
        self.weights, shares, alive = share_out(responsibilities)
        means = (shares.T @ x).clamp(self.min_mean, 1 - self.min_mean)  # (K, D)
        self.means = means.where(alive[:, None], self.means)


def share_out(responsibilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What an M-step needs of the responsibilities (N, K).

    Returns:
        The weights (K,), each column divided by its sum (N, K), and whether the sum is large
        enough to divide by (K,).
    """
    counts = responsibilities.sum(0)  # (K,), how many examples each component answers for
    least = torch.finfo(counts.dtype).tiny
    return counts / counts.sum(), responsibilities / counts.clamp(min=least), counts >= least


def rounding(variances: Tensor) -> Tensor:
    """The variance that rounding hides beside the largest of variances (K, D): (K,)."""
    return 10 * variances.shape[-1] * torch.finfo(variances.dtype).eps * variances[:, -1]


def check_responsibilities(responsibilities: Tensor, like: Tensor) -> None:
    """Raise unless they are a distribution over components for each example, like (N, K)."""
    check_float(responsibilities=responsibilities)
    if responsibilities.shape != like.shape:
        expected, shape = tuple(like.shape), tuple(responsibilities.shape)
        raise ValueError(f"responsibilities must be {expected}, got {shape}")
    check_like(responsibilities, like, "responsibilities")
    sums = responsibilities.sum(-1)
    if not (responsibilities >= 0).all() or (sums - 1).abs().max() > 1e-4:
        raise ValueError("responsibilities must be non-negative and sum to one in each row")
