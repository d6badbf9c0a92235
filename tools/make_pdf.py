"""Print the book to a PDF with the browser.

python -m tools.make_pdf [_build/book.pdf]
"""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path

from src.fonts import FONT
from src.runtime import atomic_write
from tools import browser
from tools.build import BuildError, build
from tools.serve import running

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "_build" / "book.pdf"

# The figures' font: the same type on every machine. With an installed Noto the text of the PDF would hold the
# look-alike radicals of 文, 门 and others, which share their glyphs, and a search for these words would fail.
CSS = """
@font-face { font-family: "Book CJK"; src: url(data:font/otf;base64,%s); }
html[data-theme] {
  --pst-font-family-base: "Book CJK", sans-serif;
  --pst-font-family-heading: "Book CJK", sans-serif;
  --pst-font-family-monospace: Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", "Book CJK", monospace; }
pre.mermaid, pre.mermaid * { font-family: "Book CJK", sans-serif !important; }
@page { size: A4; margin: 18mm 16mm 20mm 16mm; }
.bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .prev-next-footer, .bd-footer, .bd-header,
.headerlink, .copybtn, .skip-link, .toggle-button, details > summary { display: none !important; }
.bd-main, .bd-content, .bd-article-container, .bd-article {
  display: block !important; max-width: none !important; width: auto !important;
  padding: 0 !important; margin: 0 !important; overflow: visible !important; }
pre { white-space: pre-wrap !important; word-break: break-all; }
.cell_output img, figure, pre.mermaid, .admonition:not(.solution) { break-inside: avoid; }
*, *::before, *::after { animation: none !important; transition: none !important; }
"""
UNFOLD = """() => {
  document.querySelectorAll('details').forEach(e => e.open = true);
  document.querySelectorAll('.toggle-hidden').forEach(e => e.classList.remove('toggle-hidden'));
}"""
FOOTER = """<div style="font-size: 8px; width: 100%; text-align: center">
  <span class="pageNumber"></span> / <span class="totalPages"></span></div>"""


def print_pdf(folder: Path, target: Path) -> None:
    """Print the `singlehtml` build in `folder` to `target`, everything folded opened, with an outline.

    Raises
    ------
    FileNotFoundError
        If `folder` holds no built page, or no browser is installed.
    playwright.sync_api.TimeoutError
        If a formula or diagram cannot be drawn.
    """
    from playwright.sync_api import sync_playwright

    target.parent.mkdir(parents=True, exist_ok=True)
    with running(folder) as address, sync_playwright() as playwright, atomic_write(target) as temporary:
        chromium = browser.launch(playwright)
        page = chromium.new_page(viewport={"width": 900, "height": 1200})
        page.goto(f"{address}index.html")
        page.evaluate(UNFOLD)
        browser.wait_until_rendered(page, 60)
        page.add_style_tag(content=CSS % base64.b64encode(FONT.read_bytes()).decode())
        page.evaluate("document.fonts.ready")
        page.pdf(
            path=temporary,
            format="A4",
            print_background=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
            outline=True,
            tagged=True,
        )
        chromium.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_pdf", description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="?", type=Path, default=TARGET)
    target = parser.parse_args(arguments).target
    try:
        print_pdf(build(builder="singlehtml"), target)
    except (BuildError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
