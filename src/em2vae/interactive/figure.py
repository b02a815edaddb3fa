"""What every interactive figure shares: the bundle of its JavaScript, and packed arrays."""

import re
import sys
import zlib
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from torch import Tensor, nn

from em2vae.figures import LINE_COLORS

HERE = Path(__file__).parent
ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.SiLU: "silu"}


class InteractiveFigure(anywidget.AnyWidget):
    """An anywidget whose module NAME.js stands beside NAME.py and imports from shared.js.

    Static pages and notebooks load one module from a string, so the two files are joined here.
    """

    _figure = traitlets.Unicode().tag(sync=True)  # latent-explorer, as in data-interactive
    _palette = traitlets.List(list(LINE_COLORS)).tag(sync=True)  # for plot() of shared.js

    def __init_subclass__(cls, **kwargs) -> None:
        if "_esm" not in vars(cls):  # anywidget subclasses each instance with _esm as a trait
            source = Path(sys.modules[cls.__module__].__file__).with_suffix(".js")
            cls._esm = bundle(source)
            cls._css = (HERE / "figure.css").read_text(encoding="utf-8")
            cls._name = source.stem.replace("_", "-")
        super().__init_subclass__(**kwargs)

    def __init__(self, **traits) -> None:
        super().__init__(_figure=self._name, **traits)


def bundle(source: Path) -> str:
    """The figure's module with shared.js in place of the import from it."""
    shared = (HERE / "shared.js").read_text(encoding="utf-8")
    own = source.read_text(encoding="utf-8")
    own = re.sub(r'^import \{[^}]*\} from "./shared.js";\n', "", own, flags=re.MULTILINE)
    return re.sub(r"^export (?!default)", "", shared, flags=re.MULTILINE) + "\n" + own


def pack_network(network: nn.Module) -> tuple[dict, bytes]:
    """Linear layers and activations, in order, as an architecture and its float16 weights.

    Returns:
        {"layers": [{"inputs", "outputs", "activation"}, ...], "crc32"} and the bytes: for each
        layer its weight (outputs, inputs), row by row, and its bias (outputs,).

    Raises:
        ValueError: an activation that the browser cannot compute, or a weight beyond float16.
    """
    layers, parts = [], []
    for module in network.modules():
        if isinstance(module, nn.Linear):
            size = {"inputs": module.in_features, "outputs": module.out_features}
            layers.append({**size, "activation": "identity"})
            parts += [pack_half(module.weight), pack_half(module.bias)]
        elif type(module) in ACTIVATIONS:
            layers[-1]["activation"] = ACTIVATIONS[type(module)]
        elif not list(module.children()):
            known = ", ".join(kind.__name__ for kind in ACTIVATIONS)
            raise ValueError(f"the browser computes Linear, {known}, not {type(module).__name__}")
    weights = b"".join(parts)
    return {"layers": layers, "crc32": zlib.crc32(weights)}, weights


def pack_half(values: Tensor) -> bytes:
    """Values as little-endian float16, row by row; ValueError if one does not fit."""
    with np.errstate(over="ignore"):
        half = values.detach().cpu().numpy().astype("<f2")
    if not np.isfinite(half).all():
        raise ValueError("values must be finite and below 65,504 in size to travel as float16")
    return half.tobytes()


def pack_bits(x: Tensor) -> bytes:
    """Binary images (N, D) as one bit a pixel, each image padded to whole bytes."""
    return np.packbits(x.cpu().numpy().astype(bool), axis=-1).tobytes()
