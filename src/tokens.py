"""Texts as token ids that no text can forge, rows of them padded, and which of them count as labels.

Chapters: chapters/prompts/templates.ipynb for the control tokens, chapters/instructions/loss.ipynb for the labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that does not count: PyTorch's ``ignore_index``."""


def control_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The control tokens that the tokenizer would read in the text ("<|im_end|>"), in order, were it not for ``encode``."""
    return re.findall(_controls(tokenizer), text)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of plain text, T of them; what looks like a control token is spelled out in ordinary ones.

    SmolLM2's tokenizer has no token for the bytes of U+0004, U+0006, U+0013, U+0014, U+0016, U+001D and of the planes that
    hold no character, and leaves them out; all other text is decoded to itself.
    """
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]


def encode_chat(tokenizer: PreTrainedTokenizerBase, messages: str | Sequence[Mapping[str, str]],
                answer: str = "") -> list[int]:
    """Token ids of a question, or of messages ``{"role": …, "content": …}``, in the chat format, ready for the reply.

    The format's own control tokens are put in by number, the contents as ``encode`` does it: without control tokens in
    them the ids are those of ``tokenizer.apply_chat_template``, with them nobody but the template opens or ends a turn.
    ``answer`` is put behind, as the beginning of the reply. Raises ValueError for a message without role or content
    and for a role that is no plain word.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    contents = [_content(message) for message in messages]
    mark = _absent(contents)
    marked = [{**message, "content": f"{mark}{place}{mark}"} for place, message in enumerate(messages)]
    skeleton = tokenizer.apply_chat_template(marked, add_generation_prompt=True, tokenize=False)
    ids: list[int] = []
    for place, part in enumerate(re.split(f"({_controls(tokenizer)})", skeleton)):
        text = re.sub(f"{mark}(\\d+){mark}", lambda found: contents[int(found[1])], part)
        ids += [tokenizer.convert_tokens_to_ids(part)] if place % 2 else encode(tokenizer, text)
    return ids + encode(tokenizer, answer)


def _content(message: Mapping[str, str]) -> str:
    if set(message) != {"role", "content"} or not all(isinstance(value, str) for value in message.values()):
        raise ValueError(f"messages: got {dict(message)!r}, expected {{'role': …, 'content': …}} with text in both.")
    if not message["role"].isidentifier():
        raise ValueError(f"role: got {message['role']!r}, expected one word such as 'user'; data belong in the content.")
    return message["content"]


def _absent(texts: Sequence[str]) -> str:
    """A character for private use that none of the texts contains."""
    return next(mark for mark in map(chr, range(0xE000, 0xF8FF)) if not any(mark in text for text in texts))


def _controls(tokenizer: PreTrainedTokenizerBase) -> str:
    """A pattern for the tokenizer's control tokens, the longest first."""
    marks = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return "|".join(map(re.escape, sorted(marks, key=lambda mark: (-len(mark), mark))))


def pad(tokens: Sequence[Sequence[int]], device: torch.device | str | None = None,
        left: bool = False) -> tuple[Tensor, Tensor]:
    """Token ids int64 ``[B, T]``, zeros on the right, or on the left so that all end together, and their mask ``[B, T]``;
    ValueError for no row and an empty one."""
    if not tokens or not all(tokens):
        raise ValueError(f"tokens: got {list(map(len, tokens))} tokens in the rows, expected a row and a token in each.")
    lengths = torch.tensor(list(map(len, tokens)), device=device)
    width = max(map(len, tokens))
    rows = [[*[0] * (width - len(row)), *row] if left else [*row, *[0] * (width - len(row))] for row in tokens]
    mask = (torch.arange(width, device=device) < lengths[:, None]).long()
    return torch.tensor(rows, device=device), mask.flip(1) if left else mask


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError for labels int64 ``[B, T]`` that logits ``[B, T, V]`` cannot predict, and for NaN; compiled code
    does not look."""
    if torch.compiler.is_compiling():
        return
    if ((labels != IGNORED) & ((labels < 0) | (labels >= logits.shape[-1]))).any():
        raise ValueError(f"labels: got {labels.min().item()} … {labels.max().item()}, expected 0 … {logits.shape[-1] - 1}, "
                         f"or {IGNORED} for a token that does not count.")
    if (labels[:, 0] != IGNORED).any():
        raise ValueError(f"labels: got a first token that counts, expected {IGNORED} there: no logits predict it.")
    if logits.isnan().any():
        raise ValueError("logits: got NaN, expected numbers; look for the step before.")
