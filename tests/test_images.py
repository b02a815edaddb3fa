"""From a folder of pictures to a tensor, and what is refused on the way."""

import numpy as np
import pytest
import torch
from PIL import Image

from em2vae import load_images
from em2vae.images import ENDINGS

COLORS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14  # 2 rows, 3 columns, RGB
DEEP = np.array([[0, 255, 256], [4095, 32768, 65535]], dtype=np.uint16)


def write(path, values=COLORS, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = values if isinstance(values, Image.Image) else Image.fromarray(values)
    picture.save(path, **options)


def constant(level=100, width=8, height=8):
    return np.full((height, width), level, dtype=np.uint8)


def test_every_number_is_in_its_place(tmp_path):
    write(tmp_path / "a.png")
    images = load_images(tmp_path, size=None, color=True)
    assert images.shape == (3, 2, 3) and images.x.shape == (1, 18) and images.x.dtype == torch.float
    shown = images.x.reshape(-1, *images.shape)[0].permute(1, 2, 0)
    assert torch.equal(shown, torch.from_numpy(COLORS) / 255)
    grey = load_images(tmp_path, size=None).x.reshape(2, 3)
    luma = torch.from_numpy(COLORS) / 255 @ torch.tensor([0.299, 0.587, 0.114])
    assert (grey - luma).abs().max() <= 0.6 / 255


def test_a_grey_picture_in_colour_has_three_equal_channels(tmp_path):
    write(tmp_path / "a.png", COLORS[..., 0])
    images = load_images(tmp_path, size=None, color=True)
    assert torch.equal(images.x, load_images(tmp_path, size=None).x.repeat(1, 3))


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (400, 220), (7, 5)])
def test_the_middle_is_kept(tmp_path, size):
    """A square of one colour, red beside it, of which a trace reaches the pixels at the edge."""
    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    values = np.full((height, width, 3), (255, 0, 0), dtype=np.uint8)
    values[top : top + side, left : left + side] = (10, 200, 30)
    write(tmp_path / "a.png", values)
    images = load_images(tmp_path, size=16, color=True)
    assert images.shape == (3, 16, 16)
    x = images.x.reshape(images.shape)
    expected = (torch.tensor([10.0, 200, 30]) / 255)[:, None, None]
    assert ((x - expected)[:, 2:-2, 2:-2] == 0).all()
    assert (x[1] > 0.5).all()


def test_a_smaller_picture_is_a_mean_over_areas(tmp_path):
    """Every other column is white: picking pixels would give black or white."""
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::2] = 255
    write(tmp_path / "a.png", stripes)
    x = load_images(tmp_path, size=16).x
    assert ((x - 0.5).abs() < 0.1).all()


def test_all_sizes_and_kinds_come_to_one(tmp_path):
    write(tmp_path / "a.jpg", constant(width=1000, height=700))
    write(tmp_path / "b.gif", Image.fromarray(constant(width=9)).convert("P"))
    write(tmp_path / "c.tif", Image.fromarray(constant(width=30)).convert("CMYK"))
    write(tmp_path / "d.bmp", Image.fromarray(constant(255)).convert("1"))
    write(tmp_path / "e.webp", constant(), lossless=True)
    write(tmp_path / "f.PNG", constant().astype(np.uint16) * 257)
    write(tmp_path / "g.png", Image.fromarray(constant()).convert("RGBA"))  # nowhere transparent
    write(tmp_path / "h.png", Image.fromarray(constant()).convert("LA"))
    x = load_images(tmp_path, size=12).x
    assert x.shape == (8, 144)
    expected = torch.tensor([100, 100, 100, 255, 100, 100, 100, 100]) / 255
    assert (x - expected[:, None]).abs().max() <= 2.5 / 255


def test_pictures_are_turned_as_the_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    write(tmp_path / "a.png", COLORS, exif=exif)
    images = load_images(tmp_path, size=None, color=True)
    assert images.shape == (3, 3, 2)
    shown = images.x.reshape(3, 3, 2).permute(1, 2, 0)
    assert torch.equal(shown, torch.from_numpy(np.rot90(COLORS, -1).copy()) / 255)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_not_cut_off(tmp_path, ending):
    write(tmp_path / f"a.{ending}", DEEP)
    x = load_images(tmp_path, size=None).x
    assert (x - torch.from_numpy(DEEP.astype(np.float32)).flatten() / 65535).abs().max() < 1e-6
    assert torch.equal(load_images(tmp_path, size=None, color=True).x, x.repeat(1, 3))


def test_sixteen_bits_can_be_resized(tmp_path):
    gradient = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    write(tmp_path / "deep.png", gradient)
    write(tmp_path / "eight.png", (gradient / 257).round().astype(np.uint8))
    deep, eight = load_images(tmp_path, size=8).x
    assert (deep - eight).abs().max() <= 1 / 255 and deep.max() > 0.9


def test_the_first_picture_of_a_camera_counts(tmp_path):
    """An MPO file: a JPEG with a preview behind it."""
    first, preview = (Image.fromarray(constant(level)).convert("RGB") for level in (200, 10))
    write(tmp_path / "a.jpg", first, format="MPO", save_all=True, append_images=[preview])
    assert (load_images(tmp_path, size=8).x - 200 / 255).abs().max() <= 2 / 255


def test_subfolders_are_labels(tmp_path):
    for name, level in (("dogs/1.png", 10), ("cats/b/2.png", 20), ("cats/a.png", 30)):
        write(tmp_path / name, constant(level))
    images = load_images(tmp_path)
    assert images.names == ("cats", "dogs") and images.labels.tolist() == [0, 0, 1]
    assert (255 * images.x[:, 0]).round().tolist() == [30, 20, 10]  # in the order of the paths


def test_without_subfolders_there_are_no_labels(tmp_path):
    for level in (3, 1, 2):
        write(tmp_path / f"{level}.png", constant(level))
    images = load_images(tmp_path)
    assert images.labels is None and images.names == ()
    assert (255 * images.x[:, 0]).round().tolist() == [1, 2, 3]


def test_other_files_are_skipped_aloud_and_hidden_ones_silently(tmp_path, recwarn):
    write(tmp_path / "a.png")
    write(tmp_path / ".thumbnails/a.png")
    (tmp_path / "._a.png").write_bytes(b"what macOS leaves behind")
    assert len(load_images(tmp_path).x) == 1 and not recwarn.list
    for name in ("1.heic", "2.HEIC", "Makefile"):
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match="skipped: 2 .heic, 1 Makefile"):
        assert len(load_images(tmp_path).x) == 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_is_one_that_pillow_reads(tmp_path, ending):
    write(tmp_path / f"a{ending}", constant())
    assert load_images(tmp_path, size=8).x.shape == (1, 64)


# What is refused ---------------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere does not exist: name the folder"):
        load_images(tmp_path / "nowhere")
    write(tmp_path / "a.png")
    with pytest.raises(OSError, match=r"a\.png is a file, not a folder"):
        load_images(tmp_path / "a.png")


def test_a_folder_without_pictures_says_what_it_has(tmp_path):
    with pytest.raises(ValueError, match="holds no pictures: it has no files"):
        load_images(tmp_path)
    (tmp_path / "a.heic").touch()
    with pytest.raises(ValueError, match=r"it has 1 \.heic, and pictures end in .*\.jpg.* as JPEG"):
        load_images(tmp_path)


def test_pictures_in_and_beside_subfolders_are_refused(tmp_path):
    write(tmp_path / "cats/a.png")
    write(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"labels, and others beside them, such as b\.png"):
        load_images(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut png", "cut jpg", "flipped"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, damage):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / ("bad.jpg" if "jpg" in damage else "bad.png")
    write(path, noise)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 255
    bad = {"empty": b"", "text": b"Not a picture", "flipped": bytes(flipped)}
    path.write_bytes(bad.get(damage, whole[: len(whole) // 2]))
    write(tmp_path / "good.png")
    with pytest.raises(ValueError, match=r"bad\.(png|jpg) cannot be read as a picture: "):
        load_images(tmp_path)


def test_a_picture_too_large_for_the_memory_is_named(tmp_path, monkeypatch):
    write(tmp_path / "bomb.png", constant())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)
    with pytest.raises(ValueError, match=r"bomb\.png cannot be read .*exceeds limit of 16 pixels"):
        load_images(tmp_path)


def test_mixed_sizes_need_a_size(tmp_path):
    write(tmp_path / "a.png", constant(width=8, height=6))
    write(tmp_path / "b.png", constant(width=9, height=6))
    with pytest.raises(ValueError, match=r"b\.png has 9x6 pixels and .*a\.png has 8x6.*size=28"):
        load_images(tmp_path, size=None)
    assert load_images(tmp_path, size=5).x.shape == (2, 25)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_transparent_pictures_need_a_background(tmp_path, mode):
    ink = np.zeros((8, 8, 4), dtype=np.uint8)
    ink[:4, :, 3] = 255  # black above, nothing below
    if mode in ("P", "L"):
        picture = Image.fromarray(np.repeat([[0], [1]], 4, axis=0).repeat(8, 1).astype(np.uint8))
        if mode == "P":
            picture.putpalette([0, 0, 0, 9, 9, 9])
        write(tmp_path / "a.png", picture, transparency=1)
    else:
        write(tmp_path / "a.png", Image.fromarray(ink).convert(mode))
    with pytest.raises(ValueError, match=r"a\.png is transparent in places.*background='white'"):
        load_images(tmp_path)
    for background, level in (("white", 255), ("#808080", 128), ("black", 0)):
        x = load_images(tmp_path, size=None, background=background).x.reshape(8, 8)
        assert (x[:4] == 0).all() and (x[4:] == level / 255).all()
    red = load_images(tmp_path, size=None, color=True, background="red").x.reshape(3, 8, 8)
    assert red[:, 7, 7].tolist() == [1, 0, 0]


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(constant(level)) for level in (10, 200, 90)]
    for name in ("a.gif", "a.tif", "a.webp", "a.png"):
        folder = tmp_path / name.replace(".", "-")
        write(folder / name, frames[0], save_all=True, append_images=frames[1:])
        with pytest.raises(ValueError, match=rf"{name} holds 3 pictures, an animation or pages"):
            load_images(folder)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_numbers_of_unknown_range_are_refused(tmp_path, dtype):
    write(tmp_path / "a.tif", DEEP.astype(dtype))
    with pytest.raises(ValueError, match=r"a\.tif has numbers of 32 bits, of unknown range"):
        load_images(tmp_path)


def test_transparent_pictures_of_sixteen_bits_are_refused(tmp_path):
    write(tmp_path / "a.png", DEEP, transparency=256)
    with pytest.raises(ValueError, match=r"a\.png has 16 bits and is transparent"):
        load_images(tmp_path, background="white")


@pytest.mark.parametrize("size", [0, -3, 2.5, True, "28"])
def test_a_size_is_a_whole_number(tmp_path, size):
    with pytest.raises(ValueError, match="size must be a whole number of at least 1"):
        load_images(tmp_path, size=size)


def test_a_background_is_a_colour(tmp_path):
    with pytest.raises(ValueError, match="whitee"):
        load_images(tmp_path, background="whitee")
