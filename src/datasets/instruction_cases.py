"""What the tasks of the instructions ask, and the answers, before they are put into words."""

from __future__ import annotations

import functools
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from src.datasets import charts, emoji, reviews, scene_language, scenes, speech
from src.datasets.instruction_wordings import COMMA, FEELINGS, GROUPS, SORTS
from src.datasets.questions import Question
from src.datasets.scene_wordings import CELLS
from src.datasets.splits import split_of
from src.datasets.things import THINGS

SALT = "instructions/1"
MOST = 99
SPARE = 4


@dataclass(frozen=True)
class Case:
    """picture: row of the scenes or charts that were drawn; sound: kind and row of ``speech.load``; slots: for the wording."""

    input: str
    output: str
    slots: tuple[tuple[str, str], ...] = ()
    picture: int | None = None
    sound: tuple[str, int] | None = None


@dataclass(frozen=True)
class Order:
    """count: how many cases of each task are wanted."""

    split: str
    language: str
    count: int
    seed: int
    held_out: bool

    def chance(self, task: str) -> random.Random:
        """The random numbers of one task."""
        return random.Random(f"{self.seed} {self.split} {self.language} {task}")


def sentiment(order: Order) -> Iterator[Case]:
    found = reviews.load(order.split)
    for text, label in zip(found.texts, found.labels.tolist(), strict=True):
        yield Case(text, FEELINGS[order.language][label])


@functools.cache
def _every_concept() -> tuple[emoji.Concept, ...]:
    return emoji.load(["openmoji"]).concepts


def _concepts(split: str) -> list[emoji.Concept]:
    return [concept for concept in _every_concept() if split_of(concept.codepoint, emoji.SALT) == split]


def group(order: Order) -> Iterator[Case]:
    names = GROUPS[order.language]
    options = (("options", COMMA[order.language].join(names.values())),)
    for concept in _concepts(order.split):
        if concept.group in names:
            yield Case(getattr(concept, order.language), names[concept.group], options)


def translate(order: Order) -> Iterator[Case]:
    for concept in _concepts(order.split):
        yield Case(*((concept.en, concept.zh) if order.language == "zh" else (concept.zh, concept.en)))


def tags(order: Order) -> Iterator[Case]:
    """Names from at least two tags that no other emoji has together; a tag that is the name itself is left out."""
    times = Counter(_tag_list(concept, order.language) for concept in _every_concept())
    for concept in _concepts(order.split):
        listed = _tag_list(concept, order.language)
        if times[listed] == 1 and len(listed) > 1:
            yield Case(COMMA[order.language].join(listed), getattr(concept, order.language))


def _tag_list(concept: emoji.Concept, language: str) -> tuple[str, ...]:
    return tuple(tag for tag in getattr(concept, f"{language}_tags") if tag != getattr(concept, language))


def upper(order: Order) -> Iterator[Case]:
    for concept in _concepts(order.split):
        if concept.en != concept.en.upper():
            yield Case(concept.en, concept.en.upper())


def _sorts(order: Order) -> dict[str, list[str]]:
    """The names of each sort of `SORTS` in the split."""
    return {sort: [getattr(c, order.language) for c in _concepts(order.split) if c.subgroup.startswith(start)]
            for start, sort in SORTS[order.language].items()}  # fmt: skip


def odd(order: Order) -> Iterator[Case]:
    """Three names of one sort and one of another; the place of the odd one goes round."""
    chance, names = order.chance("odd"), _sorts(order)
    most = [sort for sort in names if len(names[sort]) >= 3]
    for place in _turns(order, 4):
        sort = chance.choice(most)
        listed = chance.sample(names[sort], 3)
        other = chance.choice(names[chance.choice([name for name in names if name != sort])])
        listed.insert(place, other)
        yield Case(COMMA[order.language].join(listed), other)


def count(order: Order) -> Iterator[Case]:
    """Lists of four names, 0 to 4 of the sort in question."""
    chance, names = order.chance("count"), _sorts(order)
    for number in _turns(order, 5):
        sort = chance.choice([name for name in names if len(names[name]) >= number])
        others = [name for other in names if other != sort for name in names[other]]
        listed = chance.sample(names[sort], number) + chance.sample(others, 4 - number)
        chance.shuffle(listed)
        yield Case(COMMA[order.language].join(listed), str(number), (("kind", sort),))


def reverse(order: Order) -> Iterator[Case]:
    """Lists of three or four names without a comma of their own."""
    chance, comma = order.chance("reverse"), COMMA[order.language]
    names = [name for c in _concepts(order.split) if comma not in (name := getattr(c, order.language))]
    for _ in _turns(order, 1):
        listed = chance.sample(names, chance.randint(3, 4))
        yield Case(comma.join(listed), comma.join(listed[::-1]))


def _numbers(task: str, answer: Callable[[list[int]], Sequence[int]]) -> Callable[[Order], Iterator[Case]]:
    """Three to five different numbers from 0 to `MOST`; a hash of the numbers, whatever their order, decides the split."""

    def cases(order: Order) -> Iterator[Case]:
        chance, comma = order.chance(task), COMMA[order.language]
        while True:
            listed = chance.sample(range(MOST + 1), chance.randint(3, 5))
            if split_of(" ".join(map(str, sorted(listed))), SALT) == order.split:
                yield Case(comma.join(map(str, listed)), comma.join(map(str, answer(listed))))

    return lambda order: itertools.islice(cases(order), SPARE * order.count)


def _turns(order: Order, choices: int) -> Iterator[int]:
    """0 … choices − 1 again and again, more often than cases are wanted."""
    return (turn % choices for turn in range(SPARE * (order.count + choices)))


TEXT: dict[str, Callable[[Order], Iterator[Case]]] = {
    "sentiment": sentiment, "group": group, "translate": translate, "tags": tags, "odd": odd, "count": count,
    "sort": _numbers("sort", sorted), "largest": _numbers("largest", lambda listed: [max(listed)]),
    "smallest": _numbers("smallest", lambda listed: [min(listed)]), "reverse": reverse, "upper": upper,
}  # fmt: skip


def spoken(task: str, order: Order) -> list[Case]:
    """What a voice of the split says: a digit as a figure, a command or thing as a word."""
    kind = task.removeprefix("spoken_")
    said = speech.load(kind, order.language, order.split)
    outputs = map(str, said.labels.tolist()) if kind == "digit" else said.words
    return [Case("", output, sound=(kind, row)) for row, output in enumerate(outputs)]


def about_scenes(tasks: Sequence[str], drawn: scenes.Scenes, order: Order) -> dict[str, list[Case]]:
    """Cases of each task, which is a caption, a kind of question, or the place of what a voice names."""
    kinds = [task.removeprefix("scene_") for task in tasks if task not in ("scene_caption", "spoken_where")]
    found = _by_task("scene", tasks, scene_language.questions(drawn, kinds, order.language, order.held_out, order.seed))
    if "scene_caption" in tasks:
        texts = scene_language.captions(drawn, order.language, order.held_out, order.seed)
        found["scene_caption"] = [Case("", text, picture=row) for row, text in enumerate(texts)]
    if "spoken_where" in tasks:
        found["spoken_where"] = _spoken_where(drawn, order)
    return found


def _spoken_where(drawn: scenes.Scenes, order: Order) -> list[Case]:
    """The cell of a thing that is there once, named by a voice of the split."""
    chance = order.chance("spoken_where")
    said = speech.load("thing", order.language, order.split)
    rows = {thing.name(order.language): row for row, thing in enumerate(THINGS)}
    voices: dict[int, list[int]] = {}
    for place, word in enumerate(said.words):
        voices.setdefault(rows[word], []).append(place)
    shown = zip(drawn.things.tolist(), drawn.cells.tolist(), strict=True)
    return [Case("", CELLS[order.language][cell], picture=item, sound=("thing", chance.choice(voices[row])))
            for item, (things, cells) in enumerate(shown) for row, cell in zip(things, cells, strict=True)
            if row >= 0 and things.count(row) == 1]  # fmt: skip


def about_charts(tasks: Sequence[str], tables: Sequence[charts.Table], order: Order) -> dict[str, list[Case]]:
    """Cases of each task, which is a kind of question."""
    return _by_task("chart", tasks, charts.ask(tables, order.seed, order.held_out))


def _by_task(source: str, tasks: Sequence[str], asked: Sequence[Question]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {task: [] for task in tasks}
    for question in asked:
        if (task := f"{source}_{question.kind}") in found:
            found[task].append(Case(question.text, question.answer, picture=question.item))
    return found
