"""Scoring of verbalisers: each pair alone, in batches that read the beginning again, and the shared beginning once.

The ways take turns in one run, and their scores are compared before any time is taken. The long beginning holds an
instruction and eight solved examples, as a retrieved or fixed few-shot prompt does; the short one is a bare instruction.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Tensor

from src import pretrained
from src.datasets import opinions
from src.prompts import scoring
from src.prompts.templates import TASKS
from src.runtime import available_devices, timer
from src.tokens import IGNORED, encode

COUNT, EXAMPLES, ROUNDS = 8, 8, 3
ANSWERS = [" negative", " positive"]


def main() -> None:
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {COUNT} prompts, {len(ANSWERS)} answers")
    for device in available_devices():
        language = pretrained.language_model(device=device)
        for name, prompts in beginnings().items():
            compare(language, f"{device}, {name}", prompts)


def beginnings() -> dict[str, list[str]]:
    task, train, test = TASKS["sentiment"], opinions.load("train")[:EXAMPLES], opinions.load("test")[:COUNT]
    solved = [task.template.fill(text=text) + ANSWERS[label] for text, label in zip(train.texts, train.labels, strict=True)]
    short = [task.template.fill(text=text) for text in test.texts]
    return {"short beginning": short, "long beginning": ["\n\n".join([*solved, prompt]) for prompt in short]}


def compare(language: pretrained.LanguageModel, name: str, prompts: list[str]) -> None:
    ways: dict[str, Callable[[], Tensor]] = {
        "plain loop": lambda: one_by_one(language, prompts),
        "batches, nothing shared": lambda: unshared(language, prompts),
        "shared once": lambda: scoring.log_likelihoods(language, prompts, ANSWERS),
    }
    reference = ways["plain loop"]()
    for way in ways.values():
        torch.testing.assert_close(way(), reference, atol=2e-3, rtol=1e-3)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, run in ways.items():
            with timer(language.model.device) as timing:
                run()
            seconds[way].append(timing.seconds)
    middle = {way: statistics.median(times) for way, times in seconds.items()}
    tokens = [encode(language.tokenizer, prompt) for prompt in prompts]
    shared = scoring.shared_prefix(tokens)
    print(f"{name}: {shared} tokens shared, {statistics.mean(map(len, tokens)) - shared:.0f} more on average")
    for way, time in middle.items():
        print(f"  {way:24} {len(prompts) / time:6.1f} prompts a second, {middle['plain loop'] / time:5.2f} times the plain loop")


@torch.inference_mode()
def one_by_one(language: pretrained.LanguageModel, prompts: list[str]) -> Tensor:
    """Prompt and answer read together, one pair at a time."""
    scores = torch.empty(len(prompts), len(ANSWERS))
    for n, prompt in enumerate(prompts):
        before = encode(language.tokenizer, prompt)
        for k, answer in enumerate(ANSWERS):
            ids = torch.tensor([before + encode(language.tokenizer, answer)], device=language.model.device)
            labels = ids.clone()
            labels[:, : len(before)] = IGNORED
            scores[n, k] = scoring.continuation_log_likelihood(language.model(ids).logits, labels)[0]
    return scores


def unshared(language: pretrained.LanguageModel, prompts: list[str]) -> Tensor:
    """The same batches, but each row reads its beginning itself."""
    with patch.object(scoring, "shared_prefix", lambda contexts: 0):
        return scoring.log_likelihoods(language, prompts, ANSWERS)


if __name__ == "__main__":
    main()
