"""Instruction data: an instruction as chat messages (row R22).

Chapter: chapters/instructions/data.ipynb.
"""

from __future__ import annotations

from src.datasets.instructions import Instruction

SYSTEM = "Answer briefly."
"""The system message; without one SmolLM2's chat template puts its own, longer one in front of every example."""


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
