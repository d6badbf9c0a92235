"""Instruction tuning: the loss of packed examples, a loop that survives being killed, answers by greedy decoding (row R25).

Chapter: chapters/instructions/tuning.ipynb. The loop trains whatever asks for a gradient: the whole model, adapters, or a
soft prompt. A batch depends on (seed, step) alone, so that the step is the place in the data.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.instructions.loss import Example, attention_mask, collate
from src.runtime import atomic_write, checksum, set_seed
from src.tokens import IGNORED, pad

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from src.pretrained import LanguageModel

FORMAT = "tuning-1"


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        lr: the highest learning rate, reached after ``warmup`` steps and then lowered linearly to 0.
        steps, rows: steps, and examples a step.
        chunk: examples that are computed at once; their gradients are added up, each weighted by its tokens that count.
        clip: the longest gradient; longer ones are shortened.
        weight_decay: of AdamW.
        every: steps between two checkpoints.
    """

    lr: float
    steps: int = 40
    rows: int = 8
    chunk: int = 8
    warmup: int = 4
    clip: float = 1.0
    weight_decay: float = 0.0
    every: int = 10

    def __post_init__(self) -> None:
        least = {"steps": 1, "rows": 1, "chunk": 1, "warmup": 0, "every": 1}
        if wrong := [f"{name}={getattr(self, name)}" for name, value in least.items() if getattr(self, name) < value]:
            raise ValueError(f"recipe: got {', '.join(wrong)}, expected at least {least}.")
        if not (0 < self.lr < math.inf and self.clip > 0 and self.weight_decay >= 0):
            raise ValueError(f"recipe: got lr={self.lr}, clip={self.clip}, weight_decay={self.weight_decay}, expected "
                             "positive lr and clip and a weight_decay of at least 0.")

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, … (eq-tuning-rate)."""
        left = (self.steps - step) / max(self.steps - self.warmup, 1)
        return self.lr * min((step + 1) / (self.warmup + 1), left, 1.0)


def places(count: int, rows: int, step: int, seed: int) -> list[int]:
    """Which of ``count`` examples step 0, 1, … reads: one random order of all after the other, cut into ``rows``."""
    wanted = range(step * rows, (step + 1) * rows)
    orders = {epoch: torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)).tolist()
              for epoch in {place // count for place in wanted}}
    return [orders[place // count][place % count] for place in wanted]


def packed_loss(model: PreTrainedModel, examples: Sequence[Example], prompt: Tensor | None = None) -> Tensor:
    """The mean loss of the tokens that count, the examples packed into one row (eq-loss-answer, eq-loss-packing).

    Only the places before a token that counts are brought to the vocabulary. ``prompt``: soft prompt ``[m, D]``, put
    before each example (eq-soft-prepend).
    """
    m = 0 if prompt is None else len(prompt)
    batch = collate([[Example((0,) * m + e.ids, (IGNORED,) * m + e.labels) for e in examples]]).to(model.device)
    X = model.get_input_embeddings()(batch.ids)  # [1, T, D]
    if prompt is not None:
        inside = (batch.positions < m)[..., None]  # [1, T, 1]
        X = torch.where(inside, prompt[batch.positions.clamp_max(m - 1)].to(X.dtype), X)
    keep = (batch.labels[0, 1:] != IGNORED).nonzero()[:, 0]  # [N]
    logits = model(inputs_embeds=X, attention_mask=attention_mask(batch.segments), position_ids=batch.positions,
                   use_cache=False, logits_to_keep=keep).logits[0]  # [N, V]
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), batch.labels[0, keep + 1])


def tune(model: PreTrainedModel, examples: Sequence[Example], recipe: Recipe, seed: int = 0,
         prompt: nn.Parameter | None = None, path: str | PathLike[str] | None = None) -> list[float]:
    """Train in place what asks for a gradient, the soft prompt too if there is one; returns the loss of each step.

    Args:
        model: the same start gives the same end, on the same machine bit by bit.
        seed: of the order of the examples and of all other chance.
        path: a checkpoint, written whole every ``recipe.every`` steps and at the end. If it exists, the training goes on
            from there and ends with the same bits as one that was never interrupted; the model must come as it began.

    Raises:
        FloatingPointError: the loss is not finite; the checkpoint before remains.
        ValueError: no example or nothing to train, a damaged checkpoint, or one of another run.
    """
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    parameters |= {} if prompt is None else {"prompt": prompt}
    if not parameters or not examples:
        raise ValueError(f"model, examples: got {len(parameters)} parameters that ask for a gradient and {len(examples)} "
                         "examples, expected at least one of each.")
    run = "" if path is None else _identity(model, parameters, examples, recipe, seed)
    set_seed(seed)
    optimizer = torch.optim.AdamW(parameters.values(), recipe.lr, weight_decay=recipe.weight_decay)
    losses = [] if path is None else restore_run(Path(path), run, parameters, optimizer)
    for step in range(len(losses), recipe.steps):
        batch = [examples[place] for place in places(len(examples), recipe.rows, step, seed)]
        losses.append(update(model, batch, recipe, step, prompt, optimizer))
        if path is not None and ((step + 1) % recipe.every == 0 or step + 1 == recipe.steps):
            save_run(Path(path), run, parameters, optimizer, losses)
    return losses


def update(model: PreTrainedModel, batch: Sequence[Example], recipe: Recipe, step: int, prompt: nn.Parameter | None,
           optimizer: torch.optim.Optimizer) -> float:
    """One step of AdamW on the mean over the batch's tokens that count, whatever the chunks."""
    counts = [sum(label != IGNORED for label in example.labels) for example in batch]
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for begin in range(0, len(batch), recipe.chunk):
        share = sum(counts[begin : begin + recipe.chunk]) / sum(counts)
        loss = share * packed_loss(model, batch[begin : begin + recipe.chunk], prompt)
        loss.backward()
        total += loss.item()
    if not math.isfinite(total):
        raise FloatingPointError(f"loss: got {total} in step {step}; lower lr, now {recipe.lr}.")
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate(step)
        nn.utils.clip_grad_norm_(group["params"], recipe.clip)
    optimizer.step()
    return total


def _identity(model: nn.Module, parameters: dict[str, nn.Parameter], examples: Sequence[Example], recipe: Recipe,
              seed: int) -> str:
    """A hash of all that decides how the training ends: start, examples, recipe, seed."""
    digest = hashlib.sha256(repr((FORMAT, recipe, seed, list(examples))).encode())
    for name, value in {**model.state_dict(), **parameters}.items():
        data = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(f"{name} {value.dtype} {list(value.shape)} {zlib.crc32(data.numpy())}".encode())
    return digest.hexdigest()


def save_run(path: Path, run: str, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer,
             losses: list[float]) -> None:
    """Write what `restore_run` needs, so that the file is whole or absent; ``run`` tells one training from another."""
    chance = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    weights = {name: value.detach() for name, value in parameters.items()}
    held = {"run": run, "losses": losses, "weights": weights, "optimizer": optimizer.state_dict(), "chance": chance}
    with atomic_write(path) as temporary:
        torch.save({"format": FORMAT, "held": held, "sum": checksum(held)}, temporary)


def restore_run(path: Path, run: str, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
                ) -> list[float]:
    """Losses so far, none without a checkpoint; puts weights, optimizer and chance as they were.

    Raises ValueError for a damaged checkpoint and for one of another ``run``.
    """
    for left in path.parent.glob(f".{path.stem}.{'[0-9a-f]' * 32}{path.suffix}"):
        left.unlink()  # what a killed process was writing
    if not path.exists():
        return []
    state = _read(path)
    if state.get("run") != run:
        raise ValueError(f"path: {path} is a checkpoint of another training (model, examples, recipe or seed differ); give "
                         "another path, or delete the file to begin anew.")
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["chance"][0])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["chance"][1:])
    return state["losses"]


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"path: {path} is damaged or no checkpoint ({error}); delete it and begin anew.") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or checksum(state.get("held")) != state.get("sum"):
        raise ValueError(f"path: {path} is damaged or no checkpoint of the format {FORMAT}; delete it and begin anew.")
    return state["held"]


@torch.no_grad()
def answers(language: LanguageModel, prompts: Sequence[Sequence[int]], room: int = 24, rows: int = 48,
            prompt: Tensor | None = None) -> list[str]:
    """The most probable reply to each prompt, token by token, the same as if each were alone.

    Args:
        prompts: token ids, as of ``src.tokens.encode_chat``; prompts of similar length share a batch.
        room: the most new tokens.
        rows: prompts in a batch.
        prompt: a soft prompt ``[m, D]`` to be put before each.

    Raises:
        ValueError: an empty prompt, or more tokens than the context.
    """
    m = 0 if prompt is None else len(prompt)
    longest = max(map(len, prompts), default=0) + m + room
    if not prompts or not all(prompts) or room < 1 or rows < 1 or longest > language.context:
        raise ValueError(f"prompts, room, rows: got {len(prompts)} prompts of {min(map(len, prompts), default=0)} … tokens, "
                         f"{longest} with m and room = {room}, rows = {rows}; expected a token in each and at most the "
                         f"{language.context:,} of {language.name}.")
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    found: dict[int, list[int]] = {}
    for begin in range(0, len(order), rows):
        chosen = order[begin : begin + rows]
        X, mask = _left(language.model, [prompts[place] for place in chosen], prompt)
        found |= zip(chosen, greedy(language.model, X, mask, language.tokenizer.eos_token_id, room), strict=True)
    return [language.tokenizer.decode(found[place], skip_special_tokens=True).strip() for place in range(len(prompts))]


def _left(model: PreTrainedModel, prompts: Sequence[Sequence[int]], prompt: Tensor | None) -> tuple[Tensor, Tensor]:
    """Embedded prompts ``[B, m + T, D]`` with the padding between soft prompt and text, and their mask."""
    ids, mask = pad(prompts, model.device, left=True)
    X = model.get_input_embeddings()(ids)
    if prompt is None:
        return X, mask
    front = prompt.to(X).expand(len(X), -1, -1)
    return torch.cat([front, X], 1), torch.cat([mask.new_ones(front.shape[:2]), mask], 1)


@torch.no_grad()
def greedy(model: PreTrainedModel, X: Tensor, mask: Tensor, end: int, room: int) -> list[list[int]]:
    """The most probable token again and again, until ``end`` (left out) or ``room`` tokens, for each row.

    X: embedded prompts ``[B, T, D]``, padded on the left; mask: int64 ``[B, T]``, 0 at the padding. Keys and values are
    kept, a row that has ended is dropped. The mode, training or evaluation, is the caller's.
    """
    from transformers import DynamicCache

    cache, written, alive = DynamicCache(), [[] for _ in mask], torch.arange(len(mask), device=X.device)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    for _ in range(room):
        token = model(inputs_embeds=X, attention_mask=mask, position_ids=positions, past_key_values=cache,
                      use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1)  # [B]
        going = (token != end).nonzero()[:, 0]
        if not len(going):
            break
        token, alive, positions = token[going], alive[going], positions[going, -1:] + 1
        for row, new in zip(alive.tolist(), token.tolist(), strict=True):
            written[row].append(new)
        if len(going) < len(mask):
            cache.batch_select_indices(going)
        mask = torch.cat([mask[going], mask.new_ones(len(going), 1)], 1)
        X = model.get_input_embeddings()(token[:, None])  # [B, 1, D]
    return written
