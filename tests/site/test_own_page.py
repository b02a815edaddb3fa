"""A page of one's own pictures, from a folder, with the network cut."""

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from test_looks import OVERFLOWING
from widgets import SENTENCE, evaluate, wait_until_drawn

from em2vae import VAE
from em2vae.convolutional import ConvVAE
from em2vae.images import Images
from em2vae.page import write_page

# Of a picture, and what draws it: a likelihood's name means a ConvVAE.
CASES = {
    "convolutions, colours": ((3, 20, 28), "logistic"),
    "convolutions, grey": ((1, 24, 12), "gaussian"),
    "convolutions, bits": ((3, 8, 16), "bernoulli"),
    "colours": ((3, 20, 30), None),
    "grey": ((1, 23, 16), None),
}
NAMES = ("hills", "very long names of <folders> & lakes")
N = 23
READY = 'figure.em2vae[data-state="ready"]'
READ = """(canvas) => {  // from a copy: Chromium warns of a canvas that is read twice
    const { width, height } = canvas;
    const copy = new OffscreenCanvas(width, height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    return [width, height, [...copy.getImageData(0, 0, width, height).data]];
}"""


def pictures(shape) -> torch.Tensor:
    """Smooth pictures (N, D) of 256 levels, each of other waves."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    waves = torch.rand(N, channels, 3, 1, 1, generator=generator)
    y, x = torch.meshgrid(torch.arange(height) / 8, torch.arange(width) / 8, indexing="ij")
    values = (6 * waves[:, :, 0] + 3 * waves[:, :, 1] * y + 3 * waves[:, :, 2] * x).sin()
    return ((values + 1) * 127.5).round().flatten(1) / 255


def model(shape, likelihood) -> VAE:
    """As if trained: its pictures are far from grey, and every dimension is active."""
    activation = torch.nn.SiLU
    if likelihood:
        vae = ConvVAE(4, (6, 10), shape, likelihood, activation)
    else:
        vae = VAE(4, (33,), data_dim=int(np.prod(shape)), activation=activation)
    with torch.no_grad():
        vae.decoder.head.weight *= 25 if likelihood == "bernoulli" else 8
        vae.encoder.heads.weight *= 60 if likelihood else 6
        vae.encoder.heads.bias[:4] += torch.tensor([0.6, -0.7, 0.8, -0.9])
        if likelihood == "logistic":
            vae.decoder.head.bias[shape[0] :] -= torch.arange(shape[0])  # also narrow
    return vae


# Folders have names without a space, and a phone is narrow.
TITLE = "My_pictures_of_a_long_summer_by_the_sea_and_in_the_mountains"


@pytest.fixture(scope="module", params=CASES)
def written(request, tmp_path_factory):
    """The page, the model and the pictures in it."""
    shape, likelihood = CASES[request.param]
    x, vae = pictures(shape), model(shape, likelihood)
    path = tmp_path_factory.mktemp("own pages") / "a page.html"
    labels = torch.arange(N) % 2 if shape[0] == 3 else None
    images = Images(x, labels, NAMES if labels is not None else (), shape)
    write_page(vae, images, path, title=TITLE)
    return path, vae, images


@pytest.fixture
def visit(browser, written):
    contexts, problems = [], []

    def visit(dark=False, width=1280):
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            offline=True,
        )
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        url = written[0].as_uri()
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"throws {error}"))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((url, "blob:", "data:"))
                or problems.append(f"asks for {request.url}")
            ),
        )
        page.goto(url)
        page.wait_for_selector(READY)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not problems, "\n".join(problems)


def shown(page, name: str, shape) -> np.ndarray:
    """What a canvas shows, (D,), channel after channel, of 0 to 255."""
    canvas = page.locator(f"canvas[aria-label^='{name}']")
    width, height, data = evaluate(canvas, READ)
    assert (height, width) == shape[1:]
    values = np.array(data).reshape(height, width, 4)
    assert (values[..., 3] == 255).all()
    channels = values[..., :3].transpose(2, 0, 1)
    if shape[0] == 1:
        assert (channels == channels[:1]).all()
    return channels[: shape[0]].ravel()


def z_of(page, latent_dim) -> torch.Tensor:
    """The latent point as the sliders show it."""
    sliders = page.locator(".em2vae-sliders .em2vae-slider").all()
    assert len(sliders) == latent_dim
    z = torch.zeros(latent_dim)
    for slider in sliders:
        name = slider.locator("label").inner_text().split()[0]
        z[ord(name[1]) - 0x2081] = float(slider.locator("input").input_value())
    return z


@torch.no_grad()
def test_sliders_draw_what_pytorch_draws(written, visit):
    _, vae, images = written
    page = visit()
    for values in ((0.75, -1.25, 0.3, 2.0), (-2.0, 0.0, 1.5, -0.4)):
        sliders = page.locator(".em2vae-sliders input").all()
        for slider, value in zip(sliders, values, strict=True):
            slider.fill(str(value))
        wait_until_drawn(page)
        expected = 255 * vae.decode(z_of(page, 4)).mean.numpy().clip(0, 1)
        assert expected.std() > 15
        assert np.abs(shown(page, "Decoded", images.shape) - expected).max() <= 2


@torch.no_grad()
def test_pictures_are_shown_and_encoded(written, visit):
    _, vae, images = written
    page = visit()
    for n in (0, 1, 2):
        assert (shown(page, "Original", images.shape) == (255 * images.x[n]).round().numpy()).all()
        code = vae.encode(images.x[n : n + 1]).mean[0]
        assert (z_of(page, 4) - code).abs().max() < 0.04  # half a slider's step and 0.01
        page.get_by_role("button", name="A picture").click()
        wait_until_drawn(page)


def test_pictures_are_called_by_their_labels_or_numbers(written, visit):
    _, _, images = written
    page = visit()
    named = images.labels is not None
    first = f"one of “{NAMES[0]}”" if named else "number 1"
    second = f"one of “{NAMES[1]}”" if named else "number 2"
    assert page.get_by_text(f"Original: {first}", exact=True).is_visible()
    assert page.locator(SENTENCE).inner_text().endswith(f"the nearest picture is {first}.")
    page.get_by_role("button", name="Interpolate").click()
    page.get_by_text(f"Target: {second}", exact=True).wait_for()
    legend = f"On the map: A “{NAMES[0]}”, B “{NAMES[1]}”." if named else "order of the files."
    assert page.locator("figcaption").inner_text().endswith(legend)
    assert page.get_by_role("img", name=f"Map of {N} pictures").is_visible()
    assert page.title() == page.locator("h1").inner_text() == TITLE


def test_a_prior_sample_has_no_original(visit):
    page = visit()
    page.get_by_role("button", name="A prior sample").click()
    page.locator("canvas[aria-label^='Original']").wait_for(state="hidden")


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_the_page_is_accessible_and_no_wider_than_the_screen(visit, look):
    page = visit(dark=look == "dark", width=360 if look == "phone" else 1280)
    assert page.evaluate(OVERFLOWING) == []
    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    figure = page.evaluate("getComputedStyle(document.querySelector('figure')).backgroundColor")
    assert paper == figure == ("rgb(21, 25, 31)" if look == "dark" else "rgb(255, 255, 255)")


def test_the_page_follows_the_readers_colours(visit):
    page = visit()
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")


def test_a_damaged_page_says_so(browser, written, tmp_path):
    html = written[0].read_text(encoding="utf-8")
    at = html.index("em2vae.figures") + 2000
    (tmp_path / "page.html").write_text(html[:at] + "AAAA" + html[at + 4 :], encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    message = page.locator(".em2vae-message")
    message.wait_for()
    assert "could not start" in message.inner_text()
    page.close()
