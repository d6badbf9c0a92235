"""Write the files of a shipped data set and the manifest that src/datasets/shipped.py checks them against."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path


def ship(folder: Path, files: dict[str, bytes]) -> None:
    """Write ``files`` and ``manifest.json`` (size and SHA-256 of each) to ``folder``, each file at once or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    for name, data in {**files, "manifest.json": (json.dumps(manifest, indent=1) + "\n").encode()}.items():
        write(folder / name, data)


def write(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
