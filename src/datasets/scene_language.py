"""Captions of scenes, and questions of six kinds that a guesser who never looks answers no better than by chance."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from src.datasets.phrasings import choose, fields
from src.datasets.questions import LANGUAGES, Question, balanced_answers
from src.datasets.scene_wordings import CAPTIONS, CELLS, COMPARED, QUESTIONS, RELATIONS, SIZES, YES_NO
from src.datasets.scenes import Scenes
from src.datasets.things import THINGS
from src.runtime import check_choice

KINDS = ("what", "where", "count", "exists", "relation", "compare")
INSIDE = 0.6
OUTSIDE = 0.25
APART = 0.2
SLACK = 2
TRIES = 20


def captions(scenes: Scenes, language: str = "zh", held_out: bool = False, seed: int = 0) -> list[str]:
    """A sentence for each scene that names every thing with its size and cell, in one of four wordings, or in one of
    two others that training should not see when ``held_out``."""
    check_choice("language", language, LANGUAGES)
    chance, wordings = random.Random(seed), CAPTIONS[language]
    rows = zip(scenes.things.tolist(), scenes.large.tolist(), scenes.cells.tolist(), strict=True)
    return [_caption(*row, language, *wordings[choose(wordings, held_out, chance)]) for row in rows]


def _caption(
    things: list[int], large: list[bool], cells: list[int], language: str, part: str, comma: str, last: str, frame: str
) -> str:
    parts = [part.format(cell=CELLS[language][cell], size=SIZES[language][big], m=THINGS[row].measure,
                         x=THINGS[row].name(language))
             for row, big, cell in zip(things, large, cells, strict=True) if row >= 0]
    text = frame.format(last.join([*[comma.join(parts[:-1])] * (len(parts) > 1), parts[-1]]))
    return text[0].upper() + text[1:]


@dataclass(frozen=True)
class _Scene:
    """What the questions need of one scene; inside: the share of each thing's box that lies in each of nine cells."""

    item: int
    rows: tuple[int, ...]
    large: tuple[bool, ...]
    centres: tuple[tuple[float, float], ...]
    inside: tuple[tuple[float, ...], ...]

    def single(self) -> list[int]:
        """Places of the things of which there is one only."""
        return [place for place, row in enumerate(self.rows) if self.rows.count(row) == 1]

    def cell(self, place: int) -> int | None:
        """The cell that holds nearly the whole thing, None when it stands between cells."""
        return next((cell for cell, share in enumerate(self.inside[place]) if share >= INSIDE), None)


Asked = Iterator[tuple[int, dict[str, str], str]]


def questions(
    scenes: Scenes, kinds: Sequence[str] = KINDS, language: str = "zh", held_out: bool = False, seed: int = 0,
    wordings: Mapping[str, Sequence[str]] | None = None,
) -> list[Question]:
    """All questions of ``kinds`` with exactly one right answer, thinned out until the answers to a kind are equally
    frequent (``exists``: those about each thing); ordered by scene.

    held_out: two wordings that training should not see, instead of four others; wordings: for each kind those to choose
    from instead of either. Few scenes give few or no questions: an answer that never occurs is never asked for. Raises
    ValueError for an unknown kind or language.
    """
    check_choice("language", language, LANGUAGES)
    for kind in kinds:
        check_choice("kinds", kind, KINDS)
    chance, views = random.Random(seed), _views(scenes)
    found = []
    for kind in kinds:
        texts = wordings[kind] if wordings else QUESTIONS[language][kind]
        for item, slots, answer in _ASKERS[kind](views, language, chance):
            phrasing = chance.randrange(len(texts)) if wordings else choose(texts, held_out, chance)
            found.append(Question(kind, item, texts[phrasing].format(**slots), answer, phrasing))
    return sorted(balanced_answers(found, seed), key=lambda question: question.item)


def _views(scenes: Scenes) -> list[_Scene]:
    centres = (scenes.boxes[..., :2] + scenes.boxes[..., 2:]) / (2 * scenes.size)
    found = []
    for item, (rows, *rest) in enumerate(zip(scenes.things.tolist(), scenes.large.tolist(), centres.tolist(),
                                             _inside(scenes.boxes, scenes.size).tolist(), strict=True)):
        count = sum(row >= 0 for row in rows)
        found.append(_Scene(item, *(tuple(part[:count]) for part in (rows, *rest))))
    return found


def _inside(boxes: Tensor, size: int) -> Tensor:
    """Share of each box ``[N, 4, 4]`` in each cell, ``[N, 4, 9]``."""
    edges = torch.arange(4) * size / 3
    low, high = boxes[..., :2, None], boxes[..., 2:, None]  # [N, 4, 2, 1]
    overlap = (torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:3])).clamp(min=0) / (high - low).clamp(min=1)
    across, down = overlap.unbind(2)
    return (down[..., None] * across[:, :, None]).flatten(2)


def _what(views: list[_Scene], language: str, chance: random.Random) -> Asked:
    for scene in views:
        for place, row in enumerate(scene.rows):
            cell = scene.cell(place)
            others = (share for other, share in enumerate(scene.inside) if other != place)
            if cell is not None and all(share[cell] <= OUTSIDE for share in others):
                yield scene.item, {"cell": CELLS[language][cell]}, THINGS[row].name(language)


def _where(views: list[_Scene], language: str, chance: random.Random) -> Asked:
    for scene in views:
        for place in scene.single():
            if (cell := scene.cell(place)) is not None:
                yield scene.item, fields(language, x=THINGS[scene.rows[place]]), CELLS[language][cell]


def _count(views: list[_Scene], language: str, chance: random.Random) -> Asked:
    for scene in views:
        absent = chance.choice([row for row in range(len(THINGS)) if row not in scene.rows])
        for row in [*dict.fromkeys(scene.rows), absent]:
            yield scene.item, fields(language, x=THINGS[row]), str(scene.rows.count(row))


def _exists(views: list[_Scene], language: str, chance: random.Random) -> Asked:
    """Each thing that is there is also asked for in another scene where it is not: no thing is there more often."""
    yes, no = YES_NO[language]
    for scene in views:
        for row in dict.fromkeys(scene.rows):
            tried = (chance.choice(views) for _ in range(TRIES))
            other = next((view for view in tried if row not in view.rows), None)
            if other is not None:
                yield scene.item, fields(language, x=THINGS[row]), yes
                yield other.item, fields(language, x=THINGS[row]), no


def _pairs(views: list[_Scene], chance: random.Random) -> Iterator[tuple[_Scene, int, int]]:
    """Two things of which there is one each, in random order."""
    for scene in views:
        for pair in itertools.combinations(scene.single(), 2):
            yield scene, *chance.sample(pair, 2)


def _relation(views: list[_Scene], language: str, chance: random.Random) -> Asked:
    """Asked only as long as no thing is found on one side much more often, as its held-out cells would make it."""
    excess: Counter[tuple[bool, int]] = Counter()
    for scene, first, second in _pairs(views, chance):
        (x, y), (other_x, other_y) = scene.centres[first], scene.centres[second]
        across, down = abs(x - other_x), abs(y - other_y)
        upright, after = down > across, (y > other_y if down > across else x > other_x)
        late, early = ((upright, scene.rows[place]) for place in ((first, second) if after else (second, first)))
        if max(across, down) >= max(APART, 2 * min(across, down)) and excess[late] - excess[early] <= SLACK:
            excess.update({late: 1, early: -1})
            slots = fields(language, x=THINGS[scene.rows[first]], y=THINGS[scene.rows[second]])
            yield scene.item, slots, RELATIONS[language][2 * upright + after]


def _compare(views: list[_Scene], language: str, chance: random.Random) -> Asked:
    for scene, first, second in _pairs(views, chance):
        slots = fields(language, x=THINGS[scene.rows[first]], y=THINGS[scene.rows[second]])
        yield scene.item, slots, COMPARED[language][1 + scene.large[first] - scene.large[second]]



_ASKERS: dict[str, Callable[[list[_Scene], str, random.Random], Asked]] = {
    "what": _what, "where": _where, "count": _count, "exists": _exists, "relation": _relation, "compare": _compare}
