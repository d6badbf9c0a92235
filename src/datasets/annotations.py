"""Annotation files in JSON: records read with errors that name the file, the record and what it lacks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Any

Record = dict[str, Any]


def read_lists(path: Path, *names: str) -> list[list[Record]]:
    """The lists called ``names`` of a JSON object.

    Raises FileNotFoundError for a missing file, ValueError for one that is no JSON or lacks one of the lists.
    """
    content = read_object(path)
    if missing := [name for name in names if not isinstance(content.get(name), list)]:
        raise ValueError(f"{path} has no list {', '.join(missing)}, but {', '.join(content) or 'nothing'}: is it "
                         "another file of the data set?")
    return [content[name] for name in names]


def read_object(path: Path) -> Record:
    """The JSON object of a file; FileNotFoundError and ValueError as in ``read_lists``."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the annotation file that was unpacked from the archive.")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON ({error}): it is cut off or damaged; unpack it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, expected an object with the annotations.")
    return content


def fields(path: Path | str, record: Record, **types: type | UnionType) -> tuple:
    """The values of a record's fields; ValueError, naming ``path``, when one is not there or of another type."""
    if not isinstance(record, dict) or any(name not in record for name in types):
        raise ValueError(f"{path}: a record lacks one of {', '.join(types)}: {str(record)[:120]}")
    if wrong := [name for name, wanted in types.items() if not isinstance(record[name], wanted)]:
        raise ValueError(f"{path}: {wrong[0]} is {str(record[wrong[0]])[:40]!r}, expected {_name(types[wrong[0]])}, in "
                         f"{str(record)[:120]}")
    return tuple(record[name] for name in types)


def are_numbers(values: Iterable) -> bool:
    """Whether all values are JSON numbers."""
    return all(isinstance(value, int | float) for value in values)


def _name(wanted: type | UnionType) -> str:
    return getattr(wanted, "__name__", str(wanted))


def by_id(path: Path, records: Iterable[Record], name: str = "id") -> dict[int, Record]:
    """Records by their number; ValueError when two have the same."""
    found: dict[int, Record] = {}
    for record in records:
        (number,) = fields(path, record, **{name: int})
        if number in found:
            raise ValueError(f"{path}: {name} {number} occurs twice; keep one of the two records.")
        found[number] = record
    return found
