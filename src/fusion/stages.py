"""Early, late and hybrid fusion: where the modalities meet (row R08).

Chapter: chapters/fusion/stages.ipynb, equations (eq-stages-early), (eq-stages-late), (eq-stages-hybrid),
(eq-stages-product).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.runtime import check_finite


def checked(
    x: Sequence[Tensor], dims: Sequence[int], present: Sequence[bool] | None
) -> tuple[list[Tensor], list[bool]]:
    """x and its flags as lists, after comparing the shapes with [B, D_i]; without flags everything is present.

    Raises:
        ValueError: another number of modalities, another width, different numbers of examples, another number of flags,
            nothing present, or NaN or infinite values in what is present.
    """
    shapes = [list(each.shape) for each in x]
    if [shape[1:] for shape in shapes] != [[dim] for dim in dims] or len({shape[0] for shape in shapes}) != 1:
        raise ValueError(f"x: got {shapes}, expected [B, D_i] with the same B and D_i = {list(dims)}")
    present = [True] * len(x) if present is None else list(present)
    if len(present) != len(x) or not any(present):
        raise ValueError(f"present: got {present}, expected {len(x)} flags, at least one of them true")
    check_finite(**{f"x[{i}]": each for i, (each, here) in enumerate(zip(x, present, strict=True)) if here})
    return list(x), present


def widths(dims: Sequence[int]) -> tuple[int, ...]:
    """dims as a tuple; ValueError where there is none."""
    if not dims:
        raise ValueError("dims: got no width, expected at least one modality")
    return tuple(dims)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """x → W₂ relu(W₁ x + b₁) + b₂, [B, inputs] → [B, outputs]."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def product_of_experts(z: Tensor) -> Tensor:
    """p_c ∝ Πᵢ softmax(zᵢ)_c, which is softmax(Σᵢ zᵢ) (eq-stages-product).

    Args:
        z: logits, [B, M, C], one row for each of M ≥ 1 modalities.

    Returns:
        p, [B, C].

    Raises:
        ValueError: not three axes, no modality or no class, NaN or infinite values.
    """
    if z.ndim != 3 or 0 in z.shape[1:]:
        raise ValueError(f"z: got {list(z.shape)}, expected [B, M, C] with M, C ≥ 1")
    check_finite(z=z)
    return z.sum(1).softmax(-1)


class EarlyFusion(nn.Module):
    """z = f([x₁; …; x_M]): one network on the concatenation (eq-stages-early).

    Args:
        dims: D_i, width of each modality.
        hidden: width of the hidden layer.
        classes: C.

    Shapes: M tensors [B, D_i] → z [B, C].
    """

    def __init__(self, dims: Sequence[int], hidden: int, classes: int = 2) -> None:
        super().__init__()
        self.dims = widths(dims)
        self.f = mlp(sum(dims), hidden, classes)

    def forward(self, x: Sequence[Tensor], present: Sequence[bool] | None = None) -> Tensor:
        """z; a modality that is not `present` is replaced by zeros."""
        x, present = checked(x, self.dims, present)
        x = [each if here else torch.zeros_like(each) for each, here in zip(x, present, strict=True)]
        return self.f(torch.cat(x, 1))


class LateFusion(nn.Module):
    """z = Σᵢ gᵢ(xᵢ): one network for each modality, only their logits are added (eq-stages-late).

    Arguments and shapes as in `EarlyFusion`; `hidden` is the width of each network.
    """

    def __init__(self, dims: Sequence[int], hidden: int, classes: int = 2) -> None:
        super().__init__()
        self.dims = widths(dims)
        self.g = nn.ModuleList(mlp(dim, hidden, classes) for dim in dims)

    def forward(self, x: Sequence[Tensor], present: Sequence[bool] | None = None) -> Tensor:
        """z; a modality that is not `present` adds nothing."""
        x, present = checked(x, self.dims, present)
        return sum(g(each) for g, each, here in zip(self.g, x, present, strict=True) if here)


class HybridFusion(nn.Module):
    """z = f([x₁; …; x_M]) + Σᵢ gᵢ(xᵢ): both paths (eq-stages-hybrid).

    Arguments and shapes as in `EarlyFusion`; all M + 1 networks have the same `hidden` width.
    """

    def __init__(self, dims: Sequence[int], hidden: int, classes: int = 2) -> None:
        super().__init__()
        self.early, self.late = EarlyFusion(dims, hidden, classes), LateFusion(dims, hidden, classes)

    def forward(self, x: Sequence[Tensor], present: Sequence[bool] | None = None) -> Tensor:
        """z; the joint path counts only when every modality is present."""
        z = self.late(x, present)
        return z + self.early(x) if present is None or all(present) else z
