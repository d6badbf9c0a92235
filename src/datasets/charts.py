"""Bar, line and pie charts drawn by matplotlib, each with the table behind it, and questions that the table answers.

No two values of a series are equal. A difference of 1 is 7 % of the picture's height on the axes (11 of 160 pixels) and
at least a 35th of the turn in a pie, whose numbers are printed, so that every difference can be seen.
``data/README.md`` is the datasheet.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.datasets.questions import LANGUAGES, Question, balanced_answers
from src.datasets.splits import SPLITS, split_of
from src.fonts import use_font
from src.runtime import check_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("bar", "line", "pie")
SIZE = 160
LEAST_SIZE = 128
SALT = "charts/1"
INCHES = 1.6
HIGHEST = 9
COLOURS = ("#0072B2", "#D55E00", "#00A878", "#882255", "#332288")
STYLE = {"font.size": 5.4, "axes.linewidth": 0.5, "axes.spines.top": False, "axes.spines.right": False,
         "axes.axisbelow": True, "legend.frameon": False}  # fmt: skip


@dataclass(frozen=True)
class Topic:
    """What a chart is about; each text as (Chinese, English). The order of names means something when ``ordered``."""

    title: tuple[str, str]
    unit: tuple[str, str]
    names: tuple[tuple[str, str], ...]
    ordered: bool = False


FRUIT = (("苹果", "apple"), ("梨子", "pear"), ("桃子", "peach"), ("葡萄", "grape"), ("柠檬", "lemon"), ("李子", "plum"))
DRINKS = (("绿茶", "tea"), ("牛奶", "milk"), ("果汁", "juice"), ("可乐", "cola"), ("汽水", "soda"), ("咖啡", "coffee"))
ANIMALS = (("兔子", "rabbit"), ("山羊", "goat"), ("绵羊", "sheep"), ("鸭子", "duck"), ("白鹅", "goose"), ("母鸡", "hen"))
SUPPLIES = (("钢笔", "pen"), ("尺子", "ruler"), ("橡皮", "eraser"), ("胶水", "glue"), ("胶带", "tape"), ("毛笔", "brush"))
MONTHS = tuple((f"{number}月", name) for number, name in enumerate(
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1))  # fmt: skip
WEEKDAYS = (("周一", "Mon"), ("周二", "Tue"), ("周三", "Wed"), ("周四", "Thu"), ("周五", "Fri"), ("周六", "Sat"),
            ("周日", "Sun"))  # fmt: skip
TOPICS = (
    Topic(("水果销量", "Fruit sold"), ("箱", "boxes"), FRUIT),
    Topic(("饮料销量", "Drinks sold"), ("杯", "cups"), DRINKS),
    Topic(("农场动物", "Farm animals"), ("只", "number"), ANIMALS),
    Topic(("文具库存", "Supplies left"), ("盒", "boxes"), SUPPLIES),
    Topic(("植树数量", "Trees planted"), ("棵", "trees"), MONTHS, ordered=True),
    Topic(("读书数量", "Books read"), ("本", "books"), MONTHS, ordered=True),
    Topic(("步行路程", "Distance walked"), ("公里", "km"), WEEKDAYS, ordered=True),
    Topic(("学习时间", "Study time"), ("小时", "hours"), WEEKDAYS, ordered=True),
)
SERIES = ((("城东", "east"), ("城西", "west")), (("一班", "class 1"), ("二班", "class 2")),
          (("甲队", "team A"), ("乙队", "team B")))  # fmt: skip

ANSWERS = {
    "zh": {True: "是", False: "否", "rise": "上升", "fall": "下降", "bar": "柱状图", "line": "折线图", "pie": "饼图"},
    "en": {True: "yes", False: "no", "rise": "rise", "fall": "fall", "bar": "bar chart", "line": "line chart",
           "pie": "pie chart"},
}  # fmt: skip
HELD_OUT = 2
"""How many phrasings of each kind, the last ones, are kept for the test of new phrasings."""
PHRASINGS = {
    "zh": {
        "value": ("{x}的数值是多少？", "图中{x}对应的数是多少？", "请读出{x}的数值。", "{x}有多少？",
                  "请找到{x}这一项，写出它的数。"),
        "largest": ("哪一项最大？", "数值最高的是哪一项？", "图中最多的是什么？", "按数值排，第一名是哪一项？",
                    "哪个名称的数值超过其他所有项？"),
        "smallest": ("哪一项最小？", "数值最低的是哪一项？", "图中最少的是什么？", "按数值排，最后一名是哪一项？",
                     "哪个名称的数值低于其他所有项？"),
        "compare": ("{x}的数值比{y}大吗？", "{x}的数值高于{y}吗？", "{x}是不是比{y}多？", "与{y}相比，{x}更多吗？",
                    "{x}超过{y}了吗？"),
        "trend": ("从{x}到{y}，数值上升还是下降？", "{x}到{y}之间，折线是上升还是下降？", "由{x}到{y}，是上升还是下降？",
                  "比起{x}，{y}上升了还是下降了？", "在{x}之后，{y}带来的是上升还是下降？"),
        "count": ("图中有几项？", "一共画了几个类别？", "这张图包含几个类别？", "请数出类别的个数。", "图里不同的类别共有多少？"),
        "type": ("这是什么图？", "这张图属于哪种图表？", "数据画成了哪种图？", "图表的类型是什么？", "作者用的是哪一种图表？"),
    },
    "en": {
        "value": ("What is the value of {x}?", "What number does the chart show for {x}?", "Which value does {x} have?",
                  "Look up {x} and give its number.", "Which number belongs to {x}?"),
        "largest": ("Which category is the largest?", "What has the highest value?", "Which category has the most?",
                    "Which one comes first by value?", "Whose value beats all the others?"),
        "smallest": ("Which category is the smallest?", "What has the lowest value?", "Which category has the least?",
                     "Which one comes last by value?", "Whose value is below all the others?"),
        "compare": ("Is the value of {x} larger than that of {y}?", "Is the number for {x} higher than the number for {y}?",
                    "Does the chart show more for {x} than for {y}?",
                    "Compared with {y}, does {x} have the larger value?", "Does {x} come out above {y}?"),
        "trend": ("From {x} to {y}, does the value rise or fall?", "Does the line rise or fall from {x} to {y}?",
                  "Between {x} and {y}, is there a rise or a fall?", "Coming from {x}, is {y} reached by a rise or a fall?",
                  "What happens from {x} to {y}, a rise or a fall?"),
        "count": ("How many categories are in the chart?", "How many categories are shown?",
                  "How many different items does the chart have?", "What is the number of categories?",
                  "Count the categories."),
        "type": ("What kind of chart is this?", "Which type of chart is shown?", "As what kind of chart is the data drawn?",
                 "Is this a bar chart, a line chart or a pie chart?", "Which chart type did the author use?"),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """One chart's numbers.

    kind: one of ``KINDS``; names: the N categories; series: the S names of the rows of ``values``, empty for one row;
    values: S rows of N integers from 1 to 9, all different within a row.
    """

    kind: str
    language: str
    title: str
    unit: str
    names: tuple[str, ...]
    series: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]

    def label(self, row: int, column: int) -> str:
        """How a question names one value: the category, with its series when there are two."""
        name = self.names[column]
        if not self.series:
            return name
        return f"{self.series[row]}{name}" if self.language == "zh" else f"{name} ({self.series[row]})"


@dataclass(frozen=True)
class Charts:
    """images: uint8 ``[N, 3, size, size]``, picture i drawn from ``tables[i]``."""

    images: Tensor
    tables: tuple[Table, ...]

    def __len__(self) -> int:
        return len(self.tables)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each chart."""
        return tuple(table.kind for table in self.tables)


def draw(split: str, count: int, seed: int = 0, size: int = SIZE, language: str = "zh",
         kinds: Sequence[str] = KINDS) -> Charts:  # fmt: skip
    """``count`` charts of a split, ``size`` × ``size`` pixels; the same arguments draw the same pixels.

    Raises ValueError for what ``make_tables`` refuses and for a size at which the labels cannot be read.
    """
    if size < LEAST_SIZE:
        raise ValueError(f"size must be at least {LEAST_SIZE} pixels, or the labels cannot be read, got {size}.")
    tables = make_tables(split, count, seed, language, kinds)
    return Charts(render(tables, size), tables)


def make_tables(split: str, count: int, seed: int = 0, language: str = "zh",
                kinds: Sequence[str] = KINDS) -> tuple[Table, ...]:  # fmt: skip
    """``count`` different tables of a split; a smaller count gives the first of them.

    A table falls into its split by a hash of its topic, categories and numbers, whatever the language and the kind.
    Raises ValueError for an unknown split, language or kind and for a count below 1.
    """
    check_choice("split", split, SPLITS)
    check_choice("language", language, LANGUAGES)
    if not kinds or set(kinds) - set(KINDS):
        raise ValueError(f"kinds must be some of {', '.join(KINDS)}, got {', '.join(kinds) or 'none'}.")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    found: dict[str, Table] = {}
    for key, table in _tables(random.Random(seed), LANGUAGES.index(language), kinds):
        if split_of(key, SALT) == split:
            found.setdefault(key, table)
        if len(found) == count:
            return tuple(found.values())


def _tables(chance: random.Random, tongue: int, kinds: Sequence[str]) -> Iterator[tuple[str, Table]]:
    """Tables without end, each with a key that is the same in both languages."""
    while True:
        kind = chance.choice(kinds)
        topic = chance.choice([topic for topic in TOPICS if topic.ordered or kind != "line"])
        names = _names(topic, chance)
        series = chance.choice(SERIES) if kind != "pie" and chance.random() < 0.5 else ()
        values = _values(len(names), max(1, len(series)), chance)
        key = repr((topic.title[1], [name for _, name in names], [name for _, name in series], values))
        yield key, Table(kind, LANGUAGES[tongue], topic.title[tongue], topic.unit[tongue],
                         tuple(name[tongue] for name in names), tuple(name[tongue] for name in series), values)


def _names(topic: Topic, chance: random.Random) -> list[tuple[str, str]]:
    """3 to 5 categories: any of them in any order, or a stretch of the week or year, which may run into the next."""
    count = chance.randint(3, 5)
    if not topic.ordered:
        return chance.sample(topic.names, count)
    start = chance.randrange(len(topic.names))
    return [topic.names[(start + step) % len(topic.names)] for step in range(count)]


def _values(count: int, rows: int, chance: random.Random) -> tuple[tuple[int, ...], ...]:
    """Rows of different integers, different also from row to row in each column."""
    while True:
        values = tuple(tuple(chance.sample(range(1, HIGHEST + 1), count)) for _ in range(rows))
        if all(len(set(column)) == rows for column in zip(*values, strict=True)):
            return values


def render(tables: Iterable[Table], size: int = SIZE) -> Tensor:
    """Draw tables as uint8 ``[N, 3, size, size]``; the table chooses the colours too."""
    import numpy as np
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pictures = []
    with style.context([{**STYLE, "font.family": [use_font()]}], after_reset=True):
        figure = Figure(figsize=(INCHES, INCHES), dpi=size / INCHES)
        canvas = FigureCanvasAgg(figure)
        plane, disc = _plane(figure), figure.add_axes((0.0, 0.06, 0.72, 0.78))
        for table in tables:
            _paint(figure, plane, disc, table)
            canvas.draw()
            pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
            _wipe(figure)
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _plane(figure: Figure) -> Axes:
    """An axis from 0 to 10 with a line at each whole number."""
    axes = figure.add_axes((0.1, 0.12, 0.88, 0.7), ylim=(0, HIGHEST + 1), yticks=range(0, HIGHEST + 2, 2))
    axes.hlines(range(1, HIGHEST + 2), -1, 10, colors="#C8C8C8", linewidths=0.4, zorder=0.5)
    axes.tick_params(length=0, pad=1.5)
    return axes


def _wipe(figure: Figure) -> None:
    """Take back all that ``_paint`` drew: making the axes anew would take twice the time."""
    for axes in figure.axes:
        for container in list(axes.containers):
            container.remove()
        for artist in [*axes.patches, *axes.lines, *axes.texts]:
            artist.remove()
    for artist in [*figure.texts, *figure.legends]:
        artist.remove()


def _paint(figure: Figure, plane: Axes, disc: Axes, table: Table) -> None:
    colours = random.Random(repr(table)).sample(COLOURS, len(COLOURS))
    unit = f"（{table.unit}）" if table.language == "zh" else f" ({table.unit})"
    figure.text(0.5, 0.985, table.title + unit, ha="center", va="top", fontsize=6.2)
    plane.set_visible(table.kind != "pie")
    disc.set_visible(table.kind == "pie")
    if table.kind == "pie":
        return _pie(figure, disc, table, colours)
    plane.set_xticks(range(len(table.names)), table.names)
    plane.set_xlim(-0.55, len(table.names) - 0.45)
    marks = {"bar": _bars, "line": _lines}[table.kind](plane, table, colours)
    if table.series:
        figure.legend(marks, table.series, loc="upper center", bbox_to_anchor=(0.55, 0.925), ncols=2, borderpad=0,
                      handlelength=1.2, columnspacing=1.5)


def _pie(figure: Figure, axes: Axes, table: Table, colours: list[str]) -> None:
    inside = {"color": "white", "ha": "center", "va": "center"}
    wedges = axes.pie(table.values[0], labels=table.values[0], colors=colours, startangle=90, counterclock=False,
                      labeldistance=0.8, textprops=inside, wedgeprops={"linewidth": 0.6, "edgecolor": "white"})[0]
    figure.legend(wedges, table.names, loc="center right", bbox_to_anchor=(1, 0.45), handlelength=1, borderpad=0,
                  handletextpad=0.5)


def _bars(axes: Axes, table: Table, colours: list[str]) -> list:
    width = 0.8 / len(table.values)
    return [axes.bar([column - 0.4 + width * row for column in range(len(values))], values, width, align="edge",
                     color=colours[row]) for row, values in enumerate(table.values)]  # fmt: skip


def _lines(axes: Axes, table: Table, colours: list[str]) -> list:
    return [axes.plot(values, color=colour, marker=marker, markersize=3, linewidth=1)[0]
            for values, colour, marker in zip(table.values, colours, "os", strict=False)]


Found = tuple[str, str, str | bool]
"""What a question asks about, x and y, and its answer before it is put into words."""


def ask(tables: Sequence[Table], seed: int = 0, held_out: bool = False) -> list[Question]:
    """Questions of seven kinds about the tables, at most one of a kind about each, all answers of a kind equally often.

    value, largest and smallest (charts of one series), compare (yes or no), trend (line charts: rise or fall between
    neighbours), count (of categories) and type (of chart). ``item`` is the row of the table; ``held_out`` asks in the
    phrasings that otherwise never occur. Questions are left out until the answers are balanced, so ask about many
    charts: a name is the largest of few of them.
    """
    chance, questions = random.Random(seed), []
    for item, table in enumerate(tables):
        for kind, find in ASKERS.items():
            for x, y, answer in find(table, chance):
                phrasings = PHRASINGS[table.language][kind]
                places = range(len(phrasings))[-HELD_OUT:] if held_out else range(len(phrasings) - HELD_OUT)
                phrasing = chance.choice(places)
                words = ANSWERS[table.language].get(answer, answer)
                questions.append(Question(kind, item, phrasings[phrasing].format(x=x, y=y), words, phrasing))
    return balanced_answers(questions, seed)


def _value(table: Table, chance: random.Random) -> list[Found]:
    row, column = chance.randrange(len(table.values)), chance.randrange(len(table.names))
    return [(table.label(row, column), "", str(table.values[row][column]))]


def _extreme(pick: Callable) -> Callable[[Table, random.Random], list[Found]]:
    """The name of the value that ``pick`` (max or min) picks; charts of two series have none."""

    def find(table: Table, chance: random.Random) -> list[Found]:
        values = table.values[0]
        return [] if table.series else [("", "", table.names[values.index(pick(values))])]

    return find


def _compare(table: Table, chance: random.Random) -> list[Found]:
    cells = [(row, column) for row in range(len(table.values)) for column in range(len(table.names))]
    while True:
        (row, column), (other_row, other_column) = chance.sample(cells, 2)
        difference = table.values[row][column] - table.values[other_row][other_column]
        if difference:
            return [(table.label(row, column), table.label(other_row, other_column), difference > 0)]


def _trend(table: Table, chance: random.Random) -> list[Found]:
    if table.kind != "line":
        return []
    row, column = chance.randrange(len(table.values)), chance.randrange(len(table.names) - 1)
    rises = table.values[row][column + 1] > table.values[row][column]
    return [(table.label(row, column), table.label(row, column + 1), "rise" if rises else "fall")]


ASKERS: dict[str, Callable[[Table, random.Random], list[Found]]] = {
    "value": _value,
    "largest": _extreme(max),
    "smallest": _extreme(min),
    "compare": _compare,
    "trend": _trend,
    "count": lambda table, chance: [("", "", str(len(table.names)))],
    "type": lambda table, chance: [("", "", table.kind)],
}
