"""The bound ladder: its bounds against the library's on the same draws, and its controls."""

import math
import re

import pytest
import torch
import traitlets
from test_monte_carlo_integral import DRAWS
from torch.distributions import Normal
from widgets import SENTENCE, evaluate, render, wait_until_drawn

from em2vae import VAE, load_digits
from em2vae.bounds import log_marginal_2d
from em2vae.data import binarize
from em2vae.interactive.bound_ladder import N_DRAWS, BoundLadder
from em2vae.interactive.figure import HERE

PAGE = "book/14-evaluation"
SAID = r"k = [\d,]+: the bound is (−?[\d.]+) nats, ([\d.]+) (below|above) the exact (−?[\d.]+)\."


@pytest.fixture(scope="module")
def x():
    return binarize(load_digits("test")[0][:4])


@pytest.fixture(scope="module")
def vae():
    """Weights that float16 holds exactly, and a posterior that the encoder misses a little."""
    vae = VAE(latent_dim=2, hidden_dims=(16,))
    with torch.no_grad():
        vae.encoder.heads.weight *= 3
        for parameter in vae.parameters():
            parameter.copy_(parameter.half())
    return vae.requires_grad_(False)


@pytest.fixture
def live(vae, x, open_page):
    return render(open_page("book/glossary", figures_only=True), BoundLadder(vae, x))


@pytest.fixture
def figure(open_page):
    return open_page(PAGE, figures_only=True).locator("figure[data-interactive='bound-ladder']")


def said(figure, k: int) -> tuple[float, float]:
    """The bound and the exact value, once all draws are there."""
    wait_until_drawn(figure.page)  # what was said so far may be of the setting before
    figure.get_by_label("Draws are coming in").first.wait_for(state="detached")
    text = figure.locator(SENTENCE).filter(has_text=f"k = {k:,}:").inner_text()
    bound, miss, side, exact = re.search(SAID, text).groups()
    bound, miss, exact = (float(n.replace("−", "-")) for n in (bound, miss, exact))
    assert (bound - exact) * (-1 if side == "below" else 1) == pytest.approx(miss, abs=0.011)
    return bound, exact


def slide(figure, name: str, value: float) -> None:
    figure.get_by_role("slider", name=name).fill(str(value))


@pytest.mark.parametrize("width", [1.0, 0.4, 2.0])
def test_bounds_are_those_of_the_library_on_the_same_draws(live, vae, x, width):
    shared = (HERE / "shared.js").read_text(encoding="utf-8")
    eps = torch.tensor(evaluate(live, DRAWS, [shared, 0, 2 * N_DRAWS])).reshape(-1, 2)
    q_z = vae.encode(x)
    q_z = Normal(q_z.mean[0], width * q_z.stddev[0])
    z = q_z.mean + q_z.stddev * eps  # (S, 2)
    log_w = vae.decode(z).log_prob(x[0]).sum(-1)  # over pixels
    log_w += (Normal(0.0, 1.0).log_prob(z) - q_z.log_prob(z)).sum(-1)  # over latent dimensions
    figure = live.locator("figure.em2vae")
    slide(figure, "Width of q", width)
    for power in (0, 3, 10):
        slide(figure, "Draws", power)
        bound, exact = said(figure, 2**power)
        groups = log_w.reshape(-1, 2**power)  # (groups, k)
        expected = (groups.logsumexp(1) - math.log(2**power)).mean().item()
        assert bound == pytest.approx(expected, abs=0.01)
        assert exact == pytest.approx(log_marginal_2d(vae, x)[0].item(), abs=0.006)


def test_it_opens_on_a_gap_that_draws_close(figure):
    first, exact = said(figure, 1)
    assert first < exact - 1
    slide(figure, "Draws", 10)
    last, exact = said(figure, 1024)
    assert last > first + 1
    assert last == pytest.approx(exact, abs=1)


def test_a_narrow_q_climbs_more_slowly(figure):
    slide(figure, "Draws", 7)
    wide, exact = said(figure, 128)
    before = figure.locator(SENTENCE).inner_text()
    slide(figure, "Width of q", 0.4)
    figure.page.wait_for_function(
        "([said, words]) => said.textContent !== words",
        arg=[figure.locator(SENTENCE).element_handle(), before],
    )
    narrow, same = said(figure, 128)
    assert same == exact
    assert narrow < wide - 0.2


def test_every_control_changes_both_drawings(figure):
    canvases = "f => [...f.querySelectorAll('canvas')].map((c) => c.toDataURL())"
    words = figure.locator(SENTENCE)
    for act in (
        lambda: slide(figure, "Draws", 4),
        lambda: slide(figure, "Width of q", 1.5),
        lambda: figure.get_by_role("button", name="New draws").click(),
        lambda: figure.get_by_role("button", name="Another digit").click(),
    ):
        before, old = figure.evaluate(canvases), words.inner_text()
        act()
        figure.page.wait_for_function(
            "([said, words]) => said.textContent !== words", arg=[words.element_handle(), old]
        )
        after = figure.evaluate(canvases)
        assert after[0] != before[0] and after[1] != before[1]


def test_traits_refuse_what_the_figure_cannot_show(vae, x):
    figure = BoundLadder(vae, x)
    assert figure.log_p == pytest.approx(log_marginal_2d(vae, x).tolist())
    figure.n_samples, figure.width, figure.digit = 1024, 0.5, 3
    for name, value in (("n_samples", 3), ("n_samples", 2048), ("digit", 4), ("width", 0.0)):
        with pytest.raises(traitlets.TraitError, match=name):
            setattr(figure, name, value)


def test_wrong_arguments_say_what_was_expected(vae, x):
    with pytest.raises(ValueError, match="latent_dim = 2, got 3"):
        BoundLadder(VAE(3, (8,)), x)
    with pytest.raises(ValueError, match="must be binary"):
        BoundLadder(vae, 0.5 * x)
