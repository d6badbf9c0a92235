"""What the scripts behind data/results share: the training cells of a page, and a record that is whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

from src.runtime import atomic_write, pick_device

ROOT = Path(__file__).resolve().parent.parent


def training_cells(page: str) -> dict:
    """The names that the training cells of ``chapters/<page>.ipynb`` define, those whose ids begin with ``train-``."""
    names = {"device": pick_device()}
    for cell in json.loads((ROOT / "chapters" / f"{page}.ipynb").read_text("utf-8"))["cells"]:
        if cell["id"].startswith("train-"):
            exec("".join(cell["source"]), names)
    return names


def write(path: Path, found: dict) -> None:
    """Write the record as JSON with a line for each list."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(found, ensure_ascii=False, separators=(",", ":")).replace("],", "],\n") + "\n", "utf-8")
