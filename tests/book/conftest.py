"""The built book, a built sample chapter, and a browser that has visited their pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.book.visits import Visits
from tools import browser
from tools.build import ROOT, BuildError, build
from tools.serve import running

SAMPLE = Path(__file__).with_name("sample.md")


@pytest.fixture(scope="session")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the book's pages, built from nothing with warnings as errors."""
    try:
        return build(output=tmp_path_factory.mktemp("book"))
    except BuildError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source folder of a book of one page, sample.md, with the configuration of the real one."""
    folder = tmp_path_factory.mktemp("sample")
    shutil.copy(ROOT / "_config.yml", folder)
    shutil.copytree(ROOT / "assets", folder / "assets")
    shutil.copytree(ROOT / "tools", folder / "tools")
    shutil.copy(SAMPLE, folder / "index.md")
    shutil.copy(SAMPLE.with_suffix(".bib"), folder / "references.bib")
    (folder / "_toc.yml").write_text("format: jb-book\nroot: index\n", "utf-8")
    return folder


@pytest.fixture(scope="session")
def sample_html(sample: Path) -> Path:
    """Folder of the sample's pages."""
    return build(sample)


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    """A browser without a window; tests that need it are skipped where none is installed."""
    if browser.find() is None:
        pytest.skip(browser.HOW_TO_GET_ONE)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = browser.launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def visits(chromium: object, html: Path) -> Iterator[Visits]:
    """Visits to the pages of the book, each made once."""
    with running(html) as address:
        yield Visits(chromium, address)


@pytest.fixture(scope="module")
def sample_visits(chromium: object, sample_html: Path) -> Iterator[Visits]:
    """Visits to the sample."""
    with running(sample_html) as address:
        yield Visits(chromium, address)
