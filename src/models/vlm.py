"""A language model that reads pictures and sounds: their features stand among the words (row R26).

Chapter: chapters/instructions/multimodal.ipynb. As in LLaVA (Liu et al., 2023) the text holds placeholder tokens, whose
embeddings are replaced by projected features; everything behind them is a causal language model of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.instructions.loss import Batch, Example
from src.instructions.tuning import greedy
from src.runtime import check_finite
from src.tokens import IGNORED, pad

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
        ids: the tokens, int64 ``[B, T]``; a row holds K placeholders for each picture or sound in it.
        token: the id of the placeholder.
        features: ``[N, K, D]`` in the order of reading, row by row; None if no row has placeholders.

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
            raise ValueError(f"features: got None for {len(found)} rows with placeholders, expected [N, K, {width}].")
        return
    fits = features.ndim == 3 and features.shape[-1] == width
    if not fits or any(count % features.shape[1] for count in found) or sum(found) != len(features) * features.shape[1]:
        raise ValueError(f"features: got {list(features.shape)} for rows with {found} placeholders, expected "
                         f"[N, K, {width}] with K placeholders for each of the N, none of them cut by the end of a row.")


def branches(rows: Sequence[Sequence[Example]], shared: Sequence[int], pad_id: int = 0) -> Batch:
    """Rows in which several examples go on from one beginning, as questions about one picture do (eq-vlm-branches).

    Args:
        rows: the examples of each row.
        shared: how many first tokens they share, with the same pictures and sounds behind them; 0 for none.

    Returns:
        Segment 1 of a row is the beginning, which is there once; each example has a segment from 2 on, at positions that go
        on from the beginning, and `branch_mask` hides the others. Padding on the right.

    Raises:
        ValueError: no row, a row without an example, or beginnings that differ or hold a token to be learned.
    """
    if not rows or not all(rows) or len(shared) != len(rows):
        raise ValueError(f"rows, shared: got {list(map(len, rows))} examples and {list(shared)}, expected a row, an example "
                         "in each, and a number for each row.")
    table = [_columns(*row) for row in zip(rows, shared, strict=True)]
    width = max(map(len, table))
    padded = torch.tensor([row + [(pad_id, IGNORED, 0, 0)] * (width - len(row)) for row in table])  # [B, T, 4]
    return Batch(*padded.unbind(-1))


def _columns(row: Sequence[Example], shared: int) -> list[tuple[int, int, int, int]]:
    """(token, label, position, segment) of a row."""
    first = row[0]
    if any(e.ids[:shared] != first.ids[:shared] or set(e.labels[:shared + 1]) - {IGNORED} for e in row):
        raise ValueError(f"shared: got {shared}, but the examples' first tokens are {[e.ids[:shared] for e in row]}; expected "
                         f"the same in each, and a token after them that is not to be learned.")
    parts = [(1, 0, shared, first)] + [(segment, shared, len(e), e) for segment, e in enumerate(row, start=2)]
    return [(e.ids[place], e.labels[place], place, segment) for segment, begin, end, e in parts for place in range(begin, end)]


def branch_mask(segments: Tensor) -> Tensor:
    """Who may look at whom, bool ``[B, 1, T, T]``: earlier tokens of the same segment and of segment 1 (eq-vlm-branches)."""
    one = segments[:, None, :]
    seen = (segments[:, :, None] == one) | (one == 1)
    return (seen & torch.ones_like(seen[0]).tril())[:, None]


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
        """Logits ``[B, T, V]`` of `branches`, or of one example a row, padded on the right."""
        return self.language.get_output_embeddings()(self._hidden(batch, features))

    def _hidden(self, batch: Batch, features: Mapping[str, Tensor]) -> Tensor:
        return self.language.base_model(inputs_embeds=self.embed(batch.ids, features), position_ids=batch.positions,
                                        attention_mask=branch_mask(batch.segments), use_cache=False).last_hidden_state

    def loss(self, batch: Batch, features: Mapping[str, Tensor]) -> Tensor:
        """The mean negative log-likelihood of the answers' tokens (eq-loss-answer), a scalar; only the places in front of
        them are brought to the vocabulary. Raises ValueError when no token counts, or the first of a row."""
        here = batch.labels[:, 1:] != IGNORED  # [B, T − 1]
        if not here.any() or (batch.labels[:, 0] != IGNORED).any():
            raise ValueError(f"labels: got {int(here.sum())} tokens that count behind the first of a row and "
                             f"{int((batch.labels[:, 0] != IGNORED).sum())} first ones, expected at least one and none.")
        logits = self.language.get_output_embeddings()(self._hidden(batch, features)[:, :-1][here])  # [N, V]
        return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), batch.labels[:, 1:][here])

    @torch.no_grad()
    def answer(self, prompts: Sequence[Sequence[int]], features: Mapping[str, Tensor], end: int,
               room: int = 8) -> list[list[int]]:
        """The most probable reply to each prompt of token ids, the same as if each were alone (``tuning.greedy``).

        Raises ValueError for no prompt, an empty one and room < 1.
        """
        if room < 1:
            raise ValueError(f"room: got {room}, expected at least 1.")
        ids, mask = pad(prompts, self.language.get_input_embeddings().weight.device, left=True)
        return greedy(self.language, self.embed(ids, features), mask, end, room)
