"""Make data/results/soft.json: every arm of chapters/prompts/soft.ipynb, trained by the cells of the page itself.

    python make_soft.py [ARM ...] [--output FILE]

For each arm the learning rate is chosen on the validation sentences with seed 0, then five seeds give the log-odds of the
test sentences. All arms take about an hour and a half of one core; named ones are made anew, the others kept. The same
machine gives the same file again, another one the same accuracies within the spread.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from records import training_cells, write
from sklearn.linear_model import LogisticRegression

from src.runtime import set_seed

HERE = Path(__file__).resolve().parent
PAGE = "prompts/soft"
SEEDS, PROBE = 5, "线性探针"


def measure(page: dict, name: str) -> dict:
    """Validation accuracies of the learning rates; for each seed the losses, the test log-odds, the loss on other text."""
    parts, rates = page["parts"], {}
    for lr in page["ARMS"][name][1]:
        arm, _ = page["learn"](name, 0, lr)
        rates[str(lr)] = round(accuracy(page["odds"](arm, parts["validation"].texts), parts["validation"].labels), 4)
    best = float(max(rates, key=rates.get))
    found: dict = {"rates": rates, "lr": best, "losses": [], "odds": [], "other": []}
    for seed in range(SEEDS):
        arm, losses = page["learn"](name, seed, best)
        found["losses"].append([round(loss, 3) for loss in losses])
        found["odds"].append(rounded(page["odds"](arm, parts["test"].texts)))
        if hasattr(arm, "own"):
            found["other"].append(round(page["other_loss"](arm.own), 4))
        print(name, seed, accuracy(torch.tensor(found["odds"][-1]), parts["test"].labels), flush=True)
    return found


def probe(page: dict) -> dict:
    """Logistic regression on the last hidden state behind the written prompt, from the sentences that ``fit`` draws."""
    parts = page["parts"]
    X = {split: page["hidden"](part.texts).numpy() for split, part in parts.items()}
    found: dict = {"rates": {}, "odds": []}

    def train(seed: int, C: float) -> LogisticRegression:
        order = set_seed(seed)
        rows = torch.cat([torch.randint(len(parts["train"]), (8,), generator=order) for _ in range(25)]).unique()
        return LogisticRegression(C=C, max_iter=5000).fit(X["train"][rows], parts["train"].labels[rows])

    for C in (0.01, 0.1, 1.0, 10.0, 100.0):
        found["rates"][str(C)] = round(float(train(0, C).score(X["validation"], parts["validation"].labels)), 4)
    best = float(max(found["rates"], key=found["rates"].get))
    found |= {"C": best, "odds": [rounded(torch.from_numpy(train(seed, best).decision_function(X["test"])))
                                  for seed in range(SEEDS)]}
    return found


def accuracy(odds: torch.Tensor, labels: torch.Tensor) -> float:
    return ((odds > 0).long() == labels).double().mean().item()


def rounded(odds: torch.Tensor) -> list[float]:
    return [round(value, 3) for value in odds.tolist()]


def make(path: Path, arms: list[str]) -> None:
    """Write the record to ``path`` after each arm, so that an interrupted run loses one arm at most."""
    page = training_cells(PAGE)
    start = {"fingerprint": page["fingerprint"](), "model": page["language"].name, "arms": {}}
    found = json.loads(path.read_text("utf-8")) if path.exists() else start
    if found["fingerprint"] != start["fingerprint"]:
        found = start
    if "start" not in found:
        found["start"] = {"odds": rounded(page["odds"](page["HardPrompt"](), page["parts"]["test"].texts)),
                          "other": round(page["other_loss"](page["model"]), 4)}
    for name in arms or [*page["ARMS"], PROBE]:
        found["arms"][name] = probe(page) if name == PROBE else measure(page, name)
        write(path, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", help="names of ARMS in the page, or 线性探针; all when none is given")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "soft.json")
    options = parser.parse_args()
    make(options.output, options.arms)
