"""Questions about a picture, a recording, or both, and how they are drawn for training and examination (row R26).

Chapter: chapters/instructions/multimodal.ipynb. In English, as the language model that reads them. The pictures are scenes
(``src.datasets.scenes``), the recordings spoken things and commands (``src.datasets.speech``).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from src.datasets import scene_language, speech
from src.datasets.instruction_wordings import SEEN, WORDINGS
from src.datasets.scene_wordings import CELLS
from src.datasets.scenes import Scenes
from src.datasets.things import THINGS
from src.features.audio import log_mel

SEEING = ("what", "where", "count", "exists", "relation")
HEARING = ("spoken_thing", "spoken_command", "spoken_where")
KINDS = SEEING + HEARING
FRAMES = 96
"""Frames of 10 ms that a recording is cut or filled to."""

SHARE = {"count": 3.0, "exists": 0.8}
"""How often training asks a kind of question, the others being 1."""


@dataclass(frozen=True)
class Item:
    """A question and its answer; picture, sound: their rows, None without one."""

    kind: str
    text: str
    answer: str
    picture: int | None = None
    sound: int | None = None


@dataclass(frozen=True)
class Heard:
    """M recordings: mel, log-mel spectra ``[M, 40, 96]``; words, what is said; sorts, ``"thing"`` or ``"command"``."""

    mel: Tensor
    words: tuple[str, ...]
    sorts: tuple[str, ...]


def hear(split: str) -> Heard:
    """The English things and commands of the voices of one split."""
    parts = {sort: speech.load(sort, "en", split) for sort in ("thing", "command")}
    said = [(spectrum(wave), word, sort) for sort, part in parts.items()
            for wave, word in zip(part.waves, part.words, strict=True)]
    mel, words, sorts = zip(*said, strict=True)
    return Heard(torch.stack(mel), words, sorts)


def spectrum(wave: Tensor) -> Tensor:
    """Waveform ``[T]`` at ``speech.RATE`` → log-mel spectrum ``[40, 96]`` of mean 0 and deviation 1 before it is cut, or
    filled with its least value."""
    m = log_mel(wave, speech.RATE).T
    m = (m - m.mean()) / m.std()
    return F.pad(m, (0, max(0, FRAMES - m.shape[1])), value=m.min().item())[:, :FRAMES]


def see(
    drawn: Scenes, seed: int, held_out: bool = False, wordings: Mapping[str, Sequence[str]] | None = None
) -> list[Item]:
    """Questions of the kinds ``SEEING``; held_out: two wordings a kind that training should not see, instead of four;
    wordings: those to choose from instead of either."""
    asked = scene_language.questions(drawn, SEEING, "en", held_out, seed, wordings)
    return [Item(question.kind, question.text, question.answer, question.item) for question in asked]


def listen(drawn: Scenes, heard: Heard, seed: int, held_out: bool = False) -> list[Item]:
    """Questions of the kinds ``HEARING``: what each recording says, and where in a scene the thing is that one names.

    held_out: two wordings a kind that training should not see, instead of five.
    """
    chance, rows, found = random.Random(seed), defaultdict(list), []

    def put(kind: str, answer: str, picture: int | None, sound: int) -> None:
        texts = WORDINGS["en"][kind]
        text = chance.choice(texts[SEEN:] if held_out else texts[:SEEN])
        found.append(Item(kind, text, answer, picture, sound))

    for row, (word, sort) in enumerate(zip(heard.words, heard.sorts, strict=True)):
        put(f"spoken_{sort}", word, None, row)
        rows[sort, word].append(row)
    for picture, (things, cells) in enumerate(zip(drawn.things.tolist(), drawn.cells.tolist(), strict=True)):
        for thing, cell in zip(things, cells, strict=True):
            if thing >= 0 and things.count(thing) == 1:
                sound = chance.choice(rows["thing", THINGS[thing].en])
                put("spoken_where", CELLS["en"][cell], picture, sound)
    return found


def exam(drawn: Scenes, heard: Heard, most: int, held_out: bool = False) -> list[Item]:
    """`few` of the questions about the scenes and recordings."""
    return few(see(drawn, 1, held_out) + listen(drawn, heard, 1, held_out), most)


def few(asked: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` questions of each of ``KINDS``, the same ones every time."""
    chance, by = random.Random(0), defaultdict(list)
    for item in asked:
        by[item.kind].append(item)
    return [item for kind in KINDS for item in chance.sample(by[kind], min(most, len(by[kind])))]


def vary(x: Tensor, g: torch.Generator) -> Tensor:
    """Spectra ``[M, bands, T]``, each with its bands moved by up to two, its time stretched by up to a fifth and moved by up
    to four frames, and with noise."""
    M, bands, T = x.shape
    band = torch.arange(bands) + torch.randint(-2, 3, (M, 1), generator=g)
    x = x.gather(1, band.clamp(0, bands - 1)[:, :, None].expand(x.shape))
    speed = 0.8 + 0.4 * torch.rand(M, 1, generator=g)
    time = (torch.arange(T) - 4 * torch.rand(M, 1, generator=g)) * speed
    time = time.round().long().clamp(0, T - 1)[:, None]  # [M, 1, T]
    x = x.gather(2, time.expand(x.shape))
    return x + 0.2 * torch.randn(x.shape, generator=g)


def hide(x: Tensor, g: torch.Generator, bands: int = 8, frames: int = 16) -> Tensor:
    """Spectra ``[M, F, T]``, in each up to ``bands`` neighbouring bands and up to ``frames`` neighbouring frames set to its
    mean (SpecAugment, Park et al., 2019)."""
    gone = torch.zeros_like(x, dtype=torch.bool)
    for axis, most in ((1, bands), (2, frames)):
        length = torch.randint(most + 1, (len(x), 1), generator=g)
        begin = torch.randint(x.shape[axis], (len(x), 1), generator=g)
        place = torch.arange(x.shape[axis])
        gone |= ((place >= begin) & (place < begin + length)).unsqueeze(3 - axis)
    return torch.where(gone, x.mean((1, 2), keepdim=True), x)


@dataclass(frozen=True)
class Pool:
    """What training draws from.

    questions: row of the picture, None for none → kind → questions; pictures: pixels uint8 or features ``[N, …]``;
    mel: spectra ``[M, 40, 96]``.
    """

    questions: Mapping[int | None, Mapping[str, Sequence[Item]]]
    pictures: Tensor
    mel: Tensor


def pool(asked: Sequence[Item], pictures: Tensor, mel: Tensor) -> Pool:
    """The questions put in order by picture and kind."""
    found: dict[int | None, dict[str, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for item in asked:
        found[item.picture][item.kind].append(item)
    return Pool(found, pictures, mel)


def draw_rows(now: Pool, kinds: Sequence[str], count: int, each: int, chance: random.Random) -> list[list[Item]]:
    """``count`` rows of up to ``each`` questions about one picture; with ``spoken_thing`` among the kinds, every second
    time, by chance, a row more about recordings alone. Raises ValueError for more rows than pictures."""
    pictures = [picture for picture in now.questions if picture is not None]
    if not 1 <= count <= len(pictures):
        raise ValueError(f"count: got {count}, expected 1 … {len(pictures)}, the pictures with a question.")
    rows = [_pick(now.questions[picture], kinds, each, chance) for picture in chance.sample(pictures, count)]
    if "spoken_thing" in kinds and chance.random() < 0.5:
        rows.append(_pick(now.questions[None], HEARING[:2], each, chance))
    return [row for row in rows if row]


def _pick(found: Mapping[str, Sequence[Item]], kinds: Sequence[str], each: int, chance: random.Random) -> list[Item]:
    """Up to ``each`` questions, none put back: first a kind by `SHARE`, then a question of it."""
    left = {kind: chance.sample(found[kind], len(found[kind])) for kind in kinds if found.get(kind)}
    row: list[Item] = []
    while left and len(row) < each:
        kind = chance.choices([*left], [SHARE.get(kind, 1) for kind in left])[0]
        row.append(left[kind].pop())
        if not left[kind]:
            del left[kind]
    return row
