"""Measures models on data sets, one row per data set, model and seed.

    python benchmarks/quality.py --dataset tiktok --model gnnrec lightgcn implicit-als --seeds 0 1 2 3 4
    python benchmarks/quality.py --dataset tiktok --model gnnrec --name "128 wide" --option embedding_dim=128
    python benchmarks/quality.py --dataset tiktok --ablation

Models are gnnrec's presets and the peers of ``benchmarks/harness/models.py``, which also declares their grids;
``benchmarks/harness/plan.py`` declares data sets, splits and the variants of an ablation. Each fit runs in a process of
its own and ends as one row in ``benchmarks/results/quality``: a crash, an error or a fit beyond the time limit as a
failed row that says why. A row that exists is not made again, so an interrupted run goes on where it stopped, and
several runs may work side by side. Epochs and hyper-parameters are chosen on validation; later seeds take over the
hyper-parameters that seed 0 chose, so it comes first. The test set is read once per fit, and
``benchmarks/results/test-readings.jsonl`` logs each reading. ``benchmarks/tables.py`` turns the rows into
``docs/benchmarks.md``.

Needs Linux, gnnrec, the data sets below GNNREC_DATA_DIR, and for the peers

    pip install implicit cornac 'dgl<2' lenskit  # dgl is what Cornac's LightGCN runs on
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.plan import ABLATIONS, BENCHMARKS
from harness.rows import RESULTS, Fit, read_row, write_row


def main(arguments: list[str] | None = None) -> None:
    chosen = _parse(arguments)
    options = dict(chosen.option)
    if options and not chosen.name:
        raise SystemExit("--option changes the model: say by --name what the changed one is called")
    for dataset in chosen.dataset:
        if BENCHMARKS[dataset].raw_media and (trouble := in_own_process(None, _encode, dataset, chosen.device)):
            raise SystemExit(f"the media of {dataset} could not be encoded: {trouble}")
        variants = [(model, chosen.name, options) for model in chosen.model]
        variants += [("gnnrec", name, dict(ABLATIONS[name])) for name in chosen.ablation]
        for model, name, changed in variants:
            for seed in chosen.seeds:
                run_fit(chosen, Fit(dataset, model, seed, name), changed)


def run_fit(chosen: argparse.Namespace, fit: Fit, options: dict[str, Any]) -> None:
    """Sees to it that there is a row of the fit."""
    present, first = (read_row(chosen.results, one) for one in (fit, replace(fit, seed=0)))
    for row in (present, first):
        if row is not None and json.loads(row["options"]) != options:
            raise SystemExit(
                f"{fit}: there is a row of that name with the options {row['options']}; give another --name"
            )
    if present is not None and (present["status"] == "ok" or not chosen.retry):
        print(f"{fit}: there is a row already, {present['status']}", flush=True)
        return
    if fit.seed and first is not None and first["deterministic"]:
        return
    started = time.perf_counter()
    trouble = in_own_process(chosen.limit, _measure, chosen.results, fit, options, chosen.device)
    if trouble:
        write_row(chosen.results, fit, {"status": "failed", "reason": trouble, "options": json.dumps(options)})
    row = read_row(chosen.results, fit)
    if row is None:
        return  # a model without randomness, and another seed than 0
    result = f"validation recall@20 {row['valid recall@20']}" if row["status"] == "ok" else row["reason"]
    print(f"{fit}: {row['status']} after {time.perf_counter() - started:.0f} s, {result}", flush=True)


def in_own_process(limit: float | None, function: Callable[..., None], *arguments: Any) -> str:
    """Calls a function in a fresh process; returns why it did not end well, or an empty text."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments, daemon=True)
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return f"did not finish in {limit:g} s"
    if process.exitcode:
        ended = f"by {signal.Signals(-process.exitcode).name}" if process.exitcode < 0 else f"with {process.exitcode}"
        return f"the process was ended {ended}"
    return ""


def _measure(results: Path, fit: Fit, options: dict[str, Any], device: str) -> None:
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # some peers take a GPU wherever they see one
    from harness.measure import measure  # only in the process of the fit: it imports torch

    measure(results, fit, options, device)


def _encode(dataset: str, device: str) -> None:
    from harness.measure import encode_media

    encode_media(dataset, device)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", required=True, choices=BENCHMARKS)
    parser.add_argument("--model", nargs="+", default=[])
    parser.add_argument("--ablation", nargs="*", choices=ABLATIONS, help="variants of gnnrec; all if none is named")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--option", nargs="+", type=_option, default=[], metavar="NAME=VALUE", help="value in JSON")
    parser.add_argument("--name", default="", help="name of the variant that --option makes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--limit", type=float, default=4 * 3600, help="seconds that a fit with its grid may take")
    parser.add_argument("--retry", action="store_true", help="try failed fits again")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    if chosen.ablation is None:
        chosen.ablation = []
    elif not chosen.ablation:
        chosen.ablation = list(ABLATIONS)
    if not chosen.model and not chosen.ablation:
        parser.error("nothing to measure: name models by --model, or ask for --ablation")
    return chosen


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value  # a plain word, such as loss=bpr


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an orderly end, which takes the running fit along
    main()
