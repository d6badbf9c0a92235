"""VQA v2's format and its accuracy: cases worked out by hand, the official normal form, what is refused."""

import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from src.datasets import coco, vqa
from src.datasets.splits import SPLITS
from src.runtime import data_dir

FOLDER = data_dir() / "samples" / "vqa"
QUESTIONS, ANNOTATIONS = "v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the sample that a test may spoil."""
    return shutil.copytree(FOLDER, tmp_path / "vqa")


def load(folder: Path) -> vqa.Vqa:
    return vqa.load(folder / QUESTIONS, folder / ANNOTATIONS, images=folder / "val2014")


def test_sample():
    found = vqa.load_sample()
    assert len(found) == 24
    image, question = found[8]
    assert image.shape == (3, 120, 160) and image.dtype == torch.uint8
    assert (question.text, question.answer) == ("How many bananas are there?", "1")
    assert (question.answer_type, question.question_type) == ("number", "how many")
    assert question.path.name == "COCO_val2014_000000900003.jpg" and Counter(question.answers) == {"1": 9, "2": 1}
    assert {question.answer_type for question in found.questions} == {"yes/no", "number", "other"}
    for question in found.questions:
        assert Counter(question.answers).most_common(1)[0][0] == question.answer
        assert question.text.lower().startswith(question.question_type)


def test_without_answers():
    found = vqa.load(FOLDER / QUESTIONS, images=FOLDER / "val2014")
    assert len(found) == 24 and {question.answers for question in found.questions} == {()}


@pytest.mark.parametrize(
    ("subtype", "number", "name"),
    [
        ("train2014", 9, "COCO_train2014_000000000009.jpg"),
        ("val2014", 581929, "COCO_val2014_000000581929.jpg"),
        ("test2015", 1, "COCO_test2015_000000000001.jpg"),
        ("test-dev2015", 1, "COCO_test2015_000000000001.jpg"),
    ],
)
def test_file_names(subtype, number, name):
    assert vqa.file_name(subtype, number) == name


def test_pictures_fall_into_the_same_split_as_in_coco():
    questions = tuple(vqa.VisualQuestion(1000 * n + k, n, Path(), "?") for n in range(1000) for k in range(2))
    pictures = tuple(coco.Picture(number, Path(), 1, 1, (), ()) for number in range(1000))
    parts = {name: {q.image_id for q in vqa.Vqa(questions).split(name).questions} for name in SPLITS}
    assert sum(map(len, parts.values())) == 1000
    for name in SPLITS:
        assert parts[name] == {picture.id for picture in coco.Coco(pictures, ()).split(name).pictures}
        assert len(vqa.Vqa(questions).split(name)) == 2 * len(parts[name])


@pytest.mark.parametrize(("matching", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_accuracy_by_hand(matching, expected):
    """With 2 of 10: 8 of the subsets keep both (2/3), 2 keep one (1/3): 8/10 · 2/3 + 2/10 · 1/3 = 0.6."""
    assert vqa.accuracy("cat", ["cat"] * matching + ["dog"] * (10 - matching)) == pytest.approx(expected, abs=1e-12)


def test_accuracy_is_the_mean_over_subsets_of_nine():
    for given in itertools.product("ab", repeat=10):
        subsets = [min(subset.count("b") / 3, 1) for subset in itertools.combinations(given, 9)]
        assert vqa.accuracy("b", given) == pytest.approx(sum(subsets) / 10)


def test_accuracy_normalises_both_sides():
    assert vqa.accuracy("The Two cats.", ["2 cats"] * 5 + ["a cat"] * 5) == 1
    assert vqa.accuracy("cat", ["A cat"] * 2 + ["cat,"] + ["dog"] * 7) == pytest.approx(0.9)
    assert vqa.accuracy("two", ["two"] * 10) == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Cat", "cat"), ("an apple on a table", "apple on table"), ("two", "2"), ("None", "0"),
        ("ten dogs", "10 dogs"),
        ("eleven", "eleven"), ("dont know", "don't know"), ("couldnt've", "couldn't've"), ("youre", "you're"),
        ("it's", "it's"), ("mans hat", "mans hat"), ("T.V.", "tv"), ("3.5", "3.5"), ("yes.", "yes"), ("1,000", "1000"),
        ("red, white", "red white"), ("red,white", "red white"), ("t-shirt", "t shirt"), ("yes!", "yes"),
        ("10:30", "10:30"),
        ("black/white", "black white"), ("black / white", "black white"), ("1,5 (left-hand)", "15 lefthand"),
        ("  on\tthe\nleft ", "on left"), ("", ""), ("the", ""),
    ],
)  # fmt: skip
def test_normal_form(answer, expected):
    """The third row from the end: a comma inside a number makes the official program drop all punctuation."""
    assert vqa.normalise(answer) == expected


def test_the_contractions_are_as_many_as_in_the_official_table():
    """Of its entries 114 are in lower case and change the word."""
    assert len(vqa.APOSTROPHES) == 114 and vqa.APOSTROPHES["y'alld've"] == "y'all'd've"
    assert not {"its", "were", "shed", "ill", "lets"} & vqa.APOSTROPHES.keys()


def test_accuracy_needs_ten_answers():
    with pytest.raises(ValueError, match="answers must be 10 texts, got 3"):
        vqa.accuracy("cat", ["cat"] * 3)
    with pytest.raises(ValueError, match="answers must be 10 texts"):
        vqa.accuracy("cat", "ten chars.")


def nine_answers(content):
    content["annotations"][0]["answers"].pop()


def no_answer_type(content):
    del content["annotations"][0]["answer_type"]


def annotation_twice(content):
    content["annotations"].append(content["annotations"][0])


def annotation_missing(content):
    content["annotations"].pop()


def other_picture(content):
    content["annotations"][0]["image_id"] = 3


def no_annotations(content):
    content["questions"] = content.pop("annotations")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nine_answers, "question 900001000 has 9 answers, expected 10"),
        (no_answer_type, "a record lacks one of image_id, answers, multiple_choice_answer, answer_type"),
        (annotation_twice, "question_id 900001000 occurs twice"),
        (annotation_missing, "differ in 1 questions, such as 900008002: take both from the same split"),
        (other_picture, "question 900001000 is about picture 3, in the question file about 900001"),
        (no_annotations, "has no list annotations, but .*questions"),
    ],
)
def test_bad_annotations_are_refused(copied, spoil, message):
    path = copied / ANNOTATIONS
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load(copied)


def test_bad_questions_are_refused(copied):
    path = copied / QUESTIONS
    whole = path.read_text()
    for text, message in (
        (whole.replace('"data_subtype"', '"subtype"'), "a record lacks one of data_subtype, questions"),
        (whole.replace('"question": "What is in', '"asks": "What is in'), "a record lacks one of image_id, question"),
        (whole[:-200], "is no valid JSON"),
        ("3", "holds a JSON int, expected an object"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            load(copied)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{QUESTIONS} is missing"):
        load(copied)


def test_a_missing_picture_shows_when_it_is_read(copied):
    found = load(copied)
    found.questions[0].path.unlink()
    with pytest.raises(FileNotFoundError, match=r"COCO_val2014_000000900001\.jpg is missing"):
        found[0]
    assert found[3][0].shape == (3, 120, 160)
