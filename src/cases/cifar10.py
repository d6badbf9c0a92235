"""The CIFAR-10 case of chapters/cases/cifar10_resnet.ipynb as one function, also from the command line.

python -m src.cases.cifar10 --seconds 90 --seeds 3
python -m src.cases.cifar10 --device cuda --model resnet18 --seeds 5
accelerate launch --cpu --num_processes 2 -m src.cases.cifar10 --epochs 2 --limit 2000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from src.datasets import cifar10
from src.models.resnet import FastResNet, resnet18
from src.runtime import approx, atomic_write, pick_device, set_seed, timer
from src.training import History, PictureBatches, Recipe, evaluate, fit, recipe_for

if TYPE_CHECKING:
    from accelerate import Accelerator

MODELS = ("fast", "resnet18")
SHIFT = {"fast": 1, "resnet18": 4}  # pixels; the longer the training, the more augmentation it can use
NORMS = {"batch": nn.BatchNorm2d, "group": lambda width: nn.GroupNorm(8, width)}


@dataclass(frozen=True)
class Result:
    """What `run` found.

    Attributes:
        model: with the weights of its best epoch.
        history: of the training.
        accuracy: on the test set, with and without adding the mirrored picture.
        seconds: of the training alone, and of the whole run with reading and judging.
        source: which pictures it ran on.
    """

    model: nn.Module
    history: History
    accuracy: float
    accuracy_mirrored: float
    seconds: float
    seconds_whole: float
    source: str


def build(name: str, pictures: torch.Tensor, norm: str = "batch") -> nn.Module:
    """A network by name; `pictures` [B, 3, 32, 32] are normalised training pictures for the whitening filters.

    Raises:
        ValueError: unknown name or norm.
    """
    if name not in MODELS or norm not in NORMS:
        raise ValueError(f"name, norm: got {name!r} and {norm!r}, expected one of {MODELS} and one of {tuple(NORMS)}")
    if name == "fast":
        return FastResNet(pictures, classes=len(cifar10.CLASSES), norm=NORMS[norm])
    return resnet18(len(cifar10.CLASSES), norm=NORMS[norm])


def run(
    device: torch.device | str | None = None,
    *,
    model: str = "fast",
    recipe: Recipe | None = None,
    seed: int = 0,
    limit: int | None = None,
    source: str = "auto",
    norm: str = "batch",
    folder: str | Path | None = None,
    resume: bool = False,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> Result:
    """Train on CIFAR-10's training pictures but a tenth, choose the epoch on that tenth, judge on the test pictures.

    Args:
        device: "cpu", "cuda", …; None chooses. The recipe follows it: on a GPU mixed precision, channels_last,
            torch.compile.
        model: "fast" or "resnet18".
        recipe: instead of `recipe_for(device)`.
        seed: of weights, order and augmentation.
        limit: use only so many training and test pictures.
        source: see `src.datasets.cifar10.load`.
        norm: "batch", or "group", whose result does not depend on how a batch is shared between processes.
        folder, resume, accelerator, progress: see `src.training.fit`.
    """
    device = accelerator.device if accelerator else pick_device(str(device) if device is not None else None)
    recipe = recipe or recipe_for(device)
    set_seed(seed)
    with timer(device) as whole:
        loaded = cifar10.load("train", source, limit)
        train, held_out = cifar10.split_validation(loaded)
        test = PictureBatches(cifar10.load("test", source, limit), 500, device=device)
        validation = PictureBatches(held_out, 500, device=device)
        batches = PictureBatches(
            train, recipe.batch_size, shift=SHIFT[model], flip=True, shuffle=True, seed=seed, device=device
        )
        sample, _ = next(iter(PictureBatches(train, min(2000, len(train)), device=device).epoch()))
        network = build(model, sample, norm).to(device)
        options = {"precision": recipe.precision}
        history = fit(
            network,
            batches,
            recipe,
            validate=lambda net: evaluate(net, validation, **options),
            folder=folder,
            resume=resume,
            accelerator=accelerator,
            progress=progress,
        )
        plain = evaluate(network, test, **options)["accuracy"]
        mirrored = evaluate(network, test, mirrored=True, **options)["accuracy"]
    return Result(network, history, plain, mirrored, history["seconds"][-1], whole.seconds, loaded.source)


def machine(device: torch.device | str) -> str:
    """What the numbers depend on: processor or card, and the versions."""
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{_processor()}, {os.cpu_count()} cores"
    return f"{name}; Python {platform.python_version()}, torch {torch.__version__}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


def summary(results: Sequence[Result], device: torch.device | str, **labels: Any) -> dict[str, Any]:
    """One row for the chapter's table: mean and standard deviation over the seeds."""
    accuracies = [100 * result.accuracy for result in results]
    mirrored = [100 * result.accuracy_mirrored for result in results]
    return {
        "source": results[0].source,
        "machine": machine(device),
        "seeds": len(results),
        "accuracy": statistics.mean(accuracies),
        "deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "accuracy_mirrored": statistics.mean(mirrored),
        "seconds": statistics.mean(result.seconds for result in results),
        "seconds_whole": statistics.mean(result.seconds_whole for result in results),
        **labels,
    }


def record(path: str | Path, row: dict[str, Any]) -> None:
    """Add a row to a JSON list, atomically; a row of the same name replaces the older one."""
    path = Path(path)
    rows = json.loads(path.read_text("utf-8")) if path.exists() else []
    rows = [old for old in rows if old["name"] != row["name"]] + [row]
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cpu, cuda, …; chosen if left out")
    parser.add_argument("--model", default="fast", choices=MODELS)
    parser.add_argument("--norm", default="batch", choices=tuple(NORMS))
    parser.add_argument("--epochs", type=int, help="passes through the training pictures")
    parser.add_argument("--seconds", type=float, help="train for so long instead")
    parser.add_argument("--batch-size", type=int, help="pictures a step, over all processes")
    parser.add_argument("--seeds", type=int, default=1, help="train once for each of the seeds 0, 1, …")
    parser.add_argument("--limit", type=int, help="use only so many pictures of each set")
    parser.add_argument("--source", default="auto", help="auto, folder, original or standin")
    parser.add_argument("--folder", help="where checkpoints are written")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --folder")
    parser.add_argument("--record", nargs=2, metavar=("NAME", "FILE"), help="add a row to a JSON file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; prints one line for each epoch and one for each seed."""
    given = _arguments(arguments)
    accelerator = None
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=given.device == "cpu" or not torch.cuda.is_available())
    device = accelerator.device if accelerator else pick_device(given.device)
    changes = {"epochs": given.epochs, "seconds": given.seconds, "batch_size": given.batch_size}
    recipe = recipe_for(device, **{name: value for name, value in changes.items() if value is not None})
    results = []
    for seed in range(given.seeds):
        results.append(_run_seed(seed, device, recipe, accelerator, given))
    if given.record and (accelerator is None or accelerator.is_main_process):
        record(given.record[1], summary(results, device, name=given.record[0], model=given.model))
    if accelerator is not None:
        accelerator.end_training()


def _run_seed(seed, device, recipe, accelerator, given) -> Result:
    options = {name: getattr(given, name) for name in ("model", "norm", "limit", "source", "folder", "resume")}
    result = run(device, recipe=recipe, seed=seed, accelerator=accelerator, **options)
    if accelerator is None or accelerator.is_main_process:
        for row in result.history.rows:
            print(json.dumps(row))
        print(
            f"seed {seed}: test accuracy {approx(result.accuracy, 4)}, "
            f"mirrored {approx(result.accuracy_mirrored, 4)}, {approx(result.seconds, 1, ' s')} training, "
            f"{approx(result.seconds_whole, 1, ' s')} whole; {result.source}"
        )
    return result


if __name__ == "__main__":
    main()
