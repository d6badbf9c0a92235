"""One question about one item of a data set, with the answer that the item's annotation gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch

LANGUAGES = ("zh", "en")


@dataclass(frozen=True)
class Question:
    """kind: what is asked for, such as ``"count"``; item: row of the picture, video or chart; phrasing: which template."""

    kind: str
    item: int
    text: str
    answer: str
    phrasing: int


def balanced_answers(questions: Iterable[Question], seed: int) -> list[Question]:
    """A random part in which every answer to the same kind of question is equally frequent, in the old order.

    Without it a model that never looks would score above chance by naming the kind's most frequent answer.
    """
    groups: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    found = list(questions)
    for place, question in enumerate(found):
        groups[question.kind][question.answer].append(place)
    random = torch.Generator().manual_seed(seed)
    kept: list[int] = []
    for answers in groups.values():
        least = min(map(len, answers.values()))
        kept += [places[i] for places in answers.values()
                 for i in torch.randperm(len(places), generator=random)[:least].tolist()]
    return [found[place] for place in sorted(kept)]
