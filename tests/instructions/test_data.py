"""Instruction data against brute force, scikit-learn, closed forms and planted defects."""

import dataclasses
import itertools
import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from sklearn.metrics import jaccard_score

from src.datasets import instructions
from src.datasets.instructions import Instruction
from src.instructions import data

ITEM = Instruction("sort", "Sort these numbers.", "3, 1, 2", "1, 2, 3", 0, "en")
SETS = st.sets(st.text("abcd", min_size=1, max_size=3), min_size=1, max_size=12)


def test_messages_put_the_input_below_the_instruction():
    assert data.messages(ITEM) == [{"role": "system", "content": data.SYSTEM},
                                   {"role": "user", "content": "Sort these numbers.\n3, 1, 2"}]  # fmt: skip
    spoken = dataclasses.replace(ITEM, input="")
    assert data.messages(spoken, system="") == [{"role": "user", "content": "Sort these numbers."}]


def test_messages_refuse_an_empty_instruction():
    with pytest.raises(ValueError, match="item.instruction: got ' '"):
        data.messages(dataclasses.replace(ITEM, instruction=" "))


def test_normalisation_forgets_what_a_copy_may_change():
    assert data.normalised(" Ｓｏｒｔ_these,  NUMBERS！\n") == "sort these numbers"
    assert data.normalised("12, 3") != data.normalised("1, 23")


@given(st.text("ab ,字", max_size=12), st.integers(1, 4))
@settings(deadline=None)
def test_shingles_are_all_pieces(text, n):
    plain = data.normalised(text)
    pieces = {"".join(piece) for piece in zip(*(plain[k:] for k in range(n)), strict=False)}
    assert data.shingles(text, n) == (pieces or {plain})


def test_shingles_refuse_a_length_below_one():
    with pytest.raises(ValueError, match="n: got 0"):
        data.shingles("text", 0)


@given(SETS, SETS)
@settings(deadline=None)
def test_jaccard_is_that_of_scikit_learn(a, b):
    union = sorted(a | b)
    assert data.jaccard(a, b) == data.jaccard(b, a) == jaccard_score([x in a for x in union], [x in b for x in union])


def test_jaccard_of_nothing_is_one():
    assert data.jaccard(set(), set()) == 1 and data.jaccard(set(), {"a"}) == 0


@given(st.lists(SETS, min_size=2, max_size=4), st.integers(0, 5))
@settings(deadline=None)
def test_a_signature_depends_on_its_set_alone(sets, seed):
    found = data.minhash(sets, 16, seed)
    assert torch.equal(found.flip(0), data.minhash(sets[::-1], 16, seed))
    assert torch.equal(found[:1], data.minhash([set(sorted(sets[0], reverse=True))], 16, seed))


@given(SETS, SETS)
@settings(deadline=None)
def test_the_signature_of_a_union_is_the_least_of_both(a, b):
    one, other, both = data.minhash([a, b, a | b], 16)
    assert torch.equal(both, torch.minimum(one, other))


def test_minhash_takes_each_element_as_the_least_equally_often():
    elements = [f"piece {k}" for k in range(8)]
    alone = data.minhash([{element} for element in elements], 8000)  # [8, count]
    assert chisquare(alone.argmin(0).bincount(minlength=8).tolist()).pvalue > 1e-3
    assert (alone >= 0).all() and (alone < data.PRIME).all()


def test_signatures_agree_as_often_as_the_sets_do():
    a, b = set(map(str, range(60))), set(map(str, range(30, 90)))
    m = data.minhash([a, b], 6000)
    s = data.jaccard(a, b)
    assert abs((m[0] == m[1]).double().mean() - s) < 4 * math.sqrt(s * (1 - s) / 6000)


def test_minhash_of_no_set_is_empty_and_bad_input_is_named():
    assert data.minhash([], 8).shape == (0, 8)
    with pytest.raises(ValueError, match="got 1 empty sets and 8 hash"):
        data.minhash([{"a"}, set()], 8)
    with pytest.raises(ValueError, match="and 0 hash functions"):
        data.minhash([{"a"}], 0)


@given(st.lists(st.lists(st.integers(0, 1), min_size=6, max_size=6), min_size=1, max_size=8), st.sampled_from([1, 2, 3, 6]))
@settings(deadline=None)
def test_candidates_are_those_of_all_pairs(rows, r):
    found = data.candidates(torch.tensor(rows), r)
    bands = [[tuple(row[k : k + r]) for k in range(0, 6, r)] for row in rows]
    assert found == {(i, j) for i, j in itertools.combinations(range(len(rows)), 2)
                     if any(x == y for x, y in zip(bands[i], bands[j], strict=True))}  # fmt: skip


@pytest.mark.parametrize("rows", [0, 4])
def test_candidates_want_whole_bands(rows):
    with pytest.raises(ValueError, match=f"rows: got {rows}, expected a divisor of the 6"):
        data.candidates(torch.zeros(2, 6, dtype=torch.long), rows)


def texts(seed: int) -> list[str]:
    """60 random texts, the last 20 like the first but for one or two letters."""
    chance = random.Random(seed)
    own = ["".join(chance.choices("abcdefghij", k=60)) for _ in range(40)]
    return own + [text[:20] + "z" * chance.randint(1, 2) + text[21:] for text in own[:20]]


def test_near_duplicates_are_right_and_almost_complete():
    own = texts(0)
    exact = {(i, j) for i, j in itertools.combinations(range(60), 2)
             if data.jaccard(data.shingles(own[i]), data.shingles(own[j])) >= 0.7}  # fmt: skip
    found = data.near_duplicates(own)
    assert found == sorted(found) and set(found) <= exact and len(exact) == 20 and len(found) >= 19
    assert data.near_duplicates(["Same text!", "another one", "same  TEXT"], threshold=1) == [(0, 2)]
    assert data.near_duplicates([]) == []


@pytest.mark.parametrize("threshold", [0, 1.2, math.nan])
def test_near_duplicates_want_a_similarity(threshold):
    with pytest.raises(ValueError, match="threshold: got"):
        data.near_duplicates(["a"], threshold)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=6), st.floats(0.5, 20), st.integers(1, 10**6) | st.none())
@settings(deadline=None)
def test_mixture_is_the_formula(counts, temperature, cap):
    p = data.mixture(counts, temperature, cap)
    powers = torch.tensor([min(n, cap or n) ** (1 / temperature) for n in counts], dtype=torch.float64)
    torch.testing.assert_close(p, powers / powers.sum(), rtol=1e-9, atol=0)


def test_mixture_at_its_limits():
    even = torch.full((3,), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(data.mixture([1, 10, 1000], math.inf), even)
    torch.testing.assert_close(data.mixture([5, 10, 1000], 1, cap=5), even)
    torch.testing.assert_close(data.mixture([1, 2, 5], 1), torch.tensor([1, 2, 5], dtype=torch.float64) / 8)
    assert data.mixture([10**200, 1], 0.5).tolist() == [1, 0]


@pytest.mark.parametrize(("counts", "temperature", "cap", "message"), [
    ([], 1, None, "counts: got \\[\\]"), ([3, 0], 1, None, "one example in each"),
    ([3], 0, None, "temperature, cap: got 0 and None"), ([3], math.nan, None, "above 0"), ([3], 1, -1, "got 1 and -1"),
    ([3], 1, 0, "got 1 and 0"),
])  # fmt: skip
def test_mixture_refuses(counts, temperature, cap, message):
    with pytest.raises(ValueError, match=message):
        data.mixture(counts, temperature, cap)


def take(count: int, *arguments) -> list[tuple[int, int]]:
    return list(itertools.islice(data.draws(*arguments), count))


def test_draws_follow_the_shares_and_the_seed():
    counts, p = [50, 7, 3], [0.5, 0.3, 0.2]
    found = take(5000, counts, p, 3)
    times = Counter(task for task, _ in found)
    assert chisquare([times[k] for k in range(3)], [2500, 1500, 1000]).pvalue > 1e-3
    assert found == take(5000, counts, torch.tensor(p), 3) != take(5000, counts, p, 4)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 3))
@settings(deadline=None)
def test_no_example_comes_again_before_all_have_come(counts, seed):
    found = take(60, counts, [1] * len(counts), seed)
    for task, count in enumerate(counts):
        rows = [row for own, row in found if own == task]
        for start in range(0, len(rows), count):
            part = rows[start : start + count]
            assert len(set(part)) == len(part) and set(part) <= set(range(count))


def test_a_share_of_zero_is_never_drawn():
    assert {task for task, _ in take(500, [4, 4], [0, 1])} == {1}


@pytest.mark.parametrize("p", [[1], [1, -1], [0, 0], [1, math.nan], [1, math.inf]])
def test_draws_refuse_bad_shares_at_once(p):
    with pytest.raises(ValueError, match="p: got .* for 2 tasks"):
        data.draws([3, 3], p)


@pytest.fixture(scope="module")
def built():
    return instructions.build("train", 200), instructions.build("test", 100, held_out=True, seed=2)


def first(found, task):
    return next(place for place, item in enumerate(found.items) if item.task == task)


def planted(found, place, **parts):
    items = list(found.items)
    items[place] = dataclasses.replace(items[place], **parts)
    return dataclasses.replace(found, items=tuple(items))


def test_the_splits_leak_nothing(built):
    train, test = built
    found = data.leaks(train, test)
    assert found.pop("task") == list(range(len(test)))
    assert found == {kind: [] for kind in ("phrasing", "question", "case", "picture", "composition", "sound")}
    kept = instructions.build("test", 8, instructions.HELD_OUT_TASKS)
    assert not data.leaks(train, kept)["task"]


def test_training_leaks_everything_to_itself(built):
    train = built[0]
    found = data.leaks(train, train)
    of = {kind: [train.items[place] for place in places] for kind, places in found.items()}
    assert len(of["task"]) == len(of["phrasing"]) == 200
    assert all(item.picture is not None and item.input for item in of["question"])
    assert len(of["picture"]) == sum(item.picture is not None for item in train.items)
    assert len(of["composition"]) == len([item for item in of["picture"] if not item.task.startswith("chart")])
    assert len(of["sound"]) == sum(item.sound is not None for item in train.items)
    assert len(of["case"]) == sum(item.picture is None and item.sound is None for item in train.items)


def test_each_planted_leak_is_found(built):
    train, test = built
    place = first(test, "sort")
    own = train.items[first(train, "largest")]
    bad = planted(test, place, input=" ; ".join(reversed(own.input.split(", "))))
    assert data.leaks(train, bad)["case"] == [place]
    bad = planted(test, place, instruction=own.instruction.upper())
    assert data.leaks(train, bad)["phrasing"] == [place]
    place, own = first(test, "scene_where"), train.items[first(train, "scene_where")]
    assert data.leaks(train, planted(test, place, input=own.input))["question"] == [place]
    waves = list(test.waves)
    place = first(test, "spoken_digit")
    waves[test.items[place].sound] = train.wave(train.items[first(train, "spoken_digit")]).clone()
    assert data.leaks(train, dataclasses.replace(test, waves=tuple(waves)))["sound"] == [place]


def test_a_table_drawn_as_another_chart_and_a_rearranged_scene_are_found(built):
    train, test = built
    place = first(test, "chart_value")
    tables = list(test.charts.tables)
    known = train.charts.tables[train.items[first(train, "chart_value")].picture]
    tables[test.items[place].picture] = dataclasses.replace(known, kind="pie" if known.kind == "bar" else "bar")
    bad = dataclasses.replace(test, charts=dataclasses.replace(test.charts, tables=tuple(tables)))
    assert place in data.leaks(train, bad)["picture"]
    place = first(test, "scene_what")
    things, cells = test.scenes.things.clone(), test.scenes.cells.clone()
    row = next(k for k, own in enumerate(train.scenes.things.tolist()) if len({x for x in own if x >= 0}) > 1)
    things[test.items[place].picture] = train.scenes.things[row]
    cells[test.items[place].picture] = (train.scenes.cells[row] + 1) % 9
    bad = dataclasses.replace(test, scenes=dataclasses.replace(test.scenes, things=things, cells=cells))
    found = data.leaks(train, bad)
    assert place in found["composition"] and place not in found["picture"]


def items(task: str = "sentiment", output: str = "positive", count: int = 40) -> list[Instruction]:
    return [Instruction(task, "Is it good?", f"review number {k}", output, 0, "en") for k in range(count)]


@pytest.mark.parametrize(("rule", "change"), [
    ("empty", {"output": " \n"}), ("copied", {"output": "review  number 7"}), ("unfilled", {"instruction": "One of {options}?"}),
    ("unfilled", {"output": "{}"}), ("script", {"output": "正面"}), ("ending", {"output": "posit,"}),
    ("format", {"output": "Positive"}), ("format", {"output": "7 of 10"}), ("repeated", {"input": "Review number: 3"}),
])  # fmt: skip
def test_each_rule_finds_its_defect_and_nothing_else(rule, change):
    good = items()
    assert not any(data.suspects(good).values())
    good[7] = dataclasses.replace(good[7], **change)
    assert data.suspects(good)[rule] == {7}


def test_rules_compare_within_a_task():
    both = items() + items("sort", "1, 2, 3")
    assert not data.suspects(both)["format"]
    assert data.suspects([*items(count=39), items("sentiment", "2")[39]])["format"] == {39}


def test_a_swapped_answer_is_invisible_and_the_same_picture_twice_is_not_a_copy():
    good = items()
    good[3] = dataclasses.replace(good[3], output="negative")
    assert not any(data.suspects(good).values())
    seen = [dataclasses.replace(good[0], input="What is it?", picture=k) for k in range(30)]
    assert not data.suspects(seen)["repeated"] and data.suspects([*seen, seen[4]])["repeated"] == {30}


def test_rules_doubt_few_of_the_built_instructions(built):
    doubted = data.suspects(built[0].items)
    assert set(doubted) == set(data.RULES) and not any(doubted[rule] for rule in ("empty", "unfilled", "repeated"))


def test_rules_of_nothing():
    assert data.suspects([]) == {rule: set() for rule in data.RULES}


@pytest.mark.parametrize(("text", "form"), [
    ("7, 50, 64", "0"), ("glass of milk", "a"), ("HIGH-HEELED SHOE", "A"), ("woman’s boot", "a"), ("大写、小写", "字"),
    ("The answer is 7.", "Aa 0."), ("", ""), ("正面", "字"), ("Café", "Aa"),
])  # fmt: skip
def test_shape(text, form):
    assert data.shape(text) == form
