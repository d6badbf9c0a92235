"""The space of prompts: its shared reading against each prompt alone, and the record against the real model."""

import itertools

import pytest
import torch

from src.datasets import opinions
from src.prompts import sensitivity, slots
from src.prompts.scoring import log_likelihoods
from src.prompts.templates import Choice
from src.tokens import encode

TEXTS = ["It was fine.", "I left after ten minutes, and so did everybody else in the room.", "Great!", "Dull, dull, dull."]


def alone(language, actions, texts):
    task = slots.task_of(actions)
    scores = [log_likelihoods(language, [task.template.fill(text=text)], task.choice.answers)[0] for text in texts]
    return torch.stack(scores).diff(dim=1)[:, 0]


@pytest.mark.parametrize("beginning", [(0, 0), (1, 1), (4, 3)])
@pytest.mark.parametrize("budget", [1, 40, 1024])
def test_odds_are_those_of_each_prompt_alone(tiny, beginning, budget):
    start = slots.INSTRUCTIONS[beginning[0]] + slots.MARKERS[beginning[1]]
    odds = slots.log_odds(tiny, start, TEXTS, slots.CUES, slots.WORDS, budget=budget)
    assert odds.shape == (8, 8, 4) and odds.dtype == torch.float64 and odds.std() > 0.1
    for cue, words in itertools.product((0, 3, 5, 7), (0, 1, 7)):
        expected = alone(tiny, (*beginning, cue, words), TEXTS)
        torch.testing.assert_close(odds[cue, words], expected, atol=1e-10, rtol=1e-10)


def test_texts_without_a_common_beginning(tiny):
    """One text alone shares all but its last token; the numbers are the same."""
    together = slots.log_odds(tiny, "", TEXTS, slots.CUES[:2], slots.WORDS[:1])
    single = [slots.log_odds(tiny, "", [text], slots.CUES[:2], slots.WORDS[:1]) for text in TEXTS]
    torch.testing.assert_close(together, torch.cat(single, -1), atol=1e-10, rtol=1e-10)


def test_the_tokenizer_parts_the_cues(language):
    """What is read in three pieces is what the whole prompt would be."""
    texts = [text for split in slots.PARTS for text in slots.part(split).texts]
    for ending in {text[-1] for text in texts}:
        for cue, choice in itertools.product(slots.CUES, slots.WORDS):
            for answer in choice.answers:
                apart = [encode(language.tokenizer, one) for one in (f"It was so{ending}", cue, answer)]
                assert sum(apart, []) == encode(language.tokenizer, f"It was so{ending}{cue}{answer}")


def test_words_of_several_tokens_are_refused(tiny):
    with pytest.raises(ValueError, match="words: got ' unputdownable' of . tokens, expected one; score it with"):
        slots.log_odds(tiny, "", TEXTS, slots.CUES, [Choice.of(no=" bad", yes=" unputdownable")])


def test_the_space():
    assert slots.SIZES == (6, 4, 8, 8)
    every = list(itertools.product(*map(range, slots.SIZES)))
    assert len({(slots.task_of(a).template.text, slots.task_of(a).choice) for a in every}) == len(every) == 1536
    task = slots.task_of((1, 1, 0, 0))
    assert task.template.text == sensitivity.prompt_template(0, 1).text
    assert task.choice.answers == (" negative", " positive")
    for actions in ((0, 0, 0), (6, 0, 0, 0), (0, -1, 0, 0)):
        with pytest.raises(ValueError, match=r"actions: got .*expected 4 places below \[6, 4, 8, 8\]"):
            slots.task_of(actions)


def test_parts_are_balanced_and_the_test_sentences_new():
    parts = {split: slots.part(split) for split in slots.PARTS}
    assert {split: len(own) for split, own in parts.items()} == {"train": 48, "validation": 40, "test": 120}
    assert all(own.labels.sum() * 2 == len(own) for own in parts.values())
    assert len({text for own in parts.values() for text in own.texts}) == 208
    assert not set(parts["test"].texts) & set(sensitivity.sample("test", sensitivity.SIZES["test"]).texts)
    assert set(parts["test"].texts) <= set(opinions.load("test").texts)


def test_the_real_model_gives_the_recorded_numbers(language):
    record = slots.recorded()
    assert {split: odds.shape for split, odds in record.items()} == {
        split: (*slots.SIZES, count) for split, (_, count) in slots.PARTS.items()}
    assert all(odds.isfinite().all() and odds.dtype == torch.float64 for odds in record.values())
    for split, (a, b) in {"train": (0, 2), "validation": (3, 0), "test": (5, 3)}.items():
        texts = slots.part(split).texts[-3:]
        odds = slots.log_odds(language, slots.INSTRUCTIONS[a] + slots.MARKERS[b], texts, slots.CUES, slots.WORDS)
        torch.testing.assert_close(odds.double(), record[split][a, b, ..., -3:], atol=0.02, rtol=0)


def test_measuring_at_a_tiny_size(tiny):
    said = []
    found = slots.measure(tiny, said.append, {"train": TEXTS[:2], "test": TEXTS[2:3]})
    assert {split: odds.shape for split, odds in found.items()} == {"train": (*slots.SIZES, 2), "test": (*slots.SIZES, 1)}
    assert len(said) == 24 and found["train"].dtype == torch.float16
    expected = alone(tiny, (2, 3, 4, 5), TEXTS[:3])
    have = torch.cat([found["train"], found["test"]], -1)[2, 3, 4, 5].double()
    torch.testing.assert_close(have, expected, atol=0.01, rtol=0.01)


def test_a_stale_record_is_noticed(monkeypatch):
    monkeypatch.setattr(slots, "SLOTS", slots.SLOTS[:3])
    with pytest.raises(ValueError, match="is about other pieces or sentences: make it anew with 'python -m"):
        slots.recorded.__wrapped__()
