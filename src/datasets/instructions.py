"""Instructions with their answers, built from the other data sets: texts, pictures, charts, voices, a voice about a picture.

Answers follow from the sources' annotations. What a split holds is decided by the sources' own splits: reviews by
review, emoji by concept, scenes by composition, charts by table, voices by voice; lists of numbers by a hash.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor

from src.datasets import charts, scenes, speech
from src.datasets.instruction_cases import TEXT, Case, Order, about_charts, about_scenes, spoken
from src.datasets.instruction_wordings import SEEN, WORDINGS
from src.datasets.questions import LANGUAGES
from src.datasets.splits import SPLITS
from src.runtime import atomic_write, check_choice

TEXT_TASKS = ("sentiment", "group", "translate", "tags", "odd", "count", "sort", "largest", "upper")
SCENE_TASKS = ("scene_caption", "scene_what", "scene_where", "scene_count", "scene_exists", "scene_relation")
CHART_TASKS = ("chart_value", "chart_largest", "chart_compare", "chart_trend", "chart_count", "chart_type")
SOUND_TASKS = ("spoken_digit", "spoken_command", "spoken_thing", "spoken_where")
TASKS = TEXT_TASKS + SCENE_TASKS + CHART_TASKS + SOUND_TASKS
HELD_OUT_TASKS = ("smallest", "reverse", "scene_compare", "chart_smallest")
"""Tasks that training never sees; each has a relative in `TASKS`."""
OPEN_TASKS = ("translate", "tags", "odd", "sort", "largest", "smallest", "reverse", "upper", "scene_caption")
"""Tasks with about as many answers as inputs; the answers of the others are equally frequent."""
FEWEST, MOST = 400, 51_200


@dataclass(frozen=True)
class Instruction:
    """One task put into words.

    input may be empty; phrasing: row of the task's wordings; picture: row of `Instructions.scenes`, or of ``charts`` when
    the task is about a chart; sound: row of `Instructions.waves`.
    """

    task: str
    instruction: str
    input: str
    output: str
    phrasing: int
    language: str
    picture: int | None = None
    sound: int | None = None


@dataclass(frozen=True)
class Instructions:
    """items: the instructions; scenes, charts, waves: what they are about, waves float32 ``[T_i]`` at ``speech.RATE``."""

    items: tuple[Instruction, ...]
    scenes: scenes.Scenes | None
    charts: charts.Charts | None
    waves: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.items)

    def image(self, item: Instruction) -> Tensor | None:
        """The item's picture, uint8 ``[3, H, W]``, or None."""
        source = self.charts if item.task.startswith("chart") else self.scenes
        return None if item.picture is None else source.images[item.picture]

    def wave(self, item: Instruction) -> Tensor | None:
        """The item's sound, float32 ``[T]`` at ``speech.RATE``, or None."""
        return None if item.sound is None else self.waves[item.sound]


def build(split: str, count: int, tasks: Sequence[str] = TASKS, language: str = "en", seed: int = 0,
          held_out: bool = False) -> Instructions:  # fmt: skip
    """``count`` different instructions, the tasks in turn, so that each is equally frequent (to within one).

    The answers of every task but `OPEN_TASKS` are equally frequent, too. The same arguments give the same instructions.

    Args:
        split: one of SPLITS; for ``"train"`` no task of `HELD_OUT_TASKS` is built.
        tasks: some of `TASKS` and `HELD_OUT_TASKS`.
        language: of instructions and answers (reviews are Chinese always).
        held_out: word instructions, questions and captions as training never words them.

    Raises:
        ValueError: an argument that is none of these, or more instructions than the split has cases of a task.
    """
    check_choice("split", split, SPLITS)
    check_choice("language", language, LANGUAGES)
    _check_tasks(split, tasks)
    if count < len(tasks):
        raise ValueError(f"count must be at least the number of tasks, {len(tasks)}, got {count}.")
    order = Order(split, language, -(-count // len(tasks)), seed, held_out)
    pools = {task: TEXT[task](order) for task in tasks if task in TEXT}
    pools |= {task: spoken(task, order) for task in tasks if task.startswith("spoken") and task != "spoken_where"}
    drawn, found = _pictured(
        [task for task in tasks if task.startswith("scene") or task == "spoken_where"], about_scenes,
        lambda number: scenes.draw(split, number, seed), order)
    tables, read = _pictured(
        [task for task in tasks if task.startswith("chart")], about_charts,
        lambda number: charts.make_tables(split, number, seed, language), order)
    pools |= found | read
    chosen = {task: _evenly(task, pools[task], order) for task in tasks}
    turns = [(task, chosen[task][turn]) for turn in range(order.count) for task in tasks][:count]
    return _collected(turns, drawn, tables, order)


def _check_tasks(split: str, tasks: Sequence[str]) -> None:
    for task in tasks:
        check_choice("tasks", task, TASKS + HELD_OUT_TASKS)
    if not tasks or len(set(tasks)) < len(tasks):
        raise ValueError(f"tasks must be one or more different tasks, got {', '.join(tasks) or 'none'}.")
    if split == "train" and (kept := [task for task in tasks if task in HELD_OUT_TASKS]):
        raise ValueError(f"tasks {', '.join(kept)} are held out of training; build them from validation or test.")


def _pictured(tasks: list[str], ask: Callable, make: Callable, order: Order) -> tuple:
    """(pictures or tables, cases of each task), as many as it takes until there are enough cases."""
    if not tasks:
        return None, {}
    number = max(FEWEST, order.count)
    while True:
        made = make(number)
        pools = ask(tasks, made, order)
        if number >= MOST or all(len(_balanced(task, pools[task], order)) >= order.count for task in tasks):
            return made, pools
        number *= 2


def _evenly(task: str, pool: Iterable[Case], order: Order) -> list[Case]:
    """``order.count`` cases with balanced answers; ValueError when there are not so many."""
    found = _balanced(task, pool, order)
    if len(found) < order.count:
        raise ValueError(f"count asks for {order.count} instructions of the task {task!r}, but the {order.split} split "
                         f"has {len(found)} with balanced answers; ask for fewer, or leave the task out.")
    return found[:order.count]


def _balanced(task: str, pool: Iterable[Case], order: Order) -> list[Case]:
    """Different cases in random order, the answers in turn, until one answer (for open tasks: the last) runs out."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in dict.fromkeys(pool):
        groups[case.output].append(case)
    chance = order.chance(f"{task} choice")
    queues = [chance.sample(group, len(group)) for group in chance.sample(list(groups.values()), len(groups))]
    rounds = (max if task in OPEN_TASKS else min)(map(len, queues), default=0)
    return [queue[turn] for turn in range(rounds) for queue in queues if turn < len(queue)]


def _collected(turns: list[tuple[str, Case]], drawn: scenes.Scenes | None, tables: Sequence[charts.Table] | None,
               order: Order) -> Instructions:  # fmt: skip
    """The worded instructions, and of pictures and sounds only those that they are about."""
    chance = order.chance("wording")
    rows = {name: _numbered(case.picture for task, case in turns if task.startswith("chart") == (name == "charts"))
            for name in ("charts", "scenes")}  # fmt: skip
    sounds = _numbered(case.sound for _, case in turns)
    items = []
    for task, case in turns:
        wordings = WORDINGS[order.language][wording_of(task)]
        phrasing = chance.randrange(SEEN, len(wordings)) if order.held_out else chance.randrange(SEEN)
        pictures = rows["charts" if task.startswith("chart") else "scenes"]
        items.append(Instruction(task, wordings[phrasing].format(**dict(case.slots)), case.input, case.output, phrasing,
                                 order.language, pictures.get(case.picture), sounds.get(case.sound)))
    said = {kind: speech.load(kind, order.language, order.split).waves for kind in {kind for kind, _ in sounds}}
    return Instructions(tuple(items), _kept_scenes(drawn, list(rows["scenes"])), _kept_charts(tables, list(rows["charts"])),
                        tuple(said[kind][row] for kind, row in sounds))  # fmt: skip


def wording_of(task: str) -> str:
    """The key of a task's list in WORDINGS: questions about scenes share one, questions about charts another."""
    return task if task in WORDINGS["en"] else task.split("_")[0]


def _numbered(found: Iterable) -> dict:
    """0, 1, … for the different things found, in order of appearance; None has no number."""
    return {thing: number for number, thing in enumerate(dict.fromkeys(thing for thing in found if thing is not None))}


def _kept_scenes(drawn: scenes.Scenes | None, rows: list[int]) -> scenes.Scenes | None:
    return scenes.Scenes(**{name: part[rows] for name, part in vars(drawn).items()}) if rows else None


def _kept_charts(tables: Sequence[charts.Table] | None, rows: list[int]) -> charts.Charts | None:
    kept = tuple(tables[row] for row in rows)
    return charts.Charts(charts.render(kept), kept) if rows else None


def write(path: str | PathLike[str], items: Iterable[Instruction]) -> None:
    """Write JSON Lines in the Alpaca form, one object a line with at least instruction, input and output."""
    lines = [json.dumps(dataclasses.asdict(item), ensure_ascii=False) for item in items]
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read(path: str | PathLike[str]) -> list[dict[str, str]]:
    """The instruction, input and output of each line of a JSON Lines file; empty lines and other keys are skipped.

    Raises ValueError, naming the line, for one that is no JSON object, lacks instruction or output, or has one that is
    no text or empty; input may be missing or empty.
    """
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    return [_record(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _record(line: str, where: str) -> dict[str, str]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error}); write one object in one line.") from error
    if not isinstance(record, dict):
        raise ValueError(f"{where} is a {type(record).__name__}, expected an object with instruction, input and output.")
    found = {key: record.get(key, "") for key in ("instruction", "input", "output")}
    for key, value in found.items():
        if not isinstance(value, str) or (key != "input" and not value.strip()):
            raise ValueError(f"{where}: {key} must be a text{'' if key == 'input' else ' that is not empty'}, got {value!r}.")
    return found
