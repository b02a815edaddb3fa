"""The latent explorer of chapter 12: slide z, see p(x|z); show an image, see q(z|x)."""

import torch
import traitlets
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from em2vae.data import binarize
from em2vae.figures import DIGIT_COLORS
from em2vae.interactive.figure import (
    InteractiveFigure,
    Numbers,
    check_images,
    check_index,
    check_model,
    pack_bits,
    pack_decoder,
    pack_encoder,
    pack_half,
    pack_labels,
)
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
        TypeError, ValueError: the VAE's latent_dim is 1, the images are not 28x28, or the labels
            are not their digits.
    """

    z = Numbers(count="_latent_dim").tag(sync=True)
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
        check_model(vae)
        check_images(x, labels)
        check_index("digit", digit, len(x), least=-1)
        x = binarize(x)
        with torch.no_grad():
            q_z = vae.encode(x)
            kl = latent_kl(q_z)
        self._means, self._latent_dim = q_z.mean, vae.latent_dim
        order = [k for k in kl.argsort(descending=True).tolist() if kl[k] > ACTIVE_KL]
        decoder, decoder_weights = pack_decoder(vae.decoder, q_z.mean)
        encoder, encoder_weights = pack_encoder(vae.encoder, x, vae.latent_dim)
        super().__init__(
            z=q_z.mean[digit].tolist() if digit >= 0 else [0.0] * vae.latent_dim,
            digit=digit,
            active=order or [0],
            kl=[kl[k].item() for k in order or [0]],
            _decoder=decoder,
            _decoder_weights=decoder_weights,
            _encoder=encoder,
            _encoder_weights=encoder_weights,
            _images=pack_bits(x),
            _labels=pack_labels(labels),
            _codes=pack_half(q_z.mean),
        )

    @traitlets.validate("digit")
    def _check_digit(self, proposal) -> int:
        return check_index("digit", proposal["value"], len(self._means), least=-1)

    @traitlets.observe("digit")
    def _encode_digit(self, change) -> None:
        if change["new"] >= 0:
            self.z = self._means[change["new"]].tolist()


def latent_kl(q_z: Normal) -> Tensor:
    """Mean KL(q(z_k|x) || N(0, 1)) over the images: (K,), in nats (chapter 12, eq. kl-per-dim)."""
    return kl_divergence(q_z, Normal(0.0, 1.0)).mean(0)
