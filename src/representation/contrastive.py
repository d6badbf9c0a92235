"""Contrastive alignment of two modalities: InfoNCE, the sigmoid loss, and both at any batch size (row R12).

Pairs are rows: x[i] and y[i] belong together, all other combinations in the batch are negatives. The vectors are
usually of length 1, so that x yᵀ are cosines.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from src.runtime import check_finite


def info_nce(x: Tensor, y: Tensor, temperature: Tensor | float) -> Tensor:
    """InfoNCE in both directions, as in CLIP (Radford et al., ICML 2021).

    L = 1/(2B) Σᵢ [−log softmaxⱼ(Sᵢⱼ)ᵢ − log softmaxⱼ(Sⱼᵢ)ᵢ], S = x yᵀ / τ.

    Args:
        x, y: ``[B, D]``.
        temperature: τ, positive; a number or a tensor of one element, which gets its gradient.

    Returns:
        The loss, a scalar, in float32 for half precision.

    Raises:
        ValueError: different or empty shapes, NaN or infinite values, τ not one positive number.
    """
    _check(x, y, temperature)
    scores = x / temperature @ y.T  # [B, B]
    dtype = torch.promote_types(scores.dtype, torch.float32)
    p, q = (scores.log_softmax(axis, dtype=dtype) for axis in (1, 0))
    return -(p.diagonal() + q.diagonal()).mean() / 2


def sigmoid_loss(x: Tensor, y: Tensor, temperature: Tensor | float, bias: Tensor | float) -> Tensor:
    """The sigmoid loss of SigLIP (Zhai et al., ICCV 2023): each combination is its own yes-or-no question.

    L = −1/B Σᵢⱼ log σ(zᵢⱼ (xᵢ·yⱼ / τ + b)), z = 1 for pairs and −1 otherwise. Shapes and errors as in ``info_nce``; bias
    is b, a number or a tensor of one element.
    """
    _check(x, y, temperature, bias)
    scores = x / temperature @ y.T + bias  # [B, B]
    signs = 2 * torch.eye(len(x), device=x.device, dtype=scores.dtype) - 1
    return -F.logsigmoid(signs * scores).sum() / len(x)


def chunked_info_nce(x: Tensor, y: Tensor, temperature: Tensor | float, chunk: int = 1024) -> Tensor:
    """``info_nce`` with the same value and gradients that never holds more than ``[chunk, B]`` scores.

    The forward pass keeps the log-sum-exp of each row and column, the backward pass makes the scores again block by
    block, as attention does in FlashAttention (Dao et al., NeurIPS 2022). It can be differentiated once. Half precision
    is computed in float32.
    """
    _check(x, y, temperature)
    if chunk < 1:
        raise ValueError(f"chunk: got {chunk}, expected at least 1 row of scores at a time")
    dtype = torch.promote_types(x.dtype, torch.float32)
    tau = torch.as_tensor(temperature, dtype=dtype, device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        return _ChunkedInfoNCE.apply(x.to(dtype), y.to(dtype), tau, chunk)


class _ChunkedInfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, tau: Tensor, chunk: int) -> Tensor:
        rows, columns = [], torch.full_like(y[:, 0], -torch.inf)
        for some in x.split(chunk):
            scores = (some @ y.T).div_(tau)  # [c, B]
            rows.append(scores.logsumexp(1))
            columns = torch.logaddexp(columns, scores.logsumexp(0))
        rows = torch.cat(rows)
        ctx.save_for_backward(x, y, tau, rows, columns)
        ctx.chunk = chunk
        return ((rows + columns) / 2 - (x * y).sum(1) / tau).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, y, tau, rows, columns = ctx.saved_tensors
        grad_x, grad_y, grad_tau = [], torch.zeros_like(y), torch.zeros_like(tau)
        for start in range(0, len(x), ctx.chunk):
            some = slice(start, start + ctx.chunk)
            scores = (x[some] @ y.T).div_(tau)  # [c, B]
            grad = (scores - rows[some, None]).exp_()
            grad.add_((scores - columns).exp_()).div_(2)  # ∂L/∂S · B, but for the pairs
            grad.diagonal(start).sub_(1)
            grad_x.append(grad @ y)
            grad_y += grad.T @ x[some]
            grad_tau -= grad.mul_(scores).sum().reshape(tau.shape)
        scale = upstream / len(x)
        return torch.cat(grad_x) * (scale / tau), grad_y * (scale / tau), grad_tau * (scale / tau), None


def cached_backward(
    encode_x: Callable[[Tensor], Tensor],
    encode_y: Callable[[Tensor], Tensor],
    inputs_x: Tensor,
    inputs_y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    chunk: int,
) -> Tensor:
    """Gradient caching (Gao et al., RepL4NLP 2021): the gradients of a large batch with the memory of a small one.

    Embeds all inputs without a graph, takes the gradient of the loss with respect to the embeddings, then embeds again
    chunk by chunk and hands each embedding its gradient. The encoders must treat examples one by one (no batch
    normalisation in training mode); dropout draws the same masks both times.

    Args:
        encode_x, encode_y: map inputs ``[b, …]`` to embeddings ``[b, D]``.
        inputs_x, inputs_y: ``[B, …]``, rows are pairs.
        loss: maps both embeddings ``[B, D]`` to a scalar.
        chunk: examples that are embedded with a graph at a time.

    Returns:
        The loss, detached. Gradients are added to the parameters' ``grad``, as ``backward`` does.
    """
    if chunk < 1 or len(inputs_x) != len(inputs_y) or not len(inputs_x):
        raise ValueError(
            f"inputs_x, inputs_y, chunk: got {len(inputs_x)} and {len(inputs_y)} examples, chunk {chunk}, expected equal "
            "numbers and at least 1"
        )
    parts = [
        (encode, some)
        for encode, inputs in ((encode_x, inputs_x), (encode_y, inputs_y))
        for some in inputs.split(chunk)
    ]
    states, embeddings = [], []
    with torch.no_grad():
        for encode, some in parts:
            states.append(_random_state(some.device))
            embeddings.append(encode(some))
    leaves = [embedding.detach().requires_grad_() for embedding in embeddings]
    half = len(parts) // 2
    value = loss(torch.cat(leaves[:half]), torch.cat(leaves[half:]))
    value.backward()
    after = _random_state(inputs_x.device)
    for (encode, some), state, leaf in zip(parts, states, leaves, strict=True):
        _set_random_state(state, some.device)
        encode(some).backward(leaf.grad)
    _set_random_state(after, inputs_x.device)
    return value.detach()


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)


def ranks(scores: Tensor, wanted: Tensor) -> Tensor:
    """Rank of the wanted candidate of each query, 1 for the best; ties count against it.

    Args:
        scores: ``[N, M]``, of M candidates for N queries.
        wanted: int64 ``[N]``, the right candidate of each query.

    Returns:
        int64 ``[N]``.

    Raises:
        ValueError: other or empty shapes, NaN or infinite scores, a candidate beyond M.
    """
    if scores.ndim != 2 or 0 in scores.shape or wanted.shape != scores.shape[:1]:
        raise ValueError(f"scores, wanted: got {list(scores.shape)}, {list(wanted.shape)}, expected [N, M] and [N]")
    check_finite(scores=scores)
    if not torch.compiler.is_compiling() and not 0 <= wanted.min() <= wanted.max() < scores.shape[1]:
        raise ValueError(f"wanted: got {wanted.min()} to {wanted.max()}, expected 0 to {scores.shape[1] - 1}")
    return (scores >= scores.gather(1, wanted[:, None])).sum(1)


def recall_at_k(scores: Tensor, wanted: Tensor, k: int) -> float:
    """Share of the queries whose wanted candidate is among the k best; see ``ranks``."""
    if k < 1:
        raise ValueError(f"k: got {k}, expected at least 1")
    return (ranks(scores, wanted) <= k).double().mean().item()


def _check(x: Tensor, y: Tensor, temperature: Tensor | float, bias: Tensor | float = 0.0) -> None:
    if x.ndim != 2 or x.shape != y.shape or 0 in x.shape:
        raise ValueError(f"x, y: got {list(x.shape)}, {list(y.shape)}, expected two equal [B, D], one row a pair")
    tau, b = torch.as_tensor(temperature), torch.as_tensor(bias)
    if tau.numel() != 1 or b.numel() != 1:
        raise ValueError(f"temperature, bias: got shapes {list(tau.shape)}, {list(b.shape)}, expected one number each")
    check_finite(x=x, y=y, temperature=tau, bias=b)
    if not torch.compiler.is_compiling() and not tau > 0:
        raise ValueError(f"temperature: got {tau:g}, expected a positive number; learn its logarithm")
