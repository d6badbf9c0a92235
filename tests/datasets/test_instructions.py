"""The instructions: every answer against its source, balance, what is held out, the same again, and JSON Lines."""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable

import pytest
import torch

from src.datasets import charts, emoji, instructions, reviews, scene_wordings, speech
from src.datasets.instruction_wordings import GROUPS, SEEN, SORTS, WORDINGS
from src.datasets.instructions import HELD_OUT_TASKS, OPEN_TASKS, TASKS, build
from src.datasets.questions import LANGUAGES, Question
from src.datasets.splits import SPLITS
from src.datasets.things import THINGS
from tests.datasets.blind import assert_blind

EVERY = TASKS + HELD_OUT_TASKS
CONCEPTS = emoji.load(["openmoji"]).concepts
SIDES = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1),
         "左边": (-1, 0), "右边": (1, 0), "上边": (0, -1), "下边": (0, 1)}  # fmt: skip


@pytest.fixture(scope="module", params=[("train", "en", False), ("test", "zh", True), ("validation", "en", True)],
                ids=lambda given: f"{given[0]} {given[1]}")  # fmt: skip
def built(request) -> tuple[instructions.Instructions, str]:
    split, language, held_out = request.param
    tasks = TASKS if split == "train" else EVERY
    return build(split, 12 * len(tasks), tasks, language, seed=3, held_out=held_out), split


def items(found: instructions.Instructions, task: str) -> list[instructions.Instruction]:
    return [item for item in found.items if item.task == task]


def parsed(wordings: tuple[str, ...], text: str, words: Iterable[str] = ()) -> tuple[int, dict[str, str]]:
    """(row, slots) of the wording that a text follows; its slots hold some of ``words``, or anything when there are none."""
    slot = "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or ".+"
    for row, wording in enumerate(wordings):
        pattern = re.sub(r"\\{(\w+)\\}", rf"(?P<\1>{slot})", re.escape(wording))
        if match := re.fullmatch(pattern, text):
            return row, match.groupdict()
    raise AssertionError(f"no wording of {text!r}")


SCENE_WORDS = {language: {*scene_wordings.CELLS[language], *(word for t in THINGS for word in (
    (t.zh, t.measure) if language == "zh" else (t.en, t.a, t.plural)))} for language in LANGUAGES}  # fmt: skip


def chart_words(table: charts.Table) -> list[str]:
    return [table.label(row, column) for row in range(len(table.values)) for column in range(len(table.names))]


def thing(slots: dict[str, str], key: str) -> int:
    """The row of THINGS that a question calls by name, name with article, or plural."""
    said = next(slots[name] for name in (key, f"a_{key}", f"{key}_s") if name in slots)
    return next(row for row, t in enumerate(THINGS) if said in (t.zh, t.en, t.a, t.plural))


def test_the_tasks_and_their_wordings():
    assert len(EVERY) == len(set(EVERY)) >= 8 and set(OPEN_TASKS) < set(EVERY)
    for language in LANGUAGES:
        assert set(WORDINGS[language]) == {instructions.wording_of(task) for task in EVERY}
        for wordings in WORDINGS[language].values():
            assert len(set(wordings)) == len(wordings) == 7 and SEEN == 5


def test_tasks_take_turns_and_no_case_comes_twice(built):
    found, split = built
    tasks = list(dict.fromkeys(item.task for item in found.items))
    assert tasks == list(TASKS if split == "train" else EVERY)
    assert [item.task for item in found.items] == tasks * 12
    assert len({(i.task, i.input, i.output, i.picture, i.sound) for i in found.items}) == len(found)


def test_phrasings_are_the_seen_or_the_held_out_ones(built):
    found, split = built
    for item in found.items:
        wordings = WORDINGS[item.language][instructions.wording_of(item.task)]
        assert (item.phrasing < SEEN) == (split == "train")
        assert parsed((wordings[item.phrasing],), item.instruction)[0] == 0
        if re.match("(scene|chart)_(?!caption)", item.task):
            source, kind = item.task.split("_")
            asked = (scene_wordings.QUESTIONS if source == "scene" else charts.PHRASINGS)[item.language][kind]
            words = SCENE_WORDS[item.language] if source == "scene" else chart_words(found.charts.tables[item.picture])
            assert (parsed(asked, item.input, words)[0] >= len(asked) - 2) == (split != "train")


def test_text_answers(built):
    found, split = built
    label = dict(zip(reviews.load(split).texts, reviews.load(split).labels.tolist(), strict=True))
    for item in found.items:
        language, comma = item.language, "、" if item.language == "zh" else ", "
        name = {getattr(c, language): c for c in CONCEPTS}
        listed = item.input.split(comma)
        match item.task:
            case "sentiment":
                assert (item.output in ("positive", "正面")) == label[item.input]
            case "group":
                assert item.output == GROUPS[language][name[item.input].group] and item.output in item.instruction
            case "translate":
                assert any({item.input, item.output} == {c.zh, c.en} for c in CONCEPTS)
            case "tags":
                assert set(listed) <= set(getattr(name[item.output], f"{language}_tags"))
            case "odd":
                kinds = [next(s for s in SORTS[language] if name[n].subgroup.startswith(s)) for n in listed]
                assert kinds.count(kinds[listed.index(item.output)]) == 1 and sorted(Counter(kinds).values()) == [1, 3]
            case "count":
                start = next(s for s, kind in SORTS[language].items() if kind in item.instruction)
                assert item.output == str(sum(name[n].subgroup.startswith(start) for n in listed))
            case "sort" | "largest" | "smallest":
                ordered = sorted(map(int, listed))
                answer = {"sort": ordered, "largest": ordered[-1:], "smallest": ordered[:1]}[item.task]
                assert [int(number) for number in item.output.split(comma)] == answer
            case "reverse":
                assert item.output.split(comma)[::-1] == listed and len(listed) > 2
            case "upper":
                assert item.output == item.input.upper() != item.input


def test_scene_answers(built):
    found, _ = built
    for item in found.items:
        if item.picture is None or item.task.startswith("chart"):
            continue
        language, shown = item.language, found.scenes
        assert torch.equal(found.image(item), shown.images[item.picture])
        rows, cells = shown.things[item.picture].tolist(), shown.cells[item.picture].tolist()
        names = scene_wordings.CELLS[language]
        if item.task == "scene_caption":
            low = item.output.lower()
            assert all(THINGS[row].name(language) in low and names[cell] in low
                       for row, cell in zip(rows, cells, strict=True) if row >= 0)  # fmt: skip
        elif item.task == "spoken_where":
            said = said_by(found, item, "thing")
            row = next(row for row, t in enumerate(THINGS) if t.name(language) == said)
            assert rows.count(row) == 1 and names[cells[rows.index(row)]] == item.output
        else:
            kind = item.task.removeprefix("scene_")
            slots = parsed(scene_wordings.QUESTIONS[language][kind], item.input, SCENE_WORDS[language])[1]
            assert scene_answer(kind, slots, rows, cells, shown, item) == item.output, item


def scene_answer(kind, slots, rows, cells, shown, item) -> str:
    language = item.language
    if kind == "what":
        return THINGS[rows[cells.index(scene_wordings.CELLS[language].index(slots["cell"]))]].name(language)
    row = thing(slots, "x")
    if kind == "where":
        return scene_wordings.CELLS[language][cells[rows.index(row)]]
    if kind == "count":
        return str(rows.count(row))
    if kind == "exists":
        return scene_wordings.YES_NO[language][row not in rows]
    first, second = rows.index(row), rows.index(thing(slots, "y"))
    if kind == "compare":
        large = shown.large[item.picture].int()
        return scene_wordings.COMPARED[language][1 + int(large[first] - large[second])]
    centres = shown.boxes[item.picture].view(4, 2, 2).mean(1)
    way = (centres[first] - centres[second]).tolist()
    return max((side for side in scene_wordings.RELATIONS[language]),
               key=lambda side: sum(a * b for a, b in zip(SIDES[side], way, strict=True)))  # fmt: skip


def test_chart_answers(built):
    found, _ = built
    for item in found.items:
        if not item.task.startswith("chart"):
            continue
        table, kind = found.charts.tables[item.picture], item.task.removeprefix("chart_")
        assert torch.equal(found.image(item), found.charts.images[item.picture])
        values = dict(zip(chart_words(table), itertools.chain(*table.values), strict=True))
        slots = parsed(charts.PHRASINGS[item.language][kind], item.input, chart_words(table))[1]
        words = charts.ANSWERS[item.language]
        match kind:
            case "value":
                answer = str(values[slots["x"]])
            case "largest" | "smallest":
                answer = (max if kind == "largest" else min)(values, key=values.__getitem__)
            case "compare":
                answer = words[values[slots["x"]] > values[slots["y"]]]
            case "trend":
                answer = words["rise" if values[slots["y"]] > values[slots["x"]] else "fall"]
            case "count":
                answer = str(len(table.names))
            case "type":
                answer = words[table.kind]
        assert item.output == answer, item


def said_by(found: instructions.Instructions, item: instructions.Instruction, kind: str) -> str:
    """The word of the recording that an item plays, found by its samples."""
    said = speech.load(kind, item.language)
    return next(word for wave, word in zip(said.waves, said.words, strict=True) if torch.equal(wave, found.wave(item)))


def test_spoken_answers(built):
    found, _ = built
    for kind in ("digit", "command", "thing"):
        for item in items(found, f"spoken_{kind}"):
            word, vocabulary = said_by(found, item, kind), speech.vocabulary(kind)
            row = next(row for row, entry in enumerate(vocabulary) if word in (entry.zh, entry.en))
            assert item.output == (str(row) if kind == "digit" else word) and item.picture is None and not item.input


def test_answers_are_equally_frequent(built):
    for task in {item.task for item in built[0].items} - set(OPEN_TASKS):
        times = Counter(item.output for item in items(built[0], task))
        assert max(times.values()) - min(times.values()) <= 1, (task, times)
    places = Counter(item.input.replace("、", ", ").split(", ").index(item.output) for item in items(built[0], "odd"))
    assert len(places) == 4


def test_pictures_and_sounds_are_those_that_are_asked_about(built):
    found, _ = built
    for source, starts in ((found.scenes, ("scene", "spoken")), (found.charts, ("chart",))):
        rows = {item.picture for item in found.items if item.task.startswith(starts)} - {None}
        assert rows == set(range(len(source)))
    assert {item.sound for item in found.items} - {None} == set(range(len(found.waves)))
    text = items(found, "sort")[0]
    assert found.image(text) is None and found.wave(text) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_splits_share_no_text_and_no_voice(language):
    tasks = ("sentiment", "group", "sort", "largest", "upper", "spoken_digit")
    found = {split: build(split, 20 * len(tasks), tasks, language) for split in SPLITS}
    texts = [{item.input for item in found[split].items} - {""} for split in SPLITS]
    waves = [{wave.numpy().tobytes() for wave in found[split].waves} for split in SPLITS]
    for sets in (texts, waves):
        assert sum(map(len, sets)) == len(set.union(*sets)) and all(sets)


def test_no_list_of_numbers_comes_in_another_order_in_another_split():
    found = [{frozenset(item.input.split(", ")) for item in build(split, 1500, ["sort"]).items} for split in SPLITS]
    assert sum(map(len, found)) == len(set.union(*found))


def test_unseen_emoji_are_those_of_the_emoji_set():
    unseen = {CONCEPTS[row].en for row in emoji.split_concepts(CONCEPTS)[1].tolist()}
    names = {split: {item.input for item in build(split, 60, ["group", "upper"]).items} for split in SPLITS}
    assert names["test"] <= unseen and not (names["train"] | names["validation"]) & unseen


def test_one_who_reads_but_never_looks_is_at_chance(monkeypatch):
    monkeypatch.setattr(charts, "render", lambda tables: torch.zeros(len(tables), 3, 2, 2, dtype=torch.uint8))
    tasks = ("scene_exists", "chart_compare")
    train, test = (
        [Question(item.task, item.picture, f"{item.instruction} {item.input}", item.output, item.phrasing)
         for item in build(split, 1800 * len(tasks), tasks).items] for split in ("train", "test"))  # fmt: skip
    assert_blind(train, test)


def test_the_same_again():
    tasks = ("scene_what", "chart_value", "spoken_digit")
    first, second = (build("test", 30, tasks, seed=5) for _ in range(2))
    assert first.items == second.items and torch.equal(first.scenes.images, second.scenes.images)
    assert torch.equal(first.charts.images, second.charts.images)
    assert build("test", 30, tasks, seed=6).items != first.items
    texts = repr([build("train", 90, instructions.TEXT_TASKS, language).items for language in LANGUAGES])
    assert hashlib.sha256(texts.encode()).hexdigest()[:8] == "ddff0242"


@pytest.mark.parametrize("language, comma", [("zh", "、"), ("en", ", ")])
def test_lists_to_reverse_have_no_other_commas(language, comma):
    """Such as in "family: woman, girl, boy": who sees the list cannot tell where its names end."""
    for item in build("test", 150, ["reverse"], language).items:
        listed = item.input.split(comma)
        assert len(listed) in (3, 4) and item.output == comma.join(listed[::-1])


@pytest.mark.parametrize("arguments, message", [
    (("dev", 100), "split must be one of train, validation, test, got 'dev'"),
    (("train", 100, ["sort", "chat"]), "tasks must be one of sentiment, .*, got 'chat'"),
    (("train", 100, []), "tasks must be one or more different tasks, got none"),
    (("train", 100, ["sort", "sort"]), "tasks must be one or more different tasks, got sort, sort"),
    (("train", 100, ["sort", "reverse"]), "tasks reverse are held out of training; build them from validation or test"),
    (("train", 100, ["sort"], "fr"), "language must be one of zh, en, got 'fr'"),
    (("train", 1, ["sort", "upper"]), "count must be at least the number of tasks, 2, got 1"),
    (("test", 2000, ["sort", "sentiment"]),
     "count asks for 1000 instructions of the task 'sentiment', but the test split has 890 with balanced answers"),
    (("test", 60, ["group"]), "count asks for 60 instructions of the task 'group', but the test split has 48 with balanced"),
])  # fmt: skip
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(*arguments)


def test_json_lines(tmp_path, built):
    path = tmp_path / "instructions.jsonl"
    instructions.write(path, built[0].items)
    found = instructions.read(path)
    assert found == [{"instruction": i.instruction, "input": i.input, "output": i.output} for i in built[0].items]
    path.write_text('\n{"instruction": "Say A.", "output": "A", "text": "…"}\n')
    assert instructions.read(path) == [{"instruction": "Say A.", "input": "", "output": "A"}]


@pytest.mark.parametrize("line, message", [
    ('{"instruction": "a", "output": "b"', "line 2 is not JSON"),
    ("[1]", "line 2 is a list, expected an object with instruction, input and output"),
    ('{"instruction": "a"}', "line 2: output must be a text that is not empty, got ''"),
    ('{"instruction": " ", "output": "b"}', "line 2: instruction must be a text that is not empty, got ' '"),
    ('{"instruction": "a", "input": null, "output": "b"}', "line 2: input must be a text, got None"),
])  # fmt: skip
def test_bad_json_lines(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(f'{{"instruction": "a", "output": "b"}}\n{line}\n')
    with pytest.raises(ValueError, match=f"bad.jsonl, {message}"):
        instructions.read(path)
