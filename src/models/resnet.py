"""Residual networks for small pictures and the multi-scale convolution of the CIFAR-10 chapter.

Chapter: chapters/cases/cifar10_resnet.ipynb. Source: He et al., Deep Residual Learning for Image
Recognition, CVPR 2016. Module names follow torchvision, so that weights move both ways strictly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3×3 convolution without bias that keeps the size: [B, inputs, H, W] → [B, outputs, H/stride, W/stride]."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """y = ReLU(F(x) + S(x)), equation (eq-residual) of the chapter.

    F is conv–norm–ReLU–conv–norm. The shortcut S is the identity, or a 1×1 convolution with
    norm where the size or the width changes. [B, inputs, H, W] → [B, outputs, H/stride, W/stride].

    Raises:
        ValueError: fewer than 8 channels and a stride; oneDNN's gradient of that 1×1 convolution writes past
            its memory on processors without AVX-512 (uxlfoundation/oneDNN issue 6035).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        if stride != 1 and inputs < 8:
            raise ValueError(f"inputs: got {inputs} channels with stride {stride}, expected at least 8")
        self.conv1, self.bn1 = conv3x3(inputs, outputs, stride), norm(outputs)
        self.conv2, self.bn2 = conv3x3(outputs, outputs), norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return self.relu(residual + shortcut)


class ResNet(nn.Module):
    """A residual network: stem, stages of `BasicBlock`, global average, linear layer.

    Args:
        blocks: number of blocks of each stage.
        widths: channels of each stage; every stage after the first halves height and width.
        classes: number of outputs.
        small: True gives the stem for 32×32 pictures (3×3, stride 1, no pooling), False the one
            for 224×224 (7×7, stride 2, max pooling), as in torchvision.
        norm: makes the normalisation of n channels; nn.BatchNorm2d unless told.

    Shapes: float pictures [B, 3, H, W] → logits [B, classes].

    Raises:
        ValueError: `blocks` and `widths` differ in length or are empty.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        classes: int = 10,
        small: bool = True,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if not blocks or len(blocks) != len(widths):
            raise ValueError(f"blocks, widths: got {len(blocks)} and {len(widths)} stages, expected equal numbers ≥ 1")
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(3, widths[0], kernel, stride, kernel // 2, bias=False)
        self.bn1, self.relu = norm(widths[0]), nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        inputs = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
            self.add_module(f"layer{stage}", _stage(inputs, width, count, 1 if stage == 1 else 2, norm))
            inputs = width
        self.stages = len(blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        self.apply(_he_normal)

    def features(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, D], D = widths[-1]: what stands before the linear layer."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.avgpool(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))


def _stage(inputs: int, width: int, count: int, stride: int, norm: Norm) -> nn.Sequential:
    rest = [BasicBlock(width, width, norm=norm) for _ in range(count - 1)]
    return nn.Sequential(BasicBlock(inputs, width, stride, norm), *rest)


def _he_normal(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet18(classes: int = 10, small: bool = True, norm: Norm = nn.BatchNorm2d) -> ResNet:
    """ResNet-18 (He et al. 2016, table 1); with `small` its stem keeps a 32×32 picture's size."""
    return ResNet((2, 2, 2, 2), (64, 128, 256, 512), classes, small, norm)


def whitening_filters(pictures: Tensor, kernel: int, stride: int, count: int, epsilon: float = 1e-2) -> Tensor:
    """Filters that decorrelate patches: eigenvectors of their covariance over √(eigenvalue + ε), and their negatives.

    Args:
        pictures: normalised, [B, C, H, W].
        kernel, stride: of the patches, in pixels.
        count: how many eigenvectors to keep, the largest first; at most C·kernel².

    Returns:
        [2·count, C, kernel, kernel]; the negatives keep what a following ReLU would cut off (Jordan 2024).
    """
    channels = pictures.shape[1]
    patches = pictures.unfold(2, kernel, stride).unfold(3, kernel, stride)  # [B, C, H', W', k, k]
    patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)  # [B·H'·W', C·k·k]
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + epsilon).sqrt()).T.flip(0)[:count].view(-1, channels, kernel, kernel)
    return torch.cat([filters, -filters])


class FastBlock(nn.Module):
    """x + ReLU(norm(conv(x))): a residual block of one convolution. [B, C, H, W] → [B, C, H, W]."""

    def __init__(self, width: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv, self.norm = conv3x3(width, width), norm(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x)).relu()


class FastResNet(nn.Module):
    """A residual network that learns much in 90 seconds on two processor cores.

    Three things save time: the first convolution has stride 2 and fixed whitening filters, which need no
    gradient; blocks have one convolution; nothing is computed at 32×32.

    Args:
        pictures: some normalised training pictures [B, 3, 32, 32], from which the filters are computed.
        widths: channels at 16×16, 8×8 and 4×4.
        blocks: number of `FastBlock` at each size.
        classes: number of outputs.
        filters: number of whitening filters, before their negatives are added.
        norm: makes the normalisation of n channels; nn.BatchNorm2d unless told.
    """

    def __init__(
        self,
        pictures: Tensor,
        widths: Sequence[int] = (24, 48, 96),
        blocks: Sequence[int] = (0, 1, 1),
        classes: int = 10,
        filters: int = 24,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 2 * filters, 4, 2, 1, bias=False)
        self.whiten.weight = nn.Parameter(whitening_filters(pictures, 4, 2, filters), requires_grad=False)
        layers: list[nn.Module] = [nn.Conv2d(2 * filters, widths[0], 1, bias=False)]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            if stage:
                layers.append(conv3x3(widths[stage - 1], width, 2))
            layers += [norm(width), nn.ReLU(inplace=True), *(FastBlock(width, norm) for _ in range(count))]
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(widths[-1], classes, bias=False)

    def features(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, D], D = widths[-1]: the largest value of each channel."""
        return self.body(self.whiten(x).relu()).amax((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x)) / 8


class MultiScaleConv(nn.Module):
    """Y = Σₖ Wₖ ∗ X over kernel sizes k: parallel convolutions of one input, added (equation eq-multiscale).

    [B, inputs, H, W] → [B, outputs, H, W]. Every kernel size is odd and padded by k // 2, so all
    branches keep the size and can be added.

    Raises:
        ValueError: a kernel size is even.
    """

    def __init__(self, inputs: int, outputs: int, kernels: Sequence[int] = (1, 3, 5)) -> None:
        super().__init__()
        if any(k % 2 == 0 for k in kernels):
            raise ValueError(f"kernels: got {tuple(kernels)}, expected odd sizes, as even ones cannot keep H and W")
        self.branches = nn.ModuleList(nn.Conv2d(inputs, outputs, k, padding=k // 2) for k in kernels)

    def forward(self, x: Tensor) -> Tensor:
        return sum(branch(x) for branch in self.branches)

    def merged(self) -> nn.Conv2d:
        """The one convolution that computes the same: kernels padded to the largest and added."""
        largest = max(self.branches, key=lambda branch: branch.kernel_size[0])
        one = nn.Conv2d(largest.in_channels, largest.out_channels, largest.kernel_size, padding=largest.padding)
        side = largest.kernel_size[0]
        margins = [((side - branch.kernel_size[0]) // 2,) * 4 for branch in self.branches]
        padded = [F.pad(branch.weight, margin) for branch, margin in zip(self.branches, margins, strict=True)]
        with torch.no_grad():
            one.weight.copy_(sum(padded))
            one.bias.copy_(sum(branch.bias for branch in self.branches))
        return one.to(largest.weight)


def receptive_field(layers: Sequence[tuple[int, int]]) -> int:
    """Side of the square of input pixels that one output can see, equation (eq-receptive).

    r = 1 + Σᵢ (kᵢ − 1) Πⱼ₍ⱼ﹤ᵢ₎ sⱼ for layers of kernel kᵢ and stride sᵢ, input first.
    """
    side, jump = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * jump
        jump *= stride
    return side


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
