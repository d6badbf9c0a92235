"""The residual network against torchvision's, the multi-scale layer against one convolution."""

import pytest
import torch
from torch import nn

from src.models.resnet import (
    BasicBlock,
    FastBlock,
    FastResNet,
    MultiScaleConv,
    ResNet,
    count_parameters,
    receptive_field,
    resnet18,
    whitening_filters,
)

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def torchvision_resnet18(classes: int, small: bool) -> nn.Module:
    from torchvision.models import resnet18 as reference

    model = reference(num_classes=classes)
    if small:
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return model


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("small", "size"), [(True, 32), (False, 64)])
def test_equal_to_torchvision_forward_and_backward(small, size, device):
    torch.manual_seed(0)
    ours = resnet18(10, small).double().to(device)
    reference = torchvision_resnet18(10, small).double().to(device)
    reference.load_state_dict(ours.state_dict())  # strict: the names agree too
    x = torch.randn(2, 3, size, size, dtype=torch.float64, device=device)
    for model in (ours, reference):
        model.train()
        model(x).square().sum().backward()
    for a, b in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-10)
    ours.eval(), reference.eval()
    torch.testing.assert_close(ours(x), reference(x), rtol=1e-10, atol=1e-12)


def test_parameter_count_of_resnet18():
    assert count_parameters(resnet18(1000, small=False)) == 11_689_512  # He et al. 2016, as torchvision documents it
    assert count_parameters(resnet18(10)) == 11_173_962


@pytest.mark.parametrize(("stride", "outputs"), [(1, 8), (2, 8), (1, 16), (2, 16)])
def test_block_is_residual(stride, outputs):
    block = BasicBlock(8, outputs, stride).eval()
    nn.init.zeros_(block.bn2.weight)  # F(x) = 0, so only the shortcut is left
    x = torch.randn(2, 8, 12, 12)
    shortcut = x if block.downsample is None else block.downsample(x)
    torch.testing.assert_close(block(x), shortcut.relu())
    assert (block.downsample is None) == (stride == 1 and outputs == 8)


@pytest.mark.parametrize("device", DEVICES)
def test_resnet_under_autocast_compile_and_channels_last(device):
    model = ResNet((1, 1), (8, 16)).to(device, memory_format=torch.channels_last).eval()
    x = torch.randn(4, 3, 32, 32, device=device)
    expected = model(x)
    assert expected.shape == (4, 10)
    assert model.features(x).shape == (4, 16)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), expected)
    with torch.autocast(device, torch.bfloat16):
        low = model(x)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(("blocks", "widths"), [((), ()), ((1, 1), (8,))])
def test_resnet_refuses_stages_that_do_not_match(blocks, widths):
    with pytest.raises(ValueError, match="blocks, widths: got"):
        ResNet(blocks, widths)


def test_receptive_field_is_where_the_gradient_reaches():
    layers = [(3, 1), (3, 2), (5, 1), (3, 2), (3, 1)]
    convolutions = [nn.Conv2d(1, 1, k, s, k // 2, bias=False) for k, s in layers]
    for convolution in convolutions:
        nn.init.ones_(convolution.weight)
    x = torch.ones(1, 1, 65, 65, requires_grad=True)
    y = nn.Sequential(*convolutions)(x)
    y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
    rows = x.grad[0, 0].sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == receptive_field(layers)


@pytest.mark.parametrize("kernels", [(1, 3, 5), (3,), (1, 7)])
def test_multiscale_is_one_convolution(kernels):
    layer = MultiScaleConv(4, 6, kernels).double()
    x = torch.randn(2, 4, 9, 9, dtype=torch.float64)
    assert layer(x).shape == (2, 6, 9, 9)
    torch.testing.assert_close(layer(x), layer.merged()(x))
    assert layer.merged().kernel_size == (max(kernels),) * 2
    assert torch.autograd.gradcheck(layer, x[:1, :, :4, :4].clone().requires_grad_())


def test_multiscale_refuses_even_kernels():
    with pytest.raises(ValueError, match="kernels: got"):
        MultiScaleConv(3, 3, (2, 3))


def test_block_refuses_widths_that_crash_onednn():
    with pytest.raises(ValueError, match="inputs: got 4 channels with stride 2"):
        BasicBlock(4, 8, stride=2)


def test_whitening_filters_decorrelate_patches():
    torch.manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(200, 3, 18, 18, dtype=torch.float64), 3, 1)
    filters = whitening_filters(smooth, 2, 2, 12, epsilon=0.0)
    assert filters.shape == (24, 3, 2, 2)
    answers = torch.nn.functional.conv2d(smooth, filters[:12], stride=2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(
        answers @ answers.T / answers.shape[1], torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-8
    )
    assert torch.equal(filters[12:], -filters[:12])


def test_fast_network_trains_everything_but_its_filters():
    x = torch.randn(8, 3, 32, 32)
    model = FastResNet(x, widths=(8, 8, 16))
    assert model(x).shape == (8, 10)
    model(x).square().sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is None} == {"whiten.weight"}
    block = FastBlock(8).eval()
    nn.init.zeros_(block.norm.weight)
    torch.testing.assert_close(block(x[:, :1].expand(-1, 8, -1, -1)), x[:, :1].expand(-1, 8, -1, -1))
