"""The document map lists every row once, its links exist, and a finished row is really executed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAP = ROOT / "chapters" / "appendix" / "document_map.md"
ROWS = [f"R{number:02}" for number in range(1, 49)]
STATES = ("计划中", "进行中", "已完成")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
EXECUTED = 3
"""A page that teaches something has more executed cells than its set-up cell."""


@dataclass(frozen=True)
class Row:
    """One line of the map's table; `links` are relative to the map's folder."""

    name: str
    state: str
    what: str
    links: tuple[str, ...]
    source: str


def parse(text: str) -> list[Row]:
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines()]
    found = [line for line in cells if re.fullmatch(r"R\d+", line[0])]
    assert all(len(line) == 5 for line in found), [line for line in found if len(line) != 5]
    return [Row(name, state, what, tuple(LINK.findall(place)), source) for name, state, what, place, source in found]


def rows_named_in_box(notebook: Path) -> set[str]:
    """Rows after 对应文档 in the first box of a notebook."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    box = re.search(r":::\{admonition\}.*?^:::", text, re.S | re.M)
    line = re.search(r"对应文档.*", box.group()) if box else None
    return set() if line is None or "样板" in line.group() else set(re.findall(r"R\d\d", line.group()))


def executed_cells(notebook: Path) -> int:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return sum(cell["cell_type"] == "code" and cell["execution_count"] is not None for cell in cells)


def row_problems(row: Row, folder: Path) -> list[str]:
    paths = [folder / link for link in row.links]
    problems = [f"{row.name}: {path} does not exist" for path in paths if not path.exists()]
    if row.state not in STATES:
        problems.append(f"{row.name}: state {row.state!r} is none of {STATES}")
    if (row.state == "计划中") != (not paths):
        problems.append(f"{row.name}: {row.state} with {len(paths)} links")
    if row.state != "已完成" or problems:
        return problems
    shown = [path for path in paths if path.suffix == ".ipynb" and row.name in rows_named_in_box(path)]
    if not any(executed_cells(path) >= EXECUTED for path in shown):
        problems.append(f"{row.name}: no linked notebook both names it in its first box and has executed code")
    return problems


def map_problems(text: str, folder: Path = MAP.parent) -> list[str]:
    rows = parse(text)
    problems = [] if [row.name for row in rows] == ROWS else ["the rows are not R01 to R48, each once and in order"]
    return problems + [problem for row in rows for problem in row_problems(row, folder)]


def test_every_row_stands_once_and_leads_somewhere():
    assert map_problems(MAP.read_text("utf-8")) == []


NOTEBOOKS = [path for path in sorted((ROOT / "chapters").rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_claims_is_in_the_map(notebook):
    rows = {row.name: row for row in parse(MAP.read_text("utf-8"))}
    for name in rows_named_in_box(notebook):
        targets = {(MAP.parent / link).resolve() for link in rows[name].links}
        assert notebook.resolve() in targets, f"{notebook} names {name}, but the map's row {name} does not link to it"


def line(name: str, link: str = "", state: str = "计划中") -> str:
    place = f"[页]({link})" if link else ""
    return f"| {name} | {state} | 一件事 | {place} | D0 |"


@pytest.fixture
def folder(tmp_path):
    """A folder with a page that was executed for R01 and one that was not for R02."""
    for name, count in (("R01", 1), ("R02", None)):
        box = f":::{{admonition}} 本章目标\n**对应文档**：{name}\n:::"
        cells = [{"cell_type": "markdown", "source": [box]}]
        cells += [{"cell_type": "code", "source": ["1"], "execution_count": count} for _ in range(EXECUTED)]
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"cells": cells}), "utf-8")
    return tmp_path


def test_a_right_map_has_no_problem(folder):
    lines = [line("R01", "R01.ipynb", "已完成"), line("R02", "R02.ipynb", "进行中"), *map(line, ROWS[2:])]
    assert map_problems("\n".join(lines), folder) == []


@pytest.mark.parametrize(
    ("first", "complaint"),
    [
        ([], "each once"),
        ([line("R01"), line("R01")], "each once"),
        ([line("R01", "gone.ipynb", "进行中")], "does not exist"),
        ([line("R01", "", "已完成")], "with 0 links"),
        ([line("R01", "R01.ipynb", "计划中")], "with 1 links"),
        ([line("R01", "R01.ipynb", "快好了")], "none of"),
        ([line("R01", "R02.ipynb", "已完成")], "no linked notebook"),
    ],
)
def test_a_wrong_map_is_noticed(folder, first, complaint):
    text = "\n".join([*first, *map(line, ROWS[1:])])
    assert any(complaint in problem for problem in map_problems(text, folder))


def test_a_notebook_that_was_not_executed_finishes_nothing(folder):
    lines = [line("R01"), line("R02", "R02.ipynb", "已完成"), *map(line, ROWS[2:])]
    assert any("has executed code" in problem for problem in map_problems("\n".join(lines), folder))
