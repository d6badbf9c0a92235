"""Flickr30k's pictures with five captions each (Young et al., From Image Descriptions to Visual Denotations, 2014).

Reads the three files in which the captions go round: the original ``results_20130124.token``, the table
``results.csv``, and Karpathy's ``dataset_flickr30k.json``, the only one with the split that papers report on.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor

from src.datasets.annotations import fields, read_lists
from src.datasets.images import read_image
from src.datasets.splits import SPLITS, split_of
from src.runtime import check_choice, data_dir

SALT = "flickr30k/1"
CAPTIONS = 5
KARPATHY = {"train": "train", "val": "validation", "test": "test"}
TOKEN = re.compile(r"(?P<name>[^\t#]+)#(?P<number>\d+)\t(?P<caption>.+)")
# One line of the published table has no bar after the number: "2199200615.jpg| 4   A dog runs across the grass ."
TABLE = re.compile(r"(?P<name>[^|]+)\|\s*(?P<number>\d+)\s*(?:\||\s)\s*(?P<caption>\S.*)")
HEADER = re.compile(r"image_name\s*\|\s*comment_number\s*\|\s*comment\s*")


@dataclass(frozen=True)
class Picture:
    """path: the file; captions: five sentences; split: ``"train"``, ``"validation"`` or ``"test"``."""

    path: Path
    captions: tuple[str, ...]
    split: str

    def read(self) -> Tensor:
        """uint8 ``[3, H, W]``; FileNotFoundError for a missing file, ValueError for a damaged one."""
        return read_image(self.path)


@dataclass(frozen=True)
class Flickr30k:
    """pictures: N, in the order of the file."""

    pictures: tuple[Picture, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: int) -> tuple[Tensor, Picture]:
        """(image uint8 ``[3, H, W]``, its captions), decoded now."""
        return self.pictures[place].read(), self.pictures[place]

    def split(self, name: str) -> Flickr30k:
        """The pictures of one split: Karpathy's when his file was read, else by a hash of the name (80/10/10)."""
        check_choice("name", name, SPLITS)
        return Flickr30k(tuple(picture for picture in self.pictures if picture.split == name))


def load(captions: str | PathLike[str], *, images: str | PathLike[str]) -> Flickr30k:
    """Read a caption file (``.token``, ``.csv`` or ``.json``) with its folder of pictures.

    Raises:
        FileNotFoundError: the caption file is missing (a missing picture shows when it is read).
        ValueError: another kind of file, a line or record that is not as published, a number that occurs twice, or a
            picture without exactly five captions, as in a file that was cut off.
    """
    path = Path(captions)
    check_choice("the suffix of captions", path.suffix, (".token", ".csv", ".json"))
    found = _karpathy(path, Path(images)) if path.suffix == ".json" else _lines(path, Path(images))
    for picture in found:
        if len(picture.captions) != CAPTIONS:
            raise ValueError(f"{path}: {picture.path.name} has {len(picture.captions)} captions, expected {CAPTIONS}: "
                             "the file is cut off or was edited; unpack it again.")
    return Flickr30k(tuple(found))


def load_sample(name: str = "dataset_flickr30k.json") -> Flickr30k:
    """Eight pictures of our own in Flickr30k's three formats, made by ``data/make_samples.py``."""
    folder = data_dir() / "samples" / "flickr30k"
    return load(folder / name, images=folder / "images")


def _lines(path: Path, images: Path) -> list[Picture]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the caption file that was unpacked from the archive.")
    pattern = TOKEN if path.suffix == ".token" else TABLE
    captions: dict[str, dict[int, str]] = defaultdict(dict)
    for number, line in enumerate(path.read_text("utf-8-sig").rstrip("\n").split("\n"), start=1):
        if number == 1 and pattern is TABLE and HEADER.fullmatch(line):
            continue
        found = pattern.fullmatch(line)
        if not found:
            raise ValueError(f"{path}, line {number} is no picture with a caption: {line[:80]!r}.")
        if int(found["number"]) in captions[found["name"]]:
            raise ValueError(f"{path}, line {number} is a second caption {found['number']} of {found['name']}.")
        captions[found["name"]][int(found["number"])] = found["caption"].strip()
    return [Picture(images / name, tuple(text for _, text in sorted(texts.items())), split_of(name, SALT))
            for name, texts in captions.items()]  # fmt: skip


def _karpathy(path: Path, images: Path) -> list[Picture]:
    found = {}
    for record in read_lists(path, "images")[0]:
        name, split, sentences = fields(path, record, filename=str, split=str, sentences=list)
        check_choice(f"{path}: the split of {name}", split, KARPATHY)
        if name in found:
            raise ValueError(f"{path}: {name} occurs twice; keep one of the two records.")
        captions = tuple(fields(path, sentence, raw=str)[0].strip() for sentence in sentences)
        found[name] = Picture(images / name, captions, KARPATHY[split])
    return list(found.values())
