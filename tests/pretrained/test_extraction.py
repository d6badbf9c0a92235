"""Batches of similar length, rows in the order of the items, features kept on disk."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.extraction import extract, feature_path, fingerprint, kept, length_batches

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@given(LENGTHS, st.integers(1, 200))
def test_batches_hold_every_item_once_within_the_budget(lengths, budget):
    batches = length_batches(lengths, budget)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[place] for place in batch) * len(batch) <= budget
    flat = [lengths[place] for batch in batches for place in batch]
    assert flat == sorted(lengths, reverse=True)


def test_sorting_saves_padding():
    lengths = [1, 100] * 50
    padded = sum(max(lengths[place] for place in batch) * len(batch) for batch in length_batches(lengths, 1000))
    assert padded == sum(lengths)
    in_order = sum(max(lengths[start:start + 10]) * 10 for start in range(0, 100, 10))
    assert in_order > 1.9 * padded


@given(LENGTHS, st.integers(1, 200))
def test_rows_come_back_in_the_order_of_the_items(lengths, budget):
    rows = extract(lambda places: torch.tensor(places)[:, None] * torch.ones(3, dtype=torch.float64), lengths, budget,
                   progress=False)
    assert rows.dtype == torch.float32 and torch.equal(rows, torch.arange(len(lengths))[:, None] * torch.ones(3))


def test_no_items_and_no_budget():
    with pytest.raises(ValueError, match="got 0 items"):
        extract(lambda places: torch.zeros(1), [], 8)
    with pytest.raises(ValueError, match="budget must be at least 1, got 0"):
        length_batches([1], 0)


def test_the_bar_goes_to_stderr(capsys):
    extract(lambda places: torch.zeros(len(places), 1), [1, 2, 3], 2)
    out, err = capsys.readouterr()
    assert out == "" and "特征" in err


def test_features_are_kept_and_a_damaged_file_is_made_again(cache):
    made = []

    def make() -> torch.Tensor:
        made.append(1)
        return torch.arange(6.0).view(2, 3)

    items = [b"a", b"bc"]
    for _ in range(2):
        assert torch.equal(kept("model", items, make), torch.arange(6.0).view(2, 3))
    assert len(made) == 1
    path = feature_path(fingerprint("model", items))
    assert path.is_relative_to(cache)
    path.write_bytes(path.read_bytes()[:-1])
    assert torch.equal(kept("model", items, make), torch.arange(6.0).view(2, 3)) and len(made) == 2
    kept("model", items, make, cache=False)
    assert len(made) == 3
    kept("another model", items, make)
    kept("model", [b"ab", b"c"], make)
    assert len(made) == 5


def test_fingerprints_differ():
    lists = [[b"a", b"b"], [b"ab"], [b"", b"ab"], [b"b", b"a"], []]
    assert len({fingerprint(model, items) for model in ("m", "n") for items in lists}) == 2 * len(lists)
