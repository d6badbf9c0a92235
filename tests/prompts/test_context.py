"""Vectors before an input against concatenation by hand, and before a name against the encoder's own output."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.pretrained import SentenceEncoder, sentence_encoder
from src.prompts.context import encode_with_context, insert

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SIZES = st.integers(1, 6)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(scope="module")
def tiny():
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                        max_position_embeddings=12)
    model = BertModel(config, add_pooling_layer=False).double().eval().requires_grad_(False)
    return SentenceEncoder(model, None, "tiny", 12)


@settings(max_examples=50, deadline=None)
@given(SIZES, SIZES, SIZES, SIZES, st.data())
def test_insert_row_by_row(batch, length, many, width, data):
    at = data.draw(st.integers(0, length))
    x, prompt = randn(batch, length, width), randn(many, width, seed=1)
    expected = torch.stack([torch.vstack([*row[:at, None], *prompt[:, None], *row[at:, None]]) for row in x])
    torch.testing.assert_close(insert(x, prompt, at), expected, rtol=0, atol=0)


def test_insert_gradcheck_and_compile():
    x, prompt = randn(2, 3, 4).requires_grad_(), randn(2, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, prompt: insert(x, prompt, 1), (x, prompt))
    compiled = torch.compile(insert, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, prompt, 1), insert(x, prompt, 1))


@pytest.mark.parametrize(("x", "prompt", "at", "message"), [
    (torch.zeros(2, 3), torch.zeros(2, 4), 0, "expected \\[B, T, D\\]"),
    (torch.zeros(2, 3, 4), torch.zeros(2, 5), 0, "same D"),
    (torch.zeros(2, 3, 4), torch.zeros(0, 4), 0, "nothing empty"),
    (torch.zeros(2, 3, 4), torch.zeros(2, 4), 4, "at: got 4, expected 0 … 3"),
    (torch.zeros(2, 3, 4), torch.zeros(2, 4), -1, "at: got -1"),
    (torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.float64), 0, "one floating type"),
    (torch.zeros(2, 3, 4).long(), torch.zeros(2, 4).long(), 0, "one floating type"),
    (torch.zeros(2, 3, 4), torch.full((2, 4), torch.nan), 0, "prompt: got NaN"),
    (torch.full((2, 3, 4), torch.inf), torch.zeros(2, 4), 0, "x: got NaN or infinite"),
])
def test_insert_refuses(x, prompt, at, message):
    with pytest.raises(ValueError, match=message):
        insert(x, prompt, at)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.lists(st.integers(2, 6), min_size=1, max_size=4), st.integers(0, 99))
def test_embeddings_of_words_give_the_encoders_own_output(tiny, many, start, lengths, seed):
    g = torch.Generator().manual_seed(seed)
    words = torch.randint(5, 50, (many,), generator=g)
    rows = [torch.randint(5, 50, (n,), generator=g) for n in lengths]
    ids = torch.nn.utils.rnn.pad_sequence([torch.cat((torch.tensor([start]), row)) for row in rows], batch_first=True)
    mask = (torch.arange(ids.shape[1]) <= torch.tensor(lengths)[:, None]).long()
    whole = torch.cat((ids[:, :1], words.expand(len(ids), -1), ids[:, 1:]), 1)
    expected = tiny(whole, torch.cat((torch.ones(len(ids), many, dtype=torch.long), mask), 1))
    prompt = tiny.transformer.get_input_embeddings()(words)
    torch.testing.assert_close(encode_with_context(tiny, prompt, ids, mask), expected, rtol=1e-10, atol=1e-12)


def test_the_real_encoder_in_float64():
    encoder = sentence_encoder(device="cpu", dtype=torch.float64)
    names, phrase = ["bird", "musical instrument", "hat"], "a picture of a"
    batch = encoder.tokenizer(names, padding=True, return_tensors="pt")
    words = encoder.tokenizer(phrase, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    prompt = encoder.transformer.get_input_embeddings()(words)
    found = encode_with_context(encoder, prompt, batch["input_ids"], batch["attention_mask"])
    full = encoder.tokenizer([f"{phrase} {name}" for name in names], padding=True, return_tensors="pt")
    torch.testing.assert_close(found, encoder(full["input_ids"], full["attention_mask"]), rtol=1e-10, atol=1e-12)


def test_gradient_reaches_the_prompt_only(tiny):
    prompt, ids = randn(3, 16).requires_grad_(), torch.tensor([[1, 7, 8], [1, 9, 0]])
    mask, before = (ids > 0).long(), [p.clone() for p in tiny.parameters()]
    encode_with_context(tiny, prompt, ids, mask)[:, 0].sum().backward()
    assert prompt.grad.abs().min(1).values.gt(0).all()
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, tiny.parameters(), strict=True))
    assert torch.autograd.gradcheck(lambda p: encode_with_context(tiny, p, ids, mask)[:, :3], (randn(1, 16).requires_grad_(),))


@pytest.mark.parametrize("device", DEVICES)
def test_a_name_does_not_depend_on_the_padding_beside_it(tiny, device):
    encoder, prompt = tiny.to(device), randn(2, 16).to(device)
    ids = torch.tensor([[1, 7, 2, 0, 0], [1, 7, 8, 9, 2]], device=device)
    both = encode_with_context(encoder, prompt, ids, (ids > 0).long())
    alone = encode_with_context(encoder, prompt, ids[:1, :3], torch.ones(1, 3, dtype=torch.long, device=device))
    torch.testing.assert_close(both[:1], alone)
    torch.testing.assert_close(both.norm(dim=1), torch.ones(2, dtype=torch.float64, device=device))
    tiny.to("cpu")


def test_context_refuses(tiny):
    ids = torch.tensor([[1, 7, 8]])
    with pytest.raises(ValueError, match="input_ids, attention_mask"):
        encode_with_context(tiny, randn(2, 16), ids, torch.ones(1, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="same D"):
        encode_with_context(tiny, randn(2, 15), ids, torch.ones_like(ids))
    with pytest.raises(ValueError, match="at most the 12 of tiny"):
        encode_with_context(tiny, randn(10, 16), ids, torch.ones_like(ids))
    with pytest.raises(ValueError, match="prompt: got NaN"):
        encode_with_context(tiny, randn(2, 16) * torch.nan, ids, torch.ones_like(ids))
