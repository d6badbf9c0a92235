"""Real spoken digits from a folder: a small folder of made-up recordings, and the real one where FSDD_DIR is set."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from src.datasets import fsdd
from src.datasets.speech import Speech
from tests.datasets.listener import heard

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
REAL = os.environ.get("FSDD_DIR")


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch):
    monkeypatch.delenv("FSDD_DIR", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings of each digit by each speaker, 8 kHz; their first sample is digit / 16."""
    root = tmp_path / "recordings"
    root.mkdir()
    random = np.random.default_rng(0)
    for speaker in SPEAKERS:
        for digit in range(10):
            for number in range(2):
                wave = random.uniform(-0.5, 0.5, 800 + 100 * number)
                wave[0] = digit / 16
                soundfile.write(root / f"{digit}_{speaker}_{number}.wav", wave, 8_000)
    return root


def test_recordings(folder):
    found = fsdd.load(folder, rate=8_000)
    assert isinstance(found, Speech) and len(found) == 120 and found.rate == 8_000
    assert found.classes[7] == "seven" and set(found.languages) == {"en"} and set(found.voices) == set(SPEAKERS)
    assert Counter(found.labels.tolist()) == dict.fromkeys(range(10), 12)
    for wave, label, word in zip(found.waves, found.labels.tolist(), found.words, strict=True):
        assert wave.dtype == torch.float32 and wave[0] == label / 16 and word == fsdd.CLASSES[label]
        assert len(wave) in (800, 900)


def test_the_rate_is_changed(folder):
    found = fsdd.load(folder)
    assert found.rate == 16_000 and {len(wave) for wave in found.waves} == {1_600, 1_800}


def test_folder_from_the_environment(folder, monkeypatch):
    monkeypatch.setenv("FSDD_DIR", str(folder))
    assert len(fsdd.load()) == 120


def test_the_checkout_around_the_recordings(folder):
    (folder.parent / "README.md").write_text("about")
    (folder / ".DS_Store").write_text("hidden")
    assert len(fsdd.load(folder.parent)) == 120


def test_speakers_are_split_by_their_names(folder):
    parts = {split: set(fsdd.load(folder, split).voices) for split in ("train", "validation", "test")}
    assert parts == {"train": {"george", "jackson", "lucas", "nicolas"}, "validation": {"theo"}, "test": {"yweweler"}}


def test_chosen_test_speakers(folder):
    test = fsdd.load(folder, "test", test_speakers=("theo", "lucas"))
    train = fsdd.load(folder, "train", test_speakers=("theo", "lucas"))
    assert set(test.voices) == {"theo", "lucas"} and set(train.voices) == set(SPEAKERS) - {"theo", "lucas"}
    with pytest.raises(ValueError, match="split='validation' has no recordings"):
        fsdd.load(folder, "validation", test_speakers=("theo",))


@pytest.mark.parametrize("speakers", ["theo", ("theo", "nobody")])
def test_unknown_speakers(folder, speakers):
    with pytest.raises(ValueError, match="test_speakers must be a collection of george, jackson, .*nobody|got 'theo'"):
        fsdd.load(folder, test_speakers=speakers)


def test_unknown_split(folder):
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'dev'"):
        fsdd.load(folder, "dev")


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder: set FSDD_DIR or folder="):
        fsdd.load()
    with pytest.raises(FileNotFoundError, match="no folder .*missing: give the one that holds 0_jackson_0.wav"):
        fsdd.load(tmp_path / "missing")


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match="is empty: put the recordings there"):
        fsdd.load(tmp_path)


@pytest.mark.parametrize("name", ["zero_theo_0.wav", "0_theo.wav", "0_theo_0.mp3", "notes.txt", "10_theo_0.wav"])
def test_foreign_names(folder, name):
    (folder / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"holds {name} \(1 foreign names\), expected <digit>_<speaker>_<number>"):
        fsdd.load(folder)


@pytest.mark.parametrize("content", [b"", b"a text", "cut"])
def test_damaged_recording(folder, content):
    path = folder / "3_george_1.wav"
    path.write_bytes(path.read_bytes()[:500] if content == "cut" else content)
    with pytest.raises(ValueError, match=r"3_george_1\.wav cannot be read as sound"):
        fsdd.load(folder)


@pytest.fixture(scope="module")
def real() -> Speech:
    if not REAL:
        pytest.skip("set FSDD_DIR to the recordings of the Free Spoken Digit Dataset")
    return fsdd.load(REAL)


@pytest.mark.slow
def test_the_real_recordings(real):
    assert len(real) == 3_000 and Counter(real.voices) == dict.fromkeys(SPEAKERS, 500)
    assert set(Counter(zip(real.voices, real.labels.tolist(), strict=True)).values()) == {50}
    assert all(0.1 < len(wave) / real.rate < 3 and 0.005 < wave.abs().max() <= 1 for wave in real.waves)


@pytest.mark.slow
def test_real_digits_of_an_unseen_speaker(real):
    """Chance is 0.1. The telephone band only: the recordings have 8 kHz."""
    unseen = torch.tensor([voice == "yweweler" for voice in real.voices])
    scores = [heard(real[~unseen], real[unseen], seed, steps=250, highest=4_000) for seed in range(3)]
    assert min(scores) > 0.6, scores
