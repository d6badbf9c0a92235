"""Videos: the same every time, exact events, moods by redundant cues, held-out compositions, answers not guessable."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

import pytest
import torch

from src.datasets import videos
from src.datasets.phrasings import SEEN
from src.datasets.splits import SPLITS
from src.datasets.things import THINGS, drawings
from src.datasets.video_language import KINDS, captions, questions
from src.datasets.video_wordings import CAPTIONS, DIRECTIONS, MOOD_NAMES, QUESTIONS, VERBS
from src.datasets.videos import APPEAR, EVENTS, FRAMES, MOODS, STAY, VANISH, Videos
from tests.datasets.blind import assert_blind

DIGEST = "130b59d9"


@pytest.fixture(scope="module")
def drawn() -> dict[str, Videos]:
    return {split: videos.draw(split, 150) for split in SPLITS}


def planned(split: str, count: int, agreement: float = 1.0) -> Videos:
    """Annotations of many videos that are not painted: frames and boxes are empty."""
    random = torch.Generator().manual_seed(11)
    plans = [videos.make_plan(random, split, 8, 64, torch.arange(3), agreement) for _ in range(count // videos.BLOCK)]
    empty = torch.empty(count, 0)
    columns = {name: torch.cat([getattr(plan, name) for plan in plans])
               for name in ("things", "events", "manners", "times", "moods", "cues", "styles")}
    return Videos(frames=empty, boxes=empty, **columns)


@pytest.fixture(scope="module")
def many() -> dict[str, Videos]:
    return {"train": planned("train", 14_000), "test": planned("test", 24_000)}


def test_shapes_and_ranges(drawn):
    for found in drawn.values():
        assert found.frames.shape == (150, 8, 3, 64, 64) and found.frames.dtype == torch.uint8 and len(found) == 150
        assert found.boxes.shape == (150, 8, 3, 4) and found.boxes.max() <= 64
        here = found.things >= 0
        assert torch.equal(here, found.events >= 0) and torch.equal(here, found.manners >= 0)
        assert set(here.sum(1).tolist()) == {1, 2, 3} and set(found.moods.tolist()) == {0, 1, 2, 3}
        timed = (found.events == APPEAR) | (found.events == VANISH)
        assert torch.equal(timed, found.times >= 0) and found.times[timed].min() >= 1 and found.times.max() <= 6
        assert all(len(set(row)) == len(row) for row in ([t for t in r if t >= 0] for r in found.things.tolist()))


@pytest.mark.parametrize("frames", [8, 11, 16])
def test_boxes_do_what_the_events_say(frames):
    found = videos.draw("train", 100, seed=4, frames=frames)
    assert found.frames.shape[1] == frames
    for item, place in (found.things >= 0).nonzero().tolist():
        event, manner, time = (int(part[item, place]) for part in (found.events, found.manners, found.times))
        boxes = found.boxes[item, :, place]
        seen = (boxes >= 0).all(1)
        expected = torch.arange(frames) >= time if event == APPEAR else torch.arange(frames) < (
            time if event == VANISH else frames)
        assert torch.equal(seen, expected)
        centre = (boxes[seen][:, :2] + boxes[seen][:, 2:]) / 2
        if event >= APPEAR:
            assert (centre == centre[0]).all() and (float(centre[0, 0]) > 32) == bool(manner)
        else:
            steps = centre.diff(dim=0) @ videos.STEPS[event].float()
            assert (steps >= 0).all() and float(steps.sum()) == (32 if manner else 10)
            assert (centre.diff(dim=0) @ videos.STEPS[event].float().flip(0) == 0).all()


def test_boxes_agree_with_the_pixels():
    """Without the last thing each frame differs inside its box only, and in every frame that has one."""
    plan = videos.make_plan(torch.Generator().manual_seed(3), "train", 8, 64, torch.arange(3), 1.0)
    last = (plan.things >= 0).sum(1, keepdim=True) - 1
    without = videos.Plan(**vars(plan) | {"things": plan.things.clone().scatter_(1, last, -1)})
    pictures = [videos.paint(torch.Generator().manual_seed(9), each, 64) for each in (plan, without)]
    differs, boxes = (pictures[0] != pictures[1]).any(2), videos._boxes(plan, 64)  # [B, F, S, S], [B, F, 3, 4]
    shares = []
    for item, frame in torch.cartesian_prod(torch.arange(videos.BLOCK), torch.arange(8)).tolist():
        x0, y0, x1, y1 = boxes[item, frame, int(last[item])].long().tolist()
        changed = differs[item, frame]
        assert x0 < 0 and not changed.any() or x0 >= 0 and changed.sum() == changed[y0:y1, x0:x1].sum() > 0
        shares += [float(changed[y0:y1, x0:x1].float().mean())] if x0 >= 0 else []
    assert sum(shares) / len(shares) > 0.4


def test_things_and_face_stay_apart():
    random, hidden = torch.Generator().manual_seed(0), []
    for _ in range(10):
        plan = videos.make_plan(random, "train", 8, 64, torch.arange(3), 1.0)
        here = torch.cat([plan.things >= 0, torch.ones(videos.BLOCK, 1, dtype=torch.bool)], dim=1)
        gap = (plan.path[:, :, None] - plan.path[:, None]).abs().amax(-1).amin(-1) / 16  # [B, 4, 4]
        apart = ~(here[:, :, None] & here[:, None]) | torch.eye(4, dtype=torch.bool)
        hidden.append(gap.where(~apart, torch.inf).flatten(1).amin(1))
        assert plan.path.min() >= 0 and plan.path.max() <= 64 - 16
    assert torch.cat(hidden).min() >= 0.4 and (torch.cat(hidden) < 0.9).float().mean() < 0.1


def test_the_same_every_time_with_any_number_of_threads(drawn):
    threads = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            again = videos.draw("train", 60)
            for name, part in vars(again).items():
                assert torch.equal(part, getattr(drawn["train"], name)[:60]), name
    finally:
        torch.set_num_threads(threads)
    names = ("things", "events", "manners", "times", "cues", "moods", "styles")
    parts = (getattr(drawn["test"], name) for name in names)
    assert hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:8] == DIGEST
    assert not torch.equal(videos.draw("train", 20, seed=1).frames, drawn["train"].frames[:20])


def test_compositions_are_split_for_good(drawn, many):
    table = videos.motion_splits()
    assert [int((table == split).sum()) for split in range(3)] == [439, 55, 66]
    assert (table == 0).any(2).all()
    for found in (many["train"], drawn["train"]):
        assert all(table[row] == 0 for row in videos.compositions(found))
    assert len(videos.compositions(many["train"])) == 439
    for split, found in (("test", many["test"]), ("test", drawn["test"]), ("validation", drawn["validation"])):
        assert {int(table[row]) for row in videos.compositions(found)} == {0, SPLITS.index(split)}
        first = table[found.things[:, 0], found.events[:, 0], found.manners[:, 0]]
        assert (first == SPLITS.index(split)).all()


def test_each_cue_agrees_with_the_mood_as_often_as_asked():
    for agreement in (0.0, 0.7, 1.0):
        found = planned("train", 3000, agreement)
        agrees = (found.cues == found.moods[:, None]).float()
        assert (agrees.mean(0) - agreement).abs().max() < 0.03
        if agreement == 0.7:
            assert torch.corrcoef(agrees.T).fill_diagonal_(0).abs().max() < 0.06
            strangers = (found.cues - found.moods[:, None])[agrees == 0] % 4
            assert (strangers.bincount(minlength=4)[1:] / len(strangers) - 1 / 3).abs().max() < 0.04


@pytest.mark.parametrize("cue", range(3))
def test_each_cue_can_be_seen(cue):
    """Changing one cue alone changes the pixels, the colour everywhere, the other two around the face only."""
    plan = videos.make_plan(torch.Generator().manual_seed(2), "train", 8, 64, torch.arange(3), 1.0)
    cues, others = plan.cues.clone(), {}
    cues[:, cue] = (cues[:, cue] + 1) % 4
    if cue == 0:
        others = {"faces": 2 * cues[:, 0]}
    if cue == 2:
        moved = plan.path.clone()
        moved[:, -1] += (videos._gestures(8)[cues[:, 2]] - videos._gestures(8)[plan.cues[:, 2]])
        others = {"path": moved}
    changed = videos.Plan(**vars(plan) | {"cues": cues} | others)
    before, after = (videos.paint(torch.Generator().manual_seed(1), each, 64).float() for each in (plan, changed))
    share = (before != after).any(2).float().mean((1, 2, 3))
    assert share.min() > (0.5 if cue == 1 else 0.005) and (share.max() < 0.12 or cue == 1)


def test_moods_have_their_colours(drawn):
    tints = videos.COLOURS - videos.COLOURS.mean(1, keepdim=True)
    for mood in range(len(MOODS)):
        mean = drawn["train"].frames[drawn["train"].moods == mood].float().mean((0, 1, 3, 4))
        assert int(torch.cosine_similarity(mean - mean.mean(), tints).argmax()) == mood


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("held_out", [False, True])
def test_captions_tell_everything_and_nothing_else(drawn, language, held_out):
    found = drawn["test"]
    names = {thing.name(language): row for row, thing in enumerate(THINGS)}
    verbs = {verb: (event, manner) for event, both in enumerate(VERBS[language]) for manner, verb in enumerate(both)}
    longest = {kind: "|".join(sorted(words, key=len, reverse=True)) for kind, words in (("x", names), ("verb", verbs))}
    between = "" if language == "zh" else " (?:that )?"
    for item, text in enumerate(captions(found, language, held_out)):
        told = re.findall(f"({longest['x']}){between}({longest['verb']})", text[0].lower() + text[1:])
        here = found.things[item] >= 0
        shown = zip(*(part[item][here].tolist() for part in (found.things, found.events, found.manners)), strict=True)
        assert [(names[x], *verbs[verb]) for x, verb in told] == list(shown), text
        faces = [mood for mood, name in enumerate(MOOD_NAMES[language]) if name in text.lower()]
        assert faces == [int(found.cues[item, 0])] and "{" not in text


def test_held_out_wordings_are_others(many):
    few = Videos(*(part[:3000] for part in vars(many["train"]).values()))
    for language in ("zh", "en"):
        for wordings in (CAPTIONS[language], *QUESTIONS[language].values()):
            assert len(set(wordings)) == len(wordings) >= SEEN + 2
        seen, unseen = (questions(few, language=language, held_out=held_out) for held_out in (False, True))
        assert {q.phrasing for q in seen} == set(range(SEEN)) and {q.phrasing for q in unseen} == {SEEN, SEEN + 1}
        assert not {q.text for q in seen} & {q.text for q in unseen}
        assert not set(captions(few, language)) & set(captions(few, language, True))


def sighted(found: Videos, item: int, kind: str, text: str, language: str) -> str:
    """The answer from what is to be seen: boxes in the frames and the background's colour, not from the events."""
    zh, boxes = language == "zh", found.boxes[item]
    names = [THINGS[row].name(language) for row in found.things[item].tolist() if row >= 0]
    seen = (boxes >= 0).all(-1)  # [F, 3]
    changes = {name: int(seen[:, place].int().diff().abs().argmax()) for place, name in enumerate(names)
               if len(seen[:, place].unique()) == 2}
    if kind == "count":
        return str(int(seen[-1].sum()))
    if kind in ("appears", "vanishes"):
        return next(name for name in changes if seen[-1, names.index(name)] == (kind == "appears"))
    if kind == "mood":
        return MOOD_NAMES[language][int(found.cues[item].mode().values)]
    told = sorted((name for name in names if re.search(rf"{name}(?![a-z])", text)), key=text.index)
    told = [name for name in told if not any(name != other and name in other for other in told)]
    if kind == "direction":
        place = names.index(told[0])
        x, y = (boxes[-1, place, :2] - boxes[0, place, :2]).tolist()
        return DIRECTIONS[language][(x > 0) if abs(x) > abs(y) else 2 + (y > 0)]
    first, second = reversed(told) if "only after" in text else told
    return (("是" if zh else "yes") if changes[first] < changes[second] else ("否" if zh else "no"))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_answers_follow_from_what_is_to_be_seen(language):
    found, kinds = videos.draw("test", 500, seed=3), set()
    for held_out in (False, True):
        for question in questions(found, language=language, held_out=held_out):
            assert sighted(found, question.item, question.kind, question.text, language) == question.answer, question
            kinds.add(question.kind)
    assert kinds == set(KINDS)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_blind_guesser_gains_nothing(many, language):
    found = {split: questions(many[split], language=language) for split in many}
    for asked in found.values():
        for kind in KINDS:
            counts = Counter(question.answer for question in asked if question.kind == kind)
            assert len(set(counts.values())) == 1, kind
            assert len(counts) == {"appears": 40, "vanishes": 40, "order": 2}.get(kind, 4)
    assert_blind(found["train"], found["test"])


def test_the_mood_is_asked_for_only_where_all_cues_agree():
    found = planned("train", 500, 0.7)
    for question in questions(found, ["mood"], "en"):
        assert {MOODS[cue] for cue in found.cues[question.item].tolist()} == {question.answer}


def test_questions_repeat(many):
    few = Videos(*(part[:500] for part in vars(many["train"]).values()))
    first, again, other = (questions(few, ["direction", "count"], seed=seed) for seed in (0, 0, 1))
    assert first == again != other and {question.kind for question in first} == {"direction", "count"}
    assert captions(few) == captions(few) != captions(few, seed=1)


def test_faces_are_drawn_in_every_style():
    codes = tuple(code for mood in videos.FACES for code in mood)
    assert drawings(16, codes).patches.shape == (3, 8, 4, 16, 16)
    assert len(videos.FACES) == len(MOODS) == len(videos.COLOURS)
    assert len(EVENTS) == len(videos.STEPS) == STAY + 1 and FRAMES == (8, 16)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"count": 0}, "count must be at least 1, got 0"),
    ({"size": 40}, "size must be at least 48 pixels, got 40"),
    ({"frames": 7}, "frames must lie between 8 and 16, got 7"),
    ({"frames": 17}, "frames must lie between 8 and 16, got 17"),
    ({"split": "dev"}, "split must be one of train, validation, test, got 'dev'"),
    ({"styles": ["apple"]}, "styles must be some of noto, twemoji, openmoji, got apple"),
    ({"agreement": 1.1}, "agreement must be a probability from 0 to 1, got 1.1"),
])
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        videos.draw(**({"split": "train", "count": 1} | arguments))


def test_bad_language_and_kind():
    one = videos.draw("train", 1, size=48)
    for ask in (captions, questions):
        with pytest.raises(ValueError, match="language must be one of zh, en, got 'fr'"):
            ask(one, language="fr")
    with pytest.raises(ValueError, match="kinds must be one of direction, appears, .* got 'why'"):
        questions(one, ["why"])
