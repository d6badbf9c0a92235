"""1,572 short English opinions on films, hotels, restaurants, books, phones and courses, half of them positive.

Own text of the book (CC BY-SA 4.0). ``data/README.md`` is the datasheet, ``data/make_opinions.py`` makes the file: a
small grammar with negation and contrast, and sentences written by hand that praise or blame without saying so.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from src.datasets import shipped
from src.datasets.selection import check_selection
from src.datasets.splits import SPLITS, split_of
from src.runtime import check_choice

SALT = "opinions/24"
"""The first number that puts five pairs of every topic and label in each split and parts the handwritten pairs 30, 15, 15."""
LABELS = ("negative", "positive")
KINDS = ("plain", "negated", "contrast", "implied")
TOPICS = ("film", "hotel", "restaurant", "book", "phone", "course")
VALIDATION = TEST = 0.25


@dataclass(frozen=True)
class Opinions:
    """texts: N sentences; labels: int64 ``[N]``, places in ``LABELS``; kinds, topics: of each sentence.

    ``opinions[selection]`` takes a slice, a boolean mask or an index tensor.
    """

    texts: tuple[str, ...]
    labels: Tensor
    kinds: tuple[str, ...]
    topics: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, selection: slice | Tensor) -> Opinions:
        check_selection(self, selection, "opinions.texts[i], opinions.labels[i]")
        rows = torch.arange(len(self))[selection]
        texts, kinds, topics = (tuple(part[row] for row in rows.tolist()) for part in (self.texts, self.kinds, self.topics))
        return Opinions(texts, self.labels[rows], kinds, topics)


def load(split: str | None = None) -> Opinions:
    """The shipped opinions of one of ``SPLITS``, or all of them, in an order that says nothing about label, kind or topic.

    What is held out is a pair of aspect and adjective ("the plot" and "gripping"), or a whole sentence written by hand;
    each adjective may occur with another aspect, and each way of building a sentence occurs, on every side.

    Raises ValueError for an unknown split and for a damaged file, FileNotFoundError for a missing one.
    """
    if split is not None:
        check_choice("split", split, SPLITS)
    rows = [row for row in _rows() if split in (None, row[-1])]
    labels, kinds, topics, texts, _ = zip(*rows, strict=True)
    return Opinions(texts, torch.tensor(labels), kinds, topics)


def unit_split(unit: str) -> str:
    """The split of a pair "aspect|adjective" or of two sentences written by hand: half training, a quarter each the others."""
    return split_of(unit, SALT, VALIDATION, TEST)


@functools.cache
def _rows() -> tuple[tuple[int, str, str, str, str], ...]:
    """(label, kind, topic, text, split)."""
    rows = (line.split("\t") for line in shipped.read("opinions", "opinions.tsv").decode().splitlines())
    return tuple((int(label), kind, topic, text, unit_split(unit)) for label, kind, topic, unit, text in rows)
