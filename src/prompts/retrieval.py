"""Prompts by retrieval: the examples most like the input are found by exact search and put before it (row R17).

Chapter: chapters/prompts/retrieval.ipynb. The search is a product of matrices and a selection, block after block, and
gives what faiss's ``IndexFlatIP`` and ``IndexFlatL2`` give; faiss itself is not needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from src.prompts.templates import Template
from src.runtime import check_choice, check_finite

METRICS = ("inner", "cosine", "l2")
ROWS, COLUMNS = 256, 8192
"""Queries and keys of a block: what a search holds beside its inputs and its result is a few times their product."""


def search(queries: Tensor, keys: Tensor, k: int, metric: str = "inner", *, columns: int = COLUMNS) -> tuple[Tensor, Tensor]:
    """The k keys nearest to each query, the nearest first (eq-retrieval-nearest); among equals the lower place first.

    Args:
        queries: ``[Q, D]``, Q may be 0.
        keys: ``[N, D]``, of the same floating type, on the same device.
        k: 1 … N.
        metric: "inner" (the greatest inner product first, as faiss's IndexFlatIP), "cosine" (the same of vectors brought
            to length one), "l2" (the least squared distance first, as IndexFlatL2).
        columns: keys in a block.

    Returns:
        (scores ``[Q, k]``, places int64 ``[Q, k]`` in keys); squared distances for "l2". Equal means equal as computed:
        in floating point a copy of a key may differ from it in the last digit.

    Raises:
        ValueError: an unknown metric, an empty index, k outside 1 … N, other shapes, types or devices, NaN or infinite
            values, for "cosine" a vector of length zero.
    """
    check_choice("metric", metric, METRICS)
    _check(queries, keys, k, columns)
    if metric == "cosine":
        queries, keys = unit(queries, "queries"), unit(keys, "keys")
    parts = [_search(rows, keys, k, metric == "l2", columns) for rows in queries.split(ROWS)]
    scores, places = (torch.cat(part) for part in zip(*parts, strict=True))
    return (-scores).clamp_min(0) if metric == "l2" else scores, places


def _search(queries: Tensor, keys: Tensor, k: int, squared: bool, columns: int) -> tuple[Tensor, Tensor]:
    """``[q, k]`` twice; of what was kept so far and the next block the k greatest are kept."""
    scores, places = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start, block in zip(range(0, len(keys), columns), keys.split(columns), strict=True):
        more = _negative_distances(queries, block) if squared else queries @ block.T  # [q, columns]
        more, chosen = _greatest(more, min(k, len(block)))
        scores, places = torch.cat([scores, more], 1), torch.cat([places, chosen + start], 1)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        scores, places = scores[:, :k], places.gather(1, order)[:, :k]
    return scores, places


def _negative_distances(queries: Tensor, keys: Tensor) -> Tensor:
    """−‖q − e‖² = 2 q·e − ‖q‖² − ‖e‖² (eq-retrieval-distance), ``[q, n]``."""
    return 2 * queries @ keys.T - queries.square().sum(1)[:, None] - keys.square().sum(1)


def _greatest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k greatest of each row and their places, the lower place first among equals, which ``topk`` does not promise."""
    values, places = scores.detach().topk(min(k + 1, scores.shape[1]))
    tied = values[:, k - 1] == values[:, -1] if values.shape[1] > k else torch.zeros_like(values[:, 0], dtype=torch.bool)
    places = places[:, :k].clone()
    if tied.any():
        places[tied] = scores.detach()[tied].argsort(dim=1, descending=True, stable=True)[:, :k]
    places = places.sort(1).values
    order = scores.detach().gather(1, places).argsort(dim=1, descending=True, stable=True)
    places = places.gather(1, order)
    return scores.gather(1, places), places


def unit(vectors: Tensor, name: str = "vectors") -> Tensor:
    """Each row of ``[N, D]`` divided by its length; ValueError for a row of length zero, which has no direction."""
    lengths = vectors.norm(dim=1)
    if (lengths == 0).any():
        raise ValueError(f"{name}[{int((lengths == 0).nonzero()[0])}]: got a vector of length 0, which has no direction, "
                         "expected another; leave the item out or use the inner product.")
    return normalize(vectors, dim=1)


def _check(queries: Tensor, keys: Tensor, k: int, columns: int) -> None:
    for name, value in (("queries", queries), ("keys", keys)):
        if value.ndim != 2 or not value.is_floating_point():
            raise ValueError(f"{name}: got {value.dtype} {list(value.shape)}, expected floating [.., D]; a single vector v "
                             "is v[None].")
    if not len(keys):
        raise ValueError("keys: got an empty index, expected at least one vector; add the examples before the search.")
    if queries.shape[1] != keys.shape[1]:
        raise ValueError(f"queries: got {queries.shape[1]} dimensions, expected {keys.shape[1]} as the keys have; encode "
                         "both with the same model.")
    if queries.dtype != keys.dtype or queries.device != keys.device:
        raise ValueError(f"queries: got {queries.dtype} on {queries.device}, expected {keys.dtype} on {keys.device} as keys.")
    if not 1 <= k <= len(keys):
        raise ValueError(f"k: got {k}, expected 1 … {len(keys)}, the number of keys.")
    if columns < 1:
        raise ValueError(f"columns: got {columns}, expected at least 1.")
    check_finite(queries=queries, keys=keys)


def recall(found: Tensor, exact: Tensor) -> float:
    """The share of the exact neighbours ``[Q, k]`` that were found, ``[Q, m]``: recall@k (eq-retrieval-recall); places
    below 0, as faiss fills up with, were not found."""
    if found.ndim != 2 or exact.ndim != 2 or len(found) != len(exact) or not exact.numel():
        raise ValueError(f"found, exact: got {list(found.shape)}, {list(exact.shape)}, expected [Q, m], [Q, k], not empty.")
    return (exact[:, :, None] == found[:, None]).any(2).double().mean().item()


def vote(labels: Tensor, classes: int) -> Tensor:
    """The label that most of the k neighbours have (eq-retrieval-vote), int64 ``[Q]``.

    labels: of the neighbours, int64 ``[Q, k]``, the nearest first. When two are as frequent, that one wins whose nearest
    example is nearer, which a bonus decides that adds up to less than one vote. Raises ValueError for no neighbour and for a
    label outside 0 … classes − 1.
    """
    if labels.ndim != 2 or labels.dtype != torch.int64 or not labels.shape[1]:
        raise ValueError(f"labels: got {labels.dtype} {list(labels.shape)}, expected int64 [Q, k] with k ≥ 1.")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels: got {int(labels.min())} … {int(labels.max())}, expected 0 … {classes - 1}.")
    bonus = 0.5 ** torch.arange(2, labels.shape[1] + 2, dtype=torch.double, device=labels.device)  # [k]
    return (one_hot(labels, classes) * (1 + bonus)[:, None]).sum(1).argmax(1)


def few_shot(instruction: str, item: Template, shown: Sequence[tuple[str, str]], text: str) -> str:
    """Instruction, solved examples, and the text whose answer is left open (eq-retrieval-context), each on lines of its own.

    item: how one is written, with the place ``{text}``, ending where the answer begins; shown: (text, answer), in the
    order in which they are to stand. Texts are put in word for word, whatever braces they hold.
    """
    solved = [item.fill(text=example) + answer for example, answer in shown]
    return "\n".join([instruction, *solved, item.fill(text=text)])


def fitting(lengths: Sequence[int], room: int) -> int:
    """How many of the examples, the nearest first with so many tokens each, fit into ``room`` tokens."""
    if room < 0:
        raise ValueError(f"room: got {room} tokens, expected 0 or more; the instruction and the input alone are too long.")
    return sum(total <= room for total in accumulate(lengths))
