"""The training loop: the same numbers after an interruption, on every device, and nothing lost when something fails."""

import os
import statistics
from types import SimpleNamespace

import pytest
import torch

from src.metrics import confusion_matrix, mean_sd, per_class_accuracy
from src.models.resnet import ResNet
from src.training import (
    PictureBatches,
    Recipe,
    evaluate,
    fit,
    load_checkpoint,
    one_cycle,
    predict,
    recipe_for,
    save_checkpoint,
)

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.05)


def pictures(count: int = 64, size: int = 8, seed: int = 0) -> SimpleNamespace:
    """Two classes that differ in which half is bright."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    images = torch.randint(0, 128, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    images[labels == 1, :, : size // 2] += 100
    return SimpleNamespace(images=images, labels=labels)


def network(seed: int = 0, device: str = "cpu") -> ResNet:
    torch.manual_seed(seed)
    return ResNet((1, 1), (8, 16), classes=2).to(device)


def batches(device: str = "cpu", size: int = 16) -> PictureBatches:
    return PictureBatches(pictures(), size, shift=1, flip=True, shuffle=True, seed=1, device=device)


def validation(device: str = "cpu"):
    held_out = PictureBatches(pictures(32, seed=9), 32, device=device)
    return lambda model: evaluate(model, held_out)


def train(recipe: Recipe = RECIPE, device: str = "cpu", **options):
    model = network(device=device)
    history = fit(model, batches(device), recipe, validate=validation(device), progress=False, **options)
    return model, history


# batches


def test_batches_without_augmentation_are_the_normalised_pictures():
    data = pictures(10)
    x, y = next(iter(PictureBatches(data, 10).epoch(0)))
    mean = torch.tensor(PictureBatches.MEAN).view(3, 1, 1)
    std = torch.tensor(PictureBatches.STD).view(3, 1, 1)
    torch.testing.assert_close(x, (data.images.float() - mean) / std)
    assert torch.equal(y, data.labels)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_augmented_picture_is_a_shift_with_mirrored_border_or_its_mirror():
    data = SimpleNamespace(images=torch.arange(75, dtype=torch.uint8).view(1, 3, 5, 5), labels=torch.zeros(1).long())
    padded = torch.nn.functional.pad(data.images.float(), (1,) * 4, mode="reflect")
    crops = [padded[0, :, i : i + 5, j : j + 5] for i in range(3) for j in range(3)]
    allowed = {tuple(c.flatten().tolist()) for c in crops} | {tuple(c.flip(2).flatten().tolist()) for c in crops}
    one = PictureBatches(data, 1, shift=1, flip=True, shuffle=True)
    one.mean, one.scale = torch.zeros(3), torch.ones(3)
    seen = {tuple(next(iter(one.epoch(e)))[0].flatten().tolist()) for e in range(200)}
    assert seen == allowed


def test_an_epoch_takes_each_picture_once_and_epochs_differ():
    numbered = SimpleNamespace(images=torch.zeros(20, 3, 4, 4, dtype=torch.uint8), labels=torch.arange(20))
    loader = PictureBatches(numbered, 5, shuffle=True)
    first, again, second = ([y for _, y in loader.epoch(e)] for e in (0, 0, 1))
    assert sorted(torch.cat(first).tolist()) == list(range(20))
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert not torch.equal(torch.cat(first), torch.cat(second))


@pytest.mark.parametrize(
    ("count", "shuffle", "message"), [(0, False, "pictures: got 0"), (4, True, "batch_size: got 5")]
)
def test_batches_refuse_an_empty_epoch(count, shuffle, message):
    with pytest.raises(ValueError, match=message):
        PictureBatches(pictures(count), 5, shuffle=shuffle)


# the loop


def test_one_cycle():
    assert [one_cycle(p, 0.25) for p in (0, 0.125, 0.25, 0.625, 1)] == [0, 0.5, 1, 0.5, 0]


@pytest.mark.parametrize("device", DEVICES)
def test_training_learns_and_keeps_the_best_weights(device):
    model, history = train(device=device)
    assert history["loss"][-1] < history["loss"][0]
    assert history.best()["val_accuracy"] == validation(device)(model)["accuracy"] > 0.9


def test_best_weights_are_a_copy():
    scripted = iter([0.9, 0.1, 0.1])
    model, snapshots = network(), []

    def validate(m):
        snapshots.append({k: v.clone() for k, v in m.state_dict().items()})
        return {"accuracy": next(scripted)}

    fit(model, batches(), RECIPE, validate=validate, progress=False)
    for name, value in model.state_dict().items():
        assert torch.equal(value, snapshots[0][name]), name


def test_same_seed_same_training():
    (a, x), (b, y) = train(), train()
    assert x["loss"] == y["loss"]
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole, expected = train()

    calls = []

    def interrupt(model):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validation()(model)

    with pytest.raises(KeyboardInterrupt):
        fit(network(), batches(), RECIPE, validate=interrupt, folder=tmp_path, progress=False)
    load_checkpoint(tmp_path / "best.pt", network())  # the best of the finished epochs is on the disk
    model = network(seed=5)
    history = fit(model, batches(), RECIPE, validate=validation(), folder=tmp_path, resume=True, progress=False)
    assert history["loss"] == expected["loss"]
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), model.parameters(), strict=True))


def test_time_bound_stops_the_training():
    _, history = train(Recipe(seconds=0.5, batch_size=16))
    assert 0.5 <= history["seconds"][-1] < 5
    assert history["learning_rate"][-1] < 0.2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("device", DEVICES)
def test_low_precision_learns_too(precision, device):
    recipe = Recipe(epochs=3, batch_size=16, learning_rate=0.05, precision=precision)
    model, _ = train(recipe, device)
    assert validation(device)(model)["accuracy"] > 0.9
    assert next(model.parameters()).dtype == torch.float32


def test_compiled_training_gives_the_same_losses(monkeypatch):
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda m: real(m, backend="aot_eager", fullgraph=True))
    _, plain = train()
    _, compiled = train(Recipe(epochs=3, batch_size=16, learning_rate=0.05, compile=True))
    assert compiled["loss"] == pytest.approx(plain["loss"], rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_gets_the_losses_of_the_cpu():
    (_, cpu), (_, gpu) = train(), train(device="cuda")
    assert gpu["loss"] == pytest.approx(cpu["loss"], rel=2e-2)


def test_recipe_for_changes_fields():
    assert recipe_for("cpu", epochs=2).epochs == 2
    assert recipe_for("cpu").compile is False


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"precision": "int8"}, "precision: got 'int8'"),
        ({"epochs": 0}, "epochs, batch_size: got 0"),
        ({"warmup": 1}, "warmup: got 1"),
    ],
)
def test_recipe_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**wrong)


def test_not_a_number_is_an_error_and_checkpoints_remain(tmp_path):
    train(folder=tmp_path)
    before = (tmp_path / "best.pt").read_bytes()
    with pytest.raises(FloatingPointError, match="loss: got nan"):
        train(loss=lambda outputs, targets, **_: outputs.sum() * float("nan"), folder=tmp_path)
    assert (tmp_path / "best.pt").read_bytes() == before


# prediction


def test_predict_covers_the_set_in_order_and_leaves_the_mode():
    data, model = pictures(21), network()
    model.train()
    logits, targets = predict(model, PictureBatches(data, 8))
    assert model.training
    assert torch.equal(targets, data.labels)
    model.eval()
    x, _ = next(iter(PictureBatches(data, 21).epoch()))
    torch.testing.assert_close(logits, model(x), rtol=1e-4, atol=1e-5)
    mirrored, _ = predict(model, PictureBatches(data, 8), mirrored=True)
    torch.testing.assert_close(mirrored, model(x) + model(x.flip(3)), rtol=1e-4, atol=1e-5)


# checkpoints


def test_checkpoint_of_another_architecture_is_refused(tmp_path):
    save_checkpoint(tmp_path / "a.pt", network().state_dict())
    other = ResNet((1, 1), (8, 32), classes=2)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"another architecture .*fc.weight is \(2, 16\) in the file, \(2, 32\)"):
        load_checkpoint(tmp_path / "a.pt", other)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


@pytest.mark.parametrize("cut", [0, 100, -100])
def test_truncated_checkpoint_is_refused(tmp_path, cut):
    path = tmp_path / "a.pt"
    save_checkpoint(path, network().state_dict())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="damaged"):
        load_checkpoint(path, network())


def test_a_changed_byte_in_a_tensor_is_noticed(tmp_path):
    path, weights = tmp_path / "a.pt", network().state_dict()
    save_checkpoint(path, weights)
    data = bytearray(path.read_bytes())
    largest = max(weights.values(), key=torch.Tensor.numel)
    place = data.find(largest.numpy().tobytes())
    assert place > 0
    data[place + 5] ^= 1
    path.write_bytes(data)
    torch.load(path, weights_only=True)
    with pytest.raises(ValueError, match="damaged .its checksum differs"):
        load_checkpoint(path, network())


class Evil:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_pickled_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "evil.pt", network())
    assert not (tmp_path / "unpickled").exists()


def test_foreign_and_missing_files_are_refused(tmp_path):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "foreign.pt")
    with pytest.raises(ValueError, match="not a checkpoint of format 2"):
        load_checkpoint(tmp_path / "foreign.pt", network())
    with pytest.raises(FileNotFoundError, match="does not exist; train with folder="):
        load_checkpoint(tmp_path / "none.pt", network())


def test_full_disk_leaves_the_old_checkpoint_and_no_half_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    save_checkpoint(path, network().state_dict())
    before = path.read_bytes()

    def full(state, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, network(1).state_dict())
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"), [({}, "resume: got True without folder"), ({"folder": "x"}, "cannot be resumed")]
)
def test_resume_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        train(Recipe(seconds=1), resume=True, **options)


# metrics


def test_confusion_matrix_is_scikit_learns():
    from sklearn.metrics import confusion_matrix as reference
    from sklearn.metrics import recall_score

    y, p = torch.randint(0, 5, (2, 300))
    ours = confusion_matrix(y, p, 5)
    assert ours.tolist() == reference(y, p).tolist()
    torch.testing.assert_close(
        per_class_accuracy(ours).double(), torch.tensor(recall_score(y, p, average=None)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([0, 5], [0, 1], "targets: got 0 … 5"),
        ([0, 1], [0, -1], "predictions: got -1"),
        ([0], [0, 1], "predictions: got"),
    ],
)
def test_confusion_matrix_refuses(y, p, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(torch.tensor(y), torch.tensor(p), 5)


def test_mean_and_sd_are_those_of_statistics():
    values = [0.1, 0.4, 0.75]
    for given in (values, torch.tensor(values, dtype=torch.float64), [torch.tensor(v, dtype=torch.float64) for v in values]):
        assert mean_sd(given) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
    with pytest.raises(ValueError, match="values: got 1, expected at least two"):
        mean_sd([0.5])
