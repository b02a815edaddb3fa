"""From a folder of pictures to a page of one's own: what is written, and what is said otherwise.

The page in a browser: site/test_own_page.py.
"""

import base64
import json
import math
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from comm import DummyComm
from PIL import Image
from torch import nn

from em2vae import VAE, load_images, page, save
from em2vae.convolutional import ConvVAE
from em2vae.images import Images
from em2vae.interactive.latent_explorer import MARKS, LatentExplorer
from em2vae.page import main, write_page
from em2vae.pixels import LIKELIHOODS, bits_per_dim
from em2vae.saving import load_vae

SMALL = ["--size", "8", "--latent-dim", "3", "--epochs", "2"]


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures of random colours, of different sizes, in two subfolders."""
    generator = np.random.default_rng(0)
    for n in range(12):
        values = generator.integers(0, 256, (8 + n, 20 - n, 3), dtype=np.uint8)
        path = tmp_path / "photos" / ("day", "night & <fog>")[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return tmp_path / "photos"


def model_of(data_dim, **options) -> VAE:
    return VAE(3, (5,), data_dim=data_dim, **options)


def state_of(path) -> dict:
    """The traits of the page's only figure, arrays as bytes."""
    html = path.read_text(encoding="utf-8")
    [packed] = re.findall(r'<script type="[^"]*em2vae.figures">(.*?)</script>', html)
    line, _, rest = zlib.decompress(base64.b64decode(packed)).partition(b"\n")
    header = json.loads(line)
    [model] = header["models"].values()
    ends = np.cumsum(header["sizes"])
    arrays = [rest[end - size : end] for end, size in zip(ends, header["sizes"], strict=True)]
    model["state"].pop("layout")  # of random name
    return model["state"] | {name: arrays[place] for name, place in model["buffers"].items()}


@pytest.mark.parametrize("color", [True, False])
def test_a_folder_becomes_a_page(folder, tmp_path, capsys, color):
    target = tmp_path / "page.html"
    main([str(folder), str(target), *SMALL, *["--color"] * color])
    said = capsys.readouterr().out
    assert "12 pictures of 8x8" in said and "MB. Open it" in said
    for part in ("trained on (11)", "held out (1)"):
        bits = re.search(rf"pictures {re.escape(part)}: at most (\S+) bits a value, of 8", said)
        assert 7 < float(bits[1]) < 15
    images = load_images(folder, 8, color)
    state = state_of(target)
    assert state["_shape"] == [3 if color else 1, 8, 8] and state["_likelihood"] == "logistic"
    shown = np.frombuffer(state["_images"], np.uint8).reshape(12, -1)
    assert (shown == (255 * images.x).round().numpy()).all()
    assert list(state["_labels"]) == images.labels.tolist() == [0] * 6 + [1] * 6
    assert state["_legend"] == "On the map: A “day”, B “night & <fog>”."
    assert len(state["z"]) == 3


def test_a_page_needs_nothing_else(folder, tmp_path):
    """No other file, no other host, and the title is text."""
    target = tmp_path / "page.html"
    main([str(folder), str(target), *SMALL, "--title", "A </title><b> & 'c'"])
    html = target.read_text(encoding="utf-8")
    assert html.count("A &lt;/title&gt;&lt;b&gt; &amp; &#x27;c&#x27;") == 2
    assert re.findall(r"""\b(?:src|href)=["'](?!data:)[^"']*""", html) == []
    assert not re.search(r"https?:|@import|url\(", html)
    assert len(re.findall("<script", html)) == len(re.findall("</script>", html)) == 4


def test_the_folder_is_the_title(folder, tmp_path):
    main([str(folder), str(tmp_path / "page.html"), *SMALL])
    assert "<title>photos</title>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_trained_model_is_kept_and_shown_again(folder, tmp_path, monkeypatch):
    first, again, model = (tmp_path / name for name in ("a.html", "b.html", "model.npz"))
    main([str(folder), str(first), *SMALL, "--save", str(model)])
    monkeypatch.setattr(page, "fit", None)  # nothing is trained
    main([str(folder), str(again), "--size", "8", "--model", str(model)])
    assert state_of(first) == state_of(again)
    assert load_vae(model, (1, 8, 8)).training_state.epochs == 2


def test_the_seed_makes_the_page(folder, tmp_path):
    states = []
    for seed in ("1", "1", "2"):
        main([str(folder), str(tmp_path / "page.html"), *SMALL, "--seed", seed])
        states.append(state_of(tmp_path / "page.html"))
    assert states[0] == states[1] != states[2]


def test_without_epochs_the_steps_are_counted(monkeypatch):
    epochs = []
    monkeypatch.setattr(page, "fit", lambda model, x, n, **options: epochs.append((len(x), n)))
    for n in (10, 1000):
        page.train(Images(torch.zeros(n, 16), None, (), (1, 4, 4)), 2, None, 0)
    assert epochs == [(9, 2000), (900, 134)]  # of 1 and of 15 steps


def test_the_bound_is_that_of_the_model():
    """The same in batches as in one, for a draw of the same stream; better than no model."""
    x = (255 * torch.rand(300, 1, generator=torch.Generator().manual_seed(0))).round() / 255
    x = x.expand(300, 16).contiguous()
    images = Images(x, None, (), (1, 4, 4))
    vae = page.train(images, 2, 60, 0)
    bound = page.bound(vae, x)
    many = vae.elbo(x, n_samples=50).elbo.mean()
    assert bound == page.bound(vae, x) and bound.item() == pytest.approx(many.item(), abs=1)
    assert bits_per_dim(bound, 16) < 7.5


def test_a_model_of_256_levels_learns_from_pictures_of_16_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (12, 20, 20)).astype(np.uint16)
    (tmp_path / "deep").mkdir()
    for n, one in enumerate(values):
        Image.fromarray(one).save(tmp_path / "deep" / f"{n}.png")
    main([str(tmp_path / "deep"), str(tmp_path / "page.html"), *SMALL])
    assert (tmp_path / "page.html").exists()


def test_of_many_pictures_a_part_is_shown(tmp_path):
    x = (torch.arange(1201.0) % 256 / 255)[:, None].expand(1201, 4)
    write_page(model_of(4), Images(x, None, (), (1, 2, 2)), tmp_path / "page.html")
    shown = np.frombuffer(state_of(tmp_path / "page.html")["_images"], np.uint8)[::4]
    assert len(shown) == 500 and shown[0] == 0 and shown[-1] == 1200 % 256
    assert set(np.diff(shown.astype(int)) % 256) == {2, 3}


def test_the_notebook_that_writes_a_page_keeps_no_figure(tmp_path, monkeypatch):
    told = []  # what a kernel would send, and a notebook would store

    def kernel(**message):
        told.append(message["data"]["state"])
        return DummyComm(**message)

    monkeypatch.setattr("ipywidgets.comm.create_comm", kernel)
    images = Images(torch.rand(9, 4), None, (), (1, 2, 2))
    LatentExplorer(model_of(4), images.x, shape=images.shape)
    assert any("_esm" in state for state in told)
    told.clear()
    write_page(model_of(4), images, tmp_path / "page.html")
    assert not any("_esm" in state for state in told)


def test_pictures_without_labels_are_numbered(tmp_path):
    write_page(model_of(4), Images(torch.rand(9, 4), None, (), (1, 2, 2)), tmp_path / "page.html")
    state = state_of(tmp_path / "page.html")
    assert state["_names"] == [] and state["_marks"] == ["•"]
    assert "order of the files" in state["_legend"]


@pytest.mark.parametrize("option", [[], ["--save"]])
def test_a_place_that_does_not_exist_is_named_before_the_training(
    folder, tmp_path, monkeypatch, option
):
    monkeypatch.setattr(page, "train", lambda *_: pytest.fail("it trains"))
    lost = str(tmp_path / "none" / "file")
    places = [lost] if not option else [str(tmp_path / "page.html"), *option, lost]
    with pytest.raises(SystemExit, match=r"file cannot be written: there is no such folder"):
        main([str(folder), *places])


def test_what_is_wrong_is_said_in_a_line(folder, tmp_path):
    target = str(tmp_path / "page.html")
    save(model_of(36), tmp_path / "model.npz")
    save(ConvVAE(3, (4, 8), (1, 8, 8)), tmp_path / "conv.npz")
    (tmp_path / "text.npz").write_text("text")
    for arguments, message in {
        (str(folder), "--model", "no.npz"): "error: no.npz does not exist",
        (str(folder), "--model", str(tmp_path / "text.npz")): "damaged or was not written by",
        (str(folder), "--model", str(tmp_path / "model.npz")): "data_dim = 784, got 36",
        (str(tmp_path / "none"),): "none does not exist: name the folder",
        (str(folder), *SMALL, "--latent-dim", "1"): "latent_dim of at least 2",
        (str(folder), "--model", str(tmp_path / "conv.npz")): "(6, 392) in the model. Build",
        (str(folder), *SMALL, "--epochs", "-1"): "epochs must be a whole number of at least 1",
        (str(folder), *SMALL, "--size", "30"): "must be multiples of 4 to be halved 2 times",
        (str(folder), "--size", "0"): "size must be a whole number",
        (str(folder), "--background", "whitee"): "whitee",
    }.items():
        with pytest.raises(SystemExit, match=re.escape(message)):
            main([arguments[0], target, *arguments[1:]])
    assert not (tmp_path / "page.html").exists()


def test_the_command_explains_itself():
    command = [sys.executable, "-m", "em2vae.page", "--help"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    for word in (
        "folder",
        "--color",
        "--size",
        "--model",
        "--save",
        "--background",
        "(28)",
    ):
        assert word in run.stdout
    assert "None" not in run.stdout


# A model in a file -----------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.SiLU])
@pytest.mark.parametrize("hidden_dims", [(5,), (7, 6, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_file_tells_how_its_model_is_built(tmp_path, activation, hidden_dims, dtype):
    vae = VAE(2, hidden_dims, 9, activation, seed=3).to(dtype)
    save(vae, tmp_path / "model.npz")
    loaded = load_vae(tmp_path / "model.npz")
    x = torch.ones(4, 9, dtype=dtype)
    assert torch.equal(loaded.elbo(x).elbo, vae.elbo(x).elbo)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_file_tells_how_its_convolutions_are_built(tmp_path, likelihood):
    vae = ConvVAE(2, (4, 6), (3, 8, 12), likelihood, nn.Tanh, seed=3)
    save(vae, tmp_path / "model.npz")
    loaded = load_vae(tmp_path / "model.npz", (3, 8, 12))
    x = torch.ones(4, 288)
    assert torch.equal(loaded.elbo(x).elbo, vae.elbo(x).elbo)
    with pytest.raises(ValueError, match="holds a ConvVAE, not a VAE"):
        load_vae(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="does not fit the model"):
        load_vae(tmp_path / "model.npz", (3, 8, 16))


def test_a_file_of_another_model_is_named(tmp_path):
    class ConditionalVAE(VAE):
        pass

    save(ConditionalVAE(2, (5,), 9), tmp_path / "model.npz")
    with pytest.raises(ValueError, match="holds a ConditionalVAE, not a VAE"):
        load_vae(tmp_path / "model.npz")
    save(VAE(2, (5,), 9, activation=type("Own", (nn.ReLU,), {})), tmp_path / "own.npz")
    with pytest.raises(ValueError, match=r"another architecture: encoder\.body\.1 is Own"):
        load_vae(tmp_path / "own.npz")


# What the explorer refuses ---------------------------------------------------------------------


def explore(x=None, labels=None, shape=(3, 4, 5), names=(), vae=None, digit=0):
    x = torch.rand(8, 60, generator=torch.Generator().manual_seed(0)) if x is None else x
    return LatentExplorer(vae or model_of(60), x, labels, digit, shape, names)


@pytest.mark.parametrize("shape", [(4, 5), (2, 5, 6), (3, 0, 20), (3, 4.0, 5), 60, (3, 4, 5, 1)])
def test_a_shape_is_channels_height_and_width(shape):
    with pytest.raises(ValueError, match="must be"):
        explore(shape=shape)


def test_pictures_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"data_dim = 75, got 60: .* 5x5 pixels in colour"):
        explore(shape=(3, 5, 5))
    with pytest.raises(ValueError, match=r"x must have shape \(N, 60\), got \(8, 59\)"):
        explore(x=torch.rand(8, 59))
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
        explore(x=torch.full((8, 60), 255.0))
    with pytest.raises(ValueError, match="NaN"):
        explore(x=torch.full((8, 60), math.nan))
    with pytest.raises(TypeError, match="model's dtype"):
        explore(x=torch.rand(8, 60).double())
    with pytest.raises(ValueError, match="a map is flat"):
        explore(vae=VAE(1, (5,), 60))


def test_labels_are_numbers_of_names():
    labels = torch.arange(8) % 3
    assert explore(labels=labels, names=("a", "b", "c"))._marks == ["A", "B", "C"]
    assert len(explore(labels=labels, names=tuple(MARKS))._marks) == 52
    for names in ((), (1, 2, 3), tuple("x" * 53)):
        with pytest.raises(ValueError, match="names must hold 1 to 52 texts"):
            explore(labels=labels, names=names)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1"):
        explore(labels=labels, names=("a", "b"))
    with pytest.raises(ValueError, match="x and labels must match, got 8 and 7"):
        explore(labels=labels[:-1], names=("a", "b", "c"))
    with pytest.raises(TypeError, match="labels must be an integer tensor"):
        LatentExplorer(model_of(784), torch.zeros(8, 784))  # digits without labels


def test_pictures_are_shown_as_they_are():
    """And digits, which are black and white, as bits."""
    x = torch.rand(8, 60, generator=torch.Generator().manual_seed(0))
    explorer = explore(x)
    assert (np.frombuffer(explorer._images, np.uint8) == (255 * x).round().flatten().numpy()).all()
    code = model_of(60).encode((255 * x).round() / 255).mean[0]
    assert explorer.z == pytest.approx(code.tolist(), abs=1e-6)


def test_convolutions_that_the_browser_does_not_compute_are_refused():
    vae = ConvVAE(2, (4,), (1, 4, 4), activation=nn.ELU)
    with pytest.raises(ValueError, match=r"computes ReLU, Tanh, SiLU, not ELU"):
        explore(x=torch.rand(8, 16), shape=(1, 4, 4), vae=vae)
    vae = ConvVAE(2, (4,), (1, 4, 4))
    with torch.no_grad():
        vae.decoder.head.weight[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="finite"):
        explore(x=torch.rand(8, 16), shape=(1, 4, 4), vae=vae)


def test_digits_may_be_shown_of_a_model_of_convolutions():
    explorer = LatentExplorer(ConvVAE(2, (4,)), torch.zeros(8, 784), torch.arange(8))
    assert explorer._likelihood == "bernoulli" and explorer._ink
