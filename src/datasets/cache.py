"""One cached file for pictures that are slow to read: written atomically, checked on every load, never unpickled."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from src.runtime import atomic_write

Decoded = tuple[Tensor, Tensor]


def cached(path: Path, key: str, make: Callable[[], Decoded]) -> Decoded:
    """(images, labels) from ``path`` if it was written for the same ``key`` and is intact, else from ``make()``.

    What ``make`` returns replaces the file, so an edited source or a damaged cache costs one slow load and no error.
    """
    found = _read(path, key)
    if found is None:
        found = make()
        _write(path, key, *found)
    return found


def _read(path: Path, key: str) -> Decoded | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
            wanted = {"key": key, "check": _check(images, labels)}
            return (images, labels) if file.metadata() == wanted else None
    except (OSError, SafetensorError):
        return None


def _write(path: Path, key: str, images: Tensor, labels: Tensor) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(path) as temporary:
            about = {"key": key, "check": _check(images, labels)}
            save_file({"images": images, "labels": labels}, str(temporary), about)
    except (OSError, SafetensorError) as error:
        raise OSError(f"cannot write the cache {path} ({error}): free some space there, or set MULTIMODAL_BOOK_CACHE "
                      "to a folder with room; nothing half-written was left.") from error


def _check(images: Tensor, labels: Tensor) -> str:
    return f"{zlib.crc32(labels.numpy(), zlib.crc32(images.numpy())):08x}"
