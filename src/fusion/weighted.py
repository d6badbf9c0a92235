"""Weighted sum of modalities, Y = Σ wᵢ Xᵢ, with weights that are learned (rows R06, R07, R27).

Chapters: chapters/fusion/weighted.ipynb, equation (eq-weighted-sum); chapters/cases/cifar10_resnet.ipynb, equations
(eq-weighted) and (eq-attention-weights).
The scores follow the additive attention of Bahdanau et al., ICLR 2015, over modalities instead of time steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from src.runtime import check_finite


def weighted_sum(features: Tensor, weights: Tensor) -> Tensor:
    """Y = Σᵢ wᵢ Xᵢ.

    Args:
        features: X, [B, M, D], one vector of D numbers for each of M modalities.
        weights: w, [B, M] or, the same for every example, [M].

    Returns:
        Y, [B, D].

    Raises:
        ValueError: the numbers of modalities or of examples differ, there is no modality, or NaN or infinite values.
    """
    if features.ndim != 3 or not features.shape[1] or weights.shape[-1:] != features.shape[1:2] or weights.ndim > 2:
        raise ValueError(
            f"weights: got {list(weights.shape)} for features {list(features.shape)}, expected [B, M] or [M], M ≥ 1"
        )
    if weights.ndim == 2 and len(weights) != len(features):
        raise ValueError(f"weights: got {len(weights)} rows for {len(features)} examples, expected as many")
    check_finite(features=features, weights=weights)
    return (features * weights.unsqueeze(-1)).sum(-2)  # [B, M, D] × ([B, M, 1] or [M, 1])


class AttentionFusion(nn.Module):
    """wᵢ = softmaxᵢ(vᵀ tanh(Uᵢ Xᵢ + bᵢ)), Y = Σ wᵢ Xᵢ.

    Each example gets its own weights, from what its modalities contain; they are positive and sum to one.

    Args:
        dim: D, width of every modality's vector.
        modalities: M.
        hidden: width of the tanh layer.

    Shapes: X [B, M, D] → Y [B, D] and w [B, M].
    """

    def __init__(self, dim: int, modalities: int, hidden: int = 32) -> None:
        super().__init__()
        if modalities < 1:
            raise ValueError(f"modalities: got {modalities}, expected at least one")
        self.hidden = nn.ModuleList(nn.Linear(dim, hidden) for _ in range(modalities))
        self.score = nn.Linear(hidden, 1, bias=False)

    def weights(self, features: Tensor) -> Tensor:
        """w [B, M] for X [B, M, D]."""
        expected = [len(self.hidden), self.hidden[0].in_features]
        if features.ndim != 3 or list(features.shape[1:]) != expected:
            raise ValueError(f"features: got {list(features.shape)}, expected [B, {expected[0]}, {expected[1]}]")
        check_finite(features=features)
        scores = [self.score(torch.tanh(layer(x))) for layer, x in zip(self.hidden, features.unbind(1), strict=True)]
        return torch.cat(scores, dim=1).softmax(dim=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.weights(features)
        return weighted_sum(features, weights), weights
