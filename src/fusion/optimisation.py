"""Losses, their gradients by hand, and the steps of SGD, momentum and Adam (row R11).

Chapter: chapters/fusion/optimisation.ipynb. Losses take logits, not probabilities, and average over the examples.
A step is a pure function: parameters, gradient and state in, parameters and state out. It lets NaN and infinite
gradients pass, each to its own parameter: many runs share a tensor, and one that diverges must not stop the others.
Adam: Kingma and Ba, ICLR 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor

from src.runtime import check_finite


def binary_cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """L = −mean(y log p + (1 − y) log(1 − p)), p = σ(z) (eq-optimisation-binary), finite for every finite z.

    Uses −log σ(z) = max(−z, 0) + log(1 + e^−|z|), so neither exponential overflows (eq-optimisation-stable).

    Args:
        z: logits, any shape, at least one.
        y: targets from 0 to 1, floating, the same shape: [N] and [N, 1] would broadcast to [N, N].

    Returns:
        The scalar loss in nats.

    Raises:
        ValueError: shapes differ, nothing to average, y is not floating, NaN or infinite values.
    """
    _check_same(z, y)
    return (z.clamp_min(0) - y * z + torch.log1p(torch.exp(-z.abs()))).mean()


def binary_cross_entropy_gradient(z: Tensor, y: Tensor) -> Tensor:
    """∂L/∂z = (σ(z) − y) / N (eq-optimisation-binary-gradient), in the shape of z; errors as `binary_cross_entropy`."""
    _check_same(z, y)
    return (torch.sigmoid(z) - y) / z.numel()


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """L = mean(log Σ_c e^{z_c} − z_y), the cross entropy of softmax(z) (eq-optimisation-softmax).

    Args:
        z: logits [B, C].
        y: class numbers 0 … C − 1, integers [B].

    Returns:
        The scalar loss in nats.

    Raises:
        ValueError: shapes do not fit, nothing to average, y is not int64 or beyond the classes, NaN or infinite logits.
    """
    _check_classes(z, y)
    return (torch.logsumexp(z, 1) - z.gather(1, y[:, None])[:, 0]).mean()


def cross_entropy_gradient(z: Tensor, y: Tensor) -> Tensor:
    """∂L/∂z = (softmax(z) − onehot(y)) / B, [B, C] (eq-optimisation-softmax-gradient); errors as `cross_entropy`."""
    _check_classes(z, y)
    onehot = torch.zeros_like(z).scatter(1, y[:, None], 1.0)  # [B, C]
    return (torch.softmax(z, 1) - onehot) / len(z)


def mean_squared_error(prediction: Tensor, y: Tensor) -> Tensor:
    """L = mean((ŷ − y)²) (eq-optimisation-mse).

    Args:
        prediction: ŷ, any shape, at least one.
        y: targets, floating, the same shape.

    Raises:
        ValueError: shapes differ, nothing to average, y is not floating, NaN or infinite values.
    """
    _check_same(prediction, y)
    return ((prediction - y) ** 2).mean()


def mean_squared_error_gradient(prediction: Tensor, y: Tensor) -> Tensor:
    """∂L/∂ŷ = 2(ŷ − y) / N (eq-optimisation-mse-gradient), in the shape of ŷ; errors as `mean_squared_error`."""
    _check_same(prediction, y)
    return 2 * (prediction - y) / prediction.numel()


def sgd_step(theta: Tensor, g: Tensor, lr: float | Tensor) -> Tensor:
    """θ − η g (eq-optimisation-descent). The minus sign is the method: a plus climbs the loss.

    Args:
        theta, g: parameters and their gradient, the same shape.
        lr: η; a tensor that broadcasts against theta gives several runs their own.

    Returns:
        New parameters; the old ones stay as they are.

    Raises:
        ValueError: shapes differ.
    """
    _check_step(theta, g=g)
    return theta - lr * g


def momentum_step(
    theta: Tensor, g: Tensor, u: Tensor, lr: float | Tensor, mu: float = 0.9
) -> tuple[Tensor, Tensor]:
    """u ← μ u + g, θ ← θ − η u (eq-optimisation-momentum), with u = 0 before the first step.

    Returns:
        (θ, u), both new.

    Raises:
        ValueError: shapes differ.
    """
    _check_step(theta, g=g, u=u)
    u = mu * u + g
    return theta - lr * u, u


def adam_step(
    theta: Tensor, g: Tensor, m: Tensor, v: Tensor, t: float, lr: float | Tensor,
    beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """One step of Adam with bias correction (eq-optimisation-moments, eq-optimisation-adam).

    Args:
        theta, g: parameters and their gradient, the same shape.
        m, v: moments of that shape, zero before the first step.
        t: number of this step, from 1; `math.inf` leaves the bias correction out.
        lr, beta1, beta2, eps: η, β₁, β₂, ε; float16 rounds the default ε to zero, so keep parameters in float32.

    Returns:
        (θ, m, v), all new.

    Raises:
        ValueError: shapes differ or t is below 1.
    """
    _check_step(theta, g=g, m=m, v=v)
    if t < 1:
        raise ValueError(f"t: got {t}, expected the number of the step, counted from 1 (at 0 the correction is 0/0)")
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return theta - lr * m_hat / (v_hat.sqrt() + eps), m, v


def _check_same(z: Tensor, y: Tensor) -> None:
    if z.shape != y.shape:
        raise ValueError(f"y: got {list(y.shape)} for {list(z.shape)} outputs, expected the same shape; use y.view_as")
    if not y.is_floating_point():
        raise ValueError(f"y: got {y.dtype}, expected a floating type; use y.to(z.dtype)")
    if not z.numel():
        raise ValueError(f"outputs: got an empty {list(z.shape)}, expected at least one to average")
    check_finite(outputs=z, y=y)


def _check_classes(z: Tensor, y: Tensor) -> None:
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise ValueError(f"y: got {list(y.shape)} for logits {list(z.shape)}, expected [B] for [B, C]")
    if y.dtype != torch.int64:
        raise ValueError(f"y: got {y.dtype}, expected class numbers in int64; use y.long()")
    if not z.numel():
        raise ValueError(f"logits: got an empty {list(z.shape)}, expected at least one example and one class")
    check_finite(logits=z)
    if not torch.compiler.is_compiling() and not 0 <= y.min() <= y.max() < z.shape[1]:
        raise ValueError(f"y: got {y.min()} to {y.max()}, expected class numbers from 0 to {z.shape[1] - 1}")


def _check_step(theta: Tensor, **others: Tensor) -> None:
    for name, value in others.items():
        if value.shape != theta.shape:
            raise ValueError(f"{name}: got {list(value.shape)}, expected {list(theta.shape)} as theta")
