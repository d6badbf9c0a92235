"""The repository's address: the same everywhere, and replaced everywhere by one command."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools import repository as tool
from tools.setup_cell import repository, setup_cell

ROOT = Path(__file__).resolve().parents[2]
NEW = "https://github.com/somebody/their-book"


@pytest.fixture
def copy(tmp_path):
    """The files of this checkout that a reader sees, a notebook among them."""
    for name in ("_config.yml", "index.md", "README.md", "README.zh-CN.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "chapters", tmp_path / "chapters")
    (tmp_path / "_build").mkdir()
    (tmp_path / "_build" / "page.html").write_text(repository())
    nbformat.write(new_notebook(cells=[new_code_cell(setup_cell())]), tmp_path / "chapters" / "one.ipynb")
    return tmp_path


def test_every_mention_follows(copy):
    old = repository(copy / "_config.yml")
    changed = {path.relative_to(copy).as_posix() for path in tool.replace_address(copy, NEW + ".git")}
    assert {"_config.yml", "README.md", "README.zh-CN.md", "CITATION.cff", "chapters/one.ipynb"} <= changed
    assert repository(copy / "_config.yml") == NEW
    assert nbformat.read(copy / "chapters" / "one.ipynb", as_version=4).cells[0].source == setup_cell(NEW)
    assert not tool.files_that_name(copy, old)
    assert (copy / "_build" / "page.html").read_text() == old
    assert not tool.replace_address(copy, NEW + "/")
    tool.replace_address(copy, old)
    for name in changed - {"chapters/one.ipynb"}:
        assert (copy / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "github.com/a/b",
        "http://github.com/a/b",
        "https://github.com/a",
        "https://github.com/a/b/tree/main",
        "https://gitlab.com/a/b",
    ],
)
def test_a_wrong_address_is_refused(copy, url, monkeypatch, capsys):
    monkeypatch.setattr(tool, "ROOT", copy)
    before = (copy / "_config.yml").read_bytes()
    assert tool.main([url]) == 1
    assert "expected https://github.com/OWNER/NAME" in capsys.readouterr().err
    assert (copy / "_config.yml").read_bytes() == before


def test_no_other_address_of_this_book():
    name = repository().rpartition("/")[2]
    for path in tool.files_that_name(ROOT, f"/{name}"):
        found = set(re.findall(rf"github\.com/[\w.-]+/{re.escape(name)}\b", path.read_text("utf-8")))
        assert found <= {repository().removeprefix("https://")}, path


def test_a_config_without_address(tmp_path):
    (tmp_path / "_config.yml").write_text("title: x\n")
    with pytest.raises(ValueError, match="repository.url is None"):
        repository(tmp_path / "_config.yml")
