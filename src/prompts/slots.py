"""Prompts put together from a few pieces in four slots: the finite space of the searches, and its scores on record.

Chapter: chapters/prompts/search.ipynb (R18). Scoring the whole space takes about a quarter of an hour on one core, so the
page reads the record and computes parts of it again. ``python -m src.prompts.slots data/results/search.npz`` makes it anew.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.datasets import opinions
from src.extraction import length_batches
from src.prompts.scoring import BUDGET, for_rows, read_prefix, shared_prefix
from src.prompts.templates import Choice, Task, Template
from src.runtime import atomic_write, data_dir
from src.tokens import encode, pad

if TYPE_CHECKING:
    from src.pretrained import LanguageModel

INSTRUCTIONS = (
    "",
    "Is the sentiment of the review positive or negative?\n",
    "Classify the opinion as good or bad.\n",
    "Pay attention to the word but.\n",
    "Write a poem about the sea.\n",
    "Rating stars verdict yes:\n",
)
MARKERS = ("", "Review: ", "Text: ", "A customer wrote: ")
CUES = ("\nSentiment:", "\nAnswer:", "\nLabel:", "\nOverall, it was", " It was", " I felt", "\nIn one word:", "\nMy mood:")
WORDS = tuple(Choice.of(negative=f" {negative}", positive=f" {positive}") for negative, positive in (
    ("negative", "positive"), ("Negative", "Positive"), ("bad", "good"), ("terrible", "great"),
    ("sad", "happy"), ("no", "yes"), ("wrong", "right"), ("hate", "love")))  # fmt: skip
SLOTS = (INSTRUCTIONS, MARKERS, CUES, WORDS)
"""The pieces of each slot; an action is the place of a piece, a prompt is one action for each slot."""

SIZES = tuple(map(len, SLOTS))
PARTS = {"train": (0, 48), "validation": (0, 40), "test": (200, 120)}
"""Of each split the first sentence taken and how many; the first 200 of the test split were used up by ``sensitivity``."""


def task_of(actions: Sequence[int]) -> Task:
    """The prompt that the actions ``[4]`` stand for, and its two label words."""
    if len(actions) != len(SIZES) or any(not 0 <= a < size for a, size in zip(actions, SIZES, strict=True)):
        raise ValueError(f"actions: got {list(actions)}, expected {len(SIZES)} places below {list(SIZES)}.")
    instruction, marker, cue, words = (slot[a] for slot, a in zip(SLOTS, actions, strict=True))
    return Task("sentiment", Template(f"{instruction}{marker}{{text}}{cue}"), words)


def part(split: str) -> opinions.Opinions:
    """The sentences of ``PARTS`` from a split, as many of each label."""
    start, count = PARTS[split]
    every = opinions.load(split)
    rows = [(every.labels == label).nonzero()[start // 2 : (start + count) // 2, 0] for label in (0, 1)]
    return every[torch.cat(rows).sort().values]


def log_odds(language: LanguageModel, beginning: str, texts: Sequence[str], cues: Sequence[str], words: Sequence[Choice],
             *, budget: int = BUDGET) -> Tensor:
    """log p(second word) − log p(first word) after beginning + text + cue, ``[E, W, N]`` for E cues, W pairs, N texts.

    The beginning is read once, each text once, then the cues; all pairs of words come from the same logits. Cues begin with
    a blank or a line break, so that the tokenizer parts them from the text, and each label word is one token.
    """
    pairs = torch.tensor([[one_token(language, answer) for answer in choice.answers] for choice in words])  # [W, 2]
    endings = [torch.tensor(encode(language.tokenizer, cue), device=language.model.device) for cue in cues]
    contexts = [encode(language.tokenizer, beginning + text) for text in texts]
    shared = shared_prefix(contexts)
    odds = torch.empty(len(cues), len(words), len(texts), dtype=torch.promote_types(language.model.dtype, torch.float32))
    with torch.inference_mode():
        prefix = read_prefix(language, contexts[0][:shared])
        for batch in length_batches([len(context) - shared + max(map(len, endings)) for context in contexts], budget):
            cache, mask = _read_texts(language, prefix, shared, [contexts[place][shared:] for place in batch])
            for place, ending in enumerate(endings):
                logits = _read_cue(language, cache, mask, ending).to(odds.dtype)  # [B, V]
                odds[place][:, batch] = (logits[:, pairs[:, 1]] - logits[:, pairs[:, 0]]).T.cpu()
    return odds


def one_token(language: LanguageModel, word: str) -> int:
    """The token of a word; ValueError when the tokenizer cuts it into several."""
    tokens = encode(language.tokenizer, word)
    if len(tokens) != 1:
        raise ValueError(f"words: got {word!r} of {len(tokens)} tokens, expected one; score it with log_likelihoods.")
    return tokens[0]


def _read_texts(language: LanguageModel, prefix, shared: int, rests: list[list[int]]) -> tuple:
    """Keys and values of texts behind the prefix, padded on the right, and their mask ``[B, P + T]``."""
    ids, mask = pad(rests, language.model.device)  # [B, T]
    mask = torch.cat([mask.new_ones(len(rests), shared), mask], 1)  # [B, P + T]
    read = language.model(ids, attention_mask=mask, past_key_values=for_rows(prefix, len(rests)), use_cache=True,
                          logits_to_keep=1)
    return read.past_key_values, mask


def _read_cue(language: LanguageModel, cache, mask: Tensor, ending: Tensor) -> Tensor:
    """Logits ``[B, V]`` of what follows the cue; the cache is left as it was."""
    longer = torch.cat([mask, mask.new_ones(len(mask), len(ending))], 1)  # [B, P + T + E]
    positions = mask.sum(1, keepdim=True) + torch.arange(len(ending), device=mask.device)  # [B, E]
    logits = language.model(ending.expand(len(mask), -1), attention_mask=longer, position_ids=positions,
                            past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    cache.crop(-len(ending))
    return logits[:, -1]


def fingerprint() -> str:
    """Of all pieces and sentences that the record is about."""
    said = [repr(SLOTS), *(text for split in PARTS for text in part(split).texts)]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


def measure(language: LanguageModel, say: Callable[[str], None] = print,
            texts: Mapping[str, Sequence[str]] | None = None) -> dict[str, Tensor]:
    """Log-odds of "positive" for every prompt and sentence, float16 ``[6, 4, 8, 8, N]`` for each part."""
    texts = texts or {split: part(split).texts for split in PARTS}
    every = [text for own in texts.values() for text in own]
    rows = []
    for instruction, marker in itertools.product(INSTRUCTIONS, MARKERS):
        rows.append(log_odds(language, instruction + marker, every, CUES, WORDS))
        say(f"{len(rows)} of {len(INSTRUCTIONS) * len(MARKERS)}")
    odds = torch.stack(rows).unflatten(0, SIZES[:2]).half()  # [6, 4, 8, 8, N]
    return dict(zip(texts, odds.split([len(own) for own in texts.values()], -1), strict=True))


@functools.cache
def recorded() -> dict[str, Tensor]:
    """The shipped log-odds, float64; ValueError when they are about other pieces or sentences than this module."""
    import numpy

    with numpy.load(data_dir() / "results" / "search.npz") as found:
        if str(found["fingerprint"]) != fingerprint():
            raise ValueError("data/results/search.npz is about other pieces or sentences: make it anew with "
                             "'python -m src.prompts.slots data/results/search.npz'.")
        return {split: torch.from_numpy(found[split]).double() for split in PARTS}


def main(path: str) -> None:
    import numpy

    from src.pretrained import language_model

    language = language_model()
    found = {split: odds.numpy() for split, odds in measure(language, functools.partial(print, flush=True)).items()}
    with atomic_write(Path(path)) as temporary:
        numpy.savez_compressed(temporary, model=language.name, fingerprint=fingerprint(), **found)


if __name__ == "__main__":
    main(sys.argv[1])
