"""Exact search: the book's matrix product and topk, one query after the other and many at once, beside faiss's IndexFlatIP.

Both ways take turns in one run with the same number of threads, and their places are compared before any time is taken.
"""

from __future__ import annotations

import statistics

import torch

from src.prompts.retrieval import search
from src.runtime import timer

WIDTH, K, ROUNDS = 384, 10, 7
SIZES, QUERIES = (10_000, 100_000), (1, 100)


def main() -> None:
    import faiss

    threads = torch.get_num_threads()
    faiss.omp_set_num_threads(threads)
    print(f"{threads} threads, torch {torch.__version__}, faiss {faiss.__version__}, {WIDTH} dimensions, k = {K}")
    for size in SIZES:
        g = torch.Generator().manual_seed(0)
        keys = torch.randn(size, WIDTH, generator=g)
        index = faiss.IndexFlatIP(WIDTH)
        index.add(keys.numpy())
        for count in QUERIES:
            compare(torch.randn(count, WIDTH, generator=g), keys, index)


def compare(queries: torch.Tensor, keys: torch.Tensor, index) -> None:
    ways = {"faiss": lambda: torch.from_numpy(index.search(queries.numpy(), K)[1]),
            "the book": lambda: search(queries, keys, K)[1]}  # fmt: skip
    assert torch.equal(*(way() for way in ways.values()))
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, run in ways.items():
            with timer() as timing:
                run()
            seconds[way].append(timing.seconds)
    middle = {way: statistics.median(times) for way, times in seconds.items()}
    print(f"{len(keys):7,} keys, {len(queries):3} queries: " + ", ".join(
        f"{way} {1000 * time:7.2f} ms ({time / middle['faiss']:.2f} times faiss)" for way, time in middle.items()))


if __name__ == "__main__":
    main()
