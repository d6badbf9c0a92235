"""Test accuracy after 90 seconds of training: the chapter's network against PyTorch's CIFAR-10 tutorial recipe.

Both train on the same pictures for the same time on the same processor, one after the other; judging is not
counted. Needs the folder of the environment variable CIFAR10_DIR; without it the drawn stand-in is used and said.

    python -m bench.training_90s [--seconds 90] [--seeds 3]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import torch
from torch import nn
from torch.utils.data import DataLoader

from bench import picture_folder
from src.cases.cifar10 import machine, run
from src.datasets import cifar10
from src.runtime import set_seed
from src.training import PictureBatches, evaluate, recipe_for


class TutorialNetwork(nn.Sequential):
    """The two-convolution network of PyTorch's "Training a Classifier" tutorial."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
        )  # fmt: skip


def tutorial_accuracy(seconds: float, seed: int) -> float:
    """Train by the tutorial's recipe: batches of 4, SGD 0.001 with momentum 0.9, DataLoader with 2 workers."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    set_seed(seed)
    scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
    with picture_folder() as folder:
        loader = DataLoader(ImageFolder(folder / "train", scale), batch_size=4, shuffle=True, num_workers=2)
        network, criterion = TutorialNetwork(), nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
        end = time.perf_counter() + seconds
        for inputs, labels in itertools.chain.from_iterable(itertools.repeat(loader)):
            if time.perf_counter() > end:
                break
            optimizer.zero_grad()
            criterion(network(inputs), labels).backward()
            optimizer.step()
    test = PictureBatches(cifar10.load("test"), 500)
    test.mean, test.scale = torch.full((3,), 127.5), torch.full((3,), 1 / 127.5)
    return evaluate(network.eval(), test)["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    recipe = recipe_for("cpu", seconds=given.seconds)
    ours = [run("cpu", recipe=recipe, seed=seed, progress=False) for seed in range(given.seeds)]
    theirs = tutorial_accuracy(given.seconds, seed=0)
    print(f"{given.seconds:.0f} s of training; {ours[0].source}; {machine('cpu')}; precision {recipe.precision}")
    for name, values in (
        ("this book, test accuracy", [result.accuracy for result in ours]),
        ("this book, mirrored picture added", [result.accuracy_mirrored for result in ours]),
        ("tutorial recipe, test accuracy", [theirs]),
    ):
        deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        print(f"{name:36s} {statistics.mean(values):.4f}{deviation}  (n = {len(values)})")


if __name__ == "__main__":
    main()
