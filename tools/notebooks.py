"""Execute notebooks and store their outputs so that a re-run without a change leaves every byte as it is.

    python -m tools.notebooks [--fresh] [PATH ...]

Each notebook runs in a new kernel in its own folder, with the set-up cell written in. When the new outputs
say the same as the stored ones (after the folding of tests/nbval.cfg, pictures up to rounding), the stored
ones stay; else all outputs of the notebook are replaced, so that its numbers always come from one run.
--fresh replaces them in any case: use it after a change that is meant to move measured (≈) results.

Cell metadata `book`: `{"keep_stderr": true}` stores what the cell writes to stderr; `{"measured": true}`
says that the cell's picture shows measured times or losses and differs in each run.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import nbformat
import numpy as np
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager
from nbval.plugin import get_sanitize_patterns
from PIL import Image

from src.runtime import atomic_write
from tools.setup_cell import setup_cell

ROOT = Path(__file__).resolve().parents[1]
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
NOTEBOOK_METADATA = ("book",)
CELL_METADATA = ("tags", "mystnb", "book")
SLIGHTLY = 32
"""Largest difference of one pixel's channel (of 255) that rounding on another machine may cause."""
CELL_SECONDS = 900


class ThisEnvironment(AsyncKernelManager):
    """Starts the kernel of the running interpreter, whatever kernels the user has installed."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return NbvalKernelspecManager(parent=self)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / "chapters"], help="notebooks or folders")
    parser.add_argument("--fresh", action="store_true", help="replace stored outputs even if they say the same")
    options = parser.parse_args(arguments)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        for path in find(options.paths):
            print(f"{path}: ", end="", flush=True)
            begin = time.perf_counter()
            said = store(path, fresh=options.fresh)
            print(f"{said} ({time.perf_counter() - begin:.0f} s)", flush=True)
    except (CellExecutionError, CellTimeoutError, DeadKernelError, FileNotFoundError, ValueError) as error:
        print(f"failed; the file is left as it was\n{error}", file=sys.stderr)
        return 1
    return 0


def find(paths: Iterable[Path]) -> list[Path]:
    """Notebooks among files and folders, in order, without editor copies.

    Raises:
        FileNotFoundError: a path does not exist, or no notebook was found.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such notebook or folder")
        found += sorted(path.rglob("*.ipynb")) if path.is_dir() else [path]
    found = [path for path in found if ".ipynb_checkpoints" not in path.parts]
    if not found:
        raise FileNotFoundError(f"{', '.join(map(str, paths))}: no notebook there")
    return found


def store(path: Path, fresh: bool = False) -> str:
    """Execute one notebook and store it; returns what happened: "unchanged" or "stored"."""
    old_text = path.read_text("utf-8")
    stored = nbformat.reads(old_text, as_version=4)
    notebook = nbformat.reads(old_text, as_version=4)
    write_setup_cell(notebook)
    execute(notebook, path.parent)
    normalise(notebook)
    moved: list[str] = []
    if not fresh and says_the_same(stored, notebook):
        moved = moved_numbers(stored, notebook)
        keep_outputs(stored, notebook)
    nbformat.validate(notebook)
    text = nbformat.writes(notebook) + "\n"
    if text != old_text:
        with atomic_write(path) as temporary:
            temporary.write_text(text, "utf-8")
    said = "unchanged" if text == old_text else "stored"
    return said + (f"; measured now, but not stored without --fresh: {', '.join(moved)};" if moved else "")


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Code cells that have a source."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def write_setup_cell(notebook: NotebookNode) -> None:
    """Make the first code cell the set-up cell."""
    source = setup_cell()
    first = next((index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"), len(notebook.cells))
    there = first < len(notebook.cells) and notebook.cells[first].source.rstrip().endswith("device = start()")
    if not there:
        notebook.cells.insert(first, nbformat.v4.new_code_cell(id="setup"))
    cell = notebook.cells[first]
    cell.source = source
    cell.metadata["tags"] = ["hide-input"]


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run every cell in a new kernel whose working directory is `folder`; the kernel's own log is dropped."""
    NotebookClient(
        notebook,
        kernel_name=CURRENT_ENV_KERNEL_NAME,
        kernel_manager_class=ThisEnvironment,
        resources={"metadata": {"path": str(folder)}},
        timeout=CELL_SECONDS,
        record_timing=False,
    ).execute(stderr=subprocess.DEVNULL)


def normalise(notebook: NotebookNode) -> None:
    """Take out of an executed notebook what differs between two runs or machines and says nothing."""
    kept = {key: notebook.metadata[key] for key in NOTEBOOK_METADATA if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict({**kept, "kernelspec": KERNELSPEC, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in CELL_METADATA if key in cell.metadata})
    for count, cell in enumerate(code_cells(notebook), 1):
        cell.execution_count = count
        cell.outputs = merge_streams(without_stderr(cell))
        for output in cell.outputs:
            normalise_output(output, count)


def without_stderr(cell: NotebookNode) -> list[NotebookNode]:
    """The cell's outputs less progress bars and warnings; warnings go to the terminal, for the author."""
    if cell.metadata.get("book", {}).get("keep_stderr"):
        return cell.outputs
    for output in cell.outputs:
        if output.get("name") == "stderr":
            lines = [line for line in output.text.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]
            print("".join(f"\n  stderr: {line}" for line in lines), end="", file=sys.stderr)
    return [output for output in cell.outputs if output.get("name") != "stderr"]


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of one stream, which a kernel cuts at random places."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if merged and output.output_type == "stream" and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def normalise_output(output: NotebookNode, count: int) -> None:
    """Number a result as its cell, strip pictures of metadata, make paths in a traceback relative."""
    if output.output_type == "execute_result":
        output.execution_count = count
    if output.output_type == "error":
        output.traceback = [relative_paths(line) for line in output.traceback]
    data = output.get("data", {})
    data.pop("application/vnd.jupyter.widget-view+json", None)
    if "image/png" in data:
        data["image/png"] = strip_png(data["image/png"])


def relative_paths(text: str) -> str:
    """Shorten paths of this checkout and of installed packages."""
    text = re.sub(r"(?:[A-Za-z]:)?[^\s\x1b'\"]*[/\\]site-packages[/\\]", "site-packages/", text)
    return text.replace(f"{ROOT}{os.sep}", "").replace(f"~{os.sep}{ROOT.name}{os.sep}", "")


def strip_png(encoded: str) -> str:
    """Re-encode a base64 PNG without its text, time and program chunks; the pixels stay."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        picture.info.clear()
        picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def says_the_same(stored: NotebookNode, new: NotebookNode) -> bool:
    """Whether the notebooks' outputs agree cell by cell as the notebook tests compare them."""
    pairs = list(zip(code_cells(stored), code_cells(new), strict=False))
    return len(code_cells(stored)) == len(code_cells(new)) and all(
        before.execution_count is not None and same_outputs(before, after) for before, after in pairs
    )


def same_outputs(before: NotebookNode, after: NotebookNode) -> bool:
    """Whether two runs of one cell agree: texts after folding, pictures up to rounding."""
    measured = after.metadata.get("book", {}).get("measured", False)
    return len(before.outputs) == len(after.outputs) and all(
        folded_output(a) == folded_output(b) and (measured or same_picture(a, b))
        for a, b in zip(before.outputs, after.outputs, strict=True)
    )


def folded_output(output: NotebookNode) -> dict:
    """What of an output must be equal in two runs, as nbval sees it."""
    texts = {key: output[key] for key in ("name", "text", "ename", "evalue") if key in output}
    texts |= {kind: value for kind, value in output.get("data", {}).items() if kind != "image/png"}
    texts["picture"] = "image/png" in output.get("data", {})
    return {key: fold(value) if isinstance(value, str) else value for key, value in texts.items()}


def fold(text: str) -> str:
    """Apply the replacements of tests/nbval.cfg."""
    for pattern, replacement in get_sanitize_patterns((ROOT / "tests" / "nbval.cfg").read_text("ascii")):
        text = re.sub(pattern, replacement, text)
    return text


def same_picture(a: NotebookNode, b: NotebookNode) -> bool:
    """Whether two outputs show the same picture, or both none."""
    first, second = (output.get("data", {}).get("image/png") for output in (a, b))
    if first is None or second is None or first == second:
        return first == second
    before, after = pixels(first), pixels(second)
    return before.shape == after.shape and int(abs(before - after).max(initial=0)) <= SLIGHTLY


def pixels(encoded: str) -> np.ndarray:
    """Pixels of a base64 PNG, int16 [H, W, 4]."""
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        return np.asarray(picture.convert("RGBA"), dtype=np.int16)


def moved_numbers(stored: NotebookNode, new: NotebookNode, ratio: float = 0.2) -> list[str]:
    """Measured numbers that a new run of agreeing notebooks moved by more than `ratio`, as "≈0.81 → ≈0.95"."""
    before, after = ([value for cell in code_cells(book) for value in measured_numbers(cell)] for book in (stored, new))
    far = [(a, b) for a, b in zip(before, after, strict=False) if abs(a - b) > ratio * max(abs(a), abs(b))]
    return [f"≈{a:g} → ≈{b:g}" for a, b in far]


def measured_numbers(cell: NotebookNode) -> list[float]:
    """Numbers that a cell printed through `approx`, in order."""
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return [float(number) for text in texts for number in re.findall(r"≈([-+]?\d+(?:\.\d+)?)", text)]


def keep_outputs(stored: NotebookNode, new: NotebookNode) -> None:
    """Put the stored outputs back."""
    for before, after in zip(code_cells(stored), code_cells(new), strict=True):
        after.outputs = before.outputs


if __name__ == "__main__":
    sys.exit(main())
