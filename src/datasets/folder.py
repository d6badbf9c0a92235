"""Pictures from an image folder: ``<root>/<class>/<name>.jpg|jpeg|png``, decoded once and cached as one file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch

from src.datasets.cache import Decoded, cached
from src.datasets.images import opened
from src.datasets.pictures import interleaved
from src.runtime import cache_dir

SUFFIXES = (".jpg", ".jpeg", ".png")
Listing = list[tuple[str, int, int, int]]
"""A picture each: path below the root, label, size in bytes, time of change in ns."""


def read_folder(root: str | Path, classes: tuple[str, ...], size: int = 32) -> Decoded:
    """(images uint8 ``[N, 3, size, size]``, labels int64 ``[N]``) of an image folder, the classes taken in turn.

    Decoded once, then read from one file in the cache until a name, a size or a time in the folder changes.
    Raises FileNotFoundError for a missing folder or class, ValueError for a foreign folder, a foreign file, an empty
    class, and a picture that cannot be read or has another size.
    """
    root = Path(root)
    listing = list_folder(root, classes)
    place = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    key = hashlib.sha256(repr((listing, size)).encode()).hexdigest()
    return cached(cache_dir() / f"folder-{place}.safetensors", key, lambda: _decode(root, listing, size))


def list_folder(root: Path, classes: tuple[str, ...]) -> Listing:
    """Every picture below ``root``, by class and name; hidden entries are passed over."""
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: give one that holds the folders {', '.join(classes)}.")
    found = {entry.name for entry in root.iterdir() if not entry.name.startswith(".")}
    if foreign := sorted(found - set(classes)):
        raise ValueError(f"{root} holds {', '.join(foreign)}, which is none of the classes {', '.join(classes)}: "
                         "move it out of the folder or rename it to its class.")
    if missing := [name for name in classes if name not in found]:
        raise FileNotFoundError(f"{root} has no folder for {', '.join(missing)}: each class needs its own, "
                                f"expected {', '.join(classes)}.")
    return [item for label, name in enumerate(classes) for item in _list_class(root / name, label)]


def _list_class(folder: Path, label: int) -> Listing:
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: expected a folder with the pictures of that class.")
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in visible:
        if not entry.name.lower().endswith(SUFFIXES) or not entry.is_file():
            raise ValueError(f"{entry.path} is no picture ({', '.join(SUFFIXES)}): move it out of the folder.")
    if not visible:
        raise ValueError(f"{folder} is empty: put the pictures of that class there, or unpack the archive again.")
    stats = [entry.stat() for entry in visible]
    return [(f"{folder.name}/{entry.name}", label, stat.st_size, stat.st_mtime_ns)
            for entry, stat in zip(visible, stats, strict=True)]


def _decode(root: Path, listing: Listing, size: int) -> Decoded:
    """One thread: for pictures this small several wait for each other longer than they decode."""
    labels = torch.tensor([label for _, label, _, _ in listing])
    order = interleaved(labels)
    images = torch.empty(len(listing), size, size, 3, dtype=torch.uint8)
    for image, place in zip(images.numpy(), order.tolist(), strict=True):
        image[:] = read_picture(root / listing[place][0], size)
    return images.permute(0, 3, 1, 2).contiguous(), labels[order]


def read_picture(path: Path, size: int) -> np.ndarray:
    """One picture as uint8 ``[size, size, 3]``; ValueError names the file that is damaged, 16-bit or of another size."""
    with opened(path, ("JPEG", "PNG")) as picture:
        mode, found = picture.mode, picture.size
        pixels = np.asarray(picture.convert("RGB"))
    if found != (size, size) or mode.startswith(("I", "F")):
        raise ValueError(f"{path} is {found[0]}×{found[1]} pixels in mode {mode}, expected {size}×{size} with 8 bits a "
                         "channel: resize or convert it.")
    return pixels
