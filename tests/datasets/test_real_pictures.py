"""Real CIFAR-10 pictures, where there are some: the folder of CIFAR10_DIR, or the archive beside this checkout."""

import os
import tarfile
from pathlib import Path

import pytest
import torch

from src.datasets import cifar10

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "cifar10-jpeg.tar.xz"
GIVEN = os.environ.get(cifar10.FOLDER_VARIABLE)


def few_from_archive(target: Path, most: int = 20) -> Path:
    """Unpack the first ``most`` test pictures of each class, and stop reading as soon as they are there."""
    left = dict.fromkeys(cifar10.CLASSES, most)
    with tarfile.open(ARCHIVE, "r|xz") as archive:
        for member in archive:
            parts = member.name.split("/")
            if len(parts) != 4 or parts[1] != "test" or not left.get(parts[2]):
                continue
            path = target / parts[1] / parts[2] / parts[3]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.extractfile(member).read())
            left[parts[2]] -= 1
            if not any(left.values()):
                break
    return target


def few_from_folder(target: Path, most: int = 20) -> Path:
    for name in cifar10.CLASSES:
        (target / "test" / name).mkdir(parents=True)
        for path in sorted(Path(GIVEN, "test", name).glob("[!.]*"))[:most]:
            (target / "test" / name / path.name).symlink_to(path.resolve())
    return target


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    if not GIVEN and not ARCHIVE.exists():
        pytest.skip("neither CIFAR10_DIR nor ../shared/data/cifar10-jpeg.tar.xz is there")
    target = tmp_path_factory.mktemp("cifar10")
    return few_from_folder(target) if GIVEN else few_from_archive(target)


def test_real_pictures_load_and_look_like_photographs(real, monkeypatch):
    monkeypatch.setenv(cifar10.FOLDER_VARIABLE, str(real))
    pictures = cifar10.load("test")
    assert pictures.source == "CIFAR-10 图片文件夹" and pictures.labels.bincount().tolist() == [20] * 10
    values = pictures.images.float()
    assert 90 < values.mean() < 150 and 40 < values.std() < 80
    neighbours = (values[..., 1:] - values[..., :-1]).abs().mean()
    shuffled = values.flatten(2)[..., torch.randperm(1024)].view_as(values)
    assert neighbours < 0.5 * (shuffled[..., 1:] - shuffled[..., :-1]).abs().mean()
