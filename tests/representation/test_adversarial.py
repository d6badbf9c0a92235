"""Adversarial losses against torch's cross entropy and closed forms, in float64; the page's training at a tiny size."""

import importlib.util
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from torch import nn
from torch.nn import functional as F

from src.datasets import shipped
from src.representation.adversarial import discriminator_loss, generator_loss, r1_penalty, reverse_gradient
from src.runtime import data_dir

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SIZES, SEEDS = st.integers(1, 9), st.integers(0, 99)
DTYPES = st.sampled_from([torch.float32, torch.float64])


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def network(inputs: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)).double()


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, DTYPES, SEEDS)
def test_losses_are_the_cross_entropy_of_real_against_generated(reals, fakes, dtype, seed):
    real, fake = 5 * randn(reals, seed=seed, dtype=dtype), 5 * randn(fakes, seed=seed + 1, dtype=dtype)
    bce = F.binary_cross_entropy_with_logits
    expected = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(generator_loss(fake), bce(fake, torch.ones_like(fake)))
    torch.testing.assert_close(generator_loss(fake, saturating=True), -bce(fake, torch.zeros_like(fake)))
    assert discriminator_loss(real, fake).dtype == generator_loss(fake).dtype == dtype


def test_logits_far_out_stay_finite():
    sure = torch.tensor([200.0, -200.0], requires_grad=True)
    loss = discriminator_loss(sure, sure) + generator_loss(sure) + generator_loss(sure, saturating=True)
    loss.backward()
    assert loss.isfinite() and sure.grad.isfinite().all()


def test_the_best_discriminator_gives_the_jensen_shannon_divergence():
    p, q = randn(2, 7).softmax(1)
    s = (p / q).log().requires_grad_()
    draws = 2 * 10**6
    value = (p * F.softplus(-s) + q * F.softplus(s)).sum()
    assert torch.autograd.grad(value, s)[0].abs().max() < 1e-15
    counts = [(draws * weights).round().long() for weights in (p, q)]
    real, fake = (s.detach().repeat_interleave(count) for count in counts)
    torch.testing.assert_close(discriminator_loss(real, fake), value.detach(), rtol=1e-5, atol=0)
    m = (p + q) / 2
    js = (F.kl_div(m.log(), p, reduction="sum") + F.kl_div(m.log(), q, reduction="sum")) / 2
    torch.testing.assert_close(-value.detach(), 2 * js - 2 * torch.tensor(2.0).double().log())


@settings(max_examples=30, deadline=None)
@given(SIZES, st.lists(SIZES, min_size=1, max_size=3), DTYPES, SEEDS)
def test_r1_is_the_slope_by_autograd(batch, shape, dtype, seed):
    x = randn(batch, *shape, seed=seed, dtype=dtype)
    net = nn.Sequential(nn.Flatten(), network(x[0].numel(), seed)).to(dtype)
    leaf = x.clone().requires_grad_()
    slope, = torch.autograd.grad(net(leaf).sum(), leaf, create_graph=True)
    expected = slope.square().sum() / (2 * batch)
    torch.testing.assert_close(r1_penalty(net, x), expected)
    weight = net[1][0].weight
    torch.testing.assert_close(
        torch.autograd.grad(r1_penalty(net, x), weight)[0], torch.autograd.grad(expected, weight)[0]
    )


def test_r1_of_a_plane_is_half_its_squared_slope():
    w = randn(4)
    torch.testing.assert_close(r1_penalty(lambda x: x @ w, randn(3, 4)), w.square().sum() / 2)


def test_gradcheck():
    real, fake = (4 * randn(3, seed=seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(discriminator_loss, (real, fake))
    for saturating in (True, False):
        assert torch.autograd.gradcheck(lambda s, way=saturating: generator_loss(s, way), fake)
    w, x = randn(4, seed=2).requires_grad_(), randn(3, 4)
    assert torch.autograd.gradcheck(lambda w: r1_penalty(lambda x: (x * w).sin().sum(1), x), w)


@settings(max_examples=30, deadline=None)
@given(st.lists(SIZES, max_size=3), st.floats(0, 10), SEEDS)
def test_reversal_is_the_identity_with_the_other_gradient(shape, scale, seed):
    x, upstream = randn(*shape, seed=seed).requires_grad_(), randn(*shape, seed=seed + 1)
    y = reverse_gradient(x, scale)
    assert torch.equal(y, x)
    y.backward(upstream)
    torch.testing.assert_close(x.grad, -scale * upstream)


def test_reversal_is_the_min_max_of_two_optimisers():
    encoder, judge, a, b = nn.Linear(4, 3).double(), network(3), randn(6, 4), randn(5, 4, seed=1)
    weights = [encoder.weight, judge[0].weight]
    plain = torch.autograd.grad(discriminator_loss(judge(encoder(a)), judge(encoder(b))), weights)
    turned = torch.autograd.grad(
        discriminator_loss(judge(reverse_gradient(encoder(a), 0.3)), judge(reverse_gradient(encoder(b), 0.3))), weights
    )
    torch.testing.assert_close(turned, (-0.3 * plain[0], plain[1]))


def all_kernels(x, y, w):
    def judge(v):
        return torch.tanh(v) @ w

    turned = judge(reverse_gradient(x, 0.5))
    return (
        discriminator_loss(turned, judge(y)),
        generator_loss(judge(y)),
        generator_loss(judge(y), saturating=True),
        r1_penalty(judge, x),
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_and_low_precision(device, dtype):
    inputs = [randn(*shape, seed=k, dtype=torch.float32).to(device) for k, shape in enumerate(((6, 4), (5, 4), (4,)))]
    expected = all_kernels(*inputs)
    with torch.autocast(device, dtype):
        low = all_kernels(*inputs)
    for have in (low, all_kernels(*(part.to(dtype) for part in inputs))):
        for value, wanted in zip(have, expected, strict=True):
            torch.testing.assert_close(value.float(), wanted, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("device", DEVICES)
def test_compiles(device):
    inputs = [randn(*shape, seed=k).to(device) for k, shape in enumerate(((6, 4), (5, 4), (4,)))]
    inputs[0].requires_grad_()
    compiled = torch.compile(all_kernels, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), all_kernels(*inputs))
    ours, theirs = (torch.autograd.grad(run(*inputs)[0], inputs[0])[0] for run in (all_kernels, compiled))
    torch.testing.assert_close(theirs, ours)


@pytest.mark.skipif(len(DEVICES) == 1, reason="no GPU")
def test_gpu_is_cpu():
    inputs = [randn(*shape, seed=k) for k, shape in enumerate(((6, 4), (5, 4), (4,)))]
    theirs = all_kernels(*(part.cuda() for part in inputs))
    torch.testing.assert_close(tuple(value.cpu() for value in theirs), all_kernels(*inputs))


@pytest.mark.parametrize("shape", [(), (0,), (3, 1)])
def test_other_logits_are_refused(shape):
    good = torch.zeros(2)
    for call, name in (
        (lambda s: discriminator_loss(s, good), "real"),
        (lambda s: discriminator_loss(good, s), "fake"),
        (generator_loss, "fake"),
    ):
        with pytest.raises(ValueError, match=rf"{name}: got .*expected \[B\]"):
            call(torch.zeros(shape))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_is_refused(bad):
    for call, name in ((generator_loss, "fake"), (lambda s: discriminator_loss(s, torch.zeros(2)), "real")):
        with pytest.raises(ValueError, match=f"{name}: got NaN"):
            call(torch.tensor([0.0, bad]))
    with pytest.raises(ValueError, match="real: got NaN"):
        r1_penalty(lambda x: x.sum(1), torch.tensor([[0.0, bad]]))


def test_other_inputs_of_the_penalty_are_refused():
    for shape in ((3,), (0, 3), (3, 0)):
        with pytest.raises(ValueError, match=r"real: got .*expected \[B, …\]"):
            r1_penalty(lambda x: x.sum(1), torch.zeros(shape))
    with pytest.raises(ValueError, match=r"discriminator: returned \[3, 1\], expected \[3\]"):
        r1_penalty(lambda x: x.sum(1, keepdim=True), torch.zeros(3, 2))


def test_other_reversals_are_refused():
    for scale in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="scale: got"):
            reverse_gradient(torch.zeros(2), scale)
    with pytest.raises(TypeError, match="x: got torch.int64"):
        reverse_gradient(torch.zeros(2, dtype=torch.long))


@pytest.fixture
def maker(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(data_dir()), *sys.path])
    spec = importlib.util.spec_from_file_location("make_emoji_gan", data_dir() / "make_emoji_gan.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_own_training_makes_the_shipped_weights(maker, tmp_path):
    for folder in ("once", "again"):
        maker.make(tmp_path / folder, seeds=2, steps=3, B=8)
    once, again = ((tmp_path / folder / "generators.safetensors").read_bytes() for folder in ("once", "again"))
    assert once == again
    made, kept = load(once), load(shipped.read("emoji_gan", "generators.safetensors"))
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in kept.items() if name[0] in "01"}
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in made.items()} == shapes
    weight = "0.body.0.weight"
    assert all(tensor.isfinite().all() for tensor in kept.values())
    assert not torch.equal(made[weight], made["1" + weight[1:]]) and not torch.equal(made[weight], kept[weight])
