"""Reading one picture of any kind: how each is converted, and what is refused."""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.datasets import images
from src.datasets.images import read_image

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def channels_last(image: torch.Tensor) -> np.ndarray:
    assert image.dtype == torch.uint8 and image.is_contiguous()
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_kinds_from_bytes_and_from_a_file(kind, tmp_path):
    data = encoded(Image.fromarray(COLOUR), kind, **({"lossless": True} if kind == "WEBP" else {}))
    (tmp_path / "picture").write_bytes(data)
    for source in (data, tmp_path / "picture", str(tmp_path / "picture")):
        np.testing.assert_array_equal(channels_last(read_image(source)), COLOUR)


def test_jpeg():
    smooth = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (32, 48, 3))
    image = read_image(encoded(Image.fromarray(smooth.copy()), "JPEG", quality=95))
    assert image.shape == (3, 32, 48) and np.abs(channels_last(image).astype(int) - smooth).max() < 6


def test_grey_and_one_bit():
    grey = COLOUR[..., 0].copy()
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(grey), "PNG")), np.stack([grey] * 3))
    bits = read_image(encoded(Image.fromarray(grey > 127), "PNG"))
    np.testing.assert_array_equal(bits[0], 255 * (grey > 127))


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = read_image(encoded(Image.fromarray(deep), "PNG"))
    exact = np.floor(deep.astype(np.float64) * 255 / 65535 + 0.5)
    np.testing.assert_array_equal(image, np.stack([exact] * 3))
    assert len(image.unique()) == 256


def test_sixteen_bit_colour_keeps_the_upper_byte():
    """Pillow cannot write such a PNG, so it is put together here."""
    deep = RANDOM.integers(0, 65536, (5, 7, 3)).astype(">u2")
    image = read_image(png(7, 5, 16, 2, b"".join(b"\0" + row.tobytes() for row in deep)))
    np.testing.assert_array_equal(channels_last(image), deep >> 8)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    import struct
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_cmyk_jpeg():
    """(1 − C)(1 − K) for each colour; flat patches, which JPEG hardly changes."""
    inks = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255], [40, 90, 160, 60]])
    patches = inks.astype(np.uint8).repeat(16, 0)[:, None].repeat(16, 1)  # [96, 16, 4]
    image = channels_last(read_image(encoded(Image.fromarray(patches, "CMYK"), "JPEG", quality=95)))
    expected = (255 - inks[:, :3]) * (255 - inks[:, 3:]) / 255
    assert np.abs(image[8::16, 8] - expected).max() < 4


def test_transparent_pixels_are_laid_over_white():
    picture = np.concatenate([COLOUR, np.zeros_like(COLOUR[..., :1])], 2)
    picture[:, 10:20, 3], picture[:, 20:, 3] = 128, 255
    image = channels_last(read_image(encoded(Image.fromarray(picture), "PNG")))
    assert (image[:, :10] == 255).all()
    half = np.abs(image[:, 10:20] - (128 * COLOUR[:, 10:20].astype(float) + 127 * 255) / 255)
    assert half.max() <= 1
    np.testing.assert_array_equal(image[:, 20:], COLOUR[:, 20:])
    faint = Image.fromarray(np.stack([COLOUR[..., 0], np.zeros_like(COLOUR[..., 0])], 2))
    assert faint.mode == "LA" and (read_image(encoded(faint, "PNG")) == 255).all()


def test_palettes_with_and_without_a_transparent_colour():
    few = (COLOUR[..., :1] // 64 * 64).repeat(3, 2)
    palette = Image.fromarray(few).quantize(8)
    np.testing.assert_array_equal(channels_last(read_image(encoded(palette, "PNG"))), few)
    hidden = palette.getpixel((0, 0))
    image = channels_last(read_image(encoded(palette, "PNG", transparency=hidden)))
    where = np.asarray(palette) == hidden
    assert (image[where] == 255).all() and (image[~where] == few[~where]).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_animations_give_their_first_frame(kind):
    frames = [Image.new("RGB", (24, 16), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as animation:
        assert animation.n_frames == 3
    assert (channels_last(read_image(data)) == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    """The picture is stored as a camera held that way stores it; the top left corner of the scene is red."""
    scene = np.full((16, 32, 3), 255, np.uint8)
    scene[:8, :8] = 255, 0, 0
    stored = {1: scene, 2: scene[:, ::-1], 3: scene[::-1, ::-1], 4: scene[::-1],
              5: scene.swapaxes(0, 1), 6: np.rot90(scene), 7: scene[::-1, ::-1].swapaxes(0, 1),
              8: np.rot90(scene, -1)}[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    np.testing.assert_array_equal(channels_last(read_image(data)), scene)


GOOD = {
    "cut.png": encoded(Image.fromarray(COLOUR), "PNG"),
    "cut.jpg": encoded(Image.fromarray(COLOUR), "JPEG"),
    "cut.webp": encoded(Image.fromarray(COLOUR), "WEBP", lossless=True),
    "cut.gif": encoded(Image.fromarray(COLOUR).quantize(64), "GIF"),
    "cut.bmp": encoded(Image.fromarray(COLOUR), "BMP"),
    "cut.tiff": encoded(Image.fromarray(COLOUR), "TIFF"),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_cut_off_files_are_named(name, part, tmp_path):
    data = GOOD[name]
    assert read_image(data).shape == (3, 20, 30)
    (tmp_path / name).write_bytes(data[: int(part * len(data))])
    with pytest.raises(ValueError, match=rf"{name} cannot be read as a picture .*copy it again"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("data", [b"", b"no picture", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x89PNG\r\n\x1a\n" + b"\0" * 99])
def test_what_is_no_picture_is_named(data, tmp_path):
    (tmp_path / "odd.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"odd\.png cannot be read as a picture"):
        read_image(tmp_path / "odd.png")
    with pytest.raises(ValueError, match=rf"picture of {len(data)} bytes cannot be read as a picture"):
        read_image(data)


@pytest.mark.filterwarnings("ignore:.*")
def test_exif_that_cannot_be_written_back():
    """The orientation says to turn the picture, and the type of another entry is damaged: Pillow raises what it will."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "text", 72.0
    data = encoded(Image.fromarray(COLOUR), "JPEG", exif=exif)
    order = "<" if b"Exif\0\0II" in data else ">"
    for tag in (0x010E, 0x011A):
        place = data.index(struct.pack(f"{order}H", tag), data.index(b"Exif"))
        for kind in range(14):
            spoilt = data[: place + 2] + struct.pack(f"{order}H", kind) + data[place + 4 :]
            try:
                assert read_image(spoilt).dtype == torch.uint8
            except ValueError as error:
                assert "cannot be read as a picture" in str(error)


def test_flipped_bits_of_a_png():
    data = bytearray(GOOD["cut.png"])
    data[80:100] = bytes(20)
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        read_image(bytes(data))


def test_bad_files_never_raise_anything_else():
    """A byte changed anywhere: a picture or a ValueError."""
    for name, data in GOOD.items():
        for place in range(0, len(data), max(1, len(data) // 60)):
            spoilt = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    assert read_image(spoilt).dtype == torch.uint8, name
                except ValueError as error:
                    assert "cannot be read as a picture" in str(error)


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.int32), np.zeros((4, 4), np.float32)])
def test_no_fixed_white(pixels):
    with pytest.raises(ValueError, match="has no fixed white; save it with 8 or 16 bits"):
        read_image(encoded(Image.fromarray(pixels), "TIFF"))


def test_a_decompression_bomb_is_not_decoded(monkeypatch):
    huge = png(20_000, 20_000, 1, 0, b"")
    with pytest.raises(ValueError, match=r"cannot be read as a picture .*decompression bomb"):
        read_image(huge)
    monkeypatch.setattr(images, "MOST_PIXELS", 599)
    with pytest.raises(ValueError, match="30×20 pixels are more than 599"):
        read_image(GOOD["cut.png"])


def test_a_missing_file_and_a_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"none\.jpg is missing: give the path"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        read_image(tmp_path)
