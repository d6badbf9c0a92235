"""src.runtime: what is printed as measured, devices, seeds, places, safe writing."""

import builtins
import errno
import random
import re

import numpy as np
import pytest
import torch

from src import runtime
from src.runtime import approx, atomic_write, cache_dir, check_finite, data_dir, pick_device, root, set_seed, timer
from tools.notebooks import fold


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.874,), "≈0.87"),
        ((12.34, 1, " s"), "≈12.3 s"),
        ((17234.4, 0), "≈17234"),
        ((-0.5, 1), "≈-0.5"),
        (((0.8123, 0.0041), 3), "≈0.812 ± 0.004"),
        (("cpu",), "≈「cpu」"),
        ((torch.tensor([0.25]),), "≈0.25"),
        ((np.float32(2),), "≈2.00"),
    ],
)
def test_approx_text(arguments, text):
    assert approx(*arguments) == text


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), (1.0, float("nan")), (1.0, 2.0, 3.0), "", "a\nb", "「」"]
)
def test_approx_refuses_what_the_fold_would_hide(value):
    with pytest.raises(ValueError, match="value: got"):
        approx(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (approx(0.87), approx(10.91)),
        (approx(-0.5), approx(0.5)),
        (approx((0.8, 0.1), 3), approx((0.7, 12.0), 3)),
        (approx("cpu"), approx("cuda")),
        (f"| {approx(1.5):>9} | 3 |", f"| {approx(100.25):>9} | 3 |"),
        (f"name{approx(9.5):>8}\n----  -----", f"name{approx(10.5):>8}\n----  ------"),
        (f"<td>{approx(1)}</td>", f"<td>{approx(2)}</td>"),
    ],
)
def test_measured_results_fold_to_the_same(one, other):
    assert one != other and fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.87", "0.91"),
        (approx(12.3, 1, " s"), approx(12.3, 1, " ms")),
        (approx(0.87) + " 3", approx(0.87) + " 4"),
        (approx(0.87), "0.87"),
        (approx(0.87), approx((0.87, 0.01))),
        (approx("cpu") + "1", approx("cpu") + "2"),
        ("a≈", "a"),
    ],
)
def test_everything_else_is_compared(one, other):
    assert fold(one) != fold(other)


def test_pick_device_takes_what_is_there():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "CPU"])
def test_pick_device_says_what_there_is(name):
    with pytest.raises(ValueError, match=rf"device: got {name!r}, but this machine has cpu"):
        pick_device(name)


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_set_seed_repeats_every_source():
    generators = []
    results = []
    for seed in (7, 7, 8):
        generators.append(torch.rand(3, generator=set_seed(seed)))
        results.append(draws())
    assert results[0] == results[1] and torch.equal(generators[0], generators[1])
    assert not any(a == b for a, b in zip(results[0], results[2], strict=True))
    assert not torch.equal(generators[0], generators[2])


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "1", None])
def test_set_seed_names_the_argument(seed):
    with pytest.raises(ValueError, match=re.escape(f"seed: got {seed!r}")):
        set_seed(seed)


def test_places(monkeypatch, tmp_path):
    assert (root() / "src" / "runtime.py").samefile(runtime.__file__)
    assert data_dir() == root() / "data"
    wanted = tmp_path / "new" / "cache"
    monkeypatch.setenv(runtime.CACHE_VARIABLE, str(wanted))
    assert not wanted.exists()
    assert cache_dir() == wanted and wanted.is_dir()
    monkeypatch.delenv(runtime.CACHE_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "multimodal-book"


def test_data_dir_without_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "root", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="install it from a clone"):
        data_dir()


def test_atomic_write_replaces(tmp_path):
    path = tmp_path / "folder" / "data.txt"
    for text in ("one", "two"):
        with atomic_write(path) as temporary:
            assert temporary.suffix == ".txt" and temporary.parent == path.parent
            temporary.write_text(text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_atomic_write_lets_numpy_keep_the_name(tmp_path):
    with atomic_write(tmp_path / "a.npz") as temporary:
        np.savez(temporary, x=np.arange(3))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_atomic_write_leaves_the_old_file_after_a_failure(tmp_path, error):
    path = tmp_path / "data.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


class FullDisk:
    """A file that takes a few bytes and then has no space left."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self.file.close()

    def write(self, text):
        self.file.write(text[:3])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_atomic_write_on_a_full_disk(tmp_path, monkeypatch):
    path = tmp_path / "data.txt"
    path.write_text("old")
    ordinary = builtins.open
    monkeypatch.setattr(builtins, "open", lambda *arguments, **options: FullDisk(ordinary(*arguments, **options)))
    with pytest.raises(OSError, match="No space left"), atomic_write(path) as temporary, open(temporary, "w") as file:
        file.write("new content")
    monkeypatch.undo()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_finite_numbers_are_asked_for_by_name_except_in_compiled_code(bad):
    fine, broken = torch.ones(2, 3), torch.tensor([1.0, bad])
    check_finite(x=fine, y=fine.long(), large=torch.full((9,), 6e4, dtype=torch.float16), none=fine[:0])
    with pytest.raises(ValueError, match="y: got NaN or infinite values, expected finite"):
        check_finite(x=fine, y=broken)

    def double(y):
        check_finite(y=y)
        return 2 * y

    compiled = torch.compile(double, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(broken), 2 * broken, equal_nan=True)


def test_atomic_write_wants_something_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing was written"), atomic_write(tmp_path / "data.txt"):
        pass
    assert not list(tmp_path.iterdir())


def test_timer_measures_and_keeps_the_time_of_a_failed_block(monkeypatch):
    clock = iter([10.0, 12.5, 20.0, 21.0])
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: next(clock))
    with timer("cpu") as t:
        assert t.seconds != t.seconds
    assert t.seconds == 2.5
    with pytest.raises(ValueError), timer() as t:
        raise ValueError
    assert t.seconds == 1.0


def test_timer_waits_for_the_device(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append("cuda"))
    with timer(torch.device("cuda:0")):
        assert waited == ["cuda"]
    assert waited == ["cuda", "cuda"]
