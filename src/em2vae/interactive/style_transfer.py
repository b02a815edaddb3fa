"""Style transfer (chapter 16): draw a digit, see all ten in your hand."""

import math

import torch
import traitlets
from torch import Tensor, nn
from torch.nn.functional import one_hot

from em2vae.conditional import ConditionalVAE
from em2vae.data import binarize
from em2vae.interactive.amortized_pad import normalize
from em2vae.interactive.figure import (
    PIXELS,
    SIDE,
    InteractiveFigure,
    Numbers,
    check_images,
    check_index,
    check_model,
    codes_to_see,
    pack_network,
)
from em2vae.interactive.latent_explorer import ACTIVE_KL, latent_kl

N_LABELS = 10
MAX_SLIDERS = 6
# Of the encoder's outputs and of the logits when weights are rounded: bounds stay within 0.1 nats.
TOLERANCES = (1e-3, 4e-3)


class StyleTransfer(InteractiveFigure):
    """A pad, the style that the encoder reads from it, and the ten digits in that style.

    Args:
        vae: a conditional model of 28x28 images with ten labels; its weights travel along.
        x: grey held-out images (N, 784), from which the size of each style dimension is measured.
        labels: their digits, (N,).
        choices: indices of the images that can be put on the pad; by default the first of each
            digit.
        digit: which of them is there at first, or -1 for an empty pad.

    Attributes:
        digit: which of the choices is on the pad, or -1 for a drawing of one's own.
        told: the label that the encoder is told, 0..9; a new choice brings its own.
        z: the K numbers of the style shown; set them to move the sliders, read them to follow.
        active: style dimensions that have a slider: those with a mean KL above 0.1 nats, the
            largest first, at most six.
        kl: mean KL of each of them over x, in nats (chapter 12).

    Raises:
        TypeError, ValueError: vae is no conditional model of such images, the images are not
            28x28, labels are not their digits, or choices name no image with ink.
    """

    digit = traitlets.Int(0).tag(sync=True)
    told = traitlets.Int(0).tag(sync=True)
    z = Numbers(count="_latent_dim").tag(sync=True)
    active = traitlets.List(traitlets.Int()).tag(sync=True)
    kl = traitlets.List(traitlets.Float()).tag(sync=True)
    _encoder = traitlets.Dict().tag(sync=True)
    _encoder_weights = traitlets.Bytes().tag(sync=True)
    _decoder = traitlets.Dict().tag(sync=True)
    _decoder_weights = traitlets.Bytes().tag(sync=True)
    _eps = traitlets.List().tag(sync=True)
    _images = traitlets.Bytes().tag(sync=True)  # grey, a byte a pixel
    _digits = traitlets.List(traitlets.Int()).tag(sync=True)
    _limit = traitlets.Float().tag(sync=True)

    def __init__(
        self,
        vae: ConditionalVAE,
        x: Tensor,
        labels: Tensor,
        choices: list[int] | None = None,
        digit: int = 0,
    ) -> None:
        check_conditional(vae)
        check_images(x, labels)
        choices = first_of_each(labels) if choices is None else list(choices)
        check_choices(choices, x)
        check_index("digit", digit, len(choices), least=-1)
        self._latent_dim, self._means = vae.latent_dim, styles_of(vae, x[choices])
        binary = binarize(x)
        with torch.no_grad():
            q_z = vae.encode(binary, labels)
        kl = latent_kl(q_z)
        order = [k for k in kl.argsort(descending=True).tolist() if kl[k] > ACTIVE_KL] or [0]
        encoder, encoder_weights, decoder, decoder_weights = pack_conditional(
            vae, binary, labels, q_z.mean
        )
        digits = labels[choices].tolist()
        super().__init__(
            digit=digit,
            told=digits[digit] if digit >= 0 else 0,
            z=self._means[digit, digits[digit]].tolist() if digit >= 0 else [0.0] * vae.latent_dim,
            active=order[:MAX_SLIDERS],
            kl=[kl[k].item() for k in order[:MAX_SLIDERS]],
            _encoder=encoder,
            _encoder_weights=encoder_weights,
            _decoder=decoder,
            _decoder_weights=decoder_weights,
            _eps=cubature(vae.latent_dim).tolist(),
            _images=(255 * x[choices]).round().to(torch.uint8).cpu().numpy().tobytes(),
            _digits=digits,
            _limit=max(3, math.ceil(q_z.mean.abs().max().item())),
        )

    @traitlets.validate("digit", "told")
    def _check_index(self, proposal) -> int:
        name = proposal["trait"].name
        count, least = (N_LABELS, 0) if name == "told" else (len(self._means), -1)
        return check_index(name, proposal["value"], count, least)

    @traitlets.observe("digit")
    def _tell_its_label(self, change) -> None:
        if change["new"] >= 0:
            self.told = self._digits[change["new"]]
            self.z = self._means[change["new"], self.told]

    @traitlets.observe("told")
    def _read_style(self, change) -> None:
        if self.digit >= 0:
            self.z = self._means[self.digit, change["new"]]


def check_conditional(vae) -> None:
    """Raise unless vae is a conditional model of 28x28 images with ten labels."""
    if not isinstance(vae, ConditionalVAE):
        raise TypeError(
            f"vae must be an em2vae.conditional.ConditionalVAE, got {type(vae).__name__}"
        )
    check_model(vae, least=1)
    if vae.n_classes != N_LABELS:
        raise ValueError(
            f"vae must have n_classes = {N_LABELS}, got {vae.n_classes}: the page writes the ten "
            "digits. With fewer kinds of images leave the other labels unused"
        )


def first_of_each(labels: Tensor) -> list[int]:
    """Where each digit comes first, in the order of the digits."""
    return [(labels == digit).nonzero()[0].item() for digit in labels.unique()]


def check_choices(choices: list[int], x: Tensor) -> None:
    """ValueError unless choices are indices of images (N, 784) with ink on each."""
    if not choices or not all(0 <= i < len(x) and x[i].any() for i in choices):
        raise ValueError(
            f"choices must be indices of the {len(x)} images, with ink on each, got {choices}"
        )


@torch.no_grad()
def styles_of(vae: ConditionalVAE, x: Tensor) -> Tensor:
    """The means of q(z|x, y) of grey images (N, 784) as the pad shows them: (N, 10, K)."""
    pictures = torch.stack([normalize(image.reshape(SIDE, SIDE).cpu()) > 0.5 for image in x])
    pictures = pictures.flatten(1).to(x)
    every = torch.arange(N_LABELS, device=x.device)
    q_z = vae.encode(pictures.repeat_interleave(N_LABELS, 0), every.repeat(len(x)))
    return q_z.mean.reshape(len(x), N_LABELS, -1)


def cubature(latent_dim: int) -> Tensor:
    """Points (2 K, K) with mean 0 and covariance I, over which cubic functions average exactly.

    Those at distance sqrt(K) on both sides of K orthogonal axes, which are turned at random: for
    N(0, I) a rule of degree 3. Beside draws of the same number its error is several times smaller.
    """
    generator = torch.Generator().manual_seed(0)
    axes, _ = torch.linalg.qr(torch.randn(latent_dim, latent_dim, generator=generator))
    return math.sqrt(latent_dim) * torch.cat([axes, -axes])


def pack_conditional(
    vae: ConditionalVAE, x: Tensor, labels: Tensor, codes: Tensor
) -> tuple[dict, bytes, dict, bytes]:
    """Encoder and decoder, rounded for images (N, 784) and codes (N, K) under any label."""
    generator = torch.Generator().manual_seed(0)

    def beside(values: Tensor, told: Tensor) -> Tensor:
        return torch.cat([values.cpu(), one_hot(told, N_LABELS).to(values.dtype)], dim=-1)

    def any_label(count: int) -> Tensor:
        return torch.randint(N_LABELS, (count,), generator=generator)

    told = torch.cat([labels.cpu().long(), any_label(len(x))])
    z = codes_to_see(codes)
    packed = []
    for network, examples, outputs, tolerance in (
        (vae.encoder, beside(x.repeat(2, 1), told), 2 * vae.latent_dim, TOLERANCES[0]),
        (vae.decoder, beside(z, any_label(len(z))), PIXELS, TOLERANCES[1]),
    ):
        packed += pack_network(network, examples, outputs, nn.Identity(), tolerance)
    return tuple(packed)
