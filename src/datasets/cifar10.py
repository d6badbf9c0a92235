"""CIFAR-10 behind one function: an image folder, the original archive, or a stand-in drawn from emoji.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. 32×32 pixels, 10 classes, 50,000 training and
10,000 test pictures. ``python -m src.datasets.cifar10 download`` fetches the original (162 MB).
"""

from __future__ import annotations

import argparse
import os
import tarfile
from pathlib import Path

import torch

from src.datasets.cache import Decoded, cached
from src.datasets.download import fetch
from src.datasets.folder import read_folder
from src.datasets.pictures import Pictures, balanced, split_validation
from src.runtime import cache_dir, check_choice

__all__ = ["CLASSES", "CLASSES_ZH", "Pictures", "download", "load", "split_validation"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLASSES_ZH = ("飞机", "汽车", "鸟", "猫", "鹿", "狗", "青蛙", "马", "船", "卡车")
SPLITS = ("train", "test")
SOURCES = ("auto", "folder", "original", "standin")
FOLDER_VARIABLE = "CIFAR10_DIR"

ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_SIZE = 170_052_171
ARCHIVE_DIGEST = "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
ARCHIVE_URLS = (
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
    "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
)
MEMBERS = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}
RECORD = 1 + 3 * 32 * 32


def load(split: str, source: str = "auto", limit: int | None = None, download: bool = False) -> Pictures:
    """Pictures uint8 ``[N, 3, 32, 32]`` with labels of one split, ``"train"`` or ``"test"``.

    source: ``"folder"`` (``<CIFAR10_DIR>/<split>/<class>/*.jpg|png``), ``"original"`` (the downloaded archive),
    ``"standin"`` (drawn from emoji), or ``"auto"``, the first of the three that is there. limit: at most so many
    pictures, classes balanced, always the same ones. download: fetch the original when it is not there yet.
    The value's ``source`` says which it is. Raises ValueError and FileNotFoundError for what is missing or damaged,
    download.DownloadError when the original cannot be fetched.
    """
    check_choice("split", split, SPLITS)
    check_choice("source", source, SOURCES)
    source = _choose(download) if source == "auto" else source
    if source == "standin":
        return _standin(split, limit)
    read, name = {"folder": (_folder, "CIFAR-10 图片文件夹"), "original": (_original, "CIFAR-10 原始数据")}[source]
    images, labels = read(split, download)
    pictures = Pictures(images, labels, CLASSES, name)
    return pictures if limit is None else pictures[balanced(labels, limit)]


def _choose(download: bool) -> str:
    if os.environ.get(FOLDER_VARIABLE):
        return "folder"
    return "original" if download or archive_path().exists() else "standin"


def archive_path() -> Path:
    """Where the downloaded archive lies, whether it is there or not."""
    return cache_dir() / ARCHIVE


def download() -> Path:
    """Fetch the original archive into the cache, or go on with an interrupted download; returns its path."""
    return fetch(ARCHIVE_URLS, archive_path(), size=ARCHIVE_SIZE, digest=ARCHIVE_DIGEST)


def _folder(split: str, _download: bool) -> Decoded:
    root = os.environ.get(FOLDER_VARIABLE)
    if not root:
        raise FileNotFoundError(f"source='folder' needs the environment variable {FOLDER_VARIABLE}: set it to the "
                                "folder that holds train/<class>/*.jpg and test/<class>/*.jpg.")
    return read_folder(Path(root).expanduser() / split, CLASSES, 32)


def _original(split: str, may_download: bool) -> Decoded:
    path = archive_path()
    if may_download:
        download()
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: call load(..., download=True) once or run "
                                "'python -m src.datasets.cifar10 download' (162 MB).")
    stat = path.stat()
    key = f"{stat.st_size} {stat.st_mtime_ns}"
    return cached(cache_dir() / f"cifar10-{split}.safetensors", key, lambda: read_archive(path, split))


def read_archive(path: Path, split: str) -> Decoded:
    """(images uint8 ``[N, 3, 32, 32]``, labels int64 ``[N]``) from the archive's binary files; nothing is unpacked.

    Raises ValueError when the archive is truncated, damaged or another one.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            parts = [archive.extractfile(name).read() for name in MEMBERS[split]]
    except (tarfile.TarError, EOFError, OSError, KeyError, AttributeError) as error:
        raise _damaged(path, repr(error)) from error
    content = bytearray(b"".join(parts))
    if not content or len(content) % RECORD:
        raise _damaged(path, f"{len(content):,} bytes are no whole number of records of {RECORD}")
    records = torch.frombuffer(content, dtype=torch.uint8).view(-1, RECORD)
    return records[:, 1:].contiguous().view(-1, 3, 32, 32), records[:, 0].long()


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} is truncated, damaged or another archive ({reason}): delete it and run "
                      "'python -m src.datasets.cifar10 download' again.")


def _standin(split: str, limit: int | None) -> Pictures:
    from src.datasets.standin import draw

    count = {"train": 50_000, "test": 10_000}[split]
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}; leave it out to take every picture.")
    images, labels = draw(split, count if limit is None else min(limit, count))
    return Pictures(images, labels, CLASSES, "表情符号替身")


def main(arguments: list[str] | None = None) -> None:
    """The command line ``python -m src.datasets.cifar10 download``."""
    parser = argparse.ArgumentParser(prog="python -m src.datasets.cifar10", description="the original CIFAR-10")
    parser.add_argument("command", choices=["download"], help="fetch the archive (162 MB) into the cache")
    parser.parse_args(arguments)
    try:
        print(download())
    except OSError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
