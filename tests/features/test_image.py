"""Pixels to features: every kernel against torch, torchvision, OpenCV or numpy in double precision."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as transforms

from src.features import image

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
KERNELS = {
    "normalise": lambda x: image.normalise(x, MEAN, STD),
    "shrink": lambda x: image.resize_bilinear(x, (5, 4)),
    "plain": lambda x: image.resize_bilinear(x, (5, 4), antialias=False),
    "conv2d": lambda x: image.conv2d(
        x, torch.linspace(-1, 1, 54, dtype=x.dtype, device=x.device).view(2, 3, 3, 3), 2, 1
    ),
    "colour": lambda x: image.colour_histogram(x, 3),
    "gradient": lambda x: image.gradient_histogram(x, 4, 6),
}


def pixels(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@settings(max_examples=30, deadline=None)
@given(
    old=st.tuples(st.integers(1, 30), st.integers(2, 30)),
    new=st.tuples(st.integers(1, 30), st.integers(2, 30)),
    antialias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_resizing_is_torchs(old, new, antialias, dtype):
    x = pixels(2, 3, *old, dtype=dtype)
    # two pixels wide at least: torch 2.14 with antialias does not resize the rows of a picture of one column
    expected = F.interpolate(x, new, mode="bilinear", align_corners=False, antialias=antialias)
    ours = image.resize_bilinear(x, new, antialias)
    assert ours.dtype == dtype
    torch.testing.assert_close(
        ours, expected, **({"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5})
    )


def test_resizing_is_torchvisions_and_opencvs():
    x = pixels(1, 3, 45, 64)
    torch.testing.assert_close(image.resize_bilinear(x, (16, 20)), transforms.resize(x, [16, 20], antialias=True))
    theirs = cv2.resize(x[0].permute(1, 2, 0).numpy(), (20, 16), interpolation=cv2.INTER_LINEAR)
    ours = image.resize_bilinear(x, (16, 20), antialias=False)[0].permute(1, 2, 0)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(3, 12),
    width=st.integers(3, 12),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
)
def test_convolution_is_torchs(height, width, kernel, channels, stride, padding):
    x, w = pixels(2, channels, height, width), pixels(4, channels, *kernel, seed=1)
    ours = image.conv2d(x, w, stride, padding)
    torch.testing.assert_close(ours, F.conv2d(x, w, stride=stride, padding=padding))


def test_convolution_is_opencvs_filter():
    x, w = pixels(1, 1, 20, 17), pixels(1, 1, 3, 3, seed=1)
    theirs = cv2.filter2D(x[0, 0].numpy(), -1, w[0, 0].numpy(), borderType=cv2.BORDER_CONSTANT)
    torch.testing.assert_close(image.conv2d(x, w, padding=1)[0, 0], torch.from_numpy(theirs))


@settings(max_examples=20, deadline=None)
@given(size=st.lists(st.integers(1, 9), min_size=3, max_size=3), channels=st.integers(1, 4), seed=st.integers(0, 99))
def test_normalising_is_torchvisions(size, channels, seed):
    x, mean, std = pixels(size[0], channels, *size[1:]), pixels(channels, seed=seed), 0.1 + pixels(channels, seed=seed + 1)
    expected = transforms.normalize(x, mean.tolist(), std.tolist())
    torch.testing.assert_close(image.normalise(x, mean, std), expected)


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=10, deadline=None)
@given(batch=st.integers(1, 3), height=st.integers(8, 15), width=st.integers(8, 15))
def test_single_precision_is_kept_and_close_to_double(name, batch, height, width):
    x = pixels(batch, 3, height, width)
    single, double = KERNELS[name](x.float()), KERNELS[name](x)
    assert single.dtype == torch.float32 and double.dtype == torch.float64 and len(double) == batch
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(bins=st.integers(1, 6), seed=st.integers(0, 99))
def test_histogram_is_numpys_at_the_centres_of_bins(bins, seed):
    x = ((pixels(1, 3, 7, 6, seed=seed) * bins).floor() + 0.5) / bins
    counts, _ = np.histogramdd(x[0].flatten(1).T.numpy(), bins=bins, range=[(0, 1)] * 3)
    torch.testing.assert_close(image.colour_histogram(x, bins)[0], torch.from_numpy(counts.ravel() / 42))


@settings(max_examples=20, deadline=None)
@given(bins=st.integers(1, 6), seed=st.integers(0, 99))
def test_histogram_sums_to_one(bins, seed):
    sums = image.colour_histogram(pixels(3, 3, 5, 8, seed=seed), bins).sum(1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def slow_gradients(x: np.ndarray, cell: int, bins: int) -> np.ndarray:
    """One picture ``[C, H, W]``, pixel by pixel."""
    grey = np.pad(x.mean(0), 1, mode="edge")
    h, w = x.shape[1] // cell, x.shape[2] // cell
    votes = np.zeros((h, w, bins))
    for row, column in np.ndindex(h * cell, w * cell):
        right = grey[row + 1, column + 2] - grey[row + 1, column]
        down = grey[row + 2, column + 1] - grey[row, column + 1]
        place = (math.atan2(down, right) % math.pi) / math.pi * bins - 0.5
        low = math.floor(place)
        for k, share in ((low, 1 - place + low), (low + 1, place - low)):
            votes[row // cell, column // cell, k % bins] += share * math.hypot(right, down) / cell**2
    blocks = [votes[r : r + 2, c : c + 2].ravel() for r in range(h - 1) for c in range(w - 1)]
    return np.concatenate([block / math.sqrt((block**2).sum() + 1e-6) for block in blocks])


@settings(max_examples=15, deadline=None)
@given(height=st.integers(8, 15), width=st.integers(8, 15), cell=st.integers(2, 4), bins=st.integers(2, 9))
def test_gradients_are_those_of_a_loop(height, width, cell, bins):
    x = pixels(2, 3, height, width)
    ours = image.gradient_histogram(x, cell, bins)
    expected = np.stack([slow_gradients(picture.numpy(), cell, bins) for picture in x])
    torch.testing.assert_close(ours, torch.from_numpy(expected))


def test_gradients_of_stripes_point_across_them():
    stripes = torch.sin(torch.arange(16.0)).expand(1, 1, 16, 16)
    strength = image.gradient_histogram(stripes, 4, 4).view(-1, 4).sum(0)
    assert strength[[0, 3]].min() > 10 * strength[[1, 2]].max()  # 0 lies between the first bin and the last


@pytest.mark.parametrize("name", KERNELS)
def test_gradcheck(name):
    assert torch.autograd.gradcheck(KERNELS[name], (pixels(1, 3, 9, 8).requires_grad_(),))


def test_gradcheck_of_the_kernel():
    w = pixels(2, 3, 2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: image.conv2d(pixels(1, 3, 6, 5), w, 2, 1), (w,))


def test_flat_pictures_have_finite_gradients():
    x = torch.ones(1, 3, 16, 16, requires_grad=True)
    features = image.gradient_histogram(x)
    features.sum().backward()
    assert features.abs().max() == 0 and x.grad.isfinite().all()


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("device", DEVICES)
def test_autocast_and_devices(name, device):
    x = pixels(2, 3, 12, 10, dtype=torch.float32)
    expected = KERNELS[name](x)
    torch.testing.assert_close(KERNELS[name](x.to(device)).cpu(), expected, rtol=1e-3, atol=1e-3)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast(device, dtype=dtype):
            torch.testing.assert_close(KERNELS[name](x.to(device)).float().cpu(), expected, rtol=3e-2, atol=3e-2)


def test_compiles():
    def together(x):
        return [kernel(x) for kernel in KERNELS.values()]

    x = pixels(1, 3, 8, 8, dtype=torch.float32)
    compiled = torch.compile(together, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(compiled, together(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3, 8, 8), r"x: got shape \[3, 8, 8\]"),
        (torch.zeros(0, 3, 8, 8), "at least one pixel"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "divide bytes by 255"),
        (torch.full((1, 3, 8, 8), math.nan), "NaN"),
    ],
)
def test_bad_pictures(name, bad, message):
    with pytest.raises(ValueError, match=message):
        KERNELS[name](bad)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: image.normalise(x, [0.5], STD), "mean, std: got shapes"),
        (lambda x: image.normalise(x, MEAN, [0.1, 0, 0.1]), "std: got"),
        (lambda x: image.normalise(x, [math.nan] * 3, STD), "mean: got NaN"),
        (lambda x: image.normalise(x, MEAN, [math.inf] * 3), "std: got NaN or inf"),
        (lambda x: image.resize_bilinear(x, (0, 4)), "old, new: got 8, 0"),
        (lambda x: image.conv2d(x, torch.zeros(2, 1, 3, 3)), "w: got shape"),
        (lambda x: image.conv2d(x, torch.zeros(0, 3, 3, 3)), "w: got shape"),
        (lambda x: image.conv2d(x, torch.full((2, 3, 3, 3), math.nan)), "w: got NaN"),
        (lambda x: image.conv2d(x, torch.zeros(2, 3, 9, 3)), "larger than"),
        (lambda x: image.conv2d(x, torch.zeros(2, 3, 3, 3), stride=0), "stride, padding: got 0, 0"),
        (lambda x: image.colour_histogram(x + 1.5), "expected 0 … 1"),
        (lambda x: image.colour_histogram(x[:, :2]), "2 channels"),
        (lambda x: image.gradient_histogram(x, cell=5), "2 × 2 cells"),
    ],
)
def test_bad_settings(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 3, 8, 8))
