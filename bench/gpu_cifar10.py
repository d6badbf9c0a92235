"""Time to an accuracy on a GPU: ResNet-18 on all of CIFAR-10, training alone and the whole run.

The ceiling is airbench94 (Jordan 2024): 94.01 % in 2.59 s on an A100, where imports, loading and compilation are
not counted, with a network and code made for that one purpose. Without a CUDA device this prints so and ends.

    python -m bench.gpu_cifar10 [--seeds 5] [--epochs 16]
"""

from __future__ import annotations

import argparse

import torch

from src.cases.cifar10 import run, summary
from src.training import recipe_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=16)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing measured")
        return
    recipe = recipe_for("cuda", epochs=given.epochs)
    results = [run("cuda", model="resnet18", recipe=recipe, seed=seed, progress=False) for seed in range(given.seeds)]
    for name, value in summary(results, "cuda", epochs=given.epochs).items():
        print(f"{name:20s} {value:.2f}" if isinstance(value, float) else f"{name:20s} {value}")


if __name__ == "__main__":
    main()
