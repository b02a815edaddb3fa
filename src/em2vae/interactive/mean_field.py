"""The mean-field figure of chapter 05: coordinate ascent and Gibbs sampling on one ellipse."""

import traitlets

from em2vae.interactive.figure import InteractiveFigure, Number, Numbers

MAX_RHO, MAX_MEAN, MAX_UPDATES, MAX_SWEEPS = 0.95, 3.0, 1000, 1000


class MeanField(InteractiveFigure):
    """A normal posterior with means 0, variances 1 and correlation rho, and two ways to reach it.

    All that is shown follows from these four (chapter 05, eq. mean-field-gaussian and gibbs-step):

    Attributes:
        rho: the posterior's correlation, from -0.95 to 0.95.
        start: the means that q starts from, two numbers from -3 to 3.
        updates: how many factors of q have been updated since, the first one first, 0 to 1,000.
        sweeps: how many sweeps the Gibbs chain has made, 0 to 1,000.

    Raises:
        traitlets.TraitError: a value outside its range.
    """

    rho = Number(0.9, min=-MAX_RHO, max=MAX_RHO).tag(sync=True)
    start = Numbers([1.0, 2.4], 2, -MAX_MEAN, MAX_MEAN).tag(sync=True)
    updates = traitlets.CInt(8, min=0, max=MAX_UPDATES).tag(sync=True)
    sweeps = traitlets.CInt(100, min=0, max=MAX_SWEEPS).tag(sync=True)
    _limits = traitlets.Dict(
        {"rho": MAX_RHO, "mean": MAX_MEAN, "updates": MAX_UPDATES, "sweeps": MAX_SWEEPS}
    ).tag(sync=True)
