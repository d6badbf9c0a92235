"""Losses, gradients and optimiser steps against torch.nn.functional, autograd and torch.optim."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from src.fusion import optimisation as o

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=3)
SCALES = st.sampled_from([0.01, 1.0, 30.0, 1000.0])


def randn(*shape, seed=0, scale=1.0, **options):
    values = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * scale
    return values.to(options.get("device", "cpu"))


def pairs(shape, seed, scale, device="cpu"):
    """(kernel, its gradient, torch's loss, output, target) for each of the three losses."""
    z = randn(*shape, seed=seed, scale=scale, device=device)
    y = torch.rand(z.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(seed)).to(device)
    rows = z.reshape(shape[0], -1)
    classes = torch.arange(len(rows), device=device) % rows.shape[1]
    yield o.binary_cross_entropy, o.binary_cross_entropy_gradient, F.binary_cross_entropy_with_logits, z, y
    yield o.mean_squared_error, o.mean_squared_error_gradient, F.mse_loss, z, y
    yield o.cross_entropy, o.cross_entropy_gradient, F.cross_entropy, rows, classes


@settings(deadline=None, max_examples=40)
@given(SHAPES, st.integers(0, 1000), SCALES)
def test_losses_and_gradients_are_torchs(shape, seed, scale):
    for loss, gradient, reference, z, y in pairs(shape, seed, scale):
        z.requires_grad_()
        expected = reference(z, y)
        torch.testing.assert_close(loss(z, y), expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(gradient(z, y), torch.autograd.grad(expected, z)[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_gradcheck(scale):
    for loss, gradient, _, z, y in pairs([3, 2, 2], 0, scale):
        z.requires_grad_()
        assert torch.autograd.gradcheck(loss, (z, y))
        assert torch.autograd.gradcheck(gradient, (z, y))


def test_loss_is_the_definition_with_both_terms():
    z, y = randn(50), (randn(50, seed=1) > 0).double()
    p = torch.sigmoid(z)
    torch.testing.assert_close(o.binary_cross_entropy(z, y), -(y * p.log() + (1 - y) * (1 - p).log()).mean())
    two = torch.stack([torch.zeros_like(z), z], 1)  # two classes: the difference of the logits decides
    torch.testing.assert_close(o.cross_entropy(two, y.long()), o.binary_cross_entropy(z, y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtype_is_kept_and_huge_logits_are_finite(dtype):
    z, y = torch.tensor([1e4, -1e4, 0.0], dtype=dtype), torch.tensor([0.0, 1.0, 1.0], dtype=dtype)
    loss = o.binary_cross_entropy(z, y)
    assert loss.dtype == dtype and loss.isfinite()
    torch.testing.assert_close(loss.double(), torch.tensor(2e4 / 3, dtype=torch.float64), rtol=0.01, atol=0)
    assert o.binary_cross_entropy_gradient(z, y).tolist()[:2] == pytest.approx([1 / 3, -1 / 3], rel=0.01)
    assert o.cross_entropy(z[None], torch.tensor([1])).dtype == dtype
    assert o.cross_entropy(z[None], torch.tensor([1])).isfinite()
    assert o.mean_squared_error(z / 1e4, y).item() == pytest.approx(2, rel=0.01)
    for function in (o.mean_squared_error, o.mean_squared_error_gradient):
        assert function(z / 1e4, y).dtype == dtype
    g, zero = torch.full_like(y, 0.1), torch.zeros_like(y)
    for new in (o.sgd_step(z, g, 0.1), *o.momentum_step(z, g, zero, 0.1), *o.adam_step(z, g, zero, zero, 1, 0.1)):
        assert new.dtype == dtype and new.isfinite().all()


OPTIMISERS = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr=lr),
    "momentum": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.8),
    "adam": lambda p, lr: torch.optim.Adam(p, lr=lr, betas=(0.8, 0.95), eps=1e-6),
}


def ours(name, theta, gradients, lr):
    state = [torch.zeros_like(theta)] * {"sgd": 0, "momentum": 1, "adam": 2}[name]
    for t, g in enumerate(gradients, 1):
        if name == "sgd":
            theta = o.sgd_step(theta, g, lr)
        elif name == "momentum":
            theta, *state = o.momentum_step(theta, g, *state, lr, mu=0.8)
        else:
            theta, *state = o.adam_step(theta, g, *state, t, lr, beta1=0.8, beta2=0.95, eps=1e-6)
    return theta


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", OPTIMISERS)
@settings(deadline=None, max_examples=15)
@given(shape=SHAPES, seed=st.integers(0, 1000), steps=st.integers(1, 30), lr=st.sampled_from([1e-3, 0.1, 2.0]))
def test_steps_are_torchs_to_the_last_digits(name, device, shape, seed, steps, lr):
    theta = randn(*shape, seed=seed, device=device)
    gradients = randn(steps, *shape, seed=seed + 1, device=device)
    parameter = theta.clone().requires_grad_()
    optimiser = OPTIMISERS[name]([parameter], lr)
    for g in gradients:
        parameter.grad = g.clone()
        optimiser.step()
    torch.testing.assert_close(ours(name, theta, gradients, lr), parameter.detach(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("lr", [0.1, 1e-3])
def test_steps_go_down_and_leave_their_arguments_alone(lr):
    theta, g, zero = randn(4), randn(4, seed=1), torch.zeros(4, dtype=torch.float64)
    before = theta.clone()
    for new in (o.sgd_step(theta, g, lr), o.momentum_step(theta, g, zero, lr)[0], o.adam_step(theta, g, zero, zero, 1, lr)[0]):
        assert (g * (new - theta)).sum() < 0
    torch.testing.assert_close(theta, before, rtol=0, atol=0)
    assert not zero.any()


def test_first_step_of_adam_has_the_length_of_the_learning_rate():
    theta, g, zero = randn(6), randn(6, seed=1) * 1e3, torch.zeros(6, dtype=torch.float64)
    torch.testing.assert_close(o.adam_step(theta, g, zero, zero, 1, 0.01)[0], theta - 0.01 * g.sign())
    plain = o.adam_step(theta, g, zero, zero, math.inf, 0.01)[0]
    torch.testing.assert_close(plain, theta - 0.01 * 0.1 / math.sqrt(0.001) * g.sign())


def test_one_learning_rate_for_each_run():
    theta, g, zero = randn(3, 4, 2), randn(3, 4, 2, seed=1), torch.zeros(3, 4, 2, dtype=torch.float64)
    lr = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    both = o.adam_step(theta, g, zero, zero, 1, lr[:, None, None])[0]
    one = o.adam_step(theta[1], g[1], zero[1], zero[1], 1, 0.2)[0]
    torch.testing.assert_close(both[1], one)


def test_steps_are_differentiable():
    arguments = [randn(3, seed=n).requires_grad_() for n in range(4)]
    theta, g, m, v = arguments
    positive = (v.detach().abs() + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: o.sgd_step(a, b, 0.1), (theta, g))
    assert torch.autograd.gradcheck(lambda a, b, c: o.momentum_step(a, b, c, 0.1), (theta, g, m))
    assert torch.autograd.gradcheck(lambda a, b, c, d: o.adam_step(a, b, c, d, 3, 0.1), (theta, g, m, positive))


@pytest.mark.parametrize("device", DEVICES)
def test_compiles_and_autocasts(device):
    def compiled(function):
        return torch.compile(function, fullgraph=True, backend="aot_eager")

    for loss, gradient, _, z, y in pairs([4, 3], 0, 1.0, device):
        torch.testing.assert_close(compiled(loss)(z, y), loss(z, y))
        torch.testing.assert_close(compiled(gradient)(z, y), gradient(z, y))
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast(device, dtype):
                low = (z.float() @ torch.eye(z.shape[1], device=device)).requires_grad_()  # half precision, as of a layer
                target = y.float() if y.is_floating_point() else y
                value, by_hand = loss(low, target), gradient(low, target)
            value.backward()
            torch.testing.assert_close(low.grad.double(), gradient(z, y), atol=0.05, rtol=0.05)
            torch.testing.assert_close(by_hand.double(), gradient(z, y), atol=0.05, rtol=0.05)
            torch.testing.assert_close(value.double(), loss(z, y), atol=0.05, rtol=0.05)
    theta, g, m = (randn(5, seed=n, device=device) for n in range(3))
    torch.testing.assert_close(compiled(o.adam_step)(theta, g, m, m**2, 2, 0.1), o.adam_step(theta, g, m, m**2, 2, 0.1))
    torch.testing.assert_close(compiled(o.momentum_step)(theta, g, m, 0.1), o.momentum_step(theta, g, m, 0.1))
    torch.testing.assert_close(compiled(o.sgd_step)(theta, g, 0.1), o.sgd_step(theta, g, 0.1))


@pytest.mark.skipif("cuda" not in DEVICES, reason="no GPU")
def test_cpu_and_gpu_agree():
    for (loss, gradient, _, z, y), (*_, z_gpu, y_gpu) in zip(
        pairs([4, 3], 0, 1.0), pairs([4, 3], 0, 1.0, "cuda"), strict=True
    ):
        torch.testing.assert_close(loss(z_gpu, y_gpu).cpu(), loss(z, y))
        torch.testing.assert_close(gradient(z_gpu, y_gpu).cpu(), gradient(z, y))
    theta, gradients = randn(4), randn(7, 4, seed=1)
    for name in OPTIMISERS:
        torch.testing.assert_close(
            ours(name, theta.cuda(), gradients.cuda(), 0.1).cpu(), ours(name, theta, gradients, 0.1)
        )


ELEMENTWISE = [
    o.binary_cross_entropy, o.binary_cross_entropy_gradient, o.mean_squared_error, o.mean_squared_error_gradient
]  # fmt: skip
CLASSES = [o.cross_entropy, o.cross_entropy_gradient]


@pytest.mark.parametrize("function", ELEMENTWISE)
def test_elementwise_losses_refuse_what_would_be_silently_wrong(function):
    with pytest.raises(ValueError, match=r"y: got \[5\] for \[5, 1\] outputs"):
        function(torch.zeros(5, 1), torch.zeros(5))
    with pytest.raises(ValueError, match=r"y: got torch.int64, expected a floating type; use y.to"):
        function(torch.zeros(5), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got an empty \[0\]"):
        function(torch.zeros(0), torch.zeros(0))
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="outputs: got NaN or infinite"):
            function(torch.tensor([bad, 0.0]), torch.ones(2))
        with pytest.raises(ValueError, match="y: got NaN or infinite"):
            function(torch.zeros(2), torch.tensor([bad, 0.0]))


@pytest.mark.parametrize("function", CLASSES)
def test_cross_entropy_refuses_what_would_be_silently_wrong(function):
    for z, y in ((torch.zeros(5), torch.zeros(5).long()), (torch.zeros(5, 3), torch.zeros(5, 3).long())):
        with pytest.raises(ValueError, match=r"y: got \[.*expected \[B\] for \[B, C\]"):
            function(z, y)
    with pytest.raises(ValueError, match="y: got torch.float32, expected class numbers"):
        function(torch.zeros(5, 3), torch.zeros(5))
    for shape in ([0, 3], [2, 0]):
        with pytest.raises(ValueError, match="logits: got an empty"):
            function(torch.zeros(shape), torch.zeros(shape[0]).long())
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match=f"y: got {wrong} to {wrong}, expected class numbers from 0 to 1"):
            function(torch.zeros(1, 2), torch.tensor([wrong]))
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="logits: got NaN or infinite"):
            function(torch.tensor([[bad, 0.0]]), torch.tensor([1]))


def test_steps_refuse_other_shapes_and_step_zero():
    a, b = torch.zeros(3), torch.zeros(1)
    for call in (lambda: o.sgd_step(a, b, 0.1), lambda: o.momentum_step(a, b, a, 0.1), lambda: o.adam_step(a, b, a, a, 1, 0.1)):
        with pytest.raises(ValueError, match=r"g: got \[1\], expected \[3\] as theta"):
            call()
    with pytest.raises(ValueError, match=r"u: got \[1\]"):
        o.momentum_step(a, a, b, 0.1)
    with pytest.raises(ValueError, match=r"v: got \[1\]"):
        o.adam_step(a, a, a, b, 1, 0.1)
    with pytest.raises(ValueError, match="t: got 0, expected the number of the step"):
        o.adam_step(a, a, a, a, 0, 0.1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_run_that_diverges_does_not_stop_those_beside_it(bad):
    zero, g = torch.zeros(3), torch.tensor([1.0, bad, 2.0])
    for new in (o.sgd_step(zero, g, 0.1), *o.momentum_step(zero, g, zero, 0.1), *o.adam_step(zero, g, zero, zero, 1, 0.1)):
        assert new.isfinite().tolist() == [True, False, True]
