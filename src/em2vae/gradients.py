"""Estimators of the gradient of an expectation (chapters 07 and 08), all called alike.

Each estimates the gradient of E_{z ~ family(parameters)}[f(z)] with respect to the parameters:

    f: takes draws z (S, ..., K), or one-hot draws (S, ..., K, C), to values (S, ...). Leading
        dimensions are independent problems; K latent variables make up each draw.
    family: takes the parameters to a distribution of torch.distributions, of batch shape (..., K).
    parameters: (..., P), any floating-point tensor; the estimate has its shape.
    n_samples: S, draws that the estimate averages over.
    seed: fixes the draws; PyTorch's global generator stays as it was.

Each raises ValueError where `family`, `f` or an argument is not what it needs.
"""

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.distributions import Distribution, OneHotCategorical, RelaxedOneHotCategorical

from em2vae.checks import check_positive

Objective = Callable[[Tensor], Tensor]
Family = Callable[[Tensor], Distribution]


def score_function(
    f: Objective,
    family: Family,
    parameters: Tensor,
    n_samples: int = 1,
    seed: int = 0,
    baseline: float | str = 0.0,
) -> Tensor:
    """mean_s (f(z_s) - baseline) grad log q(z_s) (chapter 07, eq. score-function): unbiased.

    f may be anything, also discontinuous. q(z) must have a derivative in its parameters at almost
    every z, and no jump of it may move with them (chapter 07, Exchange): the end of a support where
    q(z) falls to zero without a jump may, a hard edge like that of Uniform(0, parameter) may not.
    Its share of the gradient would be missing, and nobody notices. `baseline` is a constant or
    "leave-one-out": for each draw the mean of f over the others (chapter 07, eq. leave-one-out),
    which needs n_samples > 1.
    """
    check_positive(n_samples=n_samples)
    leave_one_out = isinstance(baseline, str) and baseline == "leave-one-out" and n_samples > 1
    if not (leave_one_out or (isinstance(baseline, float | int) and math.isfinite(baseline))):
        raise ValueError(
            f"baseline must be a number, or 'leave-one-out' with n_samples > 1, got {baseline!r} "
            f"with n_samples = {n_samples}"
        )
    parameters, q = _attach(family, parameters)
    with _seeded(seed):
        z = q.sample((n_samples,))
    with torch.no_grad():
        values = 1.0 * _values(f, z, q)  # (S, ...), also from an f that counts or decides
        if leave_one_out:
            baseline = (values.sum(0) - values) / (n_samples - 1)
    log_q = q.log_prob(z).sum(-1)  # over latent variables
    return _gradient((values - baseline) * log_q, parameters)


def pathwise(
    f: Objective, family: Family, parameters: Tensor, n_samples: int = 1, seed: int = 0
) -> Tensor:
    """mean_s grad f(z(eps_s, parameters)) (chapter 08, eq. pathwise): unbiased.

    q must draw its samples as differentiable functions of noise (`rsample`), and f must be locally
    Lipschitz, with a slope that q's tails can bear: its mean under q is finite, for all parameters
    nearby. A jump in f is not noticed, and its share of the gradient is missing. Continuous, and
    differentiable but for a set of probability zero, is not enough: the Cantor function climbs from
    0 to 1 with a slope that is 0 almost everywhere.
    """
    check_positive(n_samples=n_samples)
    parameters, q = _attach(family, parameters)
    if not q.has_rsample:
        raise ValueError(
            f"pathwise needs a distribution with rsample, and {type(q).__name__} has none: "
            "use score_function, or gumbel_softmax for a OneHotCategorical"
        )
    with _seeded(seed):
        z = q.rsample((n_samples,))
    return _gradient(_values(f, z, q), parameters)


def gumbel_softmax(
    f: Objective,
    family: Family,
    parameters: Tensor,
    n_samples: int = 1,
    seed: int = 0,
    temperature: float = 1.0,
) -> Tensor:
    """Pathwise through the relaxed one-hot draws of chapter 08 (eq. gumbel-softmax): biased.

    q must be a OneHotCategorical, and f must take points inside the simplex. The bias vanishes
    with the temperature, while the variance grows like one over it (eq. gumbel-tradeoff).
    """
    return _relaxed(f, family, parameters, n_samples, seed, temperature, hard=False)


def straight_through(
    f: Objective,
    family: Family,
    parameters: Tensor,
    n_samples: int = 1,
    seed: int = 0,
    temperature: float = 1.0,
) -> Tensor:
    """f at the one-hot draw, its gradient passed on to the relaxed one (chapter 08): biased.

    Conditions as for gumbel_softmax; f itself sees only corners of the simplex, and its slope
    there. The bias need not vanish with the temperature.
    """
    return _relaxed(f, family, parameters, n_samples, seed, temperature, hard=True)


def _relaxed(f, family, parameters, n_samples, seed, temperature, hard) -> Tensor:
    check_positive(n_samples=n_samples)
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature!r}")
    parameters, q = _attach(family, parameters)
    if not isinstance(q, OneHotCategorical):
        raise ValueError(f"family must give a OneHotCategorical, got {type(q).__name__}")
    with _seeded(seed):
        z = RelaxedOneHotCategorical(temperature, logits=q.logits).rsample((n_samples,))
    if hard:
        corner = torch.nn.functional.one_hot(z.argmax(-1), z.shape[-1]).to(z)
        z = corner + (z - z.detach())  # the value of the corner, the gradient of z
    return _gradient(_values(f, z, q), parameters)


def _attach(family: Family, parameters: Tensor) -> tuple[Tensor, Distribution]:
    """A copy of the parameters that gradients reach, and the distribution that they give."""
    if not (isinstance(parameters, Tensor) and parameters.is_floating_point()):
        raise ValueError(f"parameters must be a floating-point tensor, got {parameters!r}")
    parameters = parameters.detach().requires_grad_()
    q = family(parameters)
    if not q.batch_shape:
        raise ValueError("family must give a distribution of batch shape (..., K)")
    return parameters, q


def _values(f: Objective, z: Tensor, q: Distribution) -> Tensor:
    values = f(z)
    expected = (len(z), *q.batch_shape[:-1])
    if values.shape != expected:
        raise ValueError(f"f must return one value a draw, {expected}, got {tuple(values.shape)}")
    return values


def _gradient(terms: Tensor, parameters: Tensor) -> Tensor:
    """The gradient of the mean over draws (dimension 0) of terms (S, ...)."""
    if not terms.requires_grad:
        raise ValueError(
            "no path leads from the parameters to the values of f: family must use its argument, "
            "and f must be differentiable in z (score_function needs no derivative of f)"
        )
    return torch.autograd.grad(terms.mean(0).sum(), parameters)[0]


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch.distributions draw from the global generator: seed it, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
