"""Scenes: the same every time, exact annotations, held-out compositions and wordings, answers not guessable."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

import pytest
import torch

from src.datasets import emoji, scenes
from src.datasets.compositions import cell_splits, compositions, pair_splits
from src.datasets.phrasings import SEEN
from src.datasets.scene_language import KINDS, captions, questions
from src.datasets.scene_wordings import CAPTIONS, CELLS, QUESTIONS, vocabulary
from src.datasets.scenes import LAYOUTS, Scenes
from src.datasets.splits import SPLITS
from src.datasets.things import CATEGORIES, THINGS, drawings
from tests.datasets.blind import assert_blind

NAMES = {language: {thing.name(language): row for row, thing in enumerate(THINGS)} for language in ("zh", "en")}


@pytest.fixture(scope="module")
def drawn() -> dict[tuple[str, str], Scenes]:
    counts = {"train": 4500, "validation": 400, "test": 4500}
    return {(split, layout): scenes.draw(split, counts[split], layout=layout) for split in SPLITS for layout in LAYOUTS}


def first(found: Scenes, count: int) -> Scenes:
    return Scenes(*(part[:count] for part in vars(found).values()))


def test_forty_things_with_names():
    concepts = {concept.codepoint: concept for concept in emoji.load().concepts}
    assert len(THINGS) == 40 and {thing.category for thing in THINGS} == set(CATEGORIES)
    for part in zip(*THINGS, strict=True):
        assert all(part)
    for names in ("codepoint", "zh", "en", "plural"):
        assert len({getattr(thing, names) for thing in THINGS}) == 40
    assert {thing.a for thing in THINGS} >= {"an apple", "an umbrella", "a cat"}
    for thing in THINGS:
        assert thing.codepoint in concepts and "大" not in thing.zh and "小" not in thing.zh


def test_drawings_fill_their_square():
    for width in scenes.widths(64):
        found = drawings(width)
        assert found.patches.shape == (3, 40, 4, width, width)
        sides = found.boxes[..., 2:] - found.boxes[..., :2]
        assert sides.amax(-1).min() >= width - 2 and sides.min() >= 3
        assert (found.patches[:, :, :3] <= found.patches[:, :, 3:] + 1e-6).all()


def test_shapes_and_ranges(drawn):
    for (_, layout), found in drawn.items():
        count = len(found)
        assert found.images.shape == (count, 3, 64, 64) and found.images.dtype == torch.uint8 and found.size == 64
        here = found.things >= 0
        assert torch.equal(here, found.cells >= 0) and torch.equal(here, (found.boxes >= 0).all(-1))
        assert not (found.large & ~here).any() and set(here.sum(1).tolist()) == {1, 2, 3, 4}
        assert set(found.styles.tolist()) == {0, 1, 2} and found.boxes.max() <= 64
        if layout == "grid":
            assert all(len(set(row)) == len(row) for row in ([c for c in r if c >= 0] for r in found.cells.tolist()))


def test_sizes_are_clearly_different(drawn):
    for found in drawn.values():
        longer = (found.boxes[..., 2:] - found.boxes[..., :2]).amax(-1)
        small, large = (found.things >= 0) & ~found.large, found.large
        assert longer[small].min() >= 11 and longer[small].max() <= 13
        assert longer[large].min() >= 18 and longer[large].max() <= 20


def test_boxes_lie_in_their_cells_on_the_grid_and_do_not_hide_each_other_when_free(drawn):
    for split in SPLITS:
        found = drawn[split, "grid"]
        here = found.cells >= 0
        column, row = (found.cells % 3)[here], (found.cells // 3)[here]
        x0, y0, x1, y1 = found.boxes[here].unbind(-1)
        assert (x0 >= column * 64 / 3 - 1e-3).all() and (x1 <= (column + 1) * 64 / 3 + 1e-3).all()
        assert (y0 >= row * 64 / 3 - 1e-3).all() and (y1 <= (row + 1) * 64 / 3 + 1e-3).all()
        free = drawn[split, "free"].boxes
        corner = torch.minimum(free[:, :, None, 2:], free[:, None, :, 2:])
        overlap = (corner - torch.maximum(free[:, :, None, :2], free[:, None, :, :2])).clamp(min=0).prod(-1)
        area = (free[..., 2:] - free[..., :2]).clamp(min=1).prod(-1)
        share = overlap / torch.minimum(area[:, :, None], area[:, None])
        share[:, torch.arange(4), torch.arange(4)] = 0
        assert share.max() < 0.5 and (share.flatten(1).amax(1) > 0.2).float().mean() < 0.02


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boxes_agree_with_the_pixels(layout):
    """Without one thing the picture differs inside its box only, and right up to each of the box's sides."""
    random = torch.Generator().manual_seed(5)
    places = scenes.place(random, "train", 64, layout, torch.arange(3))
    boxes, before = scenes._boxes(places, 64), scenes.paint(torch.Generator().manual_seed(9), places, 64)
    last = (places.things >= 0).sum(1) - 1
    things = places.things.clone().scatter_(1, last[:, None], -1)
    without = scenes.Places(things, places.large, places.left, places.top, places.styles)
    differs = (before != scenes.paint(torch.Generator().manual_seed(9), without, 64)).any(1)
    assert differs.flatten(1).any(1).all()
    slack = []
    for picture, box in zip(differs, boxes[torch.arange(len(last)), last].long().tolist(), strict=True):
        rows, columns = picture.any(1).nonzero(), picture.any(0).nonzero()
        tight = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        assert tight[0] >= box[0] and tight[1] >= box[1] and tight[2] <= box[2] and tight[3] <= box[3]
        slack += [abs(a - b) for a, b in zip(tight, box, strict=True)]
    assert sum(slack) / len(slack) < 0.5


def digest(found: Scenes) -> str:
    parts = (found.things, found.large, found.cells, found.styles)
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:8]


def test_the_same_every_time_with_any_number_of_threads(drawn):
    threads, before = torch.get_num_threads(), drawn["train", "free"]
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            again = scenes.draw("train", 450, layout="free")
            for name in ("images", "things", "boxes", "large", "cells", "styles"):
                assert torch.equal(getattr(again, name), getattr(before, name)[:450]), name
    finally:
        torch.set_num_threads(threads)
    assert digest(scenes.draw("train", 1000)) == "c4f375c9"
    assert digest(scenes.draw("test", 200, 1, 96, "free")) == "323a2922"


def test_seeds_and_splits_give_different_pictures():
    one, other, split = scenes.draw("train", 50), scenes.draw("train", 50, seed=1), scenes.draw("test", 50)
    assert not (one.images == other.images).flatten(1).all(1).any()
    assert not (one.images == split.images).flatten(1).all(1).any()


def test_one_style_only():
    found = scenes.draw("train", 30, styles=["openmoji"])
    assert set(found.styles.tolist()) == {emoji.STYLES.index("openmoji")}


def test_compositions_are_split_for_good():
    pairs, cells = pair_splits(), cell_splits()
    assert torch.equal(pairs, pairs.T) and (pairs.diag() == -1).all()
    sizes = [(int((pairs == split).sum()) // 2, int((cells == split).sum())) for split in range(3)]
    assert sizes == [(551, 301), (126, 19), (103, 40)]
    assert all((pairs == s).any(1).all() for s in range(3)) and ((cells == 0).sum(1) >= 7).all()


def test_training_holds_no_held_out_composition_and_every_thing_cell_and_size(drawn):
    for layout in LAYOUTS:
        found = drawn["train", layout]
        pairs, places = compositions(found.things, found.cells)
        assert all(pair_splits()[pair] == 0 for pair in pairs) and all(cell_splits()[place] == 0 for place in places)
        assert len(pairs) > 540 and len(places) == 301
        here = found.things >= 0
        assert {(int(t), bool(b)) for t, b in zip(found.things[here], found.large[here], strict=True)} == {
            (thing, large) for thing in range(40) for large in (False, True)}
        assert {max(Counter(t for t in row if t >= 0).values()) for row in found.things.tolist()} == {1, 2, 3, 4}


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_held_out_scene_shows_what_training_never_shows(drawn, split, layout):
    found, own, other = drawn[split, layout], SPLITS.index(split), {1: 2, 2: 1}[SPLITS.index(split)]
    for things, cells in zip(found.things.tolist(), found.cells.tolist(), strict=True):
        kinds = sorted({thing for thing in things if thing >= 0})
        splits = {(a, b): int(pair_splits()[a, b]) for a in kinds for b in kinds if a != b}
        at = [int(cell_splits()[t, c]) for t, c in zip(things, cells, strict=True) if t >= 0]
        assert other not in splits.values() and other not in at
        if len(kinds) == 1:
            assert at[0] == own
        else:
            assert all(own in {splits[a, b] for b in kinds if b != a} for a in kinds)


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("held_out", [False, True])
def test_captions_name_everything_and_nothing_else(drawn, language, held_out):
    found = drawn["test", "free"]
    texts = captions(found, language, held_out)[:500]
    thing = "|".join(sorted(NAMES[language], key=len, reverse=True))
    cell = "|".join(sorted(CELLS[language], key=len, reverse=True))
    size = "[大小]" if language == "zh" else "large|small"
    for item, text in enumerate(texts):
        patterns = (f"(?:{size}) ?({thing})(?![a-z])", cell, f"({size}) ?(?:{thing})")
        told = [(NAMES[language][name], CELLS[language].index(where), big in ("大", "large"))
                for name, where, big in zip(*(re.findall(pattern, text) for pattern in patterns), strict=True)]
        here = found.things[item] >= 0
        shown = zip(*(part[item][here].tolist() for part in (found.things, found.cells, found.large)), strict=True)
        assert told == list(shown), text
        assert text[-1] in "。." and text[0] == text[0].upper() and "{" not in text


def test_held_out_wordings_are_others(drawn):
    for language in ("zh", "en"):
        for wordings in (CAPTIONS[language], *QUESTIONS[language].values()):
            assert len(set(wordings)) == len(wordings) >= SEEN + 2
        few = first(drawn["train", "grid"], 600)
        for held_out in (False, True):
            found = questions(few, language=language, held_out=held_out)
            assert {q.phrasing for q in found} == (set(range(SEEN, 6)) if held_out else set(range(SEEN)))
        seen, unseen = ({q.text for q in questions(few, language=language, held_out=h)} for h in (False, True))
        assert seen and unseen and not seen & unseen
        assert not set(captions(few, language)) & set(captions(few, language, True))


def test_words_are_few(drawn):
    for language, most in (("zh", 170), ("en", 160)):
        words = set(vocabulary(language))
        assert len(words) < most
        for question in questions(first(drawn["train", "grid"], 500), language=language):
            text = f"{question.text} {question.answer}".lower()
            assert set(re.findall(r"\S" if language == "zh" else r"\w+|[^\w\s]", text)) <= words


def read(text: str, language: str, phrasing: str) -> dict[str, str]:
    """The slots of a wording, read back from the text."""
    pattern = re.escape(phrasing).replace(r"\{", "{").replace(r"\}", "}")
    for slot in dict.fromkeys(re.findall(r"\{(\w+)\}", pattern)):
        width = "." if slot.startswith("n_") else ".+"
        pattern = pattern.replace(f"{{{slot}}}", f"(?P<{slot}>{width})", 1).replace(f"{{{slot}}}", f"(?P={slot})")
    return re.fullmatch(pattern, text).groupdict()


def row_of(slots: dict[str, str], key: str, language: str) -> int:
    names = {thing.name(language): row for row, thing in enumerate(THINGS)}
    names |= {form: row for row, thing in enumerate(THINGS) for form in (thing.a, thing.plural)}
    return names[slots.get(key) or slots.get(f"a_{key}") or slots[f"{key}_s"]]


def sighted(scene: dict[str, list], kind: str, slots: dict[str, str], language: str) -> str:
    """The answer from the annotations alone, by other means than the data set's."""
    zh, things = language == "zh", scene["things"]
    centres = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in scene["boxes"]]
    if kind == "what":
        cell = CELLS[language].index(slots["cell"])
        corner = (64 / 3 * (cell % 3 + 0.5), 64 / 3 * (cell // 3 + 0.5))
        near = [max(abs(x - corner[0]), abs(y - corner[1])) for x, y in centres]
        return THINGS[things[near.index(min(near))]].name(language)
    x = row_of(slots, "x", language)
    if kind in ("count", "exists"):
        number = things.count(x)
        return str(number) if kind == "count" else (("是" if zh else "yes") if number else ("否" if zh else "no"))
    assert things.count(x) == 1
    here = things.index(x)
    if kind == "where":
        return CELLS[language][int(centres[here][1] * 3 / 64) * 3 + int(centres[here][0] * 3 / 64)]
    there = things.index(row_of(slots, "y", language))
    if kind == "compare":
        order = (scene["large"][here] > scene["large"][there]) - (scene["large"][here] < scene["large"][there])
        return {1: ("大", "larger"), -1: ("小", "smaller"), 0: ("一样大", "same")}[order][not zh]
    across, down = (a - b for a, b in zip(centres[here], centres[there], strict=True))
    assert max(abs(across), abs(down)) >= 2 * min(abs(across), abs(down))
    sides = (("左边", "右边"), ("上边", "下边")) if zh else (("left", "right"), ("above", "below"))
    return sides[abs(down) > abs(across)][(across if abs(across) > abs(down) else down) > 0]


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_answers_follow_from_the_annotations(drawn, language, layout):
    few = first(drawn["test", layout], 800)
    for held_out in (False, True):
        for question in questions(few, language=language, held_out=held_out):
            here = few.things[question.item] >= 0
            scene = {name: getattr(few, name)[question.item][here].tolist() for name in ("things", "boxes", "large")}
            slots = read(question.text, language, QUESTIONS[language][question.kind][question.phrasing])
            assert sighted(scene, question.kind, slots, language) == question.answer, question


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_blind_guesser_gains_nothing(drawn, language, layout):
    found = {split: questions(drawn[split, layout], language=language) for split in ("train", "test")}
    for asked in found.values():
        for kind in KINDS:
            counts = Counter(question.answer for question in asked if question.kind == kind)
            assert len(set(counts.values())) == 1, kind
            assert len(counts) == {"what": 40, "where": 9, "count": 5, "exists": 2, "relation": 4, "compare": 3}[kind]
    assert_blind(found["train"], found["test"])


def test_exists_is_balanced_for_each_thing(drawn):
    yes = Counter()
    for question in questions(first(drawn["train", "grid"], 1000), ["exists"]):
        slots = read(question.text, "zh", QUESTIONS["zh"]["exists"][question.phrasing])
        yes[slots["x"]] += 1 if question.answer == "是" else -1
    assert set(yes.values()) == {0} and len(yes) == 40


def test_questions_repeat_and_some_kinds_may_be_chosen(drawn):
    few = first(drawn["train", "grid"], 300)
    one, again, other = (questions(few, ["where", "count"], seed=seed) for seed in (0, 0, 1))
    assert one == again != other and {question.kind for question in one} == {"where", "count"}
    assert [question.item for question in one] == sorted(question.item for question in one)
    assert captions(few) == captions(few) != captions(few, seed=1)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"count": 0}, "count must be at least 1, got 0"),
    ({"size": 47}, "size must be at least 48 pixels, got 47"),
    ({"split": "dev"}, "split must be one of train, validation, test, got 'dev'"),
    ({"layout": "ring"}, "layout must be one of grid, free, got 'ring'"),
    ({"styles": ["apple"]}, "styles must be some of noto, twemoji, openmoji, got apple"),
    ({"styles": []}, "styles must be some of .* got none"),
])
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        scenes.draw(**({"split": "train", "count": 1} | arguments))


def test_bad_language_and_kind():
    one = scenes.draw("train", 1, size=48)
    for ask in (captions, questions):
        with pytest.raises(ValueError, match="language must be one of zh, en, got 'fr'"):
            ask(one, language="fr")
    with pytest.raises(ValueError, match="kinds must be one of what, where, .* got 'why'"):
        questions(one, ["why"])
