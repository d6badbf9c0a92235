"""The emoji set: what is shipped, its splits, compositing, damaged files, and that it can be made again."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.datasets import emoji, shipped
from src.runtime import data_dir

PACKAGES = os.environ.get("EMOJI_NODE_MODULES")


@pytest.fixture(scope="module")
def found() -> emoji.Emoji:
    return emoji.load()


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped files that a test may spoil."""
    shutil.copytree(data_dir() / "emoji", tmp_path / "data" / "emoji")
    monkeypatch.setattr(shipped, "data_dir", lambda: tmp_path / "data")
    return tmp_path / "data" / "emoji"


def test_contents(found):
    assert len(found) == 1643 and set(found.images) == {"noto", "twemoji", "openmoji"}
    for pictures in found.images.values():
        assert pictures.dtype == torch.uint8 and pictures.shape == (1643, 4, 64, 64)
        assert (pictures[:, 3] > 0).float().mean((1, 2)).min() > 0.03
        assert (pictures[:, :3] * (pictures[:, 3:] == 0)).max() == 0


def test_records(found):
    cat = found.concepts[int(found.find("1F431")[0])]
    assert (cat.zh, cat.en, cat.character, cat.group, cat.subgroup) == (
        "猫脸", "cat face", "🐱", "animals-nature", "animal-mammal")  # fmt: skip
    assert "宠物" in cat.zh_tags and "pet" in cat.en_tags
    for names in ({c.codepoint for c in found.concepts}, {c.zh for c in found.concepts}, {c.en for c in found.concepts}):
        assert len(names) == 1643
    assert not {"country-flag", "subdivision-flag", "skin-tone"} & {c.subgroup for c in found.concepts}
    assert all(c.zh_tags and c.en_tags for c in found.concepts)


def test_styles_show_the_same_things_differently(found):
    """A concept's silhouettes agree better across styles than those of strangers do."""
    shapes = {style: (pictures[:, 3] > 127).flatten(1).float() for style, pictures in found.images.items()}
    both = (shapes["noto"] * shapes["twemoji"]).sum(1) / (shapes["noto"] + shapes["twemoji"]).clamp(max=1).sum(1)
    other = shapes["twemoji"].roll(500, 0)
    strangers = (shapes["noto"] * other).sum(1) / (shapes["noto"] + other).clamp(max=1).sum(1)
    assert both.mean() > strangers.mean() + 0.15 and not torch.equal(shapes["noto"], shapes["twemoji"])


def test_one_style_can_be_loaded_alone(found):
    alone = emoji.load(["openmoji"])
    assert set(alone.images) == {"openmoji"} and torch.equal(alone.images["openmoji"], found.images["openmoji"])


@pytest.mark.parametrize("styles", [[], ["apple"], ["noto", "apple"]])
def test_unknown_styles(styles):
    with pytest.raises(ValueError, match="styles must be some of noto, twemoji, openmoji"):
        emoji.load(styles)


def test_unknown_codepoint(found):
    with pytest.raises(ValueError, match="codepoints 1F1E8-1F1F3 are not in the set"):
        found.find("1F431", "1F1E8-1F1F3")


def test_concepts_are_split_by_their_code_points(found):
    seen, unseen = emoji.split_concepts(found.concepts)
    assert sorted(torch.cat([seen, unseen]).tolist()) == list(range(1643)) and 130 < len(unseen) < 200
    held = {found.concepts[row].codepoint for row in unseen.tolist()}
    backwards = found.concepts[::-1]
    again = emoji.split_concepts(backwards)[1]
    assert {backwards[row].codepoint for row in again.tolist()} == held
    assert hashlib.sha256(" ".join(sorted(held)).encode()).hexdigest()[:8] == "7b0465a0"
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1"):
        emoji.split_concepts(found.concepts, 1.0)


def test_styles_are_split_by_artist():
    assert emoji.split_styles() == (("noto", "twemoji"), "openmoji")
    assert emoji.split_styles("noto") == (("twemoji", "openmoji"), "noto")
    with pytest.raises(ValueError, match="unseen must be one of"):
        emoji.split_styles("apple")


def test_over_agrees_with_pillow(found):
    from PIL import Image

    random = torch.Generator().manual_seed(0)
    background = torch.randint(0, 256, (3, 64, 64), generator=random, dtype=torch.uint8)
    for row in (0, 500, 1200):
        picture = found.images["noto"][row]
        canvas = Image.fromarray(background.permute(1, 2, 0).numpy()).convert("RGBA")
        canvas.alpha_composite(Image.fromarray(picture.permute(1, 2, 0).numpy()))
        expected = torch.tensor(list(canvas.convert("RGB").tobytes())).view(64, 64, 3).permute(2, 0, 1)
        assert (emoji.over(picture, background).int() - expected).abs().max() <= 1


def test_over_a_colour(found):
    pictures = found.images["twemoji"][:5]
    drawn = emoji.over(pictures, (10, 20, 30))
    assert drawn.shape == (5, 3, 64, 64) and drawn.dtype == torch.uint8
    empty = (pictures[:, 3:] == 0).expand_as(drawn)
    assert torch.equal(drawn[empty], torch.tensor([10, 20, 30]).view(3, 1, 1).expand_as(drawn)[empty].to(torch.uint8))
    assert (emoji.over(pictures)[empty] == 255).all()
    with pytest.raises(ValueError, match="pictures must be uint8"):
        emoji.over(pictures[:, :3])


@pytest.mark.parametrize("name", ["noto.webp", "emoji.json"])
def test_damaged_and_missing_files(copied, name):
    path = copied / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{name} is damaged .*git checkout -- data/emoji"):
        emoji.load()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing: get it back with 'git checkout"):
        emoji.load()


def test_missing_manifest(copied):
    (copied / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="manifest.json is missing"):
        emoji.load()


@pytest.mark.skipif(not PACKAGES, reason="set EMOJI_NODE_MODULES to the node_modules folder of data/package.json")
def test_making_it_again_gives_the_same_bytes(tmp_path):
    pytest.importorskip("resvg_py", reason="pip install -r data/requirements.txt")
    script = data_dir() / "make_emoji.py"
    subprocess.run([sys.executable, script, PACKAGES, "--output", tmp_path], check=True)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (data_dir() / "emoji" / path.name).read_bytes(), path.name
