"""Build the book with warnings as errors; what `make book` does, for other tools and the tests."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class BuildError(RuntimeError):
    """The book does not build; the message holds the end of the log."""


def build(source: Path = ROOT, output: Path | None = None, builder: str = "html") -> Path:
    """Build the book in `source` under `output` (default: `source`); return the folder of its pages.

    `builder` is "html" or "singlehtml".

    Raises
    ------
    BuildError
        If Sphinx finds an error or a warning.
    """
    output = output or source
    command = [Path(sysconfig.get_path("scripts"), "jupyter-book"), "build", "-W", "-n", "--keep-going"]
    command += ["--builder", builder, "--path-output", output, source]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise BuildError(f"{source} does not build:\n{done.stderr[-4000:] or done.stdout[-4000:]}")
    return output / "_build" / builder
