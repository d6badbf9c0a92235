"""Instruction data: chat messages, what leaked, what is double, how tasks are mixed, what rules can see (row R22).

Chapter: chapters/instructions/data.ipynb. Mixing follows Raffel et al. (2020), MinHash Broder (1997).
"""

from __future__ import annotations

import itertools
import random
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence, Set

import torch
from torch import Tensor

from src.datasets.compositions import compositions
from src.datasets.instructions import Instruction, Instructions

SYSTEM = "Answer briefly."
"""The system message; without one SmolLM2's chat template puts its own, longer one in front of every example."""

PRIME = (1 << 31) - 1
RARE = 0.05
"""What fewer than this share of a task's answers have in common is unusual."""


def messages(item: Instruction, system: str = SYSTEM) -> list[dict[str, str]]:
    """The messages that the model reads: the system message, then the instruction and below it the input, if there is one.

    The answer is not among them (``src.instructions.loss.encode_example`` puts it behind). Pictures and sounds are not
    either: they have no tokens. An empty ``system`` leaves the first message out. Raises ValueError for an empty
    instruction.
    """
    if not item.instruction.strip():
        raise ValueError(f"item.instruction: got {item.instruction!r}, expected a text that says what to do.")
    content = f"{item.instruction}\n{item.input}" if item.input else item.instruction
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": content}]


def normalised(text: str) -> str:
    """The text without what a copy may change: width and case of letters, punctuation, white space."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def shingles(text: str, n: int = 3) -> frozenset[str]:
    """All pieces of n characters in the normalised text, or the text itself when it is shorter; ValueError for n < 1."""
    if n < 1:
        raise ValueError(f"n: got {n}, expected at least 1 character.")
    plain = normalised(text)
    return frozenset(plain[start : start + n] for start in range(max(1, len(plain) - n + 1)))


def jaccard(a: Set[str], b: Set[str]) -> float:
    """s = |A ∩ B| / |A ∪ B| (eq-idata-jaccard), 1 for two empty sets."""
    return len(a & b) / len(a | b) if a or b else 1.0


def minhash(sets: Sequence[Set[str]], count: int = 128, seed: int = 0) -> Tensor:
    """Signatures int64 ``[N, count]``: the least value of each of ``count`` random hash functions (eq-idata-minhash).

    Two signatures agree in one place with the probability of the sets' Jaccard similarity. Raises ValueError for an empty
    set and for a count below 1.
    """
    if count < 1 or not all(sets):
        raise ValueError(f"sets, count: got {sum(not each for each in sets)} empty sets and {count} hash functions, expected "
                         "no empty set and at least one function.")
    chance = torch.Generator().manual_seed(seed)
    a, b = torch.randint(1, PRIME, (2, count, 1), generator=chance)  # [count, 1]
    values = [torch.tensor([zlib.crc32(piece.encode()) % PRIME for piece in each]) for each in sets]
    return torch.stack([((a * x + b) % PRIME).amin(1) for x in values]) if sets else torch.empty(0, count, dtype=torch.int64)


def candidates(signatures: Tensor, rows: int) -> set[tuple[int, int]]:
    """Pairs i < j that agree in every one of the ``rows`` numbers of some band (eq-idata-bands).

    Raises ValueError when the ``[N, count]`` signatures are not a whole number of bands.
    """
    if rows < 1 or signatures.shape[1] % rows:
        raise ValueError(f"rows: got {rows}, expected a divisor of the {signatures.shape[1]} numbers of a signature.")
    buckets: dict[tuple, list[int]] = defaultdict(list)
    for place, signature in enumerate(signatures.tolist()):
        for start in range(0, len(signature), rows):
            buckets[start, *signature[start : start + rows]].append(place)
    return {pair for bucket in buckets.values() for pair in itertools.combinations(bucket, 2)}


def near_duplicates(texts: Sequence[str], threshold: float = 0.7, n: int = 3, count: int = 128, rows: int = 4,
                    seed: int = 0) -> list[tuple[int, int]]:  # fmt: skip
    """Pairs i < j of texts whose Jaccard similarity of n-character pieces is at least the threshold, in order.

    MinHash proposes, the exact similarity decides: every pair is right, a few may be missing. Raises ValueError for a
    threshold outside 0 … 1 and for what ``shingles``, ``minhash`` and ``candidates`` refuse.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: got {threshold}, expected more than 0 and at most 1.")
    sets = [shingles(text, n) for text in texts]
    found = candidates(minhash(sets, count, seed), rows)
    return sorted((i, j) for i, j in found if jaccard(sets[i], sets[j]) >= threshold)


def mixture(counts: Sequence[int], temperature: float = 1.0, cap: float | None = None) -> Tensor:
    """p_i ∝ min(n_i, K)^(1/T), the share of each task (eq-idata-mixture), float64 ``[N]``.

    Args:
        counts: n_i ≥ 1, how many examples each task has.
        temperature: T > 0; 1 keeps the sizes' proportions, infinity gives every task the same share.
        cap: K > 0, what a task counts for at most; None for no limit.

    Raises:
        ValueError: no task, a task without examples, a temperature or a cap that is not positive.
    """
    if not len(counts) or min(counts) < 1:
        raise ValueError(f"counts: got {list(counts)}, expected at least one task and one example in each.")
    if not temperature > 0 or (cap is not None and not cap > 0):
        raise ValueError(f"temperature, cap: got {temperature} and {cap}, expected numbers above 0.")
    sizes = torch.tensor(counts, dtype=torch.float64).clamp(max=cap or torch.inf)
    return (sizes.log() / temperature).softmax(0)


def draws(counts: Sequence[int], p: Sequence[float] | Tensor, seed: int = 0) -> Iterator[tuple[int, int]]:
    """Endless (task, example): the task by its share p, its examples in random order, all of them before any comes again.

    Raises ValueError unless there is a share p ≥ 0 for each of the counts, with a positive sum.
    """
    shares = torch.as_tensor(p, dtype=torch.float64)
    if shares.shape != (len(counts),) or not (shares >= 0).all() or not 0 < shares.sum() < torch.inf:
        raise ValueError(f"p: got {shares.tolist()} for {len(counts)} tasks, expected one share of at least 0 for each.")
    return _draws(counts, shares.cumsum(0).tolist(), random.Random(seed))


def _draws(counts: Sequence[int], sums: list[float], chance: random.Random) -> Iterator[tuple[int, int]]:
    left: list[list[int]] = [[] for _ in counts]
    while True:
        task = chance.choices(range(len(counts)), cum_weights=sums)[0]
        left[task] = left[task] or chance.sample(range(counts[task]), counts[task])
        yield task, left[task].pop()


def leaks(train: Instructions, test: Instructions) -> dict[str, list[int]]:
    """Places of the test items of which training knows something, for each of seven kinds of knowledge.

    task: its name. phrasing: the instruction, normalised. question: the input of an item with a picture. case: the words
    of a text input, in whatever order and for whatever task. picture: the same pixels, or the same table of a chart.
    composition: all pairs of things that the scene shows, or with one sort of thing its places. sound: the same samples.
    Only what is equal is found: not a voice that says something else, and not a near duplicate.
    """
    known, asked = _traces(train), _traces(test)
    seen = {kind: frozenset().union(*marks) for kind, marks in known.items()}
    return {kind: [place for place, own in enumerate(marks) if own and own <= seen[kind]] for kind, marks in asked.items()}


def _traces(found: Instructions) -> dict[str, list[frozenset]]:
    """For each kind of knowledge what each item would give away."""
    kinds = ("task", "phrasing", "question", "case", "picture", "composition", "sound")
    rows = [_trace(found, item) for item in found.items]
    return {kind: [row.get(kind, frozenset()) for row in rows] for kind in kinds}


def _trace(found: Instructions, item: Instruction) -> dict[str, frozenset]:
    trace = {"task": frozenset([item.task]), "phrasing": frozenset([normalised(item.instruction)])}
    if item.sound is not None:
        trace["sound"] = frozenset([found.wave(item).numpy().tobytes()])
    if item.picture is None:
        return trace | ({"case": frozenset([" ".join(sorted(normalised(item.input).split()))])} if item.input else {})
    if item.input:
        trace["question"] = frozenset([normalised(item.input)])
    if item.task.startswith("chart"):
        table = found.charts.tables[item.picture]
        return trace | {"picture": frozenset([(table.title, table.names, table.series, table.values)])}
    pairs, places = compositions(found.scenes.things[item.picture, None], found.scenes.cells[item.picture, None])
    return trace | {"picture": frozenset([found.image(item).numpy().tobytes()]), "composition": frozenset(pairs or places)}


def _unusual(items: Sequence[Instruction], mark: Callable[[str], str]) -> set[int]:
    """Places of the answers whose mark fewer than `RARE` of the answers of their task share."""
    marks = [(item.task, mark(item.output)) for item in items]
    times, sizes = Counter(marks), Counter(item.task for item in items)
    return {place for place, own in enumerate(marks) if times[own] < RARE * sizes[own[0]]}


def shape(text: str) -> str:
    """The form of an answer: runs of digits, small letters, capitals and Chinese characters as one sign each (0, a, A, 字),
    and a row of the same sign as one of them, so that lists of any length have one form."""
    for pattern, sign in ((r"[\u4e00-\u9fff]+", "字"), (r"\d+", "0"), (r"[A-Z]+", "A"), (r"[^\W\dA字_]+", "a")):
        text = re.sub(pattern, sign, text)
    return re.sub(r"([0aA字])(?:[\s,、’'-]+\1)+", r"\1", text)


def _scripts(text: str) -> str:
    return "".join(name for name, pattern in (("字", "[\u4e00-\u9fff]"), ("a", "[A-Za-z]")) if re.search(pattern, text))


def _copied(items: Sequence[Instruction]) -> set[int]:
    return {place for place, item in enumerate(items) if item.input and item.output.split() == item.input.split()}


def _repeated(items: Sequence[Instruction]) -> set[int]:
    first: dict[tuple, int] = {}
    keys = [(item.task, item.instruction if item.task == "count" else "", normalised(item.input), item.picture, item.sound)
            for item in items]  # fmt: skip
    return {place for place, key in enumerate(keys) if first.setdefault(key, place) != place}


RULES: dict[str, Callable[[Sequence[Instruction]], set[int]]] = {
    "empty": lambda items: {place for place, item in enumerate(items) if not item.output.strip()},
    "copied": _copied,
    "unfilled": lambda items: {place for place, item in enumerate(items)
                               if re.search(r"\{\w*\}", item.instruction + item.input + item.output)},
    "script": lambda items: _unusual(items, _scripts),
    "ending": lambda items: _unusual(items, lambda text: text[-1:] if text[-1:] in ".。,、!?！？ " else ""),
    "format": lambda items: _unusual(items, shape),
    "repeated": _repeated,
}  # fmt: skip
"""What can be seen without knowing the answer: each rule gives the places of the items that it doubts."""


def suspects(items: Sequence[Instruction]) -> dict[str, set[int]]:
    """The places that each of `RULES` doubts.

    "script", "ending" and "format" compare with the task's other answers, so they need more than 20 of them, and they miss
    a defect that is frequent.
    """
    return {name: rule(items) for name, rule in RULES.items()}
