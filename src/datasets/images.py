"""One picture of any common kind as 8-bit RGB, or an error that names the file."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MOST_PIXELS = 50_000_000
Source = str | PathLike[str] | bytes
"""A path, or the bytes of a file."""


def read_image(source: Source) -> Tensor:
    """One picture as uint8 ``[3, H, W]`` in RGB, turned upright as its EXIF orientation says.

    - Grey becomes three equal channels; palettes become colours; what is transparent is laid over white.
    - 16-bit grey is scaled by 255/65535 and rounded (a grey marked as transparent stays visible), 16-bit colour keeps
      the upper byte of each channel.
    - CMYK (JPEG for print) becomes RGB by R = (1 − C)(1 − K) and so on; colour profiles are not applied.
    - Of an animated GIF or WebP the first frame is read, of a TIFF the first page.

    Raises FileNotFoundError for a missing file and ValueError for one that is empty, cut off, damaged, no picture,
    larger than 50 million pixels, or without a fixed white (32-bit integers and floats, as scientific TIFF has them).
    """
    with opened(source, FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"{picture.width}×{picture.height} pixels are more than {MOST_PIXELS:,}")
        pixels = np.array(_rgb(picture))  # [H, W, 3]
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


@contextmanager
def opened(source: Source, formats: Sequence[str]) -> Iterator[Image.Image]:
    """The picture of a file or of bytes, for a ``with`` block in which a failure to read it becomes a ValueError."""
    from PIL import Image

    name = f"picture of {len(source):,} bytes" if isinstance(source, bytes) else str(source)
    damage = (OSError, SyntaxError, ValueError, TypeError, AttributeError, struct.error, zlib.error,
              Image.DecompressionBombError, Image.DecompressionBombWarning)  # fmt: skip
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as picture:
            yield picture
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name} is missing: give the path of a picture, or copy the file there.") from error
    except damage as error:
        raise ValueError(f"{name} cannot be read as a picture ({error}): it is damaged or no {'/'.join(formats)}; "
                         "copy it again from its source or move it out of the folder.") from error


def _rgb(picture: Image.Image) -> Image.Image:
    from PIL import Image, ImageOps

    if picture.mode in ("I", "F"):
        raise ValueError(f"mode {picture.mode} has no fixed white; save it with 8 or 16 bits a channel")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        picture = _eight_bit(picture)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def _eight_bit(picture: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits: Pillow's own ``convert`` would clip at 255 instead of scaling."""
    from PIL import Image

    return Image.fromarray(np.rint(np.asarray(picture).astype(np.float64) / 257).astype(np.uint8))
