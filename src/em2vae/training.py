"""Training by stochastic gradient ascent on the bound (chapter 11)."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from tqdm import tqdm

from em2vae.checks import check_data, check_finite, check_like, check_positive, check_unit
from em2vae.data import draw_binary

TERMS = ("elbo", "log_likelihood", "kl")
ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}  # as PyTorch has them
ADAM |= {"amsgrad": False, "maximize": True, "fused": True}


@dataclass
class History:
    """Means over each epoch's training images, in nats, and the seconds each epoch took."""

    elbo: list[float] = field(default_factory=list)
    log_likelihood: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass
class TrainingState:
    """Where `fit` left off; it stands on the model as `training_state`."""

    seed: int
    generator: torch.Generator  # of the images' order, their binarization and the noise
    epochs: int = 0  # done in all calls
    moments: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # Adam's, by parameter


def fit(
    model: nn.Module,
    x: Tensor,
    epochs: int = 20,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    binarize: str = "stochastic",
    beta: float = 1.0,
    seed: int | None = None,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int], None] | None = None,
    free_bits: float = 0.0,
    labels: Tensor | None = None,
) -> History:
    """Maximize the mean ELBO of the images x with Adam (chapter 11, its algorithm).

    Called again it goes on: order, binarization, noise and Adam's moments continue, so that
    thirty calls of one epoch equal one call of thirty, to the bit. All of that stands on the model
    (`model.training_state`): a deep copy carries it along, and so do `em2vae.save` and
    `em2vae.load`; `load_state_dict` leaves it as it is. An interrupt (Ctrl-C) ends the call early,
    with the History of the epochs that were completed.

    Args:
        model: a VAE, or any module whose `elbo(x, generator=...)` returns terms as `VAE.elbo`
            does; it is trained in place and left on `device`. One with a `data_dim` takes binary
            images (N, data_dim), which are checked here, once, and no more in
            `elbo(..., validate_args=False)`.
        x: images (N, D) in [0, 1], or what the model's `elbo` takes, (N, ...).
        epochs: passes over the data.
        batch_size: images in a mini-batch; the last one of an epoch may be smaller.
        learning_rate: of Adam.
        binarize: "stochastic" draws each mini-batch's binary images anew, "fixed" draws them all
            once, by the seed, "none" takes x as it is, which for a VAE must then be binary.
        beta: weight of the KL (see VAE.elbo).
        seed: fixes the order of the images, their binarization and the noise; 0 if none is given.
            A later call that names the same seed, or none, continues these streams; another seed
            starts new ones.
        device: where to train.
        on_epoch: called with the number of epochs done in all calls: with 0 before the very first
            one, and after each.
        free_bits: nats that each latent dimension may cost for free (see VAE.elbo).
        labels: one for each image, (N, ...), for a model whose `elbo` takes `labels`.

    Returns:
        History of the epoch means of this call.

    Raises:
        TypeError, ValueError: an argument is not what is described here.
        FloatingPointError: the bound is no longer finite.
    """
    model = unwrapped(model)
    _check(model, x, labels, binarize, seed, learning_rate)
    check_positive(epochs=epochs, batch_size=batch_size)
    options = _options(model, beta, free_bits)
    model.to(device).train()
    state = _resume(model, seed)
    images = _draw_once(x, state) if binarize == "fixed" else x
    optimizer = _Adam(model, learning_rate, state.moments)
    rows = []  # of each epoch: elbo, log_likelihood, kl, seconds
    with suppress(KeyboardInterrupt):
        if on_epoch and not state.epochs:
            on_epoch(0)
        for _ in tqdm(range(epochs), desc="epochs", leave=False):
            start = time.perf_counter()
            batches = _batches(images, labels, batch_size, binarize == "stochastic", state)
            means = _train_epoch(model, batches, optimizer, options, state.generator, device)
            rows.append((*means, time.perf_counter() - start))
            state.epochs += 1
            if on_epoch:
                on_epoch(state.epochs)
    return History(*map(list, zip(*rows, strict=True)))


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside what `torch.compile` made of it, whose parameters bear its own names."""
    return getattr(model, "_orig_mod", model)


def _check(model, x, labels, binarize, seed, learning_rate) -> None:
    if not hasattr(model, "elbo"):
        raise TypeError(
            f"model must have a method elbo(x, ...), and {type(model).__name__} has none"
        )
    if binarize not in ("stochastic", "fixed", "none"):
        raise ValueError(f"binarize must be 'stochastic', 'fixed' or 'none', got {binarize!r}")
    if not getattr(model, "binary", True) and binarize != "none":
        raise ValueError(
            f"binarize must be 'none' for a likelihood of grey values, got {binarize!r}"
        )
    if hasattr(model, "data_dim"):
        if binarize == "none" and hasattr(model, "check_images"):
            model.check_images(x)
        else:
            check_data(x, model.data_dim, binary=binarize == "none")
        check_like(x, next(model.parameters(), x), device=False)
    elif binarize != "none":
        check_unit(x)
    if not (isinstance(x, Tensor) and x.ndim and len(x)):
        raise ValueError("x must be a tensor of at least one example, (N, ...)")
    if labels is not None and (not isinstance(labels, Tensor) or len(labels) != len(x)):
        raise ValueError(f"labels must be a tensor of {len(x)}, one for each image, or None")
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    if seed is not None and not (whole and -(2**63) <= seed < 2**63):  # what `save` can write
        raise ValueError(f"seed must be a whole number of 64 bits or None, got {seed!r}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate!r}")


def _options(model, beta, free_bits) -> dict:
    """What `elbo` gets besides the images: beta and free bits only where they change something."""
    check_finite(beta=beta, free_bits=free_bits)
    options = {"beta": beta} if beta != 1 else {}
    if free_bits:
        options["free_bits"] = free_bits
    if hasattr(model, "data_dim"):
        options["validate_args"] = False
    return options


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _resume(model: nn.Module, seed: int | None) -> TrainingState:
    """Where the model's training stands, with new streams if another seed is asked for."""
    state = getattr(model, "training_state", None)
    if state is None:
        model.training_state = state = TrainingState(seed or 0, _seeded(seed or 0))
    elif seed not in (None, state.seed):
        state.seed, state.generator = seed, _seeded(seed)
    return state


def _draw_once(x: Tensor, state: TrainingState) -> Tensor:
    """Binary images that depend on the seed alone: the first thing that its stream gives."""
    generator = _seeded(state.seed)
    untouched = torch.equal(generator.get_state(), state.generator.get_state())
    images = draw_binary(x, generator)
    if untouched:
        state.generator = generator
    return images


class _Adam:
    """`torch.optim.Adam(..., maximize=True, fused=True)` with its moments from before.

    They are kept in `moments`, by the parameters' names. A parameter that is new, or has another
    shape than before, starts with moments of zero. PyTorch's own class does the same steps, but
    imports the compiler for the first one, which takes longer than a short training.
    """

    def __init__(self, model: nn.Module, learning_rate: float, moments: dict) -> None:
        self.learning_rate, self.state = learning_rate, {}
        for name, parameter in model.named_parameters():
            state = moments.get(name)
            if state is None or state["exp_avg"].shape != parameter.shape:
                zero = torch.zeros_like(parameter)
                state = {"step": torch.zeros(()), "exp_avg": zero, "exp_avg_sq": zero.clone()}
            step = state["step"].to(parameter.device)  # in float32, which counts to 16 million
            state = {key: value.to(parameter) for key, value in state.items()} | {"step": step}
            moments[name] = self.state[parameter] = state

    @torch.no_grad()
    def step(self) -> None:
        moving = {p: state for p, state in self.state.items() if p.grad is not None}
        keys = "exp_avg", "exp_avg_sq", "step"
        means, squares, steps = ([state[key] for state in moving.values()] for key in keys)
        gradients, lr = [p.grad for p in moving], self.learning_rate
        adam(list(moving), gradients, means, squares, [], steps, lr=lr, **ADAM)


def _batches(images, labels, size, draw, state) -> Iterator[tuple[Tensor, dict]]:
    """The images in a new order, cut into mini-batches (B, D), drawn from their grey values if so
    wanted, each with its labels."""
    generator = state.generator
    for indices in torch.randperm(len(images), generator=generator).to(images.device).split(size):
        batch = images.index_select(0, indices)  # half the time of images[indices]
        extra = {} if labels is None else {"labels": labels[indices.to(labels.device)]}
        yield draw_binary(batch, generator) if draw else batch, extra


def _train_epoch(model, batches, optimizer, options, generator, device) -> list[float]:
    """One pass over the images; the epoch's means of elbo, log_likelihood and kl."""
    seen = []  # the three terms of each mini-batch, (B,) each
    for batch, extra in batches:
        extra = {name: value.to(device) for name, value in extra.items()}
        terms = model.elbo(batch.to(device), generator=generator, **extra, **options)
        bound = terms.elbo.mean()  # over the batch
        if not math.isfinite(bound.item()):
            raise FloatingPointError(
                f"the bound became {bound.item()}: try a smaller learning_rate than "
                f"{optimizer.learning_rate:g}"
            )
        model.zero_grad()
        bound.backward()
        optimizer.step()
        seen.append([getattr(terms, name).detach() for name in TERMS])
    _drop_denormals(optimizer)
    return [torch.cat(term).mean().item() for term in zip(*seen, strict=True)]


def _drop_denormals(optimizer) -> None:
    """Zero what is left of Adam's running means where the gradient stays zero (an empty pixel).

    They shrink by a tenth a step into denormal numbers, on which Adam's step takes three times as
    long. Below 1e-16 they move no weight: Adam divides by at least 1e-8.
    """
    for state in optimizer.state.values():
        state["exp_avg"][state["exp_avg"].abs() < 1e-16] = 0
