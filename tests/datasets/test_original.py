"""The original archive: its binary records, what is refused, the command line. No test downloads it."""

import io
import tarfile
from pathlib import Path

import pytest
import torch

from src.datasets import cifar10
from src.datasets.download import DownloadError


def records(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, bytes]:
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=random, dtype=torch.uint8)
    labels = torch.arange(count) % 10
    rows = torch.cat([labels.to(torch.uint8)[:, None], images.flatten(1)], dim=1)
    return images, labels, rows.numpy().tobytes()


def write_archive(path: Path, contents: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


@pytest.fixture
def archive(cache) -> Path:
    """A small archive in the layout of the original, where a download would put it."""
    contents = {name: records(20, number)[2] for number, name in enumerate(cifar10.MEMBERS["train"])}
    contents[cifar10.MEMBERS["test"][0]] = records(10, 99)[2]
    write_archive(cifar10.archive_path(), contents)
    return cifar10.archive_path()


def test_records_are_label_then_channels(archive):
    train, test = cifar10.load("train"), cifar10.load("test", "original")
    assert train.source == test.source == "CIFAR-10 原始数据"
    assert torch.equal(train.images, torch.cat([records(20, number)[0] for number in range(5)]))
    assert torch.equal(test.images, records(10, 99)[0]) and torch.equal(test.labels, torch.arange(10))


def test_second_load_does_not_open_the_archive(archive, monkeypatch):
    first = cifar10.load("train")
    monkeypatch.setattr(cifar10, "read_archive", lambda *_: pytest.fail("read again"))
    assert torch.equal(cifar10.load("train").images, first.images)


def test_limit_is_balanced(archive):
    assert cifar10.load("train", limit=30).labels.bincount().tolist() == [3] * 10


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50_000])


def no_archive(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def another_archive(path: Path) -> None:
    write_archive(path, {"cifar-10-batches-py/data_batch_1": b"x"})


def half_a_record(path: Path) -> None:
    write_archive(path, {name: records(2, 0)[2][:-5] for name in cifar10.MEMBERS["train"]})


def without_records(path: Path) -> None:
    write_archive(path, dict.fromkeys(cifar10.MEMBERS["train"], b""))


@pytest.mark.parametrize("spoil", [truncated, no_archive, empty, another_archive, half_a_record, without_records])
def test_a_bad_archive_is_refused_and_leaves_no_cache(archive, spoil):
    spoil(archive)
    with pytest.raises(ValueError, match="is truncated, damaged or another archive .*: delete it and run 'python -m"):
        cifar10.load("train")
    assert [path.name for path in archive.parent.iterdir()] == [cifar10.ARCHIVE]


def test_labels_out_of_range_are_refused(archive):
    row = bytes([10]) + bytes(3072)
    write_archive(archive, dict.fromkeys(cifar10.MEMBERS["train"], row))
    with pytest.raises(ValueError, match="labels must lie in 0 … 9 for 10 classes, got 10 … 10"):
        cifar10.load("train")


def test_missing_archive_says_how_to_get_it(cache):
    with pytest.raises(FileNotFoundError, match="download=True"):
        cifar10.load("train", "original")


def test_download_without_a_network(cache, monkeypatch):
    monkeypatch.setattr(cifar10, "ARCHIVE_URLS", ("http://cifar.invalid/cifar-10-binary.tar.gz",))
    with pytest.raises(DownloadError, match=r"(?s)cifar.invalid.*no connection.*Check the network and run the same"):
        cifar10.load("train", download=True)
    with pytest.raises(SystemExit, match="no connection"):
        cifar10.main(["download"])
    assert list(cache.iterdir()) == []
