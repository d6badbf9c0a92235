"""Textured backgrounds that tell nothing about what stands before them: clouds and stripes over a plain colour."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(random: torch.Generator, count: int, low: float, high: float, *shape: int) -> Tensor:
    """Numbers in [low, high), ``[count, *shape]``; without a shape ``[count, 1, 1, 1]``."""
    return low + (high - low) * torch.rand(count, *(shape or (1, 1, 1)), generator=random)


def backgrounds(random: torch.Generator, count: int, size: int) -> Tensor:
    """Coloured clouds of three sizes and stripes over a plain colour, ``[count, 3, size, size]`` in 0 … 1."""
    images = uniform(random, count, 0.1, 0.9, 3, 1, 1).expand(-1, -1, size, size)
    for cells in (3, 6, 12):
        spread = _spread(cells, size)
        noise = uniform(random, count, 0, 0.16) * torch.randn(count, 3, cells, cells, generator=random)
        images = images + spread @ noise @ spread.T
    return (images + uniform(random, count, 0, 0.2, 3, 1, 1) * _stripes(random, count, size)).clamp_(0, 1)


def soft_backgrounds(random: torch.Generator, count: int, size: int) -> Tensor:
    """`backgrounds` drawn at half the resolution and smoothly enlarged: the finest texture is left out."""
    spread = _spread(-(-size // 2), size)
    return spread @ backgrounds(random, count, spread.shape[1]) @ spread.T  # [count, 3, size, size]


def _spread(cells: int, size: int) -> Tensor:
    """Linear interpolation from ``cells`` points to ``size``, as a matrix ``[size, cells]``."""
    return F.interpolate(torch.eye(cells)[None], size, mode="linear", align_corners=True)[0].T


def _stripes(random: torch.Generator, count: int, size: int) -> Tensor:
    """Plane waves of random direction, length and phase, ``[count, 1, size, size]`` in −1 … 1."""
    wave, angle = uniform(random, count, 0.2, 1.5), uniform(random, count, 0, math.pi)
    phase = uniform(random, count, 0, 2 * math.pi)
    along = torch.arange(size, dtype=torch.float32)
    across = angle.cos() * along + angle.sin() * along[:, None]
    return torch.sin(wave * across + phase)
