"""Autoencoder against VAE (chapter 10): two latent maps, the same draws, the same walk."""

import torch
import traitlets
from torch import Tensor, nn

from em2vae.figures import DIGIT_COLORS
from em2vae.interactive.figure import (
    PIXELS,
    InteractiveFigure,
    Number,
    Numbers,
    check_images,
    check_index,
    check_model,
    pack_bits,
    pack_decoder,
    pack_half,
    pack_labels,
)
from em2vae.vae import VAE


class AeVersusVae(InteractiveFigure):
    """The codes and decoders of a 2-D autoencoder and a 2-D VAE, side by side.

    Args:
        encoder, decoder: the autoencoder's networks, of Linear layers and activations; images
            (N, 784) to codes (N, 2), and codes to logits (N, 784).
        vae: the model to compare with, latent_dim = 2.
        x: binary images (N, 784), whose codes both maps show.
        labels: their digits, (N,).
        start, end: indices of the two images between which the walk leads.

    Attributes:
        start, end: as above; set them to choose another pair.
        walked: how far along the walk both models are, in 0..1.
        scale: c, by which the autoencoder's codes are multiplied and its decoder's input divided
            (chapter 10, eq. ae-scale).
        code, z: the point shown on the autoencoder's map, in scaled units, and on the VAE's.

    Raises:
        TypeError, ValueError: x is not a binary table of 28x28 images, labels are not their
            digits, or codes do not have two dimensions.
        traitlets.TraitError: start or end names no image.
    """

    start = traitlets.Int().tag(sync=True)
    end = traitlets.Int().tag(sync=True)
    walked = Number(0.5, min=0.0, max=1.0).tag(sync=True)
    scale = Number(1.0, min=0.1, max=10.0).tag(sync=True)
    code = Numbers([0.0, 0.0], 2).tag(sync=True)
    z = Numbers([0.0, 0.0], 2).tag(sync=True)
    _decoders = traitlets.List(traitlets.Dict()).tag(sync=True)
    _ae_weights = traitlets.Bytes().tag(sync=True)
    _vae_weights = traitlets.Bytes().tag(sync=True)
    _ae_codes = traitlets.Bytes().tag(sync=True)
    _vae_codes = traitlets.Bytes().tag(sync=True)
    _images = traitlets.Bytes().tag(sync=True)
    _labels = traitlets.Bytes().tag(sync=True)
    _colors = traitlets.List(list(DIGIT_COLORS)).tag(sync=True)

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        vae: VAE,
        x: Tensor,
        labels: Tensor,
        start: int = 0,
        end: int = 1,
    ) -> None:
        check_images(x, labels, binary=True)
        check_model(vae, latent_dim=2)
        self._n_images = len(x)
        for name, index in (("start", start), ("end", end)):
            check_index(name, index, len(x))
        with torch.no_grad():
            codes = (codes_of(encoder, x), vae.encode(x).mean)
        ae, ae_weights = pack_decoder(decoder, codes[0])
        vae_decoder, vae_weights = pack_decoder(vae.decoder, codes[1])
        halfway = [(0.5 * (points[start] + points[end])).tolist() for points in codes]
        super().__init__(
            start=start,
            end=end,
            code=halfway[0],
            z=halfway[1],
            _decoders=[ae, vae_decoder],
            _ae_weights=ae_weights,
            _vae_weights=vae_weights,
            _ae_codes=pack_half(codes[0]),
            _vae_codes=pack_half(codes[1]),
            _images=pack_bits(x),
            _labels=pack_labels(labels),
        )

    @traitlets.validate("start", "end")
    def _check_index(self, proposal) -> int:
        return check_index(proposal["trait"].name, proposal["value"], self._n_images)


def codes_of(encoder: nn.Module, x: Tensor) -> Tensor:
    """The codes (N, 2) of images x (N, 784); ValueError if the encoder makes something else."""
    wrong = f"encoder must turn images (N, {PIXELS}) into codes of shape (N, 2)"
    try:
        codes = encoder(x)
    except RuntimeError as error:
        raise ValueError(f"{wrong}, and fails: {error}") from error
    if not isinstance(codes, Tensor) or codes.shape != (len(x), 2):
        raise ValueError(f"{wrong}, got {tuple(getattr(codes, 'shape', ()))}")
    return codes
