"""The likelihood lab: its arithmetic against PyTorch, its controls, its traits, what it refuses."""

import math
import re

import numpy as np
import pytest
import torch
import traitlets
from scipy.optimize import minimize_scalar
from test_gradient_race import normals
from test_interactive import changes, controls
from test_looks import RULES
from test_style_transfer import (
    BOXES,
    canvas,
    check_look,
    figure_of,
    heard_of_each_option,
    on_a_wall,
    reached_by_tab,
    settle,
    started,
    trait,
)
from torch.distributions import Bernoulli, Normal
from widgets import HOLD_REST, IMPORT, evaluate, wait_until_drawn, words_of

from em2vae import load_digits
from em2vae.interactive.likelihood_lab import LIKELIHOODS, SCALES, LikelihoodLab
from em2vae.pixels import DiscretizedLogistic, bits_per_dim, dequantize

GREY = LIKELIHOODS[1:]  # of 256 levels
LEVELS = torch.arange(256).double()
ROOM = 0.0051  # of a number with two decimals
# What the module exports, called in a page.
CALL = f"""async ([text, body, given]) => {{
    const lab = await ({IMPORT})(text);
    return new Function("lab", "given", body)(lab, given);
}}"""
DARKNESS = """(canvas, [height, width]) => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height);
    copy.getContext("2d").drawImage(canvas, 0, 0);
    const { data } = copy.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const zoom = canvas.width / width;
    return Array.from({ length: height * width }, (_, i) => {
        const [row, column] = [Math.floor(i / width), i % width]
            .map((n) => Math.floor((n + 0.5) * zoom));
        return 1 - data[4 * (row * canvas.width + column)] / 255;
    });
}"""


def blurred(image):
    """What a decoder could have made of an image (H, W)."""
    kernel = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    kernel = (kernel[:, None] * kernel)[None, None]
    return torch.nn.functional.conv2d(image[None, None], kernel, padding=2)[0, 0].clamp(0, 1)


@pytest.fixture(scope="module")
def image():
    return load_digits("test")[0][4].view(28, 28)


@pytest.fixture(scope="module")
def lab(image):
    return LikelihoodLab(blurred(image), image)


@pytest.fixture
def page(open_page, lab):
    return started(open_page, lab)


@pytest.fixture
def call(page, lab):
    return lambda body, given: evaluate(page, CALL, [lab._esm, body, given])


PICTURES = ("The true picture", "The mean picture", "A draw", "Bits of each pixel")


def darkness(page, label: str, shape=(28, 28)) -> torch.Tensor:
    """Of each pixel of a picture, in [0, 1]."""
    return torch.tensor(evaluate(canvas(page, label), DARKNESS, list(shape))).reshape(shape)


def apart(page, label: str, expected: torch.Tensor) -> float:
    """The largest difference from the darkness expected (H, W), in levels, beyond the mark."""
    difference = (255 * (darkness(page, label, expected.shape) - expected)).abs()
    row, column = trait(page, "row"), trait(page, "column")
    inside = difference[row, column].item()
    difference[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = inside
    return difference.max().item()


def set_traits(page, **traits) -> None:
    for name, value in traits.items():
        page.evaluate("([name, value]) => model.set(name, value)", [name, value])
    settle(page)


def slider(page, name: str):
    return page.get_by_role("slider", name=name)


def sliders(page) -> list:
    return page.get_by_role("slider").all()


def press(page, name: str) -> None:
    page.get_by_role("button", name=name).click()
    settle(page)


# The arithmetic ---------------------------------------------------------------------------------


def log_cell(p: Normal, k: torch.Tensor) -> torch.Tensor:
    """log of a normal's mass in each level's cell, the end cells with their tails (chapter 17)."""
    a, b = ((e / 256 - p.loc) / p.scale for e in (k, k + 1))
    a, b = a.masked_fill(k == 0, -math.inf), b.masked_fill(k == 255, math.inf)
    low, high = torch.where(a + b > 0, -b, a), torch.where(a + b > 0, -a, b)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return log_high + torch.log1p(-(log_low - log_high).exp())


def log_p(name: str, k: torch.Tensor, mean: torch.Tensor, scale: float) -> torch.Tensor:
    """By torch.distributions and em2vae.pixels, in double precision: nats of levels k."""
    mean, scale = (torch.as_tensor(v, dtype=torch.double) for v in (mean, scale))
    normal = Normal(mean, scale)
    if name == "Bernoulli":
        return Bernoulli(probs=mean).log_prob((k >= 128).double())
    if name == "normal, density":
        return normal.log_prob(k / 255) - math.log(256)
    if name == "normal, dequantized":  # three nodes average a quadratic function exactly
        nodes, weights = np.polynomial.legendre.leggauss(3)
        at = [
            w / 2 * normal.log_prob((k + (u + 1) / 2) / 256)
            for u, w in zip(nodes, weights, strict=True)
        ]
        return sum(at) - math.log(256)
    if name == "normal, mass of cells":
        return log_cell(normal, k)
    return DiscretizedLogistic(mean, scale.log()).log_prob(k / 255)


LOG_P = """return given.map(([name, scale, mean]) => {
    const logP = lab.likelihoods[name](scale);
    return Array.from({ length: 256 }, (_, k) => logP(k, mean));
});"""
SOME_SCALES = (SCALES[0], 0.001, 1 / 256 / math.sqrt(12), 1 / 256, 0.013, 0.06, 0.25, 1.0)
SOME_MEANS = (0.0, 1e-9, 0.003, 0.31, 0.5, 0.862, 255.5 / 256, 1.0)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_level_has_pytorchs_log_probability(call, name):
    cases = [[name, scale, mean] for scale in SOME_SCALES for mean in SOME_MEANS]
    found = torch.tensor(call(LOG_P, cases), dtype=torch.double)
    for row, (_, scale, mean) in zip(found, cases, strict=True):
        expected = log_p(name, LEVELS, mean, scale)
        assert row.numpy() == pytest.approx(expected.numpy(), rel=1e-9, abs=1e-12), (scale, mean)


def test_normal_tails_agree_with_pytorchs(call):
    x = torch.cat([torch.linspace(-9, 9, 2001), torch.logspace(0, 3.6, 200)]).double()
    found = torch.tensor(call("return given.map(lab.logAbove);", x.tolist()), dtype=torch.double)
    assert found.numpy() == pytest.approx(torch.special.log_ndtr(-x).numpy(), rel=1e-11, abs=1e-15)


def test_masses_add_up_to_one_and_bounds_to_less(call):
    cases = [[name, s, m] for name in GREY for s in SOME_SCALES for m in SOME_MEANS]
    lost = call("return given.map((one) => lab.outside(...one));", cases)
    for logs, (name, scale, mean), out in zip(call(LOG_P, cases), cases, lost, strict=True):
        total = torch.tensor(logs, dtype=torch.double).exp().sum().item()
        if name in GREY[2:]:
            assert total == pytest.approx(1, abs=1e-9)
        if name == "normal, dequantized":
            assert total < 1 - out + 1e-12
            assert total > 1 - out - 1e-3 or scale < 0.02  # what Jensen takes, where it is little
        centre = torch.tensor(mean, dtype=torch.double)
        expected = (
            torch.sigmoid(-centre / scale) + torch.sigmoid((centre - 1) / scale)
            if name == "discretized logistic"
            else torch.special.log_ndtr(torch.stack([-centre, centre - 1]) / scale).exp().sum()
        )
        assert out == pytest.approx(expected.item(), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_beyond_all_sliders_numbers_stay_finite(call, name):
    cases = [[name, s, m] for s in (1e-9, 1e-6, 1e-4, 1e2, 1e6) for m in (-2.0, 0.0, 0.4, 1.0, 3.0)]
    body = LOG_P.replace("logP(k, mean)", "Number.isFinite(logP(k, mean))")
    assert np.all(call(body, cases))


WHOLE = """return given.cases.map(([name, scale]) =>
    lab.meanOf(lab.bitsOf(name, scale, given.levels, given.means)));"""


def test_bits_of_the_whole_picture_agree_with_pytorch(call, lab, image):
    levels, means = (255 * image).round().flatten(), blurred(image).flatten()
    cases = [[name, scale] for name in LIKELIHOODS for scale in SOME_SCALES]
    given = {"cases": cases, "levels": levels.tolist(), "means": means.tolist()}
    for found, (name, scale) in zip(call(WHOLE, given), cases, strict=True):
        total = log_p(name, levels.double(), means, scale).sum()
        assert found == pytest.approx(bits_per_dim(total, 784).item(), rel=1e-9)


def test_the_closed_form_is_the_mean_over_dequantized_pictures(image):
    """Of 2,000 draws of the noise, by the library's own function."""
    means = blurred(image).flatten().double()
    x, k = image.flatten().double(), (255 * image).round().flatten().double()
    y = dequantize(x.expand(2000, -1), torch.Generator().manual_seed(1))
    by_draws = bits_per_dim(Normal(means, 0.01).log_prob(y).sum(-1).mean(), 784, 256)
    exact = bits_per_dim(log_p("normal, dequantized", k, means, 0.01).sum(), 784)
    assert by_draws.item() == pytest.approx(exact.item(), rel=1e-3)


def noise(seed, count=784):
    """The uniform and the normal numbers of shared.js."""
    state = np.arange(1, count + 1, dtype=np.uint64) * 0x9E3779B9 + seed
    bits = state.astype(np.uint32)
    bits = (bits ^ (bits >> 16)) * np.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * np.uint32(0xC2B2AE35)
    return torch.tensor((bits ^ (bits >> 16)) / 2**32), torch.tensor(normals(seed, count))


def drawn(name, means, scale, u, z):
    if name == "Bernoulli":
        return 255 * (u < means).double()
    eps = u.logit() if name == "discretized logistic" else z
    return ((means + scale * eps) * 256).floor().clamp(0, 255)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_draw_is_the_means_with_the_seeds_noise(page, image, name):
    for seed, scale in ((0, 0.1), (3, 0.02)):
        set_traits(page, likelihood=name, seed=seed, scale=scale)
        levels = drawn(name, blurred(image).double(), scale, *(n.view(28, 28) for n in noise(seed)))
        assert apart(page, "A draw", levels / 255) < 1.01


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_many_draws_have_the_probabilities_of_the_bars(call, name):
    """Of 40,000 draws of one pixel: the end levels, and the shares below three others."""
    generator, n = torch.Generator().manual_seed(0), 40_000
    u, z = torch.rand(n, generator=generator), torch.randn(n, generator=generator)
    body = (
        "return [...lab.drawLevels(given.name, given.scale, given.u.map(() => given.mean), given)];"
    )
    for mean, scale in ((0.3, 0.2), (0.98, 0.05)):
        given = {"name": name, "scale": scale, "mean": mean, "u": u.tolist(), "z": z.tolist()}
        levels = torch.tensor(call(body, given)).double()
        law = "normal, mass of cells" if name in GREY[:2] else name
        p = log_p(law, LEVELS, mean, scale).exp()
        p = torch.cat([p[:1], torch.zeros(254), p[-1:]]) if name == "Bernoulli" else p
        for k in (0, 40, 80, 128, 250, 254):
            expected = p[: k + 1].sum().item()
            error = math.sqrt(expected * (1 - expected) / n) + 1e-9
            assert abs((levels <= k).double().mean().item() - expected) < 5 * error, k


# What it says and shows --------------------------------------------------------------------------


def number(pattern: str, text: str) -> float:
    pattern = pattern.replace("NUMBER", r"-?\d+(?:\.\d+)?")
    found = re.search(pattern, text.replace(",", "").replace("−", "-"))
    assert found, text
    return float(found[1])


STATES = [
    {"scale": 0.1},
    {"scale": 1.0, "row": 14, "column": 9, "mean": 0.42},
    {"scale": 0.004, "row": 0, "column": 27, "mean": 0.0},
    {"scale": 0.03, "row": 10, "column": 12, "mean": 1.0},
]


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("state", STATES)
def test_the_words_and_the_labels_have_pytorchs_numbers(page, image, name, state):
    state = {"row": trait(page, "row"), "column": trait(page, "column"), **state}
    means, k = blurred(image).double(), (255 * image).round().double()
    place = (state["row"], state["column"])
    means[place] = state.get("mean", means[place])
    set_traits(page, **{"likelihood": name, "mean": means[place].item(), **state})
    bits = -log_p(name, k, means, state["scale"]) / math.log(2)
    words = words_of(figure_of(page))
    level = f"level {k[place]:.0f}"
    assert f"Row {place[0]}, column {place[1]}: {level}, mean {means[place]:.3f}" in words
    assert number(r": (?:“|at most )?(NUMBER) bits", words) == pytest.approx(
        bits[place].item(), abs=ROOM
    )
    whole = bits.mean().item()
    assert number(r"picture: (NUMBER) bits", words) == pytest.approx(
        whole, abs=0.51 if whole > 999 else ROOM
    )
    nats = bits.sum().item() * math.log(2)
    assert number(r"pixel (NUMBER) nats", words) == pytest.approx(
        nats, abs=0.51 if nats > 999 else ROOM
    )
    label = canvas(page, "Bars" if name != "Bernoulli" else "Probability").get_attribute(
        "aria-label"
    )
    assert number(rf"{level} has .*? (NUMBER) bits", label) == pytest.approx(
        bits[place].item(), abs=ROOM
    )
    p = log_p(name, LEVELS, means[place], state["scale"]).exp()
    total = 1 if name == "Bernoulli" else p.sum().item()
    assert number(r"in all (NUMBER)", label) == pytest.approx(total, rel=6e-3)


def test_a_bernoullis_formula_over_grey_levels_is_no_distribution(page):
    for mean in (0.0, 0.3, 0.5, 0.9):
        set_traits(page, likelihood="Bernoulli", mean=mean)
        p = Bernoulli(probs=torch.tensor(mean, dtype=torch.double), validate_args=False)
        total = p.log_prob(LEVELS / 255).exp().sum().item()
        assert number(r"adds up to (NUMBER)", words_of(figure_of(page))) == pytest.approx(
            total, rel=6e-3
        )
    assert slider(page, "Scale").is_disabled()
    assert page.get_by_role("button", name="Best scale").is_disabled()


def test_the_mass_outside_is_lost_or_goes_to_the_end_levels(page):
    set_traits(page, likelihood="normal, dequantized", mean=0.05, scale=0.1)
    words = words_of(figure_of(page))
    out = 100 * torch.special.ndtr(torch.tensor(-0.5)).item()
    assert number(r"where no level is (NUMBER) % of the normal is lost", words) == pytest.approx(
        out, abs=0.051
    )
    assert number(r"bounds add up to (NUMBER)", words) == pytest.approx(1 - out / 100, abs=2e-3)
    set_traits(page, likelihood="discretized logistic")
    words = words_of(figure_of(page))
    out = 100 * torch.sigmoid(torch.tensor([-0.5, -9.5])).sum().item()
    assert number(r"end levels take .* (NUMBER) %", words) == pytest.approx(out, abs=0.051)
    assert "All 256 add up to 1;" in words


def test_a_density_runs_away_where_a_mass_stops(page):
    """Chapter 17, the exercise that breaks it: the mean on the level, and ever smaller scales."""
    bits = {}
    for name in GREY:
        for scale in (0.01, 0.001, SCALES[0]):
            level = 0.0 if name == "normal, density" else 0.5 / 256
            set_traits(page, likelihood=name, row=0, column=0, mean=level, scale=scale)
            bits[name, scale] = number(r": “?(NUMBER) bits", words_of(figure_of(page)))
    assert bits["normal, density", SCALES[0]] == pytest.approx(
        math.log2(SCALES[0] * 256 * math.sqrt(2 * math.pi)), abs=ROOM
    )
    assert bits["normal, density", SCALES[0]] < -2
    assert bits["normal, mass of cells", SCALES[0]] == bits["discretized logistic", SCALES[0]] == 0
    assert bits["normal, dequantized", SCALES[0]] > bits["normal, dequantized", 0.001] > 0
    set_traits(page, likelihood="normal, density", mean=0.0)
    assert "no probability" in words_of(figure_of(page))


@pytest.mark.parametrize("name", GREY)
def test_the_best_scale_is_the_best_and_a_click_away(page, image, name):
    means, k = blurred(image).double(), (255 * image).round().double()
    set_traits(page, likelihood=name, row=3, column=5, mean=0.7)
    means[3, 5] = 0.7
    total = lambda log: -log_p(name, k, means, 10**log).mean().item() / math.log(2)  # noqa: E731
    grid = np.linspace(-3.5, 0, 71)
    start = grid[np.argmin([total(log) for log in grid])]
    best = minimize_scalar(
        total, bounds=(start - 0.06, start + 0.06), method="bounded", options={"xatol": 1e-9}
    )
    words = words_of(figure_of(page))
    assert number(r"best single scale (NUMBER)", words) == pytest.approx(10**best.x, rel=6e-3)
    assert number(r"scale NUMBER needs (NUMBER)", words) == pytest.approx(best.fun, abs=ROOM)
    label = canvas(page, "Bits a pixel of").get_attribute("aria-label")
    assert number(r"at its best (NUMBER)", label) == pytest.approx(best.fun, abs=ROOM)
    for other in GREY:
        at_one = -log_p(other, k, means, 1.0).mean().item() / math.log(2)
        assert number(rf"{other.replace(',', '')} (NUMBER)", label) == pytest.approx(
            at_one, abs=ROOM
        )
    press(page, "Best scale")
    assert trait(page, "scale") == pytest.approx(10**best.x, rel=1e-5)
    assert page.get_by_role("button", name="Best scale").is_disabled()
    words = words_of(figure_of(page))
    assert "No other single scale needs fewer" in words
    assert number(r"picture: (NUMBER) bits", words) == pytest.approx(best.fun, abs=ROOM)


def test_a_perfect_picture_has_no_best_density(open_page, image):
    page = started(open_page, LikelihoodLab(image, image, "normal, density"))
    assert "the bits still fall at the end" in words_of(figure_of(page))
    assert page.get_by_role("button", name="Best scale").is_disabled()


@pytest.mark.parametrize("name", GREY[:2])
def test_at_scale_one_a_normal_is_the_squared_error(page, image, name):
    set_traits(page, likelihood=name, scale=1.0)
    words = words_of(figure_of(page))
    means, k = blurred(image).double(), (255 * image).round().double()
    y = k / 255 if name == "normal, density" else (k + 0.5) / 256
    error = ((y - means) ** 2).mean().item() / 2 / math.log(2)
    assert number(r"errors .+? make (NUMBER)", words) == pytest.approx(error, abs=ROOM)
    assert "at scale 1, all that training can change" in words
    set_traits(page, scale=0.1)
    words = words_of(figure_of(page))
    assert number(r"errors .+? make (NUMBER)", words) == pytest.approx(100 * error, abs=0.02)
    assert "all that training can change" not in words


def test_the_pictures_are_the_truth_the_means_and_the_bits(page, lab, image):
    assert apart(page, "The true picture", image) < 1.01
    set_traits(page, row=2, column=3, mean=0.6)
    means = blurred(image)
    means[2, 3] = 0.6
    assert apart(page, "The mean picture", means) < 1.01
    bits = -log_p("discretized logistic", (255 * image).round().double(), means, 0.1) / math.log(2)
    assert apart(page, "Bits of each pixel", (bits / 16).clamp(0, 1)) < 1.01


def test_a_wide_photograph_is_drawn_light_on_dark(open_page):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (6, 11), generator=generator) / 255
    mean = torch.rand(6, 11, generator=generator)
    page = started(open_page, LikelihoodLab(mean, image, row=4, column=10, ink=False))
    assert apart(page, "The true picture", 1 - image) < 1.01
    assert apart(page, "The mean picture", 1 - mean) < 1.01
    bits = -log_p("discretized logistic", (255 * image).round().double(), mean, 0.1) / math.log(2)
    assert number(r"picture: (NUMBER) bits", words_of(figure_of(page))) == pytest.approx(
        bits.mean().item(), abs=ROOM
    )
    assert "11 by 6 pixels; row 4, column 10 is chosen" in canvas(page, "A draw").get_attribute(
        "aria-label"
    )


def test_it_opens_where_the_mean_misses_most(page, lab, image):
    row, column = divmod((blurred(image) - image).abs().argmax().item(), 28)
    assert (lab.row, lab.column) == (row, column)
    assert lab.mean == pytest.approx(blurred(image)[row, column].item())
    words = words_of(figure_of(page))
    assert f"Row {row}, column {column}" in words and "The best single scale" in words


# The controls -----------------------------------------------------------------------------------


def test_sliders_move_what_they_name(page, image):
    slider(page, "Mean").fill("0.25")
    assert trait(page, "mean") == 0.25
    slider(page, "Scale").fill("-2")
    assert trait(page, "scale") == pytest.approx(0.01, rel=0.03)  # its steps start at -3.5
    slider(page, "Row").fill("12")
    assert (trait(page, "row"), trait(page, "mean")) == (
        12,
        pytest.approx(blurred(image)[12, trait(page, "column")].item(), abs=1e-6),
    )
    slider(page, "Column").fill("13")
    assert (trait(page, "column"), trait(page, "mean")) == (
        13,
        pytest.approx(blurred(image)[12, 13].item(), abs=1e-6),
    )
    page.get_by_role("combobox").select_option("normal, dequantized")
    settle(page)
    assert trait(page, "likelihood") == "normal, dequantized"
    assert "at most" in words_of(figure_of(page))


@pytest.mark.parametrize(("mean", "level"), [(0.0, 0), (0.186, 47), (0.995, 254), (1.0, 255)])
def test_a_mean_is_named_by_the_level_of_its_cell(page, mean, level):
    set_traits(page, mean=mean)
    assert f"(level {level})" in words_of(figure_of(page))
    label = page.locator("canvas[aria-label*='256 levels']").get_attribute("aria-label")
    assert f"the mean at level {level};" in label


def test_the_scale_slider_reaches_both_ends(page):
    for key, scale in (("Home", SCALES[0]), ("End", SCALES[1])):
        slider(page, "Scale").press(key)
        assert trait(page, "scale") == pytest.approx(scale, rel=1e-9)
        assert SCALES[0] <= trait(page, "scale") <= SCALES[1]


@pytest.mark.parametrize("label", PICTURES)
def test_a_click_into_a_picture_chooses_the_pixel(page, image, label):
    drawing = canvas(page, label)
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    for row, column in ((7, 19), (0, 0), (27, 27)):
        at = {"x": (column + 0.5) / 28 * box["width"], "y": (row + 0.5) / 28 * box["height"]}
        drawing.click(position=at)
        assert (trait(page, "row"), trait(page, "column")) == (row, column)
        assert trait(page, "mean") == pytest.approx(blurred(image)[row, column].item(), abs=1e-6)
    settle(page)
    assert "row 27, column 27 is chosen" in drawing.get_attribute("aria-label")


def drag(page, drawing, start, end) -> None:
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    points = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=4)
    page.mouse.up()
    settle(page)


def test_the_plots_can_be_dragged(page):
    bars, whole = canvas(page, "Bars"), canvas(page, "Bits a pixel of")
    means = []
    for end in (0.3, 0.5, 0.7):
        drag(page, bars, (0.6, 0.5), (end, 0.5))
        means.append(trait(page, "mean"))
    assert 0 < means[0] < means[1] - 0.1 < means[2] - 0.2 < 0.8
    drag(page, bars, (0.6, 0.5), (0.99, 0.5))
    assert trait(page, "mean") == 1
    scales = []
    for end in (0.3, 0.5, 0.7):
        drag(page, whole, (0.6, 0.5), (end, 0.5))
        scales.append(trait(page, "scale"))
    assert SCALES[0] < scales[0] < scales[1] / 2 < scales[2] / 4 < 0.5
    set_traits(page, likelihood="Bernoulli")
    drag(page, whole, (0.6, 0.5), (0.2, 0.5))
    assert trait(page, "scale") == scales[-1]


def test_another_draw_changes_the_draw_alone_and_comes_again(page):
    before = [darkness(page, label) for label in PICTURES]
    press(page, "Draw again")
    after = [darkness(page, label) for label in PICTURES]
    assert trait(page, "seed") == 1
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [True, True, False, True]
    set_traits(page, seed=0)
    assert torch.equal(darkness(page, "A draw"), before[2])


def test_a_draw_is_grainy_and_its_mean_is_not(page):
    def variation(x):
        return (x.diff(dim=0).abs().sum() + x.diff(dim=1).abs().sum()).item()

    assert variation(darkness(page, "A draw")) > 2 * variation(darkness(page, "The mean picture"))


def test_the_decoders_mean_comes_back(page, lab):
    button = page.get_by_role("button", name="Decoder's mean")
    assert button.is_disabled()
    slider(page, "Mean").fill("0.5")
    settle(page)
    assert button.is_enabled()
    press(page, "Decoder's mean")
    assert trait(page, "mean") == pytest.approx(lab.mean, abs=1e-9)
    assert button.is_disabled()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_hardest_pixel_has_the_most_bits(page, image, name):
    set_traits(page, likelihood=name, row=1, column=1, mean=blurred(image)[1, 1].item(), scale=0.05)
    press(page, "Hardest pixel")
    bits = -log_p(name, (255 * image).round().double(), blurred(image), 0.05)
    assert (trait(page, "row"), trait(page, "column")) == divmod(bits.argmax().item(), 28)
    assert page.get_by_role("button", name="Hardest pixel").is_disabled()


def test_every_control_answers_the_keyboard_and_tab_reaches_it(page):
    figure = figure_of(page)
    slider(page, "Mean").fill("0.4")
    settle(page)
    reached = reached_by_tab(page, 14)
    for control in controls(figure):
        if control.is_enabled():
            assert control.evaluate("e => e.outerHTML") in reached, control.inner_text()
    for name in ("Best scale", "Draw again", "Decoder's mean", "Hardest pixel"):
        button = page.get_by_role("button", name=name)
        if button.is_enabled():
            assert changes(figure, button), name
    for control in page.locator("select, input").all():
        assert changes(figure, control), control.evaluate("e => e.outerHTML")


def test_nothing_works_while_nothing_moves(page):
    asked = page.evaluate("asked")
    page.wait_for_timeout(300)
    assert page.evaluate("asked") == asked


def test_a_voice_hears_one_sentence_after_five_moves(page):
    page.evaluate(HOLD_REST)
    set_traits(page, scale=0.2)
    wait_until_drawn(page)
    shown = heard_of_each_option(page, page.get_by_role("combobox"))
    assert len(shown) == 5 and "end levels take" in shown[-1]


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_moved_by_what_moves(open_page, lab, width):
    page = started(open_page, lab, width=width)
    before = page.evaluate(BOXES)
    for label, values in (("Mean", ("0", "0.415", "1")), ("Scale", ("-3.5", "-2.1", "0"))):
        for value in values:
            slider(page, label).fill(value)
            wait_until_drawn(page)
            # On a phone the sentence stands above the plot of the whole picture.
            assert [b for b, a in zip(before, page.evaluate(BOXES), strict=True) if a != b][:2] in (
                [],
                before[7:8] if width == 390 else [],
            )


# Looks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", RULES)
def test_it_is_accessible_and_no_wider_than_the_screen(open_page, lab, look):
    check_look(open_page, lab, look)


def test_on_a_phone_the_sliders_are_in_sight_of_what_they_move(open_page, lab):
    page = started(open_page, lab, width=390)
    top = canvas(page, "Bars").bounding_box()["y"]
    below = [box["y"] + box["height"] for box in (s.bounding_box() for s in sliders(page))]
    assert len(below) == 4 and max(below) - top < 844 - 250
    pictures = [canvas(page, label).bounding_box() for label in PICTURES]
    assert {round(box["y"]) for box in pictures[:2]} != {round(box["y"]) for box in pictures[2:]}
    assert min(box["width"] for box in pictures) > 140  # a finger finds a pixel


@pytest.mark.parametrize("size", [(1366, 768), (1920, 1080), (800, 1200)])
def test_the_whole_of_it_fits_a_wall(open_page, lab, size):
    page = on_a_wall(open_page, lab, size)
    assert canvas(page, "Bars").bounding_box()["width"] > 0.25 * size[0]


# The traits, with a kernel ----------------------------------------------------------------------


def test_a_kernel_moves_every_control(page, image):
    saved = page.evaluate("model.saved")
    set_traits(
        page, likelihood="normal, mass of cells", row=9, column=11, mean=0.625, scale=0.02, seed=2
    )
    assert page.evaluate("model.saved") == saved
    assert page.get_by_role("combobox").input_value() == "normal, mass of cells"
    for label, value in (("Mean", 0.625), ("Scale", math.log10(0.02)), ("Row", 9), ("Column", 11)):
        assert float(slider(page, label).input_value()) == pytest.approx(value, abs=0.011)
    assert slider(page, "Scale").get_attribute("aria-valuetext") == "0.02"
    assert "Row 9, column 11" in words_of(figure_of(page))


def test_every_control_reaches_a_kernel(page):
    for act in (
        lambda: slider(page, "Mean").fill("0.3"),
        lambda: slider(page, "Scale").fill("-1.5"),
        lambda: slider(page, "Row").fill("5"),
        lambda: slider(page, "Column").fill("6"),
        lambda: page.get_by_role("combobox").select_option("normal, dequantized"),
        lambda: canvas(page, "A draw").click(),
        *(
            lambda name=name: press(page, name)
            for name in ("Best scale", "Draw again", "Hardest pixel")
        ),
    ):
        saved = page.evaluate("model.saved")
        act()
        settle(page)
        assert page.evaluate("model.saved") > saved


def test_a_closed_figure_stops_listening(page):
    page.evaluate("close_figure()")
    assert page.evaluate("model.listening()") == 0


# Python -----------------------------------------------------------------------------------------


def test_a_new_pixel_brings_its_mean(image):
    lab = LikelihoodLab(blurred(image), image)
    lab.mean = 0.9
    lab.row = 8
    assert lab.mean == pytest.approx(blurred(image)[8, lab.column].item())
    lab.column = 14
    assert lab.mean == pytest.approx(blurred(image)[8, 14].item())


@pytest.mark.parametrize(
    "mean, image, error, message",
    [
        (
            torch.zeros(784),
            torch.zeros(28, 28),
            ValueError,
            r"mean must have shape \(H, W\) .* got \(784,\).*view\(28, 28\)",
        ),
        (
            torch.zeros(28, 28),
            torch.zeros(3, 28, 28),
            ValueError,
            r"image must have shape .* got \(3, 28, 28\)",
        ),
        (torch.zeros(3, 8), torch.zeros(3, 8), ValueError, r"4 to 64 pixels a side, got \(3, 8\)"),
        (
            torch.zeros(8, 65),
            torch.zeros(8, 65),
            ValueError,
            r"4 to 64 pixels a side, got \(8, 65\)",
        ),
        (torch.zeros(8, 8), torch.zeros(8, 9), ValueError, r"one shape, got \(8, 8\) and \(8, 9\)"),
        (
            torch.full((8, 8), 1.2),
            torch.zeros(8, 8),
            ValueError,
            r"mean must lie in \[0, 1\].*\[1.2, 1.2\].*clamp",
        ),
        (torch.full((8, 8), -0.1), torch.zeros(8, 8), ValueError, r"mean must lie in \[0, 1\]"),
        (torch.full((8, 8), math.nan), torch.zeros(8, 8), ValueError, r"mean must .* no NaN"),
        (
            torch.zeros(8, 8),
            torch.full((8, 8), 0.5),
            ValueError,
            "whole grey values divided by 255",
        ),
        (torch.zeros(8, 8), torch.full((8, 8), math.nan), ValueError, "whole grey values"),
        (torch.zeros(8, 8), torch.full((8, 8), 7.0), ValueError, "whole grey values"),
        (
            torch.zeros(8, 8).long(),
            torch.zeros(8, 8),
            TypeError,
            "mean must be a float32 or float64",
        ),
        (
            torch.zeros(8, 8),
            [[0.0] * 8] * 8,
            TypeError,
            "image must be a float32 or float64 tensor, got list",
        ),
    ],
)
def test_pictures_that_it_cannot_show_are_refused(mean, image, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        LikelihoodLab(mean, image)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("row", 28, r"row must lie in 0\.\.27, got 28"),
        ("column", -1, r"column must lie in 0\.\.27, got -1"),
        ("mean", 1.01, "mean"),
        ("mean", math.nan, "mean must be a finite number"),
        ("scale", 0.0003, "scale"),
        ("scale", 1.5, "scale"),
        ("seed", -1, "seed"),
        ("likelihood", "Poisson", "likelihood"),
    ],
)
def test_wrong_traits_say_what_was_expected(image, name, value, message):
    lab = LikelihoodLab(blurred(image), image)
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(lab, name, value)
    if name != "mean" and name != "seed":
        with pytest.raises(traitlets.TraitError, match=message):
            LikelihoodLab(blurred(image), image, **{name: value})


def test_double_precision_is_as_good_as_single(image):
    lab = LikelihoodLab(blurred(image).double(), image.double())
    assert lab._means == LikelihoodLab(blurred(image), image)._means
