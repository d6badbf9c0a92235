"""Set the repository's address in every file that names it.

python -m tools.repository https://github.com/OWNER/NAME
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from src.runtime import atomic_write
from tools.setup_cell import ADDRESS, ROOT, repository

SKIPPED = {".git", ".venv", ".venv-lock", "_build", "node_modules", "__pycache__", "vendor"}
SUFFIXES = {".md", ".ipynb", ".yml", ".yaml", ".cff", ".py", ".toml", ".txt", ".bib", ".html", ".js", ".css", ".json"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make repo URL=…", description=__doc__.splitlines()[0])
    parser.add_argument("url", help="https://github.com/OWNER/NAME")
    try:
        changed = replace_address(ROOT, parser.parse_args(arguments).url)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for path in changed:
        print(path.relative_to(ROOT))
    print(f"{len(changed)} files changed")
    return 0


def replace_address(root: Path, url: str) -> list[Path]:
    """Replace the address that `root`/_config.yml holds by `url` in every text file; returns the changed files.

    Raises:
        ValueError: `url` is not the address of a GitHub repository.
    """
    new = checked(url)
    old = repository(root / "_config.yml")
    changed = [path for path in files_that_name(root, old) if new != old]
    for path in changed:
        text = path.read_text("utf-8").replace(old, new)
        with atomic_write(path) as temporary:
            temporary.write_text(text, "utf-8")
            temporary.chmod(path.stat().st_mode)
    return changed


def checked(url: str) -> str:
    """The address without a trailing slash or `.git`."""
    address = url.strip().removesuffix("/").removesuffix(".git")
    if not ADDRESS.fullmatch(address):
        raise ValueError(f"URL: got {url!r}, expected https://github.com/OWNER/NAME")
    return address


def files_that_name(root: Path, address: str) -> list[Path]:
    """Text files below `root` in which `address` stands."""
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix in SUFFIXES
        and not SKIPPED & set(path.relative_to(root).parts)
        and path.is_file()
        and address in path.read_text("utf-8", errors="ignore")
    ]


if __name__ == "__main__":
    sys.exit(main())
