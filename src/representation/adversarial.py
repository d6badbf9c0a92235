"""Adversarial learning: the min–max game, its losses, a gradient penalty and gradient reversal (row R14).

Chapter: chapters/representation/adversarial.ipynb. A discriminator gives logits; its probability is D = σ(logit). Working
with logits keeps the logarithms finite where a probability has been rounded to 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from src.runtime import check_finite


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """−E[log D(x)] − E[log(1 − D(G(z)))], what the discriminator minimises (eq-adversarial-d; Goodfellow et al., 2014).

    Args:
        real: logits of real examples, ``[B]``.
        fake: logits of generated examples, ``[B']``; the numbers may differ.

    Returns:
        A scalar; 2 log 2 when every logit is 0.

    Raises:
        ValueError: not one logit an example, no example, NaN or infinite logits.
    """
    _check_logits(real=real, fake=fake)
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor, saturating: bool = False) -> Tensor:
    """−E[log D(G(z))], or E[log(1 − D(G(z)))] if saturating (eq-adversarial-g; Goodfellow et al., 2014).

    Both fall as D(G(z)) rises. Where the discriminator is sure, the gradient of the second vanishes.

    Args:
        fake: logits of generated examples, ``[B]``.
        saturating: the loss of the min–max formula instead of the one used in practice.

    Returns:
        A scalar.

    Raises:
        ValueError: not one logit an example, no example, NaN or infinite logits.
    """
    _check_logits(fake=fake)
    return -F.softplus(fake).mean() if saturating else F.softplus(-fake).mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """½ E‖∇ₓ logit(x)‖² on real examples (eq-adversarial-r1; Mescheder et al., ICML 2018).

    Args:
        discriminator: maps ``[B, …]`` to logits ``[B]``, each from its own example.
        real: ``[B, …]``.

    Returns:
        A scalar that can be differentiated with respect to the discriminator's parameters.

    Raises:
        ValueError: no example, NaN or infinite values, or a discriminator that does not return ``[B]``.
    """
    if real.ndim < 2 or 0 in real.shape:
        raise ValueError(f"real: got {list(real.shape)}, expected [B, …] with at least one example")
    check_finite(real=real)

    def total(x: Tensor) -> Tensor:
        logits = discriminator(x)
        if logits.shape != x.shape[:1]:
            raise ValueError(f"discriminator: returned {list(logits.shape)}, expected [{len(x)}], one logit an example")
        return logits.sum()

    slope = torch.func.grad(total)(real)  # [B, …]
    return slope.square().sum() / (2 * len(real))


def reverse_gradient(x: Tensor, scale: float = 1.0) -> Tensor:
    """The identity whose gradient is multiplied by −scale (Ganin and Lempitsky, ICML 2015).

    Put between an encoder and a discriminator: one descent step trains the discriminator to tell the modalities apart
    and the encoder to make them alike.

    Args:
        x: any shape, floating point.
        scale: λ, not negative; 0 cuts the encoder off.

    Raises:
        ValueError: scale is negative or not finite.
        TypeError: x is not floating point.
    """
    if not 0 <= scale < float("inf"):
        raise ValueError(f"scale: got {scale}, expected a number from 0; the sign is turned already")
    if not x.is_floating_point():
        raise TypeError(f"x: got {x.dtype}, expected floating point, which alone has a gradient")
    return _Reversed.apply(x, scale)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * upstream, None


def _check_logits(**logits: Tensor) -> None:
    for name, values in logits.items():
        if values.ndim != 1 or not len(values):
            raise ValueError(f"{name}: got {list(values.shape)}, expected [B], one logit an example, B at least 1")
    check_finite(**logits)
