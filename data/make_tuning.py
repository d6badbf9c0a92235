"""Make data/results/tuning.json: every arm of chapters/instructions/tuning.ipynb, trained by the cells of the page itself.

    python make_tuning.py [ARM ...] [--output FILE]

For each arm the learning rate is chosen by the validation loss with seed 0; then five seeds, the arms in turn, give their
replies to the test items. Then the same with more steps, from the best two rates. About two hours of one core. The record
is written after each run, and a run that it holds is not made again. The same machine gives the same file but for the
seconds, another one the same scores within the spread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from records import training_cells, write

HERE = Path(__file__).resolve().parent
PAGE = "instructions/tuning"
SEEDS = 5


def looked_at(page: dict, own: object, P: object) -> dict:
    """Replies to the test items and to the general questions, the losses on general answers and other text."""
    said = {name: page["replies"](own, P, [page["messages"](item) for item in page["sets"][name]])
            for name in page["TESTS"]}
    return said | {"general": page["replies"](own, P, page["asked"]),
                   "general_loss": round(page["mean_loss"](own, P, page["general"]), 4),
                   "other_loss": round(page["mean_loss"](own, P, page["texts"]), 4)}


def run(page: dict, name: str, seed: int, lr: float, steps: int) -> tuple[object, object, dict]:
    """One training: model, soft prompt, its losses and processor seconds a step."""
    begin = time.process_time()
    own, P, losses = page["learn"](name, seed, lr, steps)
    seconds = (time.process_time() - begin) / len(losses)
    return own, P, {"losses": [round(loss, 3) for loss in losses], "seconds": round(seconds, 2)}


def choose(page: dict, name: str, tried: list[float], steps: int) -> dict:
    """Validation losses of the learning rates with seed 0, the best, and what its training gave."""
    rates, best = {}, None
    for lr in tried:
        own, P, found = run(page, name, 0, lr, steps)
        rates[str(lr)] = round(page["mean_loss"](own, P, page["examples"]("验证")), 4)
        print(name, lr, rates[str(lr)], found, flush=True)
        if rates[str(lr)] == min(rates.values()):
            best = lr, own, P, found
    lr, own, P, found = best
    return {"rates": rates, "lr": lr, "runs": [found | looked_at(page, own, P)]}


def best_two(arm: dict) -> list[float]:
    """The learning rates with the lowest validation losses."""
    return [float(lr) for lr in sorted(arm["rates"], key=arm["rates"].get)[:2]]


def make(path: Path, names: list[str]) -> None:
    """Write the record to ``path`` after each run."""
    page = training_cells(PAGE)
    start = {"fingerprint": page["fingerprint"](), "model": page["language"].name, "start": None, "arms": {}, "longer": {}}
    found = json.loads(path.read_text("utf-8")) if path.exists() else start
    if found["fingerprint"] != start["fingerprint"]:
        found = start
    found["start"] = found["start"] or looked_at(page, page["model"], None)
    write(path, found)
    for part, steps in (("arms", page["STEPS"]), ("longer", page["LONGER"])):
        for name in names or page["ARMS"]:
            if name not in found[part]:
                tried = page["ARMS"][name][1] if part == "arms" else best_two(found["arms"][name])
                found[part][name] = choose(page, name, tried, steps)
                write(path, found)
        for seed in range(1, SEEDS):
            for name in names or page["ARMS"]:
                arm = found[part][name]
                if len(arm["runs"]) == seed:
                    own, P, trained = run(page, name, seed, arm["lr"], steps)
                    arm["runs"].append(trained | looked_at(page, own, P))
                    print(part, name, seed, trained, flush=True)
                    write(path, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", help="names of ARMS in the page; all when none is given")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "tuning.json")
    options = parser.parse_args()
    make(options.output, options.arms)
