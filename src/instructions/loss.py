"""What instruction tuning trains on: tokens with labels, padded or packed, and the loss on the answer (rows R23, R24).

Chapter: chapters/instructions/loss.ipynb. A label of −100 marks a token that is read and not learned: the instruction, the
question, padding (Ouyang et al., 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from src.tokens import IGNORED, check_labels, encode, encode_chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Example:
    """ids: the T tokens; labels: T, the token itself where it is to be learned, −100 elsewhere and at the first place."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.ids or len(self.labels) != len(self.ids):
            raise ValueError(f"labels: got {len(self.labels)} for {len(self.ids)} tokens, expected one for each of at least "
                             "one token.")
        if self.labels[0] != IGNORED or any(label not in (token, IGNORED) for token, label in
                                            zip(self.ids, self.labels, strict=True)):
            raise ValueError(f"labels: got one that is neither {IGNORED} nor its token, or a first one that counts; shift "
                             "nothing here, answer_loss does it.")

    def __len__(self) -> int:
        return len(self.ids)


def encode_example(tokenizer: PreTrainedTokenizerBase, messages: str | Sequence[Mapping[str, str]],
                   answer: str) -> Example:
    """[I; Q] in the chat format, then the answer and the end of its turn; only these two count (eq-loss-labels).

    messages: as for ``src.tokens.encode_chat``; no text becomes a control token. Raises ValueError for an empty answer.
    """
    if not answer.strip():
        raise ValueError(f"answer: got {answer!r}, expected a text.")
    prompt = encode_chat(tokenizer, messages)
    reply = [*encode(tokenizer, answer), tokenizer.eos_token_id]
    return Example((*prompt, *reply), (*[IGNORED] * len(prompt), *reply))


@dataclass(frozen=True)
class Batch:
    """ids, labels, positions, segments: int64 ``[B, T]``; segments number the examples of a row from 1, 0 is padding."""

    ids: Tensor
    labels: Tensor
    positions: Tensor
    segments: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        return Batch(**{name: values.to(device) for name, values in vars(self).items()})


def collate(rows: Sequence[Example | Sequence[Example]], pad_id: int = 0) -> Batch:
    """One example a row, or several packed one behind the other; padding on the right, where labels are −100.

    The positions of each example begin at 0. Raises ValueError for no row and a row without an example.
    """
    packed = [[row] if isinstance(row, Example) else list(row) for row in rows]
    if not packed or not all(packed):
        raise ValueError(f"rows: got {list(map(len, packed))} examples in the rows, expected a row and an example in each.")
    width = max(sum(map(len, row)) for row in packed)
    table = torch.tensor([pad_id, IGNORED, 0, 0]).repeat(len(packed), width, 1)  # [B, T, 4]
    for place, row in enumerate(packed):
        columns = [(token, label, position, segment) for segment, example in enumerate(row, start=1)
                   for position, (token, label) in enumerate(zip(example.ids, example.labels, strict=True))]
        table[place, : len(columns)] = torch.tensor(columns)
    return Batch(*table.unbind(-1))


def pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Places of the examples in rows of at most ``room`` tokens: the longest first, each into the first row that has room.

    First-fit decreasing needs at most 11/9 of the fewest rows plus 6/9 (Dósa, 2007). Rows keep the order of the places.
    Raises ValueError for an example without a token or longer than ``room``.
    """
    rows: list[list[int]] = []
    left: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not 1 <= lengths[place] <= room:
            raise ValueError(f"lengths[{place}]: got {lengths[place]} tokens, expected 1 … room = {room}.")
        row = next((row for row, free in enumerate(left) if free >= lengths[place]), None)
        if row is None:
            row = len(rows)
            rows.append([])
            left.append(room)
        rows[row].append(place)
        left[row] -= lengths[place]
    return [sorted(row) for row in rows]


def attention_mask(segments: Tensor) -> Tensor:
    """Who may look at whom, bool ``[B, 1, T, T]``: earlier tokens of the same example and oneself (eq-loss-packing).

    Padding looks at itself, so that no row of the softmax is empty. Raises ValueError unless segments is int64 ``[B, T]``.
    """
    if segments.ndim != 2 or segments.dtype != torch.int64:
        raise ValueError(f"segments: got {segments.dtype} {list(segments.shape)}, expected int64 [B, T].")
    same = segments[:, :, None] == segments[:, None, :]  # [B, T, T]
    earlier = torch.ones_like(same[0]).tril()
    own = torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)
    return ((same & (segments > 0)[:, None, :] & earlier) | own)[:, None]


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L = −1/N Σ log p(xₜ | x₁ … xₜ₋₁) over the N tokens that count (eq-loss-answer), a scalar in float32 or float64.

    Args:
        logits: ``[B, T, V]``, place t predicts the token at t + 1.
        labels: int64 ``[B, T]``, −100 where a token does not count.

    Raises:
        ValueError: other shapes, no token that counts, and as ``src.tokens.check_labels``.
    """
    if logits.ndim != 3 or labels.shape != logits.shape[:2] or labels.dtype != torch.int64:
        raise ValueError(f"logits, labels: got {list(logits.shape)} and {labels.dtype} {list(labels.shape)}, expected "
                         "[B, T, V] and int64 [B, T].")
    check_labels(logits, labels)
    if not torch.compiler.is_compiling() and (labels == IGNORED).all():
        raise ValueError(f"labels: got {IGNORED} everywhere, expected at least one token that counts.")
    precise = logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(precise.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
