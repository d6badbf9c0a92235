"""Templates: what is filled in comes out word for word, never as a place, a brace or a control token."""

import keyword
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.prompts.templates import TASKS, Choice, Template, brace, parse_list, task
from tests.texts import NASTY

NAMES = st.text(string.ascii_letters + "_", min_size=1, max_size=6).filter(lambda name: not keyword.iskeyword(name))


@settings(max_examples=100, deadline=None)
@given(st.lists(NASTY, min_size=1, max_size=4), st.lists(NAMES, min_size=1, max_size=4), st.data())
def test_filling_puts_values_word_for_word(literals, names, data):
    values = {name: data.draw(NASTY) for name in names}
    parts = [brace(text) for text in literals]
    template = Template(parts[0] + "".join(f"{{{n}}}{parts[k % len(parts)]}" for k, n in enumerate(names)))
    expected = literals[0] + "".join(f"{values[n]}{literals[k % len(literals)]}" for k, n in enumerate(names))
    assert template.fill(**values) == expected == template.text.format(**values)
    assert template.fields == tuple(dict.fromkeys(names))
    assert Template(brace(expected)).fill() == expected


@settings(max_examples=60, deadline=None)
@given(NASTY, NASTY, NASTY)
def test_filling_in_two_steps_is_filling_at_once(a, b, literal):
    template = Template("{a}" + brace(literal) + "{b}{a}")
    assert template.partial(a=a).fields == ("b",)
    assert template.partial(a=a).fill(b=b) == template.partial(b=b).fill(a=a) == template.fill(a=a, b=b)


@pytest.mark.parametrize("text", ["{", "}", "a } b", "{text", "text}", "{{text}", "{a}}"])
def test_stray_braces_are_refused(text):
    with pytest.raises(ValueError, match="text: got stray braces in .*write {{ and }}"):
        Template(text)


@pytest.mark.parametrize("place", ["{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a b}", "{a.__class__}"])
def test_places_that_are_more_than_a_name_are_refused(place):
    with pytest.raises(ValueError, match="text: got the place {.*}, expected a plain name"):
        Template(f"x {place}")


def test_missing_unknown_and_other_values_are_refused():
    template = Template("{context} {question}")
    with pytest.raises(ValueError, match="values: got none for question, expected one for each of context, question"):
        template.fill(context="x")
    with pytest.raises(ValueError, match="values: got answer, expected only context, question"):
        template.fill(context="x", question="y", answer="z")
    for value in (None, 3, ["x"]):
        with pytest.raises(TypeError, match="context: got .*, expected a str"):
            template.fill(context=value, question="y")
    with pytest.raises(ValueError, match="expected only no value"):
        Template("no place").fill(text="x")


def test_unsupported_tasks_are_refused():
    for name in TASKS:
        assert task(name).name == name
    with pytest.raises(ValueError, match="task must be one of sentiment, entities, question, got 'translation'"):
        task("translation")


CHOICE = Choice(("negative", "positive"), ((" negative", " bad"), (" positive", " good", " very good")))


def test_choice():
    assert CHOICE.answers == (" negative", " bad", " positive", " good", " very good")
    assert CHOICE.groups == (0, 0, 1, 1, 1)
    assert Choice.of(no=" no", yes=" yes") == Choice(("no", "yes"), ((" no",), (" yes",)))
    turned = CHOICE.ordered(["positive", "negative"])
    assert turned.labels == ("positive", "negative") and turned.words == CHOICE.words[::-1]
    with pytest.raises(ValueError, match="labels: got positive, expected negative, positive in some order"):
        CHOICE.ordered(["positive"])


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (" Positive.", 1),
        ("The sentiment is NEGATIVE!", 0),
        ("very good", 1),
        ("not bad, good", None),
        ("positively", None),
        ("", None),
        ("I cannot say.", None),
        ("negative; bad", 0),
    ],
)
def test_free_replies(reply, expected):
    assert CHOICE.parse(reply) == expected


def test_labels_that_share_a_beginning_are_told_apart():
    choice = Choice.of(art="art", artist="artist", modern=" modern art")
    assert [choice.parse(reply) for reply in ("Art.", "an artist", "Modern art", "art by an artist")] == [0, 1, 2, None]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("a",), (("x",),)),
        (("a", "b"), (("x",),)),
        (("a", "b"), (("x",), ())),
        (("a", "a"), (("x",), ("y",))),
        (("a", "b"), (("x",), (" X",))),
        (("a", "b"), (("x",), (" ",))),
    ],
)
def test_other_choices_are_refused(labels, words):
    with pytest.raises(ValueError, match="words: got"):
        Choice(labels, words)


def test_lists():
    assert parse_list(" Anna Meyer, Paris and the Red Cross.\nText: more") == ("Anna Meyer", "Paris", "the Red Cross")
    assert parse_list("\n Paris; Paris, and Rome") == ("Paris", "Rome")
    assert parse_list("None.") == parse_list("  ") == ()
