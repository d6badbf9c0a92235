"""Instruction data against brute force, closed forms and planted defects."""

import dataclasses

import pytest

from src.datasets.instructions import Instruction
from src.instructions import data

ITEM = Instruction("sort", "Sort these numbers.", "3, 1, 2", "1, 2, 3", 0, "en")


def test_messages_put_the_input_below_the_instruction():
    assert data.messages(ITEM) == [{"role": "system", "content": data.SYSTEM},
                                   {"role": "user", "content": "Sort these numbers.\n3, 1, 2"}]  # fmt: skip
    spoken = dataclasses.replace(ITEM, input="")
    assert data.messages(spoken, system="") == [{"role": "user", "content": "Sort these numbers."}]


def test_messages_refuse_an_empty_instruction():
    with pytest.raises(ValueError, match="item.instruction: got ' '"):
        data.messages(dataclasses.replace(ITEM, instruction=" "))
