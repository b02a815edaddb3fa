"""log p(x): bounds that are tighter than the ELBO, and its exact value for 2-D latents."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import softplus

from em2vae.checks import check_data, check_like, check_positive
from em2vae.densities import log_variance
from em2vae.vae import VAE

VALUES_AT_ONCE = 1_000_000  # pixels decoded in one go: few enough to stay near the processor


def log_weights(vae: VAE, x: Tensor, n_samples: int, generator=None) -> Tensor:
    """log w = log p(x|z) + log p(z) - log q(z|x) for S draws z ~ q(z|x): (S, B), in nats."""
    q_z = vae.encoder(x)
    eps = vae.noise(q_z.mean, n_samples, generator)  # (S, B, K)
    z = q_z.mean + q_z.stddev * eps  # eq. reparameterize
    log_p_x_given_z = vae.decoder(z).log_prob(x).sum(-1)  # over pixels
    # log p(z) - log q(z|x), the latter from the eps that made z: rounding leaves little of it in z.
    log_ratio = 0.5 * (eps**2 + log_variance(q_z) - z**2).sum(-1)  # over latent dimensions
    return log_p_x_given_z + log_ratio


def iwae_bound(
    vae: VAE, x: Tensor, n_samples: int = 500, generator: torch.Generator | None = None
) -> Tensor:
    """The importance-weighted bound log (1/S) sum_s w_s on log p(x) (chapter 11, eq. iwae).

    With one sample its expectation is the ELBO; it rises in expectation with every further
    sample towards log p(x) (Burda et al., 2016). Differentiable; wrap it in `torch.no_grad()`
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
    vae.check_images(x)
    if x.is_floating_point():  # letters are whole numbers, whatever the weights are
        check_like(x, next(vae.parameters(), x))
    check_positive(n_samples=n_samples)
    step = max(1, VALUES_AT_ONCE // max(1, x.numel()))
    chunks = [min(step, n_samples - done) for done in range(0, n_samples, step)]
    log_sums = [log_weights(vae, x, size, generator).logsumexp(0) for size in chunks]
    return torch.stack(log_sums).logsumexp(0) - math.log(n_samples)


def log_marginal_2d(vae: VAE, x: Tensor) -> Tensor:
    """log p(x) of a VAE with two latent dimensions, by quadrature (chapter 09, eq. quadrature).

    The midpoint rule on [-7, 7]^2, outside of which the prior has 5e-12 of its mass. Cells of
    side 0.1 are cut in four, for the images that still need it and where the integrand is within
    15 nats of its largest value, until halving the step changes log p(x) by less than 1e-3 nats.
    With a smooth activation one or two halvings do; the kinks of ReLU need more, and more time.
    A peak of the posterior that is far narrower than a cell, below 0.02, may go unseen.

    Args:
        vae: a model with latent_dim = 2.
        x: binary images (B, D).

    Returns:
        log p(x) for each image, (B,), in nats, without a gradient.

    Raises:
        TypeError, ValueError: x is not a binary float tensor (B, D), or latent_dim is not 2.
    """
    check_data(x, vae.data_dim, binary=True)
    check_like(x, next(vae.parameters(), x))
    if vae.latent_dim != 2:
        raise ValueError(f"log_marginal_2d needs latent_dim = 2, got {vae.latent_dim}")
    return torch.cat([_quadrature(vae, part) for part in x.split(500)])


@torch.no_grad()
def _quadrature(vae: VAE, x: Tensor) -> Tensor:
    step = 0.1
    axis = (torch.arange(-70, 70) + 0.5) * step
    z = torch.cartesian_prod(axis, axis).to(x)  # (G, 2), a grid that all images share
    values = _log_joint_grid(vae, x, z)  # (B, G)
    log_p = values.logsumexp(1) + 2 * math.log(step)
    image, cell = (values > values.amax(1, keepdim=True) - 15).nonzero(as_tuple=True)
    z = z[cell]  # from here on each image has its own points: (M, 2), of images (M,)
    quarters = torch.cartesian_prod(torch.tensor([-0.25, 0.25]), torch.tensor([-0.25, 0.25])).to(x)
    while len(image):
        z, image = (z[:, None] + step * quarters).flatten(0, 1), image.repeat_interleave(4)
        step /= 2
        values = _log_joint(vae, x, image, z)
        top = torch.full_like(log_p, -math.inf).scatter_reduce(0, image, values, "amax")
        sums = torch.zeros_like(log_p).index_add(0, image, (values - top[image]).exp())
        finer = top + sums.log() + 2 * math.log(step)
        moving = (finer - log_p).abs() >= 1e-3  # no image that has settled is among the points
        log_p = torch.where(top > -math.inf, finer, log_p)
        keep = moving[image] & (values > top[image] - 15)
        z, image = z[keep], image[keep]
    return log_p


def _log_joint_grid(vae: VAE, x: Tensor, z: Tensor) -> Tensor:
    """log p(x, z) for every image (B, D) and every point (G, K): (B, G), in nats."""
    parts = []
    for points in z.split(max(1, VALUES_AT_ONCE // x.shape[-1])):
        logits = vae.decoder(points).logits  # (G, D)
        log_p_x_given_z = x @ logits.T - softplus(logits).sum(-1)  # sum over pixels
        parts.append(log_p_x_given_z + _log_prior(points))
    return torch.cat(parts, dim=1)


def _log_joint(vae: VAE, x: Tensor, image: Tensor, z: Tensor) -> Tensor:
    """log p(x, z) for pairs of an image, by its index (M,), and a point (M, K): (M,), in nats."""
    size = max(1, VALUES_AT_ONCE // x.shape[-1])
    pairs = zip(image.split(size), z.split(size), strict=True)
    return torch.cat([vae.decoder(p).log_prob(x[i]).sum(-1) + _log_prior(p) for i, p in pairs])


def _log_prior(z: Tensor) -> Tensor:
    return Normal(torch.zeros_like(z), 1.0).log_prob(z).sum(-1)  # over latent dimensions
