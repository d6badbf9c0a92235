"""The Free Spoken Digit Dataset: real people saying English digits, read from a folder that the reader gives.

Jackson and others, https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0: 3,000 recordings, 6 speakers,
50 of each digit by each, 8 kHz. Not shipped with the book.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

import torch

from src.datasets.speech import Speech
from src.datasets.splits import SPLITS, split_of
from src.datasets.waves import read_wave
from src.runtime import check_choice

VARIABLE = "FSDD_DIR"
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_\d+\.wav")
SALT = "fsdd/2"


def load(folder: str | os.PathLike[str] | None = None, split: str | None = None,
         test_speakers: Collection[str] | None = None, rate: int = 16_000) -> Speech:
    """The recordings ``<digit>_<speaker>_<number>.wav`` of a folder, by name; a label is the digit.

    folder: the recordings or the checkout that holds them, None for the environment variable ``FSDD_DIR``. Each speaker
    is in one split only: by a hash of the name (4 training, 1 validation, 1 test), or, when ``test_speakers`` are
    given, these for ``"test"`` and all others for ``"train"``. rate: resampled to, in Hz.

    Raises FileNotFoundError for a missing folder, ValueError for foreign names, damaged recordings, unknown speakers
    and a split without recordings.
    """
    if split is not None:
        check_choice("split", split, SPLITS)
    found = _recordings(_folder(folder))
    speakers = sorted({speaker for _, _, speaker in found})
    chosen = _chosen(speakers, split, test_speakers)
    found = [record for record in found if record[2] in chosen]
    digits = [digit for _, digit, _ in found]
    return Speech(
        waves=tuple(read_wave(path, rate)[0] for path, _, _ in found), rate=rate, labels=torch.tensor(digits),
        classes=CLASSES, words=tuple(CLASSES[digit] for digit in digits),
        voices=tuple(speaker for _, _, speaker in found), languages=("en",) * len(found))


def _folder(folder: str | os.PathLike[str] | None) -> Path:
    given = folder or os.environ.get(VARIABLE)
    if not given:
        raise FileNotFoundError(f"no folder: set {VARIABLE} or folder= to the recordings of the Free Spoken Digit "
                                "Dataset (git clone https://github.com/Jakobovski/free-spoken-digit-dataset).")
    path = Path(given).expanduser()
    path = path / "recordings" if (path / "recordings").is_dir() else path
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}: give the one that holds 0_jackson_0.wav and the other recordings.")
    return path


def _recordings(folder: Path) -> list[tuple[Path, int, str]]:
    """(path, digit, speaker) of every recording, by name; hidden entries are passed over."""
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if foreign := [path.name for path in paths if not NAME.fullmatch(path.name)]:
        raise ValueError(f"{folder} holds {', '.join(foreign[:3])} ({len(foreign)} foreign names), expected "
                         "<digit>_<speaker>_<number>.wav only: move the others out of the folder.")
    if not paths:
        raise ValueError(f"{folder} is empty: put the recordings there, or clone the repository again.")
    return [(path, int(match["digit"]), match["speaker"]) for path in paths if (match := NAME.fullmatch(path.name))]


def _chosen(speakers: list[str], split: str | None, test_speakers: Collection[str] | None) -> set[str]:
    """The speakers of a split."""
    if test_speakers is None:
        sides = {speaker: split_of(speaker, SALT, validation=0.2, test=0.2) for speaker in speakers}
    else:
        if isinstance(test_speakers, str) or not set(test_speakers) <= set(speakers):
            raise ValueError(f"test_speakers must be a collection of {', '.join(speakers)}, got {test_speakers!r}.")
        sides = {speaker: "test" if speaker in test_speakers else "train" for speaker in speakers}
    chosen = {speaker for speaker, side in sides.items() if split in (None, side)}
    if not chosen:
        raise ValueError(f"split={split!r} has no recordings: {sides} leaves it no speaker; name others in test_speakers.")
    return chosen
