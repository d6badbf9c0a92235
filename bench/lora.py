"""A training step of LoRA against peft's, and greedy answers with kept keys and values against without.

Losses, gradients and texts are compared before any time is taken. A step is forward, backward and AdamW on the same padded
batch and the same loss; memory is what autograd keeps for the backward pass. Ways are timed in turn.
"""

from __future__ import annotations

import copy
import dataclasses
import statistics
import warnings

import torch
from torch import Tensor, nn

from src import pretrained
from src.datasets.instructions import build
from src.instructions import lora, tuning
from src.instructions.data import messages
from src.instructions.loss import Batch, answer_loss, collate, encode_example
from src.runtime import available_devices, timer
from src.tokens import encode_chat

ROWS, ROUNDS, ROOM, ASKED = 8, 7, 64, 4
NAMES = ("q_proj", "v_proj")


def main() -> None:
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {ROWS} examples a step")
    items = build("train", ROWS, ("group", "odd", "sort", "largest")).items
    for device in available_devices():
        language = pretrained.language_model(device=device)
        examples = [encode_example(language.tokenizer, messages(item), item.output) for item in items]
        steps(language, collate(examples).to(device))
        decoding(language, [encode_chat(language.tokenizer, messages(item)) for item in items[:ASKED]])


def steps(language: pretrained.LanguageModel, batch: Batch) -> None:
    ours = copy.deepcopy(language.model)
    for layer in lora.add_lora(ours, NAMES).values():
        nn.init.normal_(layer.B, std=0.01)
    ways = {"LoRA, ours": ours, "LoRA, peft": in_peft(language.model, ours)}
    gradients, kept = {}, {}
    for name, model in ways.items():
        kept[name] = saved(model, batch)
        step(model, batch, 0.0)
        gradients[name] = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(*gradients.values(), rtol=1e-3, atol=1e-4)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, model in ways.items():
            with timer(language.model.device) as timing:
                step(model, batch, 1e-4)
            seconds[name].append(timing.seconds)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    kind = language.model.device.type
    for name, time in middle.items():
        print(f"{kind}: {name} {1000 * time:7.0f} ms a step, {kept[name] / 1e6:,.0f} MB kept for the backward pass")
    print(f"{kind}: peft's time / ours {middle['LoRA, peft'] / middle['LoRA, ours']:.2f}, "
          f"memory {kept['LoRA, peft'] / kept['LoRA, ours']:.2f}")


def in_peft(model: nn.Module, ours: nn.Module) -> nn.Module:
    """peft's model around the same weights, its A and B those of ours."""
    import peft

    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=list(NAMES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = peft.get_peft_model(copy.deepcopy(model), config).eval()
    theirs = dict(wrapped.named_parameters())
    for name, value in lora.lora_state(ours).items():
        path, _, part = name.rpartition(".")
        theirs[f"base_model.model.{path}.lora_{part}.default.weight"].data.copy_(value)
    return wrapped


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    mask = (batch.segments > 0).long()
    return answer_loss(model(input_ids=batch.ids, attention_mask=mask, use_cache=False).logits, batch.labels)


def step(model: nn.Module, batch: Batch, lr: float) -> None:
    """One step of AdamW; the gradients stay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr, weight_decay=0.0)
    optimizer.zero_grad()
    loss_of(model, batch).backward()
    optimizer.step()


def saved(model: nn.Module, batch: Batch) -> int:
    """Bytes of the tensors that autograd keeps, each storage once, the model's own left out."""
    own = {value.untyped_storage().data_ptr() for value in model.parameters()}
    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_of(model, batch)
    return sum(found.values())


def decoding(language: pretrained.LanguageModel, prompts: list[list[int]]) -> None:
    """``ROOM`` tokens for each prompt; no end token, so that both ways write as many."""
    endless = copy.copy(language.tokenizer)
    endless.eos_token = "<empty_output>"
    language = dataclasses.replace(language, tokenizer=endless)
    ways = {"kept keys and values": lambda: tuning.answers(language, prompts, ROOM),
            "everything again": lambda: again(language, prompts)}
    if ways["kept keys and values"]() != ways["everything again"]():
        raise AssertionError("the two ways wrote different texts")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for name, write in ways.items():
            with timer(language.model.device) as timing:
                write()
            seconds[name].append(timing.seconds)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    kind = language.model.device.type
    for name, time in middle.items():
        print(f"{kind}: {name} {time:6.2f} s for {ROOM} tokens of {len(prompts)} prompts")
    print(f"{kind}: again / kept {middle['everything again'] / middle['kept keys and values']:.2f}")


@torch.no_grad()
def again(language: pretrained.LanguageModel, prompts: list[list[int]]) -> list[str]:
    """Greedy decoding that reads the whole text anew for each token, in one left-padded batch."""
    width, model = max(map(len, prompts)), language.model
    ids = torch.tensor([[0] * (width - len(row)) + row for row in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=model.device)
    for _ in range(ROOM):
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        token = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False,
                      logits_to_keep=1).logits[:, -1].argmax(-1, keepdim=True)
        ids, mask = torch.cat([ids, token], 1), torch.cat([mask, torch.ones_like(token)], 1)
    return [language.tokenizer.decode(row, skip_special_tokens=True).strip() for row in ids[:, width:]]


if __name__ == "__main__":
    main()
