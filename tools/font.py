"""Rebuild src/fonts/book-cjk.otf, the Chinese font of the figures.

The font is the part of Noto Sans CJK SC (SIL Open Font License 1.1) that the book needs: the common
characters of GB 2312, punctuation, Greek, mathematics and every character of the book's own texts.

    python -m tools.font [NotoSansCJK-Regular.ttc]

On Debian and Ubuntu the source font comes with `apt-get install fonts-noto-cjk`.
"""

from __future__ import annotations

import argparse
import json
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from src.fonts import FAMILY, FONT
from src.runtime import atomic_write

ROOT = Path(__file__).resolve().parents[1]
SOURCE = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
SOURCE_FAMILY = "Noto Sans CJK SC"
TEXTS = ("*.md", "chapters/**/*.md", "chapters/**/*.ipynb", "src/**/*.py", "tests/**/*.py", "data/**/*.json")
SYMBOLS = "−±×÷·°µ∑∏∞≤≥≠≈≡∈∉⊂⊆∪∩∀∃→←↑↓↔⇒√∂∇∫∥⊙⊕⊗…—‘’“”′″²³•■□▲△●○★☆✓①②③④⑤⑥⑦⑧⑨⑩％‰℃"


def gb2312(first_row: int, last_row: int) -> str:
    """Return the characters of the rows first..last (0xA1..0xF7) of GB 2312."""
    codes = (bytes([row, cell]) for row in range(first_row, last_row + 1) for cell in range(0xA1, 0xFF))
    return "".join(code.decode("gb2312", "ignore") for code in codes)


def base_characters() -> set[str]:
    """Return ASCII, Greek, symbols, GB 2312 punctuation (rows 1–9) and its level 1 (rows 16–55)."""
    ascii_ = "".join(map(chr, range(0x20, 0x7F)))
    greek = "".join(map(chr, range(0x391, 0x3CA)))
    return set(ascii_ + greek + SYMBOLS + gb2312(0xA1, 0xA9) + gb2312(0xB0, 0xD7))


def drawable(text: str) -> set[str]:
    """Return the characters of `text` that a text font is expected to have: no emoji, no control codes."""
    skipped = {"Cc", "Cf", "Cn", "Co", "Cs", "Mn", "Me", "Sk", "Zl", "Zp"}
    return {c for c in text if ord(c) < 0x1F000 and unicodedata.category(c) not in skipped}


def cell_texts(notebook: dict) -> Iterator[str]:
    """Yield the source of every cell of a notebook in nbformat 4 and every text that it shows."""
    for cell in notebook["cells"]:
        yield "".join(cell["source"])
        for output in cell.get("outputs", []):
            yield "".join(output.get("text", []))
            yield from ("".join(v) for k, v in output.get("data", {}).items() if k.startswith("text/"))


def book_characters(root: Path = ROOT) -> set[str]:
    """Return the characters of the book's pages, code and data."""
    found: set[str] = set()
    for pattern in TEXTS:
        for path in root.glob(pattern):
            if any(part.startswith((".", "_")) for part in path.relative_to(root).parts[:-1]):
                continue
            text = path.read_text("utf-8")
            texts = cell_texts(json.loads(text)) if path.suffix == ".ipynb" else [text]
            found.update(*map(drawable, texts))
    return found


def open_source(path: Path):
    """Open the Simplified Chinese face of the Noto collection (or single font) at `path`."""
    from fontTools.ttLib import TTCollection, TTFont

    if not path.is_file():
        raise SystemExit(f"{path}: no such font; install fonts-noto-cjk or name NotoSansCJK-Regular.ttc")
    if path.suffix != ".ttc":
        return TTFont(path)
    for face in TTCollection(path).fonts:
        if face["name"].getDebugName(1) == SOURCE_FAMILY:
            return face
    raise SystemExit(f"{path}: holds no {SOURCE_FAMILY}; name Noto's NotoSansCJK-Regular.ttc")


def rename(font, family: str) -> None:
    """Give `font` the name `family`, so that an installed Noto is never taken for it."""
    table = font["name"]
    names = {1: family, 2: "Regular", 3: f"{family} Regular", 4: family, 6: family.replace(" ", "")}
    table.names = [record for record in table.names if record.nameID in (0, 13, 14)]
    for name_id, text in names.items():
        table.setName(text, name_id, 3, 1, 0x409)
    if "CFF " in font:
        top = font["CFF "].cff
        top.fontNames = [names[6]]
        top.topDictIndex[0].FullName = top.topDictIndex[0].FamilyName = family


def build(source: Path, target: Path, characters: set[str]) -> int:
    """Write the subset of `source` with `characters` to `target`; return its number of characters."""
    from fontTools.subset import Options, Subsetter

    options = Options(hinting=False, desubroutinize=True, layout_features=[], notdef_outline=True, name_IDs=["*"])
    font = open_source(source)
    subsetter = Subsetter(options)
    subsetter.populate(text="".join(sorted(characters)))
    subsetter.subset(font)
    rename(font, FAMILY)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as temporary:
        font.save(temporary)
    return len(font.getBestCmap())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.font", description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", type=Path, default=SOURCE)
    parser.add_argument("--output", type=Path, default=FONT)
    options = parser.parse_args(arguments)
    count = build(options.source, options.output, base_characters() | book_characters())
    print(f"{options.output.name}: {count} characters, {options.output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
