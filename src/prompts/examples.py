"""What solved examples in the context are worth, drawn at random or retrieved: the recorded runs of a frozen model.

Chapter: chapters/prompts/retrieval.ipynb. All of it takes some twenty-five minutes of CPU time, so the page reads the
record and computes parts of it again. ``python -m src.prompts.examples data/results/retrieval.json`` makes it anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.datasets import opinions
from src.prompts.retrieval import few_shot, search
from src.prompts.sensitivity import log_odds, sample
from src.prompts.templates import TASKS, Template
from src.runtime import atomic_write, data_dir

if TYPE_CHECKING:
    from src.pretrained import LanguageModel, SentenceEncoder

INSTRUCTION, ITEM = "Is the sentiment of the review positive or negative?", Template("Review: {text}\nSentiment:")
CHOICE = TASKS["sentiment"].choice
TEST, POOL, SEEDS, COUNTS, MIDDLE = 120, 400, 5, (1, 2, 4, 8), 4
VARIANTS = ("nearest first", "balanced", "flipped", "random flipped")
"""Changes of the MIDDLE examples: their order, as many of each label, every label wrong."""


def pool(seed: int) -> Tensor:
    """The training sentences that may be shown under this seed: ``POOL`` places, ascending."""
    return torch.randperm(len(opinions.load("train")), generator=torch.Generator().manual_seed(seed))[:POOL].sort().values


def drawn(seed: int, count: int) -> Tensor:
    """For each of so many queries ``max(COUNTS)`` places, int64 ``[count, 8]``, drawn from the pool without repetition."""
    g = torch.Generator().manual_seed(1000 + seed)
    return torch.stack([pool(seed)[torch.randperm(POOL, generator=g)[: max(COUNTS)]] for _ in range(count)])


def nearest(queries: Tensor, keys: Tensor, seed: int, k: int = max(COUNTS)) -> Tensor:
    """For each query the k nearest of the pool by cosine, int64 ``[Q, k]``; keys: vectors of all training sentences."""
    rows = pool(seed)
    return rows[search(queries, keys[rows], k, "cosine")[1]]


def balanced(queries: Tensor, keys: Tensor, labels: Tensor, seed: int) -> Tensor:
    """``MIDDLE`` neighbours, as many of each label, int64 ``[Q, 4]``, the nearest of all first."""
    rows = pool(seed)
    groups = [rows[labels[rows] == label] for label in (0, 1)]
    found = [search(queries, keys[group], MIDDLE // 2, "cosine") for group in groups]
    scores = torch.cat([part for part, _ in found], 1)  # [Q, 4]
    places = torch.cat([group[chosen] for group, (_, chosen) in zip(groups, found, strict=True)], 1)
    return places.gather(1, scores.argsort(dim=1, descending=True, stable=True))


def prompt(places: Sequence[int], text: str, *, flipped: bool = False) -> str:
    """The training sentences at these places with their labels, the last one next to the text; or with the wrong labels."""
    train = opinions.load("train")
    shown = [(train.texts[row], CHOICE.answers[int(train.labels[row]) ^ flipped]) for row in places]
    return few_shot(INSTRUCTION, ITEM, shown, text)


def prompts(name: str, places: Tensor, texts: Sequence[str]) -> list[str]:
    """Of one condition; places ``[Q, k]`` with the nearest first, which is shown last unless the condition says otherwise."""
    rows = places if name == "nearest first" else places.flip(1)
    return [prompt(own, text, flipped="flipped" in name) for own, text in zip(rows.tolist(), texts, strict=True)]


def conditions(found: dict, seed: int) -> dict[str, Tensor]:
    """name → places ``[TEST, k]`` under this seed, the nearest first, of a record's neighbours or of drawn ones."""
    near, some = torch.tensor(found["nearest"][seed]), drawn(seed, len(found["nearest"][seed]))
    every = {f"random {k}": some[:, :k] for k in COUNTS} | {f"nearest {k}": near[:, :k] for k in COUNTS}
    return every | {"nearest first": near[:, :MIDDLE], "balanced": torch.tensor(found["balanced"][seed]),
                    "flipped": near[:, :MIDDLE], "random flipped": some[:, :MIDDLE]}


def fingerprint() -> str:
    """Of all sentences, draws and wordings that the record is about."""
    train, test = opinions.load("train"), sample("test", TEST)
    said = [repr(part) for part in (INSTRUCTION, ITEM, CHOICE, TEST, POOL, SEEDS, COUNTS, MIDDLE, VARIANTS)]
    said += [repr(drawn(seed, TEST).tolist()) for seed in range(SEEDS)]
    said += [*train.texts, repr(train.labels.tolist()), *test.texts]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


def measure(language: LanguageModel, encoder: SentenceEncoder, say: Callable[[str], None] = print, count: int = TEST,
            seeds: int = SEEDS) -> dict:
    """All that the record holds: the neighbours, and log-odds of "positive" rounded to 0.001, by condition and seed."""
    train, test = opinions.load("train"), sample("test", TEST)[:count]
    keys, queries = (encoder.encode(part.texts, progress=False) for part in (train, test))
    found: dict = {"model": language.name, "encoder": encoder.name, "fingerprint": fingerprint()}
    found["nearest"] = [nearest(queries, keys, seed).tolist() for seed in range(seeds)]
    found["balanced"] = [balanced(queries, keys, train.labels, seed).tolist() for seed in range(seeds)]

    def odds(wanted: Sequence[str]) -> list[float]:
        return [round(value, 3) for value in log_odds(language, wanted, CHOICE).tolist()]

    found["zero-shot"] = odds([prompt([], text) for text in test.texts])
    found["odds"] = {name: [] for name in conditions(found, 0)}
    for seed in range(seeds):
        for name, places in conditions(found, seed).items():
            say(f"{seed} {name}")
            found["odds"][name].append(odds(prompts(name, places, test.texts)))
    return found


@functools.cache
def recorded() -> dict:
    """The shipped record; ValueError when it is about other sentences, draws or wordings than this module."""
    found = json.loads((data_dir() / "results" / "retrieval.json").read_text("utf-8"))
    if found["fingerprint"] != fingerprint():
        raise ValueError("data/results/retrieval.json is about other sentences, draws or wordings: make it anew with "
                         "'python -m src.prompts.examples data/results/retrieval.json'.")
    return found


def main(path: str) -> None:
    from src.pretrained import language_model, sentence_encoder

    found = measure(language_model(), sentence_encoder(), functools.partial(print, flush=True))
    with atomic_write(Path(path)) as temporary:
        temporary.write_text(json.dumps(found, separators=(",", ":")).replace("]],[[", "]],\n[[") + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
