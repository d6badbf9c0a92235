"""Make data/results/vlm.json: the small model of chapters/instructions/multimodal.ipynb, trained by the page's own cells.

    python make_vlm.py [ARM ...] [--output FILE]

Five seeds of the whole recipe and of each ablation: what they score; and how many recordings are recognised with and
without hidden parts in training. Two hours of one core. The record is written after each run, and a run that it holds is
not made again. The same machine gives the same file but for the seconds, another one the same scores within the spread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from records import training_cells, write

HERE = Path(__file__).resolve().parent
PAGE = "instructions/multimodal"
SEEDS = 5


def run(page: dict, name: str, seed: int, share: float) -> dict:
    """One training: losses, processor seconds, exact match on each paper."""
    begin = time.process_time()
    model, losses = page["train"](name, page["code"], page["heard"]["train"], seed, share)
    seconds = time.process_time() - begin
    scores = page["report"](model, page["code"], page["papers_small"], page["ARMS"][name].get("blind", False))
    means = [round(sum(losses[at : at + 50]) / len(losses[at : at + 50]), 4) for at in range(0, len(losses), 50)]
    return {"losses": means, "seconds": round(seconds, 1), "scores": scores}


def ears(page: dict, change: str, seed: int, share: float) -> dict:
    """The share of the recordings recognised after their alignment alone, by split."""
    model = page["from_zero"](page["code"], seed)
    page["align_sounds"](model, page["code"], page["heard"]["train"], seed, round(share * page["SOUND_ALIGN"]),
                         change=page[change])
    return {split: page["recognised"](model, page["code"], page["heard"][split]) for split in ("validation", "test")}


def make(path: Path, names: list[str], share: float = 1.0) -> None:
    """Write the record to ``path`` after each run."""
    page = training_cells(PAGE)
    start = {"fingerprint": page["fingerprint"](), "arms": {}}
    found = json.loads(path.read_text("utf-8")) if path.exists() else start
    if found["fingerprint"] != start["fingerprint"]:
        found = start
    if "ears" not in found:
        found["ears"] = {change: [ears(page, change, seed, share) for seed in range(SEEDS)] for change in ("vary", "masked")}
        write(path, found)
    for seed in range(SEEDS):
        for name in names or page["ARMS"]:
            runs = found["arms"].setdefault(name, [])
            if len(runs) == seed:
                runs.append(run(page, name, seed, share))
                print(name, seed, runs[-1]["seconds"], runs[-1]["scores"], flush=True)
                write(path, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", help="names of ARMS in the page; all when none is given")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "vlm.json")
    options = parser.parse_args()
    make(options.output, options.arms)
