"""Sees to it that every fit of a command line has its row: each in a process of its own, none twice."""

import argparse
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from harness.plan import Benchmark
from harness.rows import RESULTS, Fit, Table, read_row, write_row

Variant: TypeAlias = tuple[str, str, dict[str, Any]]  # model, name of what is changed in it or "", changed options


def fit_parser(description: str | None, datasets: Iterable[str]) -> argparse.ArgumentParser:
    """Returns the options that say what to measure, and how often."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", required=True, choices=datasets)
    parser.add_argument("--model", nargs="+", default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--option", nargs="+", type=_option, default=[], metavar="NAME=VALUE", help="value in JSON")
    parser.add_argument("--name", default="", help="name of the variant that --option makes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--limit", type=float, default=4 * 3600, help="seconds that a fit with its grid may take")
    parser.add_argument("--retry", action="store_true", help="try failed fits again")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


def asked_variants(chosen: argparse.Namespace, models: Iterable[str]) -> list[Variant]:
    """Returns each model as the command line changes it, or as it comes.

    Args:
        chosen: What :func:`fit_parser` read.
        models: Names of models.
    """
    options = dict(chosen.option)
    if options and not chosen.name:
        raise SystemExit("--option changes the model: say by --name what the changed one is called")
    return [(model, chosen.name, options) for model in models]


def run_all(
    chosen: argparse.Namespace,
    variants: Sequence[Variant],
    benchmarks: Mapping[str, Benchmark],
    encode: Callable[[str, str], None],
    measure: Callable[..., None],
    table: Table,
) -> None:
    """Sees to it that there is a row of every variant, on every data set and with every seed of the command line.

    Args:
        chosen: What :func:`fit_parser` read.
        variants: What to fit.
        benchmarks: By the name of the data set.
        encode: Called as ``encode(dataset, device)`` in a process of its own, where media come raw.
        measure: As for :func:`run_fit`.
        table: Where the rows belong.
    """
    for dataset in chosen.dataset:
        if benchmarks[dataset].raw_media and (trouble := in_own_process(None, encode, dataset, chosen.device)):
            raise SystemExit(f"the media of {dataset} could not be encoded: {trouble}")
        for model, name, options in variants:
            for seed in chosen.seeds:
                run_fit(chosen, Fit(dataset, model, seed, name), options, measure, table)


def run_fit(
    chosen: argparse.Namespace, fit: Fit, options: dict[str, Any], measure: Callable[..., None], table: Table
) -> None:
    """Sees to it that there is a row of the fit.

    Args:
        chosen: What :func:`fit_parser` read.
        fit: The fit.
        options: What it changes in the model.
        measure: Called as ``measure(results, fit, options, device)`` in a process of its own; it writes the row.
        table: Where the row belongs.
    """
    present, first = (read_row(chosen.results, one, table) for one in (fit, replace(fit, seed=0)))
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
    trouble = in_own_process(chosen.limit, measure, chosen.results, fit, options, chosen.device)
    if trouble:
        failed = {"status": "failed", "reason": trouble, "options": json.dumps(options)}
        write_row(chosen.results, fit, failed, table)
    row = read_row(chosen.results, fit, table)
    if row is None:
        return  # a model without randomness, and another seed than 0
    result = f"validation recall@20 {row['valid recall@20']}" if row["status"] == "ok" else row["reason"]
    print(f"{fit}: {row['status']} after {time.perf_counter() - started:.0f} s, {result}", flush=True)


def as_command(main: Callable[[], None]) -> None:
    """Runs a script that fits, such that SIGTERM ends it in order and takes the running fit along."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()


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


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value  # a plain word, such as loss=bpr
