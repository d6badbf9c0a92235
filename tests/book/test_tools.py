"""The tools around the built book: server, link check, PDF, build, search index, translation."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import pytest
import yaml

from tools import browser, serve
from tools.book_fix import ATTRIBUTES, translate
from tools.build import ROOT, BuildError, build
from tools.check_html import main as check
from tools.check_html import problems
from tools.make_pdf import print_pdf
from tools.zh_search import cut


def write(folder: Path, **pages: str) -> Path:
    """Write `index="…"` as folder/index.html and so on."""
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return folder


# --- server --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [("index.html", "text/html"), ("a.mjs", "text/javascript"), ("a.js", "text/javascript"), ("a.woff", "font/woff")],
)
def test_server_names_the_kind_of_each_file(tmp_path: Path, name: str, kind: str) -> None:
    write(tmp_path, index="书")
    (tmp_path / name).touch()
    with serve.running(tmp_path) as address, urllib.request.urlopen(address + name, timeout=5) as answer:
        assert answer.headers["Content-Type"].split(";")[0] == kind


def test_server_listens_on_this_machine_only(tmp_path: Path) -> None:
    with serve.server(write(tmp_path, index="书")) as httpd:
        assert httpd.server_address[0] == "127.0.0.1"


def test_server_stays_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with serve.running(write(tmp_path / "book", index="书")) as address:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{address}..%2fsecret", timeout=5)
        caught.value.close()


def test_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "tools" / "serve.py", "--no-browser", "--port", "0", write(tmp_path, index="书")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().split()[0]
        with urllib.request.urlopen(address, timeout=5) as answer:
            assert answer.read().decode() == "书"
        process.terminate()


def test_serving_before_building_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main([str(tmp_path), "--no-browser"]) == 1
    assert "make book" in capsys.readouterr().err


def test_a_taken_port_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve.main([str(write(tmp_path, index="书")), "--no-browser", "--port", port]) == 1
    assert f"port {port}" in capsys.readouterr().err


# --- link check ------------------------------------------------------------------------------------------


def test_good_links_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        tmp_path,
        index='<a href="chapter.html#%E8%9E%8D">x</a><a href="https://example.org/">x</a><a href="?q=x">x</a>'
        '<link rel="canonical" href="https://example.org/"><img src="data:image/png;base64,x">',
        chapter='<p id="融"><a href="#融">x</a><a href="/index.html">x</a></p><script>let s = "import notes";</script>',
    )
    assert check([str(tmp_path)]) == 0
    assert "0 problems" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("html", "message"),
    [
        ('<a href="none.html">x</a>', "no such file: none.html"),
        ('<img src="none.png">', "no such file: none.png"),
        ('<a href="#none">x</a>', "no such anchor: #none"),
        ('<script src="https://cdn.example.org/x.js"></script>', "<script> loads from another host"),
        ('<link rel="stylesheet" href="//cdn.example.org/x.css">', "<link> loads from another host"),
        ('<img src="https://example.org/x.png">', "<img> loads from another host"),
        (
            '<script type="module">import m from "https://example.org/m.mjs";</script>',
            "<script> loads from another host",
        ),
        ('<script type="module">import m from "./none.mjs";</script>', "no such file: ./none.mjs"),
    ],
)
def test_bad_links_are_found(tmp_path: Path, html: str, message: str) -> None:
    (found,) = problems(write(tmp_path, index=html))
    assert message in found


def test_foreign_fonts_in_styles_are_found(tmp_path: Path) -> None:
    write(tmp_path, index="")
    (tmp_path / "x.css").write_text("@font-face { src: url('https://example.org/x.woff2'), url(data:font/woff2;x) }")
    (found,) = problems(tmp_path)
    assert "x.css: loads from another host" in found


def test_checking_before_building_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check([str(tmp_path)]) == 1
    assert "make book" in capsys.readouterr().err


# --- build -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{ref}`nowhere`", "{term}`没有的词`", "[x](none.md)", "{cite}`nobody`"])
def test_a_broken_reference_fails_the_build(sample: Path, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for name in ("_config.yml", "_toc.yml", "references.bib", "assets", "tools"):
        (folder / name).symlink_to(sample / name)
    (folder / "index.md").write_text(f"# 章\n\n{text}\n", "utf-8")
    with pytest.raises(BuildError, match="WARNING"):
        build(folder, tmp_path / "out")


# --- PDF ---------------------------------------------------------------------------------------------------


def text_codes(pdf: bytes) -> set[str]:
    """Return the characters in the ToUnicode maps of a PDF."""
    found = set()
    for packed in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        try:
            stream = zlib.decompress(packed)
        except zlib.error:
            continue
        if b"beginbfchar" in stream or b"beginbfrange" in stream:
            codes = re.findall(rb"<([0-9A-Fa-f]{4})>\s*$", stream, re.MULTILINE)
            found.update(chr(int(code, 16)) for code in codes)
    return found


@pytest.mark.skipif(browser.find() is None, reason=browser.HOW_TO_GET_ONE)
def test_pdf_has_pages_and_chinese_text(sample: Path, tmp_path: Path) -> None:
    target = tmp_path / "book.pdf"
    print_pdf(build(sample, tmp_path, "singlehtml"), target)
    pdf = target.read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b(?!s)", pdf)) >= 2
    assert set("样章融合门控术语解答折叠的框里面的字文献") <= text_codes(pdf)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".pdf"] == ["book.pdf"]


@pytest.mark.skipif(browser.find() is None, reason=browser.HOW_TO_GET_ONE)
def test_pdf_of_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make book"):
        print_pdf(tmp_path, tmp_path / "book.pdf")
    assert list(tmp_path.iterdir()) == []


def test_without_a_browser_the_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BOOK_BROWSER", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="apt-get install chromium"):
        print_pdf(write(tmp_path / "book", index="书"), tmp_path / "book.pdf")
    assert not (tmp_path / "book.pdf").exists()


# --- search and translation ------------------------------------------------------------------------------------


def test_chinese_is_indexed_by_characters_and_pairs() -> None:
    assert list(cut("LoRA微调，熵")) == ["LoRA", "微", "调", "微调", "熵"]


def test_furniture_is_translated_and_prose_is_not() -> None:
    page = '<button title="Color mode" aria-label="Color mode">x</button><p>Color mode, title=&quot;Main&quot;</p>'
    expected = '<button title="颜色模式" aria-label="颜色模式">x</button><p>Color mode, title=&quot;Main&quot;</p>'
    assert translate(page) == expected
    assert all(re.search("[\u4e00-\u9fff]", text) for text in ATTRIBUTES.values())


# --- vendored libraries --------------------------------------------------------------------------------------


def test_vendored_libraries_are_complete_and_licensed() -> None:
    vendor = ROOT / "assets" / "vendor"
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]["config"]
    for key in ("mathjax_path", "mermaid_use_local"):
        assert (ROOT / "assets" / config[key]).is_file()
    for name in ("mathjax", "mermaid"):
        assert re.search("Apache License|MIT License", (vendor / name / "LICENSE").read_text("utf-8"))
    modules = [vendor / "mermaid" / "mermaid.esm.min.mjs", *vendor.glob("mermaid/chunks/**/*.mjs")]
    for module in modules:
        for path in re.findall(r'(?:from|import)\s*\(?"(\.[^"]+)"', module.read_text("utf-8")):
            assert (module.parent / path).is_file(), f"{module.name} imports {path}"


def test_lock_names_no_host_but_the_registry() -> None:
    text = (ROOT / "package-lock.json").read_text("utf-8")
    assert set(re.findall(r'"resolved": "https?://([^/"]+)', text)) <= {"registry.npmjs.org"}
    assert set(re.findall(r'"(mathjax|mermaid)": "([^"]+)"', text)) == {("mathjax", "3.2.2"), ("mermaid", "11.12.1")}
