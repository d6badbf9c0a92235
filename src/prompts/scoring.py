"""How probable a language model finds an answer: log-likelihoods of given continuations, batched, the shared part once.

Chapter: chapters/prompts/templates.ipynb. The model is only read: no gradient, no change. For learned prompts, which need
the gradient, ``continuation_log_likelihood`` is the differentiable kernel.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.extraction import length_batches
from src.tokens import IGNORED, check_labels, encode, pad

if TYPE_CHECKING:
    from src.pretrained import LanguageModel

BUDGET = 1024


def continuation_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Σₜ log p(cₜ | x, c₁ … cₜ₋₁) of each row (eq-templates-likelihood).

    Args:
        logits: ``[B, T, V]``, row t predicts the token at t + 1.
        labels: int64 ``[B, T]``, the tokens read, −100 where a token does not count (the prompt, padding).

    Returns:
        ``[B]``, at most 0, in float32 or float64.

    Raises:
        ValueError: other shapes, labels outside 0 … V − 1, a first token that counts (nothing predicts it), NaN logits.
    """
    if logits.ndim != 3 or 0 in logits.shape:
        raise ValueError(f"logits: got {list(logits.shape)}, expected [B, T, V] with nothing empty.")
    if labels.shape != logits.shape[:2] or labels.dtype != torch.int64:
        raise ValueError(f"labels: got {labels.dtype} {list(labels.shape)}, expected int64 {list(logits.shape[:2])}.")
    check_labels(logits, labels)
    targets = labels[:, 1:]
    chosen = _precise(logits[:, :-1]).log_softmax(-1).gather(-1, targets.clamp_min(0)[..., None])[..., 0]  # [B, T - 1]
    return chosen.masked_fill(targets == IGNORED, 0).sum(-1)


def _precise(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def log_likelihoods(language: LanguageModel, prompts: Sequence[str | Sequence[int]], answers: Sequence[str | Sequence[int]],
                    *, budget: int = BUDGET, progress: bool = False) -> Tensor:
    """log p(answer k | prompt n), ``[N, K]`` on the CPU, float32 (float64 for such a model): the sum over its tokens.

    What all prompts share at the beginning is computed once, each prompt once for all answers (keys and values are kept),
    and prompts of similar length share a batch. The result is that of reading each pair alone.

    Args:
        language: the model, which is not changed.
        prompts: N texts, or token ids (as of ``encode_chat``).
        answers: K texts, or token ids; after a text that does not end with a line break they begin with a blank.
        budget: tokens in a batch, padding included; the shared part counts once a row in memory, too.
        progress: show a bar.

    Raises:
        ValueError: no prompt or answer, an empty one, a prompt and an answer that the tokenizer would not part where they
            meet (a prompt that ends with a blank), more tokens than the context.
    """
    contexts, choices = _tokens(language, "prompts", prompts), _tokens(language, "answers", answers)
    _check_seams(language, prompts, answers)
    longest = max(map(len, choices))
    for place, context in enumerate(contexts):
        if len(context) + longest > language.context:
            raise ValueError(f"prompts[{place}]: got {len(context):,} tokens and answers of up to {longest}, expected at "
                             f"most the {language.context:,} of {language.name}: shorten it or leave out examples.")
    from tqdm import tqdm

    shared = shared_prefix(contexts)
    scores = torch.empty(len(contexts), len(choices), dtype=torch.promote_types(language.model.dtype, torch.float32))
    with torch.inference_mode(), tqdm(total=len(contexts), disable=not progress, leave=False, desc="打分") as bar:
        prefix = read_prefix(language, contexts[0][:shared])
        rests = [context[shared:] for context in contexts]
        for batch in length_batches([len(rest) + longest for rest in rests], budget):
            scores[batch] = _score(language, prefix, shared, [rests[place] for place in batch], choices).cpu()
            bar.update(len(batch))
    return scores


def shared_prefix(contexts: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences have in common at the beginning, but fewer than the shortest has: each keeps one."""
    first, last = min(contexts), max(contexts)
    most = min(map(len, contexts)) - 1
    return next((place for place in range(most) if first[place] != last[place]), most)


def _tokens(language: LanguageModel, name: str, texts: Sequence[str | Sequence[int]]) -> list[list[int]]:
    if isinstance(texts, str) or not len(texts):
        raise ValueError(f"{name}: got {texts!r}, expected at least one in a list.")
    ids = [encode(language.tokenizer, text) if isinstance(text, str) else [int(token) for token in text] for text in texts]
    for place, tokens in enumerate(ids):
        if not tokens:
            raise ValueError(f"{name}[{place}]: got {texts[place]!r} without a token, expected at least one.")
    return ids


def _check_seams(language: LanguageModel, prompts: Sequence[str | Sequence[int]], answers: Sequence[str | Sequence[int]]) -> None:
    """Prompt and answer, tokenized apart, must be what they are together; the last characters of the prompt decide."""
    endings = {text[-16:] for text in prompts if isinstance(text, str)}
    for ending in endings:
        for answer in (answer for answer in answers if isinstance(answer, str)):
            apart = encode(language.tokenizer, ending) + encode(language.tokenizer, answer)
            if apart != encode(language.tokenizer, ending + answer):
                raise ValueError(f"prompts, answers: got a prompt that ends with {ending!r} before {answer!r}, which the "
                                 "tokenizer does not part there; end the prompt without a blank, begin the answer with one.")


def read_prefix(language: LanguageModel, tokens: Sequence[int]):
    """Keys and values of the shared beginning, or None when nothing is shared."""
    if not tokens:
        return None
    ids = torch.tensor([list(tokens)], device=language.model.device)
    return language.model(ids, use_cache=True, logits_to_keep=1).past_key_values


def _score(language: LanguageModel, prefix, shared: int, rests: list[list[int]], choices: list[list[int]]) -> Tensor:
    """``[B, K]``: the prompts' rests are read once, then of each answer the tokens after its first."""
    device, count = language.model.device, len(rests)
    ids, mask = pad(rests, device)  # [B, T]
    lengths = mask.sum(1)
    mask = torch.cat([mask.new_ones(count, shared), mask], 1)  # [B, P + T]
    ends, kept = torch.unique(lengths - 1, return_inverse=True)
    several = max(map(len, choices)) > 1
    read = language.model(ids, attention_mask=mask, past_key_values=for_rows(prefix, count), use_cache=several,
                          logits_to_keep=ends)
    first = read.logits[torch.arange(count, device=device), kept]  # [B, V]
    scores = _precise(first).log_softmax(-1)[:, [choice[0] for choice in choices]]  # [B, K]
    for place, choice in enumerate(choices):
        if len(choice) > 1:
            scores[:, place] += _rest_of(language, read.past_key_values, mask, shared + lengths, choice)
    return scores


def _rest_of(language: LanguageModel, cache, mask: Tensor, lengths: Tensor, choice: list[int]) -> Tensor:
    """``[B]``: Σ log p of an answer's tokens from the second on, after prompts whose keys and values are kept."""
    tokens = torch.tensor(choice, device=mask.device)
    steps = torch.arange(len(choice) - 1, device=mask.device)
    longer = torch.cat([mask, mask.new_ones(len(mask), len(steps))], 1)  # [B, P + T + A - 1]
    logits = language.model(tokens[:-1].expand(len(mask), -1), attention_mask=longer, use_cache=True,
                            position_ids=lengths[:, None] + steps, past_key_values=copy.deepcopy(cache)).logits
    return _precise(logits).log_softmax(-1).gather(-1, tokens[1:].expand(len(mask), -1)[..., None])[..., 0].sum(-1)


def for_rows(prefix, rows: int):
    """A copy of the kept keys and values of ``read_prefix`` for so many rows; the model appends to the copy."""
    if prefix is None:
        return None
    repeated = copy.deepcopy(prefix)
    repeated.batch_repeat_interleave(rows)
    return repeated


def answer_lengths(language: LanguageModel, answers: Sequence[str | Sequence[int]]) -> Tensor:
    """Tokens of each answer, float32 ``[K]``: what scores are divided by to make long and short answers comparable."""
    return torch.tensor([len(tokens) for tokens in _tokens(language, "answers", answers)], dtype=torch.float32)


def label_log_probs(scores: Tensor, groups: Sequence[int] | None = None) -> Tensor:
    """Log-probabilities of the labels, given that the answer is one of the K words (eq-templates-label).

    Args:
        scores: log-likelihoods ``[N, K]``.
        groups: for each word the place of its label, 0 … C − 1; None when each word is a label of its own.

    Returns:
        ``[N, C]``, each row's exponentials sum to one; the words of a label are added up.
    """
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores: got {list(scores.shape)}, expected [N, K] with at least one row and one word.")
    if groups is None:
        return scores.log_softmax(-1)
    if len(groups) != scores.shape[1] or sorted(set(groups)) != list(range(max(groups, default=-1) + 1)):
        raise ValueError(f"groups: got {list(groups)}, expected {scores.shape[1]} places, each label from 0 on at least once.")
    places = [[place for place, label in enumerate(groups) if label == wanted] for wanted in range(max(groups) + 1)]
    parts = [scores[:, own].logsumexp(-1) for own in places]
    return torch.stack(parts, -1).log_softmax(-1)  # [N, C]


def calibrate(log_probs: Tensor, content_free: Tensor) -> Tensor:
    """Contextual calibration (eq-templates-calibration; Zhao et al., ICML 2021): divide by what empty inputs get.

    Args:
        log_probs: of the labels, ``[N, C]``.
        content_free: of the labels for M inputs that say nothing ("N/A", "", "[MASK]"), ``[M, C]``.

    Returns:
        Log-probabilities ``[N, C]``: softmax(log p − log p̄), p̄ the mean over the M inputs.
    """
    if log_probs.ndim != 2 or content_free.ndim != 2 or log_probs.shape[1] != content_free.shape[1] or not len(content_free):
        raise ValueError(f"log_probs, content_free: got {list(log_probs.shape)}, {list(content_free.shape)}, expected "
                         "[N, C], [M, C] with M ≥ 1.")
    prior = content_free.log_softmax(-1).exp().mean(0).log()  # [C]
    return (log_probs - prior).log_softmax(-1)
