"""Forty everyday things with short Chinese and English names, and their drawings cut out and scaled for pasting.

Chosen by eye from the emoji: each can be told from the others in all three styles at 20 pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from src.datasets import emoji

CATEGORIES = ("animal", "food", "vehicle", "nature", "object")
FAINTEST = 1 / 255


class Thing(NamedTuple):
    """codepoint as in emoji.Concept; measure: the Chinese measure word; category: one of `CATEGORIES`."""

    codepoint: str
    zh: str
    measure: str
    en: str
    plural: str
    category: str

    @property
    def a(self) -> str:
        """The English name with its article: ``"an apple"``."""
        return f"{'an' if self.en[0] in 'aeiou' else 'a'} {self.en}"

    def name(self, language: str) -> str:
        """The bare name, ``"猫"`` or ``"cat"``."""
        return self.zh if language == "zh" else self.en


THINGS = (
    Thing("1F431", "猫", "只", "cat", "cats", "animal"),
    Thing("1F436", "狗", "只", "dog", "dogs", "animal"),
    Thing("1F43C", "熊猫", "只", "panda", "pandas", "animal"),
    Thing("1F437", "猪", "头", "pig", "pigs", "animal"),
    Thing("1F438", "青蛙", "只", "frog", "frogs", "animal"),
    Thing("1F430", "兔子", "只", "rabbit", "rabbits", "animal"),
    Thing("1F414", "鸡", "只", "chicken", "chickens", "animal"),
    Thing("1F427", "企鹅", "只", "penguin", "penguins", "animal"),
    Thing("1F986", "鸭子", "只", "duck", "ducks", "animal"),
    Thing("1F41F", "鱼", "条", "fish", "fish", "animal"),
    Thing("1F422", "乌龟", "只", "turtle", "turtles", "animal"),
    Thing("1F98B", "蝴蝶", "只", "butterfly", "butterflies", "animal"),
    Thing("1F34E", "苹果", "个", "apple", "apples", "food"),
    Thing("1F34C", "香蕉", "根", "banana", "bananas", "food"),
    Thing("1F353", "草莓", "颗", "strawberry", "strawberries", "food"),
    Thing("1F349", "西瓜", "块", "watermelon", "watermelons", "food"),
    Thing("1F34A", "橙子", "个", "orange", "oranges", "food"),
    Thing("1F34B", "柠檬", "个", "lemon", "lemons", "food"),
    Thing("1F955", "胡萝卜", "根", "carrot", "carrots", "food"),
    Thing("1F354", "汉堡", "个", "hamburger", "hamburgers", "food"),
    Thing("1F370", "蛋糕", "块", "cake", "cakes", "food"),
    Thing("1F369", "甜甜圈", "个", "doughnut", "doughnuts", "food"),
    Thing("1F697", "汽车", "辆", "car", "cars", "vehicle"),
    Thing("1F6B2", "自行车", "辆", "bicycle", "bicycles", "vehicle"),
    Thing("1F682", "火车", "列", "train", "trains", "vehicle"),
    Thing("2708", "飞机", "架", "plane", "planes", "vehicle"),
    Thing("1F680", "火箭", "枚", "rocket", "rockets", "vehicle"),
    Thing("26F5", "帆船", "艘", "boat", "boats", "vehicle"),
    Thing("1F333", "树", "棵", "tree", "trees", "nature"),
    Thing("1F33B", "向日葵", "朵", "sunflower", "sunflowers", "nature"),
    Thing("1F344", "蘑菇", "个", "mushroom", "mushrooms", "nature"),
    Thing("2B50", "星星", "颗", "star", "stars", "nature"),
    Thing("1F319", "月亮", "个", "moon", "moons", "nature"),
    Thing("1F3E0", "房子", "座", "house", "houses", "object"),
    Thing("26BD", "足球", "个", "soccer ball", "soccer balls", "object"),
    Thing("2764", "红心", "颗", "heart", "hearts", "object"),
    Thing("1F511", "钥匙", "把", "key", "keys", "object"),
    Thing("2602", "雨伞", "把", "umbrella", "umbrellas", "object"),
    Thing("1F451", "皇冠", "顶", "crown", "crowns", "object"),
    Thing("1F381", "礼物", "份", "gift", "gifts", "object"),
)


@dataclass(frozen=True)
class Drawings:
    """patches: premultiplied colour and alpha, float ``[styles, C, 4, W, W]`` in 0 … 1, as large as the square allows;
    boxes: where in the square something is drawn, int64 ``[styles, C, 4]`` as x0, y0, x1, y1."""

    patches: Tensor
    boxes: Tensor


@functools.cache
def drawings(width: int, codepoints: tuple[str, ...] = tuple(thing.codepoint for thing in THINGS)) -> Drawings:
    """The emoji of ``codepoints`` in all of emoji.STYLES, cut out and scaled to ``width`` pixels (the longer side)."""
    found = emoji.load()
    rows = found.find(*codepoints)
    patches = torch.stack([torch.stack([_fit(picture, width) for picture in found.images[style][rows]])
                           for style in emoji.STYLES])
    return Drawings(patches, _extent(patches[:, :, 3] > 0))


def _fit(picture: Tensor, width: int) -> Tensor:
    """uint8 RGBA ``[4, 64, 64]`` → premultiplied float ``[4, width, width]``: what is drawn fills the square."""
    values = picture.float() / 255
    values[:3] *= values[3:]
    x0, y0, x1, y1 = _extent(values[3] > 0).tolist()
    cut, longest = values[:, y0:y1, x0:x1], max(x1 - x0, y1 - y0)
    shape = [max(1, round(side * width / longest)) for side in cut.shape[1:]]
    scaled = F.interpolate(cut[None], shape, mode="bilinear", antialias=True)[0].clamp_(0, 1)
    top, left = ((width - side) // 2 for side in shape)
    square = torch.zeros(4, width, width)
    square[:, top:top + shape[0], left:left + shape[1]] = scaled * (scaled[3:] >= FAINTEST)
    return square


def _extent(drawn: Tensor) -> Tensor:
    """bool ``[…, H, W]`` → int64 ``[…, 4]``: the smallest box x0, y0, x1, y1 (ends excluded) around what is true."""
    ends = []
    for axis in (-2, -1):
        along = drawn.any(axis).int()  # [..., W], then [..., H]
        ends.append((along.argmax(-1), along.shape[-1] - along.flip(-1).argmax(-1)))
    (x0, x1), (y0, y1) = ends
    return torch.stack([x0, y0, x1, y1], dim=-1)


def paste(images: Tensor, rows: Tensor, patches: Tensor, left: Tensor, top: Tensor) -> None:
    """Lay premultiplied patches ``[P, 4, W, W]`` over ``images`` float ``[N, 3, H, W]`` in place, one a picture.

    rows: the picture of each patch, int64 ``[P]``, all different; left, top: its corner in pixels, int64 ``[P]``,
    wholly inside the picture.
    """
    height, width = images.shape[-2:]
    along = torch.arange(patches.shape[-1])
    y, x = top[:, None, None] + along[:, None], left[:, None, None] + along
    planes = (3 * rows[:, None] + torch.arange(3))[:, :, None, None] * (height * width)
    index = planes + (y * width + x)[:, None]  # [P, 3, W, W]
    behind = images.take(index)
    images.put_(index, torch.addcmul(behind + patches[:, :3], behind, patches[:, 3:], value=-1))


def emoji_styles(styles: Sequence[str]) -> Tensor:
    """Rows int64 of ``styles`` in emoji.STYLES; ValueError for an unknown one or none."""
    if not styles or set(styles) - set(emoji.STYLES):
        raise ValueError(f"styles must be some of {', '.join(emoji.STYLES)}, got {', '.join(styles) or 'none'}.")
    return torch.tensor([emoji.STYLES.index(style) for style in styles])


def to_bytes(images: Tensor) -> Tensor:
    """float in 0 … 1 → uint8, in place."""
    return images.mul_(255).round_().clamp_(0, 255).to(torch.uint8)
