"""Pictures per second into training: the book's `PictureBatches` against torchvision's ImageFolder + DataLoader.

Both read the same folder (CIFAR10_DIR, else a temporary one with stand-in pictures), shuffle, shift by up to 4 pixels
with mirrored borders, mirror, scale, and give float batches. The book decodes a folder once and keeps the bytes in
memory, so its epochs are timed after that; the first decoding stands in its own row.

    python -m bench.data_path [--batch-size 128] [--pictures 5000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

import torch
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from bench import picture_folder
from src.datasets import cifar10
from src.runtime import CACHE_VARIABLE
from src.training import PictureBatches

SHIFT = 4


def rates(paths: dict[str, tuple[Iterable, int]], rounds: int) -> dict[str, float]:
    """Median pictures per second of each path; the paths take turns, so that other work on the machine hits all alike.

    paths: for each name what gives the batches of a pass, and the pictures in a pass. The first round warms up.
    """
    found: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds + 1):
        for name, (batches, pictures) in paths.items():
            begin = time.perf_counter()
            count = sum(len(labels) for _, labels in batches)
            found[name].append(count / (time.perf_counter() - begin))
            assert count == pictures, f"{name}: {count} pictures in a pass, expected {pictures}"
    return {name: statistics.median(values[1:]) for name, values in found.items()}


class Passes:
    """One epoch after the other of `PictureBatches`, as something to iterate over again and again."""

    def __init__(self, batches: PictureBatches) -> None:
        self.batches, self.number = batches, 0

    def __iter__(self):
        self.number += 1
        return self.batches.epoch(self.number)


def torchvision_loader(folder: Path, batch_size: int, count: int, workers: int) -> DataLoader:
    """The usual way, on ``count`` pictures of the folder."""
    mean, deviation = (torch.tensor(values) / 255 for values in (PictureBatches.MEAN, PictureBatches.STD))
    steps = [
        transforms.RandomCrop(32, padding=SHIFT, padding_mode="reflect"),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(mean.tolist(), deviation.tolist()),
    ]
    pictures = ImageFolder(str(folder / "train"), transforms.Compose(steps))
    chosen = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))[:count].tolist()
    return DataLoader(Subset(pictures, chosen), batch_size=batch_size, shuffle=True, drop_last=True,
                      num_workers=workers, persistent_workers=workers > 0)  # fmt: skip


def first_load(folder: Path) -> tuple[cifar10.Pictures, float, float]:
    """(pictures, seconds of the first load with an empty cache, seconds of the second load)."""
    seconds = []
    with tempfile.TemporaryDirectory() as cache:
        places = {cifar10.FOLDER_VARIABLE: str(folder), CACHE_VARIABLE: cache}
        for _ in range(2):
            with mock.patch.dict(os.environ, places):
                begin = time.perf_counter()
                pictures = cifar10.load("train", "folder")
                seconds.append(time.perf_counter() - begin)
    return pictures, *seconds


def measure(batch_size: int, most: int, rounds: int) -> None:
    """Measure both sides and print the table."""
    with picture_folder() as folder:
        pictures, first, second = first_load(folder)
        own = Passes(PictureBatches(pictures, batch_size, shift=SHIFT, flip=True, shuffle=True))
        paths = {"this book, bytes in memory": (own, len(pictures) // batch_size * batch_size)}
        part = min(most, len(pictures)) // batch_size * batch_size
        for workers in (0, 2):
            loader = torchvision_loader(folder, batch_size, part, workers)
            paths[f"ImageFolder + DataLoader, {workers} workers"] = (loader, part)
        found = rates(paths, rounds)
    print(f"{pictures.source}: {len(pictures):,} pictures, batches of {batch_size}, {os.cpu_count()} processors, "
          f"median of {rounds} passes (DataLoader: over {part:,} pictures)")  # fmt: skip
    print(f"folder decoded once in {first:.1f} s ({len(pictures) / first:,.0f} pictures/s), "
          f"later loads {second:.2f} s")  # fmt: skip
    print(f"{'data path':38s} {'pictures/s':>12s} {'book is faster by':>18s}")
    own_rate = next(iter(found.values()))
    for name, value in found.items():
        print(f"{name:38s} {value:12,.0f} {own_rate / value:17.1f}×")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--pictures", type=int, default=5000, help="pictures in a pass of the DataLoader")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    measure(given.batch_size, given.pictures, given.rounds)


if __name__ == "__main__":
    main()
