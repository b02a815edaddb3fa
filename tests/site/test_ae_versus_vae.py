"""Autoencoder against VAE: the browser's pictures against NumPy, the walk, the scale."""

import numpy as np
import pytest
import torch
import traitlets
from torch import nn
from widgets import evaluate, run_network, states, wait_until_drawn, words_of

from em2vae import VAE, load_digits
from em2vae.data import binarize
from em2vae.interactive.ae_versus_vae import AeVersusVae
from em2vae.vae import mlp

PAGE = "book/10-autoencoders"
NAMES = ("Autoencoder", "VAE")
# From a copy: Chromium warns when one canvas is read again and again.
READ = """(canvas) => {
    const context = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    context.drawImage(canvas, 0, 0);
    return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
}"""


def state_of(site) -> dict:
    [state] = states(site / f"{PAGE}.html", "ae-versus-vae")
    return state


def decode(spec: dict, data: bytes, z: np.ndarray) -> np.ndarray:
    """Ink of the network from its bytes, (784,)."""
    return 1 / (1 + np.exp(-run_network(spec, data, z)))


def grey_values(figure, label: str) -> np.ndarray:
    canvas = figure.locator(f"canvas[aria-label^='{label}']")
    return np.array(evaluate(canvas, READ))[::4]


def codes_of(state) -> list[np.ndarray]:
    halves = (np.frombuffer(state[name], "<f2") for name in ("_ae_codes", "_vae_codes"))
    return [half.astype(np.float64).reshape(-1, 2) for half in halves]


def pictures(state, points) -> list[np.ndarray]:
    weights = (state["_ae_weights"], state["_vae_weights"])
    parts = zip(state["_decoders"], weights, points, strict=True)
    return [255 * (1 - decode(*part)) for part in parts]


@pytest.fixture(params=["http", "file"])
def figure(request, open_page):
    return open_page(PAGE, request.param, figures_only=True).locator(
        "figure[data-interactive='ae-versus-vae']"
    )


def shown(figure) -> list[np.ndarray]:
    wait_until_drawn(figure.page)
    return [grey_values(figure, f"{name}: picture at the point") for name in NAMES]


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).max() <= 2
        assert one.min() < 128  # there is ink


def test_the_walk_decodes_what_lies_between_the_codes(figure, site):
    state = state_of(site)
    for t in (0.5, 0.2, 1.0):
        if t != 0.5:  # the initial state is half the way
            figure.get_by_label("Walk in both models").fill(str(t))
        ends = [(z[state["start"]], z[state["end"]]) for z in codes_of(state)]
        between = [a + t * (b - a) for a, b in ends]
        assert_close(shown(figure), pictures(state, between))


def test_the_scale_changes_the_autoencoders_draws_and_nothing_else(figure, site):
    draws = "standard normal draws, decoded"
    before = shown(figure)
    ten = [grey_values(figure, f"{name}: 10 {draws}") for name in NAMES]
    figure.get_by_label("Scale of AE codes").fill("1")  # ten times as large
    after = shown(figure)
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(after, before, strict=True))
    scaled = [grey_values(figure, f"{name}: 10 {draws}") for name in NAMES]
    assert np.abs(scaled[0] - ten[0]).max() > 50
    assert (scaled[1] == ten[1]).all()
    at_origin = pictures(state_of(site), [np.zeros(2)] * 2)[0].reshape(28, 28)
    tiles = scaled[0].reshape(2, 28, 5, 28).transpose(0, 2, 1, 3)
    assert np.abs(tiles - at_origin).mean() < 25  # all draws decode to nearly one picture


def test_the_nearest_test_digit_is_named(figure, site):
    state = state_of(site)
    bits = np.unpackbits(np.frombuffer(state["_images"], np.uint8)).reshape(-1, 784)
    ends = [(z[state["start"]], z[state["end"]]) for z in codes_of(state)]
    words = []
    for name, grey in zip(NAMES, pictures(state, [(a + b) / 2 for a, b in ends]), strict=True):
        distances = np.linalg.norm(bits - (1 - grey / 255), axis=1)
        digit = state["_labels"][distances.argmin()]
        words.append(f"{name}: a {digit}, at distance {distances.min():.1f}")
    assert "; ".join(words) in words_of(figure)


def test_other_digits_and_examples_move_both_ends(figure, site):
    state = state_of(site)
    labels, codes = list(state["_labels"]), codes_of(state)
    figure.get_by_label("From", exact=True).select_option("3")
    figure.get_by_role("button", name="Other examples").click()
    figure.get_by_label("Walk in both models").fill("0")
    n = labels.index(3, labels.index(3) + 1)  # the second 3
    assert_close(shown(figure), pictures(state, [z[n] for z in codes]))


def test_dragging_moves_one_model_only(figure):
    figure.scroll_into_view_if_needed()
    before = shown(figure)
    box = figure.locator("canvas[aria-label^='VAE: map']").bounding_box()
    figure.page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"])
    after = shown(figure)
    assert (after[0] == before[0]).all()
    assert (after[1] != before[1]).any()
    limit = float(figure.get_by_label("VAE z₁").get_attribute("max"))
    assert float(figure.get_by_label("VAE z₁").input_value()) == pytest.approx(
        -0.4 * limit, abs=0.1
    )


def test_wrong_arguments_say_what_was_expected():
    x, labels = load_digits("test")
    x, labels, vae = binarize(x[:20]), labels[:20], VAE(2, (8,))
    encoder, decoder = mlp([784, 2], nn.ReLU), mlp([2, 784], nn.ReLU)
    figure = AeVersusVae(encoder, decoder, vae, x, labels, 3, 5)
    expected = (encoder(x)[3] + encoder(x)[5]) / 2
    assert figure.code == pytest.approx(expected.tolist(), abs=1e-6)
    with pytest.raises(ValueError, match="x and labels must match, got 20 and 19"):
        AeVersusVae(encoder, decoder, vae, x, labels[:-1])
    with pytest.raises(ValueError, match="latent_dim = 2, got 3"):
        AeVersusVae(encoder, decoder, VAE(3, (8,)), x, labels)
    with pytest.raises(traitlets.TraitError, match=r"end must lie in 0\.\.19, got 20"):
        AeVersusVae(encoder, decoder, vae, x, labels, 0, 20)
    with pytest.raises(ValueError, match="binary"):
        AeVersusVae(encoder, decoder, vae, torch.full_like(x, 0.5), labels)
