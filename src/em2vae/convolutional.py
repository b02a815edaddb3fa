"""A VAE of convolutions, for pictures of any size and number of colours (chapter 17)."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import conv_transpose2d

from em2vae.checks import check_positive
from em2vae.densities import LogVarNormal
from em2vae.pixels import LIKELIHOODS, LogisticPixels, check_levels
from em2vae.vae import VAE

FAST = torch.channels_last  # the order in memory of which the processor makes most


def conv_size(n: int, kernel: int = 3, stride: int = 2, padding: int = 1) -> int:
    """How many numbers a convolution makes of n in a row (chapter 17, eq. conv-size)."""
    return (n + 2 * padding - kernel) // stride + 1


class UpConv(nn.Conv2d):
    """Each number copied to a square of two by two, and a 3x3 convolution over the copies.

    Computed as the transposed convolution that it is, with a kernel of 4x4 made of the nine
    weights: four products for each output and channel in place of nine (chapter 17, eq. folded).
    """

    FOLD = torch.tensor([[0.0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])  # (a, b, c) to four

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fold = self.FOLD.to(self.weight)
        kernel = (fold @ self.weight @ fold.T).transpose(0, 1)  # (c_in, c_out, 4, 4)
        return conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)


class ConvEncoder(nn.Module):
    """q(z|x) from pictures: convolutions of stride 2, each half as high and wide as the last."""

    def __init__(self, shape, channels, size, latent_dim: int, activation) -> None:
        super().__init__()
        self.shape, layers = shape, []
        for c_in, c_out in pairwise([shape[0], *channels]):
            layers += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), activation()]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.heads = nn.Linear(channels[-1] * math.prod(size), 2 * latent_dim)

    def forward(self, x: Tensor) -> LogVarNormal:
        x = x.unflatten(-1, self.shape).contiguous(memory_format=FAST)  # (B, C, H, W)
        return LogVarNormal(*self.heads(self.body(x)).chunk(2, dim=-1))  # of (B, K) each


class ConvDecoder(nn.Module):
    """p(x|z) of pictures: small maps from z, each layer twice as high and wide as the last."""

    def __init__(self, shape, channels, size, latent_dim: int, activation, likelihood) -> None:
        super().__init__()
        self.first = (channels[-1], *size)
        self.start, layers = nn.Linear(latent_dim, math.prod(self.first)), [activation()]
        for c_in, c_out in pairwise(channels[::-1]):
            layers += [UpConv(c_in, c_out), activation()]
        self.body = nn.Sequential(*layers)
        self.head = UpConv(channels[0], likelihood.numbers * shape[0])
        self.likelihood = likelihood

    def forward(self, z: Tensor) -> Distribution:
        x = self.start(z.reshape(-1, z.shape[-1])).unflatten(-1, self.first)  # (M, C, h, w)
        out = self.head(self.body(x.contiguous(memory_format=FAST)))  # (M, numbers * C, H, W)
        out = out.to(self.head.weight)  # sums over pixels need single precision, also in autocast
        return self.likelihood(out.reshape(*z.shape[:-1], *out.shape[1:]))  # of (..., D)


def _check_sizes(shape, channels) -> None:
    if not (isinstance(shape, tuple | list) and len(shape) == 3):
        raise ValueError(f"shape must be (colours, height, width), got {shape!r}")
    check_positive(**{f"shape[{i}]": size for i, size in enumerate(shape)})
    if not isinstance(channels, tuple | list) or not channels:
        raise ValueError(f"channels must be a tuple of numbers of maps, got {channels!r}")
    check_positive(**{f"channels[{i}]": maps for i, maps in enumerate(channels)})
    if any(n % 2 ** len(channels) for n in shape[1:]):
        raise ValueError(
            f"height and width must be multiples of {2 ** len(channels)} to be halved "
            f"{len(channels)} times, got {shape!r}"
        )


class ConvVAE(VAE):
    """A VAE of convolutions, for pictures of any size and number of colours (chapter 17).

    Pictures stay rows: (B, D) with D = C * H * W, all of one colour first. Everything that a VAE
    does it does too: `fit`, `iwae_bound`, `save`, `elbo`, `sample`, `reconstruct`.

    Args:
        latent_dim: K, the number of latent dimensions.
        channels: of each layer of the encoder, which halves height and width; the decoder mirrors
            them.
        shape: (C, H, W): colours, height and width of a picture.
        likelihood: "bernoulli" for zeros and ones; "logistic" for 256 levels k / 255; "gaussian"
            for a density over [0, 1], of pictures from `dequantize`.
        activation: module class between layers.
        seed: fixes the initial weights and the stream of noise.

    Raises:
        ValueError: a size is not a whole number of at least 1, there is no layer, or the
            likelihood is unknown.
    """

    def __init__(
        self,
        latent_dim: int = 20,
        channels: tuple[int, ...] = (16, 32),
        shape: tuple[int, int, int] = (1, 28, 28),
        likelihood: str = "bernoulli",
        activation: type[nn.Module] = nn.SiLU,
        seed: int = 0,
    ) -> None:
        _check_sizes(shape, channels)
        if likelihood not in LIKELIHOODS:
            raise ValueError(
                f"likelihood must be one of {', '.join(LIKELIHOODS)}, got {likelihood!r}"
            )
        super().__init__(latent_dim, channels, math.prod(shape), activation, seed)
        size = shape[1:]
        for _ in channels:
            size = [conv_size(n) for n in size]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = ConvEncoder(shape, channels, size, latent_dim, activation)
            pixels = LIKELIHOODS[likelihood]()
            self.decoder = ConvDecoder(shape, channels, size, latent_dim, activation, pixels)
        self.binary = likelihood == "bernoulli"

    def check_images(self, x: Tensor) -> None:
        """Raise TypeError or ValueError unless x (B, D) is data of the model's likelihood."""
        super().check_images(x)
        if isinstance(self.decoder.likelihood, LogisticPixels):
            check_levels(x)
