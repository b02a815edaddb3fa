"""The Jensen figure of chapter 02: a function of a mean beside the mean of the function."""

import traitlets

from em2vae.figures import LINE_COLORS
from em2vae.interactive.figure import InteractiveFigure, Numbers

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

    points = Numbers([0.3, 3.6, 5.5], 3, *LIMITS["points"]).tag(sync=True)
    weights = Numbers([0.4, 0.3, 0.3], 3, *LIMITS["weights"]).tag(sync=True)
    curve = traitlets.Enum(("log", "sqrt", "line"), "log").tag(sync=True)
    _limits = traitlets.List(list(LIMITS["points"])).tag(sync=True)
    _colors = traitlets.List(list(LINE_COLORS)).tag(sync=True)
