"""Weights as whole numbers, as coarse as what is shown allows, so that a page travels light.

Each row of a weight matrix has a step, and each weight becomes a whole multiple of it. Where what
is shown hardly depends on a unit, the step of its row is large. Weights are rounded one column
after the other, and the columns to come make up for the error so far, as well as the inputs let
them (Hassibi and Stork's optimal brain surgeon, 1993, with rounding in place of pruning).
"""

from collections.abc import Callable

import torch
from torch import Tensor

LARGEST = 8191  # of the whole numbers: finer than float16 once errors are made up for
DAMPING = 0.01  # keeps the moments of inputs that hardly vary apart from 0, relative to the others
N_TRIES = 5  # of coarseness, each where the last one says that the tolerance is just met
MOST_INPUTS = 2500  # of a layer whose errors are made up for: the time grows with their cube
LEAST_REACH = 0.01  # of a unit, relative to the one that reaches farthest
Activation = Callable[[Tensor], Tensor]


def round_weights(
    layers: list[tuple[Tensor, Tensor]],
    activations: list[Activation],
    examples: Tensor,
    shown: Activation,
    tolerance: float,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The layers with the coarsest steps, of those tried, that keep what is shown.

    Args:
        layers: each a weight (O, I) and a bias (O,).
        activations: what follows each layer.
        examples: inputs (N, I) of the kind that the network will see.
        shown: what a reader sees of outputs (N, O).
        tolerance: by how much a number that is shown may change for one of the examples. Where
            float16 is too coarse for it, the best that was found comes back.

    Returns:
        For each layer whole numbers (O, I), none beyond LARGEST, the step of each row (O,), and
        the bias (O,). Steps and biases are numbers of float16.
    """
    layers = [(weight.detach().float(), bias.detach().float()) for weight, bias in layers]
    with torch.enable_grad():
        inputs, outputs = run(layers, activations, examples.detach().float().requires_grad_())
        wanted = shown(outputs[-1])
        scales = [1 / reach for reach in reaches(outputs, wanted)]
    factors = [
        feedback(x.detach().double()).float() if x.shape[1] <= MOST_INPUTS else None for x in inputs
    ]
    coarseness, found = 0.1 * tolerance, []
    with torch.no_grad():
        for _ in range(N_TRIES):
            parts = zip(layers, scales, factors, strict=True)
            rounded = [round_layer(*layer, coarseness * scale, U) for layer, scale, U in parts]
            _, outputs = run(unrounded(rounded), activations, inputs[0])
            error = (shown(outputs[-1]) - wanted).abs().max().item()
            found.append((max(0.0, error - tolerance), -coarseness, rounded))
            coarseness *= min(8.0, max(0.1, 0.96 * tolerance / max(error, 1e-12)))
    return min(found, key=lambda found: found[:2])[2]


def sort_units(rounded: list[tuple[Tensor, Tensor, Tensor]]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The same network, its hidden units in order of the size of their numbers.

    A page that is compressed part by part is lighter by 4 % where alike numbers stand together.
    """
    layers, order = [], slice(None)
    for depth, (numbers, steps, bias) in enumerate(rounded, start=1):
        numbers = numbers[:, order]
        hidden = depth < len(rounded)
        order = numbers.abs().mean(1).argsort() if hidden else slice(None)
        layers.append((numbers[order], steps[order], bias[order]))
    return layers


def unrounded(rounded: list[tuple[Tensor, Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Weights and biases again."""
    return [(numbers * steps[:, None], bias) for numbers, steps, bias in rounded]


def run(layers, activations: list[Activation], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What enters each layer (N, I), and what it makes of that before its activation (N, O)."""
    inputs, outputs = [], []
    for (weight, bias), activation in zip(layers, activations, strict=True):
        inputs.append(x)
        outputs.append(x @ weight.T + bias)
        x = activation(outputs[-1])
    return inputs, outputs


def reaches(outputs: list[Tensor], shown: Tensor) -> list[Tensor]:
    """How far a small change of each unit reaches at most, before its activation: (O,) a layer.

    The change of all that is shown is measured along random signs, a draw an example.
    """
    signs = torch.randn(shown.shape, generator=torch.Generator().manual_seed(0)).sign()
    slopes = torch.autograd.grad((signs * shown).sum(), outputs)
    most = [slope.abs().amax(0) for slope in slopes]  # over examples
    return [reach.clamp(min=LEAST_REACH * reach.max().item()) for reach in most]


def feedback(inputs: Tensor) -> Tensor:
    """U (I + 1, I + 1) from inputs (N, I): row i says how the later columns make up for column i.

    The last column is the bias. U is the upper Cholesky factor of the inverse second moments.
    """
    x = torch.cat([inputs, torch.ones(len(inputs), 1).to(inputs)], dim=1)
    moments = x.T @ x / len(x)
    moments.diagonal().add_(DAMPING * moments.diagonal().mean())
    return torch.linalg.cholesky(torch.linalg.inv(moments), upper=True)


def round_layer(weight: Tensor, bias: Tensor, steps: Tensor, U: Tensor | None):
    """The layer in multiples of about these steps (O,), as round_weights returns it.

    Without U nothing makes up for the errors.
    """
    steps = steps.maximum(weight.abs().amax(1) / LARGEST).clamp(1e-6, 6e4).half().float()
    if U is None:
        numbers = (weight / steps[:, None]).round().clamp(-LARGEST, LARGEST)
        return numbers, steps, bias.half().float()
    rest = torch.cat([weight, bias[:, None]], dim=1).T.contiguous()  # (I + 1, O)
    numbers = torch.zeros_like(rest[:-1])
    for i in range(len(numbers)):
        numbers[i] = (rest[i] / steps).round().clamp(-LARGEST, LARGEST)
        error = (rest[i] - numbers[i] * steps) / U[i, i]
        rest[i + 1 :] -= U[i, i + 1 :, None] * error
    return numbers.T, steps, rest[-1].half().float()
