"""Benchmarks: ratios of two ways measured side by side in one run. `make bench` runs every module here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.datasets import cifar10


@contextmanager
def picture_folder(limit: int = 5000) -> Iterator[Path]:
    """The folder of CIFAR10_DIR, or a temporary one with so many stand-in pictures of each split as PNG files."""
    given = os.environ.get(cifar10.FOLDER_VARIABLE)
    if given:
        yield Path(given)
        return
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        for split in cifar10.SPLITS:
            pictures = cifar10.load(split, limit=limit)
            for number, (image, label) in enumerate(zip(pictures.images, pictures.labels.tolist(), strict=True)):
                folder = Path(name, split, cifar10.CLASSES[label])
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number:05d}.png")
        yield Path(name)
