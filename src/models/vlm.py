"""A language model that reads pictures and sounds: their features stand among the words (row R26).

Chapter: chapters/instructions/multimodal.ipynb. As in LLaVA (Liu et al., 2023) the text holds placeholder tokens, whose
embeddings are replaced by projected features; everything behind them is a causal language model of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from src.instructions.loss import Batch, Example, answer_loss
from src.runtime import check_finite
from src.tokens import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def with_placeholders(example: Example, token: int, count: int, at: int = 0) -> Example:
    """The example with ``count`` placeholders before its token ``at``; their labels are −100 (eq-vlm-sequence).

    Raises ValueError for count < 1 and for a place outside of the example or behind a label that counts.
    """
    if count < 1 or not 0 <= at <= len(example):
        raise ValueError(f"count, at: got {count} and {at}, expected at least 1 and 0 … {len(example)}.")
    if any(label != IGNORED for label in example.labels[:at]):
        raise ValueError(f"at: got {at}, behind a token that is to be learned; expected a place before the answer.")
    ids, labels = ((*values[:at], *[fill] * count, *values[at:])
                   for values, fill in ((example.ids, token), (example.labels, IGNORED)))
    return Example(ids, labels)


def replace(X: Tensor, ids: Tensor, token: int, features: Tensor | None) -> Tensor:
    """X with the embeddings of the placeholders replaced by features, (eq-vlm-replace).

    Args:
        X: embedded tokens ``[B, T, D]``.
        ids: the tokens, int64 ``[B, T]``; a row holds K placeholders, or none.
        token: the id of the placeholder.
        features: ``[N, K, D]``, one for each row with placeholders, in the order of the rows; None for no such row.

    Returns:
        ``[B, T, D]``; the gradient reaches the features and the embeddings that stay.

    Raises:
        ValueError: as many features as placeholders are not there, other shapes, NaN or infinite features.
    """
    here = ids == token  # [B, T]
    if not torch.compiler.is_compiling():
        _check_places(here, features, X.shape[-1])
    if features is None:
        return X
    check_finite(features=features)
    return X.masked_scatter(here[..., None], features.to(X.dtype))


def _check_places(here: Tensor, features: Tensor | None, width: int) -> None:
    found = here.sum(1)
    found = found[found > 0].tolist()
    if features is None:
        if found:
            raise ValueError(f"features: got None for {len(found)} rows with placeholders, expected [{len(found)}, K, {width}].")
        return
    if features.ndim != 3 or features.shape[-1] != width or found != [features.shape[1]] * len(features):
        raise ValueError(f"features: got {list(features.shape)} for rows with {found} placeholders, expected "
                         f"[N, K, {width}] with N such rows of K placeholders each.")


class Projector(nn.Module):
    """h = s · Wf / rms(Wf) + p: features in the place, the size and the number of words, (eq-vlm-project).

    ``[N, K, F]`` → ``[N, K, D]``.

    Args:
        inputs, width: F and D.
        count: K, how many vectors a picture or a sound has; each place has a learned vector p.
        scale: s, the root mean square of the word embeddings.
    """

    def __init__(self, inputs: int, width: int, count: int, scale: float) -> None:
        super().__init__()
        self.W = nn.Linear(inputs, width, bias=False)
        self.p = nn.Parameter(scale * torch.randn(count, width))
        self.scale = scale

    def direction(self, f: Tensor) -> Tensor:
        """Wf / rms(Wf), what is compared with words in the alignment, (eq-vlm-align)."""
        if f.ndim != 3 or f.shape[1:] != (len(self.p), self.W.in_features):
            raise ValueError(f"f: got {list(f.shape)}, expected [N, {len(self.p)}, {self.W.in_features}].")
        return nn.functional.rms_norm(self.W(f), (self.W.out_features,), eps=1e-6)  # [N, K, D]

    def forward(self, f: Tensor) -> Tensor:
        return self.scale * self.direction(f) + self.p


class VLM(nn.Module):
    """A causal language model with an encoder, a projector and a placeholder token for each further modality.

    Args:
        language: a causal language model of transformers.
        encoders: kind → module that makes features ``[N, K, F]`` of the raw inputs; what holds no parameter that
            requires a gradient stays in evaluation mode.
        projectors: kind → module ``[N, K, F]`` → ``[N, K, D]``.
        tokens: kind → id of its placeholder.

    Raises:
        ValueError: the three do not have the same kinds, or a token is outside of the vocabulary or used twice.
    """

    def __init__(self, language: PreTrainedModel, encoders: Mapping[str, nn.Module],
                 projectors: Mapping[str, nn.Module], tokens: Mapping[str, int]) -> None:
        super().__init__()
        if not set(encoders) == set(projectors) == set(tokens):
            raise ValueError(f"encoders, projectors, tokens: got {sorted(encoders)}, {sorted(projectors)} and "
                             f"{sorted(tokens)}, expected the same kinds.")
        size = language.get_input_embeddings().num_embeddings
        if len(set(tokens.values())) < len(tokens) or not all(0 <= token < size for token in tokens.values()):
            raise ValueError(f"tokens: got {dict(tokens)}, expected different ids in 0 … {size - 1}.")
        self.language, self.tokens = language, dict(tokens)
        self.encoders, self.projectors = nn.ModuleDict(encoders), nn.ModuleDict(projectors)

    def train(self, mode: bool = True) -> VLM:
        super().train(mode)
        for encoder in self.encoders.values():
            encoder.train(mode and any(parameter.requires_grad for parameter in encoder.parameters()))
        return self

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features of raw inputs, kind → ``[N, K, F]``: of a frozen encoder they can be kept."""
        return {kind: self.encoders[kind](values) for kind, values in inputs.items()}

    def embed(self, ids: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """Tokens ``[B, T]`` and features, kind → ``[N, K, F]`` for the rows with its placeholders → ``[B, T, D]``."""
        if unknown := set(features) - set(self.tokens):
            raise ValueError(f"features: got {sorted(unknown)}, expected some of {sorted(self.tokens)}.")
        X = self.language.get_input_embeddings()(ids)
        for kind, token in self.tokens.items():
            found = features.get(kind)
            X = replace(X, ids, token, None if found is None else self.projectors[kind](found))
        return X

    def forward(self, batch: Batch, features: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[B, T, V]`` of one example a row, padded on the right."""
        return self.language(inputs_embeds=self.embed(batch.ids, features), attention_mask=(batch.segments > 0).long(),
                             position_ids=batch.positions, use_cache=False).logits

    def loss(self, batch: Batch, features: Mapping[str, Tensor]) -> Tensor:
        """The mean negative log-likelihood of the answers' tokens (eq-loss-answer), a scalar."""
        return answer_loss(self(batch, features), batch.labels)

    @torch.no_grad()
    def answer(self, prompts: Sequence[Sequence[int]], features: Mapping[str, Tensor], end: int,
               longest: int = 8) -> list[list[int]]:
        """The most likely token again and again, until ``end`` (left out) or ``longest`` tokens, for each prompt.

        Raises ValueError for no prompt, an empty one and longest < 1. The mode, training or evaluation, is the caller's.
        """
        if longest < 1:
            raise ValueError(f"longest: got {longest}, expected at least 1.")
        device = self.language.get_input_embeddings().weight.device
        ids, mask = (part.to(device) for part in pad_left(prompts))
        found, step = [], {"inputs_embeds": self.embed(ids, features), "past_key_values": None}
        for _ in range(longest):
            position = (mask.cumsum(1) - 1).clamp_min(0)[:, -next(iter(step.values())).shape[1]:]
            out = self.language(**step, attention_mask=mask, position_ids=position, use_cache=True)
            found.append(out.logits[:, -1].argmax(-1))  # [B]
            if (torch.stack(found, 1) == end).any(1).all():
                break
            step = {"input_ids": found[-1][:, None], "past_key_values": out.past_key_values}
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        return [_until(row, end) for row in torch.stack(found, 1).tolist()]


def pad_left(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids int64 ``[B, T]``, zeros on the left, and their mask ``[B, T]``: so that all answers begin at T."""
    if not prompts or not all(prompts):
        raise ValueError(f"prompts: got {list(map(len, prompts))} tokens in the rows, expected a row and a token in each.")
    width = max(map(len, prompts))
    ids = torch.tensor([[*[0] * (width - len(row)), *row] for row in prompts])
    lengths = torch.tensor(list(map(len, prompts)))
    return ids, (torch.arange(width) >= width - lengths[:, None]).long()


def _until(row: list[int], end: int) -> list[int]:
    return row[:row.index(end)] if end in row else row
