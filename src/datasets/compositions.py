"""Which things may stand together in which split of the scenes, by a hash of their code points.

A composition is an unordered pair of different things in one scene, or a thing in one of the nine cells. Each belongs
to one split; a thing beside itself belongs to none.
"""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

from src.datasets.splits import SPLITS, share, split_of
from src.datasets.things import THINGS

SALT = "scenes/1"


@functools.cache
def pair_splits() -> Tensor:
    """The split of each unordered pair of things as a row of SPLITS, int64 ``[C, C]``; −1 for a thing with itself."""
    codes = [thing.codepoint for thing in THINGS]
    table = torch.full((len(codes), len(codes)), -1)
    for i, j in itertools.combinations(range(len(codes)), 2):
        first, second = sorted((codes[i], codes[j]))
        table[i, j] = table[j, i] = SPLITS.index(split_of(f"{first} {second}", SALT, 0.15, 0.15))
    return table


@functools.cache
def cell_splits() -> Tensor:
    """The split of each thing in each cell as a row of SPLITS, int64 ``[C, 9]``.

    Of a thing's nine cells the one with the lowest hash is test, the second lowest may be validation.
    """
    table = torch.zeros(len(THINGS), 9, dtype=torch.int64)
    for row, thing in enumerate(THINGS):
        order = sorted(range(9), key=lambda cell, code=thing.codepoint: share(f"{code} {cell}", SALT))
        table[row, order[0]] = SPLITS.index("test")
        if split_of(thing.codepoint, SALT, 0.5, 0) == "validation":
            table[row, order[1]] = SPLITS.index("validation")
    return table


def allowed_pairs(split: str) -> tuple[Tensor, Tensor]:
    """(may stand together, of this split), bool ``[C, C]``; a thing does not count as its own partner."""
    own = pair_splits() == SPLITS.index(split)
    return own | (pair_splits() == 0), own


def allowed_cells(split: str) -> tuple[Tensor, Tensor]:
    """(may stand there, of this split), bool ``[C, 9]``."""
    own = cell_splits() == SPLITS.index(split)
    return own | (cell_splits() == 0), own


def compositions(things: Tensor, cells: Tensor) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """All pairs (smaller row of THINGS first) and all (row, cell) that occur in int64 ``[N, 4]``, −1 for none."""
    pairs, places = set(), set()
    for shown, where in zip(things.tolist(), cells.tolist(), strict=True):
        present = sorted({row for row in shown if row >= 0})
        pairs |= set(itertools.combinations(present, 2))
        places |= {(row, cell) for row, cell in zip(shown, where, strict=True) if row >= 0}
    return pairs, places
