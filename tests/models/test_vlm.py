"""The multimodal language model against concatenation by hand, against its library's generation, and its refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from src.instructions.loss import Batch, Example, answer_loss, collate
from src.models.vlm import VLM, Projector, branch_mask, branches, replace, with_placeholders
from src.runtime import available_devices
from src.tokens import IGNORED, pad

D, F, K, V = 16, 6, 3, 30
END, PICTURE, SOUND = 1, 2, 3
EXAMPLES = (Example((5, 6, 7, 8), (IGNORED, IGNORED, 7, 8)), Example((9, 10, 11), (IGNORED, IGNORED, 11)),
            Example((12, 13, 14, 15, 16), (*[IGNORED] * 4, 16)))
PICTURED, HEARD = (0, 2), (1, 2)


def model(device: str = "cpu", dtype: torch.dtype = torch.float64) -> VLM:
    """Two layers of random weights, so that wrong positions, masks and caches change every number."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    language = LlamaForCausalLM(LlamaConfig(
        vocab_size=V, hidden_size=D, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=None, eos_token_id=END))
    for parameter in language.parameters():
        nn.init.normal_(parameter, std=0.3)
    return VLM(language, {"picture": nn.Linear(F, F), "sound": nn.Identity()},
               {"picture": Projector(F, D, K, 0.3), "sound": Projector(F, D, 1, 0.3)},
               {"picture": PICTURE, "sound": SOUND}).eval().to(device, dtype)


def examples() -> list[Example]:
    """The first with a picture, the second with a sound, the third with both."""
    first, second, third = EXAMPLES
    return [with_placeholders(first, PICTURE, K), with_placeholders(second, SOUND, 1, at=1),
            with_placeholders(with_placeholders(third, SOUND, 1), PICTURE, K)]


def inputs(device: str = "cpu", dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Pictures of the rows 0 and 2, sounds of the rows 1 and 2."""
    random = torch.Generator().manual_seed(1)
    return {kind: torch.randn(2, count, F, dtype=dtype, generator=random).to(device)
            for kind, count in (("picture", K), ("sound", 1))}


def by_hand(vlm: VLM, row: int) -> torch.Tensor:
    """The embedded row ``[1, T, D]``, joined from its parts."""
    words = vlm.language.get_input_embeddings()(torch.tensor(EXAMPLES[row].ids))
    shown = {kind: vlm.projectors[kind](values) for kind, values in vlm.encode(inputs()).items()}
    if row == 0:
        parts = [shown["picture"][0], words]
    elif row == 1:
        parts = [words[:1], shown["sound"][0], words[1:]]
    else:
        parts = [shown["picture"][1], shown["sound"][1], words]
    return torch.cat(parts)[None]


def prompts() -> list[list[int]]:
    return [[token for token, label in zip(row.ids, row.labels, strict=True) if label == IGNORED] for row in examples()]


def test_placeholders_and_their_labels():
    example = with_placeholders(EXAMPLES[0], PICTURE, 2, at=1)
    assert example.ids == (5, PICTURE, PICTURE, 6, 7, 8)
    assert example.labels == (IGNORED, IGNORED, IGNORED, IGNORED, 7, 8)
    with pytest.raises(ValueError, match="count, at: got 0 and 0"):
        with_placeholders(EXAMPLES[0], PICTURE, 0)
    with pytest.raises(ValueError, match="count, at: got 1 and 5"):
        with_placeholders(EXAMPLES[0], PICTURE, 1, at=5)
    with pytest.raises(ValueError, match="at: got 3, behind a token that is to be learned"):
        with_placeholders(EXAMPLES[0], PICTURE, 1, at=3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=5), st.integers(1, 4))
def test_replacing_equals_concatenation(rows, count):
    width = count + 4
    random = torch.Generator().manual_seed(count)
    X = torch.randn(len(rows), width, D, dtype=torch.float64, generator=random)
    features = torch.randn(sum(shown for shown, _ in rows), count, D, dtype=torch.float64, generator=random)
    ids = torch.full((len(rows), width), 7)
    expected, used = X.clone(), iter(features)
    for row, (shown, at) in enumerate(rows):
        if shown:
            ids[row, at:at + count] = PICTURE
            expected[row] = torch.cat([X[row, :at], next(used), X[row, at + count:]])
    torch.testing.assert_close(replace(X, ids, PICTURE, features if len(features) else None), expected, rtol=0, atol=0)


def test_gradcheck_of_replacing_and_projecting():
    ids = torch.tensor([[7, PICTURE, PICTURE], [7, 7, 7], [PICTURE, PICTURE, 7]])
    random = torch.Generator().manual_seed(0)
    X, f = (torch.randn(*shape, dtype=torch.float64, generator=random, requires_grad=True)
            for shape in ((3, 3, 4), (2, 2, 5)))
    projector = Projector(5, 4, 2, 0.5).double()
    assert torch.autograd.gradcheck(lambda X, f: replace(X, ids, PICTURE, projector(f)), (X, f))


def test_projector_is_the_formula():
    projector, f = Projector(F, D, K, 0.3).double(), inputs()["picture"]
    projected = f @ projector.W.weight.T
    expected = 0.3 * projected / (projected.square().mean(-1, keepdim=True) + 1e-6).sqrt() + projector.p
    torch.testing.assert_close(projector(f), expected)
    torch.testing.assert_close(projector(5 * f), expected, rtol=1e-4, atol=1e-4)  # the size of the features is gone


@pytest.mark.parametrize("row", range(3))
def test_logits_equal_the_language_model_on_parts_joined_by_hand(row):
    vlm = model()
    logits = vlm(collate(examples()), vlm.encode(inputs()))
    alone = vlm.language(inputs_embeds=by_hand(vlm, row)).logits[0]
    torch.testing.assert_close(logits[row, :len(alone)], alone)


def test_rows_without_picture_in_the_same_batch():
    vlm = model()
    shown = with_placeholders(EXAMPLES[0], PICTURE, K)
    batch, features = collate([EXAMPLES[1], shown, EXAMPLES[2]]), vlm.encode({"picture": inputs()["picture"][:1]})
    logits = vlm(batch, features)
    for row, example in ((0, EXAMPLES[1]), (2, EXAMPLES[2])):
        plain = vlm.language(torch.tensor([example.ids])).logits[0]
        torch.testing.assert_close(logits[row, :len(plain)], plain)
    torch.testing.assert_close(logits[1, :len(shown)], vlm(collate([shown]), features)[0])


def test_loss_counts_the_answers_only():
    vlm, batch, rows = model(), collate(examples()), examples()
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row, example in enumerate(rows):
        logs = vlm.language(inputs_embeds=by_hand(vlm, row)).logits[0].log_softmax(-1)
        for place, label in enumerate(example.labels):
            if label != IGNORED:
                total, count = total - logs[place - 1, label], count + 1
    torch.testing.assert_close(vlm.loss(batch, vlm.encode(inputs())), total / count)


def branched() -> tuple[list[list[Example]], list[int], dict[str, torch.Tensor], list[Example], dict[str, torch.Tensor]]:
    """Three questions about one picture, two of them with a sound of their own, and one about nothing: shared, and apart."""
    def question(ask: tuple[int, ...], reply: tuple[int, ...], heard: bool, shown: bool = True) -> Example:
        example = Example((9, *ask, *reply), (*[IGNORED] * (1 + len(ask)), *reply))
        example = with_placeholders(example, SOUND, 1, at=1) if heard else example
        return with_placeholders(example, PICTURE, K, at=1) if shown else example

    rows = [[question((10, 11), (12, END), True), question((10, 13), (14, 15, END), False),
             question((10, 11), (16, END), True)], [question((20,), (21, END), False, shown=False)]]
    given = {"picture": inputs()["picture"][:1], "sound": inputs()["sound"]}
    return rows, [1 + K, 0], given, [e for row in rows for e in row], {**given, "picture": given["picture"].expand(3, -1, -1)}


def test_branches_have_the_loss_and_the_gradient_of_separate_rows():
    rows, shared, given, apart, repeated = branched()
    together, alone = model(), model()
    loss = together.loss(branches(rows, shared), together.encode(given))
    expected = answer_loss(alone(collate(apart), alone.encode(repeated)), collate(apart).labels)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for (name, ours), theirs in zip(together.named_parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def test_a_branch_does_not_see_the_others():
    rows, shared, given, *_ = branched()
    vlm, batch = model(), branches(rows, shared)
    before = vlm(batch, vlm.encode(given))
    ids = batch.ids.where(batch.segments != 3, 25)
    after = vlm(Batch(ids, batch.labels, batch.positions, batch.segments), vlm.encode(given))
    torch.testing.assert_close(after[batch.segments != 3], before[batch.segments != 3], rtol=0, atol=0)
    assert (after[batch.segments == 3] - before[batch.segments == 3]).abs().max() > 1e-3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 3))
def test_segments_and_positions_of_branches(lengths, shared, padding):
    row = [Example((*[7] * shared, *[8] * n, 9), (*[IGNORED] * (shared + n), 9)) for n in lengths]
    other = [Example((5,) * (padding + 2), (*[IGNORED] * (padding + 1), 5))]
    batch = branches([row, other], [shared, 0])
    places = [(1, k) for k in range(shared)] + [
        (segment, k) for segment, n in enumerate(lengths, start=2) for k in range(shared, shared + n + 1)]
    for found, at in ((batch.segments, 0), (batch.positions, 1)):
        assert found[0, :len(places)].tolist() == [place[at] for place in places]
    assert (batch.segments[0, len(places):] == 0).all() and (batch.labels[0, len(places):] == IGNORED).all()
    seen = branch_mask(batch.segments)[0, 0]
    for i, (a, _) in enumerate(places):
        assert seen[i].nonzero()[:, 0].tolist() == [j for j in range(i + 1) if places[j][0] in (1, a)]
    assert seen.any(1).all()


def test_bad_branches():
    rows, shared, *_ = branched()
    for wrong, counts in (([], []), ([rows[0], []], shared), (rows, shared[:1])):
        with pytest.raises(ValueError, match="rows, shared: got"):
            branches(wrong, counts)
    with pytest.raises(ValueError, match=f"shared: got {2 + K}"):  # a sound in one of them
        branches(rows, [2 + K, 0])
    with pytest.raises(ValueError, match="not to be learned"):
        branches([[EXAMPLES[0]]], [2])
    vlm, batch = model(), collate(EXAMPLES)
    for labels in (torch.full_like(batch.labels, IGNORED), batch.ids):
        with pytest.raises(ValueError, match="labels: got"):
            vlm.loss(Batch(batch.ids, labels, batch.positions, batch.segments), {})


def test_gradient_reaches_encoder_and_projector_and_not_a_frozen_language_model():
    vlm = model()
    vlm.language.requires_grad_(False)
    before = copy.deepcopy(vlm.language.state_dict())
    optimiser = torch.optim.SGD([p for p in vlm.parameters() if p.requires_grad], 0.1)
    vlm.loss(collate(examples()), vlm.encode(inputs())).backward()
    optimiser.step()
    for name, parameter in vlm.named_parameters():
        frozen = name.startswith("language.")
        assert (parameter.grad is None) if frozen else (parameter.grad.abs().sum() > 0), name
    for name, values in vlm.language.state_dict().items():
        torch.testing.assert_close(values, before[name], rtol=0, atol=0)


def test_frozen_encoders_stay_in_evaluation_mode():
    vlm = model()
    vlm.encoders["picture"] = nn.Sequential(nn.Linear(F, F), nn.BatchNorm1d(K))
    assert vlm.train().encoders["picture"][1].training
    vlm.encoders["picture"].requires_grad_(False)
    assert not vlm.train().encoders["picture"][1].training and vlm.language.training
    assert not vlm.eval().language.training


def greedy(vlm: VLM, row: int, steps: int) -> list[int]:
    """Without cache and batch: the whole sequence again for each token."""
    X = by_hand(vlm, row)[:, :len(prompts()[row])]
    found: list[int] = []
    for _ in range(steps):
        found.append(int(vlm.language(inputs_embeds=X).logits[0, -1].argmax()))
        if found[-1] == END:
            return found[:-1]
        X = torch.cat([X, vlm.language.get_input_embeddings()(torch.tensor([found[-1:]]))], 1)
    return found


def test_batched_answers_equal_one_by_one_without_cache():
    vlm = model()
    found = vlm.answer(prompts(), vlm.encode(inputs()), END, room=6)
    assert found == [greedy(vlm, row, 6) for row in range(3)]
    assert len({tuple(row) for row in found}) == 3


def test_answers_equal_the_librarys_generation():
    vlm = model()
    ids, mask = pad(prompts(), left=True)
    theirs = vlm.language.generate(
        inputs_embeds=vlm.embed(ids, vlm.encode(inputs())), attention_mask=mask, do_sample=False, max_new_tokens=6)
    ours = vlm.answer(prompts(), vlm.encode(inputs()), END, room=6)
    assert [row[:row.index(END)] if END in row else row for row in theirs.tolist()] == ours


def test_padding_does_not_shift_learned_positions():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    language = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=32, n_embd=D, n_layer=2, n_head=2, bos_token_id=None,
                                          eos_token_id=END, initializer_range=0.5)).double()
    vlm = VLM(language, {}, {}, {}).eval()
    rows = [list(example.ids) for example in EXAMPLES]
    assert vlm.answer(rows, {}, END, room=6) == [vlm.answer([row], {}, END, room=6)[0] for row in rows]
    logits = vlm(collate(EXAMPLES), {})
    torch.testing.assert_close(logits[1, :3], language(torch.tensor([rows[1]])).logits[0])


def test_an_answer_ends_with_the_end_token():
    vlm = model()
    first = vlm.answer(prompts(), vlm.encode(inputs()), END, room=4)[0]
    assert vlm.answer(prompts()[:1], vlm.encode({"picture": inputs()["picture"][:1]}), first[1], room=4)[0] == first[:1]
    # a row that has ended does not end the others
    assert vlm.answer(prompts(), vlm.encode(inputs()), first[1], room=4)[0] == first[:1]


def test_another_picture_changes_only_the_rows_that_show_it():
    vlm, batch, given = model(), collate(examples()), inputs()
    before = vlm(batch, vlm.encode(given))
    changed = {**given, "picture": torch.stack([given["picture"][0], given["picture"][1].flip(0)])}
    after = vlm(batch, vlm.encode(changed))
    torch.testing.assert_close(after[:2], before[:2], rtol=0, atol=1e-12)
    assert (after[2] - before[2]).abs().max() > 1e-3
    swapped = vlm(batch, vlm.encode({**given, "picture": given["picture"].flip(0)}))
    assert (swapped[0] - before[0]).abs().max() > 1e-3


def test_places_differ_by_p_alone():
    projector, f = model().projectors["picture"], inputs()["picture"]
    torch.testing.assert_close(projector(f.flip(1)) - projector.p, (projector(f) - projector.p).flip(1))
    assert (projector(f.flip(1)) - projector(f).flip(1)).abs().max() > 0.1


@pytest.mark.parametrize("device", [name for name in available_devices() if name != "cpu"] or ["none"])
def test_another_device_agrees(device):
    if device == "none":
        pytest.skip("this machine has no GPU")
    batch = collate(examples())
    expected = model().loss(batch, model().encode(inputs()))
    vlm = model(device)
    loss = vlm.loss(batch.to(device), vlm.encode(inputs(device)))
    torch.testing.assert_close(loss.cpu(), expected)
    here = model()
    assert vlm.answer(prompts(), vlm.encode(inputs(device)), END) == here.answer(prompts(), here.encode(inputs()), END)


def test_half_precision_features_follow_the_language_model():
    vlm = model(dtype=torch.float32)
    features = {kind: values.float() for kind, values in inputs().items()}
    with torch.autocast("cpu", torch.bfloat16):
        loss = vlm.loss(collate(examples()), vlm.encode(features))
    torch.testing.assert_close(loss, vlm.loss(collate(examples()), vlm.encode(features)), rtol=0.05, atol=0.05)


def test_compiles_in_one_graph():
    ids = torch.tensor([[7, PICTURE, PICTURE], [7, 7, 7]])
    X, features = torch.randn(2, 3, D), torch.randn(1, 2, D)
    compiled = torch.compile(lambda X, f: replace(X, ids, PICTURE, f), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(X, features), replace(X, ids, PICTURE, features))


def test_wrong_numbers_of_features():
    vlm, batch, given = model(), collate(examples()), inputs()
    with pytest.raises(ValueError, match="features: got None for 2 rows with placeholders"):
        vlm(batch, vlm.encode({"sound": given["sound"]}))
    with pytest.raises(ValueError, match=r"features: got \[1, 3, 16\] for rows with \[3, 3\] placeholders"):
        vlm(batch, vlm.encode({**given, "picture": given["picture"][:1]}))
    with pytest.raises(ValueError, match=r"for rows with \[3, 2\] placeholders"):
        cut = copy.deepcopy(batch.ids)
        cut[2, 0] = 7
        vlm(Batch(cut, batch.labels, batch.positions, batch.segments), vlm.encode(given))
    with pytest.raises(ValueError, match=r"for rows with \[\] placeholders"):
        vlm(collate(EXAMPLES), vlm.encode({"picture": given["picture"]}))
    with pytest.raises(ValueError, match=r"f: got \[2, 2, 6\], expected \[N, 3, 6\]"):
        vlm(batch, {**given, "picture": given["picture"][:, :2]})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_no_numbers(bad):
    vlm, given = model(), inputs()
    given["sound"][1, 0, 2] = bad
    with pytest.raises(ValueError, match="features: got NaN or infinite"):
        vlm(collate(examples()), vlm.encode(given))


def test_other_bad_inputs():
    vlm = model()
    with pytest.raises(ValueError, match="features: got \\['video'\\]"):
        vlm.embed(torch.tensor([[7]]), {"video": torch.zeros(1, 1, F)})
    with pytest.raises(ValueError, match="expected the same kinds"):
        VLM(vlm.language, {"picture": nn.Identity()}, {}, {"picture": PICTURE})
    for token in (V, -1):
        with pytest.raises(ValueError, match=f"tokens: got .*{token}"):
            VLM(vlm.language, {"picture": nn.Identity()}, {"picture": nn.Identity()}, {"picture": token})
    with pytest.raises(ValueError, match="different ids"):
        VLM(vlm.language, *[{"a": nn.Identity(), "b": nn.Identity()}] * 2, {"a": PICTURE, "b": PICTURE})
    with pytest.raises(ValueError, match=r"tokens: got \[\]"):
        vlm.answer([], {}, END)
    with pytest.raises(ValueError, match=r"tokens: got \[1, 0\]"):
        vlm.answer([[5], []], {}, END)
    with pytest.raises(ValueError, match="room: got 0"):
        vlm.answer([[5]], {}, END, room=0)
