"""What a browser sees on a page of the book: at two widths, in the light and the dark theme."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tools import browser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

DESKTOP, PHONE = 1280, 390
THEMES = ("light", "dark")
LOOK = Path(__file__).with_name("look.js")


@dataclass
class Visit:
    """Findings on one page, as look.js gives them; `escaped` and `diagrams` by (width, theme)."""

    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    escaped: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    diagrams: dict[tuple[int, str], list[dict]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    furniture: list[str] = field(default_factory=list)
    pictures: list[dict] = field(default_factory=list)
    prose: str = ""


class Visits:
    """Visits each page once and keeps what was found."""

    def __init__(self, chromium: Browser, address: str) -> None:
        self.address = address
        self._contexts = {theme: self._context(chromium, theme) for theme in THEMES}
        self._made: dict[str, Visit] = {}

    def __getitem__(self, path: str) -> Visit:
        if path not in self._made:
            self._made[path] = self._visit(path)
        return self._made[path]

    @contextmanager
    def tab(self, path: str = "index.html", theme: str = "light", visit: Visit | None = None) -> Iterator[Page]:
        """Open a page, everything on it drawn, in a tab of its own."""
        page = self._contexts[theme].new_page()
        page.set_viewport_size({"width": DESKTOP, "height": 900})
        self._watch(page, visit or Visit())
        page.goto(self.address + path)
        browser.wait_until_rendered(page)
        yield page
        page.close()

    @staticmethod
    def _context(chromium: Browser, theme: str) -> BrowserContext:
        context = chromium.new_context(locale="zh-CN", permissions=["clipboard-read", "clipboard-write"])
        context.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')")
        context.add_init_script(path=LOOK)
        return context

    def _visit(self, path: str) -> Visit:
        visit = Visit()
        for theme in THEMES:
            with self.tab(path, theme, visit) as page:
                for width in (DESKTOP, PHONE):
                    page.set_viewport_size({"width": width, "height": 900})
                    visit.escaped[width, theme] = page.evaluate("look.escaped()")
                    visit.diagrams[width, theme] = page.evaluate("look.diagrams()")
                for name in ("counts", "furniture", "pictures", "prose"):
                    setattr(visit, name, page.evaluate(f"look.{name}()"))
        return visit

    def _watch(self, page: Page, visit: Visit) -> None:
        def asked(request: Request) -> None:
            if not request.url.startswith((self.address, "data:", "blob:")):
                visit.foreign.append(request.url)

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                visit.errors.append(f"{message.text} ({message.location['url']})")

        page.on("request", asked)
        page.on("console", said)
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
