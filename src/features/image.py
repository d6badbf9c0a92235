"""From pixels to features: resizing, normalising, convolution and two hand-made descriptors (row R04).

Chapter: chapters/features/image.ipynb. Pictures are floating ``[B, C, H, W]``, RGB, and what comes out follows their
type and device; NaN and infinite values are refused (not looked for in compiled code).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from src.runtime import check_finite


def normalise(x: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """(x − mean_c) / std_c of each channel, (eq-image-normalise): ``[B, C, H, W]`` → the same.

    Raises ValueError when mean or std is not one number a channel, or a std is not positive.
    """
    _check(x)
    m, s = (torch.as_tensor(value, dtype=x.dtype, device=x.device) for value in (mean, std))
    if m.shape != x.shape[1:2] or s.shape != x.shape[1:2]:
        raise ValueError(
            f"mean, std: got shapes {list(m.shape)}, {list(s.shape)}, expected [{x.shape[1]}], one a channel"
        )
    check_finite(mean=m, std=s)
    if not torch.compiler.is_compiling() and not (s > 0).all():
        raise ValueError(f"std: got {s.tolist()}, expected positive numbers; leave out a constant channel")
    return (x - m[:, None, None]) / s[:, None, None]


def resize_weights(
    old: int,
    new: int,
    antialias: bool = True,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Weights ``[new, old]``, rows summing to 1, of linear resampling along one axis, (eq-image-resize)."""
    if old < 1 or new < 1:
        raise ValueError(f"old, new: got {old}, {new}, expected at least 1 pixel each")
    scale = old / new
    width = max(scale, 1.0) if antialias else 1.0
    centre = (torch.arange(new, dtype=torch.float64) + 0.5) * scale  # [new]
    place = torch.arange(old, dtype=torch.float64) + 0.5  # [old]
    weights = (1 - (place - centre[:, None]).abs() / width).clamp_min(0)  # [new, old]
    return (weights / weights.sum(1, keepdim=True)).to(device=device, dtype=dtype)


def resize_bilinear(x: Tensor, size: tuple[int, int], antialias: bool = True) -> Tensor:
    """Bilinear resizing, rows then columns, (eq-image-resize): ``[B, C, H, W]`` → ``[B, C, *size]``.

    With antialias the triangle is as wide as the distance of two new pixels, else as that of two old ones. It equals
    ``F.interpolate(mode="bilinear", align_corners=False)``. Raises ValueError for a size below 1.
    """
    _check(x)
    down, right = (
        resize_weights(old, new, antialias, x.dtype, x.device) for old, new in zip(x.shape[2:], size, strict=True)
    )
    with torch.autocast(x.device.type, enabled=False):
        return down @ x @ right.T  # [B, C, H', W']


def conv2d(x: Tensor, w: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Cross-correlation with zero padding, (eq-image-conv): ``[B, C, H, W]``, ``[O, C, K, L]`` → ``[B, O, H', W']``.

    H' = 1 + ⌊(H + 2 padding − K) / stride⌋. Raises ValueError for other channels, stride below 1, padding below 0, or a
    kernel larger than the padded picture.
    """
    _check(x)
    if w.ndim != 4 or w.shape[1] != x.shape[1] or 0 in w.shape:
        raise ValueError(f"w: got shape {list(w.shape)}, expected [O, {x.shape[1]}, K, L] for the channels of x")
    check_finite(w=w)
    if stride < 1 or padding < 0:
        raise ValueError(f"stride, padding: got {stride}, {padding}, expected at least 1 and 0")
    x = F.pad(x, (padding,) * 4)
    if x.shape[2] < w.shape[2] or x.shape[3] < w.shape[3]:
        raise ValueError(f"w: got a kernel {list(w.shape[2:])}, larger than the padded picture {list(x.shape[2:])}")
    windows = x.unfold(2, w.shape[2], stride).unfold(3, w.shape[3], stride)  # [B, C, H', W', K, L]
    return torch.einsum("bchwkl,ockl->bohw", windows, w)


def colour_histogram(x: Tensor, bins: int = 4) -> Tensor:
    """Share of the pixels in each cell of the RGB cube, (eq-image-histogram): ``[B, 3, H, W]`` → ``[B, bins³]``.

    Values lie in 0 … 1. A pixel is shared between the neighbouring bins, so that the gradient is not zero.
    """
    _check(x)
    if x.shape[1] != 3 or bins < 1:
        raise ValueError(f"x, bins: got {x.shape[1]} channels, {bins} bins, expected 3 and at least 1")
    if not torch.compiler.is_compiling() and (x.amin() < 0 or x.amax() > 1):
        raise ValueError(f"x: got values in {x.amin():.3g} … {x.amax():.3g}, expected 0 … 1; divide bytes by 255")
    place = (x.flatten(2) * bins - 0.5).clamp(0, bins - 1)[..., None]  # [B, 3, P, 1]
    share = (1 - (place - torch.arange(bins, dtype=x.dtype, device=x.device)).abs()).clamp_min(0)  # [B, 3, P, bins]
    red, green, blue = share.unbind(1)
    with torch.autocast(x.device.type, enabled=False):
        pairs = (red[..., :, None] * green[..., None, :]).flatten(2)  # [B, P, bins²]
        return (pairs.mT @ blue).flatten(1) / place.shape[2]


def gradient_histogram(x: Tensor, cell: int = 8, bins: int = 9) -> Tensor:
    """Histograms of oriented gradients (Dalal and Triggs, 2005), (eq-image-gradient).

    The mean of the channels is differentiated by (−1, 0, 1); each pixel votes with its magnitude for the two nearest of
    ``bins`` directions in 0 … π; votes are averaged over cells, and each block of 2 × 2 cells is scaled to length 1.

    Args:
        x: ``[B, C, H, W]``, H and W at least two cells; what is left over at the lower right is not used.
        cell: pixels of a cell's side.

    Returns:
        ``[B, (h − 1)(w − 1) · 4 · bins]``, h = ⌊H / cell⌋, w = ⌊W / cell⌋.
    """
    _check(x)
    if cell < 1 or bins < 2 or min(x.shape[2:]) < 2 * cell:
        raise ValueError(
            f"x, cell, bins: got {list(x.shape[2:])} pixels, cell {cell}, bins {bins}, expected at least "
            "2 × 2 cells and 2 bins"
        )
    grey = F.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")  # [B, 1, H + 2, W + 2]
    across = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]  # [B, 1, H, W]
    down = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    flat = (across == 0) & (down == 0)
    across = torch.where(flat, torch.ones_like(across), across)  # atan2 and the root have no gradient at 0
    size = torch.where(flat, torch.zeros_like(down), (across.square() + down.square()).sqrt())
    place = torch.atan2(down, across).remainder(math.pi) * (bins / math.pi) - 0.5  # [B, 1, H, W]
    k = torch.arange(bins, dtype=x.dtype, device=x.device)[:, None, None]
    distance = ((place - k + bins / 2).remainder(bins) - bins / 2).abs()  # [B, bins, H, W]
    votes = F.avg_pool2d(size * (1 - distance).clamp_min(0), cell)  # [B, bins, h, w]
    blocks = votes.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 4, 5, 1).flatten(3)  # [B, h−1, w−1, 4 bins]
    return (blocks / (blocks.square().sum(-1, keepdim=True) + 1e-6).sqrt()).flatten(1)


def _check(x: Tensor) -> None:
    if x.ndim != 4 or x.numel() == 0:
        raise ValueError(f"x: got shape {list(x.shape)}, expected [B, C, H, W] with at least one pixel")
    if not x.is_floating_point():
        raise ValueError(f"x: got {x.dtype}, expected floating numbers; divide bytes by 255")
    check_finite(x=x)
