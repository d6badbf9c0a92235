"""The shipped data as a whole: small, complete, and each set described."""

import hashlib
import json
import re

import pytest

from src.runtime import data_dir

LIMIT = 40_000_000
SHEETS = ("emoji", "CIFAR-10", "scenes", "videos", "charts", "speech", "FSDD", "reviews", "opinions", "instructions", "COCO",
          "Flickr30k", "VQA")  # fmt: skip
MANIFESTS = sorted(data_dir().rglob("manifest.json"))


def shipped_files() -> list:
    ignored = {"node_modules", "__pycache__"}
    return [path for path in data_dir().rglob("*") if path.is_file() and not ignored & set(path.parts)]


def test_all_data_stay_small():
    assert sum(path.stat().st_size for path in shipped_files()) <= LIMIT


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_manifests_list_what_lies_beside_them(manifest):
    listed = json.loads(manifest.read_text("utf-8"))
    for name, about in listed.items():
        data = (manifest.parent / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (about["bytes"], about["sha256"]), name


def test_every_folder_of_data_has_a_manifest_or_belongs_to_one():
    made = {path.parent for path in MANIFESTS}
    folders = {path.parent for path in shipped_files()} - {data_dir(), data_dir() / "results"}
    assert [str(folder) for folder in folders if not {folder, *folder.parents} & made] == []
    assert {path.relative_to(data_dir()).as_posix() for path in made} == {
        "checkpoints", "emoji", "emoji_gan", "speech", "reviews", "opinions", "samples/coco", "samples/flickr30k",
        "samples/vqa"}  # fmt: skip


@pytest.mark.parametrize("name", SHEETS)
def test_each_set_has_a_datasheet(name):
    sections = re.split(r"^## ", (data_dir() / "README.md").read_text("utf-8"), flags=re.M)
    found = [section for section in sections[1:] if name in section.partition("\n")[0]]
    assert found
    text = "\n".join(found)
    for heading in ("许可", "偏差", "不应用于"):
        assert heading in text, f"{name}: {heading}"
