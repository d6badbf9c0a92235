"""Questions about pictures and recordings; the cells and records of chapters/instructions/multimodal.ipynb."""

from __future__ import annotations

import json
import random
import re

import pytest
import torch
from safetensors.torch import load

from src.datasets import scenes, shipped, speech
from src.datasets.compositions import cell_splits, compositions, pair_splits
from src.datasets.instruction_wordings import WORDINGS
from src.datasets.scene_wordings import CELLS, MORE_QUESTIONS, OTHER_QUESTIONS, QUESTIONS
from src.datasets.things import THINGS
from src.instructions import lora, multimodal
from src.runtime import data_dir
from tests.records import script


@pytest.fixture(scope="module")
def heard():
    return {split: multimodal.hear(split) for split in ("train", "test")}


def test_recordings_of_different_voices(heard):
    for split, found in heard.items():
        count = sum(len(speech.load(sort, "en", split)) for sort in ("thing", "command"))
        assert found.mel.shape == (count, 40, multimodal.FRAMES) and len(found.words) == len(found.sorts) == count
        assert found.mel.isfinite().all() and found.mel.std() > 0.5
    assert set(heard["train"].words) == set(heard["test"].words)
    wave = speech.load("thing", "en", "test").waves[0]
    torch.testing.assert_close(multimodal.spectrum(3 * wave), multimodal.spectrum(wave), rtol=0.05, atol=0.05)


def test_spoken_questions_have_the_answer_of_the_scene(heard):
    drawn = scenes.draw("test", 200, 3, 48)
    asked = multimodal.listen(drawn, heard["test"], 0)
    assert {item.kind for item in asked} == set(multimodal.HEARING)
    for item in asked:
        word = heard["test"].words[item.sound]
        if item.picture is None:
            assert item.answer == word and item.kind == f"spoken_{heard['test'].sorts[item.sound]}"
        else:
            things = [THINGS[row].en for row in drawn.things[item.picture].tolist() if row >= 0]
            assert things.count(word) == 1
            assert item.answer == CELLS["en"][drawn.cells[item.picture, things.index(word)]]
    assert asked == multimodal.listen(drawn, heard["test"], 0) != multimodal.listen(drawn, heard["test"], 1)


def test_examinations_are_the_same_and_balanced(heard):
    drawn = scenes.draw("test", 600, 3, 48)
    first, again = (multimodal.exam(drawn, heard["test"], 40) for _ in range(2))
    other = multimodal.exam(drawn, heard["test"], 40, held_out=True)
    assert first == again and [sum(item.kind == kind for item in first) for kind in multimodal.KINDS] == [40] * 8
    assert not {item.text for item in first} & {item.text for item in other}


def test_varied_spectra(heard):
    x = heard["train"].mel[:6]
    varied = multimodal.vary(x, torch.Generator().manual_seed(0))
    assert varied.shape == x.shape and torch.equal(varied, multimodal.vary(x, torch.Generator().manual_seed(0)))
    alike = torch.corrcoef(torch.cat([x.flatten(1), varied.flatten(1)]))[:6, 6:].diag()
    assert (alike > 0.3).all() and (alike < 0.99).all()


def test_rows_ask_about_one_picture(heard):
    drawn = scenes.draw("train", 60, 0, 48)
    asked = multimodal.see(drawn, 0) + multimodal.listen(drawn, heard["train"], 0)
    now = multimodal.pool(asked, drawn.images, heard["train"].mel)
    chance, spoken = random.Random(0), 0
    for _ in range(40):
        rows = multimodal.draw_rows(now, multimodal.KINDS, 5, 6, chance)
        for row in rows:
            assert 1 <= len(row) <= 6 and len({item.picture for item in row}) == 1
        assert len({row[0].picture for row in rows}) == len(rows)
        spoken += rows[-1][0].picture is None
    assert 8 < spoken < 32
    assert {item.kind for row in multimodal.draw_rows(now, ("what",), 5, 6, chance) for item in row} == {"what"}
    for count in (0, 1000):
        with pytest.raises(ValueError, match=f"count: got {count}"):
            multimodal.draw_rows(now, multimodal.KINDS, count, 6, chance)


def test_hidden_parts_are_one_band_and_one_span(heard):
    x = heard["train"].mel[:40]
    hidden = multimodal.hide(x, torch.Generator().manual_seed(0))
    gone = hidden != x
    assert torch.equal(hidden, multimodal.hide(x, torch.Generator().manual_seed(0)))
    assert torch.equal(hidden[gone], x.mean((1, 2), keepdim=True).expand_as(x)[gone])
    whole = [gone.all(2).sum(1), gone.all(1).sum(1)]  # bands, frames
    assert [most.max().item() for most in whole] == [8, 16] and all(most.min() == 0 for most in whole)
    bands, frames = gone.all(2, keepdim=True), gone.all(1, keepdim=True)
    assert torch.equal(gone, bands | frames)
    for line in (*bands[:, :, 0], *frames[:, 0]):
        places = line.nonzero().flatten()
        assert not len(places) or places[-1] - places[0] + 1 == len(places)


def test_questions_in_other_words_are_none_of_training():
    trained = {kind: {*QUESTIONS["en"][kind][:4], *MORE_QUESTIONS[kind]} for kind in multimodal.SEEING}
    for kind, texts in trained.items():
        assert len(texts) == 4 + len(MORE_QUESTIONS[kind]) >= 16
        assert not texts & {*QUESTIONS["en"][kind][4:], *OTHER_QUESTIONS[kind]}
        assert len(set(OTHER_QUESTIONS[kind])) >= 6 and not {*OTHER_QUESTIONS[kind]} & {*QUESTIONS["en"][kind]}
    words = {word for texts in trained.values() for text in texts for word in re.findall(r"\w+", text.lower())}
    assert not words & {"appear", "direction", "find", "found", "name", "number", "placed", "position", "respect", "say"}
    drawn = scenes.draw("test", 200, 3, 48)
    plain, other = (multimodal.see(drawn, 1, wordings=wordings) for wordings in (None, OTHER_QUESTIONS))
    assert {item.kind for item in other} == set(multimodal.SEEING) and not {i.text for i in plain} & {i.text for i in other}
    for item in other:
        assert item.text.startswith(tuple(opening(text) for text in OTHER_QUESTIONS[item.kind]))


@pytest.fixture(scope="module")
def made():
    """data/make_vlm.py as a module."""
    return script("make_vlm")


@pytest.fixture(scope="module")
def page(made):
    return made.training_cells(made.PAGE)


def record(name: str) -> dict:
    return json.loads((data_dir() / "results" / f"{name}.json").read_text("utf-8"))


def opening(text: str) -> str:
    """A wording up to the first thing that is named."""
    return text.partition("{")[0]


def test_no_training_batch_holds_what_is_tested(page, monkeypatch):
    read = []

    def reading(code, rows):
        read.extend(item for row in rows for item in row)
        raise InterruptedError

    monkeypatch.setitem(page, "batch_of", reading)
    drawn = []
    draw = page["scenes"].draw
    monkeypatch.setattr(page["scenes"], "draw", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    model, heard = page["from_zero"](page["code"], 0), page["heard"]
    for step in range(3):
        with pytest.raises(InterruptedError):
            page["instruct"](model, page["code"], page["new_pools"](model, heard["train"], step, True), [], 1, 0, 300, 9, step)
    pairs, places = compositions(torch.cat([d.things for d in drawn]), torch.cat([d.cells for d in drawn]))
    assert all(pair_splits()[pair] == 0 for pair in pairs) and all(cell_splits()[place] == 0 for place in places)
    tested = [page["papers_small"][name] for name in page["SETS"]]
    assert len(read) > 3000 and {item.kind for item in read} == set(page["KINDS"])
    seen = [texts[:4] for texts in QUESTIONS["en"].values()] + [WORDINGS["en"][kind][:5] for kind in page["HEARING"]]
    unseen = [texts[4:] for texts in QUESTIONS["en"].values()] + [WORDINGS["en"][kind][5:] for kind in page["HEARING"]]
    assert all(item.text.startswith(tuple(opening(text) for texts in seen for text in texts)) for item in read)
    asked = {item.text for item in read}
    assert not asked & {item.text for item in tested[2][0]}
    assert all(item.text.startswith(tuple(opening(text) for texts in unseen for text in texts)) for item in tested[2][0])


def test_the_pretrained_model_trains_on_no_wording_of_its_papers(page):
    drawn = scenes.draw("train", 150, 0, 96)
    now = next(page["same_pool"](drawn, drawn.images, 0))
    read = {item.text for found in now.questions.values() for asked in found.values() for item in asked}
    papers = page["smol_papers"]()
    assert len(read) > 400 and not read & {item.text for name in ("换了措辞", "旁人的措辞") for item in papers[name][0]}
    more = tuple(opening(text) for texts in MORE_QUESTIONS.values() for text in texts if opening(text))
    assert sum(text.startswith(more) for text in read) > 0.5 * len(read)


def test_every_arm_trains_and_what_is_frozen_stays(page):
    for name, how in page["ARMS"].items():
        start = page["align"](page["code"], page["heard"]["train"], 0, share=0.004,
                              **{key: how[key] for key in ("encoder", "width", "aligned") if key in how})
        before = {key: value.clone() for key, value in start.encoders.named_parameters()}
        losses = page["learn"](start, page["code"], page["heard"]["train"], 0, share=0.001,
                               **{key: how[key] for key in ("aligned", "frozen", "places", "blind", "muon") if key in how})
        assert len(losses) == round(0.001 * page["STEPS"]) and all(0 < loss < 10 for loss in losses)
        moved = any(not torch.equal(before[key], value) for key, value in start.encoders.named_parameters())
        assert moved == (not how.get("frozen", True)), name
        if not how.get("places", True):
            assert not any(projector.p.any() for projector in start.projectors.values())


def test_the_record_is_about_this_page_and_complete(made, page):
    found = record("vlm")
    assert found["fingerprint"] == page["fingerprint"]() and list(found["arms"]) == list(page["ARMS"])
    for name, runs in found["arms"].items():
        assert len(runs) == made.SEEDS, name
        for run in runs:
            assert list(run["scores"]) == list(page["SETS"])
            assert all(list(scores) == list(page["KINDS"]) for scores in run["scores"].values())


def test_the_script_makes_only_what_is_missing(made, page, tmp_path, monkeypatch):
    calls = []

    def run(page, name, seed, share):
        calls.append((name, seed))
        return {"seconds": 0, "scores": {}}

    monkeypatch.setattr(made, "training_cells", lambda place: page)
    monkeypatch.setattr(made, "run", run)
    path = tmp_path / "vlm.json"
    made.make(path, [], share=0.004)
    name = list(page["ARMS"])[1]
    assert len(calls) == len(set(calls)) == made.SEEDS * len(page["ARMS"])
    found = json.loads(path.read_text("utf-8"))
    assert [len(found["ears"][change]) for change in ("vary", "masked")] == [made.SEEDS] * 2
    found["arms"][name].pop()
    path.write_text(json.dumps(found), "utf-8")
    calls.clear()
    made.make(path, [])
    assert calls == [(name, made.SEEDS - 1)]


@pytest.mark.slow
def test_the_checkpoint_scores_what_its_record_says(page):
    found = record("smol_vlm")
    assert found["fingerprint"] == page["smol_fingerprint"]() and len(found["losses"]) == found["steps"]
    smol, chat = page["from_smol"](0)
    page["adapt"](smol)
    state = load(shipped.read("checkpoints", "smol_vlm.safetensors"))
    page["restore"](smol, state)
    lora.merge(smol.language)
    for name in ("测试", "换了措辞", "旁人的措辞"):
        asked, images, mel = page["smol_papers"]()[name]
        some = [item for kind in page["KINDS"] for item in [i for i in asked if i.kind == kind][:10]]
        scores = page["score"](smol, chat, some, images, mel)
        expected = found["scores"][name]
        assert sum(scores.values()) / len(scores) > sum(expected.values()) / len(expected) - 0.12
    with pytest.raises(AssertionError, match="对不上"):
        page["restore"](smol, dict(list(state.items())[1:]))


@pytest.mark.slow
def test_the_script_of_the_checkpoint_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    smol = script("make_checkpoints")
    page = smol.training_cells(smol.PAGE)
    page["SMOL_SCENES"], page["SMOL_ALIGN"] = 60, 2
    papers = page["papers"](96, 40, 1)
    page["smol_papers"] = lambda: papers
    monkeypatch.setattr(smol, "training_cells", lambda place: page)
    monkeypatch.setattr(smol, "EVERY", 1)

    def make(name: str, blind_steps: int = 0) -> tuple[bytes, dict]:
        folder = tmp_path / name
        smol.make(folder, folder / "smol.json", folder / "runs", 3, blind_steps, 0)
        return (folder / "smol_vlm.safetensors").read_bytes(), json.loads((folder / "smol.json").read_text("utf-8"))

    whole, found = make("whole", 1)
    assert len(found["losses"]) == 3 and len(found["blind"]["losses"]) == 1
    batch_of, read = page["batch_of"], []

    def interrupted(*given):
        read.append(given)
        if len(read) == 3:
            raise InterruptedError
        return batch_of(*given)

    page["batch_of"] = interrupted
    with pytest.raises(InterruptedError):
        make("stopped")
    begun = len(read)
    again, later = make("stopped")
    assert begun == 3 and len(read) == 4, "the steps before the interruption were taken again"
    assert again == whole and later["losses"] == found["losses"] and later["scores"] == found["scores"]
    state = load(whole)
    shipped_names = load(shipped.read("checkpoints", "smol_vlm.safetensors")).keys()
    assert state.keys() == shipped_names and all(value.dtype != torch.float32 for value in state.values())
