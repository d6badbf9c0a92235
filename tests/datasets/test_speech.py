"""The shipped speech: what it holds, splits by voice, noise, what can be heard in it, and that it can be made again."""

import csv
import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from src.datasets import shipped, speech
from src.datasets.things import THINGS
from src.runtime import data_dir
from tests.datasets.listener import heard, log_mel

MEN = {"m3", "m7", "Andy", "Denis", "Diogo", "norbert"}
COUNTS = {"digit": 480, "command": 576, "thing": 960, "emotion": 480}


@pytest.fixture(scope="module")
def everything() -> dict[str, speech.Speech]:
    return {kind: speech.load(kind) for kind in speech.KINDS}


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped files that a test may spoil, and nothing decoded yet."""
    shutil.copytree(data_dir() / "speech", tmp_path / "data" / "speech")
    monkeypatch.setattr(shipped, "data_dir", lambda: tmp_path / "data")
    speech._stream.cache_clear()
    yield tmp_path / "data" / "speech"
    speech._stream.cache_clear()


@pytest.mark.parametrize("kind", speech.KINDS)
def test_counts(everything, kind):
    found = everything[kind]
    assert len(found) == COUNTS[kind] and found.rate == 16_000
    assert found.labels.dtype == torch.int64 and found.labels.shape == (len(found),)
    each = Counter(zip(found.voices, found.languages, found.labels.tolist(), strict=True))
    assert len(each) == 12 * 2 * len(found.classes) and len(set(each.values())) == 1


@pytest.mark.parametrize("kind", speech.KINDS)
def test_waves_are_sound(everything, kind):
    """No utterance is empty, silent, clipped, or begins or ends with more than 40 ms of silence."""
    for wave in everything[kind].waves:
        assert wave.dtype == torch.float32 and wave.ndim == 1 and 0.1 * 16_000 < len(wave) < 5 * 16_000
        assert 0.03 < wave.abs().max() < 0.999
        loud = (wave.abs() > 0.005 * wave.abs().max()).nonzero().flatten()
        assert loud[0] < 640 and len(wave) - loud[-1] < 640


def test_labels_say_what_is_spoken(everything):
    assert everything["digit"].classes == (
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")  # fmt: skip
    assert {"forward", "back", "left", "right", "up", "down", "start", "stop", "open", "close", "yes", "no"} == set(
        everything["command"].classes)  # fmt: skip
    assert everything["emotion"].classes == speech.EMOTIONS == ("neutral", "happy", "sad", "angry")
    for kind in ("digit", "command", "thing"):
        found, said = everything[kind], speech.vocabulary(kind)
        assert [word.en for word in said] == list(found.classes) and len(set(word.zh for word in said)) == len(said)
        for word, language, label in zip(found.words, found.languages, found.labels.tolist(), strict=True):
            assert word == getattr(said[label], language)


def test_things_are_those_of_the_scenes():
    assert [(word.zh, word.en) for word in speech.vocabulary("thing")] == [(thing.zh, thing.en) for thing in THINGS]


def test_selection(everything):
    found = everything["digit"]
    chosen = found[torch.tensor([voice == "f1" for voice in found.voices]) & (found.labels == 7)]
    assert len(chosen) == 4 and set(chosen.words) == {"七", "seven"} and set(chosen.voices) == {"f1"}
    assert chosen.labels.tolist() == [7] * 4 and chosen.classes == found.classes
    assert torch.equal(found[10:12].waves[1], found.waves[11]) and len(found[torch.tensor([3, 1])]) == 2
    with pytest.raises(TypeError, match=r"takes a slice, a mask or an index tensor, not int; .*speech\.waves"):
        found[3]


def test_arguments_select():
    part = speech.load("command", "zh", "test")
    assert set(part.languages) == {"zh"} and set(part.voices) == {"Denis", "steph"} and len(part) == 48
    assert part.words[0] == "前进"


def test_voices_are_split_by_their_names():
    parts = {split: set(speech.voices(split)) for split in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == len(speech.voices()) == 12
    for split in ("validation", "test"):
        assert len(parts[split]) == 2 and len(parts[split] & MEN) == 1
    for split, names in parts.items():
        found = speech.load("digit", split=split)
        assert set(found.voices) == names
        assert {*zip(found.voices, found.languages, strict=True)} == {(v, l) for v in names for l in ("zh", "en")}


def test_no_waveform_occurs_twice(everything):
    waves = [hashlib.sha256(wave.numpy().tobytes()).digest() for found in everything.values() for wave in found.waves]
    assert len(set(waves)) == sum(COUNTS.values())


def test_a_loaded_waveform_may_be_changed():
    speech.load("digit", split="test").waves[0].zero_()
    assert speech.load("digit", split="test").waves[0].any()


def test_noise_depends_on_the_seed_and_the_utterance_only():
    clean, noisy, other = (speech.load("digit", "zh", "test", noise, seed) for noise, seed in ((None, 0), (5, 0), (5, 1)))
    everywhere = speech.load("digit", noise=5)
    row = [i for i, (v, l) in enumerate(zip(everywhere.voices, everywhere.languages, strict=True))
           if (v, l) == (noisy.voices[0], "zh")][0]  # fmt: skip
    assert torch.equal(noisy.waves[0], everywhere.waves[row]) and not torch.equal(noisy.waves[0], other.waves[0])
    noise = noisy.waves[0] - clean.waves[0]
    assert 10 * (clean.waves[0].square().sum() / noise.square().sum()).log10() == pytest.approx(5, abs=0.01)
    neighbour = (noisy.waves[1] - clean.waves[1])[:3_000]
    assert torch.corrcoef(torch.stack([noise[:3_000], neighbour]))[0, 1].abs() < 0.1


@pytest.mark.parametrize("argument, message", [
    ({"kind": "word"}, "kind must be one of digit, command, thing, emotion, got 'word'"),
    ({"kind": "digit", "language": "fr"}, "language must be one of zh, en, got 'fr'"),
    ({"kind": "digit", "split": "dev"}, "split must be one of train, validation, test, got 'dev'"),
])  # fmt: skip
def test_unknown_arguments(argument, message):
    with pytest.raises(ValueError, match=message):
        speech.load(**argument)


def test_unknown_split_and_kind_elsewhere():
    with pytest.raises(ValueError, match="split must be one of"):
        speech.voices("dev")
    with pytest.raises(ValueError, match="kind must be one of"):
        speech.vocabulary("word")


# What can be heard


@pytest.mark.parametrize("kind, least", [("digit", 0.9), ("command", 0.9)])
def test_unseen_voices_are_understood(kind, least):
    """Chance is 1/10 and 1/12."""
    parts = (speech.load(kind, split="train"), speech.load(kind, split="test"))
    assert heard(*parts, seed=0, steps=80) > least


@pytest.mark.parametrize("language", ["zh", "en"])
def test_things_are_told_apart_in_unseen_voices(language):
    """By the nearest mean spectrogram of the training voices; chance is 1/40."""
    train, test = (speech.load("thing", language, split) for split in ("train", "test"))
    known, new = log_mel(train).flatten(1), log_mel(test).flatten(1)
    means = torch.stack([known[train.labels == label].mean(0) for label in range(40)])
    assert (torch.cdist(new, means).argmin(1) == test.labels).float().mean() > 0.9


def prosody(wave: torch.Tensor) -> list[float]:
    """Median and spread of log F0, level and its spread in dB, log duration."""
    level = librosa.feature.rms(y=wave.numpy(), frame_length=1024, hop_length=512)[0]
    pitch = librosa.yin(wave.numpy(), fmin=60, fmax=500, sr=16_000, frame_length=1024, hop_length=512)
    tone = np.log(pitch[level > 0.25 * level.max()])
    low, middle, high = np.percentile(tone, [20, 50, 80])
    decibels = 20 * np.log10(level[level > 0.1 * level.max()])
    return [middle, high - low, decibels.mean(), decibels.std(), np.log(len(wave))]


def relative(found: speech.Speech) -> np.ndarray:
    """Prosody against the mean of the same voice in the same language, ``[N, 5]``."""
    features = np.array([prosody(wave) for wave in found.waves])
    groups = np.array([f"{voice}/{language}" for voice, language in zip(found.voices, found.languages, strict=True)])
    for group in set(groups):
        features[groups == group] -= features[groups == group].mean(0)
    return features


def test_emotion_is_in_the_prosody():
    """Chance is 1/4; a linear classifier that never heard the voice."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = (speech.load("emotion", split=split) for split in ("train", "test"))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(relative(train), train.labels.numpy())
    assert model.score(relative(test), test.labels.numpy()) > 0.85


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_emotion_is_not_in_the_text(split):
    """Every voice says every sentence once in every emotion, so a reader of the text scores exactly 1/4."""
    found = speech.load("emotion", split=split)
    each = Counter(zip(found.voices, found.words, found.labels.tolist(), strict=True))
    assert set(each.values()) == {1} and len(each) == len(set(found.voices)) * len(set(found.words)) * 4


# The files


def test_files_and_their_size():
    folder = data_dir() / "speech"
    manifest = json.loads((folder / "manifest.json").read_text())
    streams = {f"{voice}-{kind}.opus" for voice in speech.voices() for kind in speech.KINDS}
    assert set(manifest) == streams | {"words.json", "utterances.csv"}
    assert {path.name for path in folder.iterdir()} == set(manifest) | {"manifest.json", "README.md"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 3_500_000


def test_every_sample_belongs_to_one_utterance():
    """The index covers each stream without overlap, with a gap of 20 ms after each utterance."""
    ends = {}
    for row in csv.DictReader((data_dir() / "speech" / "utterances.csv").read_text().splitlines()):
        stream = f"{row['voice']}-{row['kind']}.opus"
        assert int(row["start"]) == ends.get(stream, 0)
        ends[stream] = int(row["start"]) + int(row["length"]) + 320
    assert {name: len(speech._stream(name)) for name in ends} == ends


@pytest.mark.parametrize("name", ["f1-digit.opus", "words.json", "utterances.csv"])
def test_damaged_and_missing_files(copied, name):
    path = copied / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{name} is damaged .*git checkout -- data/speech"):
        speech.load("digit")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing: get it back with 'git checkout"):
        speech.load("digit")


@pytest.mark.parametrize("content", [b"", b'{"words.json": ', b"{}", b"[]"])
def test_a_damaged_manifest(copied, content):
    (copied / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged .*git checkout -- data/speech"):
        speech.load("digit")


def test_attribution_is_there():
    text = (data_dir() / "speech" / "README.md").read_text("utf-8")
    for word in ("espeak-ng", "1.51", "GPL-3.0-or-later"):
        assert word in text


def version() -> str:
    """espeak-ng's version, or none."""
    program = shutil.which("espeak-ng")
    if program is None:
        return "none"
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[3]


@pytest.mark.slow
def test_making_it_again_gives_the_same_bytes(tmp_path):
    if version() != "1.51" or importlib.metadata.version("soundfile") != "0.14.0":
        pytest.skip(f"needs espeak-ng 1.51 and soundfile 0.14.0, espeak-ng here: {version()}")
    script = data_dir() / "make_speech.py"
    subprocess.run([sys.executable, script, "--voices", "f1", "--output", tmp_path], check=True)
    for kind in speech.KINDS:
        name = f"f1-{kind}.opus"
        assert (tmp_path / name).read_bytes() == (data_dir() / "speech" / name).read_bytes(), name
    rows = (data_dir() / "speech" / "utterances.csv").read_text().splitlines()
    assert (tmp_path / "utterances.csv").read_text().splitlines()[1:] == [row for row in rows if row.startswith("f1,")]
