"""The border against torch's padding and a mask, its gradient, and the strip that a word is drawn on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from src.prompts.visual import add_border, ring, word_strip

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SIZES = st.integers(1, 6)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=50, deadline=None)
@given(SIZES, SIZES, SIZES, SIZES, st.integers(1, 4))
def test_border_is_padding_where_the_mask_is_zero_and_the_prompt_elsewhere(batch, channels, h, w, edge):
    x, delta = randn(batch, channels, h, w), randn(channels, h + 2 * edge, w + 2 * edge, seed=1)
    inside = torch.zeros(h + 2 * edge, w + 2 * edge, dtype=torch.bool)
    inside[edge : edge + h, edge : edge + w] = True
    expected = torch.where(inside, nn.ZeroPad2d(edge)(x), delta)
    torch.testing.assert_close(add_border(x, delta), expected, rtol=0, atol=0)


def test_ring_counts_the_pixels_of_the_edge():
    mask = ring(9, 11, 2, torch.zeros(0))
    assert mask.shape == (9, 11) and mask.sum() == 9 * 11 - 5 * 7 and set(mask.unique().tolist()) == {0, 1}


def test_gradcheck_and_no_gradient_inside():
    x, delta = randn(2, 3, 2, 3).requires_grad_(), randn(3, 4, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(add_border, (x, delta))
    add_border(x, delta).sum().backward()
    assert (delta.grad[:, 1:3, 1:4] == 0).all() and delta.grad.sum() == 2 * 3 * (20 - 6) and (x.grad == 1).all()


@pytest.mark.parametrize("device", DEVICES)
def test_training_moves_the_ring_only_and_leaves_the_network(device):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).to(device, torch.float64)
    x, delta = randn(4, 3, 5, 5).to(device), randn(3, 9, 9, seed=1).to(device).requires_grad_()
    network(add_border(x, delta))
    network.requires_grad_(False)
    before, start = [p.clone() for p in network.parameters()], delta.detach().clone()
    optimizer = torch.optim.Adam([delta], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(network(add_border(x, delta)), torch.tensor([0, 1, 0, 1], device=device)).backward()
        optimizer.step()
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, network.parameters(), strict=True))
    moved = delta.detach() != start
    assert moved[:, 2:7, 2:7].sum() == 0 and moved.any()


def test_compiled_and_in_half_precision():
    x, delta = randn(2, 3, 4, 4).float(), randn(3, 8, 8, seed=1).float()
    compiled = torch.compile(add_border, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, delta), add_border(x, delta))
    assert add_border(x.bfloat16(), delta.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("x", "delta", "message"), [
    (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, 8, 8), "divide uint8"),
    (torch.zeros(3, 4, 4), torch.zeros(3, 8, 8), "x: got torch.float32"),
    (torch.zeros(0, 3, 4, 4), torch.zeros(3, 8, 8), "nothing empty"),
    (torch.zeros(2, 3, 4, 4), torch.zeros(3, 4, 4), "e ≥ 1"),
    (torch.zeros(2, 3, 4, 4), torch.zeros(3, 8, 9), "delta: got"),
    (torch.zeros(2, 3, 4, 4), torch.zeros(3, 7, 7), "delta: got"),
    (torch.zeros(2, 3, 4, 4), torch.zeros(1, 8, 8), "delta: got"),
    (torch.zeros(2, 3, 4, 4), torch.full((3, 8, 8), torch.nan), "delta: got NaN"),
    (torch.full((2, 3, 4, 4), torch.inf), torch.zeros(3, 8, 8), "x: got NaN or infinite"),
])
def test_border_refuses(x, delta, message):
    with pytest.raises(ValueError, match=message):
        add_border(x, delta)


@settings(max_examples=25, deadline=None)
@given(st.text("abcdefgh ", min_size=1, max_size=16).filter(str.strip), st.integers(8, 40), st.integers(24, 120))
def test_a_word_lies_inside_its_strip(text, height, width):
    strip = word_strip(text, height, width)
    assert strip.dtype == torch.uint8 and strip.shape == (3, height, width) and torch.equal(strip[0], strip[2])
    assert strip.min() < 200 and strip.float().mean() > 100


def test_words_differ_and_fill_their_strip():
    cat, drink = word_strip("cat", 20, 96), word_strip("drink", 20, 96)
    assert not torch.equal(cat, drink) and torch.equal(cat, word_strip("cat", 20, 96))
    wide = (word_strip("a very long text", 20, 96)[0] < 128).any(0).nonzero()
    assert wide.min() >= 0 and wide.max() - wide.min() > 80
    rows = (cat[0] < 128).any(1).nonzero()
    assert rows.max() - rows.min() > 12


@pytest.mark.parametrize(("text", "height", "width", "message"), [
    (" ", 20, 96, "text: got"), ("", 20, 96, "text: got"), ("猫", 20, 96, "ASCII"),
    ("cat", 4, 96, "height, width"), ("cat", 20, 7, "height, width"),
])
def test_strip_refuses(text, height, width, message):
    with pytest.raises(ValueError, match=message):
        word_strip(text, height, width)
