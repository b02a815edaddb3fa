"""Style transfer: its arithmetic against PyTorch, its controls, its traits, what it refuses."""

import math
import re

import numpy as np
import pytest
import torch
import traitlets
from axe_playwright_python.sync_playwright import Axe
from test_amortized_pad import READ
from test_interactive import changes, controls
from test_looks import AXE, OVERFLOWING, RULES, SAMPLE
from torch import nn
from torch.distributions import Normal, kl_divergence
from widgets import HOLD_REST, evaluate, render, wait_until_drawn, words_of

from em2vae import VAE, fit, load_digits
from em2vae.conditional import ConditionalVAE
from em2vae.data import binarize
from em2vae.interactive.amortized_pad import normalize
from em2vae.interactive.style_transfer import StyleTransfer, cubature

LABELS = torch.arange(10)
# Counts the frames that are asked for, but for those of settle() itself.
COUNT_FRAMES = """() => {
    const frame = (window.frame = requestAnimationFrame.bind(window));
    window.asked = 0;
    window.requestAnimationFrame = (callback) => frame(callback, (window.asked += 1));
}"""
# Until the figure has asked for no frame during three.
SETTLE = """async () => {
    const end = performance.now() + 20_000;
    for (let [before, same] = [-1, 0]; same < 3; before = asked) {
        await new Promise(frame);
        same = asked === before ? same + 1 : 0;
        if (performance.now() > end) throw new Error("it does not come to rest");
    }
}"""


@pytest.fixture(scope="module")
def digits():
    x, labels = load_digits("test")
    return x[:40], labels[:40]


@pytest.fixture(scope="module")
def cvae():
    cvae = ConditionalVAE(5, (40,))
    x, labels = load_digits("train")
    fit(cvae, x, labels=labels, epochs=12, learning_rate=5e-3)
    return cvae.requires_grad_(False)


@pytest.fixture(scope="module")
def transfer(cvae, digits):
    return StyleTransfer(cvae, *digits, choices=[4, 7, 12, 23], digit=1)


@pytest.fixture
def page(open_page, transfer):
    return started(open_page, transfer)


def started(open_page, figure, **options):
    """A page with nothing else, once the figure rests."""
    page = open_page("book/glossary", figures_only=True, **options)
    page.evaluate(COUNT_FRAMES)
    settle(render(page, figure))
    return page


def settle(page) -> None:
    """Wait for all that the figure computes after a change, and for what is said of it."""
    page.evaluate(SETTLE)


def reached_by_tab(page, presses: int) -> list[str]:
    """The elements that a keyboard reaches."""
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(presses):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.outerHTML"))
    return reached


# What a select's options do, a frame apart, and what is shown and heard of it.
EACH_OPTION = """async (select) => {
    await rested();
    window.heard = [];
    window.shown = [];
    for (const [name, texts] of [["output", heard], [".em2vae-said", shown]]) {
        const element = document.querySelector(`figure ${name}`);
        const note = () => texts.push(element.textContent);
        new MutationObserver(note).observe(element, { childList: true });
    }
    for (const { value } of select.options) {
        select.value = value;
        select.dispatchEvent(new Event("change"));
        await new Promise(frame);
        await new Promise(frame);
    }
    await rested();
}"""


def heard_of_each_option(page, select) -> list[str]:
    """What is shown after each option, of which a voice must hear the last alone."""
    select.evaluate(EACH_OPTION)
    heard, shown = page.evaluate("[heard, shown]")
    assert heard == [shown[-1].replace("\u00a0", " ")]
    return shown


BOXES = """() => [...document.querySelectorAll("figure :is(canvas, input, select, button)")]
    .map((e) => { const { x, y, width, height } = e.getBoundingClientRect();
                  return [x + scrollX, y + scrollY, width, height].join(" "); })"""


def check_look(open_page, figure, look: str) -> None:
    """It is accessible in this look, and no wider than the screen."""
    page = started(open_page, figure, width=390 if look == "phone" else 1280)
    theme = "dark" if look == "dark" else "light"
    page.evaluate("(theme) => (document.documentElement.dataset.theme = theme)", theme)
    settle(page)
    assert page.evaluate(OVERFLOWING) == []
    page.evaluate(AXE)
    page.evaluate(SAMPLE)
    options = {"resultTypes": ["violations"], "preload": False, **RULES[look]}
    found = Axe(axe_script="null").run(page, context="figure.em2vae", options=options)
    assert not found.violations_count, found.generate_report()


def on_a_wall(open_page, figure, size):
    """The figure on a full screen of this size, all of which must be in sight."""
    page = started(open_page, figure)
    screen = page.context.new_cdp_session(page)
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement !== null")
    options = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    screen.send("Emulation.setDeviceMetricsOverride", options)
    page.wait_for_function("([w, h]) => innerWidth === w && innerHeight === h", arg=list(size))
    settle(page)
    assert figure_of(page).evaluate("e => e.scrollHeight - e.clientHeight") <= 0
    return page


def figure_of(page):
    return page.locator("figure.em2vae")


def canvas(page, label: str):
    return page.locator(f"canvas[aria-label^='{label}']")


def ink(canvas, width=28, height=28) -> torch.Tensor:
    """Ink on a canvas, (height, width), in [0, 1]."""
    read = READ.replace("0, 0, side, side", "0, 0, ...side").replace("(side, side)", "(...side)")
    grey = np.array(evaluate(canvas, read, [width, height]))[::4]
    return torch.from_numpy(1 - grey.reshape(height, width) / 255.0)


def seen(page) -> torch.Tensor:
    """The binary picture that the encoder gets, (1, 784)."""
    return ink(canvas(page, "What the encoder")).reshape(1, 784).float()


def sheet(page) -> torch.Tensor:
    """The ten pictures, (10, 784)."""
    tiles = ink(canvas(page, "The digits 0 to 9"), 140, 56).reshape(2, 28, 5, 28)
    return tiles.transpose(1, 2).reshape(10, 784)


def trait(page, name: str):
    return page.evaluate("(name) => model.get(name)", name)


def z_of(page) -> torch.Tensor:
    return torch.tensor(trait(page, "z"))


def costs(page) -> torch.Tensor:
    """Minus the bound, and the KL, under each label as the bars say them: (10, 2)."""
    text = canvas(page, "Bars").get_attribute("aria-label").replace("−", "-")
    found = re.findall(r"(\d): (-?\d+\.\d), of it KL (\d+\.\d)", text)
    assert [int(label) for label, _, _ in found] == list(range(10)), text
    return torch.tensor([[float(cost), float(kl)] for _, cost, kl in found])


def style(cvae, x, told: int) -> torch.Tensor:
    return cvae.encode(x, torch.tensor([told])).mean[0]


def terms(cvae, x, points):
    """Log-likelihoods (over the points) and KLs under each label, (10,) each."""
    q_z = cvae.encode(x.expand(10, -1), LABELS)
    z = q_z.mean + q_z.stddev * points[:, None]  # (S, 10, K)
    log_likelihood = cvae.decode(z, LABELS).log_prob(x).sum(-1).mean(0)
    return log_likelihood, kl_divergence(q_z, Normal(0.0, 1.0)).sum(-1)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text.replace("−", "-"))]


def tell(page, label: int) -> None:
    page.get_by_label("The encoder is told").select_option(str(label))
    settle(page)


def put(page, digit: int) -> None:
    page.get_by_label("On the pad").select_option(str(digit))
    settle(page)


def press(page, name: str) -> None:
    page.get_by_role("button", name=name).click()
    settle(page)


def draw(page, *points, lift=True):
    """A stroke through points in shares of the pad's side."""
    pad = canvas(page, "Pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    at = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in points]
    page.mouse.move(*at[0])
    page.mouse.down()
    for point in at[1:]:
        page.mouse.move(*point, steps=5)
    if lift:
        page.mouse.up()
    settle(page)


SEVEN = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)]

# The arithmetic ---------------------------------------------------------------------------------


def test_the_encoder_gets_the_normalized_picture(page, digits):
    for n, index in enumerate([4, 7, 12, 23]):
        put(page, n)
        picture = (normalize(digits[0][index].reshape(28, 28)) > 0.5).float()
        assert torch.equal(seen(page).reshape(28, 28), picture)


@pytest.mark.parametrize("told", [0, 4, 9])
def test_the_style_is_the_encoders_mean_under_the_label_it_is_told(page, cvae, told):
    tell(page, told)
    assert (z_of(page) - style(cvae, seen(page), told)).abs().max() < 1e-2


def test_the_sheet_is_the_decoder_at_the_style_under_each_label(page, cvae):
    for z in (z_of(page), torch.zeros(5), torch.tensor([2.0, -1.5, 0.5, 3.0, -2.5])):
        page.evaluate("(z) => model.set('z', z)", z.tolist())
        wait_until_drawn(page)
        expected = cvae.decode(z.expand(10, -1), LABELS).mean
        assert expected.max() > 0.8
        assert (sheet(page) - expected).abs().max() <= 2 / 255


@pytest.mark.parametrize("n", [0, 3])
def test_bounds_and_divergences_agree_with_pytorch(page, cvae, n):
    put(page, n)
    log_likelihood, kl = terms(cvae, seen(page), cubature(5))
    assert kl.max() - kl.min() > 1  # a wrong label's differs
    shown = costs(page)
    assert (shown[:, 0] - (kl - log_likelihood)).abs().max() < 0.15  # 0.1 and the rounding
    assert (shown[:, 1] - kl).abs().max() < 0.1


@pytest.mark.parametrize("told", [2, 3])
def test_the_sentence_names_the_terms_and_the_best_label(page, cvae, told):
    put(page, 2)  # a 2
    tell(page, told)
    log_likelihood, kl = terms(cvae, seen(page), cubature(5))
    bounds = log_likelihood - kl
    best, second = bounds.argsort(descending=True)[:2].tolist()
    words = words_of(figure_of(page))
    wanted = [
        kl[told],
        log_likelihood[told],
        bounds[told],
        *([] if told == best else [bounds[best]]),
    ]
    assert numbers(words) == pytest.approx([value.item() for value in wanted], abs=0.15)
    assert f"Told a {told}" in words
    assert ("This is the highest" in words) == (told == best)
    shares = 100 * bounds.softmax(0)
    said = dict(re.findall(r"an? (\d) with ((?:over |under )?\d+ %)", words))
    assert list(said) == [str(best), str(second)][: len(said)]
    assert len(said) == (1 if said[str(best)] == "over 99 %" else 2)
    for label, text in said.items():
        word, percent = re.fullmatch(r"(over |under )?(\d+) %", text).groups()
        assert shares[int(label)] == pytest.approx(int(percent), abs=4 if not word else 1)


def test_the_points_beat_as_many_draws(cvae, digits):
    """By three times at least, measured against four thousand."""
    generator = torch.Generator().manual_seed(1)
    few, many = (torch.randn(n, 5, generator=generator) for n in (10, 2000))
    errors = []
    for image in binarize(digits[0])[:6]:
        sets = (cubature(5), few, torch.cat([many, -many]))
        by_points, by_draws, right = (terms(cvae, image[None], at)[0] for at in sets)
        errors.append(torch.stack([by_points - right, by_draws - right]))
    points, draws = torch.cat(errors, dim=1).square().mean(1).sqrt().tolist()
    assert points < 0.4 and points < draws / 3


@pytest.mark.parametrize("latent_dim", [1, 2, 5, 16])
def test_the_points_average_cubic_functions_exactly(latent_dim):
    points = cubature(latent_dim).double()
    assert points.shape == (2 * latent_dim, latent_dim)
    assert points.mean(0).abs().max() < 1e-6
    assert (points.T @ points / len(points) - torch.eye(latent_dim)).abs().max() < 1e-5
    third = torch.einsum("si,sj,sk->ijk", points, points, points)
    assert third.abs().max() < 1e-4


@pytest.mark.parametrize("activation", [nn.Tanh, nn.SiLU])
def test_other_activations_and_depths_agree_too(open_page, digits, activation):
    cvae = ConditionalVAE(3, (17, 9), activation=activation)
    x, labels = load_digits("train")
    fit(cvae, x, labels=labels, epochs=3, learning_rate=1e-2)
    cvae.requires_grad_(False)
    page = started(open_page, StyleTransfer(cvae, *digits))
    log_likelihood, kl = terms(cvae, seen(page), cubature(3))
    assert (costs(page)[:, 0] - (kl - log_likelihood)).abs().max() < 0.15
    expected = cvae.decode(z_of(page).expand(10, -1), LABELS).mean
    assert (sheet(page) - expected).abs().max() <= 2 / 255


def test_a_damaged_weight_is_shown_as_an_error(open_page, transfer):
    weights = bytearray(transfer._decoder_weights)
    weights[5] ^= 1
    page = open_page("book/glossary", figures_only=True)
    render(page, transfer, _decoder_weights=bytes(weights))
    assert figure_of(page).get_attribute("data-state") == "error"
    assert "damaged" in page.get_by_role("alert").inner_text()


# The pad ----------------------------------------------------------------------------------------


def test_a_stroke_replaces_the_digit_and_its_style(page, cvae):
    before = z_of(page)
    draw(page, *SEVEN)
    assert trait(page, "digit") == -1
    assert page.get_by_label("On the pad").input_value() == "-1"
    assert "your drawing" in canvas(page, "Pad").get_attribute("aria-label")
    picture = seen(page)
    drawn = (normalize(ink(canvas(page, "Pad"), 112, 112)) > 0.5).float()
    assert (picture.reshape(28, 28) != drawn).sum() <= 4  # the canvas holds bytes
    assert (z_of(page) - style(cvae, picture, trait(page, "told"))).abs().max() < 1e-2
    assert (z_of(page) - before).abs().max() > 0.1
    log_likelihood, kl = terms(cvae, picture, cubature(5))
    assert (costs(page)[:, 0] - (kl - log_likelihood)).abs().max() < 0.15


def test_a_second_stroke_is_added_and_the_sliders_follow(page, cvae):
    press(page, "Clear the pad")
    draw(page, *SEVEN)
    one, z = seen(page), z_of(page)
    draw(page, (0.35, 0.55), (0.7, 0.55))
    assert (seen(page) != one).any()
    assert (z_of(page) - z).abs().max() > 0.05
    for slider, k in zip(sliders(page), trait(page, "active"), strict=True):
        assert float(slider.input_value()) == pytest.approx(z_of(page)[k].item(), abs=0.026)


def test_the_bars_follow_a_pen_that_is_still_down_and_the_sentence_rests(page):
    press(page, "Clear the pad")
    before = words_of(figure_of(page))
    draw(page, *SEVEN, lift=False)
    first = costs(page)
    box = canvas(page, "Pad").bounding_box()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
    settle(page)
    assert (costs(page) - first).abs().max() > 0.5
    assert words_of(figure_of(page)) == before
    page.mouse.up()
    settle(page)
    assert "Told a" in words_of(figure_of(page))


def test_an_empty_pad_says_so_and_keeps_the_style(page):
    z = trait(page, "z")
    press(page, "Clear the pad")
    assert "The pad is empty" in words_of(figure_of(page))
    assert trait(page, "z") == z
    assert (ink(canvas(page, "Pad"), 112, 112) == 0).all()
    assert "No drawing yet" in canvas(page, "Bars").get_attribute("aria-label")
    for name in ("Drawn style", "Tell the best label", "Clear the pad"):
        assert page.get_by_role("button", name=name).is_disabled()
    press(page, "Zero style")
    assert z_of(page).abs().max() == 0


# The controls -----------------------------------------------------------------------------------


def sliders(page) -> list:
    return page.locator("input[type=range]").all()


def test_each_slider_moves_its_dimension_and_the_sheet_at_once(page, cvae):
    names = [f"z{'₁₂₃₄₅'[k]}" for k in trait(page, "active")]
    assert len(names) >= 3
    for name, k in zip(names, trait(page, "active"), strict=True):
        before = z_of(page)
        slider = page.get_by_label(name).and_(page.locator("input"))
        slider.fill("1.5")
        wait_until_drawn(page)
        after = z_of(page)
        assert after[k] == 1.5 and (after != before).sum() <= 1
        expected = cvae.decode(after.expand(10, -1), LABELS).mean
        assert (sheet(page) - expected).abs().max() <= 2 / 255
    settle(page)
    assert "another style, not the drawing's" in words_of(figure_of(page))


def test_the_style_is_zero_the_priors_or_the_drawings(page, cvae):
    own = z_of(page)
    press(page, "Zero style")
    assert z_of(page).abs().max() == 0
    assert "zero style" in words_of(figure_of(page))
    press(page, "Prior style")
    one = z_of(page)
    press(page, "Prior style")
    assert (one != 0).all() and (one != z_of(page)).all()
    press(page, "Drawn style")
    assert (z_of(page) - own).abs().max() < 1e-2  # Python computed the first
    assert "not the drawing's" not in words_of(figure_of(page))


def test_prior_styles_look_like_draws_of_a_standard_normal(page):
    page.get_by_role("button", name="Prior style").evaluate(
        """(button) => {
            window.zs = [];
            for (let i = 0; i < 400; i++) {
                button.click();
                zs.push(...model.get("z"));
            }
        }"""
    )
    zs = torch.tensor(page.evaluate("zs"))
    assert zs.mean().item() == pytest.approx(0, abs=0.1)
    assert zs.std().item() == pytest.approx(1, abs=0.1)


def test_a_wrong_label_gives_another_style_and_the_best_one_is_a_click_away(page):
    put(page, 2)  # a 2
    right, bounds = z_of(page), costs(page)
    best = bounds[:, 0].argmin().item()
    wrong = (best + 3) % 10
    tell(page, wrong)
    assert (z_of(page) - right).abs().max() > 0.1
    assert torch.equal(costs(page), bounds)  # of the same picture
    button = page.get_by_role("button", name="Tell the best label")
    press(page, "Tell the best label")
    assert trait(page, "told") == best
    assert page.get_by_label("The encoder is told").input_value() == str(best)
    assert button.is_disabled()


def test_a_digit_from_the_list_brings_its_label(page, transfer):
    for n, label in enumerate(transfer._digits):
        put(page, n)
        assert trait(page, "told") == label
        named = f"{'an' if label == 8 else 'a'} {label}"
        assert canvas(page, "Pad").get_attribute("aria-label").endswith(f", {named}")
        assert f"Told {named}, " in words_of(figure_of(page))
    put(page, -1)
    assert trait(page, "digit") == -1 and "The pad is empty" in words_of(figure_of(page))


def test_every_control_answers_the_keyboard_and_tab_reaches_it(page):
    figure = figure_of(page)
    reached = reached_by_tab(page, 20)
    for control in controls(figure):
        name = control.inner_text()
        if control.is_enabled() and name != "Full screen":
            assert control.evaluate("e => e.outerHTML") in reached, name
    for name in ("Zero style", "Prior style", "Drawn style", "Clear the pad"):
        assert changes(figure, page.get_by_role("button", name=name)), name
    for control in page.locator("select, input").all():
        assert changes(figure, control), control.evaluate("e => e.outerHTML")


def test_nothing_works_while_nothing_moves(page):
    asked = page.evaluate("asked")
    page.wait_for_timeout(300)
    assert page.evaluate("asked") == asked


def test_a_voice_hears_one_sentence_after_ten_moves(page):
    page.evaluate(HOLD_REST)
    shown = heard_of_each_option(page, page.get_by_label("The encoder is told"))
    assert len(shown) == 10 and "Told a 9" in shown[-1]


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_moved_by_what_moves(open_page, transfer, width):
    page = started(open_page, transfer, width=width)
    draw(page, *SEVEN)
    before = page.evaluate(BOXES)
    draw(page, (0.35, 0.55), (0.7, 0.55), lift=False)
    assert page.evaluate(BOXES) == before
    page.mouse.up()
    for value in ("-2.95", "0", "2.5"):
        for slider in sliders(page):
            slider.fill(value)
        wait_until_drawn(page)
        # On a phone the sentence stands above the bars, and takes a line more once.
        assert page.evaluate(BOXES)[:-2] == before[:-2]


# Looks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", RULES)
def test_it_is_accessible_and_no_wider_than_the_screen(open_page, transfer, look):
    check_look(open_page, transfer, look)


@pytest.mark.parametrize("size", [(1366, 768), (1920, 1080), (800, 1200)])
def test_the_whole_of_it_fits_a_wall(open_page, transfer, size):
    page = on_a_wall(open_page, transfer, size)
    assert canvas(page, "The digits").bounding_box()["width"] > 0.3 * size[0]


# The traits, with a kernel ----------------------------------------------------------------------


def test_a_kernel_moves_the_sliders_the_label_and_the_digit(page, cvae):
    page.evaluate("model.set('z', [0.5, -1, 2, 0, 1.5])")
    wait_until_drawn(page)
    for slider, k in zip(sliders(page), trait(page, "active"), strict=True):
        assert float(slider.input_value()) == [0.5, -1, 2, 0, 1.5][k]
    saved = page.evaluate("model.saved")
    page.evaluate("model.set('digit', 3); model.set('told', 3); model.set('z', [0, 0, 0, 0, 0])")
    settle(page)
    assert page.evaluate("model.saved") == saved  # Python sends all three; nothing goes back
    assert page.get_by_label("On the pad").input_value() == "3"
    assert page.get_by_label("The encoder is told").input_value() == "3"
    assert "zero style" in words_of(figure_of(page))


def test_a_kernel_that_tells_another_label_of_a_drawing_gets_its_style(page, cvae):
    draw(page, *SEVEN)
    page.evaluate("model.set('told', 1)")
    settle(page)
    assert (z_of(page) - style(cvae, seen(page), 1)).abs().max() < 1e-2


def test_controls_and_pen_reach_a_kernel(page):
    for act in (
        lambda: sliders(page)[0].fill("0.5"),
        lambda: tell(page, 8),
        lambda: put(page, 0),
        lambda: draw(page, *SEVEN),
        lambda: press(page, "Zero style"),
    ):
        saved = page.evaluate("model.saved")
        act()
        assert page.evaluate("model.saved") > saved


def test_a_closed_figure_stops_listening(page):
    before = page.evaluate("model.listening()")
    page.evaluate("close_figure()")
    assert page.evaluate("model.listening()") < before


# Python -----------------------------------------------------------------------------------------


@pytest.fixture
def untrained(digits):
    return StyleTransfer(ConditionalVAE(4, (8,)), *digits)


def test_digit_and_label_bring_their_style(untrained, digits):
    cvae = ConditionalVAE(4, (8,)).requires_grad_(False)
    pictures = torch.stack([normalize(image.reshape(28, 28)) > 0.5 for image in digits[0][:10]])
    pictures = pictures.flatten(1).float()
    assert untrained.told == 0
    untrained.digit = 6
    assert untrained.told == 6
    assert untrained.z == pytest.approx(style(cvae, pictures[6:7], 6).tolist(), abs=1e-6)
    untrained.told = 2
    assert untrained.z == pytest.approx(style(cvae, pictures[6:7], 2).tolist(), abs=1e-6)
    z = untrained.z
    untrained.digit = -1
    untrained.told = 5
    assert untrained.z == z  # Python has not seen the drawing


def test_sliders_are_for_the_six_dimensions_with_the_largest_kl(digits):
    cvae = ConditionalVAE(9, (8,))
    with torch.no_grad():
        cvae.encoder.heads.weight.zero_()
        cvae.encoder.heads.bias.zero_()  # mu; the KL is mu²/2
        cvae.encoder.heads.bias[:9] = torch.tensor([0.1, 2.0, 0.0, -3.0, 1.0, 0.9, -0.8, 4.5, 0.7])
    transfer = StyleTransfer(cvae, *digits)
    assert transfer.active == [7, 3, 1, 4, 5, 6]
    assert transfer.kl == pytest.approx([10.125, 4.5, 2.0, 0.5, 0.405, 0.32], abs=1e-5)
    assert transfer._limit == 5


def test_by_default_the_first_of_each_digit_can_be_put_on_the_pad(digits):
    x, labels = digits
    keep = (labels != 3).nonzero()[:, 0].flip(0)
    transfer = StyleTransfer(ConditionalVAE(2, (8,)), x[keep], labels[keep])
    assert transfer._digits == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    first = x[keep][(labels[keep] == 4).nonzero()[0, 0]]
    images = np.frombuffer(transfer._images, np.uint8).reshape(9, 784)
    assert (images[3] == (255 * first).round().numpy()).all()


def test_one_style_dimension_and_an_empty_pad_are_fine(open_page, digits):
    page = started(open_page, StyleTransfer(ConditionalVAE(1, (8,)), *digits, digit=-1))
    assert len(sliders(page)) == 1
    assert "The pad is empty" in words_of(figure_of(page))
    draw(page, *SEVEN)
    assert "Told a 0" in words_of(figure_of(page))


def test_models_that_it_cannot_show_are_refused(digits):
    with pytest.raises(
        TypeError, match=r"vae must be an em2vae.conditional.ConditionalVAE, got VAE"
    ):
        StyleTransfer(VAE(2, (4,)), *digits)
    with pytest.raises(TypeError, match="ConditionalVAE, got Linear"):
        StyleTransfer(nn.Linear(2, 784), *digits)
    with pytest.raises(ValueError, match=r"n_classes = 10, got 5: the page writes the ten digits"):
        StyleTransfer(ConditionalVAE(2, (4,), n_classes=5), *digits)
    with pytest.raises(ValueError, match=r"data_dim = 784, got 64: .* 28x28"):
        StyleTransfer(ConditionalVAE(2, (4,), data_dim=64), *digits)
    with pytest.raises(ValueError, match="not Hardtanh"):
        StyleTransfer(ConditionalVAE(2, (4,), activation=nn.Hardtanh), *digits)
    for network in ("encoder", "decoder"):
        cvae = ConditionalVAE(2, (4,))
        next(getattr(cvae, network).parameters()).data[1, 2] = math.nan
        with pytest.raises(ValueError, match="finite"):
            StyleTransfer(cvae, *digits)


def test_choices_that_are_no_images_with_ink_are_refused(digits):
    x, labels = digits
    for choices in ([], [40], [-1]):
        with pytest.raises(ValueError, match="choices must be indices of the 40 images"):
            StyleTransfer(ConditionalVAE(2, (4,)), x, labels, choices)
    with pytest.raises(ValueError, match="with ink"):
        StyleTransfer(ConditionalVAE(2, (4,)), 0 * x, labels)
    with pytest.raises(traitlets.TraitError, match=r"digit must lie in -1\.\.1, got 2"):
        StyleTransfer(ConditionalVAE(2, (4,)), x, labels, [3, 5], digit=2)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("digit", 10, r"digit must lie in -1\.\.9, got 10"),
        ("told", 10, r"told must lie in 0\.\.9, got 10"),
        ("told", -1, r"told must lie in 0\.\.9, got -1"),
        ("z", [0.0] * 3, "z must hold 4 finite numbers"),
        ("z", [0.0, math.nan, 0.0, 0.0], "z must hold 4 finite numbers"),
    ],
)
def test_wrong_traits_say_what_was_expected(untrained, name, value, message):
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(untrained, name, value)


def test_a_tensor_is_as_good_as_a_list(untrained):
    untrained.z = torch.tensor([0.5, -1.0, 2.0, 0.0])
    assert untrained.z == [0.5, -1.0, 2.0, 0.0]
