"""How far an average of independent draws lies from what it should be."""

from torch import Tensor

# |z| stays below 5 in all but one of two million fair tests; the seeds are fixed all the same.
Z_MAX = 5.0


def z_score(draws: Tensor, expected: float | Tensor) -> float:
    """The largest distance of the mean over dimension 0 from `expected`, in standard errors."""
    error = draws.mean(0) - expected
    return (error / (draws.std(0) / len(draws) ** 0.5)).abs().max().item()
