"""Contrastive losses: peak memory against batch size, naive and in chunks, and time against open_clip's loss.

Each memory figure comes from a process of its own: the growth of its largest resident size (CPU) or of the allocator's
peak (GPU) over what the inputs and a warm-up at a small batch took. Those processes return large blocks at once
(MALLOC_MMAP_THRESHOLD_), else glibc keeps freed ones and the CPU figure counts them twice.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from open_clip.loss import ClipLoss
from torch import nn

from src.representation.contrastive import cached_backward, chunked_info_nce, info_nce
from src.runtime import available_devices, timer

BATCHES = (1024, 2048, 4096, 8192, 16384)
STEP_BATCHES = (256, 512, 1024, 2048)
DIM, CHUNK, STEP_CHUNK = 64, 256, 128
LOSSES = {"naive": info_nce, "chunked": lambda x, y, tau: chunked_info_nce(x, y, tau, CHUNK)}
STEPS = ("naive step", "cached step")


def main() -> None:
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for device in available_devices():
        print(f"{device}: peak memory in MB, forward and backward")
        print(f"  losses at {BATCHES}, training steps at {STEP_BATCHES}")
        for way in LOSSES:
            print(f"  {way} loss:", *(f"{in_own_process(way, batch, device):.0f}" for batch in BATCHES))
        for way in STEPS:
            print(f"  {way}:", *(f"{in_own_process(way, batch, device):.0f}" for batch in STEP_BATCHES))
        for batch in (256, 1024, 4096):
            compare(device, batch)


def in_own_process(way: str, batch: int, device: str) -> float:
    command = [sys.executable, "-m", "bench.contrastive", way, str(batch), device]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout.split()[-1])


def peak(way: str, batch: int, device: str) -> float:
    """MB over the inputs and a warm-up of 64 pairs."""
    torch.manual_seed(0)
    if way in LOSSES:
        x, y = nn.functional.normalize(torch.randn(2, batch, DIM, device=device), dim=2)
        inputs = x.clone().requires_grad_(), y.clone().requires_grad_()
        run = lambda x, y: LOSSES[way](x, y, 0.07).backward()  # noqa: E731
    else:
        inputs = tuple(torch.randn(2, batch, 3, 32, 32, device=device))
        models = [encoder().to(device) for _ in range(2)]
        run = lambda a, b: train(way, models, a, b)  # noqa: E731
    run(*(part[:64].detach().requires_grad_(part.requires_grad) for part in inputs))
    forget(device)
    before = used(device)
    run(*inputs)
    return used(device) - before


def encoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
        nn.Flatten(), nn.Linear(512, DIM),
    )  # fmt: skip


def train(way: str, models: list[nn.Module], a: torch.Tensor, b: torch.Tensor) -> None:
    if way == "naive step":
        info_nce(models[0](a), models[1](b), 0.07).backward()
    else:
        cached_backward(*models, a, b, lambda x, y: chunked_info_nce(x, y, 0.07, CHUNK), STEP_CHUNK)


def used(device: str) -> float:
    """The largest size in MB since ``forget``."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3


def forget(device: str) -> None:
    """Start the measure of the largest size again, at the present one."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def compare(device: str, batch: int, rounds: int = 15) -> None:
    """Print the ratios of the median times, taken in turn, after checking that the values agree."""
    x, y = nn.functional.normalize(torch.randn(2, batch, DIM, device=device), dim=2)
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    ways = {"open_clip": lambda: ClipLoss()(x, y, 1 / 0.07)}
    ways |= {name: lambda loss=loss: loss(x, y, 0.07) for name, loss in LOSSES.items()}
    for way in ways.values():
        torch.testing.assert_close(way(), ways["open_clip"](), atol=1e-4, rtol=1e-4)
    seconds = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name, way in ways.items():
            with timer(device) as timing:
                way().backward()
            if number >= 2:
                seconds[name].append(timing.seconds)
    middle = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
    print(f"  {device}, B {batch}: " + ", ".join(
        f"{name} {time:.2f} ms ({middle['open_clip'] / time:.2f}×)" for name, time in middle.items()
    ))  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
    else:
        main()
