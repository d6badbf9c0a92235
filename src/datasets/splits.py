"""Splits fixed by a hash of the item and never by order: the same item always falls on the same side."""

from __future__ import annotations

import hashlib

SPLITS = ("train", "validation", "test")


def share(item: str, salt: str) -> float:
    """A number in [0, 1) that depends on nothing but the item; ``salt`` (at most 16 bytes) names the data set."""
    return int.from_bytes(hashlib.blake2b(item.encode(), digest_size=4, salt=salt.encode()).digest(), "big") / 2**32


def split_of(item: str, salt: str, validation: float = 0.1, test: float = 0.1) -> str:
    """The split of an item: about ``test`` of all items are test, about ``validation`` validation, the others training.

    Raises ValueError when the two shares are negative or leave nothing for training.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise ValueError(f"validation + test must be shares that leave something for training, got {validation} and "
                         f"{test}; 0.1 and 0.1 keep 80 %.")
    place = share(item, salt)
    return "test" if place < test else "validation" if place < test + validation else "train"
