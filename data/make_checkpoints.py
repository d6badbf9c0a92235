"""Make data/checkpoints: SmolLM2-135M taught to look and listen by the cells of chapters/instructions/multimodal.ipynb.

    python make_checkpoints.py [--steps N] [--output FOLDER]

Aligns the projectors, trains them and the adapters on questions about 12,000 scenes, and a twin whose pictures and sounds
are zeros for fewer steps. A good hour of one core. Writes the trained numbers as float16 to the folder of checkpoints and
what they score, from the stored numbers, to data/results/smol_vlm.json. The same machine and number of threads give the
same losses again; on another machine it was not tried. An interrupted run begins anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from records import training_cells, write
from safetensors.torch import save
from shipping import ship

HERE = Path(__file__).resolve().parent
PAGE = "instructions/multimodal"
SHOW = 25


def shown(update: Callable, name: str) -> Callable:
    """The page's ``update``, which says every 25 steps how far it is."""
    losses: list[float] = []

    def watched(optimisers: list, loss: torch.Tensor, p: float) -> None:
        update(optimisers, loss, p)
        losses.append(loss.item())
        if len(losses) % SHOW == 0:
            print(f"{name}: step {len(losses)}, {p:.0%}, loss {sum(losses[-SHOW:]) / SHOW:.3f}", flush=True)

    return watched


def examined(page: dict, model: torch.nn.Module, chat: object, blind: bool = False) -> dict:
    """Exact match on each paper; a picture is encoded once."""
    papers = {name: (asked, page["cell_features"](model, images), mel)
              for name, (asked, images, mel) in page["smol_papers"]().items()}
    return page["report"](model, chat, papers, blind)


def trained(page: dict, steps: int, seed: int, blind: bool, share: float) -> tuple:
    """Model, its chat format, what it scored after the alignment alone, and its losses."""
    model, chat = page["from_smol"](seed)
    drawn = page["scenes"].draw("train", round(share * page["SMOL_SCENES"]), 0, 96)
    pictures = page["cell_features"](model, drawn.images)
    page["align_smol"](model, chat, drawn, pictures, seed, share)
    start = None if blind else examined(page, model, chat)
    losses = page["learn_smol"](model, chat, drawn, pictures, seed, steps, blind=blind)
    return model, chat, start, losses


def make(folder: Path, record: Path, steps: int, blind_steps: int, seed: int, share: float = 1.0) -> None:
    """Write the checkpoint to ``folder`` and the scores to ``record``."""
    page = training_cells(PAGE)
    update, begin = page["update"], time.process_time()
    page["update"] = shown(update, "smol")
    model, chat, start, losses = trained(page, steps, seed, False, share)
    seconds = time.process_time() - begin
    small = {name: value.half().cpu().contiguous() for name, value in page["small_state"](model).items()}
    ship(folder, {"smol_vlm.safetensors": save(small)})
    page["restore"](model, small)
    found = {"fingerprint": page["smol_fingerprint"](), "seed": seed, "steps": steps, "seconds": round(seconds),
             "losses": [round(loss, 3) for loss in losses], "start": start,
             "scores": examined(page, model, chat)}
    write(record, found)
    print(found["scores"], flush=True)
    page["update"] = shown(update, "blind")
    model, chat, _, losses = trained(page, blind_steps, seed, True, share)
    found["blind"] = {"steps": blind_steps, "losses": [round(loss, 3) for loss in losses],
                      "scores": examined(page, model, chat, blind=True)}
    write(record, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--blind-steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "checkpoints")
    parser.add_argument("--record", type=Path, default=HERE / "results" / "smol_vlm.json")
    options = parser.parse_args()
    make(options.output, options.record, options.steps, options.blind_steps, options.seed)
