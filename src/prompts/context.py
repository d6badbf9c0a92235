"""Learned vectors before an input that stays as it is: frames of a sound, words of a class's name (row R20).

Chapter: chapters/prompts/multimodal.ipynb. Context Optimization (CoOp; Zhou et al., 2022) trains the words around a class's
name as vectors, with the text encoder frozen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from src.runtime import check_finite

if TYPE_CHECKING:
    from src.pretrained import SentenceEncoder


def insert(x: Tensor, prompt: Tensor, at: int = 0) -> Tensor:
    """[x₁ … x_at; P; x_{at+1} … x_T] of each row, (eq-multimodal-prefix).

    Args:
        x: inputs ``[B, T, D]``: frames of sound, embeddings of words.
        prompt: P ``[M, D]``, the same for all rows.
        at: how many of the T inputs stay before P.

    Returns:
        ``[B, M + T, D]``.

    Raises:
        ValueError: other shapes or types, ``at`` outside of 0 … T, NaN or infinite values.
    """
    if x.ndim != 3 or prompt.ndim != 2 or 0 in x.shape or 0 in prompt.shape or x.shape[-1] != prompt.shape[-1]:
        raise ValueError(f"x, prompt: got {list(x.shape)} and {list(prompt.shape)}, expected [B, T, D] and [M, D] with "
                         "the same D and nothing empty.")
    if x.dtype != prompt.dtype or not x.is_floating_point():
        raise ValueError(f"x, prompt: got {x.dtype} and {prompt.dtype}, expected one floating type.")
    if not 0 <= at <= x.shape[1]:
        raise ValueError(f"at: got {at}, expected 0 … {x.shape[1]}.")
    check_finite(x=x, prompt=prompt)
    repeated = prompt.expand(len(x), -1, -1)  # [B, M, D]
    return torch.cat((x[:, :at], repeated, x[:, at:]), 1)


def encode_with_context(encoder: SentenceEncoder, prompt: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """g([start; P; name; end]) of each name, (eq-multimodal-coop): P stands after the start token.

    When P holds the embeddings of words, this is the encoder's own output for a text that begins with these words. The
    gradient reaches P through the frozen encoder.

    Args:
        encoder: a sentence encoder whose texts begin with one start token.
        prompt: P ``[M, D]``, D the width of the word embeddings.
        input_ids, attention_mask: int64 ``[C, T]``, as the tokenizer gives them for the names alone.

    Returns:
        Unit vectors ``[C, D]``.

    Raises:
        ValueError: as for ``insert``; another shape of the mask; more tokens than the encoder's context.
    """
    if input_ids.ndim != 2 or attention_mask.shape != input_ids.shape:
        raise ValueError(f"input_ids, attention_mask: got {list(input_ids.shape)} and {list(attention_mask.shape)}, "
                         "expected [C, T] twice.")
    words = encoder.transformer.get_input_embeddings()(input_ids)
    inputs = insert(words, prompt, at=1)  # [C, M + T, D]
    if inputs.shape[1] > encoder.context:
        raise ValueError(f"prompt: got {len(prompt)} vectors before {input_ids.shape[1]} tokens, expected at most the "
                         f"{encoder.context} of {encoder.name} together.")
    mask = torch.cat((attention_mask.new_ones(len(words), len(prompt)), attention_mask), 1)
    states = encoder.transformer(inputs_embeds=inputs, attention_mask=mask).last_hidden_state  # [C, M + T, D]
    kept = mask.unsqueeze(-1).to(states.dtype)
    return F.normalize((states * kept).sum(1) / kept.sum(1), dim=-1)
