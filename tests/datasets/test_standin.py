"""The drawn stand-in: the same every time, shapes, hard for a linear classifier, learnable by what is drawn."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.datasets import cifar10, emoji, standin
from src.datasets.pictures import hashes

OTHER_PROCESS = """
import hashlib, torch
torch.set_num_threads(3)
from src.datasets import standin
print(hashlib.sha256(standin.draw("train", 400)[0].numpy().tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def drawn():
    return {split: standin.draw(split, 2000) for split in cifar10.SPLITS}


def test_no_folder_and_no_archive_gives_the_stand_in(cache):
    pictures = cifar10.load("test", limit=25)
    assert pictures.source == "表情符号替身" and pictures.images.shape == (25, 3, 32, 32)
    assert pictures.labels.tolist() == [*range(10), *range(10), *range(5)]
    assert not any(cache.glob("*"))
    with pytest.raises(ValueError, match="limit must be at least 1"):
        cifar10.load("test", limit=0)


def test_sizes_are_those_of_cifar10(monkeypatch):
    asked = []
    one = (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    monkeypatch.setattr(standin, "draw", lambda split, count: asked.append((split, count)) or one)
    cifar10.load("train"), cifar10.load("test"), cifar10.load("test", limit=10**6)
    assert asked == [("train", 50_000), ("test", 10_000), ("test", 10_000)]


def test_same_pictures_in_another_process_with_other_threads(drawn):
    command, root = [sys.executable, "-c", OTHER_PROCESS], Path(__file__).parents[2]
    other = subprocess.run(command, cwd=root, env=os.environ, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256(drawn["train"][0][:400].numpy().tobytes()).hexdigest()


def test_same_pictures_with_one_thread(drawn):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(standin.draw("train", 600)[0], drawn["train"][0][:600])
    finally:
        torch.set_num_threads(threads)


def test_fewer_pictures_are_the_first_and_another_seed_gives_others(drawn):
    images, labels = standin.draw("train", 330)
    assert torch.equal(images, drawn["train"][0][:330]) and torch.equal(labels, torch.arange(330) % 10)
    assert not torch.equal(standin.draw("train", 200, seed=1)[0], images[:200])


def test_train_and_test_share_no_picture(drawn):
    train, test = (set(hashes(drawn[split][0]).tolist()) for split in cifar10.SPLITS)
    assert len(train) == len(test) == 2000 and not train & test


def test_one_drawing_in_six_is_for_the_test_pictures_only():
    train, test = standin._drawings("train"), standin._drawings("test")
    for seen, every in zip(train.rows, test.rows, strict=True):
        assert set(seen.tolist()) < set(every.tolist()) or len(every) < standin.HELD_OUT
        assert len(seen) == len(every) - len(every) // standin.HELD_OUT


def test_every_class_has_its_emoji_in_every_style():
    found = emoji.load(["noto"])
    vehicles = {"airplane", "automobile", "ship", "truck"}
    for name, codes in zip(cifar10.CLASSES, standin.CODEPOINTS, strict=True):
        group = found.concepts[int(found.find(*codes)[0])].group
        assert group == ("travel-places" if name in vehicles else "animals-nature"), name
    assert len({code for codes in standin.CODEPOINTS for code in codes}) == sum(map(len, standin.CODEPOINTS))


def test_pictures_use_the_whole_range_and_their_colour_tells_nothing(drawn):
    images, labels = drawn["train"]
    values = images.float()
    assert 90 < values.mean() < 165 and values.std() > 50
    means = torch.stack([values[labels == label].mean((0, 2, 3)) for label in range(10)])  # [10, 3]
    assert means.std(0).max() < 12


def test_a_linear_classifier_on_pixels_does_poorly(drawn):
    """Ridge regression in its dual form, W = Xᵀ(XXᵀ + λI)⁻¹Y."""
    (train, labels), (test, answers) = drawn["train"], drawn["test"]
    inputs, questions = (images.flatten(1).float() / 255 - 0.5 for images in (train, test))
    targets = torch.nn.functional.one_hot(labels, 10).float()
    dual = torch.linalg.solve(inputs @ inputs.T + 300 * torch.eye(len(inputs)), targets)
    accuracy = (questions @ (inputs.T @ dual)).argmax(1).eq(answers).float().mean()
    assert accuracy < 0.45


def test_count_must_be_positive():
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        standin.draw("train", 0)
