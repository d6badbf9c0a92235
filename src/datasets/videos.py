"""Videos: one to three emoji that move, appear, vanish or stay, and a face that sets the mood, with exact annotations.

What is held out are compositions (thing, event, manner), the manner being slow or fast for a movement and the half of
the picture for the rest. A hash gives a composition to one split; of the two manners of a thing's event at least one
is in training, so that the direction of a movement cannot be guessed from the thing. A training video holds training
compositions only; a validation or test video holds one of its own split at least, and none of the third split.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from src.datasets import emoji
from src.datasets.backgrounds import soft_backgrounds
from src.datasets.splits import SPLITS, share, split_of
from src.datasets.things import THINGS, drawings, emoji_styles, paste, to_bytes
from src.runtime import check_choice

EVENTS = ("left", "right", "up", "down", "appear", "vanish", "stay")
APPEAR, VANISH, STAY = 4, 5, 6
CHANCES = torch.tensor([1.0, 1, 1, 1, 2, 2, 1])
STEPS = torch.tensor([(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0), (0, 0), (0, 0)])
MOODS = ("happy", "sad", "angry", "calm")
CUES = ("face", "colour", "gesture")
FACES = (("1F600", "1F604"), ("1F622", "1F61E"), ("1F621", "1F620"), ("1F60C", "1F634"))
COLOURS = torch.tensor([(1.0, 0.8, 0.2), (0.2, 0.35, 0.8), (0.85, 0.15, 0.1), (0.45, 0.8, 0.5)])
SWAY = 3
MOST = 3
SMALLEST = 48
FRAMES = (8, 16)
BLOCK = 50
TRIES = 48
CLEAR = 0.95
SALT = "videos/1"


@dataclass(frozen=True)
class Videos:
    """N videos of F frames and what they show, each thing in one of three places; unused places hold −1.

    frames: uint8 ``[N, F, 3, S, S]``; things: rows of THINGS, all different, int64 ``[N, 3]``; events: rows of EVENTS,
    int64 ``[N, 3]``; manners: 0 slow or left half, 1 fast or right half, int64 ``[N, 3]``; times: the first frame with
    a thing that appears or without one that vanishes, else −1, int64 ``[N, 3]``; boxes: the drawn part in each frame,
    −1 where it is not to be seen, float ``[N, F, 3, 4]`` as x0, y0, x1, y1 in pixels; moods: the labels, int64 ``[N]``;
    cues: the mood that the face, the colour of the background and the gesture of the face show, int64 ``[N, 3]``;
    styles: rows of emoji.STYLES, int64 ``[N]``.
    """

    frames: Tensor
    things: Tensor
    events: Tensor
    manners: Tensor
    times: Tensor
    boxes: Tensor
    moods: Tensor
    cues: Tensor
    styles: Tensor

    def __len__(self) -> int:
        return len(self.things)


@dataclass(frozen=True)
class Plan:
    """A block of videos before it is painted, as in Videos; path: corners of the squares x, y in pixels, of the things
    and last of the face, int64 ``[B, 4, F, 2]``; faces: rows of `_faces`, int64 ``[B]``."""

    things: Tensor
    events: Tensor
    manners: Tensor
    times: Tensor
    moods: Tensor
    cues: Tensor
    styles: Tensor
    faces: Tensor
    path: Tensor

    def visible(self) -> Tensor:
        """Whether a thing is to be seen in a frame, bool ``[B, 3, F]``."""
        frame, time = torch.arange(self.path.shape[2]), self.times[..., None]
        event = self.events[..., None]
        hidden = ((event == APPEAR) & (frame < time)) | ((event == VANISH) & (frame >= time))
        return (self.things >= 0)[..., None] & ~hidden


def draw(
    split: str, count: int, seed: int = 0, frames: int = 8, size: int = 64, styles: Sequence[str] = emoji.STYLES,
    agreement: float = 1.0,
) -> Videos:
    """``count`` videos of one split, each in one of ``styles``.

    The same arguments give the same videos, and a smaller ``count`` the first of them. frames: 8 … 16; size: pixels,
    at least 48; agreement: the probability, for each cue by itself, that it shows the labelled mood and not one of the
    three others. Raises ValueError for any other argument.
    """
    check_choice("split", split, SPLITS)
    chosen = emoji_styles(styles)
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    if not FRAMES[0] <= frames <= FRAMES[1]:
        raise ValueError(f"frames must lie between {FRAMES[0]} and {FRAMES[1]}, got {frames}.")
    if size < SMALLEST:
        raise ValueError(f"size must be at least {SMALLEST} pixels, got {size}: smaller things cannot be recognised.")
    if not 0 <= agreement <= 1:
        raise ValueError(f"agreement must be a probability from 0 to 1, got {agreement}.")
    blocks = [_block(split, _seed(split, seed, number), frames, size, chosen, agreement)
              for number in range(-(-count // BLOCK))]
    return Videos(*(torch.cat(parts)[:count] for parts in zip(*blocks, strict=True)))


def _seed(split: str, seed: int, number: int) -> int:
    return 3 * (1_000_003 * seed + number) + SPLITS.index(split)


def _block(split: str, seed: int, frames: int, size: int, styles: Tensor, agreement: float) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    plan = make_plan(random, split, frames, size, styles, agreement)
    return (paint(random, plan, size), plan.things, plan.events, plan.manners, plan.times, _boxes(plan, size),
            plan.moods, plan.cues, plan.styles)


def make_plan(
    random: torch.Generator, split: str, frames: int, size: int, styles: Tensor, agreement: float
) -> Plan:
    """Choose what happens in `BLOCK` videos."""
    things, events, manners = _choose_events(random, split)
    times = torch.randint(1, frames - 1, (BLOCK, MOST), generator=random)
    times = times.where((events == APPEAR) | (events == VANISH), -1)
    moods = torch.randint(len(MOODS), (BLOCK,), generator=random)
    other = (moods[:, None] + torch.randint(1, len(MOODS), (BLOCK, len(CUES)), generator=random)) % len(MOODS)
    cues = moods[:, None].where(torch.rand(BLOCK, len(CUES), generator=random) < agreement, other)
    faces = len(FACES[0]) * cues[:, 0] + torch.randint(len(FACES[0]), (BLOCK,), generator=random)
    style = styles[torch.randint(len(styles), (BLOCK,), generator=random)]
    path = _choose_path(random, things, events, manners, cues[:, 2], frames, size)
    return Plan(things, events, manners, times, moods, cues, style, faces, path)


def _choose_events(random: torch.Generator, split: str) -> tuple[Tensor, Tensor, Tensor]:
    """things, events, manners, int64 ``[BLOCK, 3]``, −1 for none."""
    own = motion_splits() == SPLITS.index(split)  # [C, E, 2]
    may = own | (motion_splits() == 0)
    order = torch.rand(BLOCK, len(THINGS), generator=random)
    events = torch.multinomial(CHANCES, BLOCK * MOST, replacement=True, generator=random).view(BLOCK, MOST)
    if split != "train":
        pick = own.nonzero()[torch.randint(int(own.sum()), (BLOCK,), generator=random)]  # [B, 3]
        order.scatter_(1, pick[:, :1], 1.0)
        events[:, 0] = pick[:, 1]
    things = order.argsort(1, descending=True)[:, :MOST]
    manners = (torch.rand(BLOCK, MOST, 2, generator=random) * may[things, events]).argmax(2)
    if split != "train":
        manners[:, 0] = pick[:, 2]
    here = torch.arange(MOST) <= torch.randint(MOST, (BLOCK, 1), generator=random)
    return things.where(here, -1), events.where(here, -1), manners.where(here, -1)


def _choose_path(
    random: torch.Generator, things: Tensor, events: Tensor, manners: Tensor, gesture: Tensor, frames: int, size: int
) -> Tensor:
    """Corners int64 ``[BLOCK, 4, F, 2]`` inside the picture; nothing covers anything else if there is room."""
    width, side, progress = size // 4, size // 8, torch.linspace(0, 1, frames)[:, None]
    corner = torch.randint(2, (BLOCK, 1, 1, 2), generator=random) * (size - width - 2 * SWAY) + SWAY
    placed = corner + _gestures(frames)[gesture][:, None]  # [B, 1, F, 2]
    for k in range(MOST):
        distance = torch.where(manners[:, k] == 1, size // 2, size // 6)
        travel = (STEPS[events[:, k]] * distance[:, None])[:, None]  # [B, 1, 2]
        low, high = (-travel).clamp(min=0), size - width - travel.clamp(min=0)
        resting, right = (events[:, k] >= APPEAR)[:, None], (manners[:, k] == 1)[:, None]
        low[..., 0] = torch.where(resting & right, (size - width + side) // 2, low[..., 0])
        high[..., 0] = torch.where(resting & ~right, (size - width - side) // 2, high[..., 0])
        start = low + (torch.rand(BLOCK, TRIES, 2, generator=random) * (high - low + 1)).long()
        path = start[:, :, None] + (travel[:, :, None] * progress).round().long()  # [B, T, F, 2]
        gap = (path[:, :, None] - placed[:, None]).abs().amax(-1).amin((2, 3)) / width  # [B, T]
        best = (gap.clamp(max=CLEAR) - 1e-6 * torch.arange(TRIES)).argmax(1)
        placed = torch.cat([placed, path[torch.arange(BLOCK), best][:, None]], dim=1)
    return placed.roll(-1, 1)


def _gestures(frames: int) -> Tensor:
    """How the face of each mood moves, in pixels: jumps, sinks, shakes its head, keeps still; int64 ``[4, F, 2]``."""
    frame, moves = torch.arange(frames), torch.zeros(len(MOODS), frames, 2, dtype=torch.int64)
    moves[0, :, 1] = torch.tensor([0, -SWAY])[frame % 2]
    moves[1, :, 1] = frame * SWAY // (frames - 1)
    moves[2, :, 0] = torch.tensor([-SWAY, SWAY])[frame % 2]
    return moves


def _boxes(plan: Plan, size: int) -> Tensor:
    inside = drawings(size // 4).boxes[plan.styles[:, None], plan.things]  # [B, 3, 4]
    boxes = inside[:, :, None] + plan.path[:, :MOST].repeat(1, 1, 1, 2)
    return boxes.where(plan.visible()[..., None], -1).transpose(1, 2).float()


def _faces(width: int) -> Tensor:
    return drawings(width, tuple(code for codes in FACES for code in codes)).patches


def paint(random: torch.Generator, plan: Plan, size: int) -> Tensor:
    """Background in the colour of the mood, the things, the face and noise, uint8 ``[BLOCK, F, 3, size, size]``."""
    frames, width = plan.path.shape[2], size // 4
    texture = soft_backgrounds(random, BLOCK, size).mean(1, keepdim=True)
    ground = 0.5 * texture + 0.5 * COLOURS[plan.cues[:, 1]][:, :, None, None]
    images = ground.repeat_interleave(frames, 0)  # [B·F, 3, S, S]
    seen = torch.cat([plan.visible(), torch.ones(BLOCK, 1, frames, dtype=torch.bool)], dim=1)
    for k in range(MOST + 1):
        video, frame = seen[:, k].nonzero(as_tuple=True)
        style = plan.styles[video]
        patches = _faces(width)[style, plan.faces[video]] if k == MOST else (
            drawings(width).patches[style, plan.things[video, k]])
        paste(images, video * frames + frame, patches, *plan.path[video, k, frame].unbind(1))
    images += 0.06 * (torch.rand(BLOCK * frames, 1, size, size, generator=random) - 0.5)
    return to_bytes(images).view(BLOCK, frames, 3, size, size)


@functools.cache
def motion_splits() -> Tensor:
    """The split of each (thing, event, manner) as a row of SPLITS, int64 ``[C, 7, 2]``; never both manners held out."""
    table = torch.zeros(len(THINGS), len(EVENTS), 2, dtype=torch.int64)
    for row, thing in enumerate(THINGS):
        for column, event in enumerate(EVENTS):
            item = f"{thing.codepoint} {event}"
            manner = int(share(f"{item} manner", SALT) < 0.5)
            table[row, column, manner] = SPLITS.index(split_of(item, SALT, 0.2, 0.2))
    return table


def compositions(videos: Videos) -> set[tuple[int, int, int]]:
    """All (row of THINGS, row of EVENTS, manner) that occur."""
    rows = torch.stack([videos.things, videos.events, videos.manners], dim=-1)[videos.things >= 0]
    return {tuple(row) for row in rows.tolist()}
