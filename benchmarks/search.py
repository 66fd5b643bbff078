"""Times the search of a million item vectors for one query, exactly and by the approximate indexes.

    python benchmarks/search.py [--items 1000000] [--dim 64] [--kinds exact ivf]

prints the medians and writes them to ``benchmarks/results/search.json`` and into ``docs/search.md``. The items are unit
vectors around a thousand centres, with noise as long as the centres; the queries are items under a tenth of that noise.
The effort of an approximate index is doubled until it finds 95 % of the ten best.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnnrec.retrieval import ItemIndex, top_k
from harness import markdown
from harness.machine import machine
from harness.results import write_results

_RESULTS = Path(__file__).parent / "results" / "search.json"
_PAGE = Path(__file__).parents[1] / "docs" / "search.md"

_CENTRES = 1_000
_QUERIES = 200
_REPEATS = 51
_RECALL = 0.95


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def invented_items(num_items: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    centres = rng.standard_normal((_CENTRES, dim), dtype=np.float32)
    return unit(centres[rng.integers(_CENTRES, size=num_items)] + rng.standard_normal((num_items, dim), np.float32))


def timed(search: Callable[[np.ndarray], Any], queries: np.ndarray) -> dict[str, float]:
    """Searches for one query at a time; the first call warms up and does not count."""
    seconds = []
    for number in range(_REPEATS + 1):
        started = time.perf_counter()
        search(queries[number % len(queries), None])
        seconds.append(time.perf_counter() - started)
    return {"median_seconds": statistics.median(seconds[1:]), "fastest_seconds": min(seconds[1:])}


def approximate(kind: Any, items: np.ndarray, queries: np.ndarray) -> dict[str, Any]:
    started = time.perf_counter()
    index = ItemIndex(items, kind, effort=1)
    build_seconds = time.perf_counter() - started
    while (recall := index.recall(queries)) < _RECALL:
        index.effort *= 2
    facts = {"effort": index.effort, "recall@10": recall, "build_seconds": build_seconds}
    return {**timed(lambda query: index.search(query, 10), queries), **facts}


def times_table(result: dict[str, Any]) -> str:
    """Returns what was measured as a table, with what it was measured on."""
    scan = result["times"]["reading the vectors"]["median_seconds"]
    lines = []
    for kind, found in result["times"].items():
        seconds = found["median_seconds"]
        effort = f", effort {found['effort']}" if "effort" in found else ""
        recall = f"{found['recall@10']:.3f}" if "recall@10" in found else ""
        lines.append([f"{kind}{effort}", f"{1000 * seconds:.2f}", f"{seconds / scan:.2g}", recall])
    header = ["", "milliseconds", "× reading the vectors once", "recall@10"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    about = (
        f"{result['items']:,} vectors of {result['dim']} numbers, median of {result['repeats']}, one query at a time"
    )
    return f"{about}; {result['machine']}, {versions}; load {result['load']:.1f}.\n\n{markdown.table(header, lines)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--kinds", nargs="+", default=["exact", "ivf"], choices=["exact", "ivf", "hnsw"])
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    items = invented_items(asked.items, asked.dim, rng)
    noise = 0.1 * rng.standard_normal((_QUERIES, asked.dim), dtype=np.float32)
    queries = unit(items[rng.integers(asked.items, size=_QUERIES)] + noise)

    times: dict[str, dict[str, Any]] = {}
    for kind in asked.kinds:
        if kind == "exact":
            times[kind] = {**timed(lambda query: top_k(query, items, 10), queries), "recall@10": 1.0}
        else:
            times[kind] = approximate(kind, items, queries)
        found = times[kind]
        print(f"{found['median_seconds'] * 1000:8.2f} ms  {kind}, recall@10 {found['recall@10']:.3f}", flush=True)
    # What the exact search cannot be faster than: reading every vector once.
    matrix = torch.from_numpy(items)
    times["reading the vectors"] = timed(lambda _: matrix.sum(), queries)
    print(f"{times['reading the vectors']['median_seconds'] * 1000:8.2f} ms  reading the vectors")
    result = {
        "machine": machine(torch.get_num_threads()),
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("gnnrec", "torch", "numpy", "faiss-cpu")},
        "items": asked.items,
        "dim": asked.dim,
        "repeats": _REPEATS,
        "times": times,
    }
    write_results(_RESULTS, result)
    markdown.put_between(_PAGE, "benchmarks/search.py", "times", times_table(result))


if __name__ == "__main__":
    main()
