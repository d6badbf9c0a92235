"""Weighted fusion against closed forms and torch's own modules."""

import pytest
import torch

from src.fusion.weighted import AttentionFusion, weighted_sum

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("examples", "modalities", "dim"), [(1, 1, 1), (5, 2, 3), (4, 3, 8)])
def test_weighted_sum_is_a_matrix_product(examples, modalities, dim, device):
    X = torch.randn(examples, modalities, dim, dtype=torch.float64, device=device)
    w = torch.rand(examples, modalities, dtype=torch.float64, device=device)
    torch.testing.assert_close(weighted_sum(X, w), torch.bmm(w[:, None], X)[:, 0])
    torch.testing.assert_close(weighted_sum(X, w[0]), torch.einsum("bmd,m->bd", X, w[0]))


def test_gradients():
    X = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    w = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(weighted_sum, (X, w))
    layer = AttentionFusion(4, 2, hidden=5).double()
    assert torch.autograd.gradcheck(layer, X)


def test_attention_weights_are_the_formula():
    layer, X = AttentionFusion(4, 3, hidden=5).double(), torch.randn(6, 3, 4, dtype=torch.float64)
    Y, w = layer(X)
    scores = [torch.tanh(X[:, i] @ u.weight.T + u.bias) @ layer.score.weight[0] for i, u in enumerate(layer.hidden)]
    expected = torch.stack(scores, 1).exp() / torch.stack(scores, 1).exp().sum(1, keepdim=True)
    torch.testing.assert_close(w, expected)
    torch.testing.assert_close(w.sum(1), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(Y, sum(expected[:, i, None] * X[:, i] for i in range(3)))


@pytest.mark.parametrize("device", DEVICES)
def test_attention_compiles_and_autocasts(device):
    layer, X = AttentionFusion(8, 2).to(device), torch.randn(4, 2, 8, device=device)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X)[0], layer(X)[0])
    with torch.autocast(device, torch.bfloat16):
        torch.testing.assert_close(layer(X)[0].float(), layer(X.float())[0].float(), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (3, 2), (1, 4, 2)])
def test_weighted_sum_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="weights: got"):
        weighted_sum(torch.zeros(4, 2, 5), torch.zeros(shape))


def test_attention_refuses_another_number_of_modalities():
    with pytest.raises(ValueError, match=r"features: got \[4, 3, 8\], expected \[B, 2, D\]"):
        AttentionFusion(8, 2)(torch.zeros(4, 3, 8))
