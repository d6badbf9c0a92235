"""The CIFAR-10 case as a function, from the command line, and shared between two processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.cases.cifar10 import MODELS, build, main, record, run, summary
from src.training import Recipe, load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TINY = Recipe(epochs=2, batch_size=32, learning_rate=0.05)


@pytest.fixture(scope="module")
def result():
    return run("cpu", recipe=TINY, limit=400, source="standin", progress=False)


def test_run_says_what_it_did(result):
    assert result.source == "表情符号替身"
    assert len(result.history.rows) == 2
    assert result.history["loss"][1] < result.history["loss"][0]
    assert 0 <= result.accuracy <= 1 and 0 <= result.accuracy_mirrored <= 1
    assert 0 < result.seconds < result.seconds_whole


def test_same_seed_same_result(result):
    again = run("cpu", recipe=TINY, limit=400, source="standin", progress=False)
    assert again.history["loss"] == result.history["loss"]
    assert again.accuracy == result.accuracy
    other = run("cpu", recipe=TINY, limit=400, source="standin", seed=1, progress=False)
    assert other.history["loss"] != result.history["loss"]


def test_checkpoints_can_be_loaded(tmp_path):
    result = run("cpu", recipe=TINY, limit=400, source="standin", folder=tmp_path, progress=False)
    fresh = build("fast", torch.randn(8, 3, 32, 32))
    load_checkpoint(tmp_path / "best.pt", fresh)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), result.model.parameters(), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_run_on_the_gpu_with_its_own_recipe():
    result = run("cuda", limit=4000, source="standin", progress=False)
    assert result.accuracy > 0.3


@pytest.mark.parametrize("name", MODELS)
def test_build(name):
    assert build(name, torch.randn(8, 3, 32, 32))(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(("name", "norm"), [("vgg", "batch"), ("fast", "layer")])
def test_build_refuses(name, norm):
    with pytest.raises(ValueError, match=f"name, norm: got '{name}' and '{norm}'"):
        build(name, torch.randn(8, 3, 32, 32), norm)


def test_record_replaces_a_row_of_the_same_name(tmp_path, result):
    path = tmp_path / "results.json"
    record(path, summary([result], "cpu", name="a"))
    record(path, summary([result, result], "cpu", name="b"))
    record(path, summary([result, result], "cpu", name="a"))
    rows = json.loads(path.read_text("utf-8"))
    assert [(row["name"], row["seeds"], row["deviation"]) for row in rows] == [("b", 2, 0.0), ("a", 2, 0.0)]
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_command_line(capsys, tmp_path):
    arguments = "--device cpu --epochs 1 --batch-size 32 --limit 400 --source standin --seeds 2 --record x"
    main([*arguments.split(), str(tmp_path / "r.json")])
    assert len(re.findall(r"seed \d: test accuracy ≈0\.\d{4}", capsys.readouterr().out)) == 2
    assert json.loads((tmp_path / "r.json").read_text("utf-8"))[0]["seeds"] == 2


def losses(*launcher: str) -> list[float]:
    arguments = "-m src.cases.cifar10 --device cpu --norm group --epochs 2 --batch-size 32 --limit 400 --source standin"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *launcher, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line)["loss"] for line in done.stdout.splitlines() if line.startswith("{")]


def test_two_processes_get_the_losses_of_one():
    alone = losses()
    launcher = (
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
    )
    shared = losses(*launcher, "--dynamo_backend", "no", "--main_process_port", "0")
    assert len(alone) == 2
    assert shared == pytest.approx(alone, rel=1e-4)
