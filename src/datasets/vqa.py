"""VQA v2's questions about COCO pictures with ten people's answers, and its accuracy.

Goyal et al., Making the V in VQA Matter, 2017; accuracy: Antol et al., VQA: Visual Question Answering, 2015.
Reads ``v2_OpenEnded_mscoco_*_questions.json`` and ``v2_mscoco_*_annotations.json`` as they are published.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor

from src.datasets import coco
from src.datasets.annotations import Record, by_id, fields, read_lists, read_object
from src.datasets.images import read_image
from src.datasets.splits import SPLITS, split_of
from src.runtime import check_choice, data_dir

ANSWERS = 10

ARTICLES = ("a", "an", "the")
NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
           "seven": "7", "eight": "8", "nine": "9", "ten": "10"}  # fmt: skip
PUNCTUATION = ";/[]\"{}()=+\\_-><@`,?!"
CONTRACTED = """
    ain't aren't can't couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't isn't mightn't
    mightn't've mustn't needn't oughtn't shan't shouldn't shouldn't've wasn't weren't won't wouldn't wouldn't've
    could've might've must've not've should've would've he'd he'd've he's how'd how'll how's it'd it'd've it'll
    she'd've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd
    something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've
    we'd've we've what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've
    why'll why're why's y'all y'all'll y'all'd've you'd you'd've you'll you're you've
    ma'am o'clock 'ow's'at 'twas
"""
APOSTROPHES = {word[:place] + word[place + 1 :]: word for word in CONTRACTED.split() for place, mark in enumerate(word)
               if mark == "'"} | {"somebody'd": "somebodyd"}  # fmt: skip
"""What the official table corrects: contractions in which one apostrophe is missing, and its one slip."""


@dataclass(frozen=True)
class VisualQuestion:
    """One question with its picture's path.

    answers: of ten people, empty without annotations (as for the test split); answer: the one most often given;
    answer_type: ``"yes/no"``, ``"number"`` or ``"other"``; question_type: its first words, such as ``"how many"``.
    """

    id: int
    image_id: int
    path: Path
    text: str
    answers: tuple[str, ...] = ()
    answer: str = ""
    answer_type: str = ""
    question_type: str = ""

    def read(self) -> Tensor:
        """The picture, uint8 ``[3, H, W]``; FileNotFoundError for a missing file, ValueError for a damaged one."""
        return read_image(self.path)


@dataclass(frozen=True)
class Vqa:
    """questions: N, in the order of the file."""

    questions: tuple[VisualQuestion, ...]

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, place: int) -> tuple[Tensor, VisualQuestion]:
        """(image uint8 ``[3, H, W]``, the question), decoded now."""
        return self.questions[place].read(), self.questions[place]

    def split(self, name: str) -> Vqa:
        """A tenth for validation, a tenth for testing, by a hash of the picture's id: as ``coco.Coco.split`` does.

        For one file; VQA's own split is its files (train2014, val2014, test2015).
        """
        check_choice("name", name, SPLITS)
        return Vqa(tuple(question for question in self.questions
                         if split_of(str(question.image_id), coco.SALT) == name))  # fmt: skip


def load(questions: str | PathLike[str], annotations: str | PathLike[str] | None = None, *,
         images: str | PathLike[str]) -> Vqa:  # fmt: skip
    """Read a question file, with the answers when there are any, and name each picture as COCO 2014 does.

    Args:
        questions: such as ``v2_OpenEnded_mscoco_val2014_questions.json``.
        annotations: such as ``v2_mscoco_val2014_annotations.json``; None for the test split, which has none.
        images: the folder of the pictures, ``COCO_val2014_000000000042.jpg`` and so on.

    Raises:
        FileNotFoundError: a JSON file is missing (a missing picture shows when it is read).
        ValueError: malformed JSON, a missing field, an id that occurs twice, a question without annotation or the
            other way round, other than ten answers.
    """
    path, folder = Path(questions), Path(images)
    subtype, listed = fields(path, read_object(path), data_subtype=str, questions=list)
    asked = by_id(path, listed, "question_id")
    answered = _annotations(Path(annotations), path, asked) if annotations is not None else {}
    found = []
    for number, record in asked.items():
        image_id, text = fields(path, record, image_id=int, question=str)
        found.append(VisualQuestion(number, image_id, folder / file_name(subtype, image_id), text,
                                    *answered.get(number, ())))  # fmt: skip
    return Vqa(tuple(found))


def load_sample() -> Vqa:
    """Questions about eight pictures of our own in VQA's format, made by ``data/make_samples.py``."""
    folder = data_dir() / "samples" / "vqa"
    return load(folder / "v2_OpenEnded_mscoco_val2014_questions.json", folder / "v2_mscoco_val2014_annotations.json",
                images=folder / "val2014")  # fmt: skip


def file_name(subtype: str, image_id: int) -> str:
    """The name of a COCO 2014 picture; the questions of test-dev2015 are about pictures of test2015."""
    return f"COCO_{subtype.replace('test-dev', 'test')}_{image_id:012d}.jpg"


def _annotations(path: Path, questions: Path, asked: dict[int, Record]) -> dict[int, tuple]:
    """For each question (answers, most frequent answer, answer type, question type)."""
    annotated = by_id(path, read_lists(path, "annotations")[0], "question_id")
    if strangers := annotated.keys() ^ asked.keys():
        raise ValueError(f"{questions} and {path} differ in {len(strangers)} questions, such as {min(strangers)}: take "
                         "both from the same split.")
    return {number: _answers(path, record, asked[number]) for number, record in annotated.items()}


def _answers(path: Path, record: Record, question: Record) -> tuple:
    image_id, listed, *about = fields(
        path, record, image_id=int, answers=list, multiple_choice_answer=str, answer_type=str, question_type=str)
    answers = tuple(fields(path, answer, answer=str)[0] for answer in listed)
    number = record["question_id"]
    if image_id != question.get("image_id"):
        raise ValueError(f"{path}: question {number} is about picture {image_id}, in the question file about "
                         f"{question.get('image_id')}.")
    if len(answers) != ANSWERS:
        raise ValueError(f"{path}: question {number} has {len(answers)} answers, expected {ANSWERS}.")
    return answers, *about


def accuracy(answer: str, answers: Sequence[str]) -> float:
    """Mean of min(matches / 3, 1) over the ten ways to leave one of the ten people's answers out.

    0, 0.3, 0.6, 0.9 for 0 to 3 matching answers and 1 for more. Both sides are normalised first. The official program
    leaves the people's answers almost as they are, since the published ones have been normalised already; for these
    both give the same, but for the few that kept a number word, or were all alike and kept punctuation.

    Raises ValueError unless there are ten answers.
    """
    if isinstance(answers, str) or len(answers) != ANSWERS:
        raise ValueError(f"answers must be {ANSWERS} texts, got {len(answers)}; VQA asks ten people each question.")
    given = normalise(answer)
    hits = [normalise(other) == given for other in answers]
    return sum(min((sum(hits) - hit) / 3, 1) for hit in hits) / ANSWERS


def normalise(answer: str) -> str:
    """The official normal form: lower case, no articles, digits for zero to ten, apostrophes put back, punctuation
    removed (next to a blank, or where a comma stands in a number) or turned into a blank, no full stop but in decimals.
    """
    words = _without_punctuation(re.sub(r"[\n\t]", " ", answer).strip()).lower().split()
    numbers = (NUMBERS.get(word, word) for word in words)
    return " ".join(APOSTROPHES.get(word, word) for word in numbers if word not in ARTICLES)


def _without_punctuation(text: str) -> str:
    digits = re.search(r"\d,\d", text)
    cleaned = text
    for mark in PUNCTUATION:
        drop = digits or f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if drop else " ")
    return re.sub(r"\.(?!\d)", "", cleaned)
