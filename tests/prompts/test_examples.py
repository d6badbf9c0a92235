"""The recorded runs: what they are about, that the real models give the recorded numbers, and the whole at a tiny size."""

import json

import pytest
import torch

from src import pretrained
from src.datasets import opinions
from src.prompts import examples, sensitivity
from src.prompts.templates import TASKS

RECORD = examples.recorded()
TRAIN, TEST = opinions.load("train"), sensitivity.sample("test", examples.TEST)


@pytest.fixture(scope="module")
def encoder() -> pretrained.SentenceEncoder:
    return pretrained.sentence_encoder(device="cpu")


def test_the_record_is_complete():
    assert len(RECORD["zero-shot"]) == examples.TEST
    names = [f"{way} {k}" for way in ("random", "nearest") for k in examples.COUNTS]
    assert list(RECORD["odds"]) == [*names, *examples.VARIANTS]
    for rows in RECORD["odds"].values():
        assert [len(row) for row in rows] == [examples.TEST] * examples.SEEDS
    assert torch.tensor(RECORD["nearest"]).shape == (examples.SEEDS, examples.TEST, max(examples.COUNTS))
    assert torch.tensor(RECORD["balanced"]).shape == (examples.SEEDS, examples.TEST, examples.MIDDLE)


@pytest.mark.parametrize(("name", "seed"), [("random 1", 0), ("nearest 4", 3), ("nearest first", 1), ("balanced", 2),
                                            ("flipped", 4), ("random flipped", 0), ("nearest 8", 2)])  # fmt: skip
def test_the_real_model_gives_the_recorded_numbers(language, name, seed):
    places = examples.conditions(RECORD, seed)[name][:2]
    odds = sensitivity.log_odds(language, examples.prompts(name, places, TEST.texts[:2]), examples.CHOICE)
    torch.testing.assert_close(odds, torch.tensor(RECORD["odds"][name][seed][:2]), atol=0.01, rtol=0)


def test_the_real_encoder_gives_the_recorded_neighbours(encoder):
    keys, queries = (encoder.encode(part.texts, progress=False) for part in (TRAIN, TEST[:30]))
    for seed in range(2):
        assert examples.nearest(queries, keys, seed).tolist() == RECORD["nearest"][seed][:30]
        assert examples.balanced(queries, keys, TRAIN.labels, seed).tolist() == RECORD["balanced"][seed][:30]


def test_measuring_at_a_tiny_size(tiny, encoder):
    said = []
    found = examples.measure(tiny, encoder, said.append, count=2, seeds=1)
    assert set(found) == set(RECORD) and len(said) == len(RECORD["odds"])
    assert found["nearest"][0] == RECORD["nearest"][0][:2] and json.dumps(found)
    assert len({tuple(rows[0]) for rows in found["odds"].values()}) == len(RECORD["odds"])


def test_neighbours_are_of_the_pool_and_balanced_ones_of_both_labels():
    for seed in range(examples.SEEDS):
        own = set(examples.pool(seed).tolist())
        assert len(own) == examples.POOL
        for places in (torch.tensor(RECORD["nearest"][seed]), torch.tensor(RECORD["balanced"][seed]),
                       examples.drawn(seed, examples.TEST)):
            assert set(places.flatten().tolist()) <= own
            assert all(len(set(row)) == len(row) for row in places.tolist())
        assert (TRAIN.labels[torch.tensor(RECORD["balanced"][seed])].sum(1) == examples.MIDDLE // 2).all()
        near = torch.tensor(RECORD["nearest"][seed])
        assert torch.equal(torch.tensor(RECORD["balanced"][seed])[:, 0], near[:, 0])
    assert len({tuple(examples.pool(seed).tolist()) for seed in range(5)}) == 5


def test_prompts_show_the_nearest_last_and_the_asked_labels():
    places = torch.tensor([[3, 5]])
    last, first = (examples.prompts(name, places, ["Fine."])[0] for name in ("nearest 2", "nearest first"))
    assert last.index(TRAIN.texts[5]) < last.index(TRAIN.texts[3]) and first.index(TRAIN.texts[3]) < first.index(TRAIN.texts[5])
    true, wrong = examples.prompt([3], "Fine."), examples.prompt([3], "Fine.", flipped=True)
    words = examples.CHOICE.answers
    label = int(TRAIN.labels[3])
    assert words[label] in true.partition("Review")[2] and words[1 - label] in wrong.partition("Review")[2]
    assert true.replace(words[label] + "\n", words[1 - label] + "\n") == wrong
    assert examples.prompt([], "Fine.") == TASKS["sentiment"].template.fill(text="Fine.")


def test_a_stale_record_is_noticed(monkeypatch):
    monkeypatch.setattr(examples, "POOL", 399)
    with pytest.raises(ValueError, match="about other sentences, draws or wordings: make it anew with 'python -m"):
        examples.recorded.__wrapped__()
