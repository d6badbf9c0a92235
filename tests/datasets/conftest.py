"""A cache of its own for every test, and small image folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from src.datasets.cifar10 import CLASSES, FOLDER_VARIABLE
from src.runtime import CACHE_VARIABLE


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no folder given from outside."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder with three pictures of each class; the first pixel's red is 10 · label + number."""
    root = tmp_path / "pictures" / "train"
    random = torch.Generator().manual_seed(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(3):
            image = torch.randint(0, 256, (3, 32, 32), generator=random, dtype=torch.uint8)
            image[0, 0, 0] = 10 * label + number
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / name / f"{number}.png")
    return root
