"""Check the built book: links inside it, anchors, pictures; nothing loaded from another host.

python -m tools.check_html [_build/html]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
LOADED = {
    ("script", "src"),
    ("img", "src"),
    ("link", "href"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("audio", "src"),
    ("embed", "src"),
    ("object", "data"),
}
MODULE = re.compile(r'\bimport\s+(?:[\w*{},\s]+?\s+from\s+)?["\']([^"\']+)["\']')
STYLE_URL = re.compile(r"url\(\s*[\"']?(?!data:)([^\"')]+)")


class Page(HTMLParser):
    """Anchors (`ids`) and references (`tag, attribute, URL`) of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.references: list[tuple[str, str, str]] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        self._script = tag == "script"
        self.ids.update(value for key, value in attributes if key in ("id", "name") and value)
        if tag == "link" and {"canonical", "alternate"} & set((named.get("rel") or "").split()):
            return
        self.references += [(tag, key, named[key]) for key in ("href", "src", "data") if named.get(key)]

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script:
            self.references += [("script", "src", url) for url in MODULE.findall(data)]


def problems(root: Path) -> Iterator[str]:
    """Yield a line for every broken link and every foreign resource of the book in `root`."""
    root = root.resolve()
    texts = {path: path.read_text("utf-8") for path in sorted(root.rglob("*.html")) if "_static" not in path.parts}
    pages = {path: Page(text) for path, text in texts.items()}
    for path, page in pages.items():
        for reference in sorted(set(page.references)):
            found = _problem(root, pages, path, *reference)
            if found:
                yield f"{path.relative_to(root)}: {found}"
    yield from _foreign_styles(root)


def _problem(root: Path, pages: dict[Path, Page], path: Path, tag: str, attribute: str, url: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        foreign = (tag, attribute) in LOADED and parts.scheme != "data"
        return f"<{tag}> loads from another host: {url}" if foreign else None
    file, fragment = urldefrag(url)
    file = unquote(file.split("?")[0])
    target = path if not file else (path.parent / file).resolve()
    if file.startswith("/"):
        target = root / file.lstrip("/")
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return f"no such file: {url}"
    if fragment and target in pages and unquote(fragment) not in pages[target].ids:
        return f"no such anchor: {url}"
    return None


def _foreign_styles(root: Path) -> Iterator[str]:
    for path in sorted(root.rglob("*.css")):
        for url in sorted(set(STYLE_URL.findall(path.read_text("utf-8")))):
            if urlsplit(url).netloc:
                yield f"{path.relative_to(root)}: loads from another host: {url}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.check_html", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=HTML)
    folder = parser.parse_args(arguments).folder
    if not (folder / "index.html").is_file():
        print(f"{folder}: no index.html there; build the book first (make book)", file=sys.stderr)
        return 1
    found = list(problems(folder))
    print("\n".join([*found, f"{len(found)} problems in {folder}"]))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
