"""Low-rank adaptation: W' = W + (α/r) B A with W frozen; added, merged, taken back, stored (row R25).

Chapter: chapters/instructions/tuning.ipynb (Hu et al., ICLR 2022). Merging keeps the weights from before, because adding
and then subtracting the same number does not give the same floating-point number back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.runtime import atomic_write, check_finite

FORMAT = "lora-1"


class LoRALinear(nn.Module):
    """y = x Wᵀ + b + (α/r) x Aᵀ Bᵀ (eq-tuning-lora); A ``[r, in]``, B ``[out, r]`` in the type and place of W."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.scale, self.before = base.requires_grad_(False), alpha / rank, None
        bound = 1 / math.sqrt(base.in_features)
        A = torch.empty(rank, base.in_features, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
        self.A = nn.Parameter(A.to(base.weight))
        self.B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """``[…, in]`` → ``[…, out]``; after `merge` the base alone, which then holds the sum."""
        y = self.base(x)
        if self.before is not None:
            return y
        rows = F.linear(x, self.A).reshape(-1, len(self.A))  # x Aᵀ, [N, r]
        return torch.addmm(y.reshape(-1, len(self.B)), rows, self.B.T, alpha=self.scale).view_as(y)

    def delta(self) -> Tensor:
        """ΔW = (α/r) B A, ``[out, in]``."""
        return self.scale * (self.B @ self.A)


def add_lora(model: nn.Module, names: Sequence[str] = ("q_proj", "v_proj"), rank: int = 8, alpha: float = 16.0,
             seed: int = 0) -> dict[str, LoRALinear]:
    """Freeze the model and put a `LoRALinear` around each linear layer of these names; A is random, B is 0.

    Args:
        names: last parts of the layers' names.
        seed: of A; the same on every device.

    Returns:
        The new layers by their full names; until B changes, the model computes what it did.

    Raises:
        ValueError: rank or alpha not positive, a name that no linear layer has, a model that has adapters already.
    """
    if rank < 1 or not alpha > 0:
        raise ValueError(f"rank, alpha: got {rank} and {alpha}, expected a rank of at least 1 and a positive alpha.")
    if adapters(model):
        raise ValueError("model: got one with adapters, expected one without; add all names in one call.")
    found = {path: layer for path, layer in model.named_modules()
             if isinstance(layer, nn.Linear) and path.rpartition(".")[2] in names}
    if not names or set(names) - {path.rpartition(".")[2] for path in found}:
        linear = {path.rpartition(".")[2] for path, layer in model.named_modules() if isinstance(layer, nn.Linear)}
        raise ValueError(f"names: got {list(names)}, expected some of the linear layers {sorted(linear)}.")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for path, layer in found.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, LoRALinear(layer, rank, alpha, generator))
    return adapters(model)


def adapters(model: nn.Module) -> dict[str, LoRALinear]:
    """The adapted layers by their full names."""
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, LoRALinear)}


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Put W + (α/r) B A in the place of each W, which is kept; for use, not for training: A and B no longer count.

    Raises ValueError for a model without adapters and for one merged already.
    """
    for layer in _in_state(model, merged=False):
        layer.before = layer.base.weight.detach().clone()
        layer.base.weight += layer.delta()


@torch.no_grad()
def unmerge(model: nn.Module) -> None:
    """Put each W back, byte for byte. Raises ValueError for a model without adapters and for one that is not merged."""
    for layer in _in_state(model, merged=True):
        layer.base.weight.copy_(layer.before)
        layer.before = None


def _in_state(model: nn.Module, merged: bool) -> list[LoRALinear]:
    layers = list(adapters(model).values())
    if not layers or any((layer.before is not None) != merged for layer in layers):
        kind = "merged" if merged else "that are not merged"
        raise ValueError(f"model: got {len(layers)} adapters, {sum(layer.before is not None for layer in layers)} of them "
                         f"merged; expected adapters {kind}.")
    return layers


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """A and B of every adapter by their names in the model, on the CPU: all that has to be stored."""
    return {f"{path}.{part}": getattr(layer, part).detach().cpu().contiguous()
            for path, layer in adapters(model).items() for part in ("A", "B")}


@torch.no_grad()
def load_lora(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put a `lora_state` into the model's adapters; ValueError, and nothing changed, unless every name, shape and type fits
    and every number is finite."""
    kinds = [{name: f"{value.dtype} {list(value.shape)}" for name, value in side.items()}
             for side in (state, lora_state(model))]
    if wrong := sorted(name for name in kinds[0].keys() | kinds[1].keys() if kinds[0].get(name) != kinds[1].get(name)):
        raise ValueError(f"state: {len(wrong)} tensors differ, first {wrong[0]}: got {kinds[0].get(wrong[0], 'none')}, "
                         f"expected {kinds[1].get(wrong[0], 'none')}; add the adapters as they were trained.")
    check_finite(**{name.replace(".", "_"): value for name, value in state.items()})
    _in_state(model, merged=False)
    for name, value in state.items():
        model.get_parameter(name).copy_(value)


def save_lora(path: str | PathLike[str], model: nn.Module) -> None:
    """Write A and B as safetensors, with α/r in the header, so that the file is whole or absent."""
    from safetensors.torch import save_file

    scales = {layer.scale for layer in _in_state(model, merged=False)}
    with atomic_write(path) as temporary:
        save_file(lora_state(model), temporary, {"format": FORMAT, "scale": repr(scales.pop())})


def read_lora(path: str | PathLike[str], model: nn.Module) -> None:
    """Put what `save_lora` wrote into the model's adapters.

    Raises ValueError for a damaged or foreign file, another α/r, and as `load_lora`; the model then stays as it was.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), "pt") as file:
            names, header = file.keys(), file.metadata() or {}
            state = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"path: {path} is damaged or no safetensors file ({error}); train again.") from error
    scale = next(iter(adapters(model).values())).scale if adapters(model) else None
    if header.get("format") != FORMAT or header.get("scale") != repr(scale):
        raise ValueError(f"path: {path} has format {header.get('format')!r} and α/r {header.get('scale')}, expected "
                         f"{FORMAT!r} and {scale}; add the adapters as they were trained.")
    load_lora(model, state)
