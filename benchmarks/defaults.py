"""Fits the default model on a data set with its published split, over several seeds, and records what came out.

    python benchmarks/defaults.py --dataset tiktok --seeds 0 1 2

needs GNNREC_DATA_DIR. Hyper-parameters are the package's defaults, the best epoch is chosen on validation recall@20,
and the test set is read once per fit, after it. Popularity and item-knn run beside it on the same split and masking.
Writes ``benchmarks/results/defaults-<dataset>.json``: a row per fit, then mean and deviation over the seeds.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import time
from pathlib import Path

import numpy as np
import torch
import torch_geometric

import gnnrec as gr

METRICS = ("recall@20", "ndcg@20")


def fit_and_measure(name: str, recommender: gr.Recommender, train, valid, test) -> dict:
    """Returns the row of one fit: validation and test metrics under both maskings, on all and on cold items."""
    started = time.perf_counter()
    recommender.fit(train, valid=valid, progress=False)
    seconds = time.perf_counter() - started
    row = {
        "model": name,
        "seed": recommender.config.seed,
        "fit_seconds": round(seconds, 1),
        "best_epoch": recommender.state.best_epoch,
        "epochs": len(recommender.history),
    }
    row |= {f"valid {m}": v for m, v in recommender.evaluate(valid, METRICS, mask="train").values.items()}
    for mask in ("train", "train+valid"):
        row |= {f"test {m}, {mask} masked": v for m, v in recommender.evaluate(test, METRICS, mask=mask).values.items()}
    cold = recommender.evaluate(test, METRICS, mask="train", candidates="cold")
    row |= {f"cold test {m} among cold items": v for m, v in cold.values.items()}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="tiktok")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    train, valid, test = gr.datasets.load(arguments.dataset).split(gr.split.column("x_label"))
    rows = [
        fit_and_measure(name, gr.Recommender.preset(name), train, valid, test) for name in ("popularity", "item-knn")
    ]
    for seed in arguments.seeds:
        rows.append(fit_and_measure("gnnrec", gr.Recommender(seed=seed), train, valid, test))
        print(json.dumps(rows[-1], indent=1), flush=True)
    ours = [row for row in rows if row["model"] == "gnnrec"]
    summary = {
        key: {
            "mean": float(np.mean([row[key] for row in ours])),
            "sd": float(np.std([row[key] for row in ours], ddof=1)),
        }
        for key in ours[0]
        if isinstance(ours[0][key], float) and len(ours) > 1
    }
    result = {
        "dataset": arguments.dataset,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": {
            "gnnrec": gr.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torch-geometric": torch_geometric.__version__,
        },
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "summary": summary,
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / f"defaults-{arguments.dataset}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))
    print(path)


if __name__ == "__main__":
    main()
