"""Device, seeds, time, places and safe writing: what every other module may rely on."""

from __future__ import annotations

import math
import os
import random
import time
import uuid
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CACHE_VARIABLE = "MULTIMODAL_BOOK_CACHE"


def approx(value: float | str | tuple[float, float], digits: int = 2, unit: str = "") -> str:
    """Format a machine-dependent result with the leading ≈ that the notebook tests fold.

    The cell that prints it asserts the bound which the prose claims; a value printed
    without ≈ is compared strictly.

    Args:
        value: a number (or a tensor of one element), a (mean, standard deviation) pair,
            or a text without line break and 」.
        digits: decimals shown.
        unit: appended as it is, with its own leading blank if it wants one.

    Returns:
        "≈0.87", "≈12.3 s", "≈0.812 ± 0.004" or "≈「text」".

    Raises:
        ValueError: the value is not finite (the fold would hide it) or the text cannot be folded.
    """
    if isinstance(value, str):
        if not value or any(mark in value for mark in "「」\r\n"):
            raise ValueError(f"value: got {value!r}, expected one line of text without 「 and 」")
        return f"≈「{value}」"
    numbers = [float(part) for part in (value if isinstance(value, tuple) else (value,))]
    if len(numbers) not in (1, 2):
        raise ValueError(f"value: got {len(numbers)} numbers, expected one or (mean, standard deviation)")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"value: got {value!r}, expected finite numbers; look for the step that overflowed")
    return "≈" + " ± ".join(f"{number:.{digits}f}" for number in numbers) + unit


def available_devices() -> list[str]:
    """Names that `pick_device` accepts on this machine, the CPU first."""
    import torch

    names = ["cpu"] + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return names + (["mps"] if torch.backends.mps.is_available() else [])


def pick_device(name: str | None = None) -> torch.device:
    """Choose where to compute: CUDA when there is one, else the CPU; MPS only when asked for.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps", or None to choose.

    Raises:
        ValueError: torch knows no such device, or this machine does not have it.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here = available_devices()
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in here:
        raise ValueError(
            f"device: got {name!r}, but this machine has {', '.join(here)}; leave the name out to choose by itself"
        )
    return torch.device(name)


def set_seed(seed: int) -> torch.Generator:
    """Seed Python, NumPy and torch (every device).

    Returns:
        A CPU generator seeded with the same number, for samplers and `torch.randperm`.

    Raises:
        ValueError: the seed is not an integer in [0, 2**32).
    """
    import numpy
    import torch

    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed: got {seed!r}, expected an integer from 0 to 2**32 - 1")
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise ValueError, naming the argument and the choices, unless ``value`` is one of them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")


def check_finite(**tensors: torch.Tensor) -> None:
    """Raise ValueError, naming the argument, for a tensor with NaN or infinite values; compiled code does not look."""
    import torch

    if torch.compiler.is_compiling():
        return
    for name, values in tensors.items():
        # the sum is one pass; it can overflow, so only when it is not finite each number is looked at
        if not values.detach().sum().isfinite() and not values.isfinite().all():
            raise ValueError(
                f"{name}: got NaN or infinite values, expected finite numbers; look for the step that made them"
            )


def root() -> Path:
    """The checkout that this package belongs to."""
    return Path(__file__).resolve().parents[1]


def data_dir() -> Path:
    """The folder of the shipped data sets.

    Raises:
        FileNotFoundError: the package was installed without its checkout.
    """
    folder = root() / "data"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"data folder: {folder} does not exist; the book's data lie beside its code, "
            "so install it from a clone with `pip install -e .`"
        )
    return folder


def cache_dir() -> Path:
    """The folder for downloads and decoded data: $MULTIMODAL_BOOK_CACHE, else ~/.cache/multimodal-book."""
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "multimodal-book"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there when the block ends well, else remove it.

    The temporary name keeps the suffix, as some writers append their own to a foreign one.

    Raises:
        FileNotFoundError: the block wrote nothing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"{path}: nothing was written to the temporary path that atomic_write gave")
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name with no content
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def checksum(part: Any) -> int:
    """Of nested dicts, lists, tensors and plain values; ``torch.load`` does not notice a changed byte inside a tensor."""
    import torch

    if isinstance(part, torch.Tensor):
        return zlib.crc32(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    if isinstance(part, dict):
        part = list(part.items())
    return zlib.crc32(repr([checksum(inner) for inner in part] if isinstance(part, list | tuple) else part).encode())


@dataclass
class Timing:
    """What `timer` measured; `seconds` is set when the block ends."""

    seconds: float = math.nan


def synchronize(device: torch.device | str | None) -> None:
    """Wait until the device has done what was asked of it; returns at once for the CPU and None."""
    kind = str(device).partition(":")[0]
    if kind in ("cuda", "mps"):
        import torch

        getattr(torch, kind).synchronize()


@contextmanager
def timer(device: torch.device | str | None = None) -> Iterator[Timing]:
    """Measure the wall-clock seconds of a block, the device's pending work included.

    Example: `with timer(device) as t: ...` and then `approx(t.seconds, 1, " s")`.
    """
    timing = Timing()
    synchronize(device)
    begin = time.perf_counter()
    try:
        yield timing
    finally:
        synchronize(device)
        timing.seconds = time.perf_counter() - begin
