"""Attention fusion, words looking at cells of a picture, against nn.MultiheadAttention: forward and backward in turn."""

from __future__ import annotations

import statistics

import torch
from torch import nn

from src.fusion.attention import MultiHeadAttention
from src.runtime import available_devices, timer

SHAPES = ((32, 16, 49, 256, 8), (64, 64, 64, 256, 8), (8, 128, 196, 512, 8))
"""B, Tq, Tk, D, heads."""


def main() -> None:
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for device in available_devices():
        for shape in SHAPES:
            for need_weights in (True, False):
                compare(device, shape, need_weights)


def compare(device: str, shape: tuple[int, ...], need_weights: bool, rounds: int = 15) -> None:
    """Print the ratio of the median times of both, taken in turn, after checking that the results agree."""
    batch, queries, keys, dim, heads = shape
    ours = MultiHeadAttention(dim, heads).to(device)
    theirs = nn.MultiheadAttention(dim, heads, batch_first=True).to(device)
    with torch.no_grad():
        parts = ours.q, ours.k, ours.v
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.load_state_dict(ours.o.state_dict())
    words = torch.randn(batch, queries, dim, device=device)
    cells = torch.randn(batch, keys, dim, device=device)
    ways = {
        "ours": lambda: ours(words, cells, need_weights=need_weights),
        "torch": lambda: theirs(words, cells, cells, need_weights=need_weights, average_attn_weights=False),
    }
    torch.testing.assert_close(ways["ours"](), ways["torch"](), atol=1e-4, rtol=1e-3)
    seconds = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name, way in ways.items():
            with timer(device) as timing:
                way()[0].sum().backward()
            if number >= 2:
                seconds[name].append(timing.seconds)
    own, other = (statistics.median(seconds[name]) for name in ways)
    kind = "with weights" if need_weights else "without weights"
    print(f"{device}, B {batch}, Tq {queries}, Tk {keys}, D {dim}, {heads} heads, {kind}: "
          f"{1e3 * own:.2f} ms, nn.MultiheadAttention {1e3 * other:.2f} ms, {other / own:.2f}× (goal 1.0×)")


if __name__ == "__main__":
    main()
