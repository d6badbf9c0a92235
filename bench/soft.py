"""One training step of a soft prompt, of a prefix and of peft's own versions, in turn on the same model and sentences.

The losses and gradients are compared before any time is taken. A step is forward, backward and AdamW; ours asks for the
logits of the last position only, peft's model computes those of all.
"""

from __future__ import annotations

import copy
import statistics
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from src import pretrained
from src.datasets import opinions
from src.prompts import soft
from src.runtime import available_devices, timer
from src.tokens import encode, pad

ROWS, ROUNDS = 8, 7
WORDS = "Is the sentiment of the review positive or negative?\nReview:"


def main() -> None:
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {ROWS} sentences a step")
    for device in available_devices():
        compare(pretrained.language_model(device=device))


def compare(language: pretrained.LanguageModel) -> None:
    model, part = language.model.requires_grad_(False), opinions.load("train")[:ROWS]
    ids, mask = pad([encode(language.tokenizer, f" {text}\nSentiment:") for text in part.texts], model.device)
    answers = torch.tensor([encode(language.tokenizer, word)[0] for word in (" negative", " positive")])[part.labels]
    answers, X = answers.to(model.device), model.get_input_embeddings()(ids)
    P = nn.Parameter(soft.word_prompt(language, WORDS))
    prefix = nn.Parameter(soft.word_prefix(language, WORDS))
    flat = prefix.detach().permute(3, 1, 0, 2, 4).reshape(len(P), -1)  # [m, layers · 2 · heads · d]
    prompted, prefixed = wrap(model, "PromptTuningConfig", P.detach()), wrap(model, "PrefixTuningConfig", flat)
    rows = torch.arange(len(ids), device=model.device)
    last = mask.sum(1) - 1

    def theirs(wrapped: nn.Module, shift: int) -> Tensor:
        return wrapped(input_ids=ids, attention_mask=mask).logits[rows, shift + last]

    ways = {
        "soft prompt, ours": (lambda: soft.next_logits(language, *soft.prepend(P, X, mask)), P),
        "soft prompt, peft": (lambda: theirs(prompted, len(P)), weight_of(prompted)),
        "prefix, ours": (lambda: soft.next_logits(language, X, mask, soft.prefix_cache(prefix, len(X))), prefix),
        "prefix, peft": (lambda: theirs(prefixed, 0), weight_of(prefixed)),
    }
    first = {name: step(logits, answers, parameter, 0.0) for name, (logits, parameter) in ways.items()}
    for kind in ("soft prompt", "prefix"):
        torch.testing.assert_close(*(torch.tensor(first[f"{kind}, {who}"]) for who in ("ours", "peft")), rtol=1e-3, atol=1e-4)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (logits, parameter) in ways.items():
            with timer(model.device) as timing:
                step(logits, answers, parameter, 1e-3)
            seconds[name].append(timing.seconds)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    for name, time in middle.items():
        print(f"{model.device.type}: {name:18} {1000 * time:7.0f} ms a step, {ways[name][1].numel():,} parameters")
    for kind in ("soft prompt", "prefix"):
        print(f"{model.device.type}: {kind}, peft's time / ours {middle[f'{kind}, peft'] / middle[f'{kind}, ours']:.2f}")


def wrap(model: nn.Module, config: str, weight: Tensor) -> nn.Module:
    """peft's model around the same weights, its prompt set to ``weight``."""
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = peft.get_peft_model(copy.copy(model), getattr(peft, config)(
            task_type="CAUSAL_LM", num_virtual_tokens=len(weight)))
    weight_of(wrapped).data.copy_(weight)
    return wrapped.eval()


def weight_of(wrapped: nn.Module) -> nn.Parameter:
    return wrapped.prompt_encoder["default"].embedding.weight


def step(logits: Callable[[], Tensor], answers: Tensor, parameter: nn.Parameter, lr: float) -> tuple[float, float]:
    """One step of AdamW; the loss and the gradient's norm."""
    optimiser = torch.optim.AdamW([parameter], lr)
    loss = nn.functional.cross_entropy(logits(), answers)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item(), parameter.grad.norm().item()


if __name__ == "__main__":
    main()
