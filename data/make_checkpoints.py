"""Make data/checkpoints: SmolLM2-135M taught to look and listen by the cells of chapters/instructions/multimodal.ipynb.

    python make_checkpoints.py [--steps N] [--seed N] [--output FOLDER] [--record FILE]

Aligns the projectors, trains them and the adapters on questions about 12,000 scenes, and a twin whose pictures and sounds
are zeros for fewer steps. A good hour of one core. Writes the trained numbers as float16 to the folder of checkpoints and
what they score, from the stored numbers, to data/results/smol_vlm.json. An interrupted run goes on from where it last wrote
its state, in the cache, and ends with the same numbers. The same machine and number of threads give the same file again; on
another machine it was not tried.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from records import training_cells, write
from safetensors.torch import save
from shipping import ship

from src.instructions.tuning import restore_run, save_run
from src.runtime import cache_dir

HERE = Path(__file__).resolve().parent
PAGE = "instructions/multimodal"
EVERY = 50


def lasting(page: dict, path: Path, run: str) -> Callable:
    """The page's ``instruct``, which goes on from ``path`` if it is there, writes it every 50 steps and says how far it is."""
    instruct, update = page["instruct"], page["update"]

    def going_on(model: torch.nn.Module, code: object, pools: Iterator, optimisers: list, steps: int, *rest: int,
                 **options: bool) -> list[float]:
        parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        losses = restore_run(path, run, parameters, optimisers[0])

        def watched(some: list, loss: torch.Tensor, p: float) -> None:
            update(some, loss, p)
            losses.append(loss.item())
            if len(losses) % EVERY == 0 or len(losses) == steps:
                save_run(path, run, parameters, optimisers[0], losses)
                print(f"{run}: {len(losses)} of {steps}, loss {sum(losses[-EVERY:]) / EVERY:.3f}", flush=True)

        page["update"] = watched
        try:
            instruct(model, code, pools, optimisers, steps, *rest, after=len(losses), **options)
        finally:
            page["update"] = update
        return losses

    return going_on


def examined(page: dict, model: torch.nn.Module, chat: object, blind: bool = False) -> dict:
    """Exact match on each paper; a picture is encoded once."""
    papers = {name: (asked, page["cell_features"](model, images), mel)
              for name, (asked, images, mel) in page["smol_papers"]().items()}
    return page["report"](model, chat, papers, blind)


def trained(page: dict, folder: Path, steps: int, seed: int, blind: bool, share: float) -> tuple:
    """Model, its chat format, what it scored after the alignment alone, and its losses."""
    model, chat = page["from_smol"](seed)
    drawn = page["scenes"].draw("train", round(share * page["SMOL_SCENES"]), 0, 96)
    pictures = page["cell_features"](model, drawn.images)
    page["align_smol"](model, chat, drawn, pictures, seed, share)
    start = None if blind else examined(page, model, chat)
    name = "blind" if blind else "smol"
    run = f"{name} {page['smol_fingerprint']()} {seed} {steps} {share}"
    instruct = page["instruct"]
    page["instruct"] = lasting(page, folder / f"{name}_{seed}.run", run)
    try:
        losses = page["learn_smol"](model, chat, drawn, pictures, seed, steps, blind=blind)
    finally:
        page["instruct"] = instruct
    return model, chat, start, losses


def make(folder: Path, record: Path, runs: Path, steps: int, blind_steps: int, seed: int, share: float = 1.0) -> None:
    """Write the checkpoint to ``folder``, the scores to ``record``, and what an interrupted training needs to ``runs``."""
    page = training_cells(PAGE)
    runs.mkdir(parents=True, exist_ok=True)
    begin = time.process_time()
    model, chat, start, losses = trained(page, runs, steps, seed, False, share)
    seconds = time.process_time() - begin
    small = {name: value.half().cpu().contiguous() for name, value in page["small_state"](model).items()}
    ship(folder, {"smol_vlm.safetensors": save(small)})
    page["restore"](model, small)
    found = {"fingerprint": page["smol_fingerprint"](), "seed": seed, "steps": steps, "seconds": round(seconds),
             "losses": [round(loss, 3) for loss in losses], "start": start,
             "scores": examined(page, model, chat)}
    write(record, found)
    print(found["scores"], flush=True)
    if blind_steps:
        model, chat, _, losses = trained(page, runs, blind_steps, seed, True, share)
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
    parser.add_argument("--runs", type=Path, default=cache_dir() / "runs")
    options = parser.parse_args()
    make(options.output, options.record, options.runs, options.steps, options.blind_steps, options.seed)
