"""Knowledge distillation: a student imitates a teacher's probabilities, features or relations (row R15).

Chapter: chapters/representation/distillation.ipynb. The teacher is a constant everywhere: no gradient flows into it, and
its modality need not be the student's. Row i of both belongs to the same example.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.runtime import check_finite

UNLABELLED = -100


def soft_targets(logits: Tensor, temperature: float) -> Tensor:
    """pᵢ = exp(zᵢ / T) / Σⱼ exp(zⱼ / T) (eq-distillation-soft; Hinton et al., 2015).

    Args:
        logits: z, ``[…, C]``.
        temperature: T, positive.

    Returns:
        Probabilities ``[…, C]``, each row sums to one.

    Raises:
        ValueError: no class or no row, NaN or infinite logits, T not positive.
    """
    if logits.ndim < 1 or 0 in logits.shape:
        raise ValueError(f"logits: got {list(logits.shape)}, expected […, C] with at least one row and one class")
    _check_temperature(temperature)
    check_finite(logits=logits)
    return (logits / temperature).softmax(-1)


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, alpha: float
) -> Tensor:
    """α · CE(y, q) + (1 − α) · T² · KL(pᵀ ‖ qᵀ) (eq-distillation-loss; Hinton et al., 2015).

    Args:
        student_logits: ``[B, C]``, q = softmax, qᵀ = softmax at temperature T.
        teacher_logits: ``[B, C]``, pᵀ = softmax at temperature T.
        labels: int64 ``[B]``, 0 … C − 1, or −100 for an example without a label.
        temperature: T, positive.
        alpha: α, from 0 (the teacher alone) to 1 (the labels alone).

    Returns:
        A scalar. The cross-entropy is averaged over the labelled rows and 0 where there is none, the divergence over
        all rows.

    Raises:
        ValueError: shapes that differ or are empty, NaN or infinite logits, T not positive, α outside 0 … 1, labels that
            are not int64 or outside 0 … C − 1.
    """
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape or 0 in student_logits.shape:
        raise ValueError(
            f"student_logits, teacher_logits: got {list(student_logits.shape)}, {list(teacher_logits.shape)}, expected "
            "two equal [B, C]"
        )
    if labels.shape != student_logits.shape[:1] or labels.dtype != torch.int64:
        raise ValueError(f"labels: got {labels.dtype} {list(labels.shape)}, expected int64 [{len(student_logits)}]")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: got {alpha}, expected 0 … 1, the share of the labels in the loss")
    _check_temperature(temperature)
    check_finite(student_logits=student_logits, teacher_logits=teacher_logits)
    _check_labels(labels, student_logits.shape[1])
    labelled = (labels != UNLABELLED).sum().clamp_min(1)
    hard = F.cross_entropy(student_logits, labels, ignore_index=UNLABELLED, reduction="sum") / labelled
    log_p = (teacher_logits.detach() / temperature).log_softmax(-1)  # [B, C]
    log_q = (student_logits / temperature).log_softmax(-1)  # [B, C]
    divergence = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    return alpha * hard + (1 - alpha) * temperature**2 * divergence


def feature_distillation(student: Tensor, teacher: Tensor, projector: nn.Module | None = None) -> Tensor:
    """‖r(s) − t‖² per number, r a learned projector (eq-distillation-feature; FitNets, Romero et al., ICLR 2015).

    Args:
        student: s, ``[B, D_s]``.
        teacher: t, ``[B, D_t]``.
        projector: r, maps ``[B, D_s]`` to ``[B, D_t]``; None when the student is projected already.

    Returns:
        The mean squared error, a scalar.

    Raises:
        ValueError: after the projector the shapes differ, are empty, or hold NaN or infinite values.
    """
    projected = student if projector is None else projector(student)
    if projected.ndim != 2 or projected.shape != teacher.shape or 0 in teacher.shape:
        raise ValueError(
            f"student, teacher: got {list(projected.shape)} after the projector, {list(teacher.shape)}, expected two "
            "equal [B, D]; a projector such as nn.Linear(D_s, D_t) makes the widths agree"
        )
    check_finite(student=projected, teacher=teacher)
    return (projected - teacher.detach()).square().mean()


def relational_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Match the cosines of all pairs in the batch: 1/(B(B−1)) Σᵢ≠ⱼ (cos(sᵢ, sⱼ) − cos(tᵢ, tⱼ))².

    In the spirit of relational distillation (Park et al., CVPR 2019), with cosines as the relation
    (eq-distillation-relation). No projector is needed, the widths may differ.

    Args:
        student: s, ``[B, D_s]``.
        teacher: t, ``[B, D_t]``, B ≥ 2.

    Returns:
        A scalar from 0 to 4.

    Raises:
        ValueError: different numbers of rows, fewer than two, no column, NaN or infinite values.
    """
    if student.ndim != 2 or teacher.ndim != 2 or 0 in student.shape + teacher.shape:
        raise ValueError(
            f"student, teacher: got {list(student.shape)}, {list(teacher.shape)}, expected [B, D_s], [B, D_t]"
        )
    if len(student) != len(teacher) or len(student) < 2:
        raise ValueError(
            f"student, teacher: got {len(student)} and {len(teacher)} rows, expected equally many and at least two"
        )
    check_finite(student=student, teacher=teacher)
    s, t = F.normalize(student, dim=1), F.normalize(teacher.detach(), dim=1)
    gaps = (s @ s.T - t @ t.T).square()  # [B, B]
    itself = torch.eye(len(s), dtype=torch.bool, device=s.device)
    return gaps.masked_fill(itself, 0).sum() / (len(s) * (len(s) - 1))


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature: got {temperature}, expected a positive number")


def _check_labels(labels: Tensor, classes: int) -> None:
    if torch.compiler.is_compiling():
        return
    wrong = (labels != UNLABELLED) & ((labels < 0) | (labels >= classes))
    if wrong.any():
        raise ValueError(
            f"labels: got {labels[wrong][0].item()}, expected 0 … {classes - 1}, or {UNLABELLED} for no label"
        )
