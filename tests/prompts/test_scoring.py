"""Scores against the sum by hand and transformers' own loss, one pair at a time, in float64 and with the real model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from src.prompts.scoring import (
    answer_lengths,
    calibrate,
    continuation_log_likelihood,
    label_log_probs,
    log_likelihoods,
    shared_prefix,
)
from src.prompts.templates import TASKS
from src.tokens import encode, encode_chat
from tests.prompts.conftest import CONTEXT, tiny_model

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SIZES, SEEDS = st.integers(1, 5), st.integers(0, 99)
REVIEWS = ["It was fine.", "I left after ten minutes, and so did everybody else in the room.", "Great!", "Dull, dull, dull."]
ANSWERS = [" positive", " negative", " not positive at all", " not positive", " unputdownable"]


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def some_labels(rows, length, vocabulary, seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(vocabulary, (rows, length), generator=g)
    return labels.masked_fill(torch.rand(rows, length, generator=g) < 0.4, -100).index_fill(1, torch.tensor(0), -100)


def one_by_one(language, prompts, answers):
    """The plain loop: torch's cross-entropy, added up over the answer (transformers' own loss would be in float32)."""
    scores = torch.empty(len(prompts), len(answers), dtype=language.model.dtype)
    for n, prompt in enumerate(prompts):
        for k, answer in enumerate(answers):
            before, after = (encode(language.tokenizer, x) if isinstance(x, str) else x for x in (prompt, answer))
            ids = torch.tensor([[*before, *after]], device=language.model.device)
            with torch.inference_mode():
                logits = language.model(ids).logits[0, len(before) - 1 : -1]
            scores[n, k] = -F.cross_entropy(logits, ids[0, len(before) :], reduction="sum")
    return scores


def prompts():
    return [TASKS["sentiment"].template.fill(text=text) for text in REVIEWS]


@settings(max_examples=50, deadline=None)
@given(SIZES, st.integers(2, 6), st.integers(2, 9), SEEDS)
def test_likelihood_is_torchs(rows, length, vocabulary, seed):
    z, y = 3 * randn(rows, length, vocabulary, seed=seed), some_labels(rows, length, vocabulary, seed)
    expected = [-F.cross_entropy(z[b, :-1], y[b, 1:], reduction="sum") for b in range(rows)]
    torch.testing.assert_close(continuation_log_likelihood(z, y), torch.stack(expected))
    byhand = [sum(z[b, t - 1].log_softmax(0)[y[b, t]] for t in range(length) if y[b, t] >= 0) for b in range(rows)]
    torch.testing.assert_close(continuation_log_likelihood(z, y), torch.stack([z.new_zeros(()) + x for x in byhand]))


def test_likelihood_is_transformers(tiny):
    ids = torch.randint(3, 1000, (1, 9), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :5] = -100
    with torch.inference_mode():
        out = tiny.model(ids, labels=labels)
    likelihood = continuation_log_likelihood(out.logits, labels)
    torch.testing.assert_close(likelihood.float(), -4 * out.loss[None])
    torch.testing.assert_close(likelihood, log_likelihoods(tiny, ids[:, :5].tolist(), ids[:, 5:].tolist())[0])


def test_scores_are_those_of_each_pair_alone(tiny):
    expected = one_by_one(tiny, prompts(), ANSWERS)
    for budget in (1, 30, 60, 4096):
        scores = log_likelihoods(tiny, prompts(), ANSWERS, budget=budget)
        torch.testing.assert_close(scores, expected, atol=1e-10, rtol=1e-10)
    assert scores.dtype == torch.float64 and expected.std() > 0.1


def test_scores_do_not_depend_on_what_is_shared(tiny, monkeypatch):
    """With the keys and values of the shared beginning, without them, and with a beginning that nothing shares."""
    expected = log_likelihoods(tiny, prompts(), ANSWERS)
    assert shared_prefix([encode(tiny.tokenizer, prompt) for prompt in prompts()]) > 5
    alone = torch.cat([log_likelihoods(tiny, [prompt], ANSWERS) for prompt in prompts()])
    stranger = log_likelihoods(tiny, [*prompts(), "Nothing alike"], ANSWERS)[:-1]
    monkeypatch.setattr("src.prompts.scoring.shared_prefix", lambda contexts: 0)
    for scores in (alone, stranger, log_likelihoods(tiny, prompts(), ANSWERS)):
        torch.testing.assert_close(scores, expected, atol=1e-10, rtol=1e-10)


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text("ab .\n", max_size=12), min_size=1, max_size=5), budget=st.integers(1, 80), seed=SEEDS)
def test_scores_of_any_token_ids(tiny, texts, budget, seed):
    g = torch.Generator().manual_seed(seed)
    contexts = [[5, 6, 7, *encode(tiny.tokenizer, text)] for text in texts]
    answers = [torch.randint(3, 2000, (n,), generator=g).tolist() for n in (1, 3, 2)]
    scores = log_likelihoods(tiny, contexts, answers, budget=budget)
    torch.testing.assert_close(scores, one_by_one(tiny, contexts, answers), atol=1e-10, rtol=1e-10)


def test_answers_that_share_a_beginning(tiny):
    """Words with the same first token differ by what follows; the longer of the two cannot be more probable."""
    answers = [" not", " not positive", " not positive at all"]
    scores = log_likelihoods(tiny, prompts(), answers)
    torch.testing.assert_close(scores, one_by_one(tiny, prompts(), answers), atol=1e-10, rtol=1e-10)
    assert (scores.diff(dim=1) < 0).all()
    assert answer_lengths(tiny, answers).tolist() == [1, 2, 4]


def test_the_real_model(language):
    expected = one_by_one(language, prompts()[:2], ANSWERS)
    torch.testing.assert_close(log_likelihoods(language, prompts()[:2], ANSWERS), expected, atol=1e-3, rtol=1e-4)
    chats = [encode_chat(language.tokenizer, prompt) for prompt in prompts()[:2]]
    expected = one_by_one(language, chats, ["positive", "negative"])
    torch.testing.assert_close(log_likelihoods(language, chats, ["positive", "negative"]), expected, atol=1e-3, rtol=1e-4)
    assert label_log_probs(log_likelihoods(language, prompts(), ANSWERS[:2])).argmax(1).tolist()[1:] == [1, 0, 1]


def test_scoring_changes_nothing(tiny):
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    first = log_likelihoods(tiny, prompts(), ANSWERS)
    assert torch.equal(log_likelihoods(tiny, prompts(), ANSWERS), first)
    assert all(torch.equal(value, before[name]) for name, value in tiny.model.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


@pytest.mark.parametrize(("contexts", "expected"), [([[1, 2, 3], [1, 2, 4, 5]], 2), ([[1, 2], [1, 2]], 1), ([[7]], 0),
                                                    ([[1, 2, 3], [1, 2]], 1), ([[1], [2]], 0)])  # fmt: skip
def test_shared_prefix_leaves_a_token_to_each(contexts, expected):
    assert shared_prefix(contexts) == expected


def test_too_long_prompts_are_refused(tiny):
    long = "word " * CONTEXT + "end"
    with pytest.raises(ValueError, match=rf"prompts\[1\]: got 25\d tokens .* at most the {CONTEXT} of tiny: shorten"):
        log_likelihoods(tiny, ["short", long], [" yes", " not at all"])


def test_the_longest_prompt_that_fits_is_scored(tiny):
    prompt = [5] * (CONTEXT - 2)
    assert log_likelihoods(tiny, [prompt], [[6, 7]]).shape == (1, 1)
    with pytest.raises(ValueError, match="at most the"):
        log_likelihoods(tiny, [prompt], [[6, 7, 8]])


@pytest.mark.parametrize(
    ("prompts", "answers", "message"),
    [
        ([], [" a"], "prompts: got \\[\\]"),
        (["a"], [], "answers: got \\[\\]"),
        ("a prompt", [" a"], "prompts: got 'a prompt'"),
        (["a", ""], [" b"], r"prompts\[1\]: got '' without a token"),
        (["a"], [" b", []], r"answers\[1\]: got \[\] without a token"),
        (["Sentiment: "], ["good"], "ends with 'Sentiment: ' before 'good', which the tokenizer does not part"),
        (["Sentiment:"], ["good", "s"], None),
        (["Sentim"], ["ent"], "does not part there"),
    ],
)
def test_other_prompts_and_answers_are_refused(tiny, prompts, answers, message):
    if message is None:
        assert log_likelihoods(tiny, prompts, answers).shape == (1, 2)
        return
    with pytest.raises(ValueError, match=message):
        log_likelihoods(tiny, prompts, answers)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(2, 5), SEEDS)
def test_label_probabilities(rows, words, seed):
    scores = 5 * randn(rows, words, seed=seed)
    torch.testing.assert_close(label_log_probs(scores), scores.log_softmax(1))
    groups = [0, *[k % 2 for k in range(1, words)]]
    p = scores.exp() / scores.exp().sum(1, keepdim=True)
    expected = torch.stack([p[:, [g == label for g in groups]].sum(1) for label in range(2)], 1).log()
    torch.testing.assert_close(label_log_probs(scores, groups), expected)


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, st.integers(2, 5), SEEDS)
def test_calibration_divides_by_the_prior(rows, empty, classes, seed):
    scores, nothing = 3 * randn(rows, classes, seed=seed), 3 * randn(empty, classes, seed=seed + 1)
    q = scores.softmax(1) / nothing.softmax(1).mean(0)
    torch.testing.assert_close(calibrate(scores, nothing).exp(), q / q.sum(1, keepdim=True))
    torch.testing.assert_close(calibrate(nothing[:1], nothing[:1]).exp(), torch.full_like(nothing[:1], 1 / classes))
    torch.testing.assert_close(calibrate(scores + 7, nothing - 2), calibrate(scores, nothing))


def test_gradients():
    z, y = randn(2, 4, 5).requires_grad_(), some_labels(2, 4, 5)
    assert torch.autograd.gradcheck(lambda z: continuation_log_likelihood(z, y), z)
    s = randn(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: calibrate(label_log_probs(s, [0, 1, 1, 2]), s[:, :3]), s)


def everything(z, y, s):
    return continuation_log_likelihood(z, y), calibrate(label_log_probs(s, [0, 1, 1]), s[:2, :2])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_and_low_precision(device, dtype):
    x, W = randn(2, 4, 6, dtype=torch.float32).to(device), randn(6, 5, seed=1, dtype=torch.float32).to(device)
    y, s = some_labels(2, 4, 5).to(device), randn(3, 3, seed=2, dtype=torch.float32).to(device)
    expected = everything(x @ W, y, s)
    with torch.autocast(device, dtype):
        low = everything(x @ W, y, s)
    low += everything((x @ W).to(dtype), y, s.to(dtype))
    for have, want in zip(low, expected * 2, strict=True):
        torch.testing.assert_close(have.float(), want, atol=0.08, rtol=0.05)
    assert low[0].dtype == torch.float32


@pytest.mark.parametrize("device", DEVICES)
def test_compiles(device):
    z, y = randn(2, 4, 5, dtype=torch.float32).to(device), some_labels(2, 4, 5).to(device)
    s = randn(3, 3, dtype=torch.float32).to(device)
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z, y, s), everything(z, y, s))


@pytest.mark.skipif(len(DEVICES) == 1, reason="no GPU")
def test_gpu_is_cpu(tiny):
    gpu = tiny_model(tiny.tokenizer, "cuda")
    scores = log_likelihoods(gpu, prompts(), ANSWERS)
    assert scores.device.type == "cpu"
    torch.testing.assert_close(scores, log_likelihoods(tiny, prompts(), ANSWERS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models(tiny, dtype):
    half = tiny_model(tiny.tokenizer, dtype=dtype)
    scores = log_likelihoods(half, prompts(), ANSWERS)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.double(), log_likelihoods(tiny, prompts(), ANSWERS), atol=0.6, rtol=0.05)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.long), r"logits: got \[2, 3\]"),
        (torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.long), "nothing empty"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long), r"labels: got torch.int64 \[2, 4\]"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 3), "labels: got torch.float32"),
        (torch.zeros(1, 3, 4), torch.tensor([[-100, 4, 0]]), "labels: got -100 … 4, expected 0 … 3"),
        (torch.zeros(1, 3, 4), torch.tensor([[-100, -1, 0]]), "labels: got -100 … 0"),
        (torch.zeros(1, 3, 4), torch.tensor([[1, 2, 0]]), "a first token that counts"),
        (torch.full((1, 3, 4), float("nan")), torch.tensor([[-100, 2, 0]]), "logits: got NaN"),
    ],
)
def test_other_logits_and_labels_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        continuation_log_likelihood(logits, labels)


def test_other_scores_are_refused():
    for bad in (torch.zeros(3), torch.zeros(0, 2), torch.zeros(2, 0)):
        with pytest.raises(ValueError, match="scores: got"):
            label_log_probs(bad)
    for groups in ([0, 1], [0, 2, 2], [1, 1, 2], []):
        with pytest.raises(ValueError, match="groups: got"):
            label_log_probs(torch.zeros(2, 3), groups)
    for empty in (torch.zeros(0, 2), torch.zeros(1, 3), torch.zeros(2)):
        with pytest.raises(ValueError, match="log_probs, content_free: got"):
            calibrate(torch.zeros(2, 2), empty)
