"""The KL explorer of chapter 04: one bell over two bumps, measured in both directions."""

import traitlets

from em2vae.interactive.figure import InteractiveFigure, Number

WEIGHT = 0.7  # of the right bump
SCALE = 0.6  # standard deviation of both


class KLExplorer(InteractiveFigure):
    """A normal q over the target p = 0.3 N(-d/2, 0.6^2) + 0.7 N(d/2, 0.6^2), d the separation.

    Attributes:
        mean, width: the mean and standard deviation of q; read them to follow, set them to move q.
        separation: d, the distance between the two bumps of p.

    Raises:
        traitlets.TraitError: a value outside the range of its slider.
    """

    mean = Number(2.0, min=-5, max=5).tag(sync=True)
    width = Number(0.6, min=0.2, max=4).tag(sync=True)
    separation = Number(4.0, min=0, max=6).tag(sync=True)
    _weight = traitlets.Float(WEIGHT).tag(sync=True)
    _scale = traitlets.Float(SCALE).tag(sync=True)
