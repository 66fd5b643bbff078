"""Measures gnnrec's presets on new items, one row per data set, preset and seed.

    python benchmarks/cold_start.py --dataset citeulike-a-coldstart
    python benchmarks/cold_start.py --dataset tiktok --model gnnrec --name "no hidden items" --option identity_dropout=0

``COLD_START`` in ``benchmarks/harness/plan.py`` declares the data sets. Every row has three views of the test set: new
items ranked among such items and among all, and warm items ranked among all, new ones included; ``random`` is the
expectation of a random order. Hyper-parameters of a grid are chosen by recall@20 of the new items of the validation
part among all items. Processes, rows, variants and seeds are those of ``benchmarks/quality.py``; rows lie in
``benchmarks/results/cold-start``, and the readings of test sets are logged in the same file.
``benchmarks/cold_start_tables.py`` turns the rows into ``docs/benchmarks-cold-start.md``.

Needs Linux, gnnrec, and the data sets below GNNREC_DATA_DIR.
"""

from pathlib import Path
from typing import Any

from harness import run
from harness.plan import COLD_START as BENCHMARKS
from harness.rows import COLD_START, Fit

MODELS = ("gnnrec", "content-knn", "dropoutnet", "clcrec", "generative", "vbpr", "popularity", "random")


def main(arguments: list[str] | None = None) -> None:
    chosen = run.fit_parser(__doc__, BENCHMARKS).parse_args(arguments)
    variants = run.asked_variants(chosen, chosen.model or MODELS)
    run.run_all(chosen, variants, BENCHMARKS, _encode, _measure, COLD_START)


def _measure(results: Path, fit: Fit, options: dict[str, Any], device: str) -> None:
    from harness.cold_start import measure  # only in the process of the fit: it imports torch

    measure(results, fit, options, device)


def _encode(dataset: str, device: str) -> None:
    from harness.cold_start import encode_media

    encode_media(dataset, device)


if __name__ == "__main__":
    run.as_command(main)
