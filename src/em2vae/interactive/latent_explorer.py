"""The latent explorer of chapter 12: slide z, see p(x|z); show an image, see q(z|x)."""

import math
import string

import torch
import traitlets
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from em2vae.checks import check_data, check_positive
from em2vae.convolutional import ConvVAE
from em2vae.data import binarize
from em2vae.figures import DIGIT_COLORS
from em2vae.interactive.figure import (
    DIGIT,
    InteractiveFigure,
    Numbers,
    check_images,
    check_index,
    check_labels,
    check_model,
    pack_bits,
    pack_decoder,
    pack_encoder,
    pack_half,
    pack_labels,
    pack_maps,
)
from em2vae.pixels import LIKELIHOODS
from em2vae.vae import VAE

ACTIVE_KL = 0.1  # nats; a dimension that carries less hardly moves the picture
MARKS = string.ascii_uppercase + string.ascii_lowercase  # of labels with names, on the map
UNNAMED = "•"  # the mark of pictures without labels


class LatentExplorer(InteractiveFigure):
    """Sliders, a pad and pictures for the latent space of a VAE.

    Args:
        vae: the model, a VAE or a ConvVAE; its weights travel with the figure.
        x: images (N, D) in [0, 1]; the map shows their codes. Digits are binarized here.
        labels: their digits, (N,); of pictures of your own the numbers of their names, or None.
        digit: the image that is shown first, or -1 for none.
        shape: channels (1 or 3), height and width of pictures of your own, with D the product. They
            are shown and encoded as they are. By default the images are digits of 28x28 pixels.
        names: of the labels of pictures of your own: at most 52.

    Attributes:
        z: the K latent coordinates shown; set them to move the sliders, read them to follow.
        digit: index of the image shown as the original, or -1 for none.
        active: latent dimensions with a mean KL above 0.1 nats, the largest first.
        kl: mean KL of each active dimension over x, in nats (chapter 12).

    Raises:
        TypeError, ValueError: the VAE's latent_dim is 1, the images are not of that shape, or the
            labels are not their digits, or not numbers of names.
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
    _shape = traitlets.List(list(DIGIT)).tag(sync=True)  # channels, height, width
    _ink = traitlets.Bool(True).tag(sync=True)  # 1 is black, and a pixel is a bit
    _noun = traitlets.Unicode("test digit").tag(sync=True)
    _names = traitlets.List([f"a {n}" for n in range(10)]).tag(sync=True)  # none: by their numbers
    _marks = traitlets.List([str(n) for n in range(10)]).tag(sync=True)
    _legend = traitlets.Unicode().tag(sync=True)
    _likelihood = traitlets.Unicode("bernoulli").tag(sync=True)  # a name in LIKELIHOODS

    def __init__(
        self,
        vae: VAE,
        x: Tensor,
        labels: Tensor | None = None,
        digit: int = 0,
        shape: tuple[int, int, int] | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        if shape is None:
            check_model(vae)
            check_images(x)
            check_labels(labels, len(x))
            x, traits = binarize(x), {}
        else:
            check_pictures(vae, x, labels, shape, names)
            x, labels, traits = describe(x, labels, shape, names)
        check_index("digit", digit, len(x), least=-1)
        with torch.no_grad():
            q_z = vae.encode(x)
            kl = latent_kl(q_z)
        self._means, self._latent_dim = q_z.mean, vae.latent_dim
        order = [k for k in kl.argsort(descending=True).tolist() if kl[k] > ACTIVE_KL]
        if isinstance(vae, ConvVAE):
            decoder, decoder_weights = pack_maps(vae.decoder, vae.decoder.first)
            encoder, encoder_weights = pack_maps(vae.encoder, vae.encoder.shape)
            pixels = type(vae.decoder.likelihood)
            traits["_likelihood"] = next(
                name for name in LIKELIHOODS if LIKELIHOODS[name] is pixels
            )
        else:
            decoder, decoder_weights = pack_decoder(vae.decoder, q_z.mean, pixels=x.shape[1])
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
            _images=pack_bits(x) if shape is None else pack_bytes(x),
            _labels=pack_labels(labels),
            _codes=pack_half(q_z.mean),
            **traits,
        )

    @traitlets.validate("digit")
    def _check_digit(self, proposal) -> int:
        return check_index("digit", proposal["value"], len(self._means), least=-1)

    @traitlets.observe("digit")
    def _encode_digit(self, change) -> None:
        if change["new"] >= 0:
            self.z = self._means[change["new"]].tolist()


def check_pictures(vae: VAE, x: Tensor, labels, shape, names) -> None:
    """Raise unless x holds pictures of that shape, which vae models, and labels count names."""
    if not isinstance(shape, tuple | list) or len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"shape must be (1 or 3 channels, height, width), got {shape!r}")
    check_positive(height=shape[1], width=shape[2])
    check_model(vae, shape=shape)
    check_data(x, math.prod(shape))
    if labels is None:
        return
    if not 1 <= len(names) <= len(MARKS) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"names must hold 1 to {len(MARKS)} texts, one a label, got {names!r:.99}")
    check_labels(labels, len(x), len(names))


def describe(x: Tensor, labels: Tensor | None, shape, names) -> tuple[Tensor, Tensor, dict]:
    """Pictures in 256 levels, their labels, and the traits in which they differ from digits."""
    named = labels is not None
    marks = list(MARKS[: len(names)]) if named else [UNNAMED]
    marked = ", ".join(f"{mark} “{name}”" for mark, name in zip(marks, names, strict=False))
    traits = {
        "_shape": list(shape),
        "_ink": False,
        "_noun": "picture",
        "_names": [f"one of “{name}”" for name in names] if named else [],
        "_marks": marks,
        "_legend": f"On the map: {marked}." if named else "Numbers follow the order of the files.",
    }
    labels = labels if named else torch.zeros(len(x), dtype=torch.long)
    return (255 * x).round() / 255, labels, traits


def pack_bytes(x: Tensor) -> bytes:
    """Pictures in [0, 1] as a byte a number."""
    return (255 * x).round().cpu().to(torch.uint8).numpy().tobytes()


def latent_kl(q_z: Normal) -> Tensor:
    """Mean KL(q(z_k|x) || N(0, 1)) over the images: (K,), in nats (chapter 12, eq. kl-per-dim)."""
    return kl_divergence(q_z, Normal(0.0, 1.0)).mean(0)
