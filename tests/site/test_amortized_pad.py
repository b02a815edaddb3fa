"""The amortized pad: normalization, encoder, bound and refinement against Python and autograd."""

import itertools
import re

import numpy as np
import pytest
import torch
import traitlets
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from widgets import evaluate, layers_of, render, states, wait_until_drawn, words_of

from em2vae import VAE, load_digits
from em2vae.bounds import log_marginal_2d
from em2vae.interactive.amortized_pad import AmortizedPad, as_drawn, normalize

PAGE = "book/09-amortized-inference"
STEPS, RATE = 40, 0.5  # of Refine
# From a copy: Chromium warns of a drawing that is read more than once.
READ = """(canvas, side) => {
    const copy = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    return [...copy.getImageData(0, 0, side, side).data];
}"""


@pytest.fixture(scope="module")
def state(site) -> dict:
    [state] = states(site / f"{PAGE}.html", "amortized-pad")
    return state


def fill(network: nn.Module, spec: dict, data: bytes) -> None:
    """The weights that travel with the figure, into a network of the same shape."""
    values = itertools.chain(*layers_of(spec, data))
    for parameter, value in zip(network.parameters(), values, strict=True):
        parameter.data = torch.from_numpy(value)


@pytest.fixture(scope="module")
def vae(state):
    activation = {"silu": nn.SiLU, "tanh": nn.Tanh, "relu": nn.ReLU}[
        state["_decoder"]["layers"][0]["activation"]
    ]
    hidden = tuple(layer["outputs"] for layer in state["_encoder"]["layers"][:-1])
    vae = VAE(2, hidden, activation=activation).double()
    fill(vae.encoder, state["_encoder"], state["_encoder_weights"])
    fill(vae.decoder, state["_decoder"], state["_decoder_weights"])
    return vae.requires_grad_(False)


@pytest.fixture
def figure(open_page):
    figure = open_page(PAGE, figures_only=True).locator("figure[data-interactive='amortized-pad']")
    settle(figure)
    return figure


def settle(figure):
    """Until the posterior is there, or two frames have passed on an empty pad."""
    wait_until_drawn(figure.page)  # what was said before is gone
    figure.page.wait_for_function(
        "(f) => /log p\\(x\\)|empty/.test(f.querySelector('.em2vae-said').textContent)",
        arg=figure.element_handle(),
        timeout=30_000,  # a few thousand decoder passes, spread over frames
    )
    wait_until_drawn(figure.page)


def canvas(figure, label: str):
    return figure.locator(f"canvas[aria-label^='{label}']")


def pixels(canvas, side: int = 28) -> np.ndarray:
    return np.array(evaluate(canvas, READ, side))[::4].reshape(side, side)


def seen(figure) -> torch.Tensor:
    """The binary picture that the encoder gets, (1, 784)."""
    return torch.from_numpy(1 - pixels(canvas(figure, "What the encoder")) / 255.0).reshape(1, 784)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text.replace("−", "-"))]


def shown_q(figure) -> torch.Tensor:
    """mu and sigma as the map's label says them, (4,), to two digits."""
    return torch.tensor(numbers(canvas(figure, "Map").get_attribute("aria-label")))


def said(figure) -> list[float]:
    return numbers(words_of(figure))


def elbo(vae, state, x, mu, log_sigma):
    """By torch.distributions, on the figure's noise."""
    eps = torch.tensor(state["_eps"]).double()
    weights = torch.tensor(state["_weights"]).double()
    z = mu + log_sigma.exp() * eps
    log_likelihood = Bernoulli(logits=vae.decoder(z).logits).log_prob(x).sum(-1)
    prior = Normal(torch.zeros(2).double(), 1.0)
    return weights @ log_likelihood - kl_divergence(Normal(mu, log_sigma.exp()), prior).sum()


def refine(vae, state, x, mu, log_sigma, steps=STEPS):
    for _ in range(steps):
        mu, log_sigma = (v.detach().requires_grad_() for v in (mu, log_sigma))
        bound = elbo(vae, state, x, mu, log_sigma)
        grad_mu, grad_log_sigma = torch.autograd.grad(bound, (mu, log_sigma))
        sigma = log_sigma.exp()
        mu = mu + sigma * (RATE * sigma * grad_mu).clamp(-1, 1)
        log_sigma = log_sigma + (RATE / 2 * grad_log_sigma).clamp(-1, 1)
    return mu.detach(), log_sigma.detach()


def encoded(vae, x):
    q_z = vae.encode(x)
    return q_z.mean[0], q_z.stddev[0].log()


def ink_of(state, n: int) -> torch.Tensor:
    """A test digit as it lies on the pad, (112, 112)."""
    grey = np.frombuffer(state["_images"], np.uint8).reshape(-1, 28, 28)[n] / 255
    return torch.from_numpy(grey.repeat(4, 0).repeat(4, 1))


def test_normalization_equals_the_reference(figure, state):
    differing = 0
    for n in range(0, len(state["_digits"]), 3):
        figure.get_by_label("On the pad").select_option(str(n))
        wait_until_drawn(figure.page)
        picture = (normalize(ink_of(state, n)) > 0.5).double()
        differing += (seen(figure).reshape(28, 28) != picture).sum().item()
    assert differing == 0


def test_without_normalization_the_shift_stays(figure, state):
    figure.get_by_label("Normalize as MNIST does").uncheck()
    figure.get_by_label("Move right").fill("3")
    figure.get_by_label("Move down").fill("-2")
    wait_until_drawn(figure.page)
    moved = ink_of(state, state["digit"]).roll((-8, 12), (0, 1))
    assert (seen(figure).reshape(28, 28) == (as_drawn(moved) > 0.5)).all()


def test_with_normalization_the_shift_goes(figure):
    before, q = seen(figure), shown_q(figure)
    pad = pixels(canvas(figure, "Pad"), 112)
    figure.get_by_label("Move right").fill("3")
    figure.get_by_label("Move down").fill("-2")
    wait_until_drawn(figure.page)
    assert (pixels(canvas(figure, "Pad"), 112) == np.roll(pad, (-8, 12), (0, 1))).all()
    assert (seen(figure) == before).all()
    assert torch.equal(shown_q(figure), q)


@pytest.mark.parametrize("n", [0, 4, 9])
def test_ellipse_bound_and_evidence_agree_with_pytorch(figure, state, vae, n):
    figure.get_by_label("On the pad").select_option(str(n))
    settle(figure)
    x = seen(figure)
    mu, log_sigma = encoded(vae, x)
    assert torch.allclose(shown_q(figure), torch.cat([mu, log_sigma.exp()]).float(), atol=0.011)
    bound, log_p, gap = said(figure)
    assert bound == pytest.approx(elbo(vae, state, x, mu, log_sigma).item(), abs=0.1)
    exact = log_marginal_2d(vae, x).item()
    assert log_p == pytest.approx(exact, abs=0.1)
    assert gap == pytest.approx(exact - elbo(vae, state, x, mu, log_sigma).item(), abs=0.03)


@pytest.mark.parametrize("n", [0, 7])
def test_refinement_agrees_with_autograd(figure, state, vae, n):
    figure.get_by_label("On the pad").select_option(str(n))
    settle(figure)
    x = seen(figure)
    start = encoded(vae, x)
    figure.get_by_role("button", name="Refine").click()
    settle(figure)
    mu, log_sigma = refine(vae, state, x, *start)
    expected = torch.cat([mu, log_sigma.exp()]).float()
    assert torch.allclose(shown_q(figure), expected, atol=0.011)
    first, after, _, gap = said(figure)
    assert after == pytest.approx(elbo(vae, state, x, mu, log_sigma).item(), abs=0.1)
    assert after > first
    assert gap > -0.05


def test_it_opens_with_a_gap_that_refinement_closes(figure):
    before = said(figure)[-1]
    figure.get_by_role("button", name="Refine").click()
    settle(figure)
    after = said(figure)[-1]
    assert before > 1
    assert after < before / 2
    figure.get_by_role("button", name="The encoder's answer").click()
    settle(figure)
    assert said(figure)[-1] == before


def test_the_animated_refinement_rises_and_stops(figure):
    figure.page.emulate_media(reduced_motion="no-preference")
    figure.get_by_role("button", name="Refine").click()
    figure.page.wait_for_function(
        "(f) => f.querySelector('.em2vae-said').textContent.includes('after 40 steps')",
        arg=figure.element_handle(),
    )
    first, after, *_ = said(figure)
    assert after > first
    wait_until_drawn(figure.page)
    assert said(figure)[1] == after


def draw(figure, *points):
    """A stroke through points in shares of the pad's side."""
    pad = canvas(figure, "Pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    at = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in points]
    mouse = figure.page.mouse
    mouse.move(*at[0])
    mouse.down()
    for point in at[1:]:
        mouse.move(*point, steps=5)
    mouse.up()
    wait_until_drawn(figure.page)


def test_a_stroke_replaces_the_digit_and_moves_the_ellipse(figure, vae):
    figure.get_by_role("button", name="Clear the pad").click()
    wait_until_drawn(figure.page)
    assert figure.get_by_role("button", name="Refine").is_disabled()
    draw(figure, (0.5, 0.15), (0.5, 0.85))  # a one
    one, q = seen(figure), shown_q(figure)
    assert figure.get_by_label("On the pad").input_value() == "-1"
    ink = torch.from_numpy(1 - pixels(canvas(figure, "Pad"), 112) / 255.0)
    wrong = (one.reshape(28, 28) != (normalize(ink) > 0.5)).sum()
    assert wrong <= 4  # the canvas holds bytes, the figure the ink itself
    assert 20 <= one.sum() <= 120
    mu, log_sigma = encoded(vae, one)
    assert torch.allclose(q, torch.cat([mu, log_sigma.exp()]).float(), atol=0.011)
    draw(figure, (0.3, 0.85), (0.7, 0.85))
    assert (shown_q(figure) - q).abs().max() > 0.05
    settle(figure)
    assert said(figure)[-1] > 0


def test_the_first_stroke_takes_a_test_digit_off_the_pad(figure):
    digit = pixels(canvas(figure, "Pad"), 112)
    draw(figure, (0.2, 0.1), (0.2, 0.2))
    ink = pixels(canvas(figure, "Pad"), 112) < 128
    assert figure.get_by_label("On the pad").input_value() == "-1"
    assert (digit < 128).sum() > 500
    assert 0 < ink[:40, :40].sum() == ink.sum()


def test_a_shifted_pad_takes_ink_where_the_pen_is(figure):
    figure.get_by_role("button", name="Clear the pad").click()
    figure.get_by_label("Move right").fill("4")
    draw(figure, (0.5, 0.4), (0.5, 0.6))
    rows, columns = np.nonzero(pixels(canvas(figure, "Pad"), 112) < 128)
    assert columns.mean() == pytest.approx(55.5, abs=1)
    assert rows.mean() == pytest.approx(55.5, abs=1)


def test_an_empty_pad_says_so(figure):
    figure.get_by_role("button", name="Clear the pad").click()
    settle(figure)
    assert "empty" in words_of(figure)
    assert (pixels(canvas(figure, "Pad"), 112) == 255).all()


@pytest.fixture(scope="module")
def digits():
    x, labels = load_digits("test")
    return x[:30], labels[:30]


# A figure of its own, with wide posteriors ------------------------------------------------------


@pytest.mark.parametrize("activation", [nn.SiLU, nn.Tanh, nn.ReLU])
def test_steps_agree_with_autograd_to_four_digits(digits, open_page, activation):
    """Untrained, q is about as wide as the prior, so every term of the gradient counts."""
    vae = VAE(2, (6, 5), activation=activation, seed=2)
    for weight in vae.decoder.parameters():
        weight.data *= 2
    eps, weights = torch.randn(7, 2, generator=torch.Generator().manual_seed(0)), torch.ones(7) / 7
    pad = AmortizedPad(vae, *digits, [4, 1], eps, weights)
    page = render(open_page("book/glossary", figures_only=True), pad)
    x = (normalize(digits[0][4].reshape(28, 28)) > 0.5).double().reshape(1, 784)
    state = pad.get_state()
    model = VAE(2, (6, 5), activation=activation).double()
    fill(model.encoder, state["_encoder"], bytes(state["_encoder_weights"]))
    fill(model.decoder, state["_decoder"], bytes(state["_decoder_weights"]))
    model.requires_grad_(False)
    page.evaluate("model.set('digit', 1); model.set('digit', 0)")  # the encoder's own answer
    start = encoded(model, x)
    shown = torch.tensor(page.evaluate("[...model.get('mu'), ...model.get('sigma')]"))
    assert torch.allclose(shown, torch.cat([start[0], start[1].exp()]).float(), atol=1e-4)
    assert shown[2:].min() > 0.5
    page.get_by_role("button", name="Refine").click()
    mu, log_sigma = refine(model, state, x, *start)
    shown = torch.tensor(page.evaluate("[...model.get('mu'), ...model.get('sigma')]"))
    expected = torch.cat([mu, log_sigma.exp()]).float()
    assert torch.allclose(shown, expected, rtol=1e-3, atol=1e-4)
    assert (expected - torch.cat([start[0], start[1].exp()])).abs().max() > 0.05
    assert page.evaluate("model.saved") > 0


# The reference and the traits in Python ----------------------------------------------------------


@pytest.mark.parametrize("scale, corner", [(1, (30, 12)), (2, (5, 40)), (3, (1, 2))])
def test_normalization_ignores_place_and_size(scale, corner):
    shape = torch.zeros(24, 16)
    shape[2:22, 4:12] = 1
    shape[2:6, 4:14] = 1
    drawing = torch.zeros(112, 112)
    big = shape.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    drawing[corner[0] : corner[0] + 24 * scale, corner[1] : corner[1] + 16 * scale] = big
    picture = normalize(drawing)
    rows, columns = picture.sum(1), picture.sum(0)
    middles = torch.arange(28).double() + 0.5
    assert (rows > 1e-6).sum() in (20, 21)  # one more where the box lies between pixels
    assert (middles @ rows / rows.sum()).item() == pytest.approx(14, abs=1e-4)
    assert (middles @ columns / columns.sum()).item() == pytest.approx(14, abs=1e-4)
    expected = normalize(torch.nn.functional.pad(shape, (40, 56, 30, 58)))
    assert torch.allclose(picture, expected, atol=1e-4)
    assert picture.sum().item() == pytest.approx(shape.sum().item(), abs=1e-3)


NODES = (torch.zeros(1, 2), torch.ones(1))


def test_wrong_arguments_say_what_was_expected(digits):
    x, labels = digits
    with pytest.raises(ValueError, match="latent_dim = 2, got 3"):
        AmortizedPad(VAE(3, (4,)), x, labels, [0], *NODES)
    with pytest.raises(ValueError, match="x and labels must match, got 30 and 29"):
        AmortizedPad(VAE(2, (4,)), x, labels[:-1], [0], *NODES)
    with pytest.raises(ValueError, match="choices must be indices of the 30 images"):
        AmortizedPad(VAE(2, (4,)), x, labels, [30], *NODES)


def test_wrong_traits_say_what_was_expected(digits):
    pad = AmortizedPad(VAE(2, (4,)), *digits, [0, 1], *NODES)
    with pytest.raises(traitlets.TraitError, match=r"digit must lie in -1\.\.1, got 2"):
        pad.digit = 2
    with pytest.raises(traitlets.TraitError, match=r"shift must lie in -6\.\.6"):
        pad.shift = [0, 7]
    with pytest.raises(traitlets.TraitError, match="sigma must hold 2 positive"):
        pad.sigma = [1.0, 0.0]
    with pytest.raises(traitlets.TraitError, match="mu must hold 2 finite"):
        pad.mu = [float("nan"), 0.0]


def test_the_first_answer_is_the_encoders(digits):
    vae = VAE(2, (4,))
    pad = AmortizedPad(vae, *digits, [3, 1], *NODES)
    picture = (normalize(digits[0][3].reshape(28, 28)) > 0.5).float().reshape(1, 784)
    assert pad.mu == pytest.approx(vae.encode(picture).mean[0].tolist(), abs=1e-6)
    assert pad.sigma == pytest.approx(vae.encode(picture).stddev[0].tolist(), abs=1e-6)
