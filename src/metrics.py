"""Numbers that judge a classifier, and their mean over seeds; checked against scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_sd(values: Sequence[float] | Tensor) -> tuple[float, float]:
    """Mean and sample standard deviation (n − 1) of all values, in float64; ``approx`` prints the pair.

    Raises ValueError for less than two values, which have no spread.
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    if values.numel() < 2:
        raise ValueError(f"values: got {values.numel()}, expected at least two.")
    return values.mean().item(), values.std().item()


def confusion_matrix(targets: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Counts [classes, classes]: row = true class, column = predicted class.

    Args:
        targets, predictions: int64 [N], values 0 … classes − 1.

    Raises:
        ValueError: lengths differ or a value lies outside.
    """
    if targets.shape != predictions.shape:
        raise ValueError(f"predictions: got {tuple(predictions.shape)}, expected {tuple(targets.shape)} like targets")
    for name, values in (("targets", targets), ("predictions", predictions)):
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise ValueError(f"{name}: got {int(values.min())} … {int(values.max())}, expected 0 … {classes - 1}")
    return torch.bincount(targets * classes + predictions, minlength=classes**2).view(classes, classes)


def per_class_accuracy(confusion: Tensor) -> Tensor:
    """Share of each true class that was predicted right, [C]; nan for a class without examples."""
    return confusion.diagonal() / confusion.sum(1)
