"""From text to vectors: words, counts, TF-IDF, skip-gram with negative sampling, averages of word vectors (row R03).

Chapter: chapters/features/text.ipynb. A document is a list of words; a vocabulary gives each word its column. The
tests compare with scikit-learn and with torch's losses.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from src.runtime import cache_dir, check_finite

if TYPE_CHECKING:
    import jieba


def tokenize_en(text: str, lower: bool = True) -> list[str]:
    """English words and punctuation marks by the rules of the Penn Treebank, "don't" → do, n't; needs no data files.

    Sentences are not looked for, so a full stop within the text stays with its word.
    """
    from nltk.tokenize import TreebankWordTokenizer

    _check_text(text)
    return TreebankWordTokenizer().tokenize(text.lower() if lower else text)


def tokenize_zh(text: str, words: tuple[str, ...] = (), hmm: bool = True) -> list[str]:
    """Chinese words and punctuation marks by jieba, blanks left out.

    Args:
        text: any text.
        words: added to the dictionary, frequent enough to be kept in one piece; only for this call.
        hmm: let a hidden Markov model find words that the dictionary lacks.
    """
    _check_text(text)
    return [word for word in segmenter(words).lcut(text, HMM=hmm) if word.strip()]


@functools.lru_cache(maxsize=4)
def segmenter(words: tuple[str, ...] = ()) -> jieba.Tokenizer:
    """A jieba tokenizer of its own for each list of added words; its compiled dictionary lies in the book's cache folder."""
    import logging

    import jieba

    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    tokenizer.tmp_dir = str(cache_dir())  # jieba's default is the shared folder for temporary files
    for word in words:
        tokenizer.add_word(word)
    return tokenizer


def vocabulary(documents: Sequence[Sequence[str]], least: int = 1) -> dict[str, int]:
    """Each word of at least ``least`` documents, in the order of its characters, and its column.

    Raises ValueError for strings in the place of lists of words, and when no word is left.
    """
    _check_documents(documents)
    found = Counter(word for document in documents for word in set(document))
    words = sorted(word for word, number in found.items() if number >= least)
    if not words:
        raise ValueError(
            f"documents: got no word in {least} or more of {len(documents)} documents, expected one at least"
        )
    return {word: column for column, word in enumerate(words)}


def counts(
    documents: Sequence[Sequence[str]], columns: Mapping[str, int], dtype: torch.dtype = torch.float64
) -> Tensor:
    """How often each word occurs, n_dw of (eq-text-bow): ``[N, V]``. Words without a column are passed over."""
    _check_documents(documents)
    cells = [(row, columns[word]) for row, document in enumerate(documents) for word in document if word in columns]
    C = torch.zeros(len(documents), len(columns), dtype=dtype)
    if cells:
        rows, places = torch.tensor(cells).T
        C.index_put_((rows, places), torch.ones(len(cells), dtype=dtype), accumulate=True)
    return C


def idf(C: Tensor) -> Tensor:
    """ln((1 + N) / (1 + N_w)) + 1, (eq-text-idf): counts ``[N, V]`` of the training documents → ``[V]``."""
    _check_counts(C)
    present = (C > 0).to(C.dtype).sum(0)  # [V]
    return ((1 + C.shape[0]) / (1 + present)).log() + 1


def tfidf(C: Tensor, weight: Tensor) -> Tensor:
    """Counts times idf, each row brought to length 1, (eq-text-tfidf); a row without words stays zero.

    Args:
        C: counts ``[N, V]``.
        weight: `idf` of the training documents, ``[V]``.

    Raises:
        ValueError: C and weight differ in V, C has no row or no column, one of them is negative or not finite.
    """
    _check_counts(C)
    _check_weight(weight, C)
    X = C * weight
    length = X.square().sum(1, keepdim=True)
    return X / torch.where(length > 0, length, 1).sqrt()  # [N, V]


def mean_vectors(C: Tensor, W: Tensor, weight: Tensor | None = None) -> Tensor:
    """Σ_w n_dw a_w W_w / Σ_w n_dw a_w, (eq-text-mean): a document as the mean of its words' vectors.

    Args:
        C: counts ``[N, V]``.
        W: word vectors ``[V, D]``.
        weight: a, non-negative ``[V]``, for example `idf`; None for all alike.

    Returns:
        ``[N, D]``; zeros for a document without a word of the vocabulary.

    Raises:
        ValueError: the shapes do not fit, C is empty, C or weight is negative or not finite, or W is not finite.
    """
    _check_counts(C)
    if W.ndim != 2 or W.shape[0] != C.shape[1]:
        raise ValueError(f"W: got shape {list(W.shape)}, expected [{C.shape[1]}, D], a vector for each column of C")
    check_finite(W=W)
    if weight is not None:
        _check_weight(weight, C)
        C = C * weight
    total = C.sum(1, keepdim=True)
    with torch.autocast(C.device.type, enabled=False):  # half precision would lose what sums of many words differ by
        return C.to(W.dtype) @ W / torch.where(total > 0, total, 1).to(W.dtype)  # [N, D]


def skipgram_pairs(documents: Sequence[Sequence[int]], window: int) -> Tensor:
    """Each word with each one at most ``window`` places away, int64 ``[P, 2]``: (centre, neighbour), (eq-text-sgns).

    Raises ValueError for a window below 1 and when no document has two words.
    """
    if window < 1:
        raise ValueError(f"window: got {window}, expected at least 1 word to each side")
    pairs = [
        (centre, document[j])
        for document in documents
        for i, centre in enumerate(document)
        for j in range(max(0, i - window), min(len(document), i + window + 1))
        if j != i
    ]
    if not pairs:
        raise ValueError("documents: got none of two words or more, expected one at least; there is nobody beside")
    return torch.tensor(pairs)


def noise_distribution(frequency: Tensor, power: float = 0.75) -> Tensor:
    """n_w^power / Σ n^power, (eq-text-noise): how likely a word is drawn as a negative example, ``[V]``."""
    if frequency.ndim != 1 or not frequency.numel():
        raise ValueError(f"frequency: got shape {list(frequency.shape)}, expected [V] with at least one word")
    _check_amounts("frequency", frequency)
    if not frequency.sum() > 0:
        raise ValueError("frequency: got zeros alone, expected at least one word that occurs")
    raised = torch.where(frequency > 0, frequency, 1).pow(power) * (frequency > 0)
    return raised / raised.sum()


def skipgram_loss(U: Tensor, V: Tensor, centre: Tensor, neighbour: Tensor, negatives: Tensor) -> Tensor:
    """−log σ(u_c · v_o) − Σ_k log σ(−u_c · v_k), the mean of B pairs, (eq-text-sgns); Mikolov et al. (2013).

    Args:
        U: vectors of words as centres ``[W, D]``, those that are kept.
        V: vectors of words as neighbours ``[W, D]``.
        centre, neighbour: int64 ``[B]``.
        negatives: int64 ``[B, K]``, drawn from `noise_distribution`.

    Returns:
        A scalar; (1 + K) ln 2 when V is zero.

    Raises:
        ValueError: shapes that do not fit, no pair, a word beyond the tables, or vectors that are not finite.
    """
    _check_pairs(U, V, centre, neighbour, negatives)
    u = U[centre]  # [B, D]
    right = (u * V[neighbour]).sum(-1)  # [B]
    wrong = (u[:, None] * V[negatives]).sum(-1)  # [B, K]
    return -(F.logsigmoid(right) + F.logsigmoid(-wrong).sum(-1)).mean()


def word2vec(
    documents: Sequence[Sequence[str]],
    size: int = 64,
    window: int = 5,
    least: int = 3,
    negative: int = 5,
    epochs: int = 10,
    seed: int = 0,
) -> tuple[dict[str, int], Tensor]:
    """Vectors of words by gensim's skip-gram with negative sampling, the same in every run on one machine.

    One thread, since several would overtake each other; CRC-32 for gensim's hash, since Python's differs between runs.

    Returns:
        The column of each word, most frequent first, and float32 ``[V, size]``.

    Raises:
        ValueError: strings in the place of lists of words, or no word occurs ``least`` times.
    """
    import zlib

    from gensim.models import Word2Vec

    _check_documents(documents)
    if max(Counter(word for document in documents for word in document).values(), default=0) < least:
        raise ValueError(f"documents: got no word that occurs {least} times, expected one at least; lower least")
    model = Word2Vec(
        [list(document) for document in documents],
        vector_size=size,
        window=window,
        min_count=least,
        sg=1,
        negative=negative,
        epochs=epochs,
        seed=seed,
        workers=1,
        hashfxn=lambda word: zlib.crc32(word.encode()),
    )
    return dict(model.wv.key_to_index), torch.from_numpy(model.wv.vectors.copy())


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise ValueError(f"text: got {type(text).__name__}, expected one string; call once for each text")


def _check_documents(documents: Sequence[Sequence[str]]) -> None:
    if isinstance(documents, str) or any(isinstance(document, str) for document in documents):
        raise ValueError("documents: got strings, expected lists of words; a string would be taken for its characters")
    if not len(documents):
        raise ValueError("documents: got none, expected at least one list of words")


def _check_counts(C: Tensor) -> None:
    if C.ndim != 2 or not C.numel():
        raise ValueError(f"C: got shape {list(C.shape)}, expected counts [N, V] with at least one row and one column")
    if not C.is_floating_point():
        raise ValueError(f"C: got {C.dtype}, expected floating point numbers; write C.double()")
    _check_amounts("C", C)


def _check_weight(weight: Tensor, C: Tensor) -> None:
    if weight.shape != C.shape[1:]:
        raise ValueError(
            f"weight: got shape {list(weight.shape)}, expected [{C.shape[1]}], a number for each column of C"
        )
    _check_amounts("weight", weight)


def _check_amounts(name: str, values: Tensor) -> None:
    check_finite(**{name: values})
    if not torch.compiler.is_compiling() and (values < 0).any():
        raise ValueError(f"{name}: got {values.min():g}, expected no negative numbers")


def _check_pairs(U: Tensor, V: Tensor, centre: Tensor, neighbour: Tensor, negatives: Tensor) -> None:
    if U.ndim != 2 or U.shape != V.shape:
        raise ValueError(f"U, V: got shapes {list(U.shape)}, {list(V.shape)}, expected [W, D] twice")
    if centre.ndim != 1 or centre.shape != neighbour.shape or not centre.numel():
        raise ValueError(
            f"centre, neighbour: got shapes {list(centre.shape)}, {list(neighbour.shape)}, expected [B] twice, "
            "B at least 1"
        )
    if negatives.ndim != 2 or negatives.shape[0] != centre.shape[0]:
        raise ValueError(f"negatives: got shape {list(negatives.shape)}, expected [{centre.shape[0]}, K]")
    check_finite(U=U, V=V)
    if torch.compiler.is_compiling():
        return
    for name, ids in (("centre", centre), ("neighbour", neighbour), ("negatives", negatives)):
        if ids.numel() and not 0 <= ids.min() <= ids.max() < U.shape[0]:
            raise ValueError(f"{name}: got {ids.min().item()} to {ids.max().item()}, expected 0 to {U.shape[0] - 1}")
