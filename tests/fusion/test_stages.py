"""Early, late and hybrid fusion against their formulas; what each of them can and cannot represent."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from src.fusion.stages import EarlyFusion, HybridFusion, LateFusion, product_of_experts

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
STAGES = [EarlyFusion, LateFusion, HybridFusion]


def inputs(dims, examples=5, dtype=torch.float64, device="cpu"):
    return [torch.randn(examples, dim, dtype=dtype, device=device) for dim in dims]


def by_hand(network, x):
    """W₂ relu(W₁ x + b₁) + b₂."""
    first, _, last = network
    return (x @ first.weight.T + first.bias).clamp_min(0) @ last.weight.T + last.bias


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4),
    st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_the_formulas(dims, hidden, classes, examples, dtype):
    x = inputs(dims, examples, dtype)
    early, late, hybrid = (build(dims, hidden, classes).to(dtype) for build in STAGES)
    torch.testing.assert_close(early(x), by_hand(early.f, torch.cat(x, 1)))
    torch.testing.assert_close(
        late(x), torch.stack([by_hand(g, each) for g, each in zip(late.g, x, strict=True)]).sum(0)
    )
    torch.testing.assert_close(hybrid(x), hybrid.early(x) + hybrid.late(x))
    assert hybrid(x).shape == (examples, classes) and hybrid(x).dtype == dtype


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_product_of_experts_is_the_normalised_product(examples, modalities, classes):
    z = torch.randn(examples, modalities, classes, dtype=torch.float64)
    product = z.softmax(-1).prod(1)
    torch.testing.assert_close(product_of_experts(z), product / product.sum(-1, keepdim=True))
    normal = torch.distributions.Categorical(logits=z.sum(1))
    torch.testing.assert_close(product_of_experts(z), normal.probs)


def test_product_of_experts_does_not_underflow():
    z = torch.tensor([[[0.0, -300.0], [-300.0, 0.0]]])
    torch.testing.assert_close(product_of_experts(z), torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize("build", STAGES)
def test_gradients(build):
    torch.manual_seed(0)
    model, x = build([3, 2], 4).double(), [each.requires_grad_() for each in inputs([3, 2])]
    assert torch.autograd.gradcheck(lambda *x: model(x), x)
    assert torch.autograd.gradcheck(product_of_experts, torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("build", STAGES)
def test_compiles_and_autocasts(build, device):
    model, x = build([3, 2], 4).to(device), inputs([3, 2], dtype=torch.float32, device=device)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))
    torch.testing.assert_close(compiled(x, [False, True]), model(x, [False, True]))
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast(device, dtype):
            got = model(x)
        torch.testing.assert_close(got.float(), model(x), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("device", DEVICES)
def test_product_of_experts_compiles_and_autocasts(device):
    z = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    expected, z = product_of_experts(z), z.to(device)
    compiled = torch.compile(product_of_experts, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z).cpu(), expected)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast(device, dtype):
            torch.testing.assert_close(product_of_experts(z).float().cpu(), expected, atol=0.02, rtol=0.02)
        low = product_of_experts(z.to(dtype))
        assert low.dtype == dtype
        torch.testing.assert_close(low.float().cpu(), expected, atol=0.02, rtol=0.05)


@pytest.mark.parametrize("build", STAGES)
@pytest.mark.skipif(len(DEVICES) == 1, reason="needs a GPU")
def test_devices_agree(build):
    model, x = build([3, 2], 4).double(), inputs([3, 2])
    expected = model(x)
    torch.testing.assert_close(model.cuda()([each.cuda() for each in x]).cpu(), expected)


@pytest.mark.parametrize("build", STAGES)
def test_a_missing_modality_is_not_looked_at(build):
    model, x = build([3, 2], 4).double(), inputs([3, 2])
    other = [x[0], torch.full_like(x[1], torch.nan)]
    got = model(x, [True, False])
    torch.testing.assert_close(model(other, [True, False]), got)
    assert not torch.allclose(got, model(x))
    torch.testing.assert_close(model(x, [True, True]), model(x))
    expected = {
        EarlyFusion: lambda: model.f(torch.cat([x[0], 0 * x[1]], 1)),
        LateFusion: lambda: model.g[0](x[0]),
        HybridFusion: lambda: model.late.g[0](x[0]),
    }
    torch.testing.assert_close(got, expected[build]())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_is_refused_where_it_is_present(bad):
    for build in STAGES:
        model, x = build([3, 2], 4), [torch.zeros(1, 3), torch.full((1, 2), bad)]
        with pytest.raises(ValueError, match=r"x\[1\]: got NaN or infinite"):
            model(x)
        assert model(x, [True, False]).isfinite().all()
    with pytest.raises(ValueError, match="z: got NaN"):
        product_of_experts(torch.full((1, 2, 3), bad))


@pytest.mark.parametrize(("build", "learns"), [(EarlyFusion, True), (LateFusion, False), (HybridFusion, True)])
def test_exclusive_or(build, learns):
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    y, x = (corners.prod(1) > 0).long(), list(corners.split(1, 1))
    torch.manual_seed(0)
    model = build([1, 1], 16)
    z = model(x)
    additive = torch.allclose(z[0] + z[3], z[1] + z[2], atol=1e-6)
    assert additive != learns
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(150):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (loss < 0.1) if learns else (0.69 < loss < 0.70)


@pytest.mark.parametrize("build", STAGES)
@pytest.mark.parametrize(
    "shapes", [[(4, 3)], [(4, 3), (4, 3)], [(4, 3), (5, 2)], [(3,), (2,)], [(4, 3), (4, 2), (4, 2)]]
)
def test_other_shapes_are_refused(build, shapes):
    with pytest.raises(ValueError, match=r"x: got .* expected \[B, D_i\]"):
        build([3, 2], 4)([torch.zeros(shape) for shape in shapes])


@pytest.mark.parametrize("build", STAGES)
@pytest.mark.parametrize("present", [[True], [False, False], [True, True, True]])
def test_nothing_present_is_refused(build, present):
    with pytest.raises(ValueError, match="present: got .* expected 2 flags"):
        build([3, 2], 4)([torch.zeros(4, 3), torch.zeros(4, 2)], present)


@pytest.mark.parametrize("build", STAGES)
def test_no_modality_is_refused(build):
    with pytest.raises(ValueError, match="at least one modality"):
        build([], 4)


@pytest.mark.parametrize("shape", [(3, 4), (2, 0, 3), (2, 3, 0), (1, 2, 3, 4)])
def test_product_of_experts_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="z: got"):
        product_of_experts(torch.zeros(shape))


@pytest.mark.parametrize("build", STAGES)
def test_no_examples_give_no_logits(build):
    assert build([3, 2], 4)([torch.zeros(0, 3), torch.zeros(0, 2)]).shape == (0, 2)
