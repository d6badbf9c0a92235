"""Figures of the book: Chinese labels in every environment, one style, contact sheets of pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from src.fonts import FAMILY, use_font

if TYPE_CHECKING:
    import numpy as np

# Six hues that stay apart under red-, green- and blue-blindness, each at least 3:1 against white.
COLOURS = ("#0072B2", "#D55E00", "#00A878", "#882255", "#332288", "#1B1B1B")

STYLE = {
    "font.family": [FAMILY, "DejaVu Sans"],  # glyph by glyph; a list under font.sans-serif does not fall back
    "font.size": 11,
    "axes.unicode_minus": True,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "image.cmap": "cividis",
    "image.interpolation": "nearest",
    "figure.figsize": (6.0, 3.6),
    "figure.dpi": 120,
    "savefig.dpi": 120,
    "savefig.format": "png",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
}


def use_book_style() -> None:
    """Set matplotlib to the style of the book, with the Chinese font of `src/fonts`.

    A character that no font of the figure has is an error from then on, not an empty box.

    Raises
    ------
    FileNotFoundError
        If the font file is not there.
    """
    import matplotlib as mpl

    use_font()
    mpl.rcParams.update(STYLE, **{"axes.prop_cycle": mpl.cycler(color=COLOURS)})
    warnings.filterwarnings("error", message=r"Glyph .* missing from", category=UserWarning)


def show_pictures(images, titles: Sequence[str] | None = None, columns: int = 8) -> None:
    """Draw pictures as a contact sheet in a new figure.

    Parameters
    ----------
    images
        uint8 array or tensor `[N, C, H, W]` or `[N, H, W, C]` with C = 3 (RGB) or 4 (RGBA).
    titles
        N short texts above the pictures.
    columns
        Pictures in a row.

    Raises
    ------
    ValueError
        If the pictures are not of that type and shape, or N titles are not given.
    """
    import matplotlib.pyplot as plt

    pictures = _channels_last(images)
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"titles: got {len(titles)} for {len(pictures)} pictures; give one for each")
    if columns < 1:
        raise ValueError(f"columns: got {columns}, expected at least 1")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    height = 0.95 if titles is None else 1.2
    _, axes = plt.subplots(rows, columns, figsize=(0.95 * columns, height * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, picture, title in zip(axes.flat, pictures, titles or [""] * len(pictures), strict=False):
        axis.imshow(picture)
        axis.set_title(title, fontsize=10)


def _channels_last(images) -> np.ndarray:
    """Return uint8 pictures as an array `[N, H, W, C]`."""
    import numpy as np

    array = np.asarray(images.cpu() if hasattr(images, "cpu") else images)
    if array.dtype != np.uint8 or array.ndim != 4 or len(array) == 0:
        raise ValueError(
            f"images: got {array.dtype} {list(array.shape)}, expected uint8 [N, 3, H, W] or [N, H, W, 3] with N ≥ 1"
        )
    if array.shape[1] in (3, 4):
        return array.transpose(0, 2, 3, 1)
    if array.shape[3] in (3, 4):
        return array
    raise ValueError(f"images: got shape {list(array.shape)}, expected 3 or 4 channels in the second or last place")


def show_confusion(confusion, names: Sequence[str]) -> None:
    """Draw a confusion matrix in a new figure, each row in per cent of its true class.

    Parameters
    ----------
    confusion
        Counts `[C, C]`, row = true class, column = predicted class (`src.metrics.confusion_matrix`).
    names
        C class names.

    Raises
    ------
    ValueError
        If the matrix is not C × C.
    """
    import matplotlib.pyplot as plt
    import numpy as np

    counts = np.asarray(confusion, dtype=float)
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"confusion: got shape {list(counts.shape)}, expected {[len(names)] * 2} for {len(names)} names")
    percent = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    _, axis = plt.subplots(figsize=(5.6, 5.0))
    axis.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(*percent.shape):
        shade = "white" if percent[row, column] > 55 else "black"
        axis.text(column, row, f"{percent[row, column]:.0f}", ha="center", va="center", color=shade, fontsize=9)
    axis.set(xlabel="网络的回答", ylabel="真实类别")
    axis.set_xticks(range(len(names)), names, rotation=45)
    axis.set_yticks(range(len(names)), names)
    axis.grid(False)
