"""Flickr30k's three caption files: the same captions from each, the split, the malformed line, what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from src.datasets import flickr30k
from src.datasets.splits import SPLITS
from src.runtime import data_dir

FOLDER = data_dir() / "samples" / "flickr30k"
FILES = ("results_20130124.token", "results.csv", "dataset_flickr30k.json")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the sample that a test may spoil."""
    return shutil.copytree(FOLDER, tmp_path / "flickr30k")


def load(path: Path) -> flickr30k.Flickr30k:
    return flickr30k.load(path, images=path.parent / "images")


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_captions(name):
    found = flickr30k.load_sample(name)
    assert len(found) == 8
    image, picture = found[2]
    assert image.shape == (3, 120, 160) and image.dtype == torch.uint8
    assert picture.path.name == "1000000003.jpg" and picture.captions[2] == "Someone surfs on blue water ."
    lines = (FOLDER / "results_20130124.token").read_text().splitlines()
    expected = [tuple(line.split("\t")[1] for line in lines[5 * place : 5 * place + 5]) for place in range(8)]
    assert [picture.captions for picture in found.pictures] == expected


def test_karpathys_split_is_kept():
    found = flickr30k.load_sample()
    records = json.loads((FOLDER / "dataset_flickr30k.json").read_text())["images"]
    for name, theirs in (("train", "train"), ("validation", "val"), ("test", "test")):
        names = {picture.path.name for picture in found.split(name).pictures}
        assert names == {record["filename"] for record in records if record["split"] == theirs} and names
    with pytest.raises(ValueError, match="name must be one of train, validation, test, got 'val'"):
        found.split("val")


def test_without_it_the_split_follows_the_name(tmp_path):
    lines = [f"{number}.jpg#{place}\tA caption .\n" for number in range(1500) for place in range(5)]
    path = tmp_path / "results.token"
    parts = []
    for text in (lines, lines[::-1]):
        path.write_text("".join(text))
        parts.append({name: {p.path.name for p in load(path).split(name).pictures} for name in SPLITS})
    assert parts[0] == parts[1] and len(set.union(*parts[0].values())) == sum(map(len, parts[0].values())) == 1500
    assert 100 < len(parts[0]["test"]) < 200 and 100 < len(parts[0]["validation"]) < 200


def test_the_line_without_its_second_bar_is_read(copied):
    """Line 19,999 of the published results.csv has one bar: ``2199200615.jpg| 4   A dog runs across the grass .``"""
    path = copied / "results.csv"
    path.write_text(path.read_text().replace("1000000001.jpg| 4| A person", "1000000001.jpg| 4   A person"))
    assert "| 4   A person and a dog" in path.read_text()
    assert load(path).pictures[0].captions == flickr30k.load_sample().pictures[0].captions


def test_captions_keep_their_bars_hashes_and_digits(copied):
    path = copied / "results.csv"
    path.write_text(path.read_text().replace("| 0| A person rides a bicycle", "| 0| 3 | people # ride a bicycle"))
    assert load(path).pictures[1].captions[0] == "3 | people # ride a bicycle on a gray road ."


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (FILES[0], "1000000002.jpg#3\t", "1000000002.jpg 3 ", r"line 9 is no picture with a caption: '10000000"),
        (FILES[0], "1000000002.jpg#3\t", "1000000002.jpg#2\t", r"line 9 is a second caption 2 of 1000000002\.jpg"),
        (FILES[1], "1000000002.jpg| 3|", "1000000002.jpg|", r"line 10 is no picture with a caption"),
        (FILES[1], "1000000002.jpg| 3|", "1000000002.jpg| 1|", r"line 10 is a second caption 1"),
        (FILES[2], '"split": "val"', '"split": "dev"', r"the split of 1000000007\.jpg must be one of train, val, test"),
        (FILES[2], '"filename": "1000000002.jpg"', '"filename": "1000000001.jpg"', r"1000000001\.jpg occurs twice"),
        (FILES[2], '"raw": "A person is juggling ."', '"rew": ""', "a record lacks one of raw"),
        (FILES[2], '{"images"', '{"pictures"', "has no list images, but pictures, dataset"),
        (FILES[2], '"dataset"', "dataset", "is no valid JSON"),
    ],
)
def test_bad_files_are_refused(copied, name, old, new, message):
    path = copied / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        load(path)


@pytest.mark.parametrize("name", FILES[:2])
def test_a_file_that_was_cut_off(copied, name):
    path = copied / name
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-3]))
    with pytest.raises(ValueError, match=r"1000000008\.jpg has 2 captions, expected 5: the file is cut off"):
        load(path)


def test_missing_files_and_other_kinds(copied):
    for name in FILES:
        (copied / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
            load(copied / name)
    with pytest.raises(ValueError, match=r"the suffix of captions must be one of \.token, \.csv, \.json, got '\.txt'"):
        load(copied / "captions.txt")


def test_a_missing_picture_shows_when_it_is_read(copied):
    found = load(copied / FILES[2])
    (copied / "images" / "1000000001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1000000001\.jpg is missing"):
        found[0]
    assert found[1][0].shape == (3, 120, 160)
