"""The one set-up cell of every notebook, and the repository's address that it and all pages share."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
TEMPLATE = """\
# 准备：找到本书的代码（已安装的、所在目录里的，或在 Colab 里克隆一份），再启动
import importlib, os, subprocess, sys
from pathlib import Path

BOOK, REPOSITORY = "multimodal-book", "{repository}"

def is_book(folder):
    package = Path(folder, "src", "__init__.py")
    return package.is_file() and f'__book__ = "{{BOOK}}"' in package.read_text("utf-8")

try:
    found = getattr(importlib.import_module("src"), "__book__", None) == BOOK
except ModuleNotFoundError:
    found = False
if not found:
    clone = Path.cwd() / BOOK
    folder = next((place for place in (Path.cwd(), *Path.cwd().parents, clone) if is_book(place)), None)
    if folder is None:
        address = os.environ.get("BOOK_REPOSITORY", REPOSITORY)
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", address, str(folder := clone)], check=True)
    for name in [name for name in sys.modules if name.partition(".")[0] == "src"]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))

from src.notebook import start

device = start()"""


def repository(config: Path = ROOT / "_config.yml") -> str:
    """The address in _config.yml (`repository.url`).

    Raises:
        ValueError: there is none, or it is no address of a GitHub repository.
    """
    address = yaml.safe_load(config.read_text("utf-8")).get("repository", {}).get("url")
    if not isinstance(address, str) or not ADDRESS.fullmatch(address):
        raise ValueError(f"{config}: repository.url is {address!r}, expected https://github.com/OWNER/NAME")
    return address


def setup_cell(address: str | None = None) -> str:
    """Source of the set-up cell for a repository address, by default the one in _config.yml."""
    return TEMPLATE.format(repository=address or repository())


if __name__ == "__main__":
    print(setup_cell())
