"""Tokens a second in training, unpacked in random order, unpacked by length, and packed: same model, examples and update.

The gradients of the three are compared before any time is taken. A pass is forward and backward over all examples in
chunks of at most ``ROOM`` · ``ROWS`` places, padding included; only tokens of examples are counted as done.
The vocabulary is folded to ``WORDS``, so that the layers take the time and not the softmax.
"""

from __future__ import annotations

import random
import statistics

import torch
from torch import Tensor, nn

from src import pretrained
from src.datasets import instructions
from src.instructions.loss import Batch, Example, answer_loss, attention_mask, collate, encode_example, pack
from src.runtime import available_devices, timer
from src.tokens import IGNORED

COUNT, ROOM, ROWS, ROUNDS, WORDS = 96, 512, 2, 3, 2048


def main() -> None:
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {COUNT} examples")
    tokenizer = pretrained.language_model(device="cpu").tokenizer
    items = instructions.build("train", COUNT, instructions.TEXT_TASKS).items
    examples = [folded(encode_example(tokenizer, f"{item.instruction}\n{item.input}", item.output)) for item in items]
    for device in available_devices():
        compare(examples, device)


def folded(example: Example) -> Example:
    return Example(tuple(token % WORDS for token in example.ids),
                   tuple(label if label == IGNORED else label % WORDS for label in example.labels))


def compare(examples: list[Example], device: str) -> None:
    mixed = random.Random(0).sample(examples, len(examples))
    rows = [[examples[place] for place in row] for row in pack([len(e) for e in examples], ROOM)]
    ways = {"random": chunks([[e] for e in mixed]), "by length": chunks([[e] for e in sorted(mixed, key=len)]),
            "packed": chunks(rows)}  # fmt: skip
    ways = {name: [batch.to(device) for batch in batches] for name, batches in ways.items()}
    model = small_model().to(device)
    gradients = {name: one_pass(model, batches) for name, batches in ways.items()}
    for name in ("by length", "packed"):
        torch.testing.assert_close(gradients[name], gradients["random"], rtol=1e-3, atol=1e-5)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, batches in ways.items():
            with timer(device) as timing:
                one_pass(model, batches)
            seconds[name].append(timing.seconds)
    tokens = sum(map(len, examples))
    speed = {name: tokens / statistics.median(times) for name, times in seconds.items()}
    for name, batches in ways.items():
        waste = 1 - tokens / sum(batch.ids.numel() for batch in batches)
        print(f"{device}: {name:9} {speed[name]:9,.0f} tokens a second, {waste:4.0%} padding, {len(batches)} batches")
    for name in ("by length", "packed"):
        print(f"{device}: {name} / random {speed[name] / speed['random']:.2f}")


def small_model() -> nn.Module:
    """Four layers of a third of SmolLM2's width, with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=WORDS, hidden_size=192, intermediate_size=512, num_hidden_layers=4,
                                        num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True))


def chunks(rows: list[list[Example]]) -> list[Batch]:
    """As many rows in a batch as fit into ROWS · ROOM places, padding included."""
    batches: list[list[list[Example]]] = [[]]
    for row in rows:
        longest = max(sum(map(len, other)) for other in [*batches[-1], row])
        if longest * (len(batches[-1]) + 1) > ROWS * ROOM:
            batches.append([])
        batches[-1].append(row)
    return [collate(batch) for batch in batches]


def one_pass(model: nn.Module, batches: list[Batch]) -> Tensor:
    """The gradient of the token mean over all batches, of the last layer's weights: each weighted by its tokens."""
    model.zero_grad()
    counts = [int((batch.labels != IGNORED).sum()) for batch in batches]
    for batch, count in zip(batches, counts, strict=True):
        z = model(input_ids=batch.ids, position_ids=batch.positions, attention_mask=attention_mask(batch.segments),
                  use_cache=False).logits
        (answer_loss(z, batch.labels) * count / sum(counts)).backward()
    return model.model.layers[-1].mlp.down_proj.weight.grad.clone()


if __name__ == "__main__":
    main()
