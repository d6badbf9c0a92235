"""Make data/results/tuning.json: every arm of chapters/instructions/tuning.ipynb, trained by the cells of the page itself.

    python make_tuning.py [ARM ...] [--output FILE]

For each arm the learning rate is chosen by the validation loss with seed 0; then five seeds, the arms in turn, give their
replies to the test items. About fifty minutes of one core. The record is written after each run, and a run that it holds
is not made again. The same machine gives the same file but for the seconds, another one the same scores within the spread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from src.runtime import atomic_write, pick_device

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "chapters" / "instructions" / "tuning.ipynb"
SEEDS = 5


def training_cells() -> dict:
    """The names that the page's training cells define: ``ARMS``, ``learn``, ``replies`` and what they need."""
    names = {"device": pick_device()}
    for cell in json.loads(PAGE.read_text("utf-8"))["cells"]:
        if cell["id"].startswith("train-"):
            exec("".join(cell["source"]), names)
    return names


def looked_at(page: dict, own: object, P: object) -> dict:
    """Replies to the test items and to the general questions, the losses on general answers and other text."""
    said = {name: page["replies"](own, P, [page["messages"](item) for item in page["sets"][name]])
            for name in page["TESTS"]}
    return said | {"general": page["replies"](own, P, page["asked"]),
                   "general_loss": round(page["mean_loss"](own, P, page["general"]), 4),
                   "other_loss": round(page["mean_loss"](own, P, page["texts"]), 4)}


def run(page: dict, name: str, seed: int, lr: float) -> tuple[object, object, dict]:
    """One training: model, soft prompt, its losses and processor seconds a step."""
    begin = time.process_time()
    own, P, losses = page["learn"](name, seed, lr)
    seconds = (time.process_time() - begin) / len(losses)
    return own, P, {"losses": [round(loss, 3) for loss in losses], "seconds": round(seconds, 2)}


def choose(page: dict, name: str) -> dict:
    """Validation losses of the learning rates with seed 0, the best, and what its training gave."""
    rates, best = {}, None
    for lr in page["ARMS"][name][1]:
        own, P, found = run(page, name, 0, lr)
        rates[str(lr)] = round(page["mean_loss"](own, P, page["examples"]("验证")), 4)
        print(name, lr, rates[str(lr)], found, flush=True)
        if rates[str(lr)] == min(rates.values()):
            best = lr, own, P, found
    lr, own, P, found = best
    return {"rates": rates, "lr": lr, "runs": [found | looked_at(page, own, P)]}


def make(path: Path, arms: list[str]) -> None:
    """Write the record to ``path`` after each run."""
    page = training_cells()
    start = {"fingerprint": page["fingerprint"](), "model": page["language"].name, "start": None, "arms": {}}
    found = json.loads(path.read_text("utf-8")) if path.exists() else start
    if found["fingerprint"] != start["fingerprint"]:
        found = start
    found["start"] = found["start"] or looked_at(page, page["model"], None)
    write(path, found)
    names = arms or list(page["ARMS"])
    for name in names:
        if name not in found["arms"]:
            found["arms"][name] = choose(page, name)
            write(path, found)
    for seed in range(1, SEEDS):
        for name in names:
            arm = found["arms"][name]
            if len(arm["runs"]) == seed:
                own, P, trained = run(page, name, seed, arm["lr"])
                arm["runs"].append(trained | looked_at(page, own, P))
                print(name, seed, trained, flush=True)
                write(path, found)


def write(path: Path, found: dict) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(found, ensure_ascii=False, separators=(",", ":")).replace("],", "],\n") + "\n",
                             "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", help="names of ARMS in the page; all when none is given")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "tuning.json")
    options = parser.parse_args()
    make(options.output, options.arms)
