"""Attention, A = softmax(Q Kᵀ / √d_k), Y = A V, over several heads and in a Transformer block (rows R09, R10).

Chapter: chapters/fusion/attention.ipynb, equations (eq-attention-formula), (eq-attention-heads) and
(eq-attention-block). After Vaswani et al., NeurIPS 2017; the block normalises before each part, not after.
A mask is true where a query may look. A query that may look nowhere gets weights and output zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.runtime import check_finite


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A = softmax(Q Kᵀ / √d_k), Y = A V (eq-attention-formula).

    Args:
        q: queries Q, [..., Tq, d_k].
        k: keys K, [..., Tk, d_k].
        v: values V, [..., Tk, d_v].
        mask: bool, [..., Tq, Tk] or what broadcasts to it, true where a query may look.

    Returns:
        Y [..., Tq, d_v] and A [..., Tq, Tk]. Rows of A sum to one, or to zero where the mask allows nothing.

    Raises:
        ValueError: shapes differ, there is no key, the mask is not bool or of another shape, NaN or infinite values,
            also in what the mask hides.
    """
    _check(q, k, v, mask)
    check_finite(q=q, k=k, v=v)
    return _attend(q, k, v, mask)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # [..., Tq, Tk]
    if mask is None:
        weights = scores.softmax(-1)
    else:
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(~mask, 0)
    return weights.to(v.dtype) @ v, weights


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    shapes = f"q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}"
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or q.shape[-1] == 0:
        raise ValueError(f"q, k: got {shapes}, expected the same last dimension d_k ≥ 1; project them to one width")
    if k.shape[-2] != v.shape[-2] or k.shape[-2] == 0:
        raise ValueError(f"k, v: got {shapes}, expected one value for each of at least one key")
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        raise ValueError(f"q, k, v: got {shapes}, expected the same leading dimensions; use expand")
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f"mask: got {mask.dtype}, expected torch.bool, true where a query may look; use mask.bool()")
    full = (*q.shape[:-1], k.shape[-2])[max(q.ndim - mask.ndim, 0) :]
    if len(mask.shape) != len(full) or any(got not in (1, size) for got, size in zip(mask.shape, full, strict=True)):
        raise ValueError(f"mask: got {list(mask.shape)} for {shapes}, expected [..., Tq, Tk] or 1 in its place")


def causal_mask(length: int, device: torch.device | str | None = None) -> Tensor:
    """True where query i may look at key j, j ≤ i: bool [T, T]."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def padding_mask(lengths: Tensor, length: int) -> Tensor:
    """True at the first ``lengths`` keys of each example: [B] → bool [B, 1, 1, T], for every head and query.

    Raises:
        ValueError: lengths are not integers [B] from 0 to length.
    """
    if lengths.ndim != 1 or lengths.is_floating_point():
        raise ValueError(f"lengths: got {lengths.dtype} {list(lengths.shape)}, expected integers [B]")
    if not torch.compiler.is_compiling() and ((lengths < 0) | (lengths > length)).any():
        raise ValueError(f"lengths: got {lengths.tolist()}, expected 0 to {length}")
    return (torch.arange(length, device=lengths.device) < lengths[:, None])[:, None, None]


def sinusoids(length: int, dim: int, device: torch.device | str | None = None) -> Tensor:
    """Positions [T, D]: sin(t / 10000^(2i/D)) in the even, cos in the odd columns.

    Raises:
        ValueError: dim is odd.
    """
    if dim % 2:
        raise ValueError(f"dim: got {dim}, expected an even number: each frequency fills two columns")
    rate = 10_000 ** (-torch.arange(0, dim, 2, device=device) / dim)  # [D/2]
    angle = torch.arange(length, device=device)[:, None] * rate  # [T, D/2]
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)  # [T, D]


class MultiHeadAttention(nn.Module):
    """h heads, each softmax(Q_i K_iᵀ / √(D/h)) V_i on its own part of the columns, then one map O (eq-attention-heads).

    Args:
        dim: D, width of the queries' sequence and of the result.
        heads: h, a divisor of D.
        context_dim: width of the sequence that gives keys and values; D by default.

    Shapes: x [B, Tq, D], context [B, Tk, context_dim] or None for self-attention, mask bool, broadcast to
    [B, h, Tq, Tk] → Y [B, Tq, D] and A [B, h, Tq, Tk], or None for A when ``need_weights`` is false: then torch's
    fused kernel computes Y without storing A.

    Raises:
        ValueError: D is not a multiple of h, a sequence has another width or NaN or infinite values; as `attention`.
    """

    def __init__(self, dim: int, heads: int, context_dim: int | None = None) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads: got {heads} for dim {dim}, expected a divisor of dim")
        self.heads = heads
        self.q, self.o = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.k, self.v = (nn.Linear(context_dim or dim, dim) for _ in range(2))

    def split(self, x: Tensor) -> Tensor:
        """[B, T, D] → [B, h, T, D/h]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None, need_weights: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        context = x if context is None else context
        for name, given, width in (("x", x, self.q.in_features), ("context", context, self.k.in_features)):
            if given.ndim != 3 or given.shape[-1] != width:
                raise ValueError(f"{name}: got {list(given.shape)}, expected [B, T, {width}]")
        if len(x) != len(context):
            raise ValueError(f"context: got {len(context)} examples for {len(x)} of x, expected as many")
        check_finite(x=x, context=context)
        q, k, v = self.split(self.q(x)), self.split(self.k(context)), self.split(self.v(context))
        _check(q, k, v, mask)
        if need_weights:
            y, weights = _attend(q, k, v, mask)  # [B, h, Tq, D/h], [B, h, Tq, Tk]
        else:
            y, weights = F.scaled_dot_product_attention(q, k, v, mask), None
        return self.o(y.transpose(1, 2).flatten(2)), weights  # [B, Tq, D]


class TransformerBlock(nn.Module):
    """Z = X + MultiHead(norm(X)), H = Z + FF(norm(Z)) (eq-attention-block).

    Args:
        dim: D.
        heads: h.
        hidden: width inside FF; 4 D by default.

    Shapes: X [B, T, D], mask as in `MultiHeadAttention` → H [B, T, D].
    """

    def __init__(self, dim: int, heads: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or 4 * dim
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, heads)
        self.ff = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        z = x + self.attention(self.norm1(x), mask=mask, need_weights=False)[0]
        return z + self.ff(self.norm2(z))
