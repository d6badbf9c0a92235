"""Make data/results/loss.json: every arm of chapters/instructions/loss.ipynb, trained by the cells of the page itself.

    python make_loss.py [ARM ...] [--output FILE]

The learning rate is chosen on the validation items with the correct arm and three seeds; each arm then trains with the
same rate, steps and seeds, and is judged on the test items; two of them once more with three times the steps. All arms take about
twenty minutes of one core; named ones are made anew, the others kept. Another machine gives the same shares within the spread.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from records import training_cells, write

HERE = Path(__file__).resolve().parent
PAGE = "instructions/loss"
SEEDS, TRIALS, EXAM = 8, 3, 300
RIGHT, LONGER, LONG, FEWER = "正确", ("正确", "整个序列"), 1500, 5


def measure(page: dict, name: str, seed: int, lr: float, split: str, steps: int = 500) -> dict:
    """The shares that ``judge`` gives and the mean loss of the last twenty steps."""
    model, losses = page["fit"](name, seed, lr, steps)
    found = page["judge"](model, page["items"](split, EXAM, seed), page["ARMS"][name].swap)
    found = {key: round(value, 4) for key, value in found.items()} | {"loss": round(sum(losses[-20:]) / len(losses[-20:]), 4)}
    print(name, seed, lr, found, flush=True)
    return found


def make(path: Path, arms: list[str]) -> None:
    """Write the record to ``path`` after each arm, so that an interrupted run loses one arm at most."""
    page = training_cells(PAGE)
    start = {"fingerprint": page["fingerprint"](), "arms": {}}
    found = json.loads(path.read_text("utf-8")) if path.exists() else start
    if found["fingerprint"] != start["fingerprint"]:
        found = start
    if "lr" not in found:
        found["rates"] = {str(lr): [measure(page, RIGHT, seed, lr, "validation")["exact"] for seed in range(TRIALS)]
                          for lr in page["RATES"]}
        found["lr"] = float(max(found["rates"], key=lambda lr: sum(found["rates"][lr])))
    found.setdefault("longer", {})
    wanted = [(name, "arms", 500, SEEDS) for name in arms or page["ARMS"]]
    wanted += [(name, "longer", LONG, FEWER) for name in LONGER if name not in found["longer"]]
    for name, part, steps, seeds in wanted:
        runs = [measure(page, name, seed, found["lr"], "test", steps) for seed in range(seeds)]
        found[part][name] = {key: [run[key] for run in runs] for key in runs[0]}
        write(path, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", help="names of ARMS in the page; all when none is given")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "loss.json")
    options = parser.parse_args()
    make(options.output, options.arms)
