"""A stand-in for CIFAR-10 that is drawn: emoji of the ten classes in three styles, turned, recoloured, partly hidden.

Same shapes and classes as CIFAR-10, but a different task: accuracies on it say nothing about accuracies on CIFAR-10.
Backgrounds and colours are shared by all classes. One in six drawings (emoji × style) of a class is left out of the
training pictures, so that a part of the test pictures shows drawings that no training picture had.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from src.datasets import emoji
from src.datasets.backgrounds import backgrounds, uniform

CODEPOINTS = (
    ("2708", "1F6E9", "1F6EB", "1F6EC"),
    ("1F697", "1F698", "1F699", "1F695", "1F696", "1F693", "1F694", "1F3CE"),
    ("1F426", "1F985", "1F989", "1F986", "1F54A", "1F99C", "1F9A2", "1F424", "1F427", "1F9A9", "1F983"),
    ("1F431", "1F408", "1F63A", "1F638", "1F63B", "1F63C", "1F408-200D-2B1B"),
    ("1F98C", "1FACE"),
    ("1F436", "1F415", "1F429", "1F9AE", "1F415-200D-1F9BA"),
    ("1F438",),
    ("1F434", "1F40E", "1F3A0", "1F3C7"),
    ("1F6A2", "26F5", "1F6E5", "26F4", "1F6F3", "1F6A4"),
    ("1F69A", "1F69B", "1F692", "1F6FB"),
)
"""The emoji of each class, in the order of cifar10.CLASSES."""

SIZE = 32
BLOCK = 200
SEED = 2009
HELD_OUT = 6


@dataclass(frozen=True)
class Drawings:
    """Emoji with premultiplied colour float ``[G, 4, 32, 32]`` in 0 … 1, and for each class the rows it may use."""

    pictures: Tensor
    rows: tuple[Tensor, ...]


def draw(split: str, count: int, seed: int = SEED) -> tuple[Tensor, Tensor]:
    """(images uint8 ``[count, 3, 32, 32]``, labels int64 ``[count]``), the classes in turn.

    The same seed and split give the same pictures, and a smaller ``count`` the first of them.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    drawings = _drawings(split)
    offset = {"train": 0, "test": 1}[split]
    blocks = [_block(drawings, 1_000_003 * seed + 2 * number + offset) for number in range(-(-count // BLOCK))]
    images = torch.cat([images for images, _ in blocks])
    return images[:count], torch.cat([labels for _, labels in blocks])[:count]


@functools.cache
def _drawings(split: str) -> Drawings:
    found = emoji.load()
    pictures = torch.stack([found.images[style] for style in emoji.STYLES], dim=1)  # [concepts, styles, 4, 64, 64]
    chosen = [pictures[found.find(*codes)].flatten(0, 1) for codes in CODEPOINTS]
    starts = [0, *torch.tensor([len(part) for part in chosen]).cumsum(0).tolist()]
    rows = tuple(_allowed(torch.arange(*ends), split) for ends in itertools.pairwise(starts))
    return Drawings(_premultiplied(torch.cat(chosen)), rows)


def _allowed(rows: Tensor, split: str) -> Tensor:
    held_out = torch.arange(len(rows)) % HELD_OUT == HELD_OUT - 1
    return rows[~held_out] if split == "train" else rows


def _premultiplied(pictures: Tensor) -> Tensor:
    """uint8 RGBA ``[G, 4, 64, 64]`` → premultiplied float ``[G, 4, 32, 32]``, so that edges keep their colour."""
    values = pictures.float() / 255
    values[:, :3] *= values[:, 3:]
    return F.avg_pool2d(values, 2)


def _block(drawings: Drawings, seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(BLOCK) % len(drawings.rows)
    things = _recolour(_place(drawings.pictures[_pick(drawings, labels, random)], random), random)
    things = things * _visible(random)
    images = things[:, :3] + (1 - things[:, 3:]) * backgrounds(random, BLOCK, SIZE)
    images += uniform(random, BLOCK, 0.01, 0.09) * torch.randn(images.shape, generator=random)
    return images.mul_(255).round_().clamp_(0, 255).to(torch.uint8), labels


def _pick(drawings: Drawings, labels: Tensor, random: torch.Generator) -> Tensor:
    rows = torch.nn.utils.rnn.pad_sequence(list(drawings.rows), batch_first=True)  # [classes, most rows]
    counts = torch.tensor([len(part) for part in drawings.rows])[labels]
    return rows[labels, (torch.rand(BLOCK, generator=random) * counts).long()]


def _place(pictures: Tensor, random: torch.Generator) -> Tensor:
    """Turn, scale, mirror and shift: each output pixel looks up its place in the emoji."""
    angle = uniform(random, BLOCK, -0.6, 0.6, 1).squeeze(1)
    scale = uniform(random, BLOCK, 0.45, 1.0, 1)
    mirror = (torch.rand(BLOCK, generator=random) < 0.5) * 2.0 - 1
    shift = uniform(random, BLOCK, -1, 1, 2) * (1.15 - scale) / scale
    turn = torch.stack([mirror * angle.cos(), -mirror * angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
    theta = torch.cat([turn / scale[..., None], shift[..., None]], dim=2)  # [BLOCK, 2, 3]
    return F.grid_sample(pictures, F.affine_grid(theta, pictures.shape, align_corners=False), align_corners=False)


def _recolour(things: Tensor, random: torch.Generator) -> Tensor:
    """Shift the hue, fade the colour, change the light; the alpha channel stays."""
    matrix = uniform(random, BLOCK, 0.55, 1.15)[:, 0] * _hue(uniform(random, BLOCK, 0, 2 * math.pi, 1).squeeze(1))
    colour, alpha = things[:, :3], things[:, 3:]
    grey = colour.mean(1, keepdim=True)
    faded = grey + uniform(random, BLOCK, 0.2, 1.0) * (colour - grey)
    turned = torch.bmm(matrix, faded.flatten(2)).view_as(faded)
    return torch.cat([turned.clamp(0, 1), alpha], dim=1)


def _hue(angle: Tensor) -> Tensor:
    """Rotations about the grey axis ``[N, 3, 3]``: Rodrigues' formula with axis (1, 1, 1)/√3."""
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    cosine, sine = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    return cosine * torch.eye(3) + sine * cross + (1 - cosine) / 3


def _visible(random: torch.Generator) -> Tensor:
    """1 where the emoji shows, 0 in the rectangle that hides a part of it, ``[BLOCK, 1, 32, 32]``."""
    along = torch.arange(SIZE)
    inside = []
    for shape in ((1, SIZE, 1), (1, 1, SIZE)):
        start, length = uniform(random, BLOCK, 0, SIZE - 4), uniform(random, BLOCK, 0, 13)
        distance = along.view(shape) - start
        inside.append((distance >= 0) & (distance < length))
    return 1.0 - (inside[0] & inside[1]).float()
