"""The opinions: what is shipped, its splits, how far simple models get, damaged files, and making it again."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter

import pytest
import torch

from src.datasets import opinions, shipped
from src.datasets.splits import SPLITS
from src.runtime import data_dir, root

FIGURES = {"plain": (396, 192, 192), "negated": (168, 84, 84), "contrast": (168, 84, 84), "implied": (60, 30, 30)}


@pytest.fixture(scope="module")
def found() -> dict[str, opinions.Opinions]:
    return {split: opinions.load(split) for split in SPLITS}


@pytest.fixture(scope="module")
def table() -> list[list[str]]:
    return [line.split("\t") for line in (data_dir() / "opinions" / "opinions.tsv").read_text("utf-8").splitlines()]


def test_contents():
    every = opinions.load()
    assert len(every) == len(set(every.texts)) == 1572 and every.labels.dtype == torch.int64
    assert set(every.labels.tolist()) == {0, 1} and set(every.topics) == set(opinions.TOPICS)
    for text in every.texts:
        assert text.isascii() and text == " ".join(text.split()) and text[-1] in ".?" and 10 <= len(text) <= 130
        assert not set("{}<>|") & set(text)


def test_splits_part_the_set_and_are_balanced(found):
    assert [len(found[split]) for split in SPLITS] == [792, 390, 390]
    assert len({text for split in SPLITS for text in found[split].texts}) == 1572
    for place, split in enumerate(SPLITS):
        part = found[split]
        for kind, counts in FIGURES.items():
            labels = part.labels[[own == kind for own in part.kinds]]
            assert len(labels) == counts[place] and labels.sum() * 2 == len(labels)
        for topic in opinions.TOPICS:
            labels = part.labels[[own == topic for own in part.topics]]
            assert len(labels) >= 60 and labels.sum() * 2 == len(labels)


def test_pairs_of_aspect_and_adjective_are_held_out(found, table):
    split = {text: name for name, part in found.items() for text in part.texts}
    places: dict[str, set[str]] = {}
    for _, _, _, unit, text in table:
        places.setdefault(unit, set()).add(split[text])
    assert all(len(splits) == 1 for splits in places.values())
    known = {unit: splits.pop() for unit, splits in places.items() if "|" in unit}
    assert Counter(known.values()).most_common()[-1][1] > 100
    for text, side in split.items():
        for unit, own in known.items():
            aspect, adjective = unit.split("|")
            if any(f"{aspect} was {how}{adjective}" in text.lower() for how in ("", "so ", "really ")):
                assert own == side, text


def test_the_order_says_nothing(found):
    """The first sentences of each split are a fair sample: every share within four standard errors."""
    for part in found.values():
        for kinds, names in ((part.kinds, opinions.KINDS), (part.topics, opinions.TOPICS)):
            for name in names:
                share, first = kinds.count(name) / len(kinds), kinds[:100].count(name) / 100
                assert abs(first - share) < 4 * (share * (1 - share) / 100) ** 0.5
        assert abs(part.labels[:100].sum() - 50) < 20


def test_simple_models_do_not_solve_it(found):
    """Bags of words, trained on all that may be trained on: better than chance where nothing is negated, and only there."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    train, test = found["train"], found["test"]
    for words in ((1, 1), (1, 2)):
        counts = TfidfVectorizer(ngram_range=words)
        model = LogisticRegression(C=3, max_iter=500).fit(counts.fit_transform(train.texts), train.labels.numpy())
        right = torch.from_numpy(model.predict(counts.transform(test.texts))) == test.labels
        shares = {kind: right[[own == kind for own in test.kinds]].double().mean() for kind in opinions.KINDS}
        assert 0.5 < right.double().mean() < 0.68 and shares["plain"] > 0.65 and shares["negated"] < 0.5
    lengths = [[[len(text), text.count(" ")] for text in part.texts] for part in (train, test)]
    assert abs(LogisticRegression().fit(lengths[0], train.labels).score(lengths[1], test.labels) - 0.5) < 0.06


def test_selection(found):
    part = found["test"][torch.tensor([5, 2])]
    assert part.texts == (found["test"].texts[5], found["test"].texts[2]) and len(part) == 2
    assert part.kinds[1] == found["test"].kinds[2] and part.topics[1] == found["test"].topics[2]
    assert found["test"][found["test"].labels == 1].labels.all()
    with pytest.raises(TypeError, match=r"Opinions\[...\] takes a slice"):
        found["test"][0]


def test_unknown_split():
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'dev'"):
        opinions.load("dev")


def test_damaged_and_missing_files(tmp_path, monkeypatch):
    shutil.copytree(data_dir() / "opinions", tmp_path / "opinions")
    monkeypatch.setattr(shipped, "data_dir", lambda: tmp_path)
    path = tmp_path / "opinions" / "opinions.tsv"
    path.write_bytes(path.read_bytes()[:-1])
    opinions._rows.cache_clear()
    with pytest.raises(ValueError, match="opinions.tsv is damaged .*git checkout -- data/opinions"):
        opinions.load()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="opinions.tsv is missing: .*make it with data/make_opinions.py"):
        opinions.load()


def test_making_it_again_gives_the_same_bytes(tmp_path):
    command = [sys.executable, data_dir() / "make_opinions.py", "--output", tmp_path / "made"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root())}, check=True, capture_output=True)
    for name in ("opinions.tsv", "manifest.json"):
        hashes = {hashlib.sha256((folder / name).read_bytes()).hexdigest()
                  for folder in (tmp_path / "made", data_dir() / "opinions")}  # fmt: skip
        assert len(hashes) == 1, name
