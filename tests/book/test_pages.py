"""Every page of the built book, and a sample of what chapters may use, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from tests.book.visits import DESKTOP, PHONE, THEMES, Visits
from tools.build import ROOT
from tools.check_html import problems

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
CONTENTS = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
GENERATED = ("genindex.html", "search.html")

# English of the theme and the extensions; each was on a page before it was translated.
FORBIDDEN = re.compile(
    r"\bProof\b|Click to (show|hide)|(Show|Hide) code cell|Copy to clipboard|Copied!|Search this book|Search\.\.\."
    r"|Print to PDF|Download (this page|source file|notebook file)|Launch (on|interactive)|Color mode|System Settings"
    r"|Toggle (primary|secondary|hidden)|Link to this|Permalink|\b(previous|next)\b|Copyright|Searching|Search Results"
    r"|Search finished|did not match|Please activate|\b[Rr]epository\b|Fullscreen mode|列印|Skip to main|Back to top"
    r"|On this page|\b(Exercise|Solution|Theorem|Figure|Table|Algorithm|Definition|Contents) \d",
)
LATIN = re.compile(r"[A-Za-z]{2,}")
NAMES = re.compile(r"Colab|\.?(ipynb|md|pdf)\b|PDF|GitHub|Ctrl")


def files(node: object) -> Iterator[str]:
    """Yield the documents that a part of _toc.yml names."""
    if isinstance(node, list):
        for item in node:
            yield from files(item)
    elif isinstance(node, dict):
        yield from (node[key] for key in ("root", "file") if key in node)
        for value in node.values():
            yield from files(value)


DOCUMENTS = [re.sub(r"\.(md|ipynb)$", "", name) for name in files(CONTENTS)]
NOTEBOOKS = [name for name in DOCUMENTS if (ROOT / f"{name}.ipynb").exists()]
PAGES = [f"{name}.html" for name in DOCUMENTS]
ALL = [*PAGES, *GENERATED]


def test_the_book_has_the_pages_of_its_contents(html: Path) -> None:
    built = {path.relative_to(html).as_posix() for path in html.rglob("*.html") if "_static" not in path.parts}
    assert built == set(ALL)


def test_links_anchors_and_resources(html: Path) -> None:
    assert list(problems(html)) == []


def test_links_of_the_sample(sample_html: Path) -> None:
    assert list(problems(sample_html)) == []


# --- every page ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL)
def test_page_asks_no_other_host(visits: Visits, path: str) -> None:
    assert visits[path].foreign == []


@pytest.mark.parametrize("path", ALL)
def test_page_has_no_script_error(visits: Visits, path: str) -> None:
    assert visits[path].errors == []


@pytest.mark.parametrize("path", ALL)
def test_formulas_and_diagrams_are_drawn(visits: Visits, path: str) -> None:
    assert_drawn(visits[path].counts)


@pytest.mark.parametrize("path", ALL)
def test_nothing_sticks_out(visits: Visits, path: str) -> None:
    assert {key: found for key, found in visits[path].escaped.items() if found} == {}


@pytest.mark.parametrize("path", PAGES)
def test_diagrams_can_be_read(visits: Visits, path: str) -> None:
    assert_legible(visits[path].diagrams)


@pytest.mark.parametrize("path", ALL)
def test_furniture_is_chinese(visits: Visits, path: str) -> None:
    assert_chinese(visits[path].furniture, visits[path].prose)


@pytest.mark.parametrize("path", PAGES)
def test_pictures_have_alternative_text(visits: Visits, path: str) -> None:
    for picture in visits[path].pictures:
        assert picture["drawn"], f"{picture['src']} is not shown"
        alt = picture["alt"].strip()
        assert alt, f"{picture['src']}: no alternative text"
        assert Path(alt).name != Path(picture["src"]).name, f"{alt}: the file's name is no alternative text"


def assert_drawn(counts: dict[str, int]) -> None:
    assert counts["formulas"] == counts["drawn"]
    assert counts["refused"] == 0
    assert counts["diagrams"] == counts["svgs"]


def assert_legible(diagrams: dict[tuple[int, str], list[dict]]) -> None:
    for (width, theme), found in diagrams.items():
        for diagram in found:
            where = f"diagram “…{diagram['text']}” at {width} px, {theme}"
            assert diagram["size"] >= 11.5, f"{where}: small text; draw it top to bottom, few boxes side by side"
            assert diagram["scroll"] <= 0, f"{where}: too wide; draw it top to bottom, few boxes side by side"
            assert diagram["contrast"] >= 4.5, f"{where}: faint text"


def assert_chinese(furniture: list[str], prose: str) -> None:
    assert [text for text in furniture if FORBIDDEN.search(text) or LATIN.search(NAMES.sub("", text))] == []
    assert FORBIDDEN.search(prose) is None


# --- the notebook pages ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
def test_launch_button_opens_this_notebook(html: Path, name: str) -> None:
    links = set(re.findall(r'href="(https://colab[^"]*)"', (html / f"{name}.html").read_text("utf-8")))
    repository = CONFIG["repository"]["url"].removeprefix("https://github.com/").rstrip("/")
    branch = CONFIG["repository"]["branch"]
    expected = f"https://colab.research.google.com/github/{repository}/blob/{branch}/{name}.ipynb"
    assert links == ({expected} if name in NOTEBOOKS else set())


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_can_be_downloaded(html: Path, name: str) -> None:
    page = html / f"{name}.html"
    links = re.findall(r'href="([^"]*_sources/[^"]*\.ipynb)"[^>]*btn-download-source', page.read_text("utf-8"))
    assert links
    for link in links:
        assert json.loads((page.parent / link).read_text("utf-8"))["nbformat"] == 4


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_code_cells_have_copy_buttons(visits: Visits, name: str) -> None:
    counts = visits[f"{name}.html"].counts
    assert counts["code"] == counts["copy"] > 0


@pytest.mark.parametrize("name", DOCUMENTS)
def test_neighbours_are_named_in_chinese(html: Path, name: str) -> None:
    text = (html / f"{name}.html").read_text("utf-8")
    labels = re.findall(r'<p class="prev-next-subtitle">([^<]*)</p>', text)
    first, last = name == DOCUMENTS[0], name == DOCUMENTS[-1]
    assert labels == [label for label, missing in (("上一页", first), ("下一页", last)) if not missing]


# --- links between pages ---------------------------------------------------------------------------


def test_terms_lead_to_the_glossary(html: Path) -> None:
    links = re.findall(r'href="([^"#]*)#(term-[^"]*)"[^>]*><span class="xref std std-term">', all_text(html))
    assert links
    assert {Path(page).name for page, _ in links} <= {"glossary.html", ""}


def test_citations_lead_to_the_bibliography(html: Path) -> None:
    links = re.findall(
        r'<span class="bibtex-citation"[^>]*>[^<]*\[<a class="reference internal" href="([^"#]*)#', all_text(html)
    )
    assert links
    assert {Path(page).name for page in links} <= {"bibliography.html", ""}


def all_text(html: Path) -> str:
    return "\n".join((html / page).read_text("utf-8") for page in PAGES)


# --- search ------------------------------------------------------------------------------------------


SEARCHED = (
    "() => /搜索完成|找到|未匹配|没有/.test(document.querySelector('#search-results .search-summary')?.innerText)"
)


def found_by_search(visits: Visits, query: str) -> list[str]:
    """Return the titles that the search page lists for `query`."""
    with visits.tab(f"search.html?q={quote(query)}") as page:
        page.wait_for_function(SEARCHED)
        assert_chinese([page.locator("#search-results .search-summary").inner_text().replace(query, "")], "")
        return page.locator("#search-results ul.search > li > a").all_inner_texts()


@pytest.mark.parametrize("query", ["提示学习", "指令微调", "融合", "多模态"])
def test_search_finds(visits: Visits, query: str) -> None:
    assert found_by_search(visits, query)


def test_search_finds_words_inside_a_sentence(visits: Visits) -> None:
    runs = re.findall(r"[\u4e00-\u9fff]{9,}", visits["index.html"].prose)
    assert runs
    for run in (runs[0], runs[len(runs) // 2]):
        assert found_by_search(visits, run[2:7]), run


def test_search_does_not_find_nonsense(visits: Visits) -> None:
    assert found_by_search(visits, "龘靐齉爩") == []
    assert found_by_search(visits, "qwzxjv") == []


# --- the sample: what chapters may use ------------------------------------------------------------------


def test_sample_is_clean(sample_visits: Visits) -> None:
    visit = sample_visits["index.html"]
    assert (visit.foreign, visit.errors) == ([], [])
    assert set(visit.escaped) == {(width, theme) for width in (DESKTOP, PHONE) for theme in THEMES}
    assert not any(visit.escaped.values())
    assert (visit.counts["formulas"], visit.counts["diagrams"]) == (5, 1)
    assert_drawn(visit.counts)
    assert_legible(visit.diagrams)
    assert_chinese(visit.furniture, visit.prose)


def test_sample_is_numbered_in_chinese(sample_visits: Visits) -> None:
    prose = sample_visits["index.html"].prose
    for label in ("表 1", "(1)", "定理 1", "证明", "练习 1", "解答"):
        assert label in prose, label


def test_folded_boxes_open_on_click(sample_visits: Visits) -> None:
    with sample_visits.tab() as page:
        for box in ("div.solution", "div.admonition.dropdown:not(.solution)"):
            content = page.locator(f"{box} p:not(.admonition-title)").first
            assert not content.is_visible()
            page.locator(f"{box} .admonition-title").first.click(position={"x": 5, "y": 10})
            content.wait_for(state="visible", timeout=2000)


def test_prompts_are_not_copied(sample_visits: Visits) -> None:
    with sample_visits.tab() as page:
        block = page.locator("div.highlight-bash").first
        block.hover()
        block.locator("button.copybtn").click()
        page.wait_for_function(
            "async () => (await navigator.clipboard.readText()).startsWith('make book')", timeout=2000
        )
        copied = page.evaluate("navigator.clipboard.readText()")
        tips = page.locator(".copybtn").evaluate_all("buttons => buttons.map(b => b.dataset.tooltip)")
    assert copied.splitlines()[1].startswith("make test")
    assert "$" not in copied
    assert set(tips) == {"复制", "复制成功!"}


def test_diagram_stays_legible_when_the_theme_is_switched(sample_visits: Visits) -> None:
    with sample_visits.tab() as page:
        for _ in range(2):
            page.locator(".theme-switch-button").last.click()
            page.wait_for_function("() => document.querySelector('.mermaid svg .node')")
            theme = page.evaluate("document.documentElement.dataset.theme")
            assert_legible({(DESKTOP, theme): page.evaluate("look.diagrams()")})
