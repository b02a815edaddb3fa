"""What every interactive figure shares: the bundle of its JavaScript, packed arrays, and checks.

shared.js draws images of 28x28 pixels and digits in ten colours, and the figures' modules assume
sizes and ranges of their own. Whatever they assume is refused here, by name, when it does not hold:
data by the check_... functions, traits by Number, Numbers and Index.
"""

import itertools
import math
import re
import sys
import zlib
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from torch import Tensor, nn

from em2vae.checks import check_data
from em2vae.convolutional import UpConv, conv_size
from em2vae.figures import DIGIT_COLORS, LINE_COLORS
from em2vae.interactive import packing
from em2vae.interactive.rounding import Activation, round_weights, sort_units
from em2vae.pixels import BernoulliPixels, GaussianPixels, LogisticPixels

HERE = packing.HERE
SIDE = 28  # of an image, in pixels
PIXELS = SIDE * SIDE
DIGIT = (1, SIDE, SIDE)  # channels, height, width
ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.SiLU: "silu"}
PLAIN = nn.Flatten | BernoulliPixels | GaussianPixels | LogisticPixels  # without numbers
FUNCTIONS = {name: kind() for kind, name in ACTIVATIONS.items()} | {"identity": nn.Identity()}


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
            cls._css = packing.shared_texts()[1]
            cls._name = source.stem.replace("_", "-")
        super().__init_subclass__(**kwargs)

    def __init__(self, **traits) -> None:
        super().__init__(_figure=self._name, **traits)


def bundle(source: Path) -> str:
    """The figure's module with shared.js in place of the import from it."""
    own = source.read_text(encoding="utf-8")
    own = re.sub(r'^import \{[^}]*\} from "./shared.js";\n', "", own, flags=re.MULTILINE)
    return packing.shared_texts()[0] + "\n" + own


class Number(traitlets.CFloat):
    """A finite number, from `min` to `max` where these are given."""

    def validate(self, obj, value) -> float:
        value = super().validate(obj, value)
        if not math.isfinite(value):
            raise traitlets.TraitError(f"{self.name} must be a finite number, got {value}")
        return value


class Numbers(traitlets.List):
    """`count` finite numbers from `low` to `high`: a list, a tuple, a tensor or an array.

    `count` may be the name of the figure's attribute that holds it.
    """

    def __init__(self, default=(), count=2, low=-math.inf, high=math.inf) -> None:
        self.count, self.low, self.high = count, low, high
        super().__init__(traitlets.CFloat(), list(default))

    def validate(self, obj, value) -> list[float]:
        value = value.tolist() if hasattr(value, "tolist") else value
        count = getattr(obj, self.count) if isinstance(self.count, str) else self.count
        span = "" if math.isinf(self.high) else f" from {self.low:g} to {self.high:g}"
        wrong = traitlets.TraitError(
            f"{self.name} must hold {count} finite numbers{span}, got {value!r}"
        )
        try:
            numbers = super().validate(obj, value)
        except traitlets.TraitError:
            raise wrong from None
        if len(numbers) != count or not all(
            math.isfinite(number) and self.low <= number <= self.high for number in numbers
        ):
            raise wrong
        return numbers


def check_index(name: str, index: int, count: int, least: int = 0) -> int:
    """The index; TraitError if it does not lie in least..count - 1."""
    if not least <= index < count:
        raise traitlets.TraitError(f"{name} must lie in {least}..{count - 1}, got {index}")
    return index


def check_images(x: Tensor, labels: Tensor | None = None, binary: bool = False) -> None:
    """Raise unless x holds images that the browser can draw, and labels their digits.

    Args:
        x: expected: a float tensor (N, 784) in [0, 1], or in {0, 1} if `binary`; N > 0.
        labels: expected: an integer tensor (N,) of digits 0 to 9.

    Raises:
        TypeError, ValueError: what was expected, what came, and how to get there.
    """
    check_width(x)
    check_data(x, PIXELS, binary=binary)
    if labels is not None:
        check_labels(labels, len(x))


def check_width(x: Tensor) -> None:
    """ValueError unless x is a table of 28x28 images: (N, 784), N > 0."""
    if isinstance(x, Tensor) and (x.ndim != 2 or x.shape[-1] != PIXELS):
        raise ValueError(
            f"x must have shape (N, {PIXELS}), got {tuple(x.shape)}: the browser draws grey images "
            f"of {SIDE}x{SIDE} pixels, one a row. Make colours grey (x.mean over the channels), "
            f"resize (torch.nn.functional.interpolate) and flatten (x.flatten(1))"
        )


def check_labels(labels: Tensor, count: int, classes: int = len(DIGIT_COLORS)) -> None:
    """Raise unless labels is an integer tensor (count,) of 0 to classes - 1, the digits."""
    highest = classes - 1
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        kind = getattr(labels, "dtype", type(labels).__name__)
        raise TypeError(f"labels must be an integer tensor of 0..{highest}, got {kind}")
    if labels.shape != (count,):
        got = len(labels) if labels.ndim == 1 else f"shape {tuple(labels.shape)}"
        raise ValueError(f"x and labels must match, got {count} and {got}")
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high > highest:
        raise ValueError(
            f"labels must lie in 0..{highest}, a colour or a name for each, but they span "
            f"{low}..{high}: number the classes from 0 and show at most {classes} of them"
        )


def check_model(
    vae: nn.Module,
    latent_dim: int | None = None,
    shape: tuple[int, int, int] = DIGIT,
    least: int = 2,
) -> None:
    """Raise unless vae models such images in `latent_dim` dimensions, or in `least` or more."""
    sizes = [getattr(vae, name, None) for name in ("data_dim", "latent_dim")]
    if not all(isinstance(size, int) for size in sizes):
        raise TypeError(f"vae must be an em2vae.VAE, got {type(vae).__name__}")
    channels, height, width = shape
    if sizes[0] != math.prod(shape):
        raise ValueError(
            f"vae must have data_dim = {math.prod(shape)}, got {sizes[0]}: the browser draws "
            f"images of {width}x{height} pixels{' in colour' * (channels > 1)}. Train on images of "
            "this size"
        )
    if latent_dim and sizes[1] != latent_dim:
        raise ValueError(f"vae must have latent_dim = {latent_dim}, got {sizes[1]}: a map is flat")
    if sizes[1] < least:
        raise ValueError(f"vae must have latent_dim of at least 2, got {sizes[1]}: a map is flat")


def check_finite(name: str, values, shape: tuple[int | None, ...]) -> Tensor:
    """The nested lists as a float64 tensor; TraitError unless they are finite and of that shape.

    None in `shape` stands for any size of at least one.
    """
    try:
        tensor = torch.tensor(values, dtype=torch.double)
    except (TypeError, ValueError):
        tensor = torch.tensor(math.nan)
    fits = len(shape) == tensor.ndim and all(
        size == (wanted or size) for size, wanted in zip(tensor.shape, shape, strict=True)
    )
    if not fits or not tensor.numel() or not tensor.isfinite().all():
        sizes = ", ".join("N" if size is None else str(size) for size in shape)
        raise traitlets.TraitError(
            f"{name} must be finite numbers of shape ({sizes}), got {values}"
        )
    return tensor


def pack_labels(labels: Tensor) -> bytes:
    """Checked labels (N,) as a byte each."""
    return labels.cpu().to(torch.uint8).numpy().tobytes()


def pack_decoder(
    decoder: nn.Module,
    codes: Tensor,
    shown: Activation = torch.sigmoid,
    dragged: bool = True,
    exact: bool = False,
    pixels: int = PIXELS,
) -> tuple[dict, bytes]:
    """A decoder whose pixels stay within 2/255 where a reader goes: see pack_network.

    Args:
        decoder: from K numbers to `pixels` logits, or what `shown` makes grey values of.
        codes: codes (N, K) that the figure shows.
        dragged: whether a reader moves z anywhere on the map; else it is a code or a prior draw.
        exact: whether its logits should stay, too, within 0.002 or as far as float16 biases allow,
            for likelihoods to two decimals.
    """
    seen = (nn.Identity(), 2e-3) if exact else (shown, 1.6 / 255)
    return pack_network(decoder, codes_to_see(codes, dragged), pixels, *seen)


def codes_to_see(codes: Tensor, dragged: bool = True) -> Tensor:
    """The codes (N, K), draws of the prior and, where a reader drags z, points of all the map."""
    generator = torch.Generator().manual_seed(0)
    codes, latent_dim = codes.detach().cpu().float(), codes.shape[1]
    shape = (1000 + 200 * latent_dim, latent_dim)
    examples = [codes, 1.3 * torch.randn(shape, generator=generator)]
    if dragged:
        limit = max(3.0, codes.abs().max().item())
        examples.append(limit * (2 * torch.rand(shape, generator=generator) - 1))
    return torch.cat(examples)


def pack_encoder(encoder: nn.Module, x: Tensor, latent_dim: int) -> tuple[dict, bytes]:
    """An encoder whose means and log-variances stay within 1e-2 on images like x (N, D)."""
    return pack_network(encoder, x, 2 * latent_dim, nn.Identity(), 4e-3)


def pack_network(
    network: nn.Module, examples: Tensor, outputs: int, shown: Activation, tolerance: float
) -> tuple[dict, bytes]:
    """Linear layers and activations, in order, as an architecture and rounded weights.

    Args:
        network: takes examples (N, I), and gives `outputs` numbers for each.
        shown, tolerance: what is seen of its outputs, and about how far that may change when
            the weights are rounded (rounding.py).

    Returns:
        {"layers": [{"inputs", "outputs", "activation"}, ...], "crc32"} and the bytes: for each
        layer the high and then the low bytes of its whole numbers (outputs, inputs), row by row,
        plus 0x8080; then, in float16, the step of each row and its bias.

    Raises:
        ValueError: a layer that the browser cannot compute, sizes that do not fit together, or a
            weight beyond float16.
    """
    layers, modules = linear_layers(network)
    sizes = [examples.shape[1], *(layer["outputs"] for layer in layers)]
    if [layer["inputs"] for layer in layers] != sizes[:-1] or sizes[-1] != outputs:
        found = [(layer["inputs"], layer["outputs"]) for layer in layers]
        raise ValueError(f"network must lead from {sizes[0]} to {outputs} numbers, got {found}")
    values = [(module.weight.cpu(), module.bias.cpu()) for module in modules]
    for value in itertools.chain(*values):
        pack_half(value)  # refuses what is not finite, or too large
    activations = [FUNCTIONS[layer["activation"]] for layer in layers]
    rounded = round_weights(values, activations, examples.cpu(), shown, tolerance)
    return pack_rounded(layers, sort_units(rounded))


def pack_rounded(layers: list[dict], rounded: list[tuple]) -> tuple[dict, bytes]:
    """What pack_network returns: whole numbers (O, I), the step of each row and the bias (O,)."""
    weights = b""
    for numbers, steps, bias in rounded:
        whole = (numbers + 0x8080).int().numpy()
        for byte in (whole >> 8, whole & 255):
            weights += byte.astype(np.uint8).tobytes()
        weights += pack_half(steps) + pack_half(bias)
    return {"layers": layers, "crc32": zlib.crc32(weights)}, weights


def pack_maps(network: nn.Module, maps: tuple[int, int, int]) -> tuple[dict, bytes]:
    """The encoder or the decoder of a ConvVAE, in the form of pack_network, to 16 bits a weight.

    Args:
        network: its modules are called in their order.
        maps: channels, height and width before its first convolution.

    Returns:
        As pack_network. The layer of a convolution has, besides, {"maps": {"height", "width", "up",
        "stride"}}: of what enters it, and how often each number is copied before.
    """
    layers, rounded = [], []
    height, width = maps[1:]
    for module in network.modules():
        if type(module) in ACTIVATIONS:
            layers[-1]["activation"] = ACTIVATIONS[type(module)]
        elif not isinstance(module, nn.Conv2d | nn.Linear | PLAIN) and not list(module.children()):
            known = ", ".join(kind.__name__ for kind in ACTIVATIONS)
            raise ValueError(f"after a convolution the browser computes {known}, not {module}")
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        weight = module.weight.detach().cpu().flatten(1)  # (O, 9 I) of a convolution
        steps = (weight.abs().amax(1) / 30_000).clamp(min=1e-6).half().float()
        numbers = (weight / steps[:, None]).round()
        rounded.append((numbers, steps, module.bias))
        layer = {"inputs": weight.shape[1], "outputs": weight.shape[0], "activation": "identity"}
        if isinstance(module, nn.Conv2d):
            up, stride = (2, 1) if isinstance(module, UpConv) else (1, module.stride[0])
            layer["maps"] = {"height": height, "width": width, "up": up, "stride": stride}
            height, width = (conv_size(n * up, stride=stride) for n in (height, width))
        layers.append(layer)
    return pack_rounded(layers, rounded)


def linear_layers(network: nn.Module) -> tuple[list[dict], list[nn.Linear]]:
    """The layers that the browser can compute, described and as they are; ValueError for others."""
    layers, modules = [], []
    for module in network.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            size = {"inputs": module.in_features, "outputs": module.out_features}
            layers.append({**size, "activation": "identity"})
            modules.append(module)
        elif type(module) in ACTIVATIONS and layers:
            layers[-1]["activation"] = ACTIVATIONS[type(module)]
        elif not list(module.children()):
            known = ", ".join(kind.__name__ for kind in ACTIVATIONS)
            raise ValueError(f"the browser computes Linear (with bias), then {known}, not {module}")
    return layers, modules


def pack_half(values: Tensor) -> bytes:
    """Values as little-endian float16, row by row; ValueError if one does not fit."""
    with np.errstate(over="ignore"):
        half = values.detach().cpu().double().numpy().astype("<f2")
    if not np.isfinite(half).all():
        raise ValueError(
            "weights, codes and images must be finite and below 65,504 in size to travel as float16"
        )
    return half.tobytes()


def pack_bits(x: Tensor) -> bytes:
    """Binary images (N, D) as one bit a pixel, each image padded to whole bytes."""
    return np.packbits(x.cpu().numpy().astype(bool), axis=-1).tobytes()
