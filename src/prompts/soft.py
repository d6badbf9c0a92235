"""Prompts that are learned: vectors before the input, and keys and values before every layer (rows R19 and R21).

Chapter: chapters/prompts/soft.ipynb. The kernels are differentiable and leave the language model as it is: who trains
decides what requires a gradient, the prompt alone (Lester et al., EMNLP 2021; Li and Liang, ACL 2021) or the model too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.prompts.context import insert
from src.prompts.scoring import read_prefix
from src.runtime import check_finite
from src.tokens import encode

if TYPE_CHECKING:
    from transformers import DynamicCache

    from src.pretrained import LanguageModel


def prepend(P: Tensor, X: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """[P; X], the same m vectors before every row (eq-soft-prepend).

    Args:
        P: ``[m, D]``.
        X: embedded inputs ``[B, T, D]``.
        mask: int64 or bool ``[B, T]``, 0 at padding.

    Returns:
        ``[B, m + T, D]`` and the mask ``[B, m + T]``.

    Raises:
        ValueError: as ``src.prompts.context.insert``, and for another shape of the mask.
    """
    longer = insert(X, P.to(X.dtype))  # [B, m + T, D]
    if mask.shape != X.shape[:2]:
        raise ValueError(f"mask: got {list(mask.shape)}, expected {list(X.shape[:2])} as the rows of X.")
    return longer, torch.cat([mask.new_ones(len(X), len(P)), mask], 1)


def next_logits(language: LanguageModel, X: Tensor, mask: Tensor, cache: DynamicCache | None = None) -> Tensor:
    """Logits ``[B, V]`` of the token that follows each row's last one.

    Args:
        language: the model; whether it gets a gradient is the caller's business.
        X: embedded inputs ``[B, T, D]``, padded on the right.
        mask: ``[B, T]``, of X alone.
        cache: keys and values before X, as of ``prefix_cache``; X is added to it.

    Raises:
        ValueError: more positions than the context, a row without a token.
    """
    before = 0 if cache is None else cache.get_seq_length()
    if before + X.shape[1] > language.context:
        raise ValueError(f"X: got {X.shape[1]:,} positions after {before:,} of the prefix, expected at most the "
                         f"{language.context:,} of {language.name}: shorten the prompt or the text.")
    lengths = mask.sum(1)
    if not lengths.all():
        raise ValueError(f"mask: got rows of {lengths.tolist()} tokens, expected at least one in each.")
    seen = torch.cat([mask.new_ones(len(mask), before), mask], 1)
    hidden = language.model.model(inputs_embeds=X, attention_mask=seen, past_key_values=cache,
                                  use_cache=cache is not None).last_hidden_state  # [B, T, D]
    return language.model.lm_head(hidden[torch.arange(len(X), device=X.device), lengths - 1])


def word_prompt(language: LanguageModel, text: str, length: int | None = None) -> Tensor:
    """Embeddings ``[m, D]`` of a text's tokens, a copy, repeated or cut at the front to ``length``: where P may start.

    The last tokens are kept, since they stand next to the input. Raises ValueError for an empty text and length < 1.
    """
    ids = encode(language.tokenizer, text)
    count = len(ids) if length is None else length
    if not ids or count < 1:
        raise ValueError(f"text, length: got {text!r} and {length}, expected a token and a length of at least 1.")
    repeated = (ids * -(-count // len(ids)))[-count:]
    table = language.model.get_input_embeddings().weight
    return table[torch.tensor(repeated, device=table.device)].detach()


def word_prefix(language: LanguageModel, text: str) -> Tensor:
    """Keys and values ``[2, layers, heads, m, d]`` that the model computes for a text: where a prefix may start."""
    with torch.no_grad():
        cache = read_prefix(language, encode(language.tokenizer, text))
    if cache is None:
        raise ValueError(f"text: got {text!r}, expected a token.")
    return as_prefix(cache)


def as_prefix(cache: DynamicCache) -> Tensor:
    """The keys and values of a cache of one row, ``[2, layers, heads, m, d]``: what ``prefix_cache`` takes."""
    return torch.stack([torch.stack([getattr(layer, part)[0] for layer in cache.layers]) for part in ("keys", "values")])


def prefix_cache(prefix: Tensor, rows: int) -> DynamicCache:
    """The keys and values of every layer, the same for each of so many rows (eq-soft-prefix); gradients reach ``prefix``.

    Args:
        prefix: ``[2, layers, heads, m, d]``, keys first; heads are those of keys and values.
        rows: B.

    Raises:
        ValueError: another shape, NaN.
    """
    from transformers import DynamicCache

    if prefix.ndim != 5 or prefix.shape[0] != 2 or 0 in prefix.shape:
        raise ValueError(f"prefix: got {list(prefix.shape)}, expected [2, layers, heads, m, d] with nothing empty.")
    check_finite(prefix=prefix)
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(zip(*prefix, strict=True)):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
    return cache
