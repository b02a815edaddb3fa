"""Pictures of your own, from a folder to a tensor (chapter 17)."""

import os
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps
from torch import Tensor

from em2vae.checks import check_positive

ENDINGS = (
    ".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm",
)  # fmt: skip


class Images(NamedTuple):
    """What `load_images` reads."""

    x: Tensor  # (N, D) float32 in [0, 1], D = channels * height * width, in this order
    labels: Tensor | None  # (N,) int64, numbers of names; None where there are no subfolders
    names: tuple[str, ...]  # of the subfolders, sorted
    shape: tuple[int, int, int]  # channels, height, width


def load_images(
    folder: str | os.PathLike,
    size: int | None = 28,
    color: bool = False,
    background: str | None = None,
) -> Images:
    """All pictures of a folder, in the order of their paths, as rows of a tensor.

    Pictures in subfolders have the subfolder's name as their label. Each is turned as the camera
    says, cropped to the square in its middle and resized. 8 bits a colour are divided by 255, grey
    values of 16 bits by 65,535. Files with other endings than those of pictures are skipped with a
    warning, hidden files without one.

    Args:
        folder: where the pictures are.
        size: height and width, in pixels, that they get; None takes them as they are, which must
            then all be of the same size.
        color: True for three channels (red, green, blue), False for one (grey).
        background: a colour such as "white" or "#ffeedd" to lay behind transparent pictures, which
            are refused without it.

    Returns:
        Images: x, labels, names and shape; `x.reshape(-1, *shape)` has the pixels in their places.

    Raises:
        OSError: there is no such folder.
        ValueError: it holds no pictures, or some in subfolders and some not; a picture cannot be
            read, is transparent, is an animation, has numbers of unknown range (32 bits), or is of
            another size than the first where no size is given.
    """
    if size is not None:
        check_positive(size=size)
    if background is not None:
        ImageColor.getrgb(background)  # ValueError for a name that is no colour
    folder = Path(folder)
    files = _pictures(folder)
    labels, names = _labels(folder, files)
    pixels = [_pixels(path, size, color, background) for path in files]
    for path, one in zip(files, pixels, strict=True):
        if one.shape != pixels[0].shape:
            (_, height, width), (_, h, w) = one.shape, pixels[0].shape
            raise ValueError(
                f"{path} has {width}x{height} pixels and {files[0]} has {w}x{h}: all must have the "
                "same where no size is given. Crop and resize them with size=28, for example"
            )
    x = torch.from_numpy(np.stack(pixels)).flatten(1)
    return Images(x, labels, names, pixels[0].shape)


def _pictures(folder: Path) -> list[Path]:
    """The folder's pictures, also in subfolders, sorted."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise OSError(f"{folder} {what}: name the folder that holds the pictures")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = [
        path
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    pictures = [path for path in paths if path.suffix.lower() in ENDINGS]
    others = Counter(path.suffix.lower() or path.name for path in paths)
    others = ", ".join(f"{n} {end}" for end, n in others.items() if end not in ENDINGS)
    if not pictures:
        raise ValueError(
            f"{folder} holds no pictures: it has {others or 'no files'}, and pictures end in "
            f"{', '.join(ENDINGS)}. Save others as JPEG or PNG first"
        )
    if others:
        warnings.warn(f"files in {folder} that are skipped: {others}", stacklevel=3)
    return pictures


def _labels(folder: Path, files: list[Path]) -> tuple[Tensor | None, tuple[str, ...]]:
    """Which subfolder each picture is in (N,), and their names."""
    inside = [path.relative_to(folder).parts[0] for path in files if path.parent != folder]
    if not inside:
        return None, ()
    if len(inside) < len(files):
        alone = next(path for path in files if path.parent == folder)
        raise ValueError(
            f"{folder} holds pictures in subfolders, whose names are labels, and others beside "
            f"them, such as {alone.name}: move those into a subfolder, too"
        )
    names = sorted(set(inside))
    return torch.tensor([names.index(name) for name in inside]), tuple(names)


def _pixels(path: Path, size: int | None, color: bool, background: str | None) -> np.ndarray:
    """One picture, (channels, height, width) float32 in [0, 1]."""
    picture = _in_256_levels(path, _open(path, size), background)
    if picture.mode != "F":
        picture = picture.convert("RGB" if color else "L")
    if size is not None:  # a filter without negative weights: nothing leaves [0, 1]
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
    values = np.atleast_3d(np.asarray(picture, dtype=np.float32) / 255).transpose(2, 0, 1)
    return values.repeat(3, axis=0) if color and len(values) == 1 else values


def _open(path: Path, size: int | None) -> Image.Image:
    """The file's only picture, as the camera was held."""
    try:
        with Image.open(path) as picture:
            # Cameras write MPO, a JPEG followed by previews of itself.
            count = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
            if size is not None:
                picture.draft(None, (8 * size, 8 * size))  # a JPEG comes smaller, in less time
            turned = ImageOps.exif_transpose(picture)
    except Exception as error:  # Pillow's readers have a dozen kinds for what is damaged
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error
    if count > 1:
        raise ValueError(
            f"{path} holds {count} pictures, an animation or pages: save the one that you want as "
            "a file of its own"
        )
    return turned


def _in_256_levels(path: Path, picture: Image.Image, background: str | None) -> Image.Image:
    """The picture without transparency; grey values of 16 bits as fractions of such a level."""
    deep = picture.mode.startswith("I;16")
    if picture.mode in ("I", "F") or (deep and picture.has_transparency_data):
        kind = "16 bits and is transparent" if deep else "numbers of 32 bits, of unknown range"
        raise ValueError(f"{path} has {kind}: save it with 8 or 16 bits, without transparency")
    if deep:  # Pillow's own conversion would cut off all above 255
        return Image.fromarray(np.asarray(picture).astype(np.float32) / 257)
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    if picture.getchannel("A").getextrema()[0] < 255:
        if background is None:
            raise ValueError(
                f"{path} is transparent in places: say what lies behind it, background='white' "
                "(--background white in a terminal) or another colour"
            )
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)
    return picture.convert("RGB")
