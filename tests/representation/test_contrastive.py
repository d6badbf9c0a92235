"""Contrastive losses against open_clip's, chunks against the whole, and recall against a count by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.loss import ClipLoss, SigLipLoss
from torch import nn

from src.representation import contrastive
from src.runtime import available_devices

DEVICES = available_devices()
LOSSES = {
    "info_nce": lambda x, y, tau: contrastive.info_nce(x, y, tau),
    "sigmoid_loss": lambda x, y, tau: contrastive.sigmoid_loss(x, y, tau, -2.0),
    "chunked_info_nce": lambda x, y, tau: contrastive.chunked_info_nce(x, y, tau, 3),
}


def pairs(batch: int = 7, dim: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64, device: str = "cpu"):
    both = torch.randn(2, batch, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x, y = nn.functional.normalize(both, dim=2).to(device, dtype)
    return x.requires_grad_(), y.requires_grad_(), torch.tensor(0.1, dtype=dtype, device=device, requires_grad=True)


def value_and_gradients(loss, inputs):
    value = loss(*inputs)
    return value, *torch.autograd.grad(value, inputs)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 12), dim=st.integers(1, 9), seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_losses_are_open_clips(batch, dim, seed, dtype):
    inputs = pairs(batch, dim, seed, dtype)
    for ours, theirs in (
        (LOSSES["info_nce"], lambda x, y, tau: ClipLoss()(x, y, 1 / tau)),
        (LOSSES["sigmoid_loss"], lambda x, y, tau: SigLipLoss()(x, y, 1 / tau, torch.tensor(-2.0, dtype=x.dtype))),
    ):
        torch.testing.assert_close(value_and_gradients(ours, inputs), value_and_gradients(theirs, inputs))


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(1, 12), chunk=st.integers(1, 14), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_chunks_change_nothing(batch, chunk, dtype):
    inputs = pairs(batch, dtype=dtype)
    chunked = value_and_gradients(lambda x, y, tau: contrastive.chunked_info_nce(x, y, tau, chunk), inputs)
    assert all(part.dtype == dtype for part in chunked)
    torch.testing.assert_close(chunked, value_and_gradients(contrastive.info_nce, inputs))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    assert torch.autograd.gradcheck(LOSSES[name], pairs(4, 3))


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_the_pairs_does_not_matter(name):
    x, y, tau = pairs()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(LOSSES[name](x[order], y[order], tau), LOSSES[name](x, y, tau))
    assert LOSSES[name](x[order], y, tau) != LOSSES[name](x, y, tau)


def test_closed_forms():
    x = torch.eye(4, dtype=torch.float64)
    low = torch.tensor(1 + 3 * torch.e**-2, dtype=torch.float64).log()
    torch.testing.assert_close(contrastive.info_nce(x, x, 0.5), low)
    same = torch.ones(4, 1, dtype=torch.float64)
    torch.testing.assert_close(contrastive.info_nce(same, same, 0.5), torch.tensor(4.0, dtype=torch.float64).log())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("device", DEVICES)
def test_autocast_and_half_precision(name, device):
    inputs = pairs(device=device, dtype=torch.float32)
    plain = LOSSES[name](*inputs)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast(device, dtype):
            mixed = LOSSES[name](*inputs)
        torch.testing.assert_close(mixed.float(), plain, rtol=0.03, atol=0.03)
        assert all(part.isfinite().all() for part in torch.autograd.grad(mixed, inputs))
        halves = LOSSES[name](*(part.detach().to(dtype) for part in inputs))
        torch.testing.assert_close(halves.float(), plain, rtol=0.05, atol=0.05)
        assert halves.dtype == (dtype if name == "sigmoid_loss" else torch.float32)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gpu_agrees(name):
    if "cuda" not in DEVICES:
        pytest.skip("no CUDA device here")
    there = value_and_gradients(LOSSES[name], pairs(device="cuda"))
    torch.testing.assert_close([part.cpu() for part in there], list(value_and_gradients(LOSSES[name], pairs())))


def test_compiles():
    for loss in LOSSES.values():
        inputs = pairs(dtype=torch.float32)
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(value_and_gradients(compiled, inputs), value_and_gradients(loss, inputs))
    scores, wanted = torch.rand(5, 7, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    compiled = torch.compile(contrastive.ranks, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(scores, wanted), contrastive.ranks(scores, wanted))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, tau: (x[:3], y, tau), r"x, y: got \[3, 5\], \[7, 5\]"),
        (lambda x, y, tau: (x[0], y[0], tau), r"x, y: got \[5\], \[5\]"),
        (lambda x, y, tau: (x[:0], y[:0], tau), "x, y: got .*expected two equal"),
        (lambda x, y, tau: (x * torch.nan, y, tau), "x: got NaN"),
        (lambda x, y, tau: (x, y / 0, tau), "y: got NaN"),
        (lambda x, y, tau: (x, y, torch.nan), "temperature: got NaN"),
        (lambda x, y, tau: (x, y, torch.ones(7, 1)), r"temperature, bias: got shapes \[7, 1\], \[\], expected one number"),
        (lambda x, y, tau: (x, y, 0.0), "temperature: got 0, expected a positive"),
        (lambda x, y, tau: (x, y, tau - 1), "temperature: got -0.9, expected a positive"),
    ],
)
def test_bad_input(name, change, message):
    with pytest.raises(ValueError, match=message):
        LOSSES[name](*change(*pairs()))


@pytest.mark.parametrize("bias", [torch.nan, -torch.inf, torch.zeros(7)])
def test_bad_bias(bias):
    with pytest.raises(ValueError, match="bias: got"):
        contrastive.sigmoid_loss(*pairs(), bias)


def test_bad_chunk():
    with pytest.raises(ValueError, match="chunk: got 0"):
        contrastive.chunked_info_nce(*pairs(), 0)
    with pytest.raises(ValueError, match="got 3 and 2 examples, chunk 1"):
        contrastive.cached_backward(nn.Identity(), nn.Identity(), torch.ones(3, 1), torch.ones(2, 1), torch.dot, 1)


def encoders(dropout: float) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(
        nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4)) for width in (6, 3)
    ).double()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("chunk", [1, 4, 5, 11, 20])
@pytest.mark.parametrize("loss", [contrastive.info_nce, contrastive.chunked_info_nce])
def test_cached_gradients_are_the_plain_ones(chunk, loss, device):
    models = encoders(0.0).to(device)
    a, b = torch.randn(11, 6, dtype=torch.float64).to(device), torch.randn(11, 3, dtype=torch.float64).to(device)
    plain = contrastive.info_nce(models[0](a), models[1](b), 0.2)
    expected = torch.autograd.grad(plain, list(models.parameters()))
    value = contrastive.cached_backward(models[0], models[1], a, b, lambda x, y: loss(x, y, 0.2), chunk)
    torch.testing.assert_close(value, plain.detach())
    torch.testing.assert_close([p.grad for p in models.parameters()], list(expected))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", DEVICES)
def test_cached_gradients_under_autocast_are_the_plain_ones(device, dtype):
    models = encoders(0.0).float().to(device)
    a, b = torch.randn(8, 6, device=device), torch.randn(8, 3, device=device)
    with torch.autocast(device, dtype):
        plain = contrastive.info_nce(models[0](a), models[1](b), 0.2)
        expected = torch.autograd.grad(plain, list(models.parameters()))
        contrastive.cached_backward(models[0], models[1], a, b, lambda x, y: contrastive.info_nce(x, y, 0.2), 3)
    torch.testing.assert_close([p.grad for p in models.parameters()], list(expected), atol=0.05, rtol=0.05)


def test_cached_dropout_draws_the_same_masks_twice():
    models = encoders(0.5)
    a, b = torch.randn(6, 6, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    torch.manual_seed(3)
    plain = contrastive.info_nce(models[0](a), models[1](b), 0.2)
    expected, next_number = torch.autograd.grad(plain, list(models.parameters())), torch.rand(1)
    torch.manual_seed(3)
    contrastive.cached_backward(models[0], models[1], a, b, lambda x, y: contrastive.info_nce(x, y, 0.2), 6)
    torch.testing.assert_close([p.grad for p in models.parameters()], list(expected))
    assert torch.equal(torch.rand(1), next_number)


def test_recall_counts():
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    wanted = torch.tensor([0, 2, 1])
    assert contrastive.ranks(scores, wanted).tolist() == [1, 3, 3]
    assert [contrastive.recall_at_k(scores, wanted, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 1 / 3, 1])
    with pytest.raises(ValueError, match=r"expected \[N, M\] and \[N\]"):
        contrastive.ranks(scores, wanted[:2])
    with pytest.raises(ValueError, match="scores: got NaN"):
        contrastive.ranks(scores * torch.nan, wanted)
    with pytest.raises(ValueError, match="wanted: got 1 to 3, expected 0 to 2"):
        contrastive.ranks(scores, wanted + 1)
    with pytest.raises(ValueError, match="k: got 0"):
        contrastive.recall_at_k(scores, wanted, 0)


@settings(max_examples=30, deadline=None)
@given(queries=st.integers(1, 9), candidates=st.integers(1, 9), seed=st.integers(0, 99))
def test_ranks_are_the_places_after_sorting(queries, candidates, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(queries, candidates, generator=generator, dtype=torch.float64)
    wanted = torch.randint(candidates, (queries,), generator=generator)
    order = scores.argsort(1, descending=True)
    places = (order == wanted[:, None]).nonzero()[:, 1] + 1
    for device in DEVICES:
        assert torch.equal(contrastive.ranks(scores.to(device), wanted.to(device)).cpu(), places)
