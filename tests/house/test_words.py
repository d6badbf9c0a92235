"""One word for one idea: the glossary is the single source, and the pages keep to it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = ROOT / "chapters" / "appendix" / "glossary.md"
PAGES = [ROOT / "index.md", *sorted((ROOT / "chapters").rglob("*.md")), *sorted((ROOT / "chapters").rglob("*.ipynb"))]
PAGES = [path for path in PAGES if path != GLOSSARY and ".ipynb_checkpoints" not in path.parts]


def terms(text: str) -> list[str]:
    """All terms, Chinese and English, of the glossary directives."""
    bodies = re.findall(r"```\{glossary\}\n(.*?)```", text, re.S)
    return [line for body in bodies for line in body.splitlines() if line and not line.startswith(" ")]


def variants(text: str) -> dict[str, str]:
    """Word that is not used -> the word that is, from the last table of the glossary."""
    table = text.partition("## 统一的用词")[2]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.M)
    return {wrong: right for right, wrong in rows if right != "用"}


def prose(path: Path) -> str:
    """The page's text without code cells, outputs and code blocks."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"```(?!\{).*?```|`[^`\n]*`", "", text, flags=re.S)


def strangers(text: str, forbidden: dict[str, str]) -> list[str]:
    return [f"{wrong} (use {right})" for wrong, right in forbidden.items() if wrong in text]


def test_a_term_is_defined_once():
    found = terms(GLOSSARY.read_text("utf-8"))
    assert len(found) > 100
    assert [term for term, count in Counter(found).items() if count > 1] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_pages_use_the_agreed_words(path):
    assert strangers(prose(path), variants(GLOSSARY.read_text("utf-8"))) == []


def test_a_variant_is_noticed():
    forbidden = variants(GLOSSARY.read_text("utf-8"))
    assert forbidden["您"] == "你"
    assert strangers("把令牌交给模型", forbidden) == ["令牌 (use 词元)"]
    assert strangers(re.sub("令牌", "词元", "把令牌交给模型"), forbidden) == []
