"""The latent explorer: its arithmetic against PyTorch, its controls, and its traits."""

import numpy as np
import pytest
import torch
import traitlets
from widgets import IMPORT, VIEW, encoded, evaluate, render, run_network, states, wait_until_drawn

from em2vae import VAE, fit, load_digits
from em2vae.data import binarize
from em2vae.interactive.figure import HERE, pack_decoder, pack_encoder, pack_half
from em2vae.interactive.latent_explorer import LatentExplorer, latent_kl

PAGE = "book/12-latent-space"
RUN_NETWORKS = f"""async ([text, networks, inputs]) => {{
    const shared = await ({IMPORT})(text);
    const [decoder, encoder] = networks.map(([spec, base64]) =>
        shared.unpackNetwork(spec, ({VIEW})(base64)));
    return {{
        pixels: inputs.z.map((z) => [...shared.decode(decoder, z)]),
        codes: inputs.x.map((x) => {{
            const {{ mu, logVar }} = shared.encode(encoder, x);
            return [...mu, ...logVar];
        }}),
    }};
}}"""


@pytest.fixture(scope="module")
def digits():
    x, labels = load_digits("test")
    return binarize(x[:60]), labels[:60]


@pytest.fixture(scope="module", params=["ReLU", "Tanh", "SiLU"])
def vae(request):
    vae = VAE(4, (65, 31), activation=getattr(torch.nn, request.param))
    fit(vae, load_digits()[0], epochs=8, learning_rate=5e-3)  # logits far from zero
    return vae


@torch.no_grad()
def test_networks_agree_with_pytorch_on_a_grid(vae, digits, open_page):
    x, _ = digits
    others = binarize(load_digits("train")[0][:500])
    axis = torch.linspace(-3, 3, 4)
    z = torch.cartesian_prod(axis, axis, axis, axis)  # (256, 4)
    packed = [
        pack_decoder(vae.decoder, vae.encode(others).mean),
        pack_encoder(vae.encoder, others, 4),
    ]
    networks = [(spec, encoded(weights)) for spec, weights in packed]
    shared = (HERE / "shared.js").read_text(encoding="utf-8")
    page = open_page("book/glossary", figures_only=True)
    result = evaluate(page, RUN_NETWORKS, [shared, networks, {"z": z.tolist(), "x": x.tolist()}])
    pixels = vae.decode(z).mean
    assert pixels.min() < 0.01 and pixels.max() > 0.99
    assert (torch.tensor(result["pixels"]) - pixels).abs().max() <= 2 / 255
    q_z = vae.encode(x)
    expected = torch.cat([q_z.mean, q_z.variance.log()], dim=-1)
    assert (torch.tensor(result["codes"]) - expected).abs().max() <= 1e-2


def test_a_damaged_weight_is_shown_as_an_error(digits, open_page):
    explorer = LatentExplorer(VAE(2, (8,)), *digits)
    weights = bytearray(explorer._decoder_weights)
    weights[5] ^= 1
    page = render(
        open_page("book/glossary", figures_only=True), explorer, _decoder_weights=bytes(weights)
    )
    assert page.locator("figure.em2vae").get_attribute("data-state") == "error"
    assert "damaged" in page.get_by_role("alert").inner_text()


@pytest.fixture
def live(digits, open_page):
    vae = VAE(3, (8,))
    with torch.no_grad():
        vae.encoder.heads.weight *= 20  # every dimension active
    explorer = LatentExplorer(vae, *digits)
    return explorer, render(open_page("book/glossary", figures_only=True), explorer)


def test_python_moves_the_sliders(live):
    _, page = live
    page.evaluate("model.set('z', [0.5, -1, 2])")
    wait_until_drawn(page)
    for name, value in (("z₁", 0.5), ("z₂", -1.0), ("z₃", 2.0)):
        assert float(page.get_by_label(name).and_(page.locator("input")).input_value()) == value


def test_a_slider_reaches_python(live):
    explorer, page = live
    first = page.locator(".em2vae-sliders input").first
    first.fill("1.5")
    assert page.evaluate("model.get('z')")[explorer.active[0]] == 1.5
    assert page.evaluate("model.saved") == 1


def test_a_closed_figure_stops_listening(live):
    _, page = live
    before = page.evaluate("model.listening()")
    page.evaluate("close_figure()")
    assert page.evaluate("model.listening()") < before


# The built page --------------------------------------------------------------------------------


def grey_values(canvas) -> np.ndarray:
    """The first channel of a digit's canvas, (784,)."""
    read = "c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data]"
    return np.array(evaluate(canvas, read))[::4]


@pytest.fixture(params=["http", "file"])
def explorers(request, site, open_page):
    page = open_page(PAGE, request.param, figures_only=True)
    figures = page.locator("figure[data-interactive='latent-explorer']").all()
    yield list(zip(figures, states(site / f"{PAGE}.html", "latent-explorer"), strict=True))


def picture(figure, name: str):
    return figure.locator(f"canvas[aria-label^='{name}']")


def z_of(figure, state) -> np.ndarray:
    """The latent point as the sliders show it, inactive dimensions as they were stored."""
    z = np.array(state["z"])
    sliders = figure.locator(".em2vae-sliders input").all()
    z[state["active"]] = [float(slider.input_value()) for slider in sliders]
    return z


def test_the_picture_is_the_decoder_at_the_sliders(explorers):
    for figure, state in explorers:
        for slider in figure.locator(".em2vae-sliders input").all():
            slider.fill("0.75")
        figure.locator(".em2vae-sliders input").first.fill("-1.25")
        wait_until_drawn(figure.page)
        logits = run_network(state["_decoder"], state["_decoder_weights"], z_of(figure, state))
        expected = 255 * (1 - 1 / (1 + np.exp(-logits)))
        shown = grey_values(picture(figure, "Decoded"))
        assert np.abs(shown - expected).max() <= 2
        assert shown.min() < 128  # there is ink


def test_a_test_digit_is_encoded(explorers):
    for figure, state in explorers:
        figure.get_by_role("button", name="A test digit").click()
        wait_until_drawn(figure.page)
        n = state["digit"] + 1
        bits = np.unpackbits(np.frombuffer(state["_images"], np.uint8)).reshape(-1, 784)[n]
        assert (grey_values(picture(figure, "Original")) == 255 * (1 - bits)).all()
        code = run_network(state["_encoder"], state["_encoder_weights"], bits)[: len(state["z"])]
        shown = z_of(figure, state)[state["active"]]
        assert np.abs(shown - code[state["active"]]).max() < 0.03  # half a slider's step


def test_a_prior_sample_has_no_original(explorers):
    for figure, state in explorers:
        before = z_of(figure, state)
        assert picture(figure, "Original").is_visible()
        figure.get_by_role("button", name="A prior sample").click()
        picture(figure, "Original").wait_for(state="hidden")
        assert (z_of(figure, state) != before).any()


def test_interpolation_walks_from_code_to_code(explorers):
    for figure, state in explorers:
        start = z_of(figure, state)
        figure.get_by_role("button", name="Interpolate").click()
        picture(figure, "Target").wait_for(state="visible")
        wait_until_drawn(figure.page)
        end = z_of(figure, state)  # reduced motion: it jumps to the end
        codes = np.frombuffer(state["_codes"], "<f2").reshape(-1, len(start))
        n = state["digit"] + 1
        active = state["active"]
        assert np.abs(end - codes[n])[active].max() < 0.04
        figure.get_by_label("Interpolation").fill("0.5")
        wait_until_drawn(figure.page)
        assert np.abs(z_of(figure, state) - (start + end) / 2)[active].max() < 0.06


def test_dragging_on_the_map_moves_two_coordinates(explorers):
    for figure, state in explorers:
        figure.scroll_into_view_if_needed()
        before = z_of(figure, state)
        canvas = figure.locator("canvas.em2vae-map")
        box = canvas.bounding_box()
        mouse = figure.page.mouse
        mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
        mouse.down()
        mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.25 * box["height"])
        mouse.up()
        wait_until_drawn(figure.page)
        x, y = sorted(state["active"][:2])
        after = z_of(figure, state)
        assert sorted(np.flatnonzero(before != after)) == [x, y]
        limit = float(figure.locator(".em2vae-sliders input").first.get_attribute("max"))
        assert np.abs(after[[x, y]] - [0, limit / 2]).max() < 0.06


def test_figures_on_one_page_do_not_disturb_each_other(explorers):
    (first, _), (second, state) = explorers
    before = z_of(second, state)
    first.locator(".em2vae-sliders input").first.fill("2")
    first.get_by_role("button", name="A prior sample").click()
    wait_until_drawn(first.page)
    assert (z_of(second, state) == before).all()


def test_the_landing_page_shows_the_same_model(site, open_page):
    figure = open_page("book/index", figures_only=True).locator(
        "figure[data-interactive='latent-explorer']"
    )
    state = states(site / f"{PAGE}.html", "latent-explorer")[0]
    logits = run_network(state["_decoder"], state["_decoder_weights"], np.array(state["z"]))
    expected = 255 * (1 - 1 / (1 + np.exp(-logits)))
    assert np.abs(grey_values(picture(figure, "Decoded")) - expected).max() <= 2


def test_plain_widgets_say_that_they_need_a_kernel(open_page):
    message = open_page(PAGE).locator(".em2vae-message")
    assert "kernel" in message.inner_text()
    assert message.locator("a").get_attribute("href").endswith(".ipynb")


# The traits in Python --------------------------------------------------------------------------


@pytest.fixture
def explorer(digits):
    return LatentExplorer(VAE(3, (8,)), *digits)


def test_setting_the_digit_moves_z_to_its_code(explorer, digits):
    explorer.digit = 5
    code = VAE(3, (8,)).encode(digits[0][5:6]).mean[0]
    assert explorer.z == pytest.approx(code.tolist(), abs=1e-6)
    explorer.digit = -1
    assert explorer.z == pytest.approx(code.tolist(), abs=1e-6)


@pytest.mark.parametrize("z", [[1.0, 2.0], [0.0, float("nan"), 0.0], []])
def test_a_wrong_z_says_what_was_expected(explorer, z):
    with pytest.raises(traitlets.TraitError, match="z must hold 3 finite numbers"):
        explorer.z = z


def test_a_wrong_digit_says_what_was_expected(explorer):
    with pytest.raises(traitlets.TraitError, match=r"digit must lie in -1\.\.59, got 60"):
        explorer.digit = 60


def test_wrong_arguments_say_what_was_expected(digits):
    x, labels = digits
    with pytest.raises(ValueError, match="x and labels must match, got 60 and 59"):
        LatentExplorer(VAE(3, (8,)), x, labels[:-1])
    with pytest.raises(ValueError, match=r"x must have shape \(N, 784\)"):
        LatentExplorer(VAE(3, (8,)), x[:, :-1], labels)
    with pytest.raises(ValueError, match="not Hardtanh"):
        LatentExplorer(VAE(3, (8,), activation=torch.nn.Hardtanh), x, labels)
    with pytest.raises(ValueError, match="float16"):
        pack_half(torch.tensor([1e6]))


def test_active_dimensions_are_sorted_by_their_kl(digits):
    vae = VAE(5, (8,))
    with torch.no_grad():
        vae.encoder.heads.weight.zero_()
        vae.encoder.heads.bias.zero_()
        vae.encoder.heads.bias[:5] = torch.tensor([0.1, 2.0, 0.0, -3.0, 1.0])  # mu; KL is mu²/2
    explorer = LatentExplorer(vae, *digits)
    assert explorer.active == [3, 1, 4]
    assert explorer.kl == pytest.approx([4.5, 2.0, 0.5], abs=1e-6)
    assert latent_kl(vae.encode(digits[0])).shape == (5,)
