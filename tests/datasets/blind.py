"""A guesser that reads the question and never looks: what it scores above chance, a data set gives away."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from src.datasets.questions import Question

MOST = 3000
"""So many questions of a kind are used, taken at even distances: enough for ±3 points, few enough to be quick."""


def guesser_accuracy(train: Iterable[Question], test: Iterable[Question]) -> dict[str, float]:
    """For each kind in ``test`` the accuracy in 0 … 1 of the better of two guessers fitted to ``train``: logistic
    regression on the question's characters (tf-idf of 1–3-grams), and the kind's most frequent answer."""
    known, asked = _by_kind(train), _by_kind(test)
    if missing := asked.keys() - known.keys():
        raise ValueError(f"train has no questions of the kinds {', '.join(sorted(missing))}: draw more of them.")
    return {kind: max(_majority(known[kind], found), _reader(known[kind], found)) for kind, found in asked.items()}


def chance(test: Iterable[Question]) -> dict[str, float]:
    """For each kind 1 / number of its different answers."""
    return {kind: 1 / len({question.answer for question in found}) for kind, found in _by_kind(test).items()}


def assert_blind(train: Iterable[Question], test: Iterable[Question], margin: float = 0.03) -> None:
    """Assert that for each kind the guesser stays within ``margin`` of chance, and that the questions are so many that
    ``margin`` exceeds 2.5 standard errors."""
    asked, expected = _by_kind(test), chance(test)
    for kind, accuracy in guesser_accuracy(train, test).items():
        error = (expected[kind] * (1 - expected[kind]) / len(asked[kind])) ** 0.5
        about = f"{kind}: guessed {accuracy:.3f}, chance {expected[kind]:.3f} ± {error:.3f} (n = {len(asked[kind])})"
        assert 2.5 * error < margin and abs(accuracy - expected[kind]) < margin, about


def _by_kind(questions: Iterable[Question]) -> dict[str, list[Question]]:
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        groups[question.kind].append(question)
    return {kind: found[::-(-len(found) // MOST)] for kind, found in groups.items()}


def _majority(train: list[Question], test: list[Question]) -> float:
    answer = Counter(question.answer for question in train).most_common(1)[0][0]
    return sum(question.answer == answer for question in test) / len(test)


def _reader(train: list[Question], test: list[Question]) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    answers = [question.answer for question in train]
    if len(set(answers)) == 1:
        return _majority(train, test)
    reader = make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(1, 3)), LogisticRegression(max_iter=1000))
    reader.fit([question.text for question in train], answers)
    return float(reader.score([question.text for question in test], [question.answer for question in test]))
