"""The browser that checks the built book and prints its PDF: a Chromium that is installed already."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOW_TO_GET_ONE = (
    "no Chromium found; install one (Debian, Ubuntu: apt-get install chromium) or name it in the environment variable "
    "BOOK_BROWSER"
)
RENDERED = """() => (!document.querySelector('.math') || window.MathJax?.startup?.promise)
    && [...document.querySelectorAll('.math')].every(e => e.querySelector('mjx-container'))
    && [...document.querySelectorAll('.mermaid')].every(e => e.querySelector('svg'))"""


def find() -> str | None:
    """Return the path of a Chromium: that of BOOK_BROWSER, else one on the PATH, else None."""
    named = os.environ.get("BOOK_BROWSER")
    if named:
        return shutil.which(named)
    return next(filter(None, map(shutil.which, NAMES)), None)


def launch(playwright: Playwright) -> Browser:
    """Start the browser without a window.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    path = find()
    if path is None:
        raise FileNotFoundError(HOW_TO_GET_ONE)
    return playwright.chromium.launch(executable_path=path, args=list(FLAGS))


def wait_until_rendered(page: Page, seconds: float = 20) -> None:
    """Wait until each formula and each diagram of `page` is drawn; raises playwright's TimeoutError."""
    page.wait_for_function(RENDERED, timeout=1000 * seconds)
