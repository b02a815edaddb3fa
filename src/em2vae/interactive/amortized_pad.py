"""The amortized pad of chapter 09: draw a digit, see q(z|x) at once, refine it."""

import torch
import traitlets
from torch import Tensor

from em2vae.data import binarize
from em2vae.figures import DIGIT_COLORS
from em2vae.interactive.figure import (
    InteractiveFigure,
    Numbers,
    check_images,
    check_index,
    check_model,
    pack_decoder,
    pack_encoder,
    pack_half,
    pack_labels,
)
from em2vae.vae import VAE

SIDE = 112  # of the pad: four by four points for each pixel of an image
MAX_SHIFT = 6  # pixels
N_POINTS = 500  # codes on the map


def normalize(ink: Tensor) -> Tensor:
    """A drawing as MNIST's makers normalized theirs (chapter 09).

    The smallest box around the ink is scaled, its aspect kept, until its longer side has 20
    pixels; the centre of mass goes to the middle of 28x28. Each pixel is the mean of the area
    that it covers, which leaves grey edges.

    Args:
        ink: a drawing (H, W) with values in [0, 1], not all zero.

    Returns:
        Grey values (28, 28).
    """
    ink = ink.double()
    rows, columns = ink.sum(1), ink.sum(0)
    step = max(_extent(rows), _extent(columns)) / 20  # points to a pixel
    centres = [_centre(rows), _centre(columns)]
    from_rows, from_columns = (
        _overlaps(centre - 14 * step, step, len(line))
        for centre, line in zip(centres, (rows, columns), strict=True)
    )
    return from_rows @ ink @ from_columns.T


def as_drawn(ink: Tensor) -> Tensor:
    """The same drawing (H, H) without normalization: (28, 28)."""
    overlaps = _overlaps(0.0, len(ink) / 28, len(ink))
    return overlaps @ ink.double() @ overlaps.T


def _extent(line: Tensor) -> int:
    inked = line.nonzero()
    return (inked.max() - inked.min() + 1).item()


def _centre(line: Tensor) -> float:
    return ((torch.arange(len(line)) + 0.5) @ line.to(torch.float) / line.sum()).item()


def _overlaps(start: float, step: float, n_points: int) -> Tensor:
    """Which share of pixel i each point covers: pixel i spans start + step * [i, i + 1]."""
    low = start + step * torch.arange(28, dtype=torch.double)[:, None]
    points = torch.arange(n_points, dtype=torch.double)
    return (torch.minimum(low + step, points + 1) - torch.maximum(low, points)).clamp(min=0) / step


class AmortizedPad(InteractiveFigure):
    """A pad to draw on, the encoder's answer on the latent map, and forty steps that refine it.

    Args:
        vae: a model of 28x28 images with latent_dim = 2; its weights travel with the figure.
        x: grey test images (N, 784); the map shows their codes.
        labels: their digits, (N,).
        choices: indices of the images that can be put on the pad.
        eps, weights: nodes (S, 2) and weights (S,) of the noise that the shown ELBO averages over.

    Attributes:
        digit: which of the choices is on the pad, or -1 for a drawing of one's own.
        shift: pixels that the pad's content is moved to the right and down.
        normalized: whether the encoder gets the drawing as MNIST's makers would have normalized it.
        mu, sigma: the variational parameters shown: the encoder's, or refined ones.

    Raises:
        ValueError: latent_dim is not 2, labels do not match x, or a choice is no index of x.
    """

    digit = traitlets.Int(0).tag(sync=True)
    shift = traitlets.List(traitlets.Int(), [0, 0], minlen=2, maxlen=2).tag(sync=True)
    normalized = traitlets.Bool(True).tag(sync=True)
    mu = Numbers([0.0, 0.0], 2).tag(sync=True)
    sigma = Numbers([1.0, 1.0], 2).tag(sync=True)
    _encoder = traitlets.Dict().tag(sync=True)
    _encoder_weights = traitlets.Bytes().tag(sync=True)
    _decoder = traitlets.Dict().tag(sync=True)
    _decoder_weights = traitlets.Bytes().tag(sync=True)
    _eps = traitlets.List().tag(sync=True)
    _weights = traitlets.List(traitlets.Float()).tag(sync=True)
    _images = traitlets.Bytes().tag(sync=True)  # grey, a byte a pixel
    _digits = traitlets.List(traitlets.Int()).tag(sync=True)
    _codes = traitlets.Bytes().tag(sync=True)
    _labels = traitlets.Bytes().tag(sync=True)
    _colors = traitlets.List(list(DIGIT_COLORS)).tag(sync=True)

    def __init__(
        self, vae: VAE, x: Tensor, labels: Tensor, choices: list[int], eps: Tensor, weights: Tensor
    ) -> None:
        check_model(vae, latent_dim=2)
        check_images(x, labels)
        if not choices or not all(0 <= i < len(x) and x[i].any() for i in choices):
            raise ValueError(
                f"choices must be indices of the {len(x)} images, with ink on each, got {choices}"
            )
        check_nodes(eps, weights)
        images = binarize(x[:N_POINTS])
        with torch.no_grad():
            first = (normalize(x[choices[0]].reshape(28, 28)) > 0.5).reshape(1, 784)
            q_z = vae.encode(first.to(x))
            codes = vae.encode(images).mean
        encoder, encoder_weights = pack_encoder(vae.encoder, moved(images), 2)
        decoder, decoder_weights = pack_decoder(vae.decoder, codes, exact=True)
        self._n_choices = len(choices)
        super().__init__(
            mu=q_z.mean[0].tolist(),
            sigma=q_z.stddev[0].tolist(),
            _encoder=encoder,
            _encoder_weights=encoder_weights,
            _decoder=decoder,
            _decoder_weights=decoder_weights,
            _eps=eps.tolist(),
            _weights=weights.tolist(),
            _images=(255 * x[choices]).round().to(torch.uint8).numpy().tobytes(),
            _digits=labels[choices].tolist(),
            _codes=pack_half(codes),
            _labels=pack_labels(labels[:N_POINTS]),
        )

    @traitlets.validate("digit")
    def _check_digit(self, proposal) -> int:
        return check_index("digit", proposal["value"], self._n_choices, least=-1)

    @traitlets.validate("shift")
    def _check_shift(self, proposal) -> list[int]:
        if not all(abs(by) <= MAX_SHIFT for by in proposal["value"]):
            limit = f"-{MAX_SHIFT}..{MAX_SHIFT}"
            raise traitlets.TraitError(f"shift must lie in {limit}, got {proposal['value']}")
        return proposal["value"]

    @traitlets.validate("sigma")
    def _check_sigma(self, proposal) -> list[float]:
        if min(proposal["value"]) <= 0:
            raise traitlets.TraitError(
                f"sigma must hold 2 positive numbers, got {proposal['value']}"
            )
        return proposal["value"]


def moved(x: Tensor) -> Tensor:
    """Images (N, 784) as they are, and moved as far as the pad can move them: (5 N, 784)."""
    far = [(0, 0), (MAX_SHIFT, 0), (-MAX_SHIFT, 0), (0, MAX_SHIFT), (0, -MAX_SHIFT)]
    pictures = x.reshape(-1, 28, 28)
    return torch.cat([pictures.roll(by, (1, 2)) for by in far]).flatten(1)


def check_nodes(eps: Tensor, weights: Tensor) -> None:
    """ValueError unless eps (S, 2) and weights (S,) average: finite, the weights adding up to 1."""
    shapes = [tuple(values.shape) for values in (eps, weights)]
    if eps.ndim != 2 or eps.shape[-1] != 2 or weights.shape != eps.shape[:1] or not len(eps):
        raise ValueError(f"eps must be (S, 2) and weights (S,), got {shapes[0]} and {shapes[1]}")
    total = weights.sum().item()
    if not eps.isfinite().all() or weights.min() < 0 or abs(total - 1) > 1e-3:
        raise ValueError(f"eps must be finite and weights add up to 1, not to {total:.3g}")
