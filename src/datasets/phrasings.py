"""Choose among several wordings of one statement: the first four are seen in training, the others held out."""

from __future__ import annotations

import random
from collections.abc import Sequence

from src.datasets.things import Thing

SEEN = 4


def choose(wordings: Sequence[object], held_out: bool, chance: random.Random) -> int:
    """A random index among the first `SEEN` wordings, or among the others when ``held_out``."""
    return chance.randrange(SEEN, len(wordings)) if held_out else chance.randrange(SEEN)


def fields(language: str, **things: Thing) -> dict[str, str]:
    """What a wording may say of each thing ``x``: {x} its name, {n_x} Chinese measure word, {a_x} English name with its
    article, {x_s} English plural."""
    found = {}
    for key, thing in things.items():
        found |= {key: thing.name(language), f"n_{key}": thing.measure, f"a_{key}": thing.a, f"{key}_s": thing.plural}
    return found
