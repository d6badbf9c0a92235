"""Files under ``data/``: each read is checked against the manifest that the making script wrote beside them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from src.runtime import data_dir


def read(folder: str, name: str) -> bytes:
    """The bytes of ``data/<folder>/<name>``.

    Raises FileNotFoundError for a missing file and ValueError for one that is not as it was shipped.
    """
    try:
        expected = json.loads(_bytes(folder, "manifest.json"))[name]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{_path(folder, 'manifest.json')} is damaged ({error!r} for {name}): get it back with "
                         f"'git checkout -- data/{folder}'.") from error
    data = _bytes(folder, name)
    if hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise ValueError(f"{_path(folder, name)} is damaged ({len(data):,} bytes, expected {expected['bytes']:,}, or "
                         f"another hash): get it back with 'git checkout -- data/{folder}'.")
    return data


def _path(folder: str, name: str) -> Path:
    return data_dir() / folder / name


def _bytes(folder: str, name: str) -> bytes:
    try:
        return _path(folder, name).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{_path(folder, name)} is missing: get it back with 'git checkout -- data/{folder}' or "
                                f"make it with data/make_{folder}.py.") from error
