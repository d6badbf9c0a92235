"""Labelled pictures in memory: one checked value that every picture data set returns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from src.datasets.selection import check_selection

SALT = b"validation/1"
BYTE_WEIGHTS = torch.tensor([1 << 24, 1 << 16, 1 << 8, 1])


@dataclass(frozen=True)
class Pictures:
    """Pictures with labels, kept in memory as bytes.

    images: uint8 ``[N, 3, H, W]``; labels: int64 ``[N]`` in ``0 … len(classes) - 1``; source: what the pictures are,
    to be shown to the reader. ``pictures[selection]`` takes a slice, a boolean mask or an index tensor.

    Raises ValueError when a shape, a type, a label or the number of pictures is wrong.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        _check_images(self.images)
        _check_labels(self.labels, len(self.images), self.classes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, selection: slice | Tensor) -> Pictures:
        check_selection(self, selection, "pictures.images[i], pictures.labels[i]")
        return Pictures(self.images[selection], self.labels[selection], self.classes, self.source)


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be uint8 [N, 3, H, W], got {images.dtype} {list(images.shape)}; "
                         "convert with .to(torch.uint8) and put the channel axis second.")
    if len(images) == 0:
        raise ValueError("images is empty: a data set needs at least one picture; check the folder or the selection.")


def _check_labels(labels: Tensor, count: int, classes: tuple[str, ...]) -> None:
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise ValueError(f"labels must be int64 [N], got {labels.dtype} {list(labels.shape)}; convert with .long().")
    if len(labels) != count:
        raise ValueError(f"labels has {len(labels)} entries but images has {count}; give one label for each picture.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise ValueError(f"labels must lie in 0 … {len(classes) - 1} for {len(classes)} classes, got {low} … {high}; "
                         "correct the labels or name the missing classes.")


def balanced(labels: Tensor, limit: int) -> Tensor:
    """Indices int64 of at most ``limit`` entries of ``labels``, the first of each class in turn, in their old order."""
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}; leave it out to take every picture.")
    return interleaved(labels)[:limit].sort().values


def interleaved(labels: Tensor) -> Tensor:
    """Permutation int64 ``[N]`` that takes the classes of ``labels`` in turn: first of each, second of each, …"""
    rank = torch.empty_like(labels)
    for label in labels.unique():
        of_class = labels == label
        rank[of_class] = torch.arange(int(of_class.sum()))
    return torch.argsort(rank * (int(labels.max()) + 1) + labels, stable=True)


def split_validation(pictures: Pictures, fraction: float = 0.1) -> tuple[Pictures, Pictures]:
    """Split into (training, validation) by a hash of each picture's bytes.

    The place of a picture depends on its content only: order does not matter, and copies of one picture always fall on
    the same side. Raises ValueError when ``fraction`` is not inside (0, 1) or when one side would be empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}; 0.1 keeps a tenth for validation.")
    mask = hashes(pictures.images) < fraction * 2**32
    if mask.all() or not mask.any():
        raise ValueError(f"fraction={fraction} of {len(pictures)} pictures leaves one side empty; "
                         "take more pictures or another fraction.")
    return pictures[~mask], pictures[mask]


def hashes(images: Tensor) -> Tensor:
    """A 32-bit hash of the bytes of each picture, int64 ``[N]``; equal pictures have equal hashes."""
    rows = images.contiguous().flatten(1).cpu().numpy()
    digests = b"".join(hashlib.blake2b(row, digest_size=4, salt=SALT).digest() for row in rows)
    return torch.frombuffer(bytearray(digests), dtype=torch.uint8).view(-1, 4).long() @ BYTE_WEIGHTS
