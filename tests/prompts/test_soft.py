"""Soft prompts and prefixes against peft, against the plain model, and what may not change."""

from __future__ import annotations

import copy
import json
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from src.pretrained import LanguageModel
from src.prompts import soft
from src.runtime import available_devices, data_dir
from src.tokens import encode, pad
from tests.records import script

from .conftest import tiny_model

TEXTS = ["Fine.", "The plot was far too long for me.", "A warm welcome"]


def inputs(language: LanguageModel) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """ids, mask, embedded."""
    ids, mask = pad([encode(language.tokenizer, text) for text in TEXTS], language.model.device)
    return ids, mask, language.model.get_input_embeddings()(ids)


def prompt(language: LanguageModel, m: int = 4) -> nn.Parameter:
    D = language.model.config.hidden_size
    values = torch.randn(m, D, dtype=language.model.dtype, generator=torch.Generator().manual_seed(1))
    return nn.Parameter(values.to(language.model.device))


def soft_logits(language: LanguageModel, P: torch.Tensor) -> torch.Tensor:
    _, mask, X = inputs(language)
    return soft.next_logits(language, *soft.prepend(P, X, mask))


@pytest.fixture
def frozen(tiny):
    copied = LanguageModel(copy.deepcopy(tiny.model).requires_grad_(False), tiny.tokenizer, tiny.name, tiny.context)
    return copied


@pytest.fixture
def tuned(tiny):
    """peft's model around a copy of the same weights, with a function that makes it."""
    import peft

    def make(kind: str, weight: torch.Tensor):
        config = {"prompt": peft.PromptTuningConfig, "prefix": peft.PrefixTuningConfig}[kind](
            task_type="CAUSAL_LM", num_virtual_tokens=len(weight))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            wrapped = peft.get_peft_model(copy.deepcopy(tiny.model), config).double().eval()
        wrapped.prompt_encoder["default"].embedding.weight.data.copy_(weight)
        return wrapped

    return make


def peft_logits(wrapped, language: LanguageModel, shift: int) -> torch.Tensor:
    ids, mask, _ = inputs(language)
    logits = wrapped(input_ids=ids, attention_mask=mask).logits
    return logits[torch.arange(len(ids)), shift + mask.sum(1) - 1]


def step(logits: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """One step of AdamW on the loss of fixed answers; the gradient is returned, the parameter changed."""
    optimiser = torch.optim.AdamW([parameter], lr=0.1)
    nn.functional.cross_entropy(logits, torch.tensor([5, 9, 300])).backward()
    optimiser.step()
    return parameter.grad


def test_soft_prompt_equals_peft_forward_gradient_and_step(frozen, tuned):
    P = prompt(frozen)
    wrapped = tuned("prompt", P)
    theirs = wrapped.prompt_encoder["default"].embedding.weight
    a, b = soft_logits(frozen, P), peft_logits(wrapped, frozen, len(P))
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(step(a, P), step(b, theirs))
    torch.testing.assert_close(P, theirs)


def test_prefix_equals_peft_forward_gradient_and_step(frozen, tuned):
    prefix = nn.Parameter(torch.randn(2, 2, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))

    def as_peft(x: torch.Tensor) -> torch.Tensor:
        return x.permute(3, 1, 0, 2, 4).reshape(x.shape[3], -1)  # [m, layers · 2 · heads · d]

    wrapped = tuned("prefix", as_peft(prefix.detach()))
    theirs = wrapped.prompt_encoder["default"].embedding.weight
    _, mask, X = inputs(frozen)
    a = soft.next_logits(frozen, X, mask, soft.prefix_cache(prefix, len(X)))
    b = peft_logits(wrapped, frozen, 0)
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(as_peft(step(a, prefix)), step(b, theirs))
    torch.testing.assert_close(as_peft(prefix), theirs)


@pytest.mark.parametrize("device", available_devices())
def test_words_as_vectors_are_the_words(tiny, device):
    language = tiny_model(tiny.tokenizer, device)
    words = "Is the review good or bad?\n"
    _, mask, X = inputs(language)
    rows = [encode(language.tokenizer, words) + encode(language.tokenizer, text) for text in TEXTS]
    alone = torch.stack([language.model(torch.tensor([row], device=device)).logits[0, -1] for row in rows])
    torch.testing.assert_close(soft_logits(language, soft.word_prompt(language, words)), alone)
    cache = soft.prefix_cache(soft.word_prefix(language, words), len(X))
    torch.testing.assert_close(soft.next_logits(language, X, mask, cache), alone)


def test_the_gradient_reaches_the_prompt_and_nothing_else(frozen):
    P, before = prompt(frozen), copy.deepcopy(frozen.model.state_dict())
    step(soft_logits(frozen, P), P)
    assert P.grad.abs().sum(1).min() > 0
    assert all(weight.grad is None for weight in frozen.model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in frozen.model.state_dict().items())


def test_what_is_padded_does_not_count(frozen):
    P, alone = prompt(frozen), []
    for text in TEXTS:
        ids, mask = pad([encode(frozen.tokenizer, text)])
        X = frozen.model.get_input_embeddings()(ids)
        alone.append(soft.next_logits(frozen, *soft.prepend(P, X, mask))[0])
    torch.testing.assert_close(soft_logits(frozen, P), torch.stack(alone))


@given(m=st.integers(1, 6), rows=st.integers(1, 4), T=st.integers(1, 5), half=st.booleans())
def test_prepend_keeps_the_input_and_its_dtype(m, rows, T, half):
    P, X = torch.randn(m, 3), torch.randn(rows, T, 3, dtype=torch.bfloat16 if half else torch.float32)
    mask = torch.arange(T).expand(rows, -1) % 2
    longer, seen = soft.prepend(P, X, mask)
    assert longer.dtype == X.dtype and longer.shape == (rows, m + T, 3)
    assert torch.equal(longer[:, m:], X) and torch.equal(longer[0, :m], P.to(X.dtype))
    assert seen[:, :m].all() and torch.equal(seen[:, m:], mask)


def test_prepend_compiles_whole():
    P, X, mask = torch.randn(2, 4), torch.randn(3, 5, 4), torch.ones(3, 5, dtype=torch.int64)
    compiled = torch.compile(soft.prepend, fullgraph=True, backend="eager")
    for a, b in zip(compiled(P, X, mask), soft.prepend(P, X, mask), strict=True):
        torch.testing.assert_close(a, b)


def test_word_prompt_repeats_and_cuts_at_the_front(tiny):
    whole = soft.word_prompt(tiny, "one two three")
    m = len(whole)
    torch.testing.assert_close(soft.word_prompt(tiny, "one two three", 2), whole[-2:])
    torch.testing.assert_close(soft.word_prompt(tiny, "one two three", m + 1), torch.cat([whole[-1:], whole]))
    whole.zero_()
    assert soft.word_prompt(tiny, "one two three").abs().min() > 0


def test_errors_name_the_argument(tiny):
    P, X, mask = torch.zeros(2, 4), torch.zeros(3, 5, 4), torch.ones(3, 5, dtype=torch.int64)
    wrong = {
        "x, prompt: got \\[3, 5, 4\\] and \\[2, 3\\]": lambda: soft.prepend(torch.zeros(2, 3), X, mask),
        "x, prompt: got \\[3, 5, 4\\] and \\[0, 4\\]": lambda: soft.prepend(P[:0], X, mask),
        "mask: got \\[3, 4\\]": lambda: soft.prepend(P, X, mask[:, 1:]),
        "prompt: got NaN": lambda: soft.prepend(P / 0, X, mask),
        "tokens: got \\[2, 0\\]": lambda: pad([[1, 2], []]),
        "tokens: got \\[\\]": lambda: pad([]),
        "text, length: got '' and None": lambda: soft.word_prompt(tiny, ""),
        "text: got ''": lambda: soft.word_prefix(tiny, ""),
        "text, length: got 'a' and 0": lambda: soft.word_prompt(tiny, "a", 0),
        "prefix: got \\[1, 2, 2, 3, 4\\]": lambda: soft.prefix_cache(torch.zeros(1, 2, 2, 3, 4), 1),
        "prefix: got NaN": lambda: soft.prefix_cache(torch.full((2, 2, 2, 3, 4), torch.nan), 1),
        "mask: got rows of": lambda: soft.next_logits(tiny, torch.zeros(1, 2, 16).double(), torch.zeros(1, 2).long()),
    }
    for message, call in wrong.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_a_prompt_longer_than_the_context_is_refused(tiny):
    _, mask, X = inputs(tiny)
    with pytest.raises(ValueError, match="expected at most the 256 of tiny"):
        soft.next_logits(tiny, *soft.prepend(prompt(tiny, tiny.context), X, mask))
    longest = prompt(tiny, tiny.context - X.shape[1])
    assert soft.next_logits(tiny, *soft.prepend(longest, X, mask)).isfinite().all()
    cache = soft.prefix_cache(torch.zeros(2, 2, 2, tiny.context, 4, dtype=torch.float64), len(X))
    with pytest.raises(ValueError, match="after 256 of the prefix"):
        soft.next_logits(tiny, X, mask, cache)


@pytest.fixture(scope="module")
def made():
    """data/make_soft.py as a module."""
    return script("make_soft")


@pytest.fixture(scope="module")
def page(made):
    return made.training_cells(made.PAGE)


def test_the_record_is_about_this_page_and_complete(made, page):
    record = json.loads((data_dir() / "results" / "soft.json").read_text("utf-8"))
    assert record["fingerprint"] == page["fingerprint"]()
    assert set(record["arms"]) == {*page["ARMS"], made.PROBE}
    for name, (_, rates) in page["ARMS"].items():
        arm = record["arms"][name]
        assert [float(rate) for rate in arm["rates"]] == rates and arm["rates"][str(arm["lr"])] == max(arm["rates"].values())
        assert [len(row) for row in arm["losses"]] == [25] * made.SEEDS
    for arm in record["arms"].values():
        assert [len(row) for row in arm["odds"]] == [200] * made.SEEDS


def test_the_real_model_gives_the_recorded_start(page):
    record = json.loads((data_dir() / "results" / "soft.json").read_text("utf-8"))
    texts = page["parts"]["test"].texts[:4]
    written = page["odds"](page["HardPrompt"](), texts)
    torch.testing.assert_close(written, torch.tensor(record["start"]["odds"][:4]), atol=0.01, rtol=0)
    for name in ("软提示 13", "X + P，一个向量", "前缀"):
        arm = page["ARMS"][name][0](0)
        torch.testing.assert_close(page["odds"](arm, texts), written, atol=0.01, rtol=0)
        before = [parameter.detach().clone() for parameter in arm.parameters()]
        page["fit"](arm, seed=0, lr=0.01, steps=1, rows=2)
        assert all(not torch.equal(a, b) for a, b in zip(arm.parameters(), before, strict=True))
