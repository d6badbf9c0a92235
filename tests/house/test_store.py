"""tools/notebooks.py: a re-run without a change changes nothing, a change shows, a failure leaves the file."""

import base64
import io

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image, PngImagePlugin

from tools import notebooks

SETUP = "start = dict\n\ndevice = start()"
CELLS = [
    "import os, sys, time\nfrom pathlib import Path\nfrom src.runtime import approx",
    "for n in range(3):\n    print(n, flush=True)\n    time.sleep(0.05)\n    print('noise', file=sys.stderr, flush=True)",
    "print(approx(time.time()), approx(str(time.time_ns())))",
    "print(Path.cwd().name, os.environ.get('CIFAR10_DIR'))",
    "[1, 2]",
    "1 / 0",
]


@pytest.fixture
def path(tmp_path, monkeypatch):
    """An unexecuted notebook with a light set-up cell."""
    monkeypatch.setattr(notebooks, "setup_cell", lambda: SETUP)
    monkeypatch.setenv("CIFAR10_DIR", "some/folder")
    cells = [new_markdown_cell("# title"), *map(new_code_cell, CELLS)]
    cells[-1].metadata = {"tags": ["raises-exception"], "collapsed": True}
    cells[1].metadata = {"execution": {"started": "today"}}
    file = tmp_path / "room" / "small.ipynb"
    file.parent.mkdir()
    nbformat.write(new_notebook(cells=cells, metadata={"widgets": {}, "book": {"slow": True}}), file)
    return file


def test_a_second_run_changes_no_byte_and_an_edit_shows(path, capsys):
    assert notebooks.main([str(path)]) == 0
    assert "stderr: noise" in capsys.readouterr().err
    first = path.read_bytes()
    assert notebooks.main([str(path.parent)]) == 0
    assert path.read_bytes() == first and "unchanged" in capsys.readouterr().out

    notebook = nbformat.read(path, as_version=4)
    setup, _, loop, _, place, value, failure = (cell for cell in notebook.cells if cell.cell_type == "code")
    assert setup.source == SETUP and setup.metadata == {"tags": ["hide-input"]}
    assert [cell.execution_count for cell in notebooks.code_cells(notebook)] == list(range(1, 8))
    assert [output.text for output in loop.outputs] == ["0\n1\n2\n"]
    assert place.outputs[0].text == "room some/folder\n"
    assert value.outputs[0].execution_count == 6
    assert failure.outputs[0].ename == "ZeroDivisionError" and failure.metadata == {"tags": ["raises-exception"]}
    assert notebook.metadata == {
        "book": {"slow": True},
        "kernelspec": notebooks.KERNELSPEC,
        "language_info": {"name": "python"},
    }

    value.source = "[1, 3]"
    nbformat.write(notebook, path)
    assert notebooks.main([str(path)]) == 0
    assert b'[1, 3]"' in path.read_bytes() and path.read_bytes() != first


def test_a_failing_cell_leaves_the_file(path, capsys):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].metadata = {}
    nbformat.write(notebook, path)
    before = path.read_bytes()
    assert notebooks.main([str(path)]) == 1
    said = capsys.readouterr()
    assert "small.ipynb" in said.out and "the file is left as it was" in said.err and "ZeroDivisionError" in said.err
    assert path.read_bytes() == before and [file.name for file in path.parent.iterdir()] == ["small.ipynb"]


def test_a_wrong_path_is_named(tmp_path, capsys):
    assert notebooks.main([str(tmp_path / "no.ipynb")]) == 1
    assert "no.ipynb: no such notebook or folder" in capsys.readouterr().err
    assert notebooks.main([str(tmp_path)]) == 1
    assert "no notebook there" in capsys.readouterr().err


def png(array: np.ndarray, **texts: str) -> str:
    """A base64 PNG of these pixels with text chunks."""
    chunks, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    for key, text in texts.items():
        chunks.add_text(key, text)
    Image.fromarray(array).save(buffer, "PNG", pnginfo=chunks)
    return base64.b64encode(buffer.getvalue()).decode()


def book_with(*outputs, measured=False):
    """A notebook of one executed cell."""
    cell = new_code_cell("x", outputs=list(outputs), execution_count=1, metadata={"book": {"measured": measured}})
    return new_notebook(cells=[cell])


def picture(array):
    return new_output("display_data", data={"image/png": png(array), "text/plain": "<Figure>"})


def test_pictures_lose_their_metadata_and_keep_their_pixels():
    array = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    one, other = (notebooks.strip_png(png(array, Software=name, Time=name)) for name in ("a", "b"))
    assert one == other and b"tEXt" not in base64.b64decode(one)
    assert (notebooks.pixels(one)[..., :3] == array).all()


def test_slightly_different_pictures_say_the_same():
    gray = np.full((8, 8, 3), 100, dtype=np.uint8)
    rounding, label = gray.copy(), gray.copy()
    rounding[2, 2] += 20
    label[2, 2] += 100
    assert notebooks.says_the_same(book_with(picture(gray)), book_with(picture(rounding)))
    assert not notebooks.says_the_same(book_with(picture(gray)), book_with(picture(label)))
    assert not notebooks.says_the_same(book_with(picture(gray)), book_with(picture(gray[:4])))
    assert notebooks.says_the_same(book_with(picture(gray)), book_with(picture(label), measured=True))


def test_texts_say_the_same_up_to_measured_results():
    def stream(text):
        return new_output("stream", text=text)

    assert notebooks.says_the_same(book_with(stream("≈0.1 3")), book_with(stream("≈22.5 3")))
    assert not notebooks.says_the_same(book_with(stream("≈0.1 3")), book_with(stream("≈0.1 4")))
    assert not notebooks.says_the_same(book_with(stream("a")), book_with(stream("a"), stream("a")))
    assert not notebooks.says_the_same(book_with(), book_with(picture(np.zeros((2, 2, 3), np.uint8))))
    never_run = book_with(stream("a"))
    never_run.cells[0].execution_count = None
    assert not notebooks.says_the_same(never_run, book_with(stream("a")))


def test_moved_numbers_are_reported():
    one, other = (book_with(new_output("stream", text=text)) for text in ("≈0.80 ≈12.0 s", "≈0.81 ≈24.0 s"))
    assert notebooks.moved_numbers(one, other) == ["≈12 → ≈24"]


def test_paths_in_a_traceback_are_relative():
    root = notebooks.ROOT
    assert notebooks.relative_paths(f"File {root}/src/a.py:3") == "File src/a.py:3"
    assert notebooks.relative_paths("File /x/y/site-packages/torch/a.py") == "File site-packages/torch/a.py"
