"""Attention, several heads and the Transformer block against torch's own, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from src.fusion.attention import (
    MultiHeadAttention,
    TransformerBlock,
    attention,
    causal_mask,
    padding_mask,
    sinusoids,
)

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SIZES = st.integers(1, 5)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def same_weights(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    with torch.no_grad():
        parts = ours.q, ours.k, ours.v
        if theirs.in_proj_weight is None:
            for name, part in zip("qkv", parts, strict=True):
                getattr(theirs, f"{name}_proj_weight").copy_(part.weight)
        else:
            theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.load_state_dict(ours.o.state_dict())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(SIZES, max_size=2), SIZES, SIZES, SIZES, SIZES, st.booleans(), st.integers(0, 99),
    st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_attention_is_torchs(batch, queries, keys, d_k, d_v, masked, seed, dtype):
    shapes = (queries, d_k), (keys, d_k), (keys, d_v)
    q, k, v = (randn(*batch, *shape, seed=seed + n, dtype=dtype) for n, shape in enumerate(shapes))
    mask = randn(*batch, queries, keys, seed=seed + 2) > 0 if masked else None
    y, A = attention(q, k, v, mask)
    expected = F.scaled_dot_product_attention(q, k, v, mask)
    if masked:
        expected = expected.where(mask.any(-1, keepdim=True), 0)  # older torch: NaN where nothing is allowed
        assert not A[~mask].any()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(A.sum(-1), torch.ones_like(A[..., 0]) if mask is None else mask.any(-1).to(dtype))


def test_scores_far_apart_do_not_overflow():
    q = torch.tensor([[1e4, 0.0]])
    y, A = attention(q, torch.tensor([[1e4, 0.0], [0.0, 1.0]]), torch.eye(2))
    torch.testing.assert_close(A, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(y, torch.tensor([[1.0, 0.0]]))


def test_a_row_that_may_look_nowhere_is_zero_and_has_a_gradient():
    q, k, v = (randn(3, 4, seed=n).requires_grad_() for n in range(3))
    mask = torch.tensor([[True, False, True], [False] * 3, [True] * 3])
    y, A = attention(q, k, v, mask)
    assert not y[1].any() and not A[1].any() and A[[0, 2]].sum(-1).allclose(torch.ones(2).double())
    assert torch.autograd.gradcheck(lambda *x: attention(*x, mask), (q, k, v))
    y.sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v)) and not q.grad[1].any()


@pytest.mark.parametrize("device", DEVICES)
def test_an_example_of_padding_alone_is_zero_on_both_paths(device):
    torch.manual_seed(0)
    layer, x = MultiHeadAttention(8, 2).to(device), randn(2, 3, 8, dtype=torch.float32).to(device).requires_grad_()
    mask = padding_mask(torch.tensor([0, 2], device=device), 3)
    for need_weights in (True, False):
        y, A = layer(x, mask=mask, need_weights=need_weights)
        torch.testing.assert_close(y[0], layer.o.bias.expand(3, 8))
        assert A is None or not A[0].any()
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert gradient.isfinite().all() and not gradient[0].any() and gradient[1].any()


def test_masks():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert padding_mask(torch.tensor([1, 3]), 3).tolist() == [[[[True, False, False]]], [[[True] * 3]]]
    q, k, v = randn(2, 1, 3, 4), randn(2, 1, 3, 4, seed=1), randn(2, 1, 3, 4, seed=2)
    short = attention(q[:1, :, :, :], k[:1, :, :1], v[:1, :, :1])[0]
    torch.testing.assert_close(attention(q, k, v, padding_mask(torch.tensor([1, 3]), 3))[0][:1], short)
    torch.testing.assert_close(
        attention(q, k, v, causal_mask(3))[0], F.scaled_dot_product_attention(q, k, v, is_causal=True)
    )


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_nan_is_refused_also_behind_a_mask(place, bad):
    parts = [randn(3, 4, seed=n) for n in range(3)]
    parts[place][2, 0] = bad
    with pytest.raises(ValueError, match=f"{'qkv'[place]}: got NaN or infinite"):
        attention(*parts, torch.ones(3, 3, dtype=torch.bool).tril(-1))
    layer, x = MultiHeadAttention(4, 2).double(), parts[place][None]
    for need_weights in (True, False):
        with pytest.raises(ValueError, match="x: got NaN"):
            layer(x, need_weights=need_weights)
        with pytest.raises(ValueError, match="context: got NaN"):
            layer(randn(1, 2, 4), x, need_weights=need_weights)
    with pytest.raises(ValueError, match="x: got NaN"):
        TransformerBlock(4, 2).double()(x)


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize(("queries", "keys", "context_dim"), [(3, 3, None), (2, 5, None), (1, 4, 6)])
def test_multihead_is_torchs(heads, queries, keys, context_dim):
    torch.manual_seed(0)
    ours = MultiHeadAttention(8, heads, context_dim).double()
    theirs = nn.MultiheadAttention(8, heads, batch_first=True, kdim=context_dim, vdim=context_dim).double()
    same_weights(ours, theirs)
    x, context = randn(3, queries, 8), randn(3, keys, context_dim or 8, seed=1)
    lengths = torch.tensor([1, keys, keys - 1])
    mask = padding_mask(lengths, keys)
    y, A = ours(x, context, mask)
    expected = theirs(x, context, context, key_padding_mask=~mask[:, 0, 0], average_attn_weights=False)
    torch.testing.assert_close((y, A), expected)
    torch.testing.assert_close(ours(x, context, mask, need_weights=False)[0], y)
    torch.testing.assert_close(ours(x)[0], theirs(x, x, x)[0]) if context_dim is None else None


def encoder_layer(ours: TransformerBlock, dim: int, heads: int) -> nn.TransformerEncoderLayer:
    theirs = nn.TransformerEncoderLayer(
        dim, heads, 4 * dim, dropout=0, activation="gelu", batch_first=True, norm_first=True
    ).to(next(ours.parameters()))
    same_weights(ours.attention, theirs.self_attn)
    pairs = (ours.norm1, theirs.norm1), (ours.norm2, theirs.norm2), (ours.ff[0], theirs.linear1), (ours.ff[2], theirs.linear2)
    for mine, other in pairs:
        other.load_state_dict(mine.state_dict())
    return theirs


@pytest.mark.parametrize(("dim", "heads", "length"), [(4, 1, 1), (8, 2, 5), (12, 3, 7)])
def test_block_is_torchs(dim, heads, length):
    torch.manual_seed(0)
    ours = TransformerBlock(dim, heads).double()
    for norm in (ours.norm1, ours.norm2):
        nn.init.normal_(norm.weight)
    theirs, x = encoder_layer(ours, dim, heads), randn(2, length, dim)
    torch.testing.assert_close(ours(x), theirs(x))
    mask = causal_mask(length)
    torch.testing.assert_close(ours(x, mask), theirs(x, src_mask=~mask))


def test_block_follows_a_permutation_until_positions_are_added():
    torch.manual_seed(0)
    block, x, order = TransformerBlock(8, 2).double(), randn(2, 5, 8), torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(block(x)[:, order], block(x[:, order]))
    P = sinusoids(5, 8).double()
    assert (block(x + P)[:, order] - block(x[:, order] + P)).abs().max() > 0.01


def test_sinusoids_are_the_formula():
    P = sinusoids(7, 6).double()
    t, i = torch.arange(7.0).double()[:, None], torch.arange(3.0).double()
    torch.testing.assert_close(P[:, 0::2], (t / 10_000 ** (2 * i / 6)).sin(), atol=1e-5, rtol=0)
    torch.testing.assert_close(P[:, 1::2], (t / 10_000 ** (2 * i / 6)).cos(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("module", [MultiHeadAttention(4, 2), TransformerBlock(4, 2, 5)])
def test_gradients_of_modules(module):
    module, x = module.double(), randn(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x), x)
    assert torch.autograd.gradcheck(lambda x: module(x, mask=causal_mask(3)), x)
    parameters = dict(module.named_parameters())
    names, values = zip(*((n, p.detach().requires_grad_()) for n, p in parameters.items()), strict=True)
    run = lambda *p: torch.func.functional_call(module, dict(zip(names, p, strict=True)), (x.detach(),))  # noqa: E731
    assert torch.autograd.gradcheck(run, values)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_and_low_precision(device, dtype):
    torch.manual_seed(0)
    layer, x = MultiHeadAttention(8, 2).to(device), randn(3, 5, 8, dtype=torch.float32).to(device)
    mask, expected = causal_mask(5, device), layer(x, mask=causal_mask(5, device))[0]
    with torch.autocast(device, dtype):
        torch.testing.assert_close(layer(x, mask=mask)[0].float(), expected, atol=0.05, rtol=0.05)
    low = layer.to(dtype)(x.to(dtype), mask=mask)
    assert low[0].dtype == low[1].dtype == dtype
    torch.testing.assert_close(low[0].float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("device", DEVICES)
def test_compiles(device):
    torch.manual_seed(0)
    layer, block = MultiHeadAttention(8, 2).to(device), TransformerBlock(8, 2).to(device)
    x, mask = randn(3, 5, 8, dtype=torch.float32).to(device), causal_mask(5, device)
    for module in (layer, block):
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x, mask=mask), module(x, mask=mask))


@pytest.mark.skipif(len(DEVICES) == 1, reason="no GPU")
def test_gpu_is_cpu():
    block, x, mask = TransformerBlock(8, 2).double(), randn(3, 5, 8), causal_mask(5)
    expected, weights = block(x, mask), block.attention(x, mask=mask)[1]
    block = block.cuda()
    torch.testing.assert_close(block(x.cuda(), mask.cuda()).cpu(), expected)
    torch.testing.assert_close(block.attention(x.cuda(), mask=mask.cuda())[1].cpu(), weights)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 4), (5, 3), (5, 2)), r"q, k: got q \[3, 4\].*last dimension"),
        (((4,), (5, 4), (5, 2)), "q, k: got"),
        (((3, 4), (5, 4), (4, 2)), "k, v: got.*one value for each"),
        (((3, 4), (0, 4), (0, 2)), "at least one key"),
        (((2, 3, 4), (1, 5, 4), (2, 5, 2)), "q, k, v: got.*same leading dimensions"),
        (((3, 4), (1, 5, 4), (1, 5, 2)), "q, k, v: got.*same leading dimensions"),
    ],
)
def test_other_shapes_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        attention(*map(torch.zeros, shapes))


@pytest.mark.parametrize("shape", [(3, 4), (4, 5), (5, 3), (2, 3, 5), (1, 1, 1, 1)])
def test_other_masks_are_refused(shape):
    q, k = torch.zeros(1, 3, 4), torch.zeros(1, 5, 4)
    with pytest.raises(ValueError, match=r"mask: got \["):
        attention(q, k, k, torch.ones(shape, dtype=torch.bool))
    with pytest.raises(ValueError, match="expected torch.bool"):
        attention(q, k, k, torch.ones(3, 5))


@pytest.mark.parametrize("lengths", [torch.tensor([1, 4]), torch.tensor([-1, 2]), torch.tensor([1.0]), torch.tensor(2)])
def test_other_lengths_are_refused(lengths):
    with pytest.raises(ValueError, match="lengths: got"):
        padding_mask(lengths, 3)


def test_modules_refuse_other_sizes():
    with pytest.raises(ValueError, match="heads: got 3 for dim 8"):
        MultiHeadAttention(8, 3)
    with pytest.raises(ValueError, match="dim: got 3"):
        sinusoids(4, 3)
    layer = MultiHeadAttention(8, 2, context_dim=6)
    with pytest.raises(ValueError, match=r"x: got \[2, 3, 6\], expected \[B, T, 8\]"):
        layer(torch.zeros(2, 3, 6))
    with pytest.raises(ValueError, match=r"context: got \[2, 3, 8\], expected \[B, T, 6\]"):
        layer(torch.zeros(2, 3, 8), torch.zeros(2, 3, 8))
    with pytest.raises(ValueError, match="context: got 1 examples for 2"):
        layer(torch.zeros(2, 3, 8), torch.zeros(1, 3, 6))
    with pytest.raises(ValueError, match="at least one key"):
        layer(torch.zeros(2, 3, 8), torch.zeros(2, 0, 6), need_weights=False)
