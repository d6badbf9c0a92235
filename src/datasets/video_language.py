"""Captions of videos, and questions of six kinds that a guesser who never looks answers no better than by chance."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from src.datasets.phrasings import choose, fields
from src.datasets.questions import LANGUAGES, Question, balanced_answers
from src.datasets.scene_wordings import YES_NO
from src.datasets.things import THINGS
from src.datasets.video_wordings import A_MOOD, CAPTIONS, CHANGES, DIRECTIONS, MOOD_NAMES, QUESTIONS, VERBS
from src.datasets.videos import APPEAR, VANISH, Videos
from src.runtime import check_choice

KINDS = ("direction", "appears", "vanishes", "count", "order", "mood")
APART = 2
SLACK = 2

Happening = tuple[int, int, int, int]
"""thing, event, manner, time"""
Asked = Iterator[tuple[int, dict[str, str], str]]


def captions(videos: Videos, language: str = "zh", held_out: bool = False, seed: int = 0) -> list[str]:
    """A sentence for each video that tells what every thing does and how the face looks, in one of four wordings, or in
    one of two others that training should not see when ``held_out``."""
    check_choice("language", language, LANGUAGES)
    chance, wordings = random.Random(seed), CAPTIONS[language]
    return [_caption(shown, mood, language, *wordings[choose(wordings, held_out, chance)])
            for shown, mood in zip(_happenings(videos), videos.cues[:, 0].tolist(), strict=True)]


def _caption(
    shown: list[Happening], mood: int, language: str, part: str, comma: str, last: str, frame: str
) -> str:
    parts = [part.format(verb=VERBS[language][event][manner], **fields(language, x=THINGS[row]))
             for row, event, manner, _ in shown]
    joined = last.join([*[comma.join(parts[:-1])] * (len(parts) > 1), parts[-1]])
    text = frame.format(parts=joined, mood=MOOD_NAMES[language][mood], a_mood=A_MOOD[language][mood])
    return text[0].upper() + text[1:]


def _happenings(videos: Videos) -> list[list[Happening]]:
    columns = (videos.things.tolist(), videos.events.tolist(), videos.manners.tolist(), videos.times.tolist())
    return [[shown for shown in zip(*row, strict=True) if shown[0] >= 0] for row in zip(*columns, strict=True)]


def questions(
    videos: Videos, kinds: Sequence[str] = KINDS, language: str = "zh", held_out: bool = False, seed: int = 0
) -> list[Question]:
    """All questions of ``kinds`` with exactly one right answer, thinned out until the answers to a kind are equally
    frequent; ordered by video. The mood is asked for where all cues agree with it.

    held_out: two wordings that training should not see, instead of four others. Raises ValueError for an unknown kind
    or language.
    """
    check_choice("language", language, LANGUAGES)
    for kind in kinds:
        check_choice("kinds", kind, KINDS)
    chance, happenings, found = random.Random(seed), _happenings(videos), []
    for kind in kinds:
        wordings = QUESTIONS[language][kind]
        asked = _mood(videos, language) if kind == "mood" else _ASKERS[kind](happenings, language, chance)
        for item, slots, answer in asked:
            phrasing = choose(wordings, held_out, chance)
            found.append(Question(kind, item, wordings[phrasing].format(**slots), answer, phrasing))
    return sorted(balanced_answers(found, seed), key=lambda question: question.item)


def _mood(videos: Videos, language: str) -> Asked:
    for item in (videos.cues == videos.moods[:, None]).all(1).nonzero()[:, 0].tolist():
        yield item, {}, MOOD_NAMES[language][int(videos.moods[item])]


def _direction(happenings: list[list[Happening]], language: str, chance: random.Random) -> Asked:
    """Asked only as long as no thing moves in one direction much more often, as held-out compositions would make it."""
    asked: Counter[tuple[int, int]] = Counter()
    for item, shown in enumerate(happenings):
        for row, event, _, _ in shown:
            if event < APPEAR and asked[row, event] - min(asked[row, other] for other in range(APPEAR)) <= SLACK:
                asked[row, event] += 1
                yield item, fields(language, x=THINGS[row]), DIRECTIONS[language][event]


def _only(asked_event: int, happenings: list[list[Happening]], language: str) -> Asked:
    for item, shown in enumerate(happenings):
        rows = [row for row, event, _, _ in shown if event == asked_event]
        if len(rows) == 1:
            yield item, {}, THINGS[rows[0]].name(language)


def _appears(happenings: list[list[Happening]], language: str, chance: random.Random) -> Asked:
    return _only(APPEAR, happenings, language)


def _vanishes(happenings: list[list[Happening]], language: str, chance: random.Random) -> Asked:
    return _only(VANISH, happenings, language)


def _count(happenings: list[list[Happening]], language: str, chance: random.Random) -> Asked:
    for item, shown in enumerate(happenings):
        yield item, {}, str(sum(event != VANISH for _, event, _, _ in shown))


def _order(happenings: list[list[Happening]], language: str, chance: random.Random) -> Asked:
    for item, shown in enumerate(happenings):
        for pair in itertools.combinations([one for one in shown if one[3] >= 0], 2):
            (x, event_x, _, time_x), (y, event_y, _, time_y) = chance.sample(pair, 2)
            if abs(time_x - time_y) >= APART:
                slots = fields(language, x=THINGS[x], y=THINGS[y]) | {
                    "change_x": CHANGES[language][event_x - APPEAR], "change_y": CHANGES[language][event_y - APPEAR]}
                yield item, slots, YES_NO[language][time_x > time_y]


_ASKERS: dict[str, Callable[[list[list[Happening]], str, random.Random], Asked]] = {
    "direction": _direction, "appears": _appears, "vanishes": _vanishes, "count": _count, "order": _order}
