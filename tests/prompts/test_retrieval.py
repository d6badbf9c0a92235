"""Exact search against scikit-learn in float64 and against faiss (same places, same scores); votes, prompts, errors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.prompts.retrieval import METRICS, few_shot, fitting, recall, search, unit, vote
from src.prompts.templates import TASKS, Template

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SEEDS = st.integers(0, 999)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def whole(*shape, seed=0, dtype=torch.float64, most=2):
    """Small whole numbers: sums are exact in every order, and many scores are equal."""
    return torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def plain(queries, keys, k, metric):
    """One query, one key at a time, and Python's sort, which is stable."""
    rows = []
    for q in queries:
        if metric == "cosine":
            values = [-(q @ e / (q.norm() * e.norm())).item() for e in keys]
        else:
            values = [-(q @ e).item() if metric == "inner" else (q - e).square().sum().item() for e in keys]
        rows.append(sorted(range(len(keys)), key=lambda place: values[place])[:k])
    return torch.tensor(rows).view(len(queries), k)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 4), st.sampled_from(("inner", "l2")), st.integers(1, 24), SEEDS,
       st.data())  # fmt: skip
def test_ties_go_to_the_lower_place(rows, count, width, metric, columns, seed, data):
    q, e = whole(rows, width, seed=seed), whole(count, width, seed=seed + 1)
    k = data.draw(st.integers(1, count))
    scores, places = search(q, e, k, metric, columns=columns)
    assert torch.equal(places, plain(q, e, k, metric))
    table = q @ e.T if metric == "inner" else (q[:, None] - e).square().sum(2)
    assert torch.equal(scores, table.gather(1, places))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(2, 30), st.integers(2, 6), st.sampled_from(METRICS), st.integers(1, 40), SEEDS)
def test_search_is_scikit_learns(rows, count, width, metric, columns, seed):
    from sklearn.neighbors import NearestNeighbors

    q, e, k = randn(rows, width, seed=seed), randn(count, width, seed=seed + 1), min(5, count)
    scores, places = search(q, e, k, metric, columns=columns)
    if metric == "inner":
        expected = (q @ e.T).sort(dim=1, descending=True)
        distances, theirs = expected.values[:, :k], expected.indices[:, :k]
    else:
        name = {"l2": "sqeuclidean", "cosine": "cosine"}[metric]
        distances, theirs = map(torch.from_numpy, NearestNeighbors(metric=name, algorithm="brute").fit(e).kneighbors(q, k))
        distances = 1 - distances if metric == "cosine" else distances
    assert torch.equal(places, theirs)
    torch.testing.assert_close(scores, distances, atol=1e-12, rtol=1e-9)
    assert scores.dtype == torch.float64


@pytest.mark.parametrize("count", [1, 7, 3000])
@pytest.mark.parametrize("metric", ["inner", "l2"])
def test_search_is_faisss(metric, count):
    """float32, all that faiss knows: random vectors, and whole numbers, where the scores are equal to the last bit."""
    faiss = pytest.importorskip("faiss")
    make = {"inner": faiss.IndexFlatIP, "l2": faiss.IndexFlatL2}[metric]
    for q, e in ((randn(40, 24, dtype=torch.float32), randn(count, 24, seed=1, dtype=torch.float32)),
                 (whole(40, 24, dtype=torch.float32, most=99), whole(count, 24, seed=1, dtype=torch.float32, most=99))):
        k = min(10, count)
        index = make(24)
        index.add(e.numpy())
        theirs = [torch.from_numpy(part) for part in index.search(q.numpy(), k)]
        scores, places = search(q, e, k, metric, columns=512)
        assert torch.equal(places, theirs[1])
        torch.testing.assert_close(scores, theirs[0], atol=1e-4, rtol=1e-5)
    assert torch.equal(scores, theirs[0])


@pytest.mark.parametrize("metric", ["inner", "l2"])
def test_scores_are_faisss_where_many_are_equal(metric):
    """faiss promises no order among equals, so with small whole numbers the scores are compared, to the last bit."""
    faiss = pytest.importorskip("faiss")
    q, e = whole(40, 3, dtype=torch.float32), whole(500, 3, seed=1, dtype=torch.float32)
    index = {"inner": faiss.IndexFlatIP, "l2": faiss.IndexFlatL2}[metric](3)
    index.add(e.numpy())
    scores, places = search(q, e, 20, metric, columns=64)
    assert torch.equal(scores, torch.from_numpy(index.search(q.numpy(), 20)[0]))
    assert torch.equal(places, plain(q, e, 20, metric))


def test_the_metrics_agree_on_unit_vectors_only():
    q, e = randn(20, 5), randn(60, 5, seed=1)
    on_sphere = [search(unit(q), unit(e), 60, metric)[1] for metric in METRICS]
    assert torch.equal(on_sphere[0], on_sphere[1]) and torch.equal(on_sphere[0], on_sphere[2])
    long = torch.tensor([[1.0, 0.0], [3.0, 3.0], [0.6, 0.4]])
    first = {metric: search(torch.tensor([[1.0, 0.3]]), long, 1, metric)[1].item() for metric in METRICS}
    assert first == {"inner": 1, "cosine": 0, "l2": 0}
    scores = search(q, e, 60, "cosine")[0]
    assert scores.abs().max() <= 1 + 1e-12 and (scores.diff(dim=1) <= 0).all()


def test_distances_are_never_negative():
    e = 1000 + randn(50, 8, dtype=torch.float32)
    assert (search(e, e, 50, "l2")[0] >= 0).all()


def test_memory_stays_flat():
    """No block is larger than ROWS × columns, however many vectors there are."""
    sizes = []

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(out.numel())
            return out

    q, e = randn(700, 2), randn(4000, 2, seed=1)
    with Spy():
        search(q, e, 3, columns=100)
    assert max(sizes) <= max(256 * 100, e.numel())


def test_no_query_is_no_result():
    scores, places = search(torch.zeros(0, 3), torch.ones(2, 3), 2)
    assert scores.shape == places.shape == (0, 2) and places.dtype == torch.int64


def test_inputs_do_not_change():
    q, e = randn(3, 4), randn(9, 4, seed=1)
    copies = q.clone(), e.clone()
    for metric in METRICS:
        search(q, e, 3, metric)
    assert torch.equal(q, copies[0]) and torch.equal(e, copies[1])


@pytest.mark.parametrize("metric", METRICS)
def test_gradients(metric):
    q, e = randn(2, 3).requires_grad_(), randn(5, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, e: search(q, e, 3, metric, columns=2)[0], (q, e))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_types_and_devices(device, dtype):
    q, e = whole(6, 4, dtype=dtype).to(device), whole(40, 4, seed=1, dtype=dtype).to(device)
    for metric in ("inner", "l2"):
        scores, places = search(q, e, 7, metric, columns=16)
        assert scores.dtype == dtype and scores.device.type == places.device.type == device
        assert torch.equal(places.cpu(), plain(q.cpu().double(), e.cpu().double(), 7, metric))


@pytest.mark.parametrize(
    ("queries", "keys", "k", "options", "message"),
    [
        (torch.ones(1, 2), torch.ones(3, 2), 4, {}, r"k: got 4, expected 1 … 3, the number of keys"),
        (torch.ones(1, 2), torch.ones(3, 2), 0, {}, r"k: got 0, expected 1 … 3"),
        (torch.ones(1, 2), torch.ones(0, 2), 1, {}, "keys: got an empty index, expected at least one vector"),
        (torch.ones(1, 3), torch.ones(3, 2), 1, {}, "queries: got 3 dimensions, expected 2 as the keys have"),
        (torch.tensor([[1, float("nan")]]), torch.ones(3, 2), 1, {}, "queries: got NaN or infinite"),
        (torch.ones(1, 2), torch.tensor([[1, float("inf")]]), 1, {}, "keys: got NaN or infinite"),
        (torch.ones(2), torch.ones(3, 2), 1, {}, r"queries: got torch.float32 \[2\], .* a single vector v is v\[None\]"),
        (torch.ones(1, 2).long(), torch.ones(3, 2), 1, {}, r"queries: got torch.int64 \[1, 2\]"),
        (torch.ones(1, 2).double(), torch.ones(3, 2), 1, {}, "queries: got torch.float64 on cpu, expected torch.float32"),
        (torch.ones(1, 2), torch.ones(3, 2), 1, {"metric": "L2"}, "metric must be one of inner, cosine, l2, got 'L2'"),
        (torch.ones(1, 2), torch.eye(3)[:, :2], 1, {"metric": "cosine"}, r"keys\[2\]: got a vector of length 0"),
        (torch.zeros(1, 2), torch.ones(3, 2), 1, {"metric": "cosine"}, r"queries\[0\]: got a vector of length 0"),
        (torch.ones(1, 2), torch.ones(3, 2), 1, {"columns": 0}, "columns: got 0"),
    ],
)
def test_other_searches_are_refused(queries, keys, k, options, message):
    with pytest.raises(ValueError, match=message):
        search(queries, keys, k, **options)


def test_recall_counts_the_exact_neighbours_that_were_found():
    exact = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]])
    assert recall(exact.flip(1), exact) == 1
    assert recall(torch.tensor([[0, 9, -1, -1], [4, 5, 6, -1]]), exact) == 0.5
    assert recall(exact, exact[:, :1]) == 1 and recall(exact[:, :1], exact) == 0.25
    for found, of in ((exact[0], exact), (exact[:1], exact), (exact, exact[:, :0])):
        with pytest.raises(ValueError, match="found, exact: got"):
            recall(found, of)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=6))
def test_vote_is_the_most_frequent_then_the_nearest(rows):
    expected = [max(dict.fromkeys(row), key=lambda one: (row.count(one), -row.index(one))) for row in rows]
    ours = vote(torch.tensor(rows), 4).tolist()
    for row, have, want in zip(rows, ours, expected, strict=True):
        assert row.count(have) == row.count(want)
        assert have == want


def test_vote_is_scikit_learns_for_odd_k():
    from sklearn.neighbors import KNeighborsClassifier

    q, e, y = randn(50, 3), randn(200, 3, seed=1), torch.randint(2, (200,), generator=torch.Generator().manual_seed(2))
    for k in (1, 3, 7):
        theirs = KNeighborsClassifier(k, algorithm="brute").fit(e, y).predict(q)
        assert vote(y[search(q, e, k, "l2")[1]], 2).tolist() == theirs.tolist()


@pytest.mark.parametrize(("labels", "message"), [(torch.zeros(2, 0).long(), "labels: got torch.int64"),
                                                 (torch.zeros(2, 2), "got torch.float32"),
                                                 (torch.zeros(2).long(), r"expected int64 \[Q, k\]"),
                                                 (torch.tensor([[0, 2]]), "labels: got 0 … 2, expected 0 … 1")])  # fmt: skip
def test_other_votes_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        vote(labels, 2)


ITEM = Template("Review: {text}\nSentiment:")


def test_few_shot_prompts():
    shown = [("Good {text}.", " positive"), ("Bad.", " negative")]
    assert few_shot("Which?", ITEM, shown, "{x}") == ("Which?\nReview: Good {text}.\nSentiment: positive\n"
                                                      "Review: Bad.\nSentiment: negative\nReview: {x}\nSentiment:")
    instruction = TASKS["sentiment"].template.text.partition("\n")[0]
    assert few_shot(instruction, ITEM, [], "Fine.") == TASKS["sentiment"].template.fill(text="Fine.")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.sampled_from((" a", " b"))), max_size=4), st.text(max_size=8))
def test_every_text_stands_word_for_word(shown, text):
    prompt = few_shot("", ITEM, shown, text)
    assert prompt == "\n".join(["", *(f"Review: {one}\nSentiment:{answer}" for one, answer in shown),
                                f"Review: {text}\nSentiment:"])


def test_the_nearest_that_fit():
    assert [fitting([5, 5, 1], room) for room in (0, 4, 5, 9, 10, 11, 99)] == [0, 0, 1, 1, 2, 3, 3]
    assert fitting([], 3) == 0
    with pytest.raises(ValueError, match="room: got -1 tokens"):
        fitting([5], -1)
