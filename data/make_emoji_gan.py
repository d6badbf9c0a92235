"""Make data/emoji_gan: five generators, trained by the cells of chapters/representation/adversarial.ipynb themselves.

    python make_emoji_gan.py

Takes about eight minutes on two cores. The weights are kept in float16. The same machine gives the same file again;
another one gives generators of the same quality.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save
from shipping import ship

from src.runtime import pick_device

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "chapters" / "representation" / "adversarial.ipynb"


def training_cells() -> dict:
    """The names that the page's training cells define: ``Generator``, ``fit`` and what they need."""
    names = {"device": pick_device()}
    for cell in json.loads(PAGE.read_text("utf-8"))["cells"]:
        if cell["id"] == "imports" or cell["id"].startswith("gan-"):
            exec("".join(cell["source"]), names)
    return names


def make(folder: Path, seeds: int, **options: int) -> None:
    """Train ``seeds`` generators and write them to ``folder``; options: of the page's ``fit``."""
    fit, state = training_cells()["fit"], {}
    for seed in range(seeds):
        state |= {f"{seed}.{name}": tensor.cpu() for name, tensor in fit(seed, **options).state_dict().items()}
        print(f"seed {seed} done", flush=True)
    small = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    ship(folder, {"generators.safetensors": save({name: tensor.contiguous() for name, tensor in small.items()})})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "emoji_gan")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    make(options.output, options.seeds, steps=options.steps)
