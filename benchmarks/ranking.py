"""Times the ranking of a large catalogue for many users beside the peers, and writes the tables of ``docs/ranking.md``.

    python benchmarks/ranking.py [--parts exact ivf hnsw] [--threads 1 2]

Every contender has a process of its own with the same number of threads. They take turns, one measurement each, so
that a change of the machine's speed meets all of them; ratios are medians of the ratios within a turn. Beside the time
that passed stands that of the processors, which other programs on a busy machine hardly touch. Peers are
``implicit`` (``implicit.cpu.topk``, on which its models' ``recommend`` stands; with one thread for OpenBLAS, as it
advises) and ``faiss`` (``IndexFlatIP``); "product alone" multiplies and selects nothing. The parts that are
asked for replace those in ``benchmarks/results/ranking.json``, and the tables are written from that file.

Needs ``pip install implicit`` and ``gnnrec[ann]``.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from harness import markdown
from harness.machine import machine
from harness.results import read_results, write_results

_DIM, _K = 64, 100
_ITEMS, _USERS, _FLAT_USERS = 100_000, 1_024, 64  # faiss is so slow that fewer users tell enough
_TURNS = 5
_SEEN = 50  # items hidden from each user
_CENTRES = 1_000
_UNITS = ("second", "core_second")
_ANN_ITEMS = {"ivf": 1_000_000, "hnsw": 50_000}  # a graph of a million takes a quarter of an hour to build, and more
_ANN_QUERIES = 512
_EFFORTS = {"ivf": (8, 16, 32, 64), "hnsw": (128, 256, 512, 1024)}
_RESULTS = Path(__file__).parent / "results" / "ranking.json"
_PAGE = Path(__file__).parents[1] / "docs" / "ranking.md"


def gaussian(num_users: int, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns vectors without any structure."""
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal((rows, _DIM), np.float32) for rows in (num_users, num_items))


def clustered(num_users: int, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns vectors around common centres; the earlier an item, the longer: the popular come first."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_CENTRES, _DIM), np.float32)
    users, items = (
        centres[rng.integers(_CENTRES, size=rows)] + rng.standard_normal((rows, _DIM), np.float32)
        for rows in (num_users, num_items)
    )
    return users, items * np.linspace(1.5, 0.5, num_items, dtype=np.float32)[:, None]


def unit_clustered(num_users: int, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns such vectors of length one; the users are items under a tenth of the noise."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_CENTRES, _DIM), np.float32)
    items = centres[rng.integers(_CENTRES, size=num_items)] + rng.standard_normal((num_items, _DIM), np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    users = items[rng.integers(num_items, size=num_users)]
    users = users + 0.1 * rng.standard_normal(users.shape, np.float32)
    return users / np.linalg.norm(users, axis=1, keepdims=True), items


def seen_by(num_users: int, num_items: int) -> sp.csr_matrix:
    item = np.random.default_rng(1).integers(num_items, size=num_users * _SEEN)
    user = np.repeat(np.arange(num_users), _SEEN)
    return sp.csr_matrix((np.ones(len(item), np.float32), (user, item)), shape=(num_users, num_items))


WORKLOADS: dict[str, Callable[[int, int], tuple[np.ndarray, np.ndarray]]] = {
    "Gaussian": gaussian,
    "clustered, of many lengths": clustered,
    f"the same, {_SEEN} items hidden per user": clustered,
}


def ours(workload: str, threads: int) -> tuple[int, Callable[[], Any]]:
    from gnnrec.retrieval import top_k

    users, items = WORKLOADS[workload](_USERS, _ITEMS)
    seen = seen_by(_USERS, _ITEMS) if "hidden" in workload else None
    return _USERS, lambda: top_k(users, items, _K, exclude=seen)


def implicit(workload: str, threads: int) -> tuple[int, Callable[[], Any]]:
    from implicit.cpu.topk import topk

    users, items = WORKLOADS[workload](_USERS, _ITEMS)
    seen = seen_by(_USERS, _ITEMS) if "hidden" in workload else None
    return _USERS, lambda: topk(items, users, _K, filter_query_items=seen, num_threads=threads)


def faiss_flat(workload: str, threads: int) -> tuple[int, Callable[[], Any]]:
    import faiss

    users, items = WORKLOADS[workload](_FLAT_USERS, _ITEMS)
    index = faiss.IndexFlatIP(_DIM)
    index.add(items)
    return _FLAT_USERS, lambda: index.search(users, _K)


def product_alone(workload: str, threads: int) -> tuple[int, Callable[[], Any]]:
    import torch

    users, items = (torch.from_numpy(rows) for rows in WORKLOADS[workload](_USERS, _ITEMS))

    def multiply() -> None:
        for block in users.split(256):
            for tile in items.split(2048):
                block @ tile.T

    return _USERS, multiply


CONTENDERS = {"gnnrec": ours, "implicit": implicit, "faiss flat": faiss_flat, "product alone": product_alone}


def serve(connection: Connection, contender: str, threads: int) -> None:
    """Prepares each workload that it is told, warms up, and answers a request with the users per (core-)second."""
    for workload in iter(connection.recv, None):
        num_users, rank = CONTENDERS[contender](workload, threads)
        rank()
        connection.send("ready")
        while connection.recv():
            started, busy = time.perf_counter(), time.process_time()
            rank()
            passed, used = time.perf_counter() - started, time.process_time() - busy
            connection.send((num_users / passed, num_users / used))


def ranked_exactly(threads: int) -> list[dict[str, Any]]:
    """Starts the processes, with so many threads each, and measures them in turns on each workload."""
    os.environ.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS="1")
    context = multiprocessing.get_context("spawn")
    connections = {}
    for name in CONTENDERS:
        connections[name], other = context.Pipe()
        context.Process(target=serve, args=(other, name, threads), daemon=True).start()
    rows = [row for workload in WORKLOADS for row in in_turns(workload, threads, connections)]
    for connection in connections.values():
        connection.send(None)
    return rows


def in_turns(workload: str, threads: int, connections: dict[str, Connection]) -> list[dict[str, Any]]:
    able = [name for name in CONTENDERS if not ("hidden" in workload and name in ("faiss flat", "product alone"))]
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in able}
    for name in able:
        connections[name].send(workload)
    for name in able:
        connections[name].recv()
    for _ in range(_TURNS):
        for name in able:
            connections[name].send(True)
            speeds[name].append(connections[name].recv())
    for name in able:
        connections[name].send(False)
    rows = []
    for name, measured in speeds.items():
        row = {"vectors": workload, "threads": threads, "contender": name, "measured": measured}
        for number, unit in enumerate(_UNITS):
            own, other = (np.array(speeds[one])[:, number] for one in ("gnnrec", name))
            row[f"users_per_{unit}"] = statistics.median(other)
            row[f"gnnrec_is_faster_by_{unit}"] = statistics.median(own / other)
        rows.append(row)
    return rows


def ranked_nearly(connection: Connection, kind: Any, threads: int) -> None:
    """Builds the index and the exact one of faiss, and measures them in turns at several efforts."""
    import faiss

    from gnnrec.retrieval import ItemIndex, top_k

    users, items = unit_clustered(_ANN_QUERIES, _ANN_ITEMS[kind])
    best = top_k(users, items, _K)[1].numpy()
    flat = faiss.IndexFlatIP(_DIM)
    flat.add(items)
    before, started = _peak_memory(), time.perf_counter()
    index = ItemIndex(items, kind)
    build = {"build_seconds": time.perf_counter() - started, "build_gib": _peak_memory() - before}
    for effort in _EFFORTS[kind]:
        index.effort = effort
        found = index.search(users, _K)[1].numpy()
        recall = float(np.mean([len(np.intersect1d(*pair)) / _K for pair in zip(found, best, strict=True)]))
        turns = np.array([[_speed(flat.search, users[:64]), _speed(index.search, users)] for _ in range(3)])
        speeds = {"queries_per_second": float(np.median(turns[:, 1])), "flat": float(np.median(turns[:, 0]))}
        ratio = float(np.median(turns[:, 1] / turns[:, 0]))
        row = {"kind": kind, "items": len(items), "threads": threads, "effort": effort, "recall@100": recall}
        connection.send({**row, **speeds, "faster_than_flat_by": ratio, **build})
    connection.send(None)


def _speed(search: Callable[..., Any], users: np.ndarray) -> float:
    started = time.perf_counter()
    search(users, _K)
    return len(users) / (time.perf_counter() - started)


def _peak_memory() -> float:
    """Returns the peak of the process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ranked_nearly_alone(kind: str) -> list[dict[str, Any]]:
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    context = multiprocessing.get_context("spawn")
    connection, other = context.Pipe()
    process = context.Process(target=ranked_nearly, args=(other, kind, 1), daemon=True)
    process.start()
    rows = list(iter(connection.recv, None))
    process.join()
    return rows


def exact_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        [
            row["vectors"],
            row["threads"],
            row["contender"],
            f"{row['users_per_second']:,.0f}",
            f"{row['users_per_core_second']:,.0f}",
            *("" if row["contender"] == "gnnrec" else f"{row[f'gnnrec_is_faster_by_{unit}']:.2f}" for unit in _UNITS),
        ]
        for row in rows
    ]
    header = ["vectors", "threads", "", "users/s", "users per core-second", "gnnrec's users/s, as a multiple"]
    return markdown.table([*header, "per core-second"], lines)


def approximate_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        [
            f"`{row['kind']}`",
            f"{row['items']:,}",
            row["effort"],
            f"{row['recall@100']:.3f}",
            f"{row['queries_per_second']:,.0f}",
            f"{row['faster_than_flat_by']:.1f}",
            markdown.seconds(row["build_seconds"]),
            f"{row['build_gib']:.2f}",
        ]
        for row in rows
    ]
    header = ["index", "items", "effort", "recall@100", "queries per second", "× faiss flat", "build", "GiB more"]
    return markdown.table(header, lines)


def write_tables(results: dict[str, Any]) -> None:
    """Replaces what stands between the markers of the page."""
    rows = {name: result["rows"] for name, result in results.items()}
    exact = [row for name in sorted(rows) if name not in _ANN_ITEMS for row in rows[name]]
    tables = {
        "exact": exact_table(exact),
        "approximate": approximate_table([row for kind in _ANN_ITEMS for row in rows.get(kind, [])]),
    }
    for name, table in tables.items():
        markdown.put_between(_PAGE, "benchmarks/ranking.py", name, table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", default=["exact", "ivf"], choices=["exact", "ivf", "hnsw"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of the exact ranking")
    asked = parser.parse_args()
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {}
    if "exact" in asked.parts:
        parts |= {f"exact, {threads} threads": partial(ranked_exactly, threads) for threads in asked.threads}
    parts |= {kind: partial(ranked_nearly_alone, kind) for kind in _ANN_ITEMS if kind in asked.parts}
    results = read_results(_RESULTS)
    for name, measure in parts.items():
        results[name] = {
            "machine": machine(),
            "load_before": os.getloadavg()[0],
            "versions": {name: version(name) for name in ("gnnrec", "torch", "numpy", "faiss-cpu", "implicit")},
            "rows": measure(),
        }
        write_results(_RESULTS, results)
        write_tables(results)
        print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
