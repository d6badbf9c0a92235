"""Noisy textual descriptions of CIFAR-10's classes: the second modality of the CIFAR-10 chapter (row R27).

A description names some attributes of the thing in the picture, and some of them are wrong. Attributes are
shared between classes (有轮子 fits a car and a truck), so that text alone cannot tell all classes apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "airplane": ("会飞", "是金属做的", "有引擎", "能载人", "有翅膀"),
    "automobile": ("有轮子", "是金属做的", "有引擎", "能载人", "在路上跑"),
    "bird": ("会飞", "是动物", "有翅膀", "有羽毛", "会叫"),
    "cat": ("是动物", "有毛", "有四条腿", "常养在家里", "会叫"),
    "deer": ("是动物", "有毛", "有四条腿", "吃草", "住在野外"),
    "dog": ("是动物", "有毛", "有四条腿", "常养在家里", "会叫"),
    "frog": ("是动物", "有四条腿", "会游泳", "住在野外", "会叫"),
    "horse": ("是动物", "有毛", "有四条腿", "吃草", "能载人"),
    "ship": ("是金属做的", "有引擎", "能载人", "在水上", "能运货"),
    "truck": ("有轮子", "是金属做的", "有引擎", "能运货", "在路上跑"),
}
VOCABULARY: tuple[str, ...] = tuple(sorted({name for names in ATTRIBUTES.values() for name in names}))


def attribute_table(classes: Sequence[str]) -> Tensor:
    """bool [C, A]: which attribute of `VOCABULARY` each class has.

    Raises:
        ValueError: a class has no attributes here.
    """
    foreign = [name for name in classes if name not in ATTRIBUTES]
    if foreign:
        raise ValueError(f"classes: got {', '.join(foreign)}, expected names among {', '.join(ATTRIBUTES)}")
    return torch.tensor([[name in ATTRIBUTES[c] for name in VOCABULARY] for c in classes])


def attribute_words(
    labels: Tensor, classes: Sequence[str], *, length: int = 3, wrong: float = 0.2, seed: int = 0
) -> Tensor:
    """Draw `length` different attributes for each label; each is a wrong one with probability `wrong`.

    Args:
        labels: int64 [N].
        classes: class names, in the order of the labels.
        wrong: share of words, independently drawn, that name an attribute the class does not have.
        seed: of the draw.

    Returns:
        int64 [N, length], indices into `VOCABULARY`.

    Raises:
        ValueError: `wrong` is no probability, or `length` exceeds what a class has or lacks.
    """
    table = attribute_table(classes)
    most = int(min(table.sum(1).min(), (~table).sum(1).min()))
    if not 0 <= wrong <= 1:
        raise ValueError(f"wrong: got {wrong}, expected a probability from 0 to 1")
    if not 1 <= length <= most:
        raise ValueError(f"length: got {length}, expected 1 to {most} words")
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(len(labels), len(VOCABULARY), generator=generator)
    own = table[labels]  # [N, A]
    true_words = (noise + 2 * ~own).argsort(1)[:, :length]  # [N, length]
    wrong_words = (noise + 2 * own).argsort(1)[:, :length]
    flipped = torch.rand(len(labels), length, generator=generator) < wrong
    return torch.where(flipped, wrong_words, true_words)


def sentence(words: Sequence[int]) -> str:
    """One description as a reader sees it: 这个东西会飞、有引擎、能载人。"""
    return "这个东西" + "、".join(VOCABULARY[int(i)] for i in words) + "。"
