"""Training by stochastic gradient ascent on the bound (chapter 11)."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from em2vae.checks import check_data, check_positive
from em2vae.data import draw_binary
from em2vae.vae import VAE


@dataclass
class History:
    """Means over each epoch's training images, in nats, and the seconds each epoch took."""

    elbo: list[float] = field(default_factory=list)
    log_likelihood: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def fit(
    model: VAE,
    x: Tensor,
    epochs: int = 20,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    binarize: str = "stochastic",
    beta: float = 1.0,
    seed: int = 0,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[int], None] | None = None,
    free_bits: float = 0.0,
) -> History:
    """Maximize the mean ELBO of the images x with Adam (chapter 11, its algorithm).

    Args:
        model: the VAE; it is trained in place and left on `device`.
        x: images (N, D) in [0, 1].
        epochs: passes over the data.
        batch_size: images in a mini-batch; the last one of an epoch may be smaller.
        learning_rate: of Adam.
        binarize: "stochastic" draws each mini-batch's binary images anew, "fixed" draws them all
            once, "none" takes x as it is, which must then be binary.
        beta: weight of the KL (see VAE.elbo).
        seed: fixes the order of the images, their binarization and the noise.
        device: where to train.
        on_epoch: called with the number of epochs done, before the first and after each one.
        free_bits: nats that each latent dimension may cost for free (see VAE.elbo).

    Returns:
        History of the epoch means.

    Raises:
        TypeError, ValueError: an argument is not what is described here.
        FloatingPointError: the bound is no longer finite.
    """
    check_data(x, model.data_dim, binary=binarize == "none")
    check_positive(images=len(x), epochs=epochs, batch_size=batch_size)
    if binarize not in ("stochastic", "fixed", "none"):
        raise ValueError(f"binarize must be 'stochastic', 'fixed' or 'none', got {binarize!r}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate!r}")
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta must be a finite number of at least 0, got {beta!r}")
    if not 0 <= free_bits < math.inf:
        raise ValueError(f"free_bits must be a finite number of at least 0, got {free_bits!r}")
    weights = {"beta": beta, "free_bits": free_bits}
    generator = torch.Generator().manual_seed(seed)
    images = draw_binary(x, generator) if binarize == "fixed" else x
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, maximize=True, fused=True)
    history = History()
    if on_epoch:
        on_epoch(0)
    for epoch in tqdm(range(1, epochs + 1), desc="epochs", leave=False):
        start = time.perf_counter()
        batches = _binary_batches(images, batch_size, binarize == "stochastic", generator)
        means = _train_epoch(model, batches, optimizer, weights, generator, device)
        for name, value in zip(("elbo", "log_likelihood", "kl"), means, strict=True):
            getattr(history, name).append(value)
        history.seconds.append(time.perf_counter() - start)
        if on_epoch:
            on_epoch(epoch)
    return history


def _binary_batches(images, batch_size, draw, generator) -> Iterator[Tensor]:
    """The images in a new order, cut into mini-batches (B, D), and drawn from their grey values."""
    for indices in torch.randperm(len(images), generator=generator).split(batch_size):
        batch = images.index_select(0, indices)  # half the time of images[indices]
        yield draw_binary(batch, generator) if draw else batch


def _train_epoch(model, batches, optimizer, weights, generator, device) -> list[float]:
    """One pass over the images; the epoch's means of elbo, log_likelihood and kl."""
    seen = []  # the three terms of each mini-batch, (B,) each
    for batch in batches:
        terms = model.elbo(batch.to(device), generator=generator, validate_args=False, **weights)
        bound = terms.elbo.mean()  # over the batch
        if not math.isfinite(bound.item()):
            raise FloatingPointError(
                f"the bound became {bound.item()}: try a smaller learning_rate than "
                f"{optimizer.param_groups[0]['lr']:g}"
            )
        optimizer.zero_grad()
        bound.backward()
        optimizer.step()
        seen.append([term.detach() for term in terms])
    _drop_denormals(optimizer)
    return [torch.cat(term).mean().item() for term in zip(*seen, strict=True)]


def _drop_denormals(optimizer) -> None:
    """Zero what is left of Adam's running means where the gradient stays zero (an empty pixel).

    They shrink by a tenth a step into denormal numbers, on which Adam's step takes three times as
    long. Below 1e-16 they move no weight: Adam divides by at least 1e-8.
    """
    for state in optimizer.state.values():
        state["exp_avg"][state["exp_avg"].abs() < 1e-16] = 0
