"""Times what a fitted recommender does between two fits, on an invented log of a large shop.

    python benchmarks/serving.py [--users 50000] [--items 100000] [--pairs 1000000]

prints the medians and writes them to ``benchmarks/results/serving.json``. The shop is fitted for one epoch, with a
cheap loss, a linear part and nothing chosen on validation: none of what is timed then depends on how good the weights
are.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import gnnrec as gr
from harness.machine import machine
from harness.results import write_results

_REPEATS = 5
_NEW_ITEMS, _EVENTS = 1_000, 1_000
_WIDTHS = {"picture": 256, "text": 128}
_TASTES = 50
_CHOSEN = {"popularity_weight": 1.0, "new_item_offset": 0.0, "linear_part": "random-walk", "linear_weight": 0.1}


def invented_log(num_users: int, num_items: int, num_pairs: int, rng: np.random.Generator) -> pd.DataFrame:
    """Returns events of random users, on items of which the first are the most popular."""
    return pd.DataFrame(
        {
            "user_id": rng.integers(num_users, size=num_pairs),
            "item_id": (num_items * rng.random(num_pairs) ** 2).astype(np.int64),
        }
    )


def vectors_of(ids: np.ndarray, rng: np.random.Generator) -> dict[str, gr.Vectors]:
    """Returns noisy vectors around the centre of each item's taste."""
    vectors = {}
    for name, width in _WIDTHS.items():
        centres = np.random.default_rng(width).normal(size=(_TASTES, width))
        values = centres[ids % _TASTES] + rng.normal(size=(len(ids), width))
        vectors[name] = gr.Vectors(values.astype(np.float32), ids)
    return vectors


def fitted_shop(num_users: int, num_items: int, num_pairs: int, rng: np.random.Generator) -> gr.Recommender:
    """Fits the whole catalogue: every item is a possible neighbour of a new one."""
    log = invented_log(num_users, num_items, num_pairs, rng)
    data = gr.Dataset.from_frames(log, modalities=vectors_of(np.arange(num_items), rng))
    recommender = gr.Recommender(epochs=1, loss="bpr", **_CHOSEN, device="cpu")
    return recommender.fit(data, progress=False)


def timed(fitted: gr.Recommender, call: Callable[[gr.Recommender], Any]) -> dict[str, Any]:
    """Calls several times, each time on the same fitted state; the first call warms up and does not count."""
    seconds = []
    for _ in range(_REPEATS + 1):
        rec = copy.copy(fitted)
        started = time.perf_counter()
        call(rec)
        seconds.append(time.perf_counter() - started)
    return {"median_seconds": statistics.median(seconds[1:]), "seconds": seconds[1:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    size = parser.parse_args()
    rng = np.random.default_rng(0)
    fitted = fitted_shop(size.users, size.items, size.pairs, rng)
    state = fitted.state
    print(f"{len(state.users):,} users, {len(state.items):,} items, {state.train.nnz:,} pairs")

    new = vectors_of(size.items + np.arange(_NEW_ITEMS), rng)
    events = invented_log(size.users + _EVENTS, size.items, _EVENTS, rng)
    history = rng.choice(size.items, 20, replace=False).tolist()
    removed = rng.choice(size.items, _NEW_ITEMS, replace=False).tolist()
    calls: dict[str, Callable[[gr.Recommender], Any]] = {
        f"add_items: {_NEW_ITEMS:,} items with vectors": lambda rec: rec.add_items(vectors=new),
        f"update: {_EVENTS:,} events": lambda rec: rec.update(events),
        f"remove_items: {_NEW_ITEMS:,} items": lambda rec: rec.remove_items(removed),
        "recommend: 1 user": lambda rec: rec.recommend([0]),
        "recommend: 1 user, new_item_share=0.2": lambda rec: rec.recommend([0], new_item_share=0.2),
        "recommend_for: 1 history of 20 items": lambda rec: rec.recommend_for([history]),
    }
    times = {}
    for name, call in calls.items():
        times[name] = timed(fitted, call)
        print(f"{times[name]['median_seconds'] * 1000:8.1f} ms  {name}")
    result = {
        "machine": machine(torch.get_num_threads()),
        "versions": {name: version(name) for name in ("gnnrec", "torch", "numpy", "scipy", "pandas")},
        "users": len(state.users),
        "items": len(state.items),
        "pairs": state.train.nnz,
        "widths": _WIDTHS,
        "repeats": _REPEATS,
        "times": times,
    }
    write_results(Path(__file__).parent / "results" / "serving.json", result)


if __name__ == "__main__":
    main()
