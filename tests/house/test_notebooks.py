"""The structure of the notebooks: complete, executed, short cells, claims with assertions, nothing of the author's machine.

Each rule is a function of one notebook that returns what is wrong; it is run on every notebook of the book,
and on a notebook that breaks it.
"""

import ast
import re
import statistics
import sys
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import yaml
from markdown_it import MarkdownIt
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.notebooks import CELL_METADATA, KERNELSPEC, NOTEBOOK_METADATA
from tools.setup_cell import setup_cell

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path for path in (ROOT / "chapters").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
MACHINE = re.compile(
    r"/root\b|/home/\w|/work/|/tmp/|/Users/|/opt/|/content/|\b[A-Z]:\\\\?\w|site-packages/\S*dist-info"
)
WITHOUT_EXERCISES = {"start", "appendix"}


def code(notebook):
    """Code cells with a source."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def own_code(notebook):
    """Code cells without the set-up cell."""
    return [cell for cell in code(notebook) if cell.source != setup_cell()]


def lines(cell):
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def texts(output):
    """All texts of an output, pictures left out."""
    parts = [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
    return parts + [value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")]


def executed_in_order(notebook):
    counts = [cell.execution_count for cell in code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts {counts}: run `make notebooks`"


def errors_are_tagged(notebook):
    for cell in code(notebook):
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed != ("raises-exception" in cell.metadata.get("tags", [])):
            yield f"cell {cell.id}: " + (
                "an error without the tag raises-exception" if failed else "tagged, but no error"
            )


def setup_is_the_first_cell(notebook):
    first = code(notebook)[:1]
    if not first or first[0].source != setup_cell() or first[0].metadata.get("tags") != ["hide-input"]:
        yield "the first code cell is not the set-up cell of tools/setup_cell.py, tagged hide-input"


def cells_are_short(notebook):
    sizes = sorted(map(lines, own_code(notebook)))
    if sizes and statistics.median(sizes) > 8:
        yield f"median of {statistics.median(sizes)} lines a cell, at most 8"
    long = [size for size in sizes if size > 25]
    if len(long) > 0.1 * len(sizes):
        yield f"{len(long)} of {len(sizes)} cells have more than 25 lines, at most a tenth may"
    if sizes and sizes[-1] > 40:
        yield f"a cell of {sizes[-1]} lines, at most 40"


def prose_stands_between_code(notebook):
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in notebook.cells)
    runs = [len(run) for run in re.findall("c+", kinds)]
    if runs and statistics.mean(runs) > 1.4:
        yield f"{statistics.mean(runs):.2f} code cells between two prose cells on average, at most 1.4"


def no_machine_in_it(notebook):
    for cell in notebook.cells:
        found = [
            MACHINE.search(text)
            for output in cell.get("outputs", [])
            for text in texts(output)
            if isinstance(text, str)
        ]
        found += [MACHINE.search(line) for line in cell.source.splitlines()] if cell.cell_type == "code" else []
        for match in filter(None, found):
            yield f"cell {cell.id}: the path {match.string[match.start() : match.end() + 20]!r}"


def pictures_are_png(notebook):
    for cell in code(notebook):
        for data in (output.get("data", {}) for output in cell.outputs):
            if foreign := {kind for kind in data if kind.startswith("image/")} - {"image/png"}:
                yield f"cell {cell.id}: a picture as {sorted(foreign)}"
            if str(data.get("text/plain", "")).startswith("<Figure") and "image/png" not in data:
                yield f"cell {cell.id}: a figure without its picture"


def metadata_is_plain(notebook):
    if notebook.metadata.get("kernelspec") != KERNELSPEC or notebook.metadata.get("language_info") != {
        "name": "python"
    }:
        yield "kernelspec or language_info: run `make notebooks`"
    if foreign := set(notebook.metadata) - {"kernelspec", "language_info", *NOTEBOOK_METADATA}:
        yield f"notebook metadata {sorted(foreign)}"
    for cell in notebook.cells:
        if foreign := set(cell.metadata) - set(CELL_METADATA):
            yield f"cell {cell.id}: metadata {sorted(foreign)}"


def outputs_are_compared(notebook):
    ignoring = re.compile("NBVAL_(IGNORE_OUTPUT|SKIP)|nbval-(ignore-output|skip)")
    for cell in code(notebook):
        if ignoring.search(cell.source + " ".join(cell.metadata.get("tags", []))):
            yield f"cell {cell.id}: nbval does not compare it; print measured results with approx"


def claims_are_asserted(notebook):
    cells = own_code(notebook)
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        asserted = has_claim(cell) or (after is not None and has_claim(after))
        if calls(cell, "approx") and not asserted and not cell.metadata.get("book", {}).get("no_claim"):
            yield f"cell {cell.id}: prints a measured result, but neither it nor the next code cell asserts a bound"


def tree(cell):
    """Syntax tree of a cell; magics and shell lines left out."""
    return ast.parse(re.sub(r"(?m)^\s*[%!].*$", "", cell.source))


def calls(cell, *names):
    """Whether a cell calls a function or method of one of these names."""
    functions = [node.func for node in ast.walk(tree(cell)) if isinstance(node, ast.Call)]
    return any((getattr(function, "id", None) or getattr(function, "attr", "")) in names for function in functions)


def has_claim(cell):
    """Whether a cell contains an assertion."""
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree(cell))) or calls(
        cell, "assert_close", "assert_allclose"
    )


def has_exercises(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    asked = re.findall(r"^[:`]{3,}\{exercise(?:-start)?\}.*\n(?::\w+:.*\n)*?:label:[ ]*(\S+)", text, re.MULTILINE)
    solved = re.findall(r"^[:`]{3,}\{solution(?:-start)?\}[ ]*(\S+)", text, re.MULTILINE)
    if len(asked) < 3:
        yield f"{len(asked)} exercises, at least 3"
    if len(set(asked)) < len(asked):
        yield "an exercise label used twice"
    if missing := set(asked) - set(solved):
        yield f"no solution for {sorted(missing)}"


def ids_are_unique(notebook):
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) < len(ids):
        yield "cell ids are missing or used twice"


def backslashes_survived(notebook):
    for cell in notebook.cells:
        labels = [text for part in cell.metadata.get("mystnb", {}).values() for text in part.values()]
        if any("\t" in text for text in [cell.source, *labels]):
            yield f"cell {cell.id}: a tab, perhaps from \\tau or \\theta in a string that is not raw"


def bold_is_bold(notebook):
    """Two asterisks between a full stop and a letter end nothing, which only shows on the page."""
    for cell in notebook.cells:
        for block in MarkdownIt().parse(cell.source) if cell.cell_type == "markdown" else ():
            if any(part.type == "text" and "**" in part.content for part in block.children or ()):
                yield f"cell {cell.id}: asterisks that the page would show"


RULES = [executed_in_order, errors_are_tagged, setup_is_the_first_cell, cells_are_short, prose_stands_between_code,
         no_machine_in_it, pictures_are_png, metadata_is_plain, outputs_are_compared, claims_are_asserted,
         has_exercises, ids_are_unique, backslashes_survived, bold_is_bold]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_notebook(path, rule):
    if rule is has_exercises and path.parent.name in WITHOUT_EXERCISES:
        return
    assert not list(rule(nbformat.read(path, as_version=4)))


def listed(node):
    """File names in a table of contents."""
    if isinstance(node, dict):
        return [node[key] for key in ("root", "file") if key in node] + [
            name for value in node.values() for name in listed(value)
        ]
    return [name for value in node for name in listed(value)] if isinstance(node, list) else []


def test_contents_and_files_agree():
    names = listed(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8")))
    assert len(names) == len(set(names))
    pages = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path in [ROOT / "index.md", *(ROOT / "chapters").rglob("*.md"), *NOTEBOOKS]
    }
    assert pages == set(names)


def imported_packages():
    """Top-level names that src and the notebooks import from outside of both."""
    sources = [path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py")]
    trees = [ast.parse(source) for source in sources]
    trees += [tree(cell) for path in NOTEBOOKS for cell in code(nbformat.read(path, as_version=4))]
    names = {
        alias.name for each in trees for node in ast.walk(each) if isinstance(node, ast.Import) for alias in node.names
    }
    names |= {
        node.module for each in trees for node in ast.walk(each) if isinstance(node, ast.ImportFrom) and not node.level
    }
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"src", "google", "tools"}


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-colab.txt"])
def test_what_pages_import_is_required(file):
    lines = [line for name in (file, "requirements-weights.txt") for line in (ROOT / name).read_text("utf-8").splitlines()]
    required = {re.split(r"[=<>;\[ ]", line)[0].lower() for line in lines}
    packages = metadata.packages_distributions()
    missing = {
        name for name in imported_packages() if not required & {each.lower() for each in packages.get(name, [name])}
    }
    assert not missing


EXERCISE = """:::{{exercise}} 题
:label: ex-{0}

问
:::

:::{{solution}} ex-{0}
:class: dropdown

答
:::

"""


def good_notebook():
    """A small notebook that keeps every rule."""
    cells = [
        new_code_cell(setup_cell(), metadata={"tags": ["hide-input"]}, execution_count=1),
        new_markdown_cell("text"),
        new_code_cell("x = 1\nprint(approx(x))\nassert x > 0", execution_count=2, outputs=[new_output("stream", text="≈1.00\n")]),
        new_markdown_cell("".join(map(EXERCISE.format, "abc"))),
        new_code_cell("plt.show()", execution_count=3, outputs=[
            new_output("display_data", data={"image/png": "iVBORw0KGgo=", "text/plain": "<Figure size 600x400 with 1 Axes>"}),
        ]),
    ]  # fmt: skip
    notebook = new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return notebook


def test_the_rules_accept_a_good_notebook():
    assert not [fault for rule in RULES for fault in rule(good_notebook())]


def spoil(place, **changes):
    """A function that changes a cell of a notebook."""
    return lambda notebook: notebook.cells[place].update(changes)


def swap(place, old, new):
    """A function that replaces a text in a cell's source."""
    return lambda notebook: notebook.cells[place].update(source=notebook.cells[place].source.replace(old, new))


def add_output(place, kind, **content):
    return lambda notebook: notebook.cells[place].outputs.append(new_output(kind, **content))


def many(count):
    """A function that adds code cells one after another."""
    return lambda notebook: notebook.cells.extend(new_code_cell("x", execution_count=4 + n) for n in range(count))


ERROR = {"ename": "ValueError", "evalue": "no", "traceback": []}


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        (executed_in_order, spoil(2, execution_count=None)),
        (executed_in_order, spoil(2, execution_count=7)),
        (errors_are_tagged, add_output(2, "error", **ERROR)),
        (errors_are_tagged, spoil(2, metadata={"tags": ["raises-exception"]})),
        (setup_is_the_first_cell, spoil(0, source=setup_cell() + " ")),
        (setup_is_the_first_cell, spoil(0, source=setup_cell("https://github.com/other/book"))),
        (setup_is_the_first_cell, spoil(0, metadata={})),
        (cells_are_short, spoil(2, source="\n".join(["x"] * 41))),
        (cells_are_short, spoil(2, source="\n".join(["x"] * 26))),
        (cells_are_short, spoil(2, source="\n".join(["x"] * 17))),
        (prose_stands_between_code, many(2)),
        (no_machine_in_it, add_output(2, "stream", text="saved in /home/me/book")),
        (no_machine_in_it, add_output(2, "error", ename="E", evalue="", traceback=["File /root/x.py"])),
        (no_machine_in_it, spoil(2, source="open('C:\\\\Users\\\\me')")),
        (pictures_are_png, add_output(2, "display_data", data={"image/svg+xml": "<svg/>"})),
        (pictures_are_png, lambda notebook: notebook.cells[4].outputs[0].data.pop("image/png")),
        (metadata_is_plain, lambda notebook: notebook.metadata.update(kernelspec={"name": "conda-env"})),
        (metadata_is_plain, lambda notebook: notebook.metadata.update(widgets={})),
        (metadata_is_plain, spoil(2, metadata={"execution": {}})),
        (outputs_are_compared, spoil(2, metadata={"tags": ["nbval-ignore-output"]})),
        (outputs_are_compared, spoil(2, source="# NBVAL_SKIP\nx = 1")),
        (claims_are_asserted, spoil(2, source="print(approx(1))")),
        (has_exercises, swap(3, "{solution} ex-b", "{solution} ex-z")),
        (has_exercises, swap(3, "{exercise} 题\n:label: ex-c", "{note} 题\n:label: ex-c")),
        (has_exercises, swap(3, ":label: ex-c", ":label: ex-a")),
        (ids_are_unique, spoil(2, id="cell-3")),
        (bold_is_bold, spoil(1, source="**粗体。**后文")),
        (backslashes_survived, spoil(4, metadata={"mystnb": {"figure": {"caption": "$\tau$"}}})),
    ],
)  # fmt: skip
def test_the_rules_see_a_fault(rule, change):
    notebook = good_notebook()
    change(notebook)
    assert list(rule(notebook))


def test_a_claim_may_be_waived_or_stand_in_the_next_cell():
    notebook = good_notebook()
    notebook.cells[2].source = "print(approx(1))"
    notebook.cells[4].source = "assert True"
    assert not list(claims_are_asserted(notebook))
    notebook.cells[4].source = "x"
    notebook.cells[2].metadata["book"] = {"no_claim": True}
    assert not list(claims_are_asserted(notebook))
