"""Sabotage: what must turn `pytest --nbval` red does so, on a copy of the checkout with small notebooks."""

import copy
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.notebooks import execute, normalise

ROOT = Path(__file__).resolve().parents[2]
CELLS = [
    "from src.runtime import approx",
    "print(0.25 + 0.5)",
    'print(approx(0.87), approx(12.3, 1, " s"), approx("cpu"))',
    "print(len('abc'))",
]
SUM, MEASURED, LENGTH = 1, 2, 3
KERNEL_CELLS = [
    "import torch\nimport matplotlib.pyplot as plt\nfrom src.fusion.weighted import weighted_sum",
    "y = weighted_sum(torch.ones(1, 2, 3), torch.tensor([0.25, 0.5]))\nprint(y.tolist())",
    "plt.plot([1, 2]);",
]
KERNEL, FIGURE = 1, 2
OUTSIDE = "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)"


def executed(cells: list[str], folder: Path) -> nbformat.NotebookNode:
    """A notebook of these cells with its true outputs."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in cells])
    execute(notebook, folder)
    normalise(notebook)
    return notebook


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return executed(CELLS, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def with_kernel(tmp_path_factory):
    return executed(KERNEL_CELLS, tmp_path_factory.mktemp("kernel"))


def checkout(folder: Path, notebooks: dict[str, nbformat.NotebookNode]) -> Path:
    """A copy of what a test run needs, with these notebooks as the book."""
    for name in ("conftest.py", "pytest.ini", "src", "tests/__init__.py", "tests/offline.py", "tests/nbval.cfg"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (folder / "chapters").mkdir()
    for name, notebook in notebooks.items():
        nbformat.write(notebook, folder / "chapters" / f"{name}.ipynb")
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nchapters:\n" + "".join(f"- file: chapters/{name}\n" for name in notebooks)
    )
    return folder


def run(folder: Path, *arguments: str) -> tuple[set[str], str]:
    """Run the copy's notebooks; returns the failed items, as "name::Cell 1", and the whole report."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "-rf",
        "--color=no",
        "-p",
        "no:cacheprovider",
        *(arguments or ("chapters",)),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert re.search(r"\d+ (passed|failed)", done.stdout), done.stdout + done.stderr
    return set(
        re.findall(r"^FAILED (?:chapters/)?(\S+?)(?:\.ipynb)?(::Cell \d+|::\S+)", done.stdout, re.MULTILINE)
    ), done.stdout


def replace(cell: int, old: str, new: str):
    """A change of a stored text."""

    def change(notebook):
        output = notebook.cells[cell].outputs[0]
        assert old in output.text
        output.text = output.text.replace(old, new)

    return change


def drop_outputs(cell: int):
    return lambda notebook: notebook.cells[cell].update(outputs=[])


def add_cell(source: str):
    return lambda notebook: notebook.cells.append(new_code_cell(source, execution_count=len(CELLS) + 1))


def add_output_to_silent_cell(notebook):
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="never printed\n")]


SABOTAGE = {
    "number": (replace(SUM, "0.75", "0.76"), SUM),
    "count": (replace(LENGTH, "3", "4"), LENGTH),
    "unit": (replace(MEASURED, "12.3 s", "12.3 ms"), MEASURED),
    "measured_mark": (replace(MEASURED, "≈0.87", "0.87"), MEASURED),
    "output_removed": (drop_outputs(SUM), SUM),
    "output_added": (add_output_to_silent_cell, 0),
    "source_fails": (add_cell("1 / 0"), len(CELLS)),
    "outside": (add_cell(OUTSIDE), len(CELLS)),
}
HARMLESS = {
    "unchanged": lambda notebook: None,
    "measured_number": replace(MEASURED, "≈0.87", "≈10.91"),
    "measured_text": replace(MEASURED, "「cpu」", "「cuda」"),
}


@pytest.fixture(scope="module")
def report(small, tmp_path_factory):
    """One run over a copy that has every variant of the notebook."""
    changes = {**HARMLESS, **{name: change for name, (change, _) in SABOTAGE.items()}}
    variants = {name: copy.deepcopy(small) for name in changes}
    for name, change in changes.items():
        change(variants[name])
    return run(checkout(tmp_path_factory.mktemp("copy"), variants))


@pytest.mark.parametrize("name", HARMLESS)
def test_green(name, report):
    assert not {failed for failed in report[0] if failed[0] == name}


@pytest.mark.parametrize("name", SABOTAGE)
def test_red(name, report):
    assert {failed for failed in report[0] if failed[0] == name} == {(name, f"::Cell {SABOTAGE[name][1]}")}


def test_a_kernel_has_no_network(report):
    assert "OutsideConnection: 192.0.2.1: the tests run without a network" in re.sub(r"\x1b\[[\d;]*m", "", report[1])


def test_a_broken_kernel_and_a_missing_figure_are_red(with_kernel, tmp_path):
    without_figure = copy.deepcopy(with_kernel)
    drop_outputs(FIGURE)(without_figure)
    place = checkout(tmp_path, {"whole": with_kernel, "without_figure": without_figure})
    assert run(place)[0] == {("without_figure", f"::Cell {FIGURE}")}
    module = place / "src" / "fusion" / "weighted.py"
    sound = module.read_text("utf-8")
    module.write_text(sound.replace("features * weights", "features + weights"), "utf-8")
    assert module.read_text("utf-8") != sound
    assert run(place, "chapters/whole.ipynb")[0] == {("whole", f"::Cell {KERNEL}")}


def test_a_notebook_that_is_not_collected_is_red(tmp_path):
    silent = new_notebook(cells=[new_markdown_cell("no code")])
    tiny = new_notebook(cells=[new_code_cell("1", execution_count=1, outputs=[
        nbformat.v4.new_output("execute_result", data={"text/plain": "1"}, execution_count=1)])])  # fmt: skip
    place = checkout(tmp_path, {"tiny": tiny, "left_out": tiny})
    assert run(place)[0] == set()
    assert run(place, "chapters", "--ignore=chapters/left_out.ipynb")[0] == {("_toc.yml", "::chapters/left_out.ipynb")}
    parallel = run(place, "chapters", "--ignore=chapters/left_out.ipynb", "-n2", "--dist=loadfile")
    assert parallel[0] == {("_toc.yml", "::chapters/left_out.ipynb")}
    assert run(place, "chapters/tiny.ipynb")[0] == set()
    nbformat.write(silent, place / "chapters" / "left_out.ipynb")
    failed, text = run(place)
    assert (
        failed == {("_toc.yml", "::chapters/left_out.ipynb")}
        and "is in _toc.yml, but its cells were not collected" in text
    )
