"""About 1,600 emoji, each drawn by three artists, with Chinese and English names and tags.

Pictures: Noto (Apache-2.0), Twemoji (CC BY 4.0), OpenMoji (CC BY-SA 4.0); names: Unicode CLDR. ``data/README.md`` is
the datasheet, ``data/make_emoji.py`` makes the files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from src.datasets import shipped
from src.datasets.splits import share
from src.runtime import check_choice

STYLES = ("noto", "twemoji", "openmoji")
SIZE = 64
COLUMNS = 41
SALT = "emoji/1"


@dataclass(frozen=True)
class Concept:
    """What one emoji means; codepoint as in ``"1F431"`` or ``"1F469-200D-1F680"``, group and subgroup by Unicode."""

    codepoint: str
    zh: str
    en: str
    zh_tags: tuple[str, ...]
    en_tags: tuple[str, ...]
    group: str
    subgroup: str

    @property
    def character(self) -> str:
        """The emoji itself as text."""
        return "".join(chr(int(code, 16)) for code in self.codepoint.split("-"))


@dataclass(frozen=True)
class Emoji:
    """concepts: N records; images: for each style uint8 ``[N, 4, 64, 64]`` (RGBA), row i drawing ``concepts[i]``."""

    concepts: tuple[Concept, ...]
    images: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.concepts)

    def find(self, *codepoints: str) -> Tensor:
        """Rows int64 ``[len(codepoints)]``; ValueError for a code point that is not in the set."""
        rows = {concept.codepoint: row for row, concept in enumerate(self.concepts)}
        if missing := [code for code in codepoints if code not in rows]:
            raise ValueError(f"codepoints {', '.join(missing)} are not in the set; see data/emoji/emoji.json.")
        return torch.tensor([rows[code] for code in codepoints])


def load(styles: Sequence[str] = STYLES) -> Emoji:
    """The shipped set, at least one style of ``STYLES``.

    Raises ValueError for an unknown style and for a damaged file, FileNotFoundError for a missing one.
    """
    if not styles or set(styles) - set(STYLES):
        raise ValueError(f"styles must be some of {', '.join(STYLES)}, got {', '.join(styles) or 'none'}.")
    concepts = tuple(_concept(record) for record in json.loads(shipped.read("emoji", "emoji.json")))
    images = {style: _cells(shipped.read("emoji", f"{style}.webp"), len(concepts)) for style in styles}
    return Emoji(concepts, images)


def _concept(record: dict) -> Concept:
    tags = {name: tuple(record[name]) for name in ("zh_tags", "en_tags")}
    return Concept(**(record | tags))


def _cells(sheet: bytes, count: int) -> Tensor:
    """The first ``count`` cells of a sheet, uint8 ``[count, 4, 64, 64]``."""
    import io

    import numpy as np
    from PIL import Image

    pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(sheet)).convert("RGBA")))
    rows = pixels.shape[0] // SIZE
    cells = pixels.view(rows, SIZE, COLUMNS, SIZE, 4).permute(0, 2, 4, 1, 3)  # [rows, columns, 4, 64, 64]
    return cells.reshape(-1, 4, SIZE, SIZE)[:count].contiguous()


def split_concepts(concepts: Sequence[Concept], fraction: float = 0.1) -> tuple[Tensor, Tensor]:
    """Rows (seen, unseen), int64: about ``fraction`` of the concepts held out by a hash of their code points."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}; 0.1 holds a tenth out.")
    unseen = torch.tensor([share(concept.codepoint, SALT) < fraction for concept in concepts])
    return (~unseen).nonzero().flatten(), unseen.nonzero().flatten()


def split_styles(unseen: str = "openmoji") -> tuple[tuple[str, ...], str]:
    """(seen styles, unseen style): train on two artists, test on the third."""
    check_choice("unseen", unseen, STYLES)
    return tuple(style for style in STYLES if style != unseen), unseen


def over(pictures: Tensor, background: Tensor | Sequence[int] = (255, 255, 255)) -> Tensor:
    """Lay RGBA pictures uint8 ``[…, 4, H, W]`` over a background uint8 ``[…, 3, H, W]`` or one colour of 0 … 255.

    Returns uint8 ``[…, 3, H, W]``: alpha · colour + (1 − alpha) · background (Porter and Duff, Compositing Digital
    Images, 1984).
    """
    if pictures.dtype != torch.uint8 or pictures.ndim < 3 or pictures.shape[-3] != 4:
        raise ValueError(f"pictures must be uint8 […, 4, H, W], got {pictures.dtype} {list(pictures.shape)}.")
    if not isinstance(background, Tensor):
        background = torch.tensor(background, device=pictures.device).view(3, 1, 1)
    colour, alpha = pictures[..., :3, :, :].float(), pictures[..., 3:, :, :].float() / 255
    return (alpha * colour + (1 - alpha) * background).round().to(torch.uint8)
