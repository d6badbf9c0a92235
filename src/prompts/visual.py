"""Prompts on pictures: a learned border of pixels, and a word drawn on a strip (row R20).

Chapter: chapters/prompts/multimodal.ipynb. A border is trained with the network frozen (Bahng et al., 2022, after Elsayed
et al., 2019); a strip is what a person would stick on the thing in the picture (Goh et al., 2021).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from src.runtime import check_finite


def ring(height: int, width: int, edge: int, like: Tensor) -> Tensor:
    """m of (eq-multimodal-border): ``[height, width]``, 1 in the outer ``edge`` rows and columns, 0 inside."""
    inside = like.new_zeros(height - 2 * edge, width - 2 * edge)
    return F.pad(inside, (edge,) * 4, value=1.0)


def add_border(x: Tensor, delta: Tensor) -> Tensor:
    """pad(x) + m ⊙ δ, (eq-multimodal-border): the pictures in the middle, the prompt around them.

    Args:
        x: floating pictures ``[B, C, h, w]``.
        delta: the prompt ``[C, h + 2e, w + 2e]``, e ≥ 1; only its ring of e pixels is used and gets a gradient.

    Returns:
        ``[B, C, h + 2e, w + 2e]``.

    Raises:
        ValueError: another type or shape, unequal edges, NaN or infinite values.
    """
    if x.ndim != 4 or 0 in x.shape or not x.is_floating_point():
        raise ValueError(f"x: got {x.dtype} {list(x.shape)}, expected floating [B, C, h, w] with nothing empty; "
                         "divide uint8 pictures by 255.")
    edge = (delta.shape[-1] - x.shape[-1]) // 2
    expected = (x.shape[1], x.shape[2] + 2 * edge, x.shape[3] + 2 * edge)
    if edge < 1 or delta.shape != expected:
        raise ValueError(f"delta: got {list(delta.shape)} for pictures {list(x.shape)}, expected [C, h + 2e, w + 2e] "
                         "with the same edge e ≥ 1 on all sides.")
    check_finite(x=x, delta=delta)
    return F.pad(x, (edge,) * 4) + ring(*expected[1:], edge, x) * delta  # [B, C, h + 2e, w + 2e]


def word_strip(text: str, height: int, width: int) -> Tensor:
    """A word in black on a white strip, uint8 ``[3, height, width]``, as large as fits.

    Raises ValueError for an empty text, one that is not in Latin letters, and a strip below 8 × 8 pixels.
    """
    import matplotlib
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    if not text.strip() or not text.isascii():
        raise ValueError(f"text: got {text!r}, expected at least one character, all of them ASCII.")
    if min(height, width) < 8:
        raise ValueError(f"height, width: got {height}, {width}, expected at least 8 pixels each.")
    font = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")
    large = ImageFont.truetype(str(font), 100).getbbox(text)
    size = int(100 * min((width - 2) / (large[2] - large[0]), (height - 2) / (large[3] - large[1])))
    strip = Image.new("L", (width, height), 255)
    ImageDraw.Draw(strip).text((width / 2, height / 2), text, 0, ImageFont.truetype(str(font), max(size, 1)), "mm")
    return torch.from_numpy(np.array(strip)).expand(3, -1, -1).clone()
