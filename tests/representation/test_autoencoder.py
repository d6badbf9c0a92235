"""The autoencoder's parts against torch.distributions, densities and plain loops, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from src.representation.autoencoder import (
    MultimodalAutoencoder,
    drop_modalities,
    gaussian_kl,
    product_of_experts,
    reconstruction_error,
    reparametrise,
    shared_latent,
)

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SIZES, SEEDS = st.integers(1, 6), st.integers(0, 99)
DTYPES = st.sampled_from([torch.float32, torch.float64])
NAN = float("nan")


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def some_present(rows: int, modalities: int, seed: int = 0) -> torch.Tensor:
    """Marks with at least one modality in each row, and a row for which it is exactly one."""
    present = randn(rows, modalities, seed=seed + 7) > 0
    present[0] = False
    present[torch.arange(rows), torch.arange(rows) % modalities] = True
    return present


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, SIZES, DTYPES, SEEDS)
def test_shared_latent_is_the_mean_of_what_is_there(rows, modalities, width, dtype, seed):
    z, present = randn(rows, modalities, width, seed=seed, dtype=dtype), some_present(rows, modalities, seed)
    shared = shared_latent(z, present)
    expected = torch.stack([row[marks].mean(0) for row, marks in zip(z, present, strict=True)])
    assert shared.dtype == dtype
    torch.testing.assert_close(shared, expected)
    torch.testing.assert_close(shared_latent(z, torch.ones_like(present)), z.mean(1))


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, st.floats(0, 1), SEEDS)
def test_dropping_leaves_a_part_and_never_nothing(rows, modalities, rate, seed):
    present = some_present(rows, modalities, seed)
    kept = drop_modalities(present, rate, torch.Generator().manual_seed(seed))
    assert kept.dtype == torch.bool and kept.any(1).all() and not (kept & ~present).any()
    assert torch.equal(drop_modalities(present, 0.0), present)
    assert (drop_modalities(present, 1.0).sum(1) == 1).all()


def test_dropping_has_the_right_shares_and_repeats_with_its_generator():
    rows, rate = 40_000, 0.3
    present = torch.ones(rows, 3, dtype=torch.bool)
    kept = drop_modalities(present, rate, torch.Generator().manual_seed(1))
    shares = kept.sum(1).bincount(minlength=4) / rows
    left = 1 - rate
    expected = torch.tensor([0, 3 * left * rate**2 + rate**3, 3 * left**2 * rate, left**3])
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)
    torch.testing.assert_close(kept.double().mean(0), kept.double().mean().expand(3), atol=0.01, rtol=0)
    assert torch.equal(kept, drop_modalities(present, rate, torch.Generator().manual_seed(1)))
    assert not torch.equal(kept, drop_modalities(present, rate, torch.Generator().manual_seed(2)))


@settings(max_examples=40, deadline=None)
@given(SIZES, st.lists(st.tuples(SIZES, st.floats(0, 5)), min_size=1, max_size=4), SEEDS)
def test_reconstruction_is_the_sum_over_modalities(rows, parts, seed):
    x = [randn(rows, width, seed=seed + k) for k, (width, _) in enumerate(parts)]
    x_hat = [randn(rows, width, seed=seed + 50 + k) for k, (width, _) in enumerate(parts)]
    weights, present = [weight for _, weight in parts], some_present(rows, len(parts), seed)
    own = torch.stack(
        [w * torch.linalg.vector_norm(a - b, dim=1) ** 2 for w, a, b in zip(weights, x, x_hat, strict=True)], 1
    )
    torch.testing.assert_close(reconstruction_error(x, x_hat, weights), own.sum(1))
    torch.testing.assert_close(reconstruction_error(x, x_hat, weights, present), (own * present).sum(1))


def test_reconstruction_is_a_gaussian_log_likelihood():
    x, x_hat, variances = [randn(4, 3), randn(4, 5, seed=1)], [randn(4, 3, seed=2), randn(4, 5, seed=3)], (0.3, 2.0)
    error = reconstruction_error(x, x_hat, [1 / (2 * v) for v in variances])
    likelihood, constant = 0, 0
    for a, b, v in zip(x, x_hat, variances, strict=True):
        likelihood = likelihood + Normal(b, v**0.5).log_prob(a).sum(1)
        constant += a.shape[1] / 2 * math.log(2 * math.pi * v)
    torch.testing.assert_close(-error - constant, likelihood)


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, DTYPES, SEEDS)
def test_kl_is_torchs(rows, width, dtype, seed):
    mu, log_var = randn(rows, width, seed=seed, dtype=dtype), 2 * randn(rows, width, seed=seed + 1, dtype=dtype)
    kl = gaussian_kl(mu, log_var)
    assert kl.dtype == dtype and (kl >= 0).all()
    torch.testing.assert_close(kl, kl_divergence(Normal(mu, (log_var / 2).exp()), Normal(0 * mu, 1 + 0 * mu)).sum(1))
    assert gaussian_kl(0 * mu, 0 * mu).abs().max() == 0


def test_samples_have_the_mean_the_variance_and_the_gradients():
    mu, log_var = randn(1, 3).requires_grad_(), randn(1, 3, seed=1).requires_grad_()
    z = reparametrise(mu.expand(100_000, 3), log_var.expand(100_000, 3), torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.mean(0), mu[0], atol=0.02, rtol=0)
    torch.testing.assert_close(z.var(0), log_var[0].exp(), atol=0.02, rtol=0.02)
    z.square().sum(1).mean().backward()  # E z² = μ² + v
    torch.testing.assert_close(mu.grad, 2 * mu.detach(), atol=0.02, rtol=0.02)
    torch.testing.assert_close(log_var.grad, log_var.detach().exp(), atol=0.02, rtol=0.02)


def test_samples_are_torchs_and_repeat_with_their_generator():
    mu, log_var = randn(4, 3), randn(4, 3, seed=1)
    torch.manual_seed(5)
    theirs = Normal(mu, (log_var / 2).exp()).rsample()
    torch.manual_seed(5)
    torch.testing.assert_close(reparametrise(mu, log_var), theirs)
    first, again = (reparametrise(mu, log_var, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, theirs)


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, SIZES, SEEDS)
def test_experts_are_the_product_of_densities(rows, modalities, width, seed):
    mu, log_var = randn(rows, modalities, width, seed=seed), randn(rows, modalities, width, seed=seed + 1)
    present = some_present(rows, modalities, seed)
    joint, joint_log_var = product_of_experts(mu, log_var, present)
    z = randn(5, rows, 1, width, seed=seed + 2)
    density = (Normal(mu, (log_var / 2).exp()).log_prob(z) * present[..., None]).sum(2)
    density = density + Normal(0 * joint, 1 + 0 * joint).log_prob(z[:, :, 0])
    constant = density - Normal(joint, (joint_log_var / 2).exp()).log_prob(z[:, :, 0])
    torch.testing.assert_close(constant, constant[:1].expand_as(constant))


def test_experts_agree_with_the_posterior_of_a_linear_model():
    """x_m = z W_m + noise: the likelihoods are the experts, and the posterior of z is known."""
    W, noise, z_width = [randn(2, 2, seed=k) for k in (0, 1)], (0.5, 2.0), 2
    W = [torch.linalg.qr(w)[0] * torch.tensor([[2.0], [1.0]]).double() for w in W]  # orthogonal rows
    x = [randn(4, 2, seed=k) for k in (2, 3)]
    mu = torch.stack([(a @ w.T) / w.square().sum(1) for a, w in zip(x, W, strict=True)], 1)
    log_var = torch.stack([(s / w.square().sum(1)).log() for w, s in zip(W, noise, strict=True)])[None].expand(4, 2, 2)
    joint, joint_log_var = product_of_experts(mu, log_var, torch.ones(4, 2, dtype=torch.bool))
    A, S = torch.cat(W, 1), torch.diag(torch.tensor([noise[0]] * 2 + [noise[1]] * 2).double())
    precision = torch.eye(z_width).double() + A @ S.inverse() @ A.T
    posterior = MultivariateNormal(torch.cat(x, 1) @ S.inverse() @ A.T @ precision.inverse(), precision_matrix=precision)
    torch.testing.assert_close(joint, posterior.mean)
    torch.testing.assert_close(joint_log_var.exp(), posterior.variance)


def test_experts_at_the_ends():
    mu, log_var = torch.tensor([[[3.0], [-5.0]]]).double(), torch.tensor([[[-2000.0], [2000.0]]]).double()
    both = torch.ones(1, 2, dtype=torch.bool)
    joint, joint_log_var = product_of_experts(mu, log_var, both)  # one is certain, the other knows nothing
    assert joint.item() == 3 and joint_log_var.item() == -2000
    none = product_of_experts(mu, log_var, ~both)
    assert none[0].item() == 0 and none[1].item() == 0  # the prior


def test_more_experts_are_never_less_certain():
    mu, log_var = randn(6, 3, 4), randn(6, 3, 4, seed=1)
    marks = torch.tensor([[True, False, False]]).expand(6, 3), torch.tensor([[True, False, True]]).expand(6, 3)
    alone, more = (product_of_experts(mu, log_var, present)[1] for present in marks)
    assert (more < alone).all() and (alone < 0).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(SIZES, min_size=1, max_size=4), SIZES, SIZES, SEEDS)
def test_the_module_is_its_parts(dims, latent, rows, seed):
    torch.manual_seed(seed)
    model = MultimodalAutoencoder(dims, latent, 5).double()
    x, present = [randn(rows, dim, seed=seed + dim) for dim in dims], some_present(rows, len(dims), seed)
    x_hat, z = model(x, present)
    codes = torch.stack([f(each) for f, each in zip(model.encoders, x, strict=True)], 1)
    torch.testing.assert_close(z, shared_latent(codes, present))
    assert [list(each.shape) for each in x_hat] == [[rows, dim] for dim in dims]
    for have, decoder in zip(x_hat, model.decoders, strict=True):
        torch.testing.assert_close(have, decoder(z))


def test_what_is_absent_is_never_read():
    """NaN in absent places changes neither values nor gradients."""
    present = some_present(4, 2)
    x = [randn(4, 3), randn(4, 5, seed=1)]
    holes = [each.masked_fill(~present[:, m, None], NAN) for m, each in enumerate(x)]
    assert any(each.isnan().any() for each in holes)
    torch.manual_seed(0)
    model = MultimodalAutoencoder([3, 5], 2, 4).double()
    results = []
    for inputs in (x, holes):
        model.zero_grad()
        x_hat, _ = model(inputs, present)
        loss = reconstruction_error(inputs, x_hat, [1.0, 2.0], present).sum()
        loss.backward()
        results.append([loss.detach(), *(p.grad.clone() for p in model.parameters())])
    torch.testing.assert_close(*results)
    z, log_var = randn(4, 2, 3), randn(4, 2, 3, seed=1)
    hollow = [each.masked_fill(~present[..., None], NAN) for each in (z, log_var)]
    torch.testing.assert_close(shared_latent(hollow[0], present), shared_latent(z, present))
    torch.testing.assert_close(product_of_experts(*hollow, present), product_of_experts(z, log_var, present))


def test_gradcheck():
    z, log_var, present = randn(3, 2, 4).requires_grad_(), randn(3, 2, 4, seed=1).requires_grad_(), some_present(3, 2)
    assert torch.autograd.gradcheck(lambda z: shared_latent(z, present), z)
    assert torch.autograd.gradcheck(lambda a, b: product_of_experts(a, b, present), (z, log_var))
    mu, log_v = z[:, 0].detach().requires_grad_(), log_var[:, 0].detach().requires_grad_()
    assert torch.autograd.gradcheck(gaussian_kl, (mu, log_v))
    assert torch.autograd.gradcheck(
        lambda a, b: reparametrise(a, b, torch.Generator().manual_seed(0)), (mu, log_v), fast_mode=True
    )
    x = [randn(3, 2, seed=4), randn(3, 5, seed=5)]
    guess = [randn(3, 2, seed=6).requires_grad_(), randn(3, 5, seed=7).requires_grad_()]
    assert torch.autograd.gradcheck(lambda *y: reconstruction_error(x, y, [1.0, 0.5], present), guess)


def everything(x, y, z, log_var, present):
    """Every kernel that draws no number."""
    return (
        shared_latent(z, present),
        *product_of_experts(z, log_var, present),
        gaussian_kl(z[:, 0], log_var[:, 0]),
        reconstruction_error([x, y], [y, x], [1.0, 0.5], present),
    )


def inputs(device="cpu", dtype=torch.float32):
    tensors = [randn(4, 3), randn(4, 3, seed=1), randn(4, 2, 5, seed=2), randn(4, 2, 5, seed=3)]
    return [each.to(device, dtype) for each in tensors] + [some_present(4, 2).to(device)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_and_low_precision(device, dtype):
    expected = everything(*inputs(device))
    low = everything(*inputs(device, dtype))
    assert {each.dtype for each in low} == {dtype}
    for have, want in zip(low, expected, strict=True):
        torch.testing.assert_close(have.float(), want, atol=0.1, rtol=0.05)
    x, y, z, log_var, present = inputs(device)
    torch.manual_seed(0)
    model = MultimodalAutoencoder([3, 3], 2, 8).to(device)
    want = model([x, y], present)
    with torch.autocast(device, dtype):
        have = model([x, y], present)
        same = everything(x, y, z, log_var, present)
        assert reparametrise(z[:, 0], log_var[:, 0]).isfinite().all()
    torch.testing.assert_close(same, expected, atol=0.1, rtol=0.05)
    for a, b in zip([*have[0], have[1]], [*want[0], want[1]], strict=True):
        torch.testing.assert_close(a.float(), b, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("device", DEVICES)
def test_compiles(device):
    x, y, z, log_var, present = inputs(device)
    model = MultimodalAutoencoder([3, 3], 2, 8).to(device)

    def whole(x, y, z, log_var, present):
        kept = drop_modalities(present, 0.0)
        x_hat, _ = model([x, y], kept)
        mu = reparametrise(z[:, 0], torch.full_like(z[:, 0], -200.0))
        return (*everything(x, y, z, log_var, kept), *x_hat, mu)

    compiled = torch.compile(whole, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, y, z, log_var, present), whole(x, y, z, log_var, present))


@pytest.mark.skipif(len(DEVICES) == 1, reason="no GPU")
def test_gpu_is_cpu():
    here, there = (everything(*inputs(device, torch.float64)) for device in DEVICES)
    torch.testing.assert_close(tuple(each.cpu() for each in there), here)
    present, mu = some_present(50, 3), randn(50, 3)
    for call in (
        lambda d: drop_modalities(present.to(d), 0.5, torch.Generator().manual_seed(0)),
        lambda d: reparametrise(mu.to(d), mu.to(d), torch.Generator().manual_seed(0)),
    ):
        assert call("cuda").device.type == "cuda"
        torch.testing.assert_close(call("cuda").cpu(), call("cpu"))


ONES = torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    "present", [ONES.float(), ONES[0], ONES[:, :2], ONES[:1], ONES[:0], torch.ones(3, 2, dtype=torch.bool)]
)
def test_other_marks_are_refused(present):
    z = torch.zeros(2, 3, 4)
    for call in (shared_latent, lambda z, present: product_of_experts(z, z, present)):
        with pytest.raises(ValueError, match="present: got"):
            call(z, present)
    with pytest.raises(ValueError, match="present: got"):
        reconstruction_error([z[:, 0]] * 3, [z[:, 0]] * 3, [1.0] * 3, present)
    with pytest.raises(ValueError, match="present: got"):
        MultimodalAutoencoder([4, 4, 4], 2, 2)([z[:, 0]] * 3, present)


def test_a_row_without_any_modality_is_refused():
    present = ONES.clone()
    present[1] = False
    model = MultimodalAutoencoder([4, 4, 4], 2, 2)
    for call in (
        lambda: shared_latent(torch.zeros(2, 3, 4), present),
        lambda: drop_modalities(present, 0.5),
        lambda: model([torch.zeros(2, 4)] * 3, present),
    ):
        with pytest.raises(ValueError, match="present: got no modality in row 1"):
            call()


@pytest.mark.parametrize("rate", [-0.1, 1.1, NAN])
def test_other_rates_are_refused(rate):
    with pytest.raises(ValueError, match="rate: got"):
        drop_modalities(ONES, rate)
    with pytest.raises(ValueError, match="present: got torch.float32"):
        drop_modalities(ONES.float(), 0.5)


@pytest.mark.parametrize("shape", [(2, 4), (2, 0, 4), (0, 3, 4), (2, 3, 0)])
def test_other_latents_are_refused(shape):
    z = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"z: got .*\[B, M, D\]"):
        shared_latent(z, ONES)
    with pytest.raises(ValueError, match=r"mu, log_var: got .*\[B, M, D\]"):
        product_of_experts(z, z, ONES)
    with pytest.raises(ValueError, match="mu, log_var: got"):
        product_of_experts(torch.zeros(2, 3, 4), z, ONES)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2,), (2,)), ((0, 3), (0, 3)), ((2, 0), (2, 0))])
def test_other_gaussians_are_refused(shapes):
    for call in (gaussian_kl, reparametrise):
        with pytest.raises(ValueError, match=r"mu, log_var: got .*\[B, D\]"):
            call(*map(torch.zeros, shapes))


@pytest.mark.parametrize(
    ("x", "x_hat"),
    [
        ([(2, 3)], [(2, 4)]),
        ([(2, 3), (2, 3)], [(2, 3)]),
        ([(2, 3), (3, 3)], [(2, 3), (3, 3)]),
        ([(2,)], [(2,)]),
        ([], []),
        ([(0, 3)], [(0, 3)]),
        ([(2, 0)], [(2, 0)]),
    ],
)
def test_other_reconstructions_are_refused(x, x_hat):
    with pytest.raises(ValueError, match="x.*: got"):
        reconstruction_error([torch.zeros(s) for s in x], [torch.zeros(s) for s in x_hat], [1.0] * len(x))


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0, 1.0], [1.0, -1.0], [1.0, NAN], [1.0, float("inf")]])
def test_other_weights_are_refused(weights):
    x = [torch.zeros(2, 3), torch.zeros(2, 4)]
    with pytest.raises(ValueError, match="weights: got .*2 numbers"):
        reconstruction_error(x, x, weights)


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_nan_in_what_is_there_is_refused(bad):
    z = torch.zeros(2, 3, 4)
    broken = z.clone()
    broken[1, 2, 3] = bad
    for call, name in (
        (lambda: shared_latent(broken, ONES), "z"),
        (lambda: product_of_experts(broken, z, ONES), "mu"),
        (lambda: product_of_experts(z, broken, ONES), "log_var"),
        (lambda: gaussian_kl(broken[:, 2], z[:, 2]), "mu"),
        (lambda: gaussian_kl(z[:, 2], broken[:, 2]), "log_var"),
        (lambda: reparametrise(z[:, 2], broken[:, 2]), "log_var"),
        (lambda: reconstruction_error([z[:, 0], z[:, 2]], [z[:, 0], broken[:, 2]], [1.0, 1.0]), r"x\[1\] − x_hat\[1\]"),
        (lambda: MultimodalAutoencoder([4, 4, 4], 2, 2)([z[:, 0], z[:, 0], broken[:, 2]], ONES), r"x\[2\]"),
    ):
        with pytest.raises(ValueError, match=f"{name}: got NaN or infinite values"):
            call()


def test_other_inputs_and_sizes_of_the_module_are_refused():
    model = MultimodalAutoencoder([3, 4], 2, 5)
    present = torch.ones(2, 2, dtype=torch.bool)
    for shapes in ([(2, 3)], [(2, 4), (2, 3)], [(2, 3), (1, 4)], [(2, 3, 1), (2, 4)]):
        with pytest.raises(ValueError, match=r"x: got .*D_m = \[3, 4\]"):
            model([torch.zeros(shape) for shape in shapes], present)
    for dims, latent, hidden in (([], 2, 2), ([3, 0], 2, 2), ([3], 0, 2), ([3], 2, 0)):
        with pytest.raises(ValueError, match="dims, latent, hidden: got"):
            MultimodalAutoencoder(dims, latent, hidden)
