"""The race of chapter 07: three estimators of one gradient descend the same objective."""

import traitlets

from em2vae.interactive.figure import InteractiveFigure, Number

LIMITS = {"step": 60, "n_samples": 16, "n_latents": 16, "step_size": 0.1}


class GradientRace(InteractiveFigure):
    """Descent on E[sum_k (z_k - 1)^2], z ~ N(mu, I), by estimated gradients, from mu = 0.

    The racers differ in their estimator alone: score function, the same with a leave-one-out
    baseline (chapter 07, eq. score-function and leave-one-out) and pathwise (chapter 08). All
    three see the same draws, which follow from these five:

    Attributes:
        step: steps taken, 0 to 60.
        n_samples: S, draws of each estimate, 2 to 16.
        n_latents: K, latent variables, 2 to 16; the first two means are drawn.
        step_size: what a gradient is multiplied with, 0.01 to 0.1.
        seed: which draws.

    Raises:
        traitlets.TraitError: a value outside its range.
    """

    step = traitlets.CInt(40, min=0, max=LIMITS["step"]).tag(sync=True)
    n_samples = traitlets.CInt(4, min=2, max=LIMITS["n_samples"]).tag(sync=True)
    n_latents = traitlets.CInt(4, min=2, max=LIMITS["n_latents"]).tag(sync=True)
    step_size = Number(0.05, min=0.01, max=LIMITS["step_size"]).tag(sync=True)
    seed = traitlets.CInt(0, min=0).tag(sync=True)
    _limits = traitlets.Dict(LIMITS).tag(sync=True)
