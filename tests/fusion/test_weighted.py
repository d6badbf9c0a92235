"""Weighted fusion against closed forms and torch's own modules."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.fusion.weighted import AttentionFusion, weighted_sum

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SIZES = st.integers(1, 6)
DTYPES = st.sampled_from([torch.float32, torch.float64])


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def fusion(dim: int, modalities: int, hidden: int = 5) -> AttentionFusion:
    torch.manual_seed(0)
    return AttentionFusion(dim, modalities, hidden).double()


@settings(max_examples=30, deadline=None)
@given(examples=SIZES, modalities=SIZES, dim=SIZES, dtype=DTYPES)
def test_weighted_sum_is_a_matrix_product(examples, modalities, dim, dtype):
    X, w = randn(examples, modalities, dim, dtype=dtype), randn(examples, modalities, seed=1, dtype=dtype)
    torch.testing.assert_close(weighted_sum(X, w), torch.bmm(w[:, None], X)[:, 0])
    torch.testing.assert_close(weighted_sum(X, w[0]), torch.einsum("bmd,m->bd", X, w[0]))


@settings(max_examples=20, deadline=None)
@given(examples=SIZES, modalities=SIZES, dim=SIZES)
def test_attention_weights_are_the_formula(examples, modalities, dim):
    layer, X = fusion(dim, modalities), randn(examples, modalities, dim)
    Y, w = layer(X)
    scores = [torch.tanh(X[:, i] @ u.weight.T + u.bias) @ layer.score.weight[0] for i, u in enumerate(layer.hidden)]
    expected = torch.stack(scores, 1).exp() / torch.stack(scores, 1).exp().sum(1, keepdim=True)
    torch.testing.assert_close(w, expected)
    torch.testing.assert_close(w.sum(1), torch.ones(examples, dtype=torch.float64))
    torch.testing.assert_close(Y, sum(expected[:, i, None] * X[:, i] for i in range(modalities)))


def test_gradients():
    X, w = randn(3, 2, 4).requires_grad_(), randn(3, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(weighted_sum, (X, w))
    assert torch.autograd.gradcheck(fusion(4, 2), X)


@pytest.mark.parametrize("device", DEVICES)
def test_compiles_and_autocasts(device):
    layer, X = fusion(8, 2).float().to(device), randn(4, 2, 8, dtype=torch.float32).to(device)
    expected = tuple(part.detach() for part in layer(X))
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(X), expected)
    compiled = torch.compile(weighted_sum, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X, expected[1]), expected[0])
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast(device, dtype):
            torch.testing.assert_close([part.float() for part in layer(X)], list(expected), atol=0.05, rtol=0.05)
        low = fusion(8, 2).to(device, dtype)(X.to(dtype))
        assert {part.dtype for part in low} == {dtype}
        torch.testing.assert_close([part.float() for part in low], list(expected), atol=0.05, rtol=0.05)


@pytest.mark.skipif(len(DEVICES) == 1, reason="needs a GPU")
def test_gpu_agrees():
    layer, X = fusion(8, 3), randn(4, 3, 8)
    expected = layer(X)
    torch.testing.assert_close(tuple(part.cpu() for part in layer.cuda()(X.cuda())), expected)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (3, 2), (1, 4, 2)])
def test_weighted_sum_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="weights: got"):
        weighted_sum(torch.zeros(4, 2, 5), torch.zeros(shape))
    with pytest.raises(ValueError, match="M ≥ 1"):
        weighted_sum(torch.zeros(4, 0, 5), torch.zeros(0))


@pytest.mark.parametrize("shape", [(4, 3, 8), (4, 2, 7), (2, 8)])
def test_attention_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"features: got .*, expected \[B, 2, 8\]"):
        AttentionFusion(8, 2)(torch.zeros(shape))
    with pytest.raises(ValueError, match="modalities: got 0"):
        AttentionFusion(8, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_is_refused(bad):
    X, w = torch.zeros(4, 2, 8), torch.zeros(2)
    broken = X.clone()
    broken[1, 1, 1] = bad
    for call in (lambda: weighted_sum(broken, w), lambda: AttentionFusion(8, 2).weights(broken)):
        with pytest.raises(ValueError, match="features: got NaN"):
            call()
    with pytest.raises(ValueError, match="weights: got NaN"):
        weighted_sum(X, w + bad)
