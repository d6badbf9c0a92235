"""Scenes: one to four emoji on a 3×3 grid or freely placed before a textured background, with exact annotations.

What is held out are compositions (src/datasets/compositions.py): pairs of different things, and things in cells. A
training scene holds training compositions only. A validation or test scene holds compositions of its own split and of
training, none of the third split, and
- with two or more different things, each of them forms a pair of the split with another one of the scene;
- with one thing, alone or repeated, the first one stands in a cell of the split.
All things, cells, sizes and repetitions occur in training.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from src.datasets import emoji
from src.datasets.backgrounds import soft_backgrounds, uniform
from src.datasets.compositions import allowed_cells, allowed_pairs
from src.datasets.splits import SPLITS
from src.datasets.things import drawings, emoji_styles, paste, to_bytes
from src.runtime import check_choice

LAYOUTS = ("grid", "free")
MOST = 4
SMALLEST = 48
BLOCK = 200
TRIES = 32
CLEAR = 0.9
FADED = 0.5
PATTERNS = torch.tensor(
    2 * [(0, -1, -1, -1)]
    + 3 * [(0, 1, -1, -1)] + [(0, 0, -1, -1)]
    + 3 * [(0, 1, 2, -1)] + [(0, 0, 1, -1), (0, 0, 0, -1)]
    + 2 * [(0, 1, 2, 3)] + [(0, 0, 1, 2), (0, 0, 1, 1), (0, 0, 0, 1), (0, 0, 0, 0)])
"""Equally frequent ways to fill the four places with different things (0, 1, …), repetitions and nothing (−1)."""


@dataclass(frozen=True)
class Scenes:
    """N pictures and what they show, each thing in one of four places; unused places hold −1 (large: False).

    images: uint8 ``[N, 3, S, S]``; things: rows of THINGS, int64 ``[N, 4]``; boxes: the drawn part, float ``[N, 4, 4]``
    as x0, y0, x1, y1 in pixels; large: bool ``[N, 4]``; cells: the cell 0 … 8 of the centre of the square that the
    thing was fitted to, row by row from the top left, int64 ``[N, 4]``; styles: rows of emoji.STYLES, int64 ``[N]``.
    """

    images: Tensor
    things: Tensor
    boxes: Tensor
    large: Tensor
    cells: Tensor
    styles: Tensor

    def __len__(self) -> int:
        return len(self.things)

    @property
    def size(self) -> int:
        """Pixels along a side."""
        return self.images.shape[-1]


@dataclass(frozen=True)
class Places:
    """A block of scenes before it is painted: corners of the squares in pixels, all int64 ``[B, 4]`` but styles."""

    things: Tensor
    large: Tensor
    left: Tensor
    top: Tensor
    styles: Tensor


def widths(size: int) -> tuple[int, int]:
    """Pixels of the longer side of a small and of a large thing."""
    large = size // 3 - 1
    return 2 * large // 3, large


def draw(
    split: str, count: int, seed: int = 0, size: int = 64, layout: str = "grid", styles: Sequence[str] = emoji.STYLES
) -> Scenes:
    """``count`` scenes of one split; each scene in one of ``styles``.

    The same arguments give the same scenes, and a smaller ``count`` the first of them. size: pixels, at least 48;
    layout: ``"grid"`` (each thing inside a cell of its own) or ``"free"``. Raises ValueError for any other argument.
    """
    check_choice("split", split, SPLITS)
    check_choice("layout", layout, LAYOUTS)
    chosen = emoji_styles(styles)
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    if size < SMALLEST:
        raise ValueError(f"size must be at least {SMALLEST} pixels, got {size}: smaller things cannot be recognised.")
    blocks = [_block(split, _seed(split, seed, number), size, layout, chosen) for number in range(-(-count // BLOCK))]
    return Scenes(*(torch.cat(parts)[:count] for parts in zip(*blocks, strict=True)))


def _seed(split: str, seed: int, number: int) -> int:
    return 3 * (1_000_003 * seed + number) + SPLITS.index(split)


def _block(split: str, seed: int, size: int, layout: str, styles: Tensor) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    places = place(random, split, size, layout, styles)
    images = paint(random, places, size)
    here = places.things >= 0
    width = _width(places.large, size)
    cells = (2 * places.top + width) * 3 // (2 * size) * 3 + (2 * places.left + width) * 3 // (2 * size)
    return (images, places.things, _boxes(places, size), places.large, cells.where(here, -1), places.styles)


def _width(large: Tensor, size: int) -> Tensor:
    return torch.tensor(widths(size))[large.long()]


def _boxes(places: Places, size: int) -> Tensor:
    inside = torch.stack([drawings(width).boxes for width in widths(size)])  # [2, styles, C, 4]
    boxes = inside[places.large.long(), places.styles[:, None], places.things] + torch.stack(
        [places.left, places.top, places.left, places.top], dim=-1)
    return boxes.where(places.things[..., None] >= 0, -1).float()


def place(random: torch.Generator, split: str, size: int, layout: str, styles: Tensor) -> Places:
    """Choose things, sizes and corners of `BLOCK` scenes that satisfy the rules of the split."""
    things, alone = _choose_things(random, split)
    large = (torch.rand(BLOCK, MOST, generator=random) < 0.5) & (things >= 0)
    width, cells = _width(large, size), allowed_cells(split)
    left, top = torch.zeros(2, BLOCK, MOST, dtype=torch.int64)
    free_cells = torch.ones(BLOCK, 9, dtype=torch.bool)
    for k in range(MOST):
        may = cells[0][things[:, k]] & (free_cells | (layout == "free"))  # [B, 9]
        if k == 0:
            may = torch.where(alone[:, None], cells[1][things[:, 0]], may)
        cell, x, y = _candidates(random, may, large[:, k], size, layout)  # [B, TRIES]
        gap = _clearance(x, y, width[:, k], left[:, :k], top[:, :k], width[:, :k])
        best = (gap.clamp(max=CLEAR) - 1e-6 * torch.arange(gap.shape[1])).argmax(1, keepdim=True)
        left[:, k], top[:, k] = x.gather(1, best)[:, 0], y.gather(1, best)[:, 0]
        free_cells.scatter_(1, cell.gather(1, best), False)
    style = styles[torch.randint(len(styles), (BLOCK,), generator=random)]
    return Places(things, large, left.where(things >= 0, -1), top.where(things >= 0, -1), style)


def _choose_things(random: torch.Generator, split: str) -> tuple[Tensor, Tensor]:
    """Rows of THINGS int64 ``[BLOCK, 4]``, −1 for none, and whether a scene shows one kind of thing ``[BLOCK]``."""
    pattern = PATTERNS[torch.randint(len(PATTERNS), (BLOCK,), generator=random)]
    alone, (with_all, with_one) = pattern.amax(1) == 0, allowed_pairs(split)
    may = torch.where(alone[:, None], allowed_cells(split)[1].any(1), with_one.any(1))  # [B, C]
    chosen = (torch.rand(may.shape, generator=random) * may).argmax(1, keepdim=True)
    for _ in range(MOST - 1):
        may = with_all[chosen].all(1) & with_one[chosen].any(1)  # [B, C]
        pick = (torch.rand(may.shape, generator=random) * may).argmax(1)
        chosen = torch.cat([chosen, torch.where(may.any(1), pick, chosen[:, 0])[:, None]], dim=1)
    things = chosen.gather(1, pattern.clamp(min=0)).where(pattern >= 0, -1)
    return things, alone


def _candidates(
    random: torch.Generator, may: Tensor, large: Tensor, size: int, layout: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Cells and corners of places to try, each int64 ``[BLOCK, tries]``, cells among ``may`` bool ``[BLOCK, 9]``."""
    tries = TRIES if layout == "free" else 1
    cell = (torch.rand(BLOCK, tries, 9, generator=random) * may[:, None]).argmax(2)
    first, last = _corners(size, layout)  # [2, 3]
    kind, corners = large.long()[:, None], []
    for part in (cell % 3, cell // 3):
        low, high = first[kind, part], last[kind, part]
        corners.append(low + (torch.rand(BLOCK, tries, generator=random) * (high - low + 1)).long())
    return cell, corners[0], corners[1]


@functools.cache
def _corners(size: int, layout: str) -> tuple[Tensor, Tensor]:
    """First and last corner of a small and of a large thing in each third of a side, int64 ``[2, 3]``.

    On the grid the thing lies inside the third; free, its centre does.
    """
    third, width = torch.arange(3), torch.tensor(widths(size))[:, None]
    if layout == "grid":
        return (-(-third * size // 3)).expand(2, 3), (third + 1) * size // 3 - width
    first, end = (-((3 * width - 2 * edge * size) // 6) for edge in (third, third + 1))
    return first.clamp(min=0), torch.minimum(end - 1, size - width)


def _clearance(x: Tensor, y: Tensor, width: Tensor, left: Tensor, top: Tensor, widths: Tensor) -> Tensor:
    """Distance of each candidate ``[B, T]`` from the nearest of k placed squares ``[B, k]``: 1 when they touch."""
    if left.shape[1] == 0:
        return torch.full(x.shape, torch.inf)
    half = (width[:, None] + widths)[:, None] / 2  # [B, 1, k]
    across = (x + width[:, None] / 2)[..., None] - (left + widths / 2)[:, None]
    down = (y + width[:, None] / 2)[..., None] - (top + widths / 2)[:, None]
    return (torch.maximum(across.abs(), down.abs()) / half).amin(2)


def paint(random: torch.Generator, places: Places, size: int) -> Tensor:
    """Paste the things over new backgrounds and add noise, uint8 ``[BLOCK, 3, size, size]``."""
    images = soft_backgrounds(random, BLOCK, size)
    images = images.lerp(images.mean((2, 3), keepdim=True), FADED)
    for k, (large, width) in itertools.product(range(MOST), enumerate(widths(size))):
        rows = ((places.things[:, k] >= 0) & (places.large[:, k] == large)).nonzero()[:, 0]
        patches = drawings(width).patches[places.styles[rows], places.things[rows, k]]
        paste(images, rows, patches, places.left[rows, k], places.top[rows, k])
    images += uniform(random, BLOCK, 0, 0.15) * (torch.rand(BLOCK, 1, size, size, generator=random) - 0.5)
    return to_bytes(images)
