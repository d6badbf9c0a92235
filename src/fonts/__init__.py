"""The Chinese font of the figures: the part of Noto Sans CJK SC that ``tools/font.py`` cuts out, under its own name."""

from __future__ import annotations

from pathlib import Path

FONT = Path(__file__).with_name("book-cjk.otf")
FAMILY = "Multimodal Book CJK"


def use_font() -> str:
    """Register the font with matplotlib and return its family, for ``font.family``.

    Raises FileNotFoundError when the font file is not there.
    """
    from matplotlib import font_manager

    if not FONT.is_file():
        raise FileNotFoundError(f"Chinese font {FONT.name} is missing from {FONT.parent}; restore it from the book")
    if FAMILY not in {font.name for font in font_manager.fontManager.ttflist}:
        font_manager.fontManager.addfont(FONT)
    return FAMILY
