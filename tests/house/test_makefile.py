"""The commands of the Makefile, the pinned requirements and the workflows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
PINS = re.compile(r"^([\w.-]+)==([\w.+!]+)", re.MULTILINE)


def make(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_help_lists_every_target():
    done = make()
    assert done.returncode == 0
    assert re.findall(r"^make (\w+) +\S", done.stdout, re.MULTILINE) == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_can_be_planned(target, tmp_path):
    done = make("-n", target, f"VENV={tmp_path}/new")
    assert done.returncode == 0, done.stderr


def test_options_reach_the_commands():
    assert "--fresh chapters/x.ipynb" in make("-n", "notebooks", "FRESH=1", "ONLY=chapters/x.ipynb").stdout
    assert "tools.make_pdf" in make("-n", "book", "PDF=1").stdout
    assert "tools.make_pdf" not in make("-n", "book").stdout
    assert "rm -rf _build" in make("-n", "book", "CI=true").stdout
    assert '"https://github.com/a/b"' in make("-n", "repo", "URL=https://github.com/a/b").stdout


def test_an_old_python_is_refused(tmp_path):
    old = tmp_path / "python"
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c \"import sys; sys.version_info = (3, 10); sys.version = '3.10.2'; $2\"\n"
    )
    old.chmod(0o755)
    done = make("install", f"VENV={tmp_path}/venv", f"PYTHON={old}")
    assert done.returncode and "Python 3.11 or newer is needed" in done.stderr and "is 3.10.2" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-weights.txt"])
def test_the_lock_has_every_pin(name):
    text = (ROOT / name).read_text("utf-8")
    wanted = PINS.findall(text)
    assert len(wanted) == len([line for line in text.splitlines() if line and not line.startswith("#")])
    locked = {(package.replace("_", "-"), version) for package, version in PINS.findall(LOCK)}
    assert {(package.replace("_", "-").lower(), version) for package, version in wanted} <= locked


def test_the_lock_has_hashes_and_nothing_of_a_machine():
    entries = re.split(r"^(?=\w)", LOCK, flags=re.MULTILINE)[1:]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert not re.search(r"file:|://|@ |^ */|^-|/opt", LOCK, re.MULTILINE)
    assert {"torch==2.14.1", "torchvision==0.29.1", "jupyter-book==1.0.4.post1"} <= {
        "==".join(pin) for pin in PINS.findall(LOCK)
    }
    assert not {"llama-cpp-python", "llm"} & {package for package, _ in PINS.findall(LOCK)}


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_workflows_pin_actions_by_major_version(path):
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    targets = {name for step in steps for name in re.findall(r"\bmake (\w+)", step.get("run", ""))}
    assert targets <= set(TARGETS)


def test_ci_script_is_sound():
    assert subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT).returncode == 0
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
