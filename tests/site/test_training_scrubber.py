"""The training scrubber: what it records, and what it shows of it."""

import re

import pytest
import torch
from widgets import SENTENCE, wait_until_drawn, words_of

from em2vae import VAE, fit, load_digits
from em2vae.data import binarize
from em2vae.interactive.training_scrubber import TrainingScrubber

PAGE = "book/11-vae"
EPOCHS = re.compile(r"After (\d+) epochs?\b")
# All that the figure says from now on.
READ_ALOUD = """(said) => {
    const texts = [];
    const note = () => texts.at(-1) !== said.innerText && texts.push(said.innerText);
    new MutationObserver(note).observe(said, { childList: true });
    return texts;
}"""


@pytest.fixture(scope="module")
def recorded():
    x, labels = load_digits("test")
    x = binarize(x[:50])
    vae = VAE(2, (8,))
    scrubber = TrainingScrubber(x, labels[:50], epochs=(0, 2, 3))
    history = fit(vae, load_digits()[0][:200], epochs=3, on_epoch=scrubber.recorder(vae))
    return scrubber, vae, x, history


def test_it_records_the_chosen_epochs(recorded):
    scrubber, vae, x, _ = recorded
    assert scrubber.epochs == [0, 2, 3]
    assert scrubber.step == 2
    assert len(scrubber._decoders) == len(scrubber.elbo) == 3
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        elbo = vae.elbo(x, generator=noise).elbo.mean().item()
    assert scrubber.elbo[-1] == pytest.approx(elbo)
    codes = torch.frombuffer(bytearray(scrubber._codes), dtype=torch.float16).reshape(3, 50, 2)
    assert torch.allclose(codes[-1].float(), vae.encode(x).mean, atol=1e-3)


def test_looking_does_not_change_the_training(recorded):
    vae = VAE(2, (8,))
    assert fit(vae, load_digits()[0][:200], epochs=3).elbo == recorded[3].elbo


def test_wrong_arguments_say_what_was_expected(recorded):
    scrubber, _, x, _ = recorded
    with pytest.raises(ValueError, match="latent_dim = 2, got 3"):
        scrubber.recorder(VAE(3, (8,)))
    with pytest.raises(ValueError, match="x and labels must match, got 50 and 1"):
        TrainingScrubber(x, torch.zeros(1, dtype=torch.long), epochs=(0,))


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_scrubbing_moves_codes_and_pictures(open_page, scheme):
    figure = open_page(PAGE, scheme).locator("figure[data-interactive='training-scrubber']")
    scrub = figure.get_by_label("Epochs of training")
    pictures = "f => [...f.querySelectorAll('canvas')].map((c) => c.toDataURL())"
    scrub.fill("0")
    wait_until_drawn(figure.page)
    before = figure.evaluate(pictures)
    assert "After 0 epochs" in words_of(figure)
    scrub.fill(scrub.get_attribute("max"))
    wait_until_drawn(figure.page)
    after = figure.evaluate(pictures)
    assert len(after) == 3
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_playing_goes_from_the_first_to_the_last_epoch(open_page):
    figure = open_page(PAGE, figures_only=True).locator(
        "figure[data-interactive='training-scrubber']"
    )
    said = figure.locator(SENTENCE)
    last = said.inner_text()
    texts = said.evaluate_handle(READ_ALOUD)
    figure.get_by_role("button", name="Play the training").click()
    figure.page.wait_for_function("([texts, last]) => texts.at(-1) === last", arg=[texts, last])
    epochs = [int(EPOCHS.match(text)[1]) for text in texts.json_value()]
    assert epochs[0] == 0
    assert epochs == sorted(set(epochs))  # forward, each once
    assert len(epochs) == 1 + int(figure.get_by_label("Epochs of training").get_attribute("max"))
