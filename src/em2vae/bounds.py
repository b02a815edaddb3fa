"""Bounds on log p(x) that are tighter than the ELBO (chapters 02, 11 and 14)."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from em2vae.vae import VAE, check_data, check_positive

VALUES_AT_ONCE = 20_000_000  # pixels decoded in one go: about 0.3 GB at the peak


def log_weights(vae: VAE, x: Tensor, n_samples: int, generator=None) -> Tensor:
    """log w = log p(x|z) + log p(z) - log q(z|x) for S draws z ~ q(z|x): (S, B), in nats."""
    q_z = vae.encoder(x)
    z = vae.rsample(q_z, n_samples, generator)  # (S, B, K)
    log_p_z = Normal(torch.zeros_like(q_z.mean), 1.0).log_prob(z).sum(-1)  # over latent dimensions
    log_p_x_given_z = vae.decoder(z).log_prob(x).sum(-1)  # over pixels
    return log_p_x_given_z + log_p_z - q_z.log_prob(z).sum(-1)


def iwae_bound(
    vae: VAE, x: Tensor, n_samples: int = 500, generator: torch.Generator | None = None
) -> Tensor:
    """The importance-weighted bound log (1/S) sum_s w_s on log p(x) (chapter 11, eq. iwae).

    With one sample its expectation is the ELBO; it rises in expectation with every further
    sample towards log p(x) (Burda et al., 2015). Differentiable; wrap it in `torch.no_grad()`
    to evaluate.

    Args:
        vae: the model.
        x: binary images (B, D).
        n_samples: S, draws of z per image.
        generator: source of the noise; the model's own stream by default.

    Returns:
        The bound for each image, (B,), in nats.

    Raises:
        TypeError, ValueError: x is not a binary float tensor (B, D), or n_samples < 1.
    """
    check_data(x, vae.data_dim, binary=True)
    check_positive(n_samples=n_samples)
    step = max(1, VALUES_AT_ONCE // max(1, x.numel()))
    chunks = [min(step, n_samples - done) for done in range(0, n_samples, step)]
    log_sums = [log_weights(vae, x, size, generator).logsumexp(0) for size in chunks]
    return torch.stack(log_sums).logsumexp(0) - math.log(n_samples)
