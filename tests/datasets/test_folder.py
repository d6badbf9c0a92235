"""The image folder and its cache: what is read, what is refused, when it is read again."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.datasets import cifar10, folder
from src.datasets.cifar10 import CLASSES

TOO_SMALL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from src.datasets import cifar10
try:
    cifar10.load("train", "folder")
except OSError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cifar10.FOLDER_VARIABLE, str(folder.parent))
    return folder


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The pictures that are decoded during a test."""
    read, seen = folder.read_picture, []
    monkeypatch.setattr(folder, "read_picture", lambda path, size: seen.append(path) or read(path, size))
    return seen


def test_pictures_and_labels_are_those_of_the_files(given):
    pictures = cifar10.load("train")
    assert pictures.source == "CIFAR-10 图片文件夹" and pictures.images.shape == (30, 3, 32, 32)
    assert pictures.labels.tolist() == list(range(10)) * 3
    for image, label, number in zip(pictures.images, pictures.labels, torch.arange(30) // 10, strict=True):
        assert image[0, 0, 0] == 10 * label + number
        stored = np.asarray(Image.open(given / CLASSES[label] / f"{number}.png"))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), stored)


def test_limit_is_balanced_and_the_same_every_time(given):
    pictures = cifar10.load("train", limit=13)
    assert pictures.labels.bincount(minlength=10).tolist() == [2] * 3 + [1] * 7
    assert torch.equal(pictures.images, cifar10.load("train", limit=13).images)
    with pytest.raises(ValueError, match="limit must be at least 1"):
        cifar10.load("train", limit=0)


def test_second_load_decodes_nothing(given, decodings):
    first = cifar10.load("train")
    assert len(decodings) == 30
    second = cifar10.load("train")
    assert len(decodings) == 30 and torch.equal(first.images, second.images)


def test_an_edited_folder_is_read_again(given, decodings):
    cifar10.load("train")
    Image.new("RGB", (32, 32), (7, 7, 7)).save(given / "cat" / "1.png")
    pictures = cifar10.load("train")
    assert len(decodings) == 60 and (pictures.images[13] == 7).all()
    (given / "cat" / "2.png").rename(given / "cat" / "0a.png")
    assert len(cifar10.load("train")) == 30 and len(decodings) == 90


def one_bit_changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("damage", [one_bit_changed, lambda data: data[:-50], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_cache_is_made_anew(given, cache, decodings, damage):
    before = cifar10.load("train").images.clone()
    (file,) = cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert torch.equal(cifar10.load("train").images, before)
    assert torch.equal(cifar10.load("train").images, before) and len(decodings) == 60


def test_formats_and_hidden_entries(given):
    (given / ".hidden").mkdir()
    (given / "cat" / ".DS_Store").write_bytes(b"x")
    (given / "cat" / "0.png").unlink()
    Image.new("L", (32, 32), 9).save(given / "cat" / "0.JPEG", quality=95)
    assert (cifar10.load("train").images[3].int() - 9).abs().max() <= 1


def foreign_folder(root: Path) -> None:
    (root / "zebra").mkdir()


def stray_file(root: Path) -> None:
    (root / "notes.txt").write_text("x")


def missing_class(root: Path) -> None:
    for path in (root / "ship").iterdir():
        path.unlink()
    (root / "ship").rmdir()


def empty_class(root: Path) -> None:
    for path in (root / "ship").iterdir():
        path.unlink()


def no_picture(root: Path) -> None:
    (root / "ship" / "notes.txt").write_text("x")


def class_is_a_file(root: Path) -> None:
    empty_class(root)
    (root / "ship").rmdir()
    (root / "ship").write_text("x")


def truncated_png(root: Path) -> None:
    path = root / "ship" / "1.png"
    path.write_bytes(path.read_bytes()[:700])


def truncated_jpeg(root: Path) -> None:
    path = root / "ship" / "3.jpg"
    Image.open(root / "ship" / "1.png").save(path, quality=90)
    path.write_bytes(path.read_bytes()[:1200])


def flipped_bits(root: Path) -> None:
    path = root / "ship" / "1.png"
    data = bytearray(path.read_bytes())
    data[100:140] = bytes(40)
    path.write_bytes(data)


def text_as_picture(root: Path) -> None:
    (root / "ship" / "1.png").write_text("not a picture")


def empty_file(root: Path) -> None:
    (root / "ship" / "1.png").write_bytes(b"")


def wrong_size(root: Path) -> None:
    Image.new("RGB", (33, 32)).save(root / "ship" / "1.png")


def sixteen_bits(root: Path) -> None:
    Image.fromarray(np.full((32, 32), 40_000, np.uint16)).save(root / "ship" / "1.png")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (foreign_folder, ValueError, r"holds zebra, which is none of the classes airplane, .*: move it"),
        (stray_file, ValueError, r"holds notes.txt, which is none of the classes"),
        (missing_class, FileNotFoundError, r"no folder for ship: .*expected airplane"),
        (empty_class, ValueError, r"ship is empty: put the pictures"),
        (no_picture, ValueError, r"notes.txt is no picture"),
        (class_is_a_file, ValueError, r"ship is a file: expected a folder"),
        (truncated_png, ValueError, r"ship/1.png cannot be read as a picture .*copy it again"),
        (truncated_jpeg, ValueError, r"ship/3.jpg cannot be read as a picture .*copy it again"),
        (text_as_picture, ValueError, r"ship/1.png cannot be read as a picture .*copy it again"),
        (empty_file, ValueError, r"ship/1.png cannot be read as a picture .*copy it again"),
        (flipped_bits, ValueError, r"ship/1.png cannot be read as a picture .*copy it again"),
        (wrong_size, ValueError, r"1.png is 33×32 pixels in mode RGB, expected 32×32 .*resize"),
        (sixteen_bits, ValueError, r"1.png is 32×32 pixels in mode I;16, expected .*8 bits a channel"),
    ],
)
def test_a_bad_folder_is_refused_and_leaves_no_cache(given, cache, spoil, error, message):
    spoil(given)
    with pytest.raises(error, match=message):
        cifar10.load("train")
    assert not cache.exists() or not list(cache.iterdir())


def test_folder_that_is_not_there(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="needs the environment variable CIFAR10_DIR"):
        cifar10.load("train", "folder")
    monkeypatch.setenv(cifar10.FOLDER_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere/test: give one that holds the folders airplane"):
        cifar10.load("test")


def test_full_disk_leaves_nothing_half_written(given, cache):
    done = subprocess.run([sys.executable, "-c", TOO_SMALL], env=os.environ, cwd=Path(__file__).parents[2],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1 and "cannot write the cache" in done.stderr, done.stderr
    assert "free some space" in done.stderr and "MULTIMODAL_BOOK_CACHE" in done.stderr
    assert list(cache.iterdir()) == []


def test_unknown_split_and_source():
    with pytest.raises(ValueError, match="split must be one of train, test, got 'val'"):
        cifar10.load("val")
    with pytest.raises(ValueError, match="source must be one of auto, folder, original, standin, got 'web'"):
        cifar10.load("train", "web")
