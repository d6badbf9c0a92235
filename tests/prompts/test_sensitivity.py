"""The recorded runs: what they are about, that the real model gives the recorded numbers, and the whole at a tiny size."""

import json

import pytest
import torch

from src.prompts import sensitivity
from src.prompts.scoring import log_likelihoods
from src.prompts.templates import task
from src.tokens import control_tokens

RECORD = sensitivity.recorded()


def test_the_record_is_complete():
    assert len(RECORD["grid"]) == len(sensitivity.PROMPTS) == 24
    for row in RECORD["grid"]:
        assert {name: len(odds) for name, odds in row.items()} == {**sensitivity.SIZES, "content free": 3}
    for rows in RECORD["words"].values():
        assert [len(row["test"]) for row in rows] == [sensitivity.SIZES["test"]] * 4
    assert list(RECORD["words"]) == ["bad, good", "terrible, great"]
    assert all(len(odds) == sensitivity.HALF for rows in RECORD["attacks"].values() for odds in rows.values())
    assert {form: len(lines) for form, lines in RECORD["replies"].items()} == dict.fromkeys(sensitivity.FREE, 100)
    assert [len(rows) for rows in RECORD["chat"].values()] == [4, 4]
    assert torch.tensor(list(RECORD["where"].values())).shape == (2, sensitivity.HALF, 9)
    assert [len(odds) for odds in RECORD["chinese"].values()] == [100, 100]


def test_the_real_model_gives_the_recorded_numbers(language):
    test = sensitivity.sample("test", 200)
    words = sensitivity.WORDS["negative, positive"]
    for number in (3, 17):
        template = sensitivity.prompt_template(*sensitivity.PROMPTS[number])
        odds = sensitivity.log_odds(language, [template.fill(text=text) for text in test.texts[:3]], words)
        torch.testing.assert_close(odds, torch.tensor(RECORD["grid"][number]["test"][:3]), atol=0.01, rtol=0)
        empty = [template.fill(text=text) for text in sensitivity.CONTENT_FREE]
        odds = sensitivity.log_odds(language, empty, words)
        torch.testing.assert_close(odds, torch.tensor(RECORD["grid"][number]["content free"]), atol=0.01, rtol=0)
    prompt = sensitivity.attacked("fenced", "mention", test.texts[0], int(test.labels[0]))
    odds = sensitivity.log_odds(language, [prompt], words)
    torch.testing.assert_close(odds, torch.tensor(RECORD["attacks"]["fenced"]["mention"][:1]), atol=0.01, rtol=0)
    asked = sensitivity.where_questions(sensitivity.HALF)[0][:1]
    scores = log_likelihoods(language, asked, [f" {place}\n" for place in sensitivity.POSITIONS])
    torch.testing.assert_close(scores, torch.tensor(RECORD["where"]["closed"][:1]), atol=0.01, rtol=0)
    template, choice = sensitivity.CHINESE["zh"]
    odds = sensitivity.log_odds(language, [template.fill(text=sensitivity.short_reviews(100).texts[0])], choice)
    torch.testing.assert_close(odds, torch.tensor(RECORD["chinese"]["zh"][:1]), atol=0.01, rtol=0)


def test_measuring_at_a_tiny_size(tiny):
    said = []
    found = sensitivity.measure(tiny, said.append, {"validation": 4, "test": 4}, half=2)
    assert set(found) == set(RECORD) and len(said) > 24
    assert {name: len(odds) for name, odds in found["grid"][5].items()} == {"validation": 4, "test": 4, "content free": 3}
    assert found["fingerprint"] == RECORD["fingerprint"] and json.dumps(found)
    assert len({tuple(row["test"]) for row in found["grid"]}) == 24


def test_samples_are_balanced_and_of_their_split():
    for split, count in sensitivity.SIZES.items():
        part = sensitivity.sample(split, count)
        assert len(part) == count and part.labels.sum() * 2 == count
    short = sensitivity.short_reviews(100)
    assert len(short) == 100 and short.labels.sum() == 50 and max(map(len, short.texts)) <= 24


def test_prompts_name_the_labels_in_their_order():
    for wording, order in sensitivity.PROMPTS:
        template = sensitivity.prompt_template(wording, order)
        assert template.fields == ("text",)
        first, second = sensitivity.ORDERS[order]
        assert template.text.index(first) < template.text.index(second)
    assert len({sensitivity.prompt_template(*pair).text for pair in sensitivity.PROMPTS}) == 24


@pytest.mark.parametrize("fence", sensitivity.FENCES)
def test_attacks_name_the_wrong_label_and_cannot_close_the_fence(fence):
    prompt = sensitivity.attacked(fence, "command", "Fine >>> <<< {x}", 1)
    assert "answer negative." in prompt and "{x}" in prompt
    assert prompt.count(">>>") == prompt.count("<<<") == (2 if fence == "fenced" else 0)


def test_replies_do_not_depend_on_the_padding(language):
    """The replies of a batch are those of each prompt alone."""
    prompts = [sensitivity.chat_prompt(language, 0, 1, text, "chat") for text in ("Fine.", "I left after forty minutes.")]
    assert sensitivity.reply(language, prompts, 4) == [sensitivity.reply(language, [one], 4)[0] for one in prompts]
    assert control_tokens(language.tokenizer, "x") == []


def test_where_questions_are_about_test_scenes():
    prompts, places = sensitivity.where_questions(20)
    assert len(prompts) == len(places) == 20 and max(places) < 9
    for prompt, place in zip(prompts, places, strict=True):
        assert sensitivity.POSITIONS[place] in prompt and prompt.endswith("Answer:")
    assert task("question").template.fields == ("context", "question")


def test_a_stale_record_is_noticed(monkeypatch):
    monkeypatch.setattr(sensitivity, "SUFFIXES", {"none": ""})
    with pytest.raises(ValueError, match="is about other prompts or sentences: make it anew with 'python -m"):
        sensitivity.recorded.__wrapped__()
