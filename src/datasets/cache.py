"""One cached file for tensors that are slow to make: written atomically, checked on every load, never unpickled."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from src.runtime import atomic_write

Decoded = tuple[Tensor, Tensor]
Tensors = TypeVar("Tensors", bound=tuple[Tensor, ...])


def cached(path: Path, key: str, make: Callable[[], Tensors]) -> Tensors:
    """The tensors of ``path`` if it was written for the same ``key`` and is intact, else those of ``make()``.

    What ``make`` returns replaces the file, so an edited source or a damaged cache costs one slow load and no error.
    """
    found = _read(path, key)
    if found is None:
        found = make()
        _write(path, key, found)
    return found


def _read(path: Path, key: str) -> tuple[Tensor, ...] | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = tuple(file.get_tensor(str(place)) for place in range(len(file.keys())))
            return tensors if file.metadata() == {"key": key, "check": _check(tensors)} else None
    except (OSError, SafetensorError):
        return None


def _write(path: Path, key: str, tensors: tuple[Tensor, ...]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(path) as temporary:
            about = {"key": key, "check": _check(tensors)}
            save_file({str(place): tensor for place, tensor in enumerate(tensors)}, str(temporary), about)
    except (OSError, SafetensorError) as error:
        raise OSError(f"cannot write the cache {path} ({error}): free some space there, or set MULTIMODAL_BOOK_CACHE "
                      "to a folder with room; nothing half-written was left.") from error


def _check(tensors: tuple[Tensor, ...]) -> str:
    check = 0
    for tensor in tensors:
        check = zlib.crc32(tensor.numpy(), check)
    return f"{check:08x}"
