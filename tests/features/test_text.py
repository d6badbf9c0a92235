"""Words, counts, TF-IDF and skip-gram: against scikit-learn and torch's losses in double precision."""

import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from torch.nn import functional as F

from src.features import text
from src.runtime import cache_dir, root

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
WORDS = st.sampled_from(["好", "不好", "房间", "a", "b", "。", "zoo", "A"])
DOCUMENTS = st.lists(st.lists(WORDS, max_size=9), min_size=1, max_size=7).filter(any)
TALK = [["房间", "很", "小"], ["房间", "不", "大", "早餐", "很", "好"], ["早餐", "很", "好"]] * 20


def same(words: list[str]) -> list[str]:
    return words


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64, device: str = "cpu") -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)


def pairs(B: int = 6, K: int = 3, W: int = 5, D: int = 4, device: str = "cpu", dtype: torch.dtype = torch.float64):
    g = torch.Generator().manual_seed(1)
    ids = [torch.randint(W, shape, generator=g).to(device) for shape in ((B,), (B,), (B, K))]
    return normal(W, D, seed=2, dtype=dtype, device=device), normal(W, D, seed=3, dtype=dtype, device=device), *ids


@settings(max_examples=40, deadline=None)
@given(documents=DOCUMENTS)
def test_counts_are_scikit_learns(documents):
    columns = text.vocabulary(documents)
    reference = CountVectorizer(analyzer=same)
    X = reference.fit_transform(documents).toarray()
    assert columns == reference.vocabulary_
    assert text.counts(documents, columns).tolist() == X.tolist()


@settings(max_examples=40, deadline=None)
@given(documents=DOCUMENTS, others=DOCUMENTS)
def test_tfidf_is_scikit_learns_also_for_new_documents(documents, others):
    columns, reference = text.vocabulary(documents), TfidfVectorizer(analyzer=same).fit(documents)
    weight = text.idf(text.counts(documents, columns))
    torch.testing.assert_close(weight, torch.from_numpy(reference.idf_), rtol=1e-12, atol=0)
    for lists in (documents, others):
        X = torch.from_numpy(reference.transform(lists).toarray())
        torch.testing.assert_close(text.tfidf(text.counts(lists, columns), weight), X.double(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("least", [1, 2, 3])
def test_vocabulary_counts_documents_not_occurrences(least):
    documents = [["b", "b", "b"], ["a", "c"], ["a", "c"], ["c"]]
    reference = CountVectorizer(analyzer=same, min_df=least).fit(documents).vocabulary_
    assert text.vocabulary(documents, least) == reference


@settings(max_examples=30, deadline=None)
@given(
    B=st.integers(1, 9), K=st.integers(0, 6), W=st.integers(1, 8), D=st.integers(1, 7),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_skipgram_loss_is_binary_cross_entropy(B, K, W, D, dtype):
    U, V, c, o, n = pairs(B, K, W, D, dtype=dtype)
    logits = torch.cat(((U[c] * V[o]).sum(1, keepdim=True), torch.einsum("bd,bkd->bk", U[c], V[n])), 1)
    target = torch.zeros_like(logits)
    target[:, 0] = 1
    expected = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / B
    close = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(text.skipgram_loss(U, V, c, o, n), expected, rtol=close, atol=close)
    blank = text.skipgram_loss(U, torch.zeros_like(V), c, o, n)
    assert blank.item() == pytest.approx((1 + K) * math.log(2))


def test_gradients():
    U, V, c, o, n = pairs()
    U, V = U.requires_grad_(), V.requires_grad_()
    assert torch.autograd.gradcheck(lambda U, V: text.skipgram_loss(U, V, c, o, n), (U, V))
    C = normal(3, 5).abs() + 0.1
    a = (normal(5, seed=4).abs() + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(text.tfidf, (C.requires_grad_(), a))
    assert torch.autograd.gradcheck(text.mean_vectors, (C, normal(5, 2).requires_grad_(), a))
    assert torch.autograd.gradcheck(text.noise_distribution, a)


def test_gradient_is_the_one_on_the_page():
    U, V, _, _, n = pairs(B=1)
    U.requires_grad_()
    text.skipgram_loss(U, V, torch.tensor([0]), torch.tensor([1]), n).backward()
    u, wrong = U[0].detach(), V[n[0]]
    by_hand = ((u @ V[1]).sigmoid() - 1) * V[1] + (wrong @ u).sigmoid() @ wrong
    torch.testing.assert_close(U.grad[0], by_hand)
    assert not U.grad[1:].any()


def test_pairs_are_those_of_a_double_loop():
    documents = [[4, 1, 1, 2], [3], [], [0, 5]]
    for window in (1, 2, 9):
        expected = sorted(
            (a, b) for d in documents for i, a in enumerate(d) for j, b in enumerate(d) if 0 < abs(i - j) <= window
        )
        assert sorted(map(tuple, text.skipgram_pairs(documents, window).tolist())) == expected


def test_noise_distribution():
    q = text.noise_distribution(torch.tensor([16.0, 1.0, 0.0, 81.0]))
    torch.testing.assert_close(q, torch.tensor([8.0, 1.0, 0.0, 27.0]) / 36)
    assert text.noise_distribution(torch.tensor([2.0, 0.0]), 0.0).tolist() == [1, 0]


@settings(max_examples=20, deadline=None)
@given(
    N=st.integers(1, 5), V=st.integers(1, 6), D=st.integers(1, 4), dtype=st.sampled_from([torch.float32, torch.float64])
)
def test_mean_vectors_are_weighted_means(N, V, D, dtype):
    C = normal(N, V, dtype=dtype).mul(2).round().abs()
    W, a = normal(V, D, seed=1, dtype=dtype), normal(V, seed=2, dtype=dtype).abs() + 0.1
    found = text.mean_vectors(C, W, a)
    assert found.dtype == dtype and found.shape == (N, D)
    for row, mean in zip(C, found, strict=True):
        repeated = torch.cat([(W[v] * a[v]).repeat(int(n), 1) for v, n in enumerate(row.tolist())])
        total = (row * a).sum()
        torch.testing.assert_close(mean, repeated.sum(0) / total if total else torch.zeros(D, dtype=dtype))
    torch.testing.assert_close(text.mean_vectors(C, W), text.mean_vectors(C, W, torch.full((V,), 3.0, dtype=dtype)))


def test_empty_documents_are_zero():
    C = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    assert text.tfidf(C, torch.ones(2, dtype=torch.float64)).tolist() == [[0, 0], [0.6, 0.8]]
    assert text.mean_vectors(C, normal(2, 3))[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("device", DEVICES)
def test_compiles_and_autocasts(device):
    def together(pairs, C, W):
        return text.skipgram_loss(*pairs), text.mean_vectors(C, W, text.idf(C)), text.tfidf(C, text.idf(C))

    inputs = (
        pairs(device=device, dtype=torch.float32),
        normal(4, 5, device=device, dtype=torch.float32).abs(),
        normal(5, 3, device=device, dtype=torch.float32),
    )
    expected = together(*inputs)
    torch.testing.assert_close(torch.compile(together, fullgraph=True, backend="aot_eager")(*inputs), expected)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast(device, dtype):
            torch.testing.assert_close(together(*inputs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees():
    torch.testing.assert_close(text.skipgram_loss(*pairs(device="cuda")).cpu(), text.skipgram_loss(*pairs()))
    C, W = normal(4, 5).abs(), normal(5, 3)
    torch.testing.assert_close(
        text.mean_vectors(C.cuda(), W.cuda(), text.idf(C.cuda())).cpu(), text.mean_vectors(C, W, text.idf(C))
    )
    torch.testing.assert_close(text.tfidf(C.cuda(), text.idf(C.cuda())).cpu(), text.tfidf(C, text.idf(C)))


def test_english():
    assert text.tokenize_en("Don't pay $3.88!") == ["do", "n't", "pay", "$", "3.88", "!"]
    assert text.tokenize_en("NLTK", lower=False) == ["NLTK"]
    assert text.tokenize_en("") == []


def test_chinese():
    assert text.tokenize_zh("南京市长江大桥") == ["南京市", "长江大桥"]
    assert text.tokenize_zh("早餐 不错\n") == ["早餐", "不错"]
    assert text.tokenize_zh("神州本很好", ("神州本",)) == ["神州本", "很", "好"]
    assert text.tokenize_zh("神州本很好") == ["神州", "本", "很", "好"]  # the added word is forgotten
    assert text.tokenize_zh("网易杭研大厦") == ["网易", "杭研", "大厦"]
    assert text.tokenize_zh("网易杭研大厦", hmm=False) == ["网易", "杭", "研", "大厦"]
    assert text.tokenize_zh("") == []


def test_dictionary_is_kept_in_the_books_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIMODAL_BOOK_CACHE", str(tmp_path))
    text.segmenter.cache_clear()
    try:
        text.tokenize_zh("早餐")
        assert text.segmenter().tmp_dir == str(cache_dir()) == str(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["jieba.cache"]
    finally:
        text.segmenter.cache_clear()


def test_word2vec_has_a_vector_for_each_frequent_word():
    columns, W = text.word2vec([*TALK, ["罕见"]], size=8, epochs=2)
    assert sorted(columns) == sorted({word for words in TALK for word in words})
    assert sorted(columns.values()) == list(range(len(columns)))
    assert W.shape == (len(columns), 8) and W.dtype == torch.float32 and W.isfinite().all()
    assert not torch.equal(W, text.word2vec(TALK, size=8, epochs=2, seed=1)[1])


def test_word2vec_is_the_same_in_every_process():
    program = (
        "import hashlib; from src.features import text; W = text.word2vec([['a', 'b', 'c'], ['b', 'c']] * 9, 8)[1]; "
        "print(hashlib.sha256(W.numpy().tobytes()).hexdigest())"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root(),
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        for seed in "12"
    ]
    found = [process.communicate(timeout=120)[0] for process in running]
    assert len(found[0].strip()) == 64 and found[0] == found[1]


C = torch.ones(2, 3)
U = torch.zeros(4, 2)
ONE = torch.tensor([1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: text.tokenize_en(["a"]), "text: got list, expected one string"),
        (lambda: text.tokenize_zh(None), "text: got NoneType, expected one string"),
        (lambda: text.vocabulary(["房间 很 小"]), "documents: got strings, expected lists of words"),
        (lambda: text.counts("房间", {"房": 0}), "documents: got strings"),
        (lambda: text.word2vec(["房间"]), "documents: got strings"),
        (lambda: text.word2vec([["a", "b"]]), "documents: got no word that occurs 3 times"),
        (lambda: text.vocabulary([]), "documents: got none"),
        (lambda: text.vocabulary([["a"], ["b"]], 2), "documents: got no word in 2 or more of 2"),
        (lambda: text.idf(torch.zeros(0, 3)), r"C: got shape \[0, 3\], expected counts \[N, V\]"),
        (lambda: text.idf(C.long()), "C: got torch.int64, expected floating"),
        (lambda: text.tfidf(-C, torch.ones(3)), "C: got -1, expected no negative numbers"),
        (lambda: text.tfidf(C * torch.nan, torch.ones(3)), "C: got NaN or infinite"),
        (lambda: text.tfidf(C, torch.tensor([1, 1, torch.nan])), "weight: got NaN or infinite"),
        (lambda: text.tfidf(C, torch.ones(2)), r"weight: got shape \[2\], expected \[3\]"),
        (lambda: text.mean_vectors(C, torch.ones(2, 5)), r"W: got shape \[2, 5\], expected \[3, D\]"),
        (lambda: text.mean_vectors(C, torch.full((3, 5), torch.inf)), "W: got NaN or infinite"),
        (lambda: text.mean_vectors(C, torch.ones(3, 5), torch.ones(5)), r"weight: got shape \[5\], expected \[3\]"),
        (lambda: text.mean_vectors(C, torch.ones(3, 5), -torch.ones(3)), "weight: got -1, expected no negative"),
        (lambda: text.skipgram_pairs([[1, 2]], 0), "window: got 0"),
        (lambda: text.skipgram_pairs([[1], []], 2), "documents: got none of two words"),
        (lambda: text.noise_distribution(torch.zeros(3)), "frequency: got zeros alone"),
        (lambda: text.noise_distribution(torch.zeros(0)), r"frequency: got shape \[0\]"),
        (lambda: text.noise_distribution(torch.tensor([1.0, -1.0])), "frequency: got -1, expected no negative"),
        (lambda: text.noise_distribution(torch.tensor([1.0, torch.inf])), "frequency: got NaN or infinite"),
        (lambda: text.skipgram_loss(U, U[:3], ONE, ONE, ONE[None]), r"U, V: got shapes \[4, 2\], \[3, 2\]"),
        (lambda: text.skipgram_loss(U, U, ONE[:0], ONE[:0], ONE[None]), r"centre, neighbour: got shapes \[0\], \[0\]"),
        (lambda: text.skipgram_loss(U, U, ONE, ONE, ONE), r"negatives: got shape \[1\], expected \[1, K\]"),
        (lambda: text.skipgram_loss(U, U, ONE + 3, ONE, ONE[None]), "centre: got 4 to 4, expected 0 to 3"),
        (lambda: text.skipgram_loss(U, U, ONE, ONE, ONE[None] - 2), "negatives: got -1 to -1, expected 0 to 3"),
        (lambda: text.skipgram_loss(U, U * torch.nan, ONE, ONE, ONE[None]), "V: got NaN or infinite"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
