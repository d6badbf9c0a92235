"""Shipped files keep their bytes in every clone."""

import subprocess

import pytest

from src.runtime import data_dir, root


def test_git_leaves_line_ends_alone():
    """Git for Windows would turn them into CR LF, and the hashes of the text files would fail."""
    paths = [str(path.relative_to(root())) for path in data_dir().rglob("*") if path.is_file()]
    done = subprocess.run(["git", "check-attr", "--stdin", "text"], cwd=root(), input="\n".join(paths), text=True,
                          capture_output=True)  # fmt: skip
    if done.returncode:
        pytest.skip("needs git and a clone")
    assert len(paths) > 50 and all(line.endswith(": text: unset") for line in done.stdout.splitlines())
