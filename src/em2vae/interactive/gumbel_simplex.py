"""The Gumbel-simplex figure of chapter 08: relaxed draws, and what they cost a gradient."""

import traitlets

from em2vae.interactive.figure import InteractiveFigure, Number, Numbers

WEIGHTS, TEMPERATURES, MAX_SAMPLES = (0.05, 1.0), (0.125, 4.0), 256
VALUES = (-1.0, 0.0, 1.0)  # v: the objective is (v . z - 1)^2


class GumbelSimplex(InteractiveFigure):
    """Gumbel-Softmax draws for three classes (chapter 08, eq. gumbel-softmax), and the bias and
    spread of four estimators of the gradient of E[(v . z - 1)^2] in the logits.

    Attributes:
        weights: probabilities of the classes up to a common factor, three numbers from 0.05 to 1.
        temperature: 0.125 to 4.
        n_samples: S, the draws that an estimate averages, 1 to 256.
        seed: fixes the noise of the points; bias and spread have noise of their own.

    Raises:
        traitlets.TraitError: a value outside its range.
    """

    weights = Numbers([0.5, 0.3, 0.2], 3, *WEIGHTS).tag(sync=True)
    temperature = Number(0.5, min=TEMPERATURES[0], max=TEMPERATURES[1]).tag(sync=True)
    n_samples = traitlets.CInt(1, min=1, max=MAX_SAMPLES).tag(sync=True)
    seed = traitlets.CInt(0).tag(sync=True)
    _values = traitlets.List(list(VALUES)).tag(sync=True)
    _limits = traitlets.Dict(
        {"weights": WEIGHTS, "temperature": TEMPERATURES, "n_samples": MAX_SAMPLES}
    ).tag(sync=True)
