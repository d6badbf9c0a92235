"""Distillation losses against torch's own losses and distributions, in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional as F

from src.representation.distillation import (
    UNLABELLED,
    distillation_loss,
    feature_distillation,
    relational_loss,
    soft_targets,
)

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SIZES, SEEDS = st.integers(1, 7), st.integers(0, 99)
TEMPERATURES, ALPHAS = st.floats(0.1, 50), st.floats(0, 1)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def some_labels(rows: int, classes: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(st.lists(SIZES, max_size=2), SIZES, TEMPERATURES, SEEDS)
def test_soft_targets_are_torchs(batch, classes, T, seed):
    z = 20 * randn(*batch, classes, seed=seed)
    p = soft_targets(z, T)
    torch.testing.assert_close(p, Categorical(logits=z / T).probs)
    torch.testing.assert_close(p.sum(-1), torch.ones_like(p[..., 0]))
    torch.testing.assert_close(soft_targets(z + 3, T), p)


def test_soft_targets_at_both_ends():
    z = torch.tensor([[2.0, 1.0, -4.0]], dtype=torch.float64)
    torch.testing.assert_close(soft_targets(z, 1e-3), torch.tensor([[1.0, 0, 0]], dtype=torch.float64))
    torch.testing.assert_close(soft_targets(z, 1e9), torch.full_like(z, 1 / 3), atol=1e-8, rtol=0)
    assert soft_targets(torch.tensor([1e30, 0.0]), 1e-3).tolist() == [1, 0]


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(2, 9), TEMPERATURES, ALPHAS, SEEDS, st.sampled_from([torch.float32, torch.float64]))
def test_distillation_is_torchs(rows, classes, T, alpha, seed, dtype):
    z, t = (3 * randn(rows, classes, seed=seed + n, dtype=dtype) for n in range(2))
    y = some_labels(rows, classes, seed)
    loss = distillation_loss(z, t, y, T, alpha)
    kl = F.kl_div((z / T).log_softmax(-1), (t / T).log_softmax(-1), reduction="batchmean", log_target=True)
    close = {"rtol": 1e-3, "atol": 5e-3} if dtype == torch.float32 else {}  # T² magnifies what single precision rounds
    torch.testing.assert_close(loss, alpha * F.cross_entropy(z, y) + (1 - alpha) * T**2 * kl, **close)
    theirs = kl_divergence(Categorical(logits=t.double() / T), Categorical(logits=z.double() / T)).mean()
    torch.testing.assert_close(kl.double(), theirs, **close)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(2, 6), ALPHAS, SEEDS)
def test_rows_without_a_label_only_hear_the_teacher(rows, classes, alpha, seed):
    z, t, y = randn(rows, classes, seed=seed), randn(rows, classes, seed=seed + 1), some_labels(rows, classes, seed)
    y[randn(rows, seed=seed + 2) > 0] = UNLABELLED
    known = y != UNLABELLED
    hard = F.cross_entropy(z[known], y[known]) if known.any() else torch.zeros((), dtype=torch.float64)
    soft = distillation_loss(z, t, y, 2.0, 0.0)
    torch.testing.assert_close(distillation_loss(z, t, y, 2.0, alpha), alpha * hard + (1 - alpha) * soft)


def test_zero_at_the_teacher_and_shifts_do_not_matter():
    z, y = randn(4, 5), torch.full((4,), UNLABELLED)
    shifted = z + randn(4, 1, seed=1)
    assert distillation_loss(shifted, z, y, 3.0, 0.5).abs() < 1e-12
    assert distillation_loss(z.flip(1), z, y, 3.0, 0.5) > 0.1


def test_high_temperature_is_logit_matching():
    z, t, y = randn(6, 5), randn(6, 5, seed=1), torch.full((6,), UNLABELLED)
    centred = (z - z.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
    limit = centred.square().sum(1).mean() / (2 * 5)
    gaps = [(distillation_loss(z, t, y, T, 0.0) - limit).abs() for T in (10.0, 100.0, 1000.0)]
    assert gaps[2] < 2e-3 * limit and all(after < before / 5 for before, after in zip(gaps, gaps[1:], strict=False))


def test_temperature_does_not_change_the_gradients_size():
    t, y = randn(6, 5, seed=1), torch.full((6,), UNLABELLED)
    sizes = []
    for T in (20.0, 2000.0):
        z = randn(6, 5).requires_grad_()
        distillation_loss(z, t, y, T, 0.0).backward()
        expected = T * (soft_targets(z, T) - soft_targets(t, T)) / 6
        torch.testing.assert_close(z.grad, expected.detach())
        sizes.append(z.grad.norm())
    assert 0.9 < sizes[0] / sizes[1] < 1.1


@settings(max_examples=30, deadline=None)
@given(SIZES, SIZES, SIZES, SEEDS)
def test_features_are_torchs(rows, d_s, d_t, seed):
    s, t, r = randn(rows, d_s, seed=seed), randn(rows, d_t, seed=seed + 1), nn.Linear(d_s, d_t).double()
    torch.testing.assert_close(feature_distillation(s, t, r), F.mse_loss(r(s), t))
    torch.testing.assert_close(feature_distillation(t + 2, t), torch.tensor(4.0, dtype=torch.float64))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 7), SIZES, SIZES, SEEDS)
def test_relations_are_the_sum_over_pairs(rows, d_s, d_t, seed):
    s, t = randn(rows, d_s, seed=seed), randn(rows, d_t, seed=seed + 1)
    gaps = [
        F.cosine_similarity(s[i], s[j], dim=0) - F.cosine_similarity(t[i], t[j], dim=0)
        for i in range(rows)
        for j in range(rows)
        if i != j
    ]
    torch.testing.assert_close(relational_loss(s, t), torch.stack(gaps).square().mean())


def test_relations_ignore_rotation_size_and_width():
    s = randn(6, 4)
    Q = torch.linalg.qr(randn(9, 9, seed=1))[0][:4]
    assert relational_loss(s, 5 * s @ Q) < 1e-25
    assert relational_loss(s, randn(6, 9, seed=2)) > 0.05


def test_gradients_reach_the_student_and_not_the_teacher():
    z, t, y = randn(3, 4).requires_grad_(), randn(3, 4, seed=1).requires_grad_(), torch.tensor([0, UNLABELLED, 3])
    r = nn.Linear(4, 4).double()
    losses = (
        lambda z: soft_targets(z, 1.7),
        lambda z: distillation_loss(z, t, y, 1.7, 0.3),
        lambda z: feature_distillation(z, t, r),
        lambda z: relational_loss(z, t),
    )
    for loss in losses:
        assert torch.autograd.gradcheck(loss, z)
        loss(z).sum().backward()
    assert t.grad is None and z.grad.abs().sum() > 0 and r.weight.grad.abs().sum() > 0


def all_losses(z, t, y):
    return (
        distillation_loss(z, t, y, 2.0, 0.3),
        feature_distillation(z, t),
        relational_loss(z, t),
        soft_targets(z, 2.0).square().sum(),
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_and_low_precision(device, dtype):
    W, x = randn(6, 5, dtype=torch.float32).to(device), randn(4, 6, seed=3, dtype=torch.float32).to(device)
    t, y = randn(4, 5, seed=1, dtype=torch.float32).to(device), torch.tensor([0, 1, UNLABELLED, 4], device=device)
    expected = all_losses(x @ W, t, y)
    with torch.autocast(device, dtype):
        low = all_losses(x @ W, t, y)
    for have, want in zip(low, expected, strict=True):
        torch.testing.assert_close(have.float(), want, atol=0.05, rtol=0.05)
    low = all_losses((x @ W).to(dtype), t.to(dtype), y)
    assert {loss.dtype for loss in low} == {dtype}
    torch.testing.assert_close(torch.stack(low).float(), torch.stack(expected), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("device", DEVICES)
def test_compiles(device):
    z, t = randn(3, 4, dtype=torch.float32).to(device), randn(3, 4, seed=1, dtype=torch.float32).to(device)
    y = torch.tensor([0, UNLABELLED, 3], device=device)
    compiled = torch.compile(all_losses, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z, t, y), all_losses(z, t, y))


@pytest.mark.skipif(len(DEVICES) == 1, reason="no GPU")
def test_gpu_is_cpu():
    z, t, y = randn(6, 5), randn(6, 5, seed=1), torch.tensor([0, 1, UNLABELLED, 2, 3, 4])
    theirs = all_losses(z.cuda(), t.cuda(), y.cuda())
    torch.testing.assert_close(tuple(loss.cpu() for loss in theirs), all_losses(z, t, y))


@pytest.mark.parametrize("T", [0, -1.0, float("nan"), float("inf")])
def test_other_temperatures_are_refused(T):
    with pytest.raises(ValueError, match=r"temperature: got .*positive"):
        soft_targets(torch.zeros(2, 3), T)
    with pytest.raises(ValueError, match=r"temperature: got .*positive"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), T, 0.5)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_other_alphas_are_refused(alpha):
    with pytest.raises(ValueError, match="alpha: got"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), 1.0, alpha)


@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((0, 3), (0, 3)), ((2, 0), (2, 0)), ((3,), (3,))]
)
def test_other_logits_are_refused(shapes):
    with pytest.raises(ValueError, match="student_logits, teacher_logits: got"):
        distillation_loss(*map(torch.zeros, shapes), torch.zeros(2, dtype=torch.long), 1.0, 0.5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(3, dtype=torch.long), r"labels: got torch.int64 \[3\]"),
        (torch.zeros(2), "expected int64"),
        (torch.tensor([0, 3]), "labels: got 3, expected 0 … 2"),
        (torch.tensor([-1, 0]), "labels: got -1"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(torch.zeros(2, 3), torch.zeros(2, 3), labels, 1.0, 0.5)


def test_other_features_are_refused():
    with pytest.raises(ValueError, match=r"got \[2, 3\] after the projector, \[2, 4\].*Linear"):
        feature_distillation(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="got 2 and 3 rows"):
        relational_loss(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="at least two"):
        relational_loss(torch.zeros(1, 3), torch.zeros(1, 3))
    for empty in (torch.zeros(0, 3), torch.zeros(2, 0)):
        for call in (feature_distillation, relational_loss, lambda s, t: soft_targets(s, 1.0)):
            with pytest.raises(ValueError, match="got"):
                call(empty, empty)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_is_refused(bad):
    x, y = torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)
    broken = torch.full((2, 3), bad)
    with pytest.raises(ValueError, match="logits: got NaN"):
        soft_targets(broken, 1.0)
    for s, t, name in ((broken, x, "student"), (x, broken, "teacher")):
        for call in (lambda s, t: distillation_loss(s, t, y, 1.0, 0.5), feature_distillation, relational_loss):
            with pytest.raises(ValueError, match=f"{name}.*: got NaN"):
                call(s, t)
