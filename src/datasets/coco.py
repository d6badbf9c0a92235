"""COCO's captions and objects, read from local files (Lin et al., Microsoft COCO: Common Objects in Context, 2014).

Reads ``captions_*.json`` and ``instances_*.json`` as they are published; the pictures are decoded only when asked for.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.datasets.annotations import Record, are_numbers, by_id, fields, read_lists
from src.datasets.images import read_image
from src.datasets.splits import SPLITS, split_of
from src.runtime import check_choice, data_dir

SALT = "coco/1"
TOLERANCE = 1.0
SHARED = ("file_name", "height", "width")
"""Pixels by which a published box may stick out of its picture."""


@dataclass(frozen=True)
class RunLength:
    """A mask column by column: lengths of background, object, background, … that fill ``height`` × ``width``."""

    height: int
    width: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Thing:
    """One annotated object.

    box: (x, y, width, height) in pixels from the upper left corner; area: of the mask, in pixels; crowd: the mask is
    that of a group; segmentation: polygons (x, y, x, y, …), or the runs of a mask.
    """

    category: str
    box: tuple[float, float, float, float]
    area: float
    crowd: bool
    segmentation: tuple[tuple[float, ...], ...] | RunLength

    def mask(self, height: int, width: int) -> Tensor:
        """Where the object is, bool ``[height, width]`` of its picture; polygons are filled as Pillow fills them, those
        of fewer than three corners not at all."""
        if isinstance(self.segmentation, RunLength):
            return _unroll(self.segmentation)
        return _fill(self.segmentation, height, width)


@dataclass(frozen=True)
class Picture:
    """captions: about five sentences, none without a caption file; things: none without an instances file."""

    id: int
    path: Path
    height: int
    width: int
    captions: tuple[str, ...]
    things: tuple[Thing, ...]

    def read(self) -> Tensor:
        """uint8 ``[3, height, width]``; FileNotFoundError for a missing file, ValueError for damage or another size."""
        image = read_image(self.path)
        if image.shape[1:] != (self.height, self.width):
            raise ValueError(f"{self.path} is {image.shape[2]}×{image.shape[1]} pixels, its annotation says "
                             f"{self.width}×{self.height}: it is another picture or was resized; copy it again.")
        return image


@dataclass(frozen=True)
class Coco:
    """pictures: N, by their id; categories: the names in the order of their ids, empty without an instances file."""

    pictures: tuple[Picture, ...]
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: int) -> tuple[Tensor, Picture]:
        """(image uint8 ``[3, H, W]``, its annotations), decoded now."""
        return self.pictures[place].read(), self.pictures[place]

    def split(self, name: str) -> Coco:
        """A tenth for validation, a tenth for testing, the rest for training, by a hash of the picture's id.

        For one file; COCO's own split is its files (train2017, val2017).
        """
        check_choice("name", name, SPLITS)
        return Coco(tuple(picture for picture in self.pictures if split_of(str(picture.id), SALT) == name),
                    self.categories)


def load(captions: str | PathLike[str] | None = None, instances: str | PathLike[str] | None = None, *,
         images: str | PathLike[str]) -> Coco:  # fmt: skip
    """Read a caption file, an instances file, or both of the same split, and join them by the id of the picture.

    Args:
        captions: such as ``annotations/captions_val2017.json``.
        instances: such as ``annotations/instances_val2017.json``.
        images: the folder of the pictures, such as ``val2017``.

    Raises:
        FileNotFoundError: an annotation file is missing (a missing picture shows when it is read).
        ValueError: malformed JSON, a missing field, an id that occurs twice, an annotation of an unknown picture or
            category, a box outside its picture, a mask of another size, files of different splits.
    """
    if captions is None and instances is None:
        raise ValueError("captions and instances are both None: give at least one of the two annotation files.")
    wanted = {captions: ("images", "annotations"), instances: ("images", "annotations", "categories")}
    files = {path: read_lists(Path(path), *names) for path, names in wanted.items() if path is not None}
    pictures = _pictures({Path(path): lists[0] for path, lists in files.items()})
    sentences = _captions(Path(captions), pictures, *files[captions][1:]) if captions is not None else {}
    things, categories = ({}, ()) if instances is None else _things(Path(instances), pictures, *files[instances][1:])
    found = (Picture(number, Path(images) / record["file_name"], record["height"], record["width"],
                     tuple(sentences.get(number, ())), tuple(things.get(number, ())))
             for number, record in sorted(pictures.items()))  # fmt: skip
    return Coco(tuple(found), categories)


def load_sample() -> Coco:
    """Eight pictures of our own in COCO's format, made by ``data/make_samples.py``."""
    folder = data_dir() / "samples" / "coco"
    return load(folder / "captions_sample.json", folder / "instances_sample.json", images=folder / "images")


def _pictures(files: dict[Path, list[Record]]) -> dict[int, Record]:
    """The picture records, the same in each file."""
    listings = {path: by_id(path, records) for path, records in files.items()}
    first, *others = listings
    for record in listings[first].values():
        fields(first, record, file_name=str, height=int, width=int)
    for path in others:
        if strangers := listings[path].keys() ^ listings[first].keys():
            raise ValueError(f"{first} and {path} list different pictures ({len(strangers)} are in one only, such as "
                             f"{min(strangers)}): take both from the same split.")
        if other := [number for number, record in listings[first].items()
                     if any(listings[path][number].get(name) != record[name] for name in SHARED)]:
            raise ValueError(f"{first} and {path} disagree about picture {other[0]}: take both from the same release.")
    return listings[first]


def _captions(path: Path, pictures: dict[int, Record], annotations: list[Record]) -> dict[int, list[str]]:
    found = defaultdict(list)
    for record in by_id(path, annotations).values():
        number, caption = fields(path, record, image_id=int, caption=str)
        _picture(path, record, pictures)
        found[number].append(caption.strip())
    return found


def _things(path: Path, pictures: dict[int, Record], annotations: list[Record],
            listed: list[Record]) -> tuple[dict[int, list[Thing]], tuple[str, ...]]:  # fmt: skip
    categories = {number: fields(path, record, name=str)[0] for number, record in sorted(by_id(path, listed).items())}
    found = defaultdict(list)
    for record in by_id(path, annotations).values():
        picture = _picture(path, record, pictures)
        found[picture["id"]].append(_thing(path, record, picture, categories))
    return found, tuple(categories.values())


def _picture(path: Path, record: Record, pictures: dict[int, Record]) -> Record:
    number, annotation = fields(path, record, image_id=int, id=int)
    if number not in pictures:
        raise ValueError(f"{path}: annotation {annotation} is about picture {number}, which the file does not list.")
    return pictures[number]


def _thing(path: Path, record: Record, picture: Record, categories: dict[int, str]) -> Thing:
    number, category, box, area, crowd, segmentation = fields(
        path, record, id=int, category_id=int, bbox=list, area=int | float, iscrowd=int, segmentation=list | dict)
    where = f"{path}: annotation {number}"
    if category not in categories:
        raise ValueError(f"{where} has category_id {category}, which is not in the file's categories.")
    _check_box(where, box, picture)
    return Thing(categories[category], tuple(box), area, bool(crowd), _segmentation(where, segmentation, picture))


def _check_box(where: str, box: list[float], picture: Record) -> None:
    if len(box) != 4 or not are_numbers(box) or min(box[2:]) < 0:
        raise ValueError(f"{where} has bbox {box}, expected [x, y, width, height].")
    x, y, width, height = box
    beyond = max(-x, -y, x + width - picture["width"], y + height - picture["height"])
    if beyond > TOLERANCE:
        raise ValueError(f"{where} has bbox {box}, which sticks {beyond:g} pixels out of its picture of "
                         f"{picture['width']}×{picture['height']}: is it [x0, y0, x1, y1] or of another size?")


def _segmentation(where: str, given: list | Record, picture: Record) -> tuple[tuple[float, ...], ...] | RunLength:
    if isinstance(given, list):
        if bad := [part for part in given if not isinstance(part, list) or not are_numbers(part) or len(part) % 2]:
            raise ValueError(f"{where} has a polygon {str(bad[0])[:60]}, expected x and y of each corner.")
        return tuple(map(tuple, given))
    size, given_counts = fields(where, given, size=list, counts=list | str)
    counts = tuple(_decompress(given_counts) if isinstance(given_counts, str) else given_counts)
    height, width = picture["height"], picture["width"]
    if size != [height, width] or not are_numbers(counts) or sum(counts) != height * width:
        raise ValueError(f"{where} has a mask of runs {str(counts)[:60]} for size {size}, expected the picture's "
                         f"{height}×{width}.")
    return RunLength(height, width, counts)


def _decompress(text: str) -> list[int]:
    """Run lengths from pycocotools' string: five bits a character, lowest first, differences from the fourth run on."""
    counts: list[int] = []
    value = shift = 0
    for group in (byte - 48 for byte in text.encode()):
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) << (shift - 4)  # the sign
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def _unroll(runs: RunLength) -> Tensor:
    inside = torch.arange(len(runs.counts)) % 2 == 1
    return inside.repeat_interleave(torch.tensor(runs.counts)).view(runs.width, runs.height).T


def _fill(polygons: tuple[tuple[float, ...], ...], height: int, width: int) -> Tensor:
    from PIL import Image, ImageDraw

    canvas = Image.new("1", (width, height))
    for polygon in (corners for corners in polygons if len(corners) >= 6):
        ImageDraw.Draw(canvas).polygon(list(polygon), fill=1)
    return torch.from_numpy(np.array(canvas))
