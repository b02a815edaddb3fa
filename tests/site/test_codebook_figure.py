"""The codebook: its arithmetic against PyTorch, its controls, its traits, what it refuses."""

import math
import re

import pytest
import torch
import traitlets
from test_interactive import changes, controls
from test_looks import RULES
from test_style_transfer import (
    BOXES,
    SEVEN,
    canvas,
    check_look,
    draw,
    figure_of,
    ink,
    numbers,
    on_a_wall,
    press,
    put,
    reached_by_tab,
    seen,
    settle,
    started,
    trait,
)
from torch import nn
from widgets import HOLD_REST, IMPORT, evaluate, layers_of, render, wait_until_drawn, words_of

from em2vae import VAE, fit, load_digits
from em2vae.codebook import VQVAE, WordPrior, two_part
from em2vae.data import binarize
from em2vae.interactive.amortized_pad import normalize
from em2vae.interactive.codebook import Codebook, as_tables, tiles_of, with_middles

ROOM = 0.00501  # of a number with two decimals
CHOICES = [4, 7, 12, 23]
# What the module exports, called in a page with the networks that travel.
CALL = f"""async ([text, networks, list, reach, body, given]) => {{
    const code = await ({IMPORT})(text);
    const ready = ([layers, numbers]) => layers.map((layer, i) => ({{
        ...layer,
        weight: Float32Array.from(numbers[i][0].flat()),
        bias: Float64Array.from(numbers[i][1]),
    }}));
    const [encoder, decoder, tables] = networks.map(ready);
    const prior = code.readyPrior(tables, reach, list.length);
    const names = ["code", "encoder", "decoder", "prior", "list", "given"];
    return new Function(...names, body)(code, encoder, decoder, prior, list, given);
}}"""


@pytest.fixture(scope="module")
def digits():
    x, labels = load_digits("test")
    return x[:100], labels[:100]


@pytest.fixture(scope="module")
def models():
    x, _ = load_digits("train")
    vqvae = VQVAE()
    fit(vqvae, x, epochs=1, batch_size=32, learning_rate=8e-3)
    prior = WordPrior()
    pages = vqvae.encode(binarize(x))
    fit(prior, pages, epochs=2, batch_size=64, binarize="none", learning_rate=4e-3)
    return vqvae.eval().requires_grad_(False), prior.requires_grad_(False)


@pytest.fixture(scope="module")
def figure(models, digits):
    return Codebook(*models, *digits, choices=CHOICES, digit=1)


@pytest.fixture
def page(open_page, figure):
    return started(open_page, figure)


@pytest.fixture(scope="module")
def call(site, browser, opening, figure):
    """Runs code on the exported functions, in one page for all tests."""
    state = figure.get_state()
    networks = []
    for name in ("_encoder", "_decoder", "_prior"):
        layers = layers_of(state[name], bytes(state[f"{name}_weights"]))
        plain = [[weight.tolist(), bias.tolist()] for weight, bias in layers]
        networks.append([state[name]["layers"], plain])
    given = [figure._esm, networks, state["_list"], state["_reach"]]
    with opening(browser) as open_page:
        page = open_page("book/glossary", figures_only=True)
        yield lambda body, data=None: evaluate(page, CALL, [*given, body, data])


def words(page) -> torch.Tensor:
    """The words of the picture shown, (1, 49)."""
    return torch.tensor([trait(page, "words")])


def on_canvas(page, label: str) -> list[float]:
    """The numbers that a canvas says."""
    text = canvas(page, label).get_attribute("aria-label").split(": ", 1)[1]
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def on_list(page) -> list[tuple[int, float]]:
    """How often each word is used, and its nats at the place."""
    text = canvas(page, "The list").get_attribute("aria-label")
    found = re.findall(r"word (\d+), used (\d+) times?, (\d+\.\d+) nats", text)
    assert [int(word) for word, _, _ in found] == list(range(len(found)))
    return [(int(uses), float(nats)) for _, uses, nats in found]


def picture(page) -> torch.Tensor:
    return ink(canvas(page, "The picture")).reshape(1, 784)


def slide(page, name: str, value) -> None:
    page.locator("input[type=range]").and_(page.get_by_label(name)).fill(str(value))
    settle(page)


def click(page, label: str, cell: int, columns: int) -> None:
    """The middle of a cell of a board."""
    board = canvas(page, label)
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    row, column = divmod(cell, columns)
    at = [(n + 0.5) / columns for n in (column, row)]
    page.mouse.click(box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"])
    settle(page)


def agrees(page, models) -> None:
    """Picture, costs and sentence are what PyTorch makes of the words and of x."""
    vqvae, prior = models
    shown, x = words(page), seen(page)
    assert (picture(page) - vqvae.decode(shown).mean).abs().max() <= 2 / 255
    nats = -prior.log_prob(shown)[0]
    assert on_canvas(page, "Nats of each word") == pytest.approx(nats.tolist(), abs=0.01 + ROOM)
    terms = two_part(vqvae, prior, x, shown)
    expected = [terms.kl, -terms.log_likelihood, -terms.elbo]
    said = numbers(words_of(figure_of(page)).split(": ", 1)[1])
    assert said[:3] == pytest.approx([value.item() for value in expected], abs=0.15)


# The arithmetic ---------------------------------------------------------------------------------


def test_words_equal_pytorchs_on_all_test_images(call, models):
    """But for places where two words are equally near, to within the rounding of the weights."""
    x, vqvae = binarize(load_digits("test")[0]), models[0]
    body = "return given.map((bits) => code.encodeWords(encoder, list, Float64Array.from(bits)));"
    found = torch.tensor(call(body, ["".join(map(str, row)) for row in x.int().tolist()]))
    expected, distance = vqvae.encode(x), torch.cdist(vqvae.vectors(x), vqvae.words).square()
    excess = distance.gather(-1, found[..., None]).squeeze(-1) - distance.amin(-1)
    assert (found == expected).float().mean() > 0.9999
    assert excess.max() < 1e-3 * distance.mean()
    assert expected.unique().numel() > 8


def test_logits_and_nats_agree_with_pytorch_on_pages_of_any_words(call, models):
    vqvae, prior = models
    pages = torch.randint(16, (20, 49), generator=torch.Generator().manual_seed(3))
    pages = torch.cat([pages, vqvae.encode(load_digits("test")[0][:20])])
    body = """return given.map((page) => [[...code.decodeWords(decoder, list, page)],
        page.map((_, place) => code.natsAt(prior, page, place))]);"""
    logits, nats = zip(*call(body, pages.tolist()), strict=True)
    assert (torch.tensor(logits) - vqvae.decode(pages).logits).abs().max() < 0.02
    expected = -prior.logits(pages).log_softmax(-1)
    assert (torch.tensor(nats) - expected).abs().max() < 0.02
    own = torch.tensor(nats).gather(-1, pages[..., None]).sum((1, 2))
    assert (own + prior.log_prob(pages).sum(-1)).abs().max() < 0.1
    x = binarize(load_digits("test")[0])[:20]
    by_page = torch.distributions.Bernoulli(logits=torch.tensor(logits)[20:]).log_prob(x).sum(-1)
    assert (by_page - vqvae.decode(pages[20:]).log_prob(x).sum(-1)).abs().max() < 0.1


def test_draws_follow_the_prior_and_keep_what_is_kept(call, models):
    """At the first place drawn, 4,000 seeds give each word as often as the prior says."""
    _, prior = models
    page, kept = [3] * 49, 24
    body = """return Array.from({ length: 4000 }, (_, seed) =>
        code.continued(prior, given, 24, seed).slice(0, 25));"""
    drawn = torch.tensor(call(body, page))
    assert (drawn[:, :kept] == 3).all()
    share = torch.bincount(drawn[:, kept], minlength=16) / 4000
    p = prior.logits(torch.tensor([page]))[0, kept].softmax(-1)
    assert ((share - p).abs() < 4.5 * (p * (1 - p) / 4000).sqrt() + 1e-3).all()
    assert p.max() < 0.95


def test_each_draw_is_given_those_before_it(call, models):
    """Its nats, on average, are the entropy of the prior: 49 draws, 400 pages."""
    _, prior = models
    body = "return Array.from({ length: 400 }, (_, seed) => code.continued(prior, given, 0, seed));"
    pages = torch.tensor(call(body, [0] * 49))
    torch_pages = prior.sample(
        torch.zeros(2000, 49, dtype=torch.int64), generator=torch.Generator().manual_seed(0)
    )
    nats, expected = (-prior.log_prob(drawn).sum(-1) for drawn in (pages, torch_pages))
    error = math.hypot(nats.std() / 400**0.5, expected.std() / 2000**0.5)
    assert abs(nats.mean() - expected.mean()) < 4.5 * error
    assert (-prior.log_prob(pages.flip(1)).sum(-1)).mean() > expected.mean() + 10


def test_the_prior_in_tables_and_the_encoder_in_threes_are_the_same_networks(models):
    vqvae, prior = models
    pages = torch.randint(16, (5, 49), generator=torch.Generator().manual_seed(1))
    numbers_seen = prior.neighbours(pages) + 17 * torch.arange(12)  # (5, 49, 12)
    ones = nn.functional.one_hot(numbers_seen, 12 * 17).sum(-2)
    ones = torch.cat([ones, torch.eye(49).expand(5, -1, -1)], dim=-1).float()
    assert torch.allclose(as_tables(prior)(ones), prior.logits(pages), atol=1e-4)
    x = binarize(load_digits("test")[0][:5]).unflatten(-1, (1, 28, 28))
    assert torch.allclose(with_middles(vqvae.encoder)(x), vqvae.encoder(x), atol=1e-5)


def test_a_tile_is_the_mean_of_the_pixels_where_its_word_stands(models):
    vqvae, x = models[0], binarize(load_digits("test")[0][:30])
    pages, sums, counts = vqvae.encode(x), torch.zeros(16, 4, 4), torch.zeros(16)
    for image, page_of_it in zip(x.view(-1, 28, 28), pages.tolist(), strict=True):
        for place, word in enumerate(page_of_it):
            r, c = divmod(place, 7)
            sums[word] += image[4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
            counts[word] += 1
    expected = (sums / counts.clamp(min=1)[:, None, None]).flatten(1)
    assert torch.allclose(tiles_of(vqvae, x), expected, atol=1e-5)


@pytest.mark.parametrize("n", range(4))
def test_a_digit_in_words(page, models, digits, n):
    put(page, n)
    x = (normalize(digits[0][CHOICES[n]].reshape(28, 28)) > 0.5).float().reshape(1, 784)
    assert torch.equal(seen(page), x)
    assert torch.equal(words(page), models[0].encode(x))
    assert on_canvas(page, "The words") == words(page)[0].tolist()
    agrees(page, models)
    assert f"Test digit {n + 1} in 49 words" in words_of(figure_of(page))


def test_the_list_says_uses_and_nats_at_the_place(page, models):
    for place in (0, 24, 48):
        slide(page, "Place", place)
        nats = -models[1].logits(words(page))[0, place].log_softmax(-1)
        counts = torch.bincount(words(page)[0], minlength=16)
        uses, shown = zip(*on_list(page), strict=True)
        assert list(uses) == counts.tolist()
        assert list(shown) == pytest.approx(nats.tolist(), abs=0.01 + ROOM)
        said = words_of(figure_of(page))
        assert f"In row {place // 7 + 1}, column {place % 7 + 1} stands word" in said
        assert numbers(said)[3] == pytest.approx(nats[words(page)[0, place]].item(), abs=0.016)
        own = nats.argmin() == words(page)[0, place]
        assert ("the cheapest there." in said) == bool(own)
        assert (f"word {nats.argmin()} is the cheapest there" in said) == (not own)


@pytest.mark.parametrize("network", ["_encoder", "_decoder", "_prior"])
def test_a_damaged_weight_is_shown_as_an_error(open_page, figure, network):
    weights = bytearray(getattr(figure, f"{network}_weights"))
    weights[5] ^= 1
    page = open_page("book/glossary", figures_only=True)
    render(page, figure, **{f"{network}_weights": bytes(weights)})
    assert figure_of(page).get_attribute("data-state") == "error"
    assert "damaged" in page.get_by_role("alert").inner_text()


def test_another_size_of_list_and_networks_agrees_too(open_page, digits):
    vqvae = VQVAE(n_words=23, word_dim=3, channels=(5, 9))
    fit(vqvae, load_digits("train")[0][:1000], epochs=1, batch_size=32, learning_rate=8e-3)
    prior = WordPrior(23, embed_dim=4, hidden_dim=10, seed=3)
    models = vqvae.eval().requires_grad_(False), prior.requires_grad_(False)
    page = started(open_page, Codebook(*models, *digits))
    agrees(page, models)
    assert len(on_list(page)) == 23
    click(page, "The list", 21, 5)
    assert words(page)[0, trait(page, "place")] == 21
    before = words(page)
    click(page, "The list", 24, 5)  # an empty cell
    assert torch.equal(words(page), before)


# The pad ----------------------------------------------------------------------------------------


def test_a_stroke_replaces_the_digit_and_its_words(page, models):
    before = words(page)
    slide(page, "Words kept", 10)
    draw(page, *SEVEN)
    assert trait(page, "digit") == -1 and trait(page, "kept") == 49
    assert page.get_by_label("On the pad").input_value() == "-1"
    assert "your drawing" in canvas(page, "Pad").get_attribute("aria-label")
    assert torch.equal(words(page), models[0].encode(seen(page)))
    assert (words(page) != before).any()
    agrees(page, models)
    one = seen(page)
    draw(page, (0.35, 0.55), (0.7, 0.55))
    assert (seen(page) != one).any()
    assert torch.equal(words(page), models[0].encode(seen(page)))


def test_words_follow_a_pen_that_is_still_down_and_the_sentence_rests(page, models):
    press(page, "Clear the pad")
    before = words_of(figure_of(page))
    draw(page, *SEVEN, lift=False)
    assert torch.equal(words(page), models[0].encode(seen(page)))
    assert (picture(page) - models[0].decode(words(page)).mean).abs().max() <= 2 / 255
    assert words_of(figure_of(page)) == before
    page.mouse.up()
    settle(page)
    assert "Your drawing in 49 words" in words_of(figure_of(page))


def test_an_empty_pad_has_words_too(page, models):
    press(page, "Clear the pad")
    assert seen(page).sum() == 0
    assert torch.equal(words(page), models[0].encode(torch.zeros(1, 784)))
    assert "The empty pad in 49 words" in words_of(figure_of(page))
    assert page.get_by_role("button", name="Clear the pad").is_disabled()
    draw(page, *SEVEN)
    press(page, "Clear the pad")
    assert seen(page).sum() == 0
    assert torch.equal(words(page), models[0].encode(torch.zeros(1, 784)))


# The controls -----------------------------------------------------------------------------------


def test_a_click_chooses_a_place_and_another_a_word(page, models):
    for board, place in (("The words", 17), ("Nats of each word", 30)):
        click(page, board, place, 7)
        assert trait(page, "place") == place
        before = words(page)
        word = (before[0, place].item() + 5) % 16
        click(page, "The list", word, 4)
        changed = before.clone()
        changed[0, place] = word
        assert torch.equal(words(page), changed)
        agrees(page, models)
    said = words_of(figure_of(page))
    assert "Test digit 2 with 2 words exchanged" in said
    terms = two_part(*models, seen(page))
    assert numbers(said)[3] == pytest.approx(-terms.elbo.item(), abs=0.15)


def test_a_slider_runs_through_the_words_of_a_place(page, models):
    place = trait(page, "place")
    base = words(page)
    for word in (0, 9, 15):
        slide(page, "Word there", word)
        base[0, place] = word
        assert torch.equal(words(page), base)
    agrees(page, models)
    press(page, "The encoder's words")
    assert torch.equal(words(page), models[0].encode(seen(page)))
    assert page.get_by_role("button", name="The encoder's words").is_disabled()


def test_the_mark_stands_on_the_pixels_of_the_place(page):
    slide(page, "Place", 15)
    mark, whole = page.locator(".em2vae-spot > i"), canvas(page, "The picture")
    mark, whole = mark.bounding_box(), whole.bounding_box()
    assert (mark["x"] - whole["x"]) / whole["width"] == pytest.approx(1 / 7, abs=0.02)
    assert (mark["y"] - whole["y"]) / whole["height"] == pytest.approx(2 / 7, abs=0.02)


def test_words_not_kept_are_drawn_anew_and_come_back(page, models):
    own = words(page)
    for kept in (30, 10, 0):
        slide(page, "Words kept", kept)
        drawn = words(page)
        assert torch.equal(drawn[:, :kept], own[:, :kept])
        assert (drawn != own).any()
        agrees(page, models)
        assert f"The first {kept} words kept, {49 - kept} drawn" in words_of(figure_of(page))
    press(page, "Draw others again")
    assert (words(page) != drawn).any() and trait(page, "seed") == 1
    slide(page, "Words kept", 49)
    assert torch.equal(words(page), own)
    assert page.get_by_role("button", name="Draw others again").is_disabled()


def test_an_exchange_among_drawn_words_keeps_them_all(page):
    slide(page, "Words kept", 10)
    drawn = words(page)
    slide(page, "Place", 30)
    slide(page, "Word there", (drawn[0, 30].item() + 1) % 16)
    assert trait(page, "kept") == 49
    assert (words(page) != drawn).nonzero().tolist() == [[0, 30]]
    slide(page, "Words kept", 48)
    assert torch.equal(words(page)[:, :48].ne(drawn[:, :48]).nonzero(), torch.tensor([[0, 30]]))


def test_every_control_answers_the_keyboard_and_tab_reaches_it(page):
    figure = figure_of(page)
    slide(page, "Words kept", 20)
    reached = reached_by_tab(page, 14)
    for control in controls(figure):
        name = control.inner_text()
        if control.is_enabled() and name != "Full screen":
            assert control.evaluate("e => e.outerHTML") in reached, name
    for name in ("Draw others again", "The encoder's words", "Clear the pad"):
        assert changes(figure, page.get_by_role("button", name=name)), name
    for control in page.locator("select, input").all():
        assert changes(figure, control), control.evaluate("e => e.outerHTML")


def test_nothing_works_while_nothing_moves(page):
    asked = page.evaluate("asked")
    page.wait_for_timeout(300)
    assert page.evaluate("asked") == asked


def test_a_voice_hears_one_sentence_after_ten_moves(page):
    page.evaluate(HOLD_REST)
    page.evaluate("rested()")
    output = figure_of(page).locator("output")
    before = output.inner_text()
    for kept in range(40, 30, -1):
        slide(page, "Words kept", kept)
        assert output.inner_text() == before
    page.evaluate("rested()")
    assert "The first 31 words kept" in output.inner_text()


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_moved_by_what_moves(open_page, figure, width):
    page = started(open_page, figure, width=width)
    slide(page, "Words kept", 5)  # the longest sentence has taken its room
    before = page.evaluate(BOXES)
    for name, value in (("Words kept", 49), ("Place", 0), ("Place", 48), ("Word there", 15)):
        slide(page, name, value)
        assert page.evaluate(BOXES) == before, (name, value)
    draw(page, *SEVEN)
    assert page.evaluate(BOXES) == before


# Looks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", RULES)
def test_it_is_accessible_and_no_wider_than_the_screen(open_page, figure, look):
    check_look(open_page, figure, look)


@pytest.mark.parametrize("size", [(1366, 768), (1920, 1080), (800, 1200)])
def test_the_whole_of_it_fits_a_wall(open_page, figure, size):
    page = on_a_wall(open_page, figure, size)
    assert canvas(page, "The words").bounding_box()["width"] > 0.15 * size[0]


# The traits, with a kernel ----------------------------------------------------------------------


def test_a_kernel_sets_words_place_and_draws(page, models):
    own = words(page)
    other = own.roll(3)
    page.evaluate("(words) => model.set('words', words)", other[0].tolist())
    settle(page)
    agrees(page, models)
    saved = page.evaluate("model.saved")
    page.evaluate("model.set('place', 12)")
    settle(page)
    assert page.evaluate("model.saved") == saved
    assert "In row 2, column 6" in words_of(figure_of(page))
    page.evaluate("model.set('kept', 20)")
    settle(page)
    drawn = words(page)
    assert torch.equal(drawn[:, :20], other[:, :20]) and (drawn != other).any()
    page.evaluate("model.set('seed', 7)")
    settle(page)
    assert (words(page) != drawn).any()
    page.evaluate("(words) => model.set('words', words)", own[0].tolist())
    settle(page)
    assert trait(page, "kept") == 49 and torch.equal(words(page), own)


def test_a_kernel_sends_a_digit_with_its_words_and_nothing_goes_back(page, figure, models):
    saved = page.evaluate("model.saved")
    given = ["digit", 3], ["words", figure._pages[3]], ["kept", 49]
    page.evaluate("(given) => given.forEach((pair) => model.set(...pair))", list(given))
    settle(page)
    assert page.evaluate("model.saved") == saved
    assert page.get_by_label("On the pad").input_value() == "3"
    agrees(page, models)
    page.evaluate("model.set('digit', -1)")
    settle(page)
    assert torch.equal(words(page), models[0].encode(torch.zeros(1, 784)))


def test_controls_and_pen_reach_a_kernel(page):
    for act in (
        lambda: slide(page, "Place", 3),
        lambda: slide(page, "Word there", 3),
        lambda: slide(page, "Words kept", 3),
        lambda: press(page, "Draw others again"),
        lambda: press(page, "The encoder's words"),
        lambda: put(page, 0),
        lambda: draw(page, *SEVEN),
        lambda: press(page, "Clear the pad"),
    ):
        saved = page.evaluate("model.saved")
        act()
        assert page.evaluate("model.saved") > saved


def test_a_closed_figure_draws_no_more(page):
    page.evaluate("close_figure()")
    before = words_of(figure_of(page))
    page.evaluate("model.set('place', 1)")
    wait_until_drawn(page)
    assert words_of(figure_of(page)) == before


# Python -----------------------------------------------------------------------------------------


@pytest.fixture
def untrained(digits):
    return Codebook(VQVAE(), WordPrior(), *digits)


def test_a_digit_brings_its_words_and_they_are_all_kept(models, digits):
    figure = Codebook(*models, *digits, choices=CHOICES)
    figure.kept = 12
    figure.digit = 2
    x = (normalize(digits[0][CHOICES[2]].reshape(28, 28)) > 0.5).float().reshape(1, 784)
    assert figure.words == models[0].encode(x)[0].tolist() and figure.kept == 49
    figure.digit = -1
    assert figure.words == models[0].encode(x)[0].tolist()  # Python has not seen the drawing


def test_it_opens_at_the_word_that_costs_most(figure, models):
    nats = -models[1].log_prob(torch.tensor([figure.words]))[0]
    assert nats[figure.place] == nats.max() and nats.max() > 1


def test_an_empty_pad_is_fine(open_page, models, digits):
    page = started(open_page, Codebook(*models, *digits, digit=-1))
    assert torch.equal(words(page), models[0].encode(torch.zeros(1, 784)))
    assert "The empty pad" in words_of(figure_of(page))


def test_models_that_it_cannot_show_are_refused(digits):
    with pytest.raises(TypeError, match=r"vqvae must be an em2vae.codebook.VQVAE, got VAE"):
        Codebook(VAE(2, (4,)), WordPrior(), *digits)
    with pytest.raises(TypeError, match=r"prior must be an em2vae.words.WordPrior, got Linear"):
        Codebook(VQVAE(), nn.Linear(2, 2), *digits)
    with pytest.raises(ValueError, match=r"prior must have the 16 words of vqvae, got 8"):
        Codebook(VQVAE(), WordPrior(8), *digits)
    with pytest.raises(ValueError, match=r"vqvae must have at most 64 words, got 65"):
        Codebook(VQVAE(65), WordPrior(65), *digits)
    for network in ("encoder", "decoder"):
        vqvae = VQVAE()
        next(getattr(vqvae, network).parameters()).data[1, 0] = math.nan
        with pytest.raises(ValueError, match="finite"):
            Codebook(vqvae, WordPrior(), *digits)
    prior = WordPrior()
    prior.place.data[3, 3] = math.nan
    with pytest.raises(ValueError, match="finite"):
        Codebook(VQVAE(), prior, *digits)


def test_choices_that_are_no_images_with_ink_are_refused(digits):
    x, labels = digits
    for choices in ([], [100], [-1]):
        with pytest.raises(ValueError, match="choices must be indices of the 100 images"):
            Codebook(VQVAE(), WordPrior(), x, labels, choices)
    with pytest.raises(traitlets.TraitError, match=r"digit must lie in -1\.\.1, got 2"):
        Codebook(VQVAE(), WordPrior(), x, labels, [3, 5], digit=2)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("digit", 10, r"digit must lie in -1\.\.9, got 10"),
        ("place", 49, r"place must lie in 0\.\.48, got 49"),
        ("kept", 50, r"kept must lie in 0\.\.49, got 50"),
        ("kept", -1, r"kept must lie in 0\.\.49, got -1"),
        ("words", [0] * 48, r"words must hold 49 whole numbers from 0 to 15"),
        ("words", [16] * 49, r"words must hold 49 whole numbers from 0 to 15"),
        ("words", [0.5] * 49, r"words must hold 49 whole numbers from 0 to 15"),
    ],
)
def test_wrong_traits_say_what_was_expected(untrained, name, value, message):
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(untrained, name, value)


def test_a_tensor_is_as_good_as_a_list(untrained):
    untrained.words = torch.arange(49) % 16
    assert untrained.words == [n % 16 for n in range(49)]
