"""The likelihood lab of chapter 17: one decoder output, read by several likelihoods, in bits."""

import torch
import traitlets
from torch import Tensor

from em2vae.checks import check_float
from em2vae.interactive.figure import InteractiveFigure, Number, check_index
from em2vae.pixels import check_levels

LIKELIHOODS = (
    "Bernoulli",
    "normal, density",
    "normal, dequantized",
    "normal, mass of cells",
    "discretized logistic",
)
SIDES = (4, 64)  # of a picture, in pixels
SCALES = (10**-3.5, 1.0)


class LikelihoodLab(InteractiveFigure):
    """Read a mean picture as a distribution over 256 grey levels, and count the true one's bits.

    One pixel's output is open to change: its mean. The scale is one for all pixels. Means and
    scales are those of `em2vae.pixels`, in units of the interval [0, 1] that 256 cells divide.

    Args:
        mean: a picture that a decoder gave, (H, W) in [0, 1], of 4 to 64 pixels a side.
        image: the true picture (H, W), grey levels k / 255.
        likelihood, row, column, scale: how it opens; by default at the pixel that the mean picture
            misses most.
        ink: whether 1 is black, as in the digits, or white.

    Attributes:
        likelihood: one of LIKELIHOODS, which have the names of the chapter's table.
        row, column: the chosen pixel, from 0; a new choice brings its mean.
        mean: the centre of its distribution, 0 to 1.
        scale: tau, from 10**-3.5 to 1: the deviation of a normal, the scale of a logistic.
        seed: which draw is shown.

    Raises:
        TypeError, ValueError: mean and image are not two such pictures of one size.
        traitlets.TraitError: a value outside its range, or an unknown likelihood.
    """

    likelihood = traitlets.Enum(LIKELIHOODS, LIKELIHOODS[-1]).tag(sync=True)
    row = traitlets.Int(0).tag(sync=True)
    column = traitlets.Int(0).tag(sync=True)
    mean = Number(0.0, min=0.0, max=1.0).tag(sync=True)
    scale = Number(0.1, min=SCALES[0], max=SCALES[1]).tag(sync=True)
    seed = traitlets.CInt(0, min=0).tag(sync=True)
    _likelihoods = traitlets.List(list(LIKELIHOODS)).tag(sync=True)
    _scales = traitlets.List(list(SCALES)).tag(sync=True)
    _width = traitlets.Int().tag(sync=True)
    _means = traitlets.Bytes().tag(sync=True)  # float32
    _levels = traitlets.Bytes().tag(sync=True)
    _ink = traitlets.Bool().tag(sync=True)

    def __init__(
        self,
        mean: Tensor,
        image: Tensor,
        likelihood: str = LIKELIHOODS[-1],
        row: int | None = None,
        column: int | None = None,
        scale: float = 0.1,
        ink: bool = True,
    ) -> None:
        check_pictures(mean, image)
        mean, image = mean.detach().cpu().float(), image.detach().cpu().float()
        self._picture = mean
        hardest = divmod((mean - image).abs().argmax().item(), image.shape[1])
        row, column = (hardest[0] if row is None else row, hardest[1] if column is None else column)
        check_index("row", row, len(image))
        check_index("column", column, image.shape[1])
        super().__init__(
            likelihood=likelihood,
            row=row,
            column=column,
            mean=mean[row, column].item(),
            scale=scale,
            _width=image.shape[1],
            _means=mean.numpy().astype("<f4").tobytes(),
            _levels=(255 * image).round().to(torch.uint8).numpy().tobytes(),
            _ink=ink,
        )

    @traitlets.validate("row", "column")
    def _check_index(self, proposal) -> int:
        name = proposal["trait"].name
        return check_index(name, proposal["value"], self._picture.shape[name == "column"])

    @traitlets.observe("row", "column")
    def _bring_its_mean(self, change) -> None:
        self.mean = self._picture[self.row, self.column].item()


def check_pictures(mean: Tensor, image: Tensor) -> None:
    """Raise unless both are grey pictures of one size, mean in [0, 1] and image of 256 levels."""
    check_float(mean=mean, image=image)
    least, most = SIDES
    for name, picture in (("mean", mean), ("image", image)):
        if picture.ndim != 2 or not all(least <= side <= most for side in picture.shape):
            raise ValueError(
                f"{name} must have shape (H, W) with {least} to {most} pixels a side, got "
                f"{tuple(picture.shape)}: one grey picture. Take one of a batch and one colour, "
                "and give a row of 784 its shape (x.view(28, 28))"
            )
    if mean.shape != image.shape:
        raise ValueError(
            f"mean and image must have one shape, got {tuple(mean.shape)} and {tuple(image.shape)}"
        )
    low, high = (extreme.item() for extreme in mean.aminmax())  # NaN if any value is
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"mean must lie in [0, 1] and hold no NaN, but it spans [{low:.3g}, {high:.3g}]: "
            "clamp what a decoder says beyond (mean.clamp(0, 1))"
        )
    check_levels(image)
