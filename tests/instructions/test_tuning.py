"""The loss of packed examples, the loop and its checkpoints, greedy answers, and what no training batch may hold."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from src import pretrained
from src.datasets.instruction_wordings import SEEN
from src.datasets.instructions import HELD_OUT_TASKS
from src.instructions import lora, tuning
from src.instructions.loss import Example, answer_loss, collate
from src.prompts import soft
from src.runtime import available_devices, checksum, data_dir, root
from src.tokens import IGNORED, encode_chat
from tests.prompts.conftest import tiny_model
from tests.records import script


@pytest.fixture(scope="module")
def real():
    return pretrained.language_model(device="cpu")


@pytest.fixture(scope="module")
def tiny(real):
    return tiny_model(real.tokenizer)


def drawn(count: int = 5, seed: int = 0, most: int = 900) -> list[Example]:
    chance = random.Random(seed)
    ids = [[chance.randrange(9, most) for _ in range(chance.randint(4, 9))] for _ in range(count)]
    return [Example(tuple(row), (*[IGNORED] * 2, *row[2:])) for row in ids]


def soft_prompt(model: nn.Module, m: int = 3) -> nn.Parameter:
    values = torch.randn(m, model.config.hidden_size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return nn.Parameter(values.to(model.device, model.dtype))


@pytest.mark.parametrize("device", available_devices())
def test_the_packed_loss_is_the_loss_of_padded_rows(real, device):
    model, examples = tiny_model(real.tokenizer, device).model, drawn()
    batch = collate(examples).to(device)
    padded = answer_loss(model(input_ids=batch.ids, attention_mask=(batch.segments > 0).long()).logits, batch.labels)
    torch.testing.assert_close(tuning.packed_loss(model, examples), padded)
    P, mask = soft_prompt(model), (batch.segments > 0).long()
    X, mask = soft.prepend(P, model.get_input_embeddings()(batch.ids), mask)
    labels = nn.functional.pad(batch.labels, (len(P), 0), value=IGNORED)
    padded = answer_loss(model(inputs_embeds=X, attention_mask=mask).logits, labels)
    packed = tuning.packed_loss(model, examples, P)
    torch.testing.assert_close(packed, padded)
    torch.testing.assert_close(*torch.autograd.grad(packed, P), *torch.autograd.grad(padded, P))


@given(count=st.integers(1, 20), rows=st.integers(1, 9), seed=st.integers(0, 5))
def test_the_order_holds_each_example_once_an_epoch(count, rows, seed):
    read = [place for step in range(3 * count) for place in tuning.places(count, rows, step, seed)]
    assert len(read) == 3 * count * rows
    for begin in range(0, len(read), count):
        assert sorted(read[begin : begin + count]) == list(range(count))
    assert count < 9 or tuning.places(count, count, 0, seed) != tuning.places(count, count, 0, seed + 1)


def trained(tiny, recipe: tuning.Recipe, **options) -> tuple[list[float], bytes]:
    model = copy.deepcopy(tiny.model)
    losses = tuning.tune(model, drawn(12), recipe, **options)
    return losses, b"".join(value.detach().numpy().tobytes() for value in model.parameters())


def test_chunks_change_nothing_but_the_rounding(tiny):
    models = [copy.deepcopy(tiny.model) for _ in range(2)]
    for model, chunk in zip(models, (8, 3), strict=True):
        tuning.tune(model, drawn(12), tuning.Recipe(0.01, steps=2, chunk=chunk))
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_training_learns_and_only_what_asks_for_a_gradient(tiny):
    model = copy.deepcopy(tiny.model)
    lora.add_lora(model)
    losses = tuning.tune(model, drawn(8), tuning.Recipe(0.1, steps=12))
    assert losses[-1] < losses[0] - 0.3
    layers = lora.adapters(model)
    assert all(layer.B.abs().max() > 0 for layer in layers.values())
    assert torch.equal(model.get_input_embeddings().weight, tiny.model.get_input_embeddings().weight)
    frozen, P = copy.deepcopy(tiny.model).requires_grad_(False), soft_prompt(tiny.model)
    before = P.detach().clone()
    tuning.tune(frozen, drawn(8), tuning.Recipe(0.1, steps=2), prompt=P)
    assert not torch.equal(P, before)
    assert all(torch.equal(a, b) for a, b in zip(frozen.parameters(), tiny.model.parameters(), strict=True))


def test_the_rate_rises_and_falls_and_the_gradient_is_clipped(tiny):
    recipe = tuning.Recipe(1.0, steps=10, warmup=4)
    rates = [recipe.rate(step) for step in range(10)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert tuning.Recipe(1.0, steps=2, warmup=0).rate(0) == 1
    short = copy.deepcopy(tiny.model).requires_grad_(False)
    P = soft_prompt(short)
    tuning.tune(short, drawn(8), tuning.Recipe(0.1, steps=1, clip=1e-3), prompt=P)
    assert P.grad.norm().item() == pytest.approx(1e-3, rel=1e-4)


class Stop(Exception):
    pass


def test_going_on_gives_the_same_bits(tiny, tmp_path, monkeypatch):
    recipe, path = tuning.Recipe(0.01, steps=7, rows=3, every=2), tmp_path / "run.pt"
    whole = trained(tiny, recipe, seed=3)
    step = tuning.update

    def stopping(model, batch, recipe, number, *rest):
        if number == 5:
            raise Stop
        return step(model, batch, recipe, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "update", stopping)
        with pytest.raises(Stop):
            trained(tiny, recipe, seed=3, path=path)
    assert len(torch.load(path, weights_only=True)["held"]["losses"]) == 4
    left = tmp_path / f".run.{'0' * 32}.pt"
    left.write_bytes(b"half")
    (tmp_path / ".run.other.pt").write_bytes(b"mine")
    assert trained(tiny, recipe, seed=3, path=path) == whole
    assert trained(tiny, recipe, seed=3, path=path) == whole  # a finished one: nothing is done again
    assert not left.exists() and (tmp_path / ".run.other.pt").exists()


class Small(nn.Module):
    """As much of a language model as `tune` asks for, with dropout, so that chance counts."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.table, self.head = nn.Embedding(50, 200), nn.Linear(200, 50)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.table

    def forward(self, inputs_embeds, attention_mask, position_ids, use_cache, logits_to_keep) -> SimpleNamespace:
        hidden = attention_mask[:, 0].float() @ inputs_embeds
        return SimpleNamespace(logits=self.head(nn.functional.dropout(hidden, 0.2)[:, logits_to_keep]))


def child(path: str, out: str) -> None:
    """What the killed process runs: it says when it begins and after each checkpoint."""
    torch.set_num_threads(1)
    save = tuning.save_run

    def saving(*arguments) -> None:
        save(*arguments)
        print("saved", flush=True)

    tuning.save_run = saving
    print("begin", flush=True)
    model = Small()
    tuning.tune(model, drawn(30, most=50), tuning.Recipe(0.01, steps=400, rows=4, chunk=3, every=1), seed=2, path=path)
    Path(out).write_bytes(b"".join(value.detach().numpy().tobytes() for value in model.parameters()))


def begun(path: Path, out: Path) -> subprocess.Popen:
    code = f"import importlib.util as u; s = u.spec_from_file_location('t', {__file__!r}); m = u.module_from_spec(s); " \
           f"s.loader.exec_module(m); m.child({str(path)!r}, {str(out)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root(), stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": str(root())})
    assert process.stdout.readline() == "begin\n"
    return process


@pytest.mark.slow
def test_a_process_killed_at_any_moment_loses_nothing(tmp_path):
    chance, reached = random.Random(4), [0]
    for _ in range(4):
        with begun(tmp_path / "run.pt", tmp_path / "run.bin") as process:
            for _ in range(chance.randint(5, 40)):
                assert process.stdout.readline() == "saved\n"
            time.sleep(chance.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
        reached.append(len(torch.load(tmp_path / "run.pt", weights_only=True)["held"]["losses"]))
        assert reached[-2] < reached[-1] < 400
    for name in ("run", "whole"):
        with begun(tmp_path / f"{name}.pt", tmp_path / f"{name}.bin") as process:
            assert process.communicate()[0].count("saved") == 400 - (reached[-1] if name == "run" else 0)
    assert (tmp_path / "run.bin").read_bytes() == (tmp_path / "whole.bin").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"whole.pt", "whole.bin", "run.pt", "run.bin"}


def test_another_trainings_checkpoint_is_refused(tiny, tmp_path):
    recipe, path = tuning.Recipe(0.01, steps=2, rows=2), tmp_path / "run.pt"
    trained(tiny, recipe, path=path)
    other = copy.deepcopy(tiny.model)
    other.model.norm.weight.data[0] += 1e-9
    frozen = copy.deepcopy(tiny.model)
    lora.add_lora(frozen)
    runs = {
        "seed": lambda: trained(tiny, recipe, path=path, seed=1),
        "recipe": lambda: trained(tiny, tuning.Recipe(0.01, steps=3, rows=2), path=path),
        "examples": lambda: tuning.tune(copy.deepcopy(tiny.model), drawn(11), recipe, path=path),
        "start": lambda: tuning.tune(other, drawn(12), recipe, path=path),
        "adapters": lambda: tuning.tune(frozen, drawn(12), recipe, path=path),
        "prompt": lambda: trained(tiny, recipe, path=path, prompt=soft_prompt(tiny.model)),
    }
    for call in runs.values():
        with pytest.raises(ValueError, match="is a checkpoint of another training"):
            call()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    recipe, path = tuning.Recipe(0.01, steps=2, rows=2), tmp_path / "run.pt"

    def run() -> list[torch.Tensor]:
        model = Small()
        tuning.tune(model, drawn(6, most=50), recipe, path=path)
        return [value.detach() for value in model.parameters()]

    weights, refused = run(), 0
    good = path.read_bytes()
    for content in (b"", b"text", good[:100], good[: len(good) // 2], good[:-1]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="run.pt is damaged or no checkpoint"):
            run()
    for place in random.Random(0).sample(range(len(good)), 60):  # one bit; in the gaps of the file it does no harm
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        try:
            assert all(torch.equal(a, b) for a, b in zip(run(), weights, strict=True))
        except ValueError as error:
            assert "run.pt is damaged" in str(error) or "of another training" in str(error)
            refused += 1
    assert refused > 50
    for other in ([1], {"format": tuning.FORMAT}, {"format": "x", "held": {}, "sum": checksum({})}):
        torch.save(other, path)
        with pytest.raises(ValueError, match="is damaged or no checkpoint of the format tuning-1"):
            run()


def test_a_loss_that_is_not_finite_stops_and_leaves_the_checkpoint(tiny, tmp_path, monkeypatch):
    recipe, path = tuning.Recipe(0.01, steps=6, rows=2, every=2), tmp_path / "run.pt"
    loss, calls = tuning.packed_loss, []

    def failing(*arguments):
        calls.append(1)
        return loss(*arguments) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(tuning, "packed_loss", failing)
    with pytest.raises(FloatingPointError, match="loss: got nan in step 3; lower lr, now 0.01"):
        trained(tiny, recipe, path=path)
    assert len(torch.load(path, weights_only=True)["held"]["losses"]) == 2


def prompts(language: pretrained.LanguageModel) -> list[list[int]]:
    texts = ("Say yes.", "Name three colours of the rainbow and nothing else.", "1, 2", "Is it so? Why, or why not?")
    return [encode_chat(language.tokenizer, text) for text in texts]


@pytest.mark.parametrize("device", available_devices())
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_batched_answers_are_those_of_one_prompt_alone(real, device, rows):
    language = tiny_model(real.tokenizer, device)
    ends = real.tokenizer.eos_token_id
    alone = []
    for ids in prompts(language):
        x = torch.tensor([ids], device=device)
        written = language.model.generate(x, attention_mask=torch.ones_like(x), do_sample=False, max_new_tokens=12,
                                          eos_token_id=ends, pad_token_id=2)
        alone.append(language.tokenizer.decode(written[0, x.shape[1] :], skip_special_tokens=True).strip())
    assert tuning.answers(language, prompts(language), 12, rows) == alone


@pytest.mark.parametrize("soft_tokens", [0, 4])
def test_answers_are_those_of_a_loop_without_a_cache(tiny, soft_tokens):
    model, P = copy.deepcopy(tiny.model), soft_prompt(tiny.model, soft_tokens) if soft_tokens else None
    for layer in model.model.layers:  # sharp attention, so that a wrong position changes the words
        layer.self_attn.q_proj.weight.data *= 8
        layer.self_attn.o_proj.weight.data *= 8
    language = pretrained.LanguageModel(model, tiny.tokenizer, "tiny", tiny.context)
    x = torch.tensor([prompts(tiny)[1]])
    third = model.generate(x, attention_mask=torch.ones_like(x), do_sample=False, max_new_tokens=3, pad_token_id=2)[0, -1]
    model.lm_head.weight.data[tiny.tokenizer.eos_token_id] = 1.001 * model.lm_head.weight[third]  # that row ends early
    expected = []
    for ids in prompts(tiny):
        X = model.get_input_embeddings()(torch.tensor([ids]))
        X = X if P is None else torch.cat([P[None], X], 1)
        new = []
        while len(new) < 10:
            token = model(inputs_embeds=X).logits[0, -1].argmax()
            if token == tiny.tokenizer.eos_token_id:
                break
            new.append(int(token))
            X = torch.cat([X, model.get_input_embeddings()(token)[None, None]], 1)
        expected.append(tiny.tokenizer.decode(new, skip_special_tokens=True).strip())
    assert tuning.answers(language, prompts(tiny), 10, prompt=P) == expected
    assert len(set(map(len, expected))) > 1


def test_errors_name_the_argument(tiny):
    frozen = copy.deepcopy(tiny.model).requires_grad_(False)
    recipe = tuning.Recipe(0.1, steps=1)
    wrong = {
        "model, examples: got 0 parameters .* and 5 examples": lambda: tuning.tune(frozen, drawn(), recipe),
        "and 0 examples": lambda: tuning.tune(tiny.model, [], recipe),
        "rows: got": lambda: tuning.packed_loss(tiny.model, []),
        "recipe: got steps=0, every=0, expected": lambda: tuning.Recipe(0.1, steps=0, every=0),
        "recipe: got lr=-1": lambda: tuning.Recipe(-1),
        "recipe: got lr=nan": lambda: tuning.Recipe(float("nan")),
        "clip=0, ": lambda: tuning.Recipe(0.1, clip=0),
        "prompts, room, rows: got 0": lambda: tuning.answers(tiny, []),
        "prompts, room, rows: got 2 prompts of 0": lambda: tuning.answers(tiny, [[1], []]),
        "room = 0": lambda: tuning.answers(tiny, [[1]], room=0),
        "257 with m and room = 2, .*at most the 256 of tiny": lambda: tuning.answers(tiny, [[1] * 255], room=2),
    }
    for message, call in wrong.items():
        with pytest.raises(ValueError, match=message):
            call()


@pytest.fixture(scope="module")
def made():
    """data/make_tuning.py as a module."""
    return script("make_tuning")


@pytest.fixture(scope="module")
def page(made):
    return made.training_cells(made.PAGE)


def numbers(item) -> str:
    """What a case is about, whatever the task and the order."""
    return " ".join(sorted(item.input.split(", ")))


def test_no_training_batch_holds_what_is_tested(made, page, monkeypatch):
    read: list[Example] = []

    def reading(model, batch, *rest):
        read.extend(batch)
        return 0.0

    monkeypatch.setattr(tuning, "update", reading)
    for name, seed in [(name, 0) for name in page["ARMS"]] + [("软提示", seed) for seed in range(1, made.SEEDS)]:
        page["learn"](name, seed, 0.1)
    assert len(read) == 8 * page["STEPS"] * (len(page["ARMS"]) + made.SEEDS - 1)
    rows = {example.ids: item for example, item in zip(page["examples"]("训练"), page["sets"]["训练"], strict=True)}
    items = [rows[example.ids] for example in set(read)]  # a batch with anything else is a KeyError
    assert {item.task for item in items} == set(page["TASKS"]) and not set(page["TASKS"]) & set(HELD_OUT_TASKS)
    assert all(item.phrasing < SEEN for item in items)
    said = {item.instruction.partition(":")[0] for item in items}
    for name in ("验证", *page["TESTS"]):
        tested = page["sets"][name]
        assert not {numbers(item) for item in tested} & {numbers(item) for item in items}
        assert {item.task for item in tested} <= set(HELD_OUT_TASKS if name == "没见过的任务" else page["TASKS"])
    unseen = page["sets"]["没见过的措辞"]
    assert all(item.phrasing >= SEEN for item in unseen)
    assert not {item.instruction.partition(":")[0] for item in unseen} & said


def test_the_record_is_about_this_page_and_complete(made, page):
    record = json.loads((data_dir() / "results" / "tuning.json").read_text("utf-8"))
    assert record["fingerprint"] == page["fingerprint"]() and list(record["arms"]) == list(page["ARMS"])
    for name, (_, rates) in page["ARMS"].items():
        arm = record["arms"][name]
        assert [float(rate) for rate in arm["rates"]] == rates and arm["rates"][str(arm["lr"])] == min(arm["rates"].values())
        assert list(map(float, record["longer"][name]["rates"])) == made.best_two(arm)
        for part, steps in (("arms", page["STEPS"]), ("longer", page["LONGER"])):
            assert [len(run["losses"]) for run in record[part][name]["runs"]] == [steps] * made.SEEDS
    for found in (record["start"], *(run for part in ("arms", "longer") for arm in record[part].values() for run in arm["runs"])):
        for test in page["TESTS"]:
            assert len(found[test]) == len(page["sets"][test])
        assert len(found["general"]) == len(page["GENERAL"]) and found["other_loss"] > 0 < found["general_loss"]


def test_the_real_model_gives_the_recorded_start_and_every_arm_trains(page):
    record = json.loads((data_dir() / "results" / "tuning.json").read_text("utf-8"))
    some = page["sets"]["没见过的任务"][:3]
    assert page["replies"](page["model"], None, list(map(page["messages"], some))) == record["start"]["没见过的任务"][:3]
    for name in page["ARMS"]:
        own, P, losses = page["learn"](name, 0, 1e-3, steps=1, rows=1)
        assert len(losses) == 1 and 0 < page["mean_loss"](own, P, page["texts"][:1]) < 20


def test_the_script_trains_both_lengths_and_makes_only_what_is_missing(made, tmp_path, monkeypatch):
    calls: list[tuple[int, float, int]] = []

    def learn(name, seed, lr, steps):
        calls.append((seed, lr, steps))
        return lr, None, [1.0] * steps

    page = {"fingerprint": lambda: "x", "language": SimpleNamespace(name="m"), "model": None, "STEPS": 2, "LONGER": 3,
            "ARMS": {"a": (None, [0.3, 0.1, 0.2])}, "examples": list, "mean_loss": lambda own, P, rows: own, "learn": learn}
    monkeypatch.setattr(made, "training_cells", lambda place: page)
    monkeypatch.setattr(made, "looked_at", lambda page, own, P: {})
    made.make(tmp_path / "tuning.json", [])
    assert calls == [(0, 0.3, 2), (0, 0.1, 2), (0, 0.2, 2), *[(seed, 0.1, 2) for seed in range(1, 5)],
                     (0, 0.1, 3), (0, 0.2, 3), *[(seed, 0.1, 3) for seed in range(1, 5)]]  # fmt: skip
    found = json.loads((tmp_path / "tuning.json").read_text("utf-8"))
    assert [len(found[part]["a"]["runs"]) for part in ("arms", "longer")] == [5, 5]
    found["longer"]["a"]["runs"].pop()
    (tmp_path / "tuning.json").write_text(json.dumps(found), "utf-8")
    calls.clear()
    made.make(tmp_path / "tuning.json", [])
    assert calls == [(4, 0.1, 3)]
