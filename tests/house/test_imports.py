"""One-way imports: the rooms' order, and what importing a module does besides."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORDER = (
    {"runtime", "fonts"},
    {"datasets"},
    {"weights", "extraction", "tokens"},
    {"features", "pretrained"},
    {"fusion", "representation", "prompts", "instructions"},
    {"models"},
    {"training"},
    {"metrics"},
    {"plotting", "players"},
    {"cases"},
    {"notebook"},
)
"""Rooms from left to right; a module imports from its own room and from those further left."""

HEAVY = {"torch", "torchvision", "transformers", "accelerate", "matplotlib", "librosa", "sklearn", "scipy", "gensim",
         "nltk", "tqdm", "PIL", "safetensors", "soundfile", "pandas", "cv2", "jieba", "faiss", "peft", "open_clip"}  # fmt: skip
LIGHT = {"src", "src.runtime", "src.notebook", "src.plotting", "src.players", "src.datasets", "src.fonts"}
"""Modules that come without torch; the others may import torch (and what torch imports), and nothing else of `HEAVY`."""

PROBE = Path(__file__).with_name("import_probe.py")


def modules() -> dict[str, Path]:
    """Dotted names of src's modules and their files."""
    found = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(name: str, source: str, package: bool) -> set[str]:
    """Modules of src that a module's source imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = name.split(".")[: len(name.split(".")) - node.level + package] if node.level else []
            base = ".".join([*parent, *(node.module or "").split(".")]).strip(".")
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {target for target in found if target in MODULES and target not in ("src", name)}


def rank(name: str) -> int:
    """Place of a module's room in `ORDER`."""
    room = name.split(".")[1]
    places = [place for place, rooms in enumerate(ORDER) if room in rooms]
    assert places, f"{name}: the room {room!r} has no place in the order; add it to ORDER"
    return places[0]


def wrong_imports(name: str, targets: set[str]) -> set[str]:
    """Imports from further right, or from a neighbour room at the same place."""
    room = name.split(".")[1]
    return {other for other in targets if other.split(".")[1] != room and rank(other) >= rank(name)}


def graph() -> dict[str, set[str]]:
    return {
        name: imported(name, path.read_text("utf-8"), path.name == "__init__.py")
        for name, path in MODULES.items()
        if name != "src"
    }


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"src"}))
def test_imports_point_left(name):
    assert not wrong_imports(name, graph()[name])


def test_no_cycles():
    edges, done = graph(), set()
    while ready := {name for name in edges if name not in done and edges[name] <= done}:
        done |= ready
    assert done == set(edges), f"modules that import each other are among {sorted(set(edges) - done)}"


def test_the_rule_sees_a_wrong_import():
    assert imported("src.runtime", "def f():\n    from src import plotting\n", False) == {"src.plotting"}
    assert imported("src.datasets.x", "from ..plotting import use_book_style", False) == {"src.plotting"}
    assert wrong_imports("src.runtime", {"src.plotting"}) == {"src.plotting"}
    assert not wrong_imports("src.plotting", {"src.runtime"})
    assert wrong_imports("src.fusion.weighted", {"src.prompts.soft"})


def probe(names: list[str], preload: str, folder: Path) -> dict[str, dict[str, list[str]]]:
    """What importing each module does, each in a process of its own that has only `preload` (see import_probe.py)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, PROBE, preload, ",".join(sorted(HEAVY)), *names],
        cwd=folder, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def effects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("import")
    light = [name for name in MODULES if name in LIGHT]
    return {**probe(light, "", folder), **probe(sorted(set(MODULES) - set(light)), "torch", folder)}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_import_does_nothing_else(name, effects):
    assert effects[name] == {"heavy": [], "effects": []}


def test_the_probe_sees_effects(tmp_path):
    (tmp_path / "guilty.py").write_text(
        "import os, random, socket, threading, time, warnings, sqlite3\n"
        "os.environ['X'] = '1'\nrandom.random()\nwarnings.simplefilter('ignore')\nopen('left.txt', 'w').close()\n"
        "threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\nprint('hello')\n"
        "try:\n    socket.create_connection(('192.0.2.1', 80))\nexcept OSError:\n    pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, PROBE, "", "sqlite3", "guilty"], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, check=True)  # fmt: skip
    seen = json.loads(done.stdout)["guilty"]
    assert seen["heavy"] == ["sqlite3"]
    assert {effect.split(" ")[0] for effect in seen["effects"]} == {
        "environment", "random", "warnings", "open", "threads", "socket.getaddrinfo", "socket.connect", "printed",
    }  # fmt: skip
