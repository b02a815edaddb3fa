"""The Jensen figure of chapter 02: a function of a mean beside the mean of the function."""

import traitlets

from em2vae.figures import LINE_COLORS
from em2vae.interactive.figure import InteractiveFigure

LIMITS = {"points": (0.2, 6.0), "weights": (0.05, 1.0)}


class Jensen(InteractiveFigure):
    """Three weighted points on a concave curve and the gap between two heights (eq. jensen).

    Attributes:
        points: where A, B and C stand, three numbers from 0.2 to 6.
        weights: their weights up to a common factor, three numbers from 0.05 to 1.
        curve: "log", "sqrt", or "line", which is half of x.

    Raises:
        traitlets.TraitError: points or weights outside their ranges, or an unknown curve.
    """

    points = traitlets.List(traitlets.CFloat(), [0.3, 3.6, 5.5], minlen=3, maxlen=3).tag(sync=True)
    weights = traitlets.List(traitlets.CFloat(), [0.4, 0.3, 0.3], minlen=3, maxlen=3).tag(sync=True)
    curve = traitlets.Enum(("log", "sqrt", "line"), "log").tag(sync=True)
    _limits = traitlets.List(list(LIMITS["points"])).tag(sync=True)
    _colors = traitlets.List(list(LINE_COLORS)).tag(sync=True)

    @traitlets.validate("points", "weights")
    def _check(self, proposal: dict) -> list[float]:
        name, values = proposal["trait"].name, proposal["value"]
        low, high = LIMITS[name]
        if not all(low <= value <= high for value in values):
            raise traitlets.TraitError(f"{name} must lie between {low} and {high}, got {values}")
        return values
