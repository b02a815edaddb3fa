"""The lab: a VAE that its reader trains in the page, on digits, with no kernel."""

import json
import os
import zlib
from pathlib import Path

import numpy as np
import torch
import traitlets
from torch import Tensor, nn

from em2vae.figures import DIGIT_COLORS
from em2vae.interactive.figure import (
    ACTIVATIONS,
    HERE,
    InteractiveFigure,
    check_images,
    linear_layers,
    pack_labels,
)
from em2vae.vae import VAE

FORMAT = "em2vae lab 1"
BUGS = ["none", "kl-mean", "variance", "upside-down", "sigmoid", "tanh", "relu", "step"]
BUGS += ["broadcast", "pixels"]  # chapter 15 and, the last, chapter 13
# What each setting is at first, and what it may be: an option, or a number from min to max.
SETTINGS = {
    "latent": {"value": 2, "min": 1, "max": 20, "step": 1},
    "layers": {"value": 2, "options": [1, 2, 3]},
    "hidden": {"value": 64, "options": [16, 32, 64, 128, 256]},
    "activation": {"value": "relu", "options": ["relu", "tanh", "silu"]},
    "likelihood": {"value": "bernoulli", "options": ["bernoulli", "grey", "normal", "learned"]},
    "sigma": {"value": 0.3, "options": [0.05, 0.1, 0.2, 0.3, 0.5, 1]},
    "objective": {"value": "elbo", "options": ["elbo", "iwae", "autoencoder"]},
    "draws": {"value": 1, "options": [1, 2, 5, 10]},
    "beta": {"value": 1, "options": [0, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32]},
    "warmup": {"value": 0, "min": 0, "max": 20, "step": 1},
    "freeBits": {"value": 0, "min": 0, "max": 2, "step": 0.1},
    "optimizer": {"value": "adam", "options": ["adam", "sgd"]},
    "learningRate": {
        "value": 0.003,
        "options": [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1],
    },
    "batch": {"value": 100, "options": [10, 20, 50, 100, 200]},
    "images": {"value": 4000, "options": [50, 100, 500, 1000, 2000, 4000]},
    "digits": {"value": "0123456789"},
    "seed": {"value": 0, "min": 0, "max": 20, "step": 1},
    "bug": {"value": "none", "options": [*BUGS, *(f"riddle-{n}" for n in range(1, 7))]},
}
DEFAULTS = {name: rule["value"] for name, rule in SETTINGS.items()}


def check_settings(settings: dict) -> dict:
    """The settings with the defaults of those that are not named; ValueError if one is unknown."""
    for name, value in settings.items():
        if name not in SETTINGS:
            raise ValueError(f"settings must be among {', '.join(SETTINGS)}, got {name!r}")
        rule = SETTINGS[name]
        if name == "digits":
            fits = isinstance(value, str) and value and set(value) <= set(DEFAULTS["digits"])
            wanted = "a text of digits"
        elif "options" in rule:
            fits, wanted = value in rule["options"], f"one of {rule['options']}"
        else:
            fits = isinstance(value, int | float) and rule["min"] <= value <= rule["max"]
            wanted = f"from {rule['min']} to {rule['max']}"
        if not fits:
            raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return DEFAULTS | settings


class VaeLab(InteractiveFigure):
    """A VAE of 28x28 digits, trained where the page is read (lab).

    Args:
        x, labels: grey training images (N, 784) in [0, 1] and their digits (N,).
        x_test, labels_test: held-out images, likewise.
        settings: what differs from the defaults, for example latent=8, beta=4.0.

    Attributes:
        settings: all settings of run A, as its controls show them.
        vae: the trained model of run A.

    Raises:
        TypeError, ValueError: images or labels are not of that kind, or a setting is not known.
    """

    settings = traitlets.Dict().tag(sync=True)
    _rules = traitlets.Dict(SETTINGS).tag(sync=True)
    _worker = traitlets.Unicode().tag(sync=True)
    _wasm = traitlets.Bytes().tag(sync=True)
    _train = traitlets.Bytes().tag(sync=True)  # grey, a byte a pixel
    _train_labels = traitlets.Bytes().tag(sync=True)
    _test = traitlets.Bytes().tag(sync=True)
    _test_labels = traitlets.Bytes().tag(sync=True)
    # Of run A, where training last paused. A page sends a memoryview, which Bytes refuses.
    _weights = traitlets.Bytes().tag(sync=True, from_json=lambda view, _: bytes(view))
    _colors = traitlets.List(list(DIGIT_COLORS)).tag(sync=True)

    def __init__(
        self, x: Tensor, labels: Tensor, x_test: Tensor, labels_test: Tensor, **settings
    ) -> None:
        check_images(x, labels)
        check_images(x_test, labels_test)
        super().__init__(
            settings=check_settings(settings),
            _worker=worker_source(),
            _wasm=(HERE / "vae_lab.wasm").read_bytes(),
            _train=pack_bytes(x),
            _train_labels=pack_labels(labels),
            _test=pack_bytes(x_test),
            _test_labels=pack_labels(labels_test),
        )

    @traitlets.validate("settings")
    def _check_settings(self, proposal) -> dict:
        try:
            return check_settings(proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None

    @property
    def vae(self) -> VAE:
        """Run A as it was when it last paused; ValueError before it has trained."""
        if not self._weights:
            raise ValueError("nothing is trained yet: press Train, then Pause")
        return build(self.settings, np.frombuffer(self._weights, "<f4"))


def worker_source() -> str:
    """The arithmetic and the training, as one classic script."""
    texts = [
        (HERE / f"vae_lab_{part}.js").read_text(encoding="utf-8") for part in ("math", "worker")
    ]
    return "\n".join(texts).replace("\nexport ", "\n")


def pack_bytes(x: Tensor) -> bytes:
    """Grey images (N, 784) in [0, 1], a byte a pixel."""
    return (255 * x.cpu()).round().to(torch.uint8).numpy().tobytes()


def load(path: str | os.PathLike) -> VAE:
    """The model that the lab's button "Save the weights" has written, as an em2vae.VAE.

    A normal likelihood has the same means: the decoder's `.mean`, the Bernoulli's probabilities.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the lab did not write it, it is damaged, or it holds other sizes than it says.
    """
    path = Path(path)
    line, _, data = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(line)
        fits = header["format"] == FORMAT and isinstance(header["settings"], dict)
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise ValueError(f"{path} was not written by the lab ({FORMAT})")
    if len(data) % 4 or zlib.crc32(data) != header.get("crc32"):
        raise ValueError(f"{path} is damaged: its checksum does not fit")
    try:
        return build(check_settings(header["settings"]), np.frombuffer(data, "<f4"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def build(settings: dict, weights: np.ndarray) -> VAE:
    """A VAE with these weights: of each layer (outputs, inputs), then its biases."""
    if settings["bug"] in ("tanh", "relu") or settings["bug"].startswith("riddle"):
        raise ValueError(f"bug {settings['bug']!r} may be part of the model, which no VAE computes")
    names = {name: kind for kind, name in ACTIVATIONS.items()}
    widths = (settings["hidden"],) * settings["layers"]
    vae = VAE(settings["latent"], widths, activation=names[settings["activation"]])
    layers = [layer for part in (vae.encoder, vae.decoder) for layer in linear_layers(part)[1]]
    parameters = [value for layer in layers for value in (layer.weight, layer.bias)]
    count = sum(value.numel() for value in parameters)
    if len(weights) != count + 1:  # the last is log sigma^2 of a learned variance
        raise ValueError(f"weights must be {count + 1} for these settings, got {len(weights)}")
    nn.utils.vector_to_parameters(torch.tensor(weights[:-1]), parameters)
    return vae
