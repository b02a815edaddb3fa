"""The latent explorer of chapter 12: slide z, see p(x|z); show an image, see q(z|x)."""

import math

import torch
import traitlets
from torch import Tensor

from em2vae.data import binarize
from em2vae.figures import DIGIT_COLORS
from em2vae.interactive.figure import InteractiveFigure, pack_bits, pack_half, pack_network
from em2vae.vae import VAE

ACTIVE_KL = 0.1  # nats; a dimension that carries less hardly moves the picture


class LatentExplorer(InteractiveFigure):
    """Sliders, a pad and pictures for the latent space of a VAE on 28x28 images.

    Args:
        vae: the model; its weights travel with the figure.
        x: images (N, 784) in [0, 1], binarized here; the map shows their codes.
        labels: their digits, (N,).

    Attributes:
        z: the K latent coordinates shown; set them to move the sliders, read them to follow.
        digit: index of the image shown as the original, or -1 for none.
        active: latent dimensions with a mean KL above 0.1 nats, the largest first.
        kl: mean KL of each active dimension over x, in nats (chapter 12).

    Raises:
        ValueError: labels do not match x, or the images are not what the VAE takes.
    """

    z = traitlets.List(traitlets.CFloat()).tag(sync=True)
    digit = traitlets.Int(0).tag(sync=True)
    active = traitlets.List(traitlets.Int()).tag(sync=True)
    kl = traitlets.List(traitlets.Float()).tag(sync=True)
    _decoder = traitlets.Dict().tag(sync=True)
    _decoder_weights = traitlets.Bytes().tag(sync=True)
    _encoder = traitlets.Dict().tag(sync=True)
    _encoder_weights = traitlets.Bytes().tag(sync=True)
    _images = traitlets.Bytes().tag(sync=True)
    _labels = traitlets.Bytes().tag(sync=True)
    _codes = traitlets.Bytes().tag(sync=True)
    _colors = traitlets.List(list(DIGIT_COLORS)).tag(sync=True)

    def __init__(self, vae: VAE, x: Tensor, labels: Tensor, digit: int = 0) -> None:
        if len(x) != len(labels):
            raise ValueError(f"x and labels must match, got {len(x)} and {len(labels)}")
        x = binarize(x)
        with torch.no_grad():
            q_z = vae.encode(x)
            kl = latent_kl(q_z)
        self._means = q_z.mean
        order = [k for k in kl.argsort(descending=True).tolist() if kl[k] > ACTIVE_KL]
        decoder, decoder_weights = pack_network(vae.decoder)
        encoder, encoder_weights = pack_network(vae.encoder)
        super().__init__(
            z=q_z.mean[digit].tolist(),
            digit=digit,
            active=order or [0],
            kl=[kl[k].item() for k in order or [0]],
            _decoder=decoder,
            _decoder_weights=decoder_weights,
            _encoder=encoder,
            _encoder_weights=encoder_weights,
            _images=pack_bits(x),
            _labels=labels.to(torch.uint8).numpy().tobytes(),
            _codes=pack_half(q_z.mean),
        )

    @traitlets.validate("z")
    def _check_z(self, proposal) -> list[float]:
        z = [float(value) for value in proposal["value"]]
        latent_dim = self._means.shape[-1]
        if len(z) != latent_dim or not all(map(math.isfinite, z)):
            raise traitlets.TraitError(f"z must hold {latent_dim} finite numbers, got {z}")
        return z

    @traitlets.validate("digit")
    def _check_digit(self, proposal) -> int:
        last = len(self._means) - 1
        if not -1 <= proposal["value"] <= last:
            raise traitlets.TraitError(f"digit must lie in -1..{last}, got {proposal['value']}")
        return proposal["value"]

    @traitlets.observe("digit")
    def _encode_digit(self, change) -> None:
        if change["new"] >= 0:
            self.z = self._means[change["new"]].tolist()


def latent_kl(q_z: torch.distributions.Normal) -> Tensor:
    """Mean KL(q(z_k|x) || N(0, 1)) over the images: (K,), in nats (chapter 12, eq. kl-per-dim)."""
    mu, var = q_z.mean, q_z.variance
    return 0.5 * (mu**2 + var - 1 - var.log()).mean(0)
