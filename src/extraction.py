"""Features of many items from a frozen encoder: batches of similar length, a progress bar, one file on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from src.datasets.cache import cached
from src.runtime import cache_dir


def length_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Places of the items, longest first, in batches of which none holds more than ``budget`` after padding.

    An item longer than the budget is a batch of its own. Longest first: memory runs out at once or never.
    """
    if budget < 1:
        raise ValueError(f"budget must be at least 1, got {budget}.")
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not batches or lengths[batches[-1][0]] * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(place)
    return batches


def extract(encode: Callable[[list[int]], Tensor], lengths: Sequence[int], budget: int, progress: bool = True) -> Tensor:
    """Features ``[N, D]`` float32 on the CPU, row i for item i.

    encode: maps the places of a batch to features ``[B, D]``; lengths: of the N items, in tokens, pixels or samples;
    budget: such units in a batch. Raises ValueError when there is no item.
    """
    from tqdm import tqdm

    if not len(lengths):
        raise ValueError("there is nothing to encode: got 0 items, expected at least one.")
    rows: list[int] = []
    parts: list[Tensor] = []
    with torch.inference_mode(), tqdm(total=len(lengths), disable=not progress, leave=False, desc="特征") as bar:
        for batch in length_batches(lengths, budget):
            parts.append(encode(batch).float().cpu())
            rows += batch
            bar.update(len(batch))
    features = torch.cat(parts)
    return torch.empty_like(features).index_copy_(0, torch.tensor(rows), features)


def kept(model: str, data: Iterable[bytes], make: Callable[[], Tensor], cache: bool = True) -> Tensor:
    """``make()``, or what it returned for the same model and the same data before, from the folder of caches.

    model: everything about the encoder that the features depend on, in words; data: the items as bytes.
    """
    if not cache:
        return make()
    key = fingerprint(model, data)
    return cached(feature_path(key), key, lambda: (make(),))[0]


def feature_path(key: str) -> Path:
    """The file that holds the features with this fingerprint."""
    return cache_dir() / "features" / f"{key[:32]}.safetensors"


def fingerprint(model: str, data: Iterable[bytes]) -> str:
    """SHA-256 of the model's name and of each item with its length, so that no two lists of items look alike."""
    digest = hashlib.sha256(model.encode())
    for item in data:
        digest.update(len(item).to_bytes(8, "big"))
        digest.update(item)
    return digest.hexdigest()
