"""The walk between two names: its arithmetic against PyTorch, its reading, its controls."""

import math
import re

import pytest
import torch
import traitlets
from test_interactive import changes, controls
from test_looks import RULES
from test_style_transfer import (
    BOXES,
    canvas,
    check_look,
    figure_of,
    on_a_wall,
    reached_by_tab,
    settle,
    started,
    trait,
)
from torch import nn
from torch.distributions import Normal, kl_divergence
from widgets import HOLD_REST, IMPORT, encoded, evaluate, render, wait_until_drawn, words_of

from em2vae import VAE, fit
from em2vae.interactive.name_walk import NameWalk
from em2vae.interactive.style_transfer import cubature
from em2vae.names import ALPHABET, LETTERS, decode_names, encode_names, fold_parts
from em2vae.recurrent import before
from em2vae.sequence import SequenceVAE

END = 0
CITY_LIST = """amsterdam athens bangkok barcelona belfast bergen berlin bilbao bogota bordeaux
boston brussels budapest cairo calgary cardiff chicago cologne dallas delhi denver
dublin geneva glasgow hamburg hanoi havana helsinki hobart houston istanbul izmir
jakarta kiev lagos leeds lima lisbon london lyon madrid malaga malmo manila
marseille melbourne miami milan montreal moscow mumbai munich nairobi naples nice
oslo ottawa palermo paris perth porto prague quito riga rome sofia split stockholm
sydney taipei tehran tokyo toronto tunis turin valencia vienna vilnius warsaw zagreb
zurich"""
CITIES = CITY_LIST.split()
ROOM = 0.06  # of a number with one decimal, after weights were rounded
# What the module exports, called in a page.
CALL = f"""async ([text, body, given]) => {{
    const walk = await ({IMPORT})(text);
    return new Function("walk", "given", body)(walk, given);
}}"""


def code_of(names: SequenceVAE, name: str) -> Normal:
    """q(z|x) of one name, of batch shape (K,)."""
    q_z = names.encode(encode_names([name]))
    return Normal(q_z.mean[0], q_z.stddev[0])


def number(letter: str) -> int:
    return END if letter == "end" else 1 + ALPHABET.index(letter)


def log_p(names: SequenceVAE, name: str, z: torch.Tensor) -> torch.Tensor:
    """Of every symbol at each place of the name and after it, (S, L + 1, 27), at z (S, K)."""
    return names.decoder.logits(before(encode_names([name])), z[:, None])[:, 0].log_softmax(-1)


def log_likelihood(names: SequenceVAE, name: str, z: torch.Tensor) -> torch.Tensor:
    return names.decode(z[:, None]).log_prob(encode_names([name])).sum((1, 2))


def greedy(names: SequenceVAE, z: torch.Tensor) -> str:
    """As the page shows it: a name that does not end within twelve letters ends in an ellipsis."""
    name = decode_names(names.write(z[None], longest=13))[0]
    return name if len(name) <= 12 else f"{name[:12]}…"


@pytest.fixture(scope="module")
def names():
    """Trained for a moment, so that it has names to write."""
    model = SequenceVAE(latent_dim=4, hidden_dim=32, embed_dim=12)
    x = encode_names(CITIES)
    fit(model, x, epochs=120, batch_size=32, learning_rate=1e-2, binarize="none", beta=0.2)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def walk(names):
    return NameWalk(names)


@pytest.fixture
def page(open_page, walk):
    return started(open_page, walk)


@pytest.fixture
def call(page, walk):
    return lambda body, given: evaluate(page, CALL, [walk._esm, body, given])


def set_traits(page, **traits) -> None:
    for name, value in traits.items():
        page.evaluate("([name, value]) => model.set(name, value)", [name, value])
    settle(page)


def field(page, name: str):
    return page.get_by_role("textbox", name=name)


def slider(page, name: str):
    return page.get_by_role("slider", name=name)


def press(page, name: str) -> None:
    page.get_by_role("button", name=name).click()
    settle(page)


def large(page) -> str:
    return page.locator(".em2vae-large").inner_text()


def read_as(page) -> list[str]:
    return page.locator(".em2vae-read").all_inner_texts()


def rows(page) -> list[str]:
    """The names of the walk."""
    return [text.removeprefix("▸ ") for text in page.locator(".em2vae-walk li").all_inner_texts()]


def places(page) -> list[tuple[str, list[tuple[str, str]]]]:
    """At each place the letter, and the likeliest next letters with what is said of them."""
    text = canvas(page, "Likeliest").get_attribute("aria-label").partition(". ")[2]
    found = []
    for place in text.split("; "):
        _, letter, rest = re.fullmatch(r"(\d+), (\w+): (.*)", place).groups()
        found.append((letter, [tuple(one.split(" ", 1)) for one in rest.split(", ")]))
    return found


def on_line(names, start: str, end: str, t: float) -> torch.Tensor:
    return torch.lerp(code_of(names, start).mean, code_of(names, end).mean, t)


# The arithmetic ---------------------------------------------------------------------------------

MODEL = """
    const bytes = Uint8Array.from(atob(given.weights), (c) => c.charCodeAt(0));
    const { layers } = given.network;
    const view = new DataView(bytes.buffer);
    let start = 0;
    const half = (bits) => (bits & 0x8000 ? -1 : 1) * ((bits >> 10) & 31
        ? 2 ** (((bits >> 10) & 31) - 15) * (1 + (bits & 1023) / 1024)
        : 2 ** -14 * ((bits & 1023) / 1024));
    const unpacked = layers.map((layer) => {
        const { inputs, outputs } = layer, count = inputs * outputs, first = start;
        const halves = (from) => Float64Array.from({ length: outputs },
            (_, o) => half(view.getUint16(from + 2 * o, true)));
        const steps = halves(first + 2 * count);
        start += 2 * count + 4 * outputs;
        return { ...layer, bias: halves(first + 2 * count + 2 * outputs),
            weight: Float32Array.from({ length: count }, (_, i) => steps[Math.floor(i / inputs)] *
                ((bytes[first + i] << 8) + bytes[first + count + i] - 0x8080)) };
    });
    const model = walk.sequenceModel(unpacked);
"""


@pytest.fixture
def model(call, walk):
    def run(body: str, given):
        packed = {"weights": encoded(walk._weights), "network": walk._network, "given": given}
        return call(f"{MODEL} given = given.given; {body}", packed)

    return run


def test_one_step_of_the_unit_is_pytorchs(call):
    torch.manual_seed(0)
    cell = nn.GRUCell(3, 5).double().requires_grad_(False)
    x, h = torch.randn(3).double(), torch.randn(5).double()
    layer = {"inputs": 5, "outputs": 15, "activation": "identity"}
    layer |= {"weight": cell.weight_hh.flatten().tolist(), "bias": cell.bias_hh.tolist()}
    body = """const state = Float64Array.from(given.h);
        walk.stepGru(given.layer, given.x, state); return [...state];"""
    from_input = (cell.weight_ih @ x + cell.bias_ih).tolist()
    state = call(body, {"layer": layer, "x": from_input, "h": h.tolist()})
    assert state == pytest.approx(cell(x, h).tolist(), abs=1e-9)


def test_the_encoder_agrees_with_pytorch(model, names):
    got = model("return given.map((name) => model.encode(name));", CITIES)
    for name, q_z in zip(CITIES, got, strict=True):
        expected = code_of(names, name)
        assert (torch.tensor(q_z["mu"]) - expected.mean).abs().max() < 2e-3, name
        assert (torch.tensor(q_z["sigma"]).log() - expected.stddev.log()).abs().max() < 2e-3, name


def test_the_decoder_agrees_with_pytorch(model, names):
    zs = torch.randn(len(CITIES), 4, generator=torch.Generator().manual_seed(1))
    body = """return given.map(([symbols, z]) => {
        const next = model.writer(z);
        return symbols.map((symbol) => [...next(symbol)]);
    });"""
    seen = [before(encode_names([name]))[0].tolist() for name in CITIES]
    got = model(body, list(zip(seen, zs.tolist(), strict=True)))
    for name, z, found in zip(CITIES, zs, got, strict=True):
        expected = log_p(names, name, z[None])[0]
        # Biases travel in float16, which alone moves a number of this small, sure model by 3.8e-3.
        assert (torch.tensor(found) - expected).abs().max() < 6e-3, name


def test_greedy_names_are_pytorchs(page, names):
    for start, end in (("london", "paris"), ("oslo", "zagreb"), ("rome", "melbourne")):
        set_traits(page, start=start, end=end)
        assert rows(page) == [greedy(names, on_line(names, start, end, i / 8)) for i in range(9)]
        for t in (0.0, 0.3125, 1.0):
            set_traits(page, t=t)
            assert large(page) == greedy(names, on_line(names, start, end, t))


def test_a_name_without_an_end_is_cut_and_says_so(open_page):
    endless = SequenceVAE(4)
    endless.decoder.head.bias.data[END] = -30
    page = started(open_page, NameWalk(endless))
    assert all(len(name) == 13 and name.endswith("…") for name in [*rows(page), large(page)])
    assert len(places(page)) == 13


def test_the_three_likeliest_letters_of_each_place_are_pytorchs(page, names):
    z = on_line(names, "london", "paris", 0.5)
    wanted = log_p(names, large(page), z[None])[0].exp()
    shown = places(page)
    assert [letter for letter, _ in shown] == [*large(page), "end"]
    for (_, likeliest), expected in zip(shown, wanted, strict=True):
        assert len(likeliest) == 3
        for letter, percent in likeliest:
            p = expected[number(letter)].item()
            told = 0.25 if percent == "<1 %" else float(percent.removesuffix(" %"))
            assert told == pytest.approx(100 * p, abs=0.6)
        got = [float(percent.strip("<% ")) for _, percent in likeliest]
        assert got == sorted(got, reverse=True)
        best = [expected[number(a)].item() for a, _ in likeliest]
        assert sum(best) == pytest.approx(expected.topk(3).values.sum().item(), abs=1e-3)


def told(page, name: str) -> tuple[float, ...]:
    """Nats of code, of letters, in all, and in all for each letter, as the sentence says them."""
    said = words_of(figure_of(page)).partition(f"{name} costs ")[2].partition(", its end")[0]
    return tuple(float(number) for number in re.findall(r"\d+\.\d+", said))


def test_the_nats_of_both_names_are_pytorchs(page, names):
    set_traits(page, start="glasgow", end="oslo")
    for name in ("glasgow", "oslo"):
        q_z = code_of(names, name)
        kl = kl_divergence(q_z, Normal(0.0, 1.0)).sum().item()
        z = q_z.mean + q_z.stddev * cubature(4)
        letters = -log_likelihood(names, name, z).mean().item()
        got = told(page, name)
        assert got[:3] == pytest.approx((kl, letters, kl + letters), abs=ROOM)
        assert got[3] == pytest.approx((kl + letters) / (len(name) + 1), abs=0.01)


def test_letters_are_drawn_in_proportion_to_their_tempered_probabilities(call):
    log_shares = torch.tensor([0.5, 0.1, 0.25, 0.15]).log()
    us = ((torch.arange(1000) + 0.5) / 1000).tolist()
    body = "return given.us.map((u) => walk.choose(given.logP, given.temperature, u));"
    for temperature in (0.3, 1.0, 2.0):
        drawn = call(body, {"logP": log_shares.tolist(), "temperature": temperature, "us": us})
        share = torch.tensor(drawn).bincount(minlength=4) / 1000
        assert share.numpy() == pytest.approx(
            (log_shares / temperature).softmax(0).numpy(), abs=1.5e-3
        )
    assert set(call(body, {"logP": log_shares.tolist(), "temperature": 0, "us": us})) == {0}
    tiny = call(body, {"logP": [-900.0, -1000.0], "temperature": 0.05, "us": [0.0, 0.999999]})
    assert tiny == [0, 0]


def test_a_damaged_weight_is_shown_as_an_error(open_page, walk):
    weights = bytearray(walk._weights)
    weights[5] ^= 1
    page = open_page("book/glossary", figures_only=True)
    render(page, walk, _weights=bytes(weights))
    assert figure_of(page).get_attribute("data-state") == "error"
    assert "damaged" in page.get_by_role("alert").inner_text()


# What is typed ----------------------------------------------------------------------------------


def test_the_page_folds_every_character_as_python_does(call):
    texts = [chr(code) for code in range(0x20, 0x2000) if chr(code).isprintable()]
    texts += [
        "Ångström",
        "A\u030angstro\u0308m",
        "ΑΘΉΝΑΣ",
        "Πάτρας",
        "Москва́",
        "東京",
        "constructor",
    ]
    texts += ["__proto__", "İstanbul", "ﬁ", "Ａ", "𝐀", "😀", "\u0301"]
    body = "return given.texts.map((text) => walk.foldParts(text, given.folds));"
    got = call(body, {"texts": texts, "folds": LETTERS})
    for text, parts in zip(texts, got, strict=True):
        assert (parts["folded"], parts["leftOut"]) == fold_parts(text), text


@pytest.mark.parametrize(
    "typed, words",
    [
        ("oslo", "read as oslo"),
        ("Łódź", "read as lodz (Ł→l ó→o ź→z)"),
        ("Αθήνα", "read as athina (Α→a θ→th ή→i ν→n α→a)"),
        ("Казань", "read as kazan (К→k а→a з→z н→n ь→nothing)"),
        ("New York-2", "read as newyork (left out: the space - 2)"),
        ("東京", "no letters yet (left out: 東 京)"),
        ("", "no letters yet"),
        ("Constantinople", "read as constantinop (cut after 12 letters)"),
    ],
)
def test_a_field_says_how_it_is_read(page, typed, words):
    field(page, "From").fill(typed)
    settle(page)
    assert read_as(page) == [words, "read as paris"]
    assert field(page, "From").get_attribute("aria-description") == words
    assert trait(page, "start") == typed


def test_a_name_without_letters_is_the_middle_of_the_prior(page, names):
    field(page, "To").fill("")
    slider(page, "Along").fill("1")
    settle(page)
    assert large(page) == greedy(names, torch.zeros(4))
    assert "counts as the prior's mean" in words_of(figure_of(page))


def test_the_table_of_letters_is_in_the_open(page):
    page.get_by_text("How other letters are read").click()
    shown = page.locator("details p").inner_text()
    for letter, read in LETTERS.items():
        assert f"{letter} {read or 'nothing'}" in shown


def test_typing_moves_no_pen_and_takes_no_key_from_elsewhere(page):
    one = field(page, "From")
    one.focus()
    page.keyboard.press("Home")
    page.keyboard.type("New ")
    settle(page)
    assert one.input_value() == "New london"
    assert one.evaluate("e => e.selectionStart") == 4
    t = trait(page, "t")
    page.keyboard.press("ArrowRight")
    assert one.evaluate("e => e.selectionStart") == 5 and trait(page, "t") == t
    page.evaluate("document.activeElement.blur()")
    page.keyboard.type("x")
    settle(page)
    assert [trait(page, name) for name in ("start", "end")] == ["New london", "paris"]


def test_a_field_takes_no_more_than_python_does(page):
    field(page, "To").fill("")
    field(page, "To").press_sequentially("a" * 45)
    assert trait(page, "end") == "a" * 40


# The controls -----------------------------------------------------------------------------------


def test_the_slider_moves_the_name_and_the_mark(page, names):
    for t in (0.0, 0.25, 0.6, 1.0):
        slider(page, "Along").fill(str(t))
        settle(page)
        assert large(page) == greedy(names, on_line(names, "london", "paris", t))
        marked = page.locator(".em2vae-walk li").evaluate_all(
            "(rows) => rows.flatMap((row, i) => row.ariaCurrent === 'step' ? [i] : [])"
        )
        assert marked == [math.floor(8 * t + 0.5)]
        assert page.locator(".em2vae-walk li").nth(marked[0]).inner_text().startswith("▸")
        assert f"At {t:.2f} of the way" in words_of(figure_of(page))


def test_temperature_draws_names_and_another_seed_others(page):
    button = page.get_by_role("button", name="Draw again")
    likeliest = rows(page)
    assert button.is_disabled()
    slider(page, "Temperature").fill("1.5")
    settle(page)
    first = rows(page)
    assert first != likeliest
    press(page, "Draw again")
    assert trait(page, "seed") == 1 and rows(page) != first
    set_traits(page, seed=0)
    assert rows(page) == first
    set_traits(page, temperature=0)
    assert rows(page) == likeliest and button.is_disabled()


def test_swapped_names_make_the_same_walk_from_the_other_end(page):
    slider(page, "Along").fill("0.25")
    settle(page)
    name, before = large(page), rows(page)
    press(page, "Swap")
    assert (trait(page, "start"), trait(page, "end"), trait(page, "t")) == ("paris", "london", 0.75)
    assert rows(page) == before[::-1] and large(page) == name


def test_every_control_answers_the_keyboard_and_tab_reaches_it(page):
    figure = figure_of(page)
    slider(page, "Temperature").fill("1")
    settle(page)
    reached = reached_by_tab(page, 12)
    for control in controls(figure):
        assert control.evaluate("e => e.outerHTML") in reached, control.inner_text()
    for name in ("Draw again", "Swap"):
        assert changes(figure, page.get_by_role("button", name=name)), name
    for control in page.locator("input").all():
        assert changes(figure, control), control.evaluate("e => e.outerHTML")


def test_nothing_works_while_nothing_moves(page):
    asked = page.evaluate("asked")
    page.wait_for_timeout(300)
    assert page.evaluate("asked") == asked


def test_a_voice_hears_one_sentence_after_ten_moves(page):
    page.evaluate(HOLD_REST)
    page.evaluate(
        """async () => {
            window.heard = [];
            const output = document.querySelector("figure output");
            const note = () => heard.push(output.textContent);
            new MutationObserver(note).observe(output, { childList: true });
            for (let i = 0; i <= 10; i++) {
                model.set("t", i / 10);
                await new Promise(frame);
                await new Promise(frame);
            }
            await rested();
        }"""
    )
    [heard] = page.evaluate("heard")
    assert heard == words_of(figure_of(page)) and "At 1.00 of the way" in heard


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_moved_by_what_moves(open_page, walk, width):
    page = started(open_page, walk, width=width)
    before = page.evaluate(BOXES)
    for name in ("", "Zürich", "m" * 12, "Αθήνα", "Екатеринбург"):
        field(page, "From").fill(name)
        settle(page)
        assert page.evaluate(BOXES) == before, name
    for t in ("0", "0.4", "1"):
        slider(page, "Along").fill(t)
        slider(page, "Temperature").fill(str(2 * float(t)))
        wait_until_drawn(page)
        assert page.evaluate(BOXES) == before


# Looks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", RULES)
def test_it_is_accessible_and_no_wider_than_the_screen(open_page, walk, look):
    check_look(open_page, walk, look)


@pytest.mark.parametrize("size", [(1366, 768), (1920, 1080), (800, 1200)])
def test_the_whole_of_it_fits_a_wall(open_page, walk, size):
    page = on_a_wall(open_page, walk, size)
    assert canvas(page, "Likeliest").bounding_box()["width"] > 0.25 * size[0]


# The traits, with a kernel ----------------------------------------------------------------------


def test_a_kernel_moves_every_control(page):
    saved = page.evaluate("model.saved")
    set_traits(page, start="Rome", end="Oslo", t=0.25, temperature=1.25, seed=3)
    assert page.evaluate("model.saved") == saved
    assert [field(page, name).input_value() for name in ("From", "To")] == ["Rome", "Oslo"]
    assert float(slider(page, "Along").input_value()) == 0.25
    assert float(slider(page, "Temperature").input_value()) == 1.25
    assert "rome costs" in words_of(figure_of(page)) and "oslo costs" in words_of(figure_of(page))


def test_every_control_reaches_a_kernel(page):
    for act in (
        lambda: field(page, "From").fill("rome"),
        lambda: field(page, "To").fill("oslo"),
        lambda: slider(page, "Along").fill("0.25"),
        lambda: slider(page, "Temperature").fill("1"),
        lambda: press(page, "Draw again"),
        lambda: press(page, "Swap"),
    ):
        saved = page.evaluate("model.saved")
        act()
        settle(page)
        assert page.evaluate("model.saved") > saved


def test_a_closed_figure_stops_listening(page):
    page.evaluate("close_figure()")
    assert page.evaluate("model.listening()") == 0


# Python -----------------------------------------------------------------------------------------


def test_models_that_it_cannot_show_are_refused():
    with pytest.raises(TypeError, match=r"model must be an em2vae\.sequence\.SequenceVAE, got VAE"):
        NameWalk(VAE(2, (4,)))
    with pytest.raises(ValueError, match="latent_dim of at least 1, got 0: a walk needs codes"):
        NameWalk(SequenceVAE(0))
    with pytest.raises(ValueError, match="n_letters = 26, got 25"):
        NameWalk(SequenceVAE(2, n_letters=25))
    with pytest.raises(ValueError, match="reach = None, got 2: the page's decoder sees all"):
        NameWalk(SequenceVAE(2, reach=2))
    for part in ("encoder", "decoder"):
        for value in (math.nan, 1e9):
            model = SequenceVAE(2)
            getattr(model, part).gru.weight_hh_l0.data[3, 1] = value
            with pytest.raises(ValueError, match="finite and below 65,504"):
                NameWalk(model)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("start", "a" * 41, "start must have at most 40 characters, got 41"),
        ("end", "a" * 41, "end must have at most 40 characters, got 41"),
        ("start", 5, "start"),
        ("t", 1.01, "t"),
        ("t", math.nan, "t must be a finite number"),
        ("temperature", -0.1, "temperature"),
        ("temperature", 2.5, "temperature"),
        ("seed", -1, "seed"),
    ],
)
def test_wrong_traits_say_what_was_expected(name, value, message):
    walk = NameWalk(SequenceVAE(2))
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(walk, name, value)
    with pytest.raises(traitlets.TraitError, match=message):
        NameWalk(SequenceVAE(2), **{name: value})
