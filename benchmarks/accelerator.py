"""Measures propagation, training and the largest graph on an accelerator.

    python benchmarks/accelerator.py [--device cuda] [--parts propagation training largest] [--pairs 1000000 10000000]

- ``propagation``: as in ``benchmarks/speed.py``, with edges per second and the share of the bandwidth with which the
  device copies its memory.
- ``training``: the default model on Gowalla, a tenth of its training pairs held out: interactions per second, and the
  validation recall@20 after so many seconds.
- ``largest``: twice as many pairs each time, 20 to a user and 40 to an item, until a step of the default model no
  longer fits into the memory of the device.

Results go to ``benchmarks/results/accelerator.json``, with the name of the device, and into
``docs/benchmarks-accelerator.md``, which says so where there are none. Needs Gowalla below GNNREC_DATA_DIR for
``training``.
"""

import argparse
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import gnnrec as gr
from harness import markdown
from harness.results import read_results, write_results
from speed import propagation

RESULTS = Path(__file__).parent / "results" / "accelerator.json"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks-accelerator.md"
PARTS = ("propagation", "training", "largest")

_FIRST_PAIRS = 4_000_000


def training(device: str) -> dict[str, Any]:
    """Fits the default model on Gowalla."""
    train, _, _ = gr.datasets.load("gowalla").split(gr.split.column("x_label"))
    part, held_out = gr.split.holdout(train, fraction=0.1, seed=0)
    history = gr.Recommender(device=device, seed=0).fit(part, held_out, progress=False).history
    return {
        "pairs": len(part.events),
        "seconds": history["seconds"].cumsum().tolist(),
        "recall@20": history["recall@20"].tolist(),
    }


def largest(device: str) -> dict[str, Any]:
    """Doubles a random log until one epoch of a single step does not fit."""
    steps: list[dict[str, Any]] = []
    pairs = _FIRST_PAIRS
    while True:
        rng = np.random.default_rng(0)
        frame = pd.DataFrame(
            {"user_id": rng.integers(pairs // 20, size=pairs), "item_id": rng.integers(pairs // 40, size=pairs)}
        )
        data = gr.Dataset.from_frames(frame)
        torch.cuda.reset_peak_memory_stats()
        try:
            gr.Recommender(device=device, seed=0, epochs=1, batch_size=pairs).fit(data, progress=False)
        except torch.OutOfMemoryError:
            return {"steps": steps, "does not fit": pairs}
        steps.append({"pairs": len(data.events), "peak_gib": torch.cuda.max_memory_allocated() / 2**30})
        pairs *= 2


def page(results: dict[str, Any]) -> str:
    """Returns the page of all parts that there are."""
    text = ["# On an accelerator\n\n`benchmarks/accelerator.py` wrote this page; its head says what is measured.\n"]
    if not results:
        text.append("It has not been run on any device yet, so there are no figures.\n")
        return "\n".join(text)
    text.append(
        f"Device: {results['device']}; " + ", ".join(f"{k} {v}" for k, v in results["versions"].items()) + ".\n"
    )
    if "propagation" in results:
        lines = []
        for run in results["propagation"]:
            seconds = statistics.median(run["seconds"]["gnnrec"])
            share = 1 / statistics.median(run["of_bound"])
            lines.append(
                [f"{run['pairs']:,}", f"{1000 * seconds:.2f}", f"{2 * run['stored'] / seconds:,.0f}", f"{share:.0%}"]
            )
        header = ["pairs", "forward and backward, ms", "edges per second", "share of the bandwidth of copying"]
        text += ["## Propagation\n", markdown.table(header, lines)]
    if "training" in results:
        part = results["training"]
        rate = part["pairs"] * len(part["seconds"]) / part["seconds"][-1]
        lines = [[f"{s:.1f}", markdown.number(r)] for s, r in zip(part["seconds"], part["recall@20"], strict=True)]
        text += [f"## Gowalla\n\n{rate:,.0f} interactions per second, validation included.\n"]
        text.append(markdown.table(["seconds", "validation recall@20"], lines))
    if "largest" in results:
        part = results["largest"]
        lines = [[f"{step['pairs']:,}", f"{step['peak_gib']:.1f}"] for step in part["steps"]]
        text += ["## Largest graph\n", markdown.table(["pairs", "peak GiB"], lines)]
        text.append(f"{part['does not fit']:,} pairs do not fit.\n")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="none: write the page only")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1_000_000, 10_000_000], help="of propagation")
    chosen = parser.parse_args()
    results = read_results(RESULTS)
    if chosen.parts and not torch.cuda.is_available():
        raise SystemExit("torch finds no CUDA device here; benchmarks/speed.py measures the processor")
    measures = {
        "propagation": lambda: [propagation(num_pairs, chosen.device) for num_pairs in chosen.pairs],
        "training": lambda: training(chosen.device),
        "largest": lambda: largest(chosen.device),
    }
    for part in chosen.parts:
        results[part] = measures[part]()
        results["device"] = f"{torch.cuda.get_device_name(chosen.device)}, {platform.machine()}"
        results["versions"] = {name: version(name) for name in ("gnnrec", "torch")}
        write_results(RESULTS, results)
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
