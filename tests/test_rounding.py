"""Rounded weights: what is shown stays, and is worth fewer bits where it hardly depends on them."""

import pytest
import torch
from torch import nn

from em2vae import VAE, fit, load_digits
from em2vae.data import binarize
from em2vae.interactive.amortized_pad import moved
from em2vae.interactive.rounding import LARGEST, round_weights, run, sort_units, unrounded

ACTIVATIONS = [torch.relu, torch.relu, nn.Identity()]


@pytest.fixture(scope="module")
def decoder():
    """Weights and biases of a decoder with logits far from 0."""
    vae = VAE(2, (40, 30))
    fit(vae, load_digits()[0], epochs=6, learning_rate=1e-2)
    layers = [module for module in vae.decoder.modules() if isinstance(module, nn.Linear)]
    return [(layer.weight.detach(), layer.bias.detach()) for layer in layers]


@pytest.fixture(scope="module")
def z():
    draw = torch.Generator().manual_seed(3)
    return 6 * torch.rand(2000, 2, generator=draw) - 3, 6 * torch.rand(2000, 2, generator=draw) - 3


def pixels(layers, z):
    return run(layers, ACTIVATIONS, z)[1][-1].sigmoid()


def bits(rounded) -> float:
    """Entropy of the whole numbers, in bits a weight."""
    values = torch.cat([numbers.flatten() for numbers, _, _ in rounded])
    shares = values.unique(return_counts=True)[1] / len(values)
    return -(shares * shares.log2()).sum().item()


@pytest.mark.parametrize("tolerance", [1e-3, 1e-2, 5e-2])
def test_what_is_shown_stays_within_the_tolerance(decoder, z, tolerance):
    rounded = round_weights(decoder, ACTIVATIONS, z[0], torch.sigmoid, tolerance)
    error = (pixels(unrounded(rounded), z[0]) - pixels(decoder, z[0])).abs().max()
    assert 0.5 * tolerance < error <= tolerance  # no finer than it need be
    fresh = (pixels(unrounded(rounded), z[1]) - pixels(decoder, z[1])).abs().max()
    assert fresh < 1.25 * tolerance


def test_a_looser_tolerance_takes_fewer_bits(decoder, z):
    tight, loose = (
        round_weights(decoder, ACTIVATIONS, z[0], torch.sigmoid, tolerance)
        for tolerance in (2e-3, 1.6e-2)
    )
    assert bits(tight) > bits(loose) + 2  # of the three that eight times as coarse would save


def test_the_columns_to_come_make_up_for_the_error(decoder, z):
    rounded = round_weights(decoder, ACTIVATIONS, z[0], torch.sigmoid, 1e-2)
    plain = [
        ((weight / steps[:, None]).round() * steps[:, None], bias)
        for (weight, bias), (_, steps, _) in zip(decoder, rounded, strict=True)
    ]
    errors = [
        (pixels(n, z[1]) - pixels(decoder, z[1])).abs().max() for n in (plain, unrounded(rounded))
    ]
    assert errors[0] > 3 * errors[1]


def test_numbers_fit_what_they_travel_in(decoder, z):
    for tolerance in (1e-7, 1e-2):  # the first cannot be met
        for numbers, steps, bias in round_weights(
            decoder, ACTIVATIONS, z[0], torch.sigmoid, tolerance
        ):
            assert numbers.abs().max() <= LARGEST
            assert torch.equal(numbers, numbers.round())
            assert torch.equal(steps, steps.half().float()) and steps.min() > 0
            assert torch.equal(bias, bias.half().float())


def test_a_unit_that_shows_nothing_costs_little(z):
    """The second hidden unit is never above 0."""
    first = (torch.tensor([[1.3, 0.4], [0.9, -1.1]]), torch.tensor([0.3, -9.0]))
    last = (torch.tensor([[0.7, 5.0]]), torch.tensor([0.1]))
    activations = [torch.relu, nn.Identity()]
    (numbers, steps, _), _ = round_weights([first, last], activations, z[0], torch.sigmoid, 1e-3)
    assert steps[1] > 50 * steps[0]
    assert numbers[1].abs().max() < numbers[0].abs().max() / 20


def test_sorted_units_are_the_same_network(decoder, z):
    rounded = round_weights(decoder, ACTIVATIONS, z[0], torch.sigmoid, 1e-2)
    in_order = sort_units(rounded)
    same, shown = (pixels(unrounded(layers), z[1]) for layers in (rounded, in_order))
    assert torch.allclose(same, shown, atol=1e-6)
    for numbers, *_ in in_order[:-1]:
        sizes = numbers.abs().mean(1)
        assert torch.equal(sizes, sizes.sort().values)
    assert not torch.equal(in_order[0][1], rounded[0][1])


def test_the_pad_learns_from_moved_images():
    x = binarize(load_digits("test")[0][:3])
    pictures = moved(x).reshape(5, 3, 28, 28)
    assert torch.equal(pictures[0].flatten(1), x)
    here = x.reshape(3, 28, 28)
    assert torch.equal(pictures[1][:, 6:], here[:, :-6])
    assert torch.equal(pictures[2][:, :-6], here[:, 6:])
    assert torch.equal(pictures[3][:, :, 6:], here[:, :, :-6])
    assert torch.equal(pictures[4][:, :, :-6], here[:, :, 6:])
