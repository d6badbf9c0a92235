"""Prompts from templates: small typed objects that are filled with data and read the answer back (row R16).

Chapter: chapters/prompts/templates.ipynb. A template is trusted text with places for data. What is put there is never
read as a template again, and ``src.tokens`` never turns it into control tokens, whatever it says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import Formatter

from src.runtime import check_choice


@dataclass(frozen=True)
class Template:
    """Text with places: ``Template("Review: {text}\\nSentiment:")``; ``{{`` and ``}}`` stand for braces.

    Raises ValueError for stray braces and for places that are more than a name ("{}", "{0}", "{a.b}", "{a!r}", "{a:>9}").
    """

    text: str

    def __post_init__(self) -> None:
        for _, field, spec, conversion in self._parts:
            if field is not None and (not field.isidentifier() or spec or conversion):
                shown = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                raise ValueError(f"text: got the place {{{shown}}}, expected a plain name such as {{text}}; write {{{{ and "
                                 "}} for braces that are meant as such.")

    @cached_property
    def _parts(self) -> list[tuple[str, str | None, str | None, str | None]]:
        """(literal, field, spec, conversion) one after the other, as string.Formatter reads them."""
        try:
            return list(Formatter().parse(self.text))
        except ValueError as error:
            raise ValueError(f"text: got stray braces in {self.text!r} ({error}), expected each place as {{name}}; write "
                             "{{ and }} for braces that are meant as such, or pass the text through literal().") from None

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the places, each once, in the order in which they first occur."""
        return tuple(dict.fromkeys(field for _, field, _, _ in self._parts if field is not None))

    def fill(self, **values: str) -> str:
        """The text with every place filled, values word for word (their braces mean nothing).

        Raises ValueError for a place without a value and a value without a place, TypeError for a value that is no text.
        """
        self._check(values)
        if missing := [field for field in self.fields if field not in values]:
            raise ValueError(f"values: got none for {', '.join(missing)}, expected one for each of "
                             f"{', '.join(self.fields)}.")
        return "".join(literal + ("" if field is None else values[field]) for literal, field, _, _ in self._parts)

    def partial(self, **values: str) -> Template:
        """The template with some places filled for good, word for word; the others stay open. Raises as ``fill`` does."""
        self._check(values)

        def part(field: str | None) -> str:
            return "" if field is None else brace(values[field]) if field in values else f"{{{field}}}"

        return Template("".join(brace(text) + part(field) for text, field, _, _ in self._parts))

    def _check(self, values: Mapping[str, str]) -> None:
        if unknown := [name for name in values if name not in self.fields]:
            raise ValueError(f"values: got {', '.join(unknown)}, expected only {', '.join(self.fields) or 'no value'}.")
        for name, value in values.items():
            if not isinstance(value, str):
                raise TypeError(f"{name}: got {type(value).__name__} {value!r}, expected a str; turn it into text first.")


def brace(text: str) -> str:
    """Text as it must stand in a template to mean itself: every brace twice."""
    return text.replace("{", "{{").replace("}", "}}")


@dataclass(frozen=True)
class Choice:
    """A closed set of answers: the verbaliser. labels: C names; words: of each label the answers that stand for it.

    Raises ValueError unless there are two labels or more, each with a word, all labels and all words different.
    """

    labels: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        every = self.answers
        if len(self.labels) < 2 or len(self.labels) != len(self.words) or not all(self.words):
            raise ValueError(f"words: got {len(self.words)} groups for {len(self.labels)} labels, expected at least two "
                             "labels and a word for each.")
        if len(set(self.labels)) < len(self.labels) or len({word.strip().lower() for word in every}) < len(every):
            raise ValueError(f"labels, words: got {self.labels} and {every}, expected all different.")
        if not all(word.strip() for word in every):
            raise ValueError(f"words: got {every}, expected no empty one.")

    @classmethod
    def of(cls, **words: str) -> Choice:
        """One word a label: ``Choice.of(negative="bad", positive="good")``."""
        return cls(tuple(words), tuple((word,) for word in words.values()))

    @property
    def answers(self) -> tuple[str, ...]:
        """All K words, label after label."""
        return tuple(word for group in self.words for word in group)

    @property
    def groups(self) -> tuple[int, ...]:
        """The label's place of each of the K words."""
        return tuple(place for place, group in enumerate(self.words) for _ in group)

    def ordered(self, labels: Sequence[str]) -> Choice:
        """The same labels in another order, which a prompt that names them shows."""
        if sorted(labels) != sorted(self.labels):
            raise ValueError(f"labels: got {', '.join(labels)}, expected {', '.join(self.labels)} in some order.")
        return Choice(tuple(labels), tuple(self.words[self.labels.index(label)] for label in labels))

    def parse(self, reply: str) -> int | None:
        """The place of the one label that a free reply names as a whole word, upper or lower case; None when it names
        none or several. A word within a longer one of the set ("good" in "very good") does not count."""
        text, found = reply.lower(), set()
        for word, group in sorted(zip(self.answers, self.groups, strict=True), key=lambda pair: -len(pair[0])):
            pattern = rf"(?<!\w){re.escape(word.strip().lower())}(?!\w)"
            if re.search(pattern, text):
                found.add(group)
                text = re.sub(pattern, "\0", text)
        return found.pop() if len(found) == 1 else None


def parse_list(reply: str) -> tuple[str, ...]:
    """The items of the first line of a reply that lists them with commas or semicolons, without "and", dots and repeats;
    none for "none"."""
    line = next((line for line in reply.splitlines() if line.strip()), "")
    items = (re.sub(r"^(?:and|&)\s+", "", item.strip(" .\t"), flags=re.I) for item in re.split(r"[,;]| and ", line))
    return tuple(dict.fromkeys(item for item in items if item and item.lower() != "none"))


@dataclass(frozen=True)
class Task:
    """What a prompt asks: the template, and the closed set of answers if there is one."""

    name: str
    template: Template
    choice: Choice | None = None


TASKS = {task.name: task for task in (
    Task("sentiment", Template("Is the sentiment of the review positive or negative?\nReview: {text}\nSentiment:"),
         Choice.of(negative=" negative", positive=" positive")),
    Task("entities", Template("List the names of people, places and organisations in the text.\nText: {text}\nNames:")),
    Task("question", Template("Answer the question from the text.\nText: {context}\nQuestion: {question}\nAnswer:")),
)}  # fmt: skip
"""The tasks of the chapter, by name."""


def task(name: str) -> Task:
    """One of ``TASKS``; ValueError, naming them all, for another."""
    check_choice("task", name, TASKS)
    return TASKS[name]
