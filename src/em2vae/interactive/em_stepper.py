"""The EM stepper of chapter 03: points and components to drag, E-step, M-step, and the bound."""

import math

import torch
import traitlets
from torch import Tensor

from em2vae.checks import check_positive, check_table
from em2vae.interactive.figure import InteractiveFigure, check_finite
from em2vae.mixtures import GaussianMixture

MAX_POINTS, MAX_COMPONENTS = 500, 5


class EmStepper(InteractiveFigure):
    """EM for a Gaussian mixture in the plane, half a step at a time.

    Args:
        x: data (N, 2), at most 500 examples, in random order: a start puts the means on K
            consecutive ones.
        n_components: K, from 1 to 5.
        start: which start; start s takes the examples sK, sK + 1, ..., (s + 1)K - 1.
        min_variance: the least variance, as in the library's GaussianMixture.

    Attributes:
        points: the data as the figure shows them, N pairs.
        n_components, start: a change begins anew.
        weights, means, covariances: the mixture's parameters, as nested lists.
        history: [bound, log-likelihood] after every half step, nats a point; empty until the
            figure is first shown, when it takes the first three steps.

    Raises:
        TypeError, ValueError: x is no finite table (N, 2), or holds too few or too many points.
        traitlets.TraitError: points or parameters of another shape, not finite, or no mixture.
    """

    points = traitlets.List(traitlets.List(traitlets.CFloat(), minlen=2, maxlen=2)).tag(sync=True)
    n_components = traitlets.Int(3, min=1, max=MAX_COMPONENTS).tag(sync=True)
    start = traitlets.Int(0, min=0).tag(sync=True)
    weights = traitlets.List(traitlets.CFloat()).tag(sync=True)
    means = traitlets.List(traitlets.List(traitlets.CFloat())).tag(sync=True)
    covariances = traitlets.List(traitlets.List(traitlets.List(traitlets.CFloat()))).tag(sync=True)
    history = traitlets.List(traitlets.List(traitlets.CFloat())).tag(sync=True)
    _min_variance = traitlets.Float().tag(sync=True)

    def __init__(
        self, x: Tensor, n_components: int = 3, start: int = 0, min_variance: float = 1e-3
    ) -> None:
        check_table(x, 2)
        check_positive(n_components=n_components)
        if not n_components <= len(x) <= MAX_POINTS:
            raise ValueError(f"x must hold {n_components} to {MAX_POINTS} points, got {len(x)}")
        if not 0 < min_variance < math.inf:
            raise ValueError(f"min_variance must be positive and finite, got {min_variance}")
        model = starting_point(x.double(), n_components, start, min_variance)
        super().__init__(
            points=x.tolist(),
            n_components=n_components,
            start=start,
            _min_variance=min_variance,
            **{name: getattr(model, name).tolist() for name in ("weights", "means", "covariances")},
        )

    @traitlets.validate("points", "weights", "means", "covariances", "history")
    def _check(self, proposal) -> list:
        name, values = proposal["trait"].name, proposal["value"]
        if name == "history" and not values:
            return values
        K = self.n_components
        shapes = {"weights": (K,), "means": (K, 2), "covariances": (K, 2, 2)}
        numbers = check_finite(name, values, shapes.get(name, (None, 2)))
        if name == "points" and not K <= len(values) <= MAX_POINTS:
            raise traitlets.TraitError(
                f"points must hold {K} to {MAX_POINTS} pairs, got {len(values)}"
            )
        if name == "weights" and (numbers.min() < 0 or abs(numbers.sum() - 1) > 1e-6):
            raise traitlets.TraitError(
                f"weights must not be negative and add up to 1, got {values}"
            )
        if name == "covariances" and not (numbers == numbers.mT).all():
            raise traitlets.TraitError(f"covariances must be symmetric, got {values}")
        if name == "covariances" and torch.linalg.eigvalsh(numbers).min() <= 0:
            raise traitlets.TraitError(f"covariances must be positive definite, got {values}")
        return values

    @property
    def x(self) -> Tensor:
        """The points as a float64 tensor (N, 2)."""
        return torch.tensor(self.points, dtype=torch.double)

    @property
    def model(self) -> GaussianMixture:
        """The mixture that the figure shows, in float64."""
        parameters = (self.weights, self.means, self.covariances)
        tensors = [torch.tensor(values, dtype=torch.double) for values in parameters]
        return GaussianMixture(*tensors, min_variance=self._min_variance)


def starting_point(x: Tensor, n_components: int, start: int, min_variance: float):
    """Equal weights, the means on examples of x (N, 2), round clouds as wide as the data."""
    rows = (start * n_components + torch.arange(n_components)) % len(x)
    variance = x.var(0, correction=0).mean().clamp(min=min_variance)
    weights = torch.full((n_components,), 1 / n_components).to(x)
    covariances = variance * torch.eye(2).to(x).expand(n_components, 2, 2)
    return GaussianMixture(weights, x[rows], covariances, min_variance)
