"""Charts: the same pixels again, split by the table, readable to the pixel, and questions that need the chart."""

import hashlib
import subprocess
import sys
from collections import Counter, defaultdict

import pytest
import torch

from src.datasets import charts
from src.datasets.charts import ANSWERS, COLOURS, HELD_OUT, KINDS, PHRASINGS, Table
from src.datasets.questions import LANGUAGES
from src.datasets.splits import SPLITS
from src.runtime import root
from tests.datasets.blind import assert_blind

THREADS = "import torch; torch.set_num_threads({}); from src.datasets import charts; import hashlib; " \
          "print(hashlib.sha256(charts.draw('test', 6, seed=3, language='en').images.numpy().tobytes()).hexdigest())"


def hashed(value: object) -> str:
    data = value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode()
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def drawn() -> charts.Charts:
    return charts.draw("train", 60, seed=1)


def test_shapes_and_kinds(drawn):
    assert drawn.images.shape == (60, 3, 160, 160) and drawn.images.dtype == torch.uint8 and len(drawn) == 60
    assert drawn.kinds == tuple(table.kind for table in drawn.tables) and set(drawn.kinds) == set(KINDS)
    larger = charts.draw("test", 2, size=224, language="en", kinds=["pie"])
    assert larger.images.shape == (2, 3, 224, 224) and larger.kinds == ("pie", "pie")


def test_tables_are_as_promised():
    counts: Counter = Counter()
    for table in charts.make_tables("train", 3000):
        counts[table.kind, len(table.values)] += 1
        assert 3 <= len(table.names) == len(set(table.names)) <= 5 and len(table.series) in (0, 2)
        assert len(table.values) == max(1, len(table.series))
        for row in table.values:
            assert len(row) == len(set(row)) == len(table.names) and min(row) >= 1 and max(row) <= 9
        assert all(len(set(column)) == len(column) for column in zip(*table.values, strict=True))
    assert set(counts) == {("bar", 1), ("bar", 2), ("line", 1), ("line", 2), ("pie", 1)}
    assert all(sum(counts[key] for key in counts if key[0] == kind) > 900 for kind in KINDS)


def test_the_same_arguments_give_the_same_charts(drawn):
    again = charts.draw("train", 60, seed=1)
    assert again.tables == drawn.tables and torch.equal(again.images, drawn.images)
    assert torch.equal(charts.draw("train", 7, seed=1).images, drawn.images[:7])
    assert not torch.equal(charts.draw("train", 7, seed=2).images, drawn.images[:7])
    assert charts.ask(drawn.tables, 5) == charts.ask(drawn.tables, 5) != charts.ask(drawn.tables, 6)


def test_a_picture_depends_on_its_own_table_only(drawn):
    for row in (0, 31, 59):
        assert torch.equal(charts.render([drawn.tables[row]])[0], drawn.images[row])


def test_tables_and_questions_are_pinned():
    tables = charts.make_tables("train", 500, language="en")
    assert hashed(tables)[:8] == "7dbaf2b3"
    assert hashed(charts.ask(tables))[:8] == "0995be38"


def test_pixels_do_not_depend_on_the_number_of_threads():
    runs = {subprocess.run([sys.executable, "-c", THREADS.format(count)], cwd=root(), capture_output=True, text=True,
                           check=True).stdout for count in (1, 3)}  # fmt: skip
    assert runs == {hashed(charts.draw("test", 6, seed=3, language="en").images) + "\n"}


def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    charts.draw("train", 1)
    assert dict(matplotlib.rcParams) == before


def test_the_style_of_the_page_does_not_change_the_charts(drawn):
    import matplotlib

    with matplotlib.rc_context({"axes.grid": True, "figure.constrained_layout.use": True, "axes.facecolor": "grey"}):
        assert torch.equal(charts.draw("train", 2, seed=1).images, drawn.images[:2])


def test_splits_are_disjoint_whatever_the_seed_and_the_language():
    keyed = {split: {(t.title, t.names, t.series, t.values) for seed in (0, 1)
                     for t in charts.make_tables(split, 700, seed)} for split in SPLITS}  # fmt: skip
    assert all(len(keyed[split]) > 1300 for split in SPLITS)
    assert len(set.union(*keyed.values())) == sum(map(len, keyed.values()))
    chinese, english = (charts.make_tables("test", 200, 4, language) for language in LANGUAGES)
    assert [(t.kind, t.values) for t in chinese] == [(t.kind, t.values) for t in english]
    texts = [{" ".join((t.title, t.unit, *t.names, *t.series)) for t in tables} for tables in (chinese, english)]
    assert not any(char.isascii() and char.isalpha() for text in texts[0] for char in text)
    assert all(text.isascii() for text in texts[1])


def test_no_table_occurs_twice():
    tables = charts.make_tables("validation", 2000)
    assert len({(t.title, t.names, t.series, t.values) for t in tables}) == 2000


def columns_of(image: torch.Tensor, colour: str) -> torch.Tensor:
    """How many pixels of exactly that colour each column has, int64 ``[W]``."""
    wanted = torch.tensor([int(colour[place : place + 2], 16) for place in (1, 3, 5)]).view(3, 1, 1)
    return (image == wanted).all(0).sum(0)


def test_bars_are_as_high_as_their_values_to_a_pixel():
    """0.7 of the height is 10 units: 11.2 pixels of 160 a unit, so neighbouring values differ by 11 pixels."""
    single = [t for t in charts.make_tables("train", 60, kinds=["bar"]) if not t.series]
    assert len(single) > 20
    for table, image in zip(single, charts.render(single), strict=True):
        heights = max((columns_of(image, colour) for colour in COLOURS), key=lambda columns: int(columns.sum()))
        slot = 0.88 * 160 / (len(table.names) + 0.1)
        for place, value in enumerate(table.values[0]):
            centre = 0.1 * 160 + slot * (place + 0.55)
            assert abs(int(heights[int(centre)]) - 11.2 * value) <= 1.5, (table, place)


def test_pie_areas_follow_the_values():
    tables = charts.make_tables("train", 20, kinds=["pie"])
    for table, image in zip(tables, charts.render(tables, size=320), strict=True):
        disc = image[:, :, :230]
        areas = sorted(int(columns_of(disc, colour).sum()) for colour in COLOURS)[-len(table.names) :]
        for area, value in zip(areas, sorted(table.values[0]), strict=True):
            assert abs(area / sum(areas) - value / sum(table.values[0])) < 0.02


def test_nothing_is_cut_off_at_the_border(drawn):
    columns, rows = drawn.images[..., [0, -1]], drawn.images[..., [0, -1], :]
    assert columns.min() > 200 and rows.min() > 200


def answered(question, table: Table) -> str:
    """The answer by code of its own: the names are looked for in the text, the longest first."""
    words = ANSWERS[table.language]
    cells = {table.label(row, column): value for row, values in enumerate(table.values)
             for column, value in enumerate(values)}  # fmt: skip
    text, places = question.text, {}
    for label in sorted(cells, key=len, reverse=True):
        if (place := text.find(label)) >= 0:
            places[place], text = label, text.replace(label, "·" * len(label))
    named = [cells[places[place]] for place in sorted(places)]
    if question.kind == "compare" and "与" in question.text or question.text.startswith("Compared"):
        named.reverse()
    best = sorted(cells, key=cells.get)
    return {
        "value": lambda: str(named[0]), "largest": lambda: best[-1], "smallest": lambda: best[0],
        "compare": lambda: words[named[0] > named[1]], "count": lambda: str(len(table.names)),
        "trend": lambda: words["rise" if named[1] > named[0] else "fall"], "type": lambda: words[table.kind],
    }[question.kind]()  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("held_out", [False, True])
def test_answers_follow_from_the_table(language, held_out):
    tables = charts.make_tables("train", 800, language=language)
    questions = charts.ask(tables, held_out=held_out)
    assert {question.kind for question in questions} == set(PHRASINGS[language])
    for question in questions:
        assert question.answer == answered(question, tables[question.item]), question


@pytest.mark.parametrize("language", LANGUAGES)
def test_phrasings_are_kept_apart(language):
    tables = charts.make_tables("train", 800, language=language)
    used = [defaultdict(set), defaultdict(set)]
    for held_out in (False, True):
        for question in charts.ask(tables, held_out=held_out):
            used[held_out][question.kind].add(question.phrasing)
    for kind, phrasings in PHRASINGS[language].items():
        assert len(set(phrasings)) == len(phrasings) >= 5 and len(used[1][kind]) == HELD_OUT == 2
        assert used[0][kind] | used[1][kind] == set(range(len(phrasings))) and not used[0][kind] & used[1][kind]


def test_answers_are_balanced():
    questions = charts.ask(charts.make_tables("train", 2000))
    for kind, number in {"value": 9, "largest": 43, "smallest": 43, "compare": 2, "trend": 2, "count": 3,
                         "type": 3}.items():  # fmt: skip
        answers = Counter(question.answer for question in questions if question.kind == kind)
        assert len(answers) == number and len(set(answers.values())) == 1, kind


@pytest.mark.parametrize("language", LANGUAGES)
def test_who_does_not_look_gains_nothing(language):
    train = charts.ask(charts.make_tables("train", 2000, language=language))
    test = charts.ask(charts.make_tables("test", 6000, language=language))
    assert_blind(train, test)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "split must be one of train, validation, test, got 'dev'"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"language": "de"}, "language must be one of zh, en, got 'de'"),
        ({"kinds": []}, "kinds must be some of bar, line, pie, got none"),
        ({"kinds": ["bar", "map"]}, "kinds must be some of bar, line, pie, got bar, map"),
        ({"size": 100}, "size must be at least 128 pixels, or the labels cannot be read, got 100"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        charts.draw(**({"split": "train", "count": 3} | arguments))
