"""Batches, one training loop for every device, checkpoints (chapters/cases/cifar10_resnet.ipynb).

The loop runs unchanged on a CPU, on a GPU (mixed precision, channels_last, torch.compile: a `Recipe`
says which) and on several processes (`accelerate launch`): a step's global batch depends on
(seed, epoch, step) only, each process takes its share of it, and gradients are averaged.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.runtime import atomic_write, checksum

if TYPE_CHECKING:
    from accelerate import Accelerator

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHECKPOINT_FORMAT = 2


class Pictures(Protocol):
    """What `PictureBatches` needs: uint8 images [N, 3, H, W] and int64 labels [N]."""

    images: Tensor
    labels: Tensor


class Batches(Protocol):
    """What `fit` needs: a length, and batches of a given epoch as (inputs, targets)."""

    def __len__(self) -> int: ...

    def epoch(self, number: int) -> Iterator[tuple[Any, Tensor]]: ...


@dataclass(frozen=True)
class Recipe:
    """How to train; one object says it for a laptop or a GPU (`recipe_for`).

    Attributes:
        epochs: passes through the training set; whole passes, so that a run can be resumed.
        seconds: if given, train this long instead and spread the learning rate over the time.
        batch_size: pictures a step, over all processes together.
        learning_rate: the peak of the one-cycle schedule (Smith and Topin 2018).
        warmup: share of the training until the peak.
        momentum, weight_decay: of SGD with Nesterov momentum; vectors (biases, norms) do not decay.
        label_smoothing: of the cross entropy.
        precision: "fp32", "bf16" or "fp16" (with loss scaling), through torch.autocast.
        channels_last: keep the channels of a pixel together in memory.
        compile: let torch.compile build the forward and backward pass.
    """

    epochs: int = 8
    seconds: float | None = None
    batch_size: int = 64
    learning_rate: float = 0.2
    warmup: float = 0.25
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.05
    precision: str = "fp32"
    channels_last: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: got {self.precision!r}, expected one of {', '.join(PRECISIONS)}")
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs, batch_size: got {self.epochs} and {self.batch_size}, expected both ≥ 1")
        if not 0 < self.warmup < 1:
            raise ValueError(f"warmup: got {self.warmup}, expected a share between 0 and 1")


def recipe_for(device: torch.device | str, **changes: Any) -> Recipe:
    """The recipe that suits a device; keyword arguments replace fields.

    CPU: float32 unless the processor multiplies bfloat16 in hardware. CUDA: bfloat16 (float16 with loss scaling
    before compute capability 8), batches of 512, torch.compile.
    """
    device = torch.device(device)
    if device.type == "cuda":
        new = torch.cuda.get_device_capability(device) >= (8, 0)
        base = Recipe(epochs=20, batch_size=512, learning_rate=0.8, precision="bf16" if new else "fp16", compile=True)
    else:
        base = Recipe(precision="bf16" if _cpu_multiplies_bf16() else "fp32")
    return replace(base, **changes)


def _cpu_multiplies_bf16() -> bool:
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


class PictureBatches:
    """Batches of pictures that lie in memory as bytes: shuffled, shifted, mirrored, scaled.

    The whole path works on [B, H, W, 3] bytes at once, without a Python loop over pictures and without
    workers; on a GPU the bytes lie there and only random numbers travel.

    Args:
        pictures: `images` uint8 [N, 3, H, W] and `labels` int64 [N].
        batch_size: pictures a batch; the last one of a shuffled epoch is dropped if it is smaller.
        shift: largest shift in pixels, each way, border mirrored.
        flip: mirror left and right with probability 1/2.
        shuffle: a new order each epoch.
        seed: of order, shifts and mirrors.
        device: where the bytes are kept and the batches are made.

    Yields:
        float32 pictures [B, 3, H, W] in channels_last layout, scaled by `MEAN` and `STD`, and labels [B].

    Raises:
        ValueError: no pictures, or a shuffled epoch would be empty.
    """

    # channel means and deviations of CIFAR-10's training set, in units of one byte
    MEAN = (125.3, 123.0, 113.9)
    STD = (63.0, 62.1, 66.7)

    def __init__(
        self,
        pictures: Pictures,
        batch_size: int,
        *,
        shift: int = 0,
        flip: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(pictures.images) == 0:
            raise ValueError("pictures: got 0 pictures, expected at least one; check the split or the folder")
        if shuffle and batch_size > len(pictures.images):
            raise ValueError(f"batch_size: got {batch_size}, expected at most the {len(pictures.images)} pictures")
        self.bytes = pictures.images.to(device).permute(0, 2, 3, 1).contiguous()  # [N, H, W, 3]
        self.labels = pictures.labels.to(device)
        self.batch_size, self.shift, self.flip, self.shuffle, self.seed = batch_size, shift, flip, shuffle, seed
        self.mean = torch.tensor(self.MEAN, device=device)
        self.scale = 1 / torch.tensor(self.STD, device=device)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.labels), self.batch_size)
        return whole + bool(rest and not self.shuffle)

    def epoch(self, number: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch; the same number gives the same batches."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        count = len(self.labels)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        for chosen in order.to(self.bytes.device).split(self.batch_size)[: len(self)]:
            pixels = self._augmented(chosen, generator)
            yield ((pixels - self.mean) * self.scale).permute(0, 3, 1, 2), self.labels[chosen]

    def _augmented(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        if not (self.shift or self.flip):
            return self.bytes[chosen]
        count, height, width = len(chosen), *self.bytes.shape[1:3]
        device = self.bytes.device
        shifts = torch.randint(-self.shift, self.shift + 1, (2, count, 1), generator=generator).to(device)
        mirrored = (torch.rand(count, 1, generator=generator) < 0.5 * self.flip).to(device)
        rows = _reflect(torch.arange(height, device=device) + shifts[0], height)  # [B, H]
        columns = _reflect(torch.arange(width, device=device) + shifts[1], width)  # [B, W]
        columns = torch.where(mirrored, columns.flip(1), columns)
        flat = (chosen[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]  # [B, H, W]
        return self.bytes.view(-1, 3)[flat]


def _reflect(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return size - 1 - (size - 1 - index).abs()


def one_cycle(progress: float, warmup: float) -> float:
    """Share of the peak learning rate after a share `progress` of the training: up to 1, then down to 0."""
    return progress / warmup if progress < warmup else (1 - progress) / (1 - warmup)


@dataclass
class History:
    """Numbers of each epoch: epoch, step, loss, seconds, learning_rate and what `validate` gave, prefixed val_."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[float]:
        return [row[name] for row in self.rows]

    def best(self, name: str = "val_accuracy") -> dict[str, float]:
        """The first row with the highest value of `name`."""
        return max(self.rows, key=lambda row: row[name])


def fit(
    model: nn.Module,
    batches: Batches,
    recipe: Recipe,
    *,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    loss: Callable[..., Tensor] = F.cross_entropy,
    folder: str | Path | None = None,
    resume: bool = False,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> History:
    """Train `model` in place and leave it with its best weights.

    Args:
        model: lies on the device where it shall be trained, like the batches.
        batches: gives the batches of an epoch.
        recipe: how to train.
        validate: called after each epoch with the model; must return at least "accuracy". The best
            epoch is chosen by it; without it the last one counts.
        loss: called as loss(outputs, targets, label_smoothing=…) and returns the mean over the batch.
        folder: where best.pt and last.pt are written after each epoch, atomically.
        resume: go on from folder/last.pt if it exists.
        accelerator: from `accelerate`, to share the batches between processes.
        progress: show a bar on stderr.

    Raises:
        FloatingPointError: the loss is not finite; the checkpoints of earlier epochs remain.
        ValueError: the checkpoint is another architecture's or `resume` was asked without `folder`, or the
            batch cannot be shared evenly, or both `resume` and `recipe.seconds` were given.
    """
    run = _Run(model, batches, recipe, loss, accelerator)
    if resume:
        run.restore(folder)
    while not run.finished():
        row = run.epoch(progress)
        if validate is not None:
            row |= {f"val_{name}": value for name, value in validate(model).items()}
        run.record(row, folder)
    model.load_state_dict(run.best)
    return run.history


class _Run:
    """The state of one training: what a checkpoint has to hold."""

    def __init__(self, model, batches, recipe, loss, accelerator) -> None:
        self.model, self.batches, self.recipe, self.loss = model, batches, recipe, loss
        self.accelerator = accelerator
        self.rank, self.world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
        if recipe.batch_size % self.world:
            raise ValueError(f"batch_size: got {recipe.batch_size}, expected a multiple of the {self.world} processes")
        self.device = next(model.parameters()).device
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        self.forward = accelerator.prepare_model(model) if self.world > 1 else model
        if recipe.compile:
            self.forward = torch.compile(self.forward)
        self.optimizer = make_optimizer(model, recipe)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.history, self.done, self.step, self.seconds = History(), 0, 0, 0.0
        self.best = None

    def finished(self) -> bool:
        return self._progress() >= 1

    def _progress(self, elapsed: float = 0.0) -> float:
        if self.recipe.seconds is not None:
            return (self.seconds + elapsed) / self.recipe.seconds
        return self.step / (self.recipe.epochs * len(self.batches))

    def epoch(self, progress: bool) -> dict[str, float]:
        """One pass, cut short when the time is up; returns its mean loss and its numbers."""
        self.model.train()
        total, steps, begin = torch.zeros((), device=self.device), 0, time.perf_counter()
        for inputs, targets in self._bar(self.batches.epoch(self.done), progress):
            share = self._progress(time.perf_counter() - begin)
            if share >= 1:
                break
            rate = self.recipe.learning_rate * one_cycle(share, self.recipe.warmup)
            total += self._update(inputs[self.rank :: self.world], targets[self.rank :: self.world], rate)
            steps += 1
            self.step += 1
        mean = self._mean_over_processes(total / max(steps, 1))
        self.done += 1
        self.seconds += time.perf_counter() - begin
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"loss: got {mean} in epoch {self.done}; lower learning_rate, now {self.recipe.learning_rate}, "
                "or train in fp32"
            )
        return {"epoch": self.done, "step": self.step, "loss": mean, "seconds": self.seconds, "learning_rate": rate}

    def _update(self, inputs: Any, targets: Tensor, rate: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        dtype = PRECISIONS[self.recipe.precision]
        with torch.autocast(self.device.type, dtype) if dtype != torch.float32 else nullcontext():
            outputs = self.forward(inputs)
            loss = self.loss(outputs, targets, label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def _mean_over_processes(self, value: Tensor) -> float:
        return float(self.accelerator.reduce(value, "mean") if self.world > 1 else value)

    def _bar(self, batches: Iterator, progress: bool) -> Iterator:
        if not (progress and self.rank == 0):
            return batches
        from tqdm import tqdm

        return tqdm(batches, desc=f"epoch {self.done + 1}", total=len(self.batches), leave=False, file=sys.stderr)

    def record(self, row: dict[str, float], folder: str | Path | None) -> None:
        """Keep the row, a copy of the best weights, and the files."""
        self.history.rows.append(row)
        if "val_accuracy" not in row or self.history.best() is row:
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        if folder is not None and self.rank == 0:
            save_checkpoint(Path(folder) / "best.pt", self.best)
            save_checkpoint(Path(folder) / "last.pt", self.model.state_dict(), **self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rows": self.history.rows,
            "done": self.done,
            "step": self.step,
            "seconds": self.seconds,
        }

    def restore(self, folder: str | Path | None) -> None:
        """Go on from folder/last.pt; nothing happens if there is none yet."""
        if folder is None:
            raise ValueError("resume: got True without folder, expected the folder that holds last.pt")
        if self.recipe.seconds is not None:
            raise ValueError("resume: a training bounded by recipe.seconds cannot be resumed; give epochs instead")
        path = Path(folder) / "last.pt"
        if not path.exists():
            return
        state = load_checkpoint(path, self.model)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.best, self.history = state["best"], History(state["rows"])
        self.done, self.step, self.seconds = state["done"], state["step"], state["seconds"]


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; matrices and kernels decay, vectors (biases, norms) do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=True)


@torch.no_grad()
def predict(
    model: nn.Module, batches: Batches, *, precision: str = "fp32", mirrored: bool = False
) -> tuple[Tensor, Tensor]:
    """Logits [N, C] in float32 and targets [N] of a whole set, on the CPU.

    `mirrored` adds the logits of the left-right mirrored pictures (test-time augmentation). The model is left
    in the mode, training or evaluation, in which it came.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    logits, targets = [], []
    with torch.autocast(device.type, PRECISIONS[precision]) if precision != "fp32" else nullcontext():
        for x, y in batches.epoch(0):
            outputs = model(x) + model(x.flip(-1)) if mirrored else model(x)
            logits.append(outputs.float().cpu())
            targets.append(y.cpu())
    model.train(training)
    return torch.cat(logits), torch.cat(targets)


def evaluate(model: nn.Module, batches: Batches, **options: Any) -> dict[str, float]:
    """Mean cross entropy (nats) and accuracy of a whole set; options as for `predict`."""
    logits, targets = predict(model, batches, **options)
    accuracy = (logits.argmax(1) == targets).float().mean()
    return {"loss": float(F.cross_entropy(logits, targets)), "accuracy": float(accuracy)}


def save_checkpoint(path: str | Path, weights: dict[str, Tensor], **state: Any) -> None:
    """Write weights, and what else is needed to go on, so that the file is whole or absent.

    Raises:
        OSError: the disk is full or the folder cannot be written; an older file stays as it was.
    """
    held = {"model": weights, **state}
    with atomic_write(path) as temporary:
        torch.save({"format": CHECKPOINT_FORMAT, "held": held, "sum": checksum(held)}, temporary)


def load_checkpoint(path: str | Path, model: nn.Module) -> dict[str, Any]:
    """Read a file of `save_checkpoint`, put its weights into `model` strictly, and return the rest.

    Only tensors and plain values are read, never pickled code.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, not a checkpoint of this book, or another architecture's.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path: {path} does not exist; train with folder={str(path.parent)!r} first")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"path: {path} is damaged or not a checkpoint ({error}); delete it and train again") from error
    if not isinstance(state, dict) or state.get("format") != CHECKPOINT_FORMAT:
        raise ValueError(f"path: {path} is not a checkpoint of format {CHECKPOINT_FORMAT}; delete it and train again")
    if checksum(held := state.get("held")) != state.get("sum"):
        raise ValueError(f"path: {path} is damaged (its checksum differs); delete it and train again")
    weights = held.pop("model")
    differences = _differences(weights, model.state_dict())
    if differences:
        raise ValueError(
            f"model: {path} holds another architecture ({len(differences)} differences, first: {differences[0]}); "
            "build the model as it was trained"
        )
    model.load_state_dict(weights)
    return held


def _differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> Sequence[str]:
    shapes = [{name: tuple(value.shape) for name, value in side.items()} for side in (found, expected)]
    names = sorted(set(shapes[0]) | set(shapes[1]))
    return [
        f"{name} is {shapes[0].get(name, 'absent')} in the file, {shapes[1].get(name, 'absent')} in the model"
        for name in names
        if shapes[0].get(name) != shapes[1].get(name)
    ]
