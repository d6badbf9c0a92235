"""The Chinese font of the figures has every character that the book can draw."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from src.fonts import FAMILY, FONT
from src.plotting import use_book_style
from tools import font

ROOT = font.ROOT
NOTEBOOKS = sorted(ROOT.glob("chapters/**/*.ipynb"))


@pytest.fixture(scope="module")
def characters() -> set[str]:
    """Characters that a figure can show: those of the book's font and of matplotlib's DejaVu Sans."""
    import matplotlib

    dejavu = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return {chr(code) for path in (FONT, dejavu) for code in TTFont(path).getBestCmap()}


def code_characters(path: Path) -> set[str]:
    """Return the characters of the code cells at `path`: their sources and text outputs."""
    notebook = json.loads(path.read_text("utf-8"))
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return set().union(*map(font.drawable, font.cell_texts(notebook)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_font_has_the_characters_of_the_code_cells(characters: set[str], path: Path) -> None:
    missing = sorted(code_characters(path) - characters)
    assert missing == [], "run `make font` to cut the font anew"


def test_font_has_the_characters_of_code_and_data(characters: set[str]) -> None:
    texts = [p.read_text("utf-8") for pattern in ("src/**/*.py", "data/**/*.json") for p in ROOT.glob(pattern)]
    missing = sorted(set().union(*map(font.drawable, texts)) - characters)
    assert missing == [], "run `make font` to cut the font anew"


def test_font_has_common_chinese_and_its_own_name() -> None:
    file = TTFont(FONT)
    codes = set(file.getBestCmap())
    assert len(set(font.gb2312(0xB0, 0xD7))) == 3755
    assert set(map(ord, font.gb2312(0xB0, 0xD7) + "−，。：《》——αβθ≈①")) <= codes
    assert file["name"].getDebugName(1) == FAMILY
    assert "Open Font License" in file["name"].getDebugName(13)
    assert "SIL OPEN FONT LICENSE" in FONT.with_name("OFL.txt").read_text("utf-8")


def test_emoji_and_control_codes_are_not_asked_of_a_text_font() -> None:
    assert font.drawable("熵 A−\n\u200d\ufe0f🍎") == set("熵 A−")


def test_a_missing_glyph_is_an_error() -> None:
    code = (
        "import matplotlib; matplotlib.use('agg')\n"
        "from src.plotting import use_book_style; use_book_style()\n"
        "import matplotlib.pyplot as plt\n"
        "plt.title('熵 −1 ₁ 提示学习'); plt.gcf().canvas.draw(); print('drawn')\n"
        "plt.title('\\U0001F34E'); plt.gcf().canvas.draw()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "drawn\n"
    assert "UserWarning: Glyph 127822" in done.stderr


def test_a_missing_font_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("src.fonts.FONT", tmp_path / "book-cjk.otf")
    with pytest.raises(FileNotFoundError, match=r"book-cjk\.otf is missing"):
        use_book_style()


@pytest.mark.skipif(not font.SOURCE.exists(), reason=f"{font.SOURCE} is missing: apt-get install fonts-noto-cjk")
def test_subset_holds_exactly_what_is_asked_for(tmp_path: Path) -> None:
    target = tmp_path / "subset.otf"
    assert font.build(font.SOURCE, target, set("熵融合A−")) == 5
    assert set(map(chr, TTFont(target).getBestCmap())) == set("熵融合A−")


def test_a_missing_source_font_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="fonts-noto-cjk"):
        font.build(tmp_path / "none.ttc", tmp_path / "subset.otf", set("A"))
    assert list(tmp_path.iterdir()) == []
