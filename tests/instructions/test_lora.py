"""Low-rank adaptation against peft, merging against the sum written out, and files that must not be taken."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from src import pretrained
from src.instructions import lora
from src.instructions.loss import answer_loss
from src.runtime import available_devices
from tests.prompts.conftest import tiny_model

NAMES, RANK, ALPHA = ("q_proj", "v_proj", "down_proj"), 3, 5.0


@pytest.fixture(scope="module")
def tokenizer():
    return pretrained.language_model(device="cpu").tokenizer


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def tiny(tokenizer, request):
    return tiny_model(tokenizer, dtype=request.param).model


def adapted(model: nn.Module, random_B: bool = True) -> nn.Module:
    model = copy.deepcopy(model)
    for layer in lora.add_lora(model, NAMES, RANK, ALPHA, seed=7).values():
        if random_B:
            nn.init.normal_(layer.B, std=0.3)
    return model


def batch(model: nn.Module, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(9, 900, (3, 7), generator=torch.Generator().manual_seed(seed)).to(model.device)
    return ids, torch.cat([torch.full_like(ids[:, :3], -100), ids[:, 3:]], 1)


def in_peft(model: nn.Module, ours: nn.Module) -> nn.Module:
    """peft's model around the same weights, its A and B those of ours."""
    import peft

    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(NAMES), lora_dropout=0.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        wrapped = peft.get_peft_model(copy.deepcopy(model), config, autocast_adapter_dtype=False)
    theirs = dict(wrapped.named_parameters())
    for name, value in lora.lora_state(ours).items():
        path, _, part = name.rpartition(".")
        theirs[f"base_model.model.{path}.lora_{part}.default.weight"].data = value.clone()
    return wrapped


def test_forward_gradient_and_ten_steps_equal_peft(tokenizer):
    model = tiny_model(tokenizer).model
    ours = adapted(model, random_B=False)
    theirs = in_peft(model, ours)
    optimizers = [torch.optim.AdamW([p for p in side.parameters() if p.requires_grad], 0.05) for side in (ours, theirs)]
    for number in range(10):
        ids, labels = batch(model, number)
        logits = [side(input_ids=ids).logits for side in (ours, theirs)]
        torch.testing.assert_close(*logits, rtol=1e-10, atol=1e-10)
        for optimizer, z in zip(optimizers, logits, strict=True):
            optimizer.zero_grad()
            answer_loss(z, labels).backward()
        for a, b in pairs(ours, theirs):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-11)
        for optimizer in optimizers:
            optimizer.step()
    for a, b in pairs(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
        assert a.abs().max() > 0


def pairs(ours: nn.Module, theirs: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    names = dict(theirs.named_parameters())
    return [(getattr(layer, part), names[f"base_model.model.{path}.lora_{part}.default.weight"])
            for path, layer in lora.adapters(ours).items() for part in ("A", "B")]


def test_our_start_has_the_spread_of_pefts(tokenizer):
    model = nn.ModuleDict({"q_proj": nn.Linear(400, 30)})
    A = lora.add_lora(model, ["q_proj"], 64)["q_proj"].A
    assert abs(A.std().item() - 1 / (3 * 400) ** 0.5) < 1e-3 and A.abs().max() <= 1 / 20


def test_the_start_computes_what_the_model_did_and_only_A_and_B_learn(tiny):
    ids, labels = batch(tiny)
    model = adapted(tiny, random_B=False)
    assert torch.equal(model(input_ids=ids).logits, tiny(input_ids=ids).logits)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    answer_loss(model(input_ids=ids).logits, labels).backward()
    trained = {name for name, value in model.named_parameters() if value.grad is not None}
    assert trained == set(lora.lora_state(model))
    assert all(layer.A.grad.abs().max() == 0 < layer.B.grad.abs().max() for layer in lora.adapters(model).values())
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.1, weight_decay=0.0).step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in trained if name.endswith(".B")}


def test_merging_keeps_the_logits_and_unmerging_the_bytes(tiny):
    ids, _ = batch(tiny)
    model = adapted(tiny)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    apart = model(input_ids=ids).logits
    assert (apart - tiny(input_ids=ids).logits).abs().max() > 0.1
    lora.merge(model)
    together = model(input_ids=ids).logits
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-12 if tiny.dtype == torch.float64 else 1e-5)
    assert not torch.equal(model.state_dict()["model.layers.0.self_attn.q_proj.base.weight"],
                           before["model.layers.0.self_attn.q_proj.base.weight"])
    lora.unmerge(model)
    for name, value in model.state_dict().items():
        assert value.numpy().tobytes() == before[name].numpy().tobytes(), name
    assert torch.equal(model(input_ids=ids).logits, apart)


@given(sizes=st.tuples(*[st.integers(1, 9)] * 4), alpha=st.floats(0.1, 100), bias=st.booleans(), seed=st.integers(0, 99))
def test_a_layer_is_the_sum_written_out(sizes, alpha, bias, seed):
    rank, into, out, rows = sizes
    torch.manual_seed(seed)
    base = nn.Linear(into, out, bias).double()
    layer = lora.LoRALinear(base, rank, alpha, torch.Generator().manual_seed(seed))
    nn.init.normal_(layer.B)
    x = torch.randn(2, rows, into, dtype=torch.float64)
    W = base.weight + alpha / rank * layer.B @ layer.A
    torch.testing.assert_close(layer(x), nn.functional.linear(x, W, base.bias))
    torch.testing.assert_close(layer.delta(), W - base.weight)
    assert torch.linalg.matrix_rank(layer.delta()) <= rank


def test_gradients_are_right():
    layer = lora.LoRALinear(nn.Linear(4, 3).double(), 2, 3.0, torch.Generator().manual_seed(0))
    nn.init.normal_(layer.B)
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, A, B: torch.func.functional_call(layer, {"A": A, "B": B}, (x,)),
                                    (x, layer.A, layer.B))


@pytest.mark.parametrize("device", available_devices())
def test_it_follows_the_device_and_the_seed_and_works_under_autocast_and_compile(tokenizer, device):
    model = adapted(tiny_model(tokenizer, device, torch.float32).model)
    again = adapted(tiny_model(tokenizer, "cpu", torch.float32).model, random_B=False)
    for name, value in lora.lora_state(again).items():
        assert name.endswith("B") or torch.equal(value, lora.lora_state(model)[name])
    layer = next(iter(lora.adapters(model).values()))
    assert layer.A.device.type == layer.B.device.type == torch.device(device).type
    x = torch.randn(2, 3, layer.base.in_features, device=device)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layer(x))
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        torch.testing.assert_close(layer(x).float(), layer.float()(x).float(), rtol=0.05, atol=0.05)


def test_a_file_brings_the_same_bytes_back(tiny, tmp_path):
    model, path = adapted(tiny), tmp_path / "a.safetensors"
    lora.save_lora(path, model)
    other = adapted(tiny, random_B=False)
    lora.read_lora(path, other)
    for name, value in lora.lora_state(model).items():
        assert torch.equal(value, lora.lora_state(other)[name])
    ids, _ = batch(tiny)
    assert torch.equal(other(input_ids=ids).logits, model(input_ids=ids).logits)
    assert path.stat().st_size < 20_000 < sum(value.numel() for value in tiny.parameters())


def test_files_that_do_not_fit_are_refused_and_change_nothing(tokenizer, tmp_path):
    from safetensors.torch import save_file

    tiny = tiny_model(tokenizer).model
    model, path = adapted(tiny), tmp_path / "a.safetensors"
    lora.save_lora(path, model)
    good, state = path.read_bytes(), lora.lora_state(model)
    first = next(iter(state))
    header = {"format": lora.FORMAT, "scale": repr(ALPHA / RANK)}

    def saved(changes: dict, **other: str) -> bytes:
        save_file({name: value for name, value in (state | changes).items() if value is not None}, path, header | other)
        return path.read_bytes()

    cases = {
        "damaged or no safetensors": [good[:-9], good[:20], b"", b"text"],
        "has format None": [saved({}, format="x").replace(b"format", b"farmat")],
        "α/r 9.0, expected": [saved({}, scale="9.0")],
        "1 tensors differ, first": [saved({first: None}), saved({first: state[first].float()}),
                                    saved({first: state[first][:2].clone()}), saved({"b.A": torch.zeros(1)})],
        "got NaN": [saved({first: state[first] / 0})],
    }
    for message, contents in cases.items():
        for content in contents:
            path.write_bytes(content)
            with pytest.raises(ValueError, match=message):
                lora.read_lora(path, model)
    for name, value in lora.lora_state(model).items():
        assert torch.equal(value, state[name])
    with pytest.raises(FileNotFoundError):
        lora.read_lora(tmp_path / "none.safetensors", model)
    with pytest.raises(ValueError, match="expected 'lora-1' and None"):
        path.write_bytes(good)
        lora.read_lora(path, tiny)


def test_errors_name_the_argument(tokenizer):
    tiny = tiny_model(tokenizer).model
    merged = adapted(tiny)
    lora.merge(merged)
    wrong = {
        "rank, alpha: got 0 and 16": lambda: lora.add_lora(tiny, rank=0),
        "rank, alpha: got 8 and 0": lambda: lora.add_lora(tiny, alpha=0),
        r"names: got \['q_proj', 'query'\], expected some of .*'q_proj'": lambda: lora.add_lora(tiny, ["q_proj", "query"]),
        r"names: got \[\], expected": lambda: lora.add_lora(tiny, []),
        r"names: got \['norm'\]": lambda: lora.add_lora(tiny, ["norm"]),
        "model: got one with adapters": lambda: lora.add_lora(merged),
        "model: got 0 adapters": lambda: lora.merge(tiny),
        "model: got 6 adapters, 6 of them merged; expected adapters that are not merged": lambda: lora.merge(merged),
        "6 of them merged; expected": lambda: lora.save_lora("never", merged),
        "0 of them merged; expected adapters merged": lambda: lora.unmerge(adapted(tiny)),
    }
    for message, call in wrong.items():
        with pytest.raises(ValueError, match=message):
            call()
    assert not lora.adapters(tiny) and all(value.requires_grad for value in tiny.parameters())
