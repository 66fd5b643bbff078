"""Measures models on data sets, one row per data set, model and seed.

    python benchmarks/quality.py --dataset tiktok --model gnnrec lightgcn implicit-als --seeds 0 1 2 3 4
    python benchmarks/quality.py --dataset tiktok --model gnnrec --name "128 wide" --option embedding_dim=128
    python benchmarks/quality.py --dataset tiktok --ablation --fusions --alignments

Models are gnnrec's presets and the peers of ``benchmarks/harness/models.py``, which also declares their grids;
``benchmarks/harness/plan.py`` declares data sets, splits and variants. Each fit runs in a process of
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
import os
from pathlib import Path
from typing import Any

from harness import run
from harness.plan import ABLATIONS, ALIGNMENTS, BENCHMARKS, OTHER_FUSIONS, SEQUENCES
from harness.rows import QUALITY, Fit


def main(arguments: list[str] | None = None) -> None:
    chosen = _parse(arguments)
    variants = run.asked_variants(chosen, chosen.model)
    variants += [("gnnrec", name, dict(options)) for name, options in chosen.variants.items()]
    run.run_all(chosen, variants, BENCHMARKS, _encode, _measure, QUALITY)


def _measure(results: Path, fit: Fit, options: dict[str, Any], device: str) -> None:
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # some peers take a GPU wherever they see one
    from harness.measure import measure  # only in the process of the fit: it imports torch

    measure(results, fit, options, device)


def _encode(dataset: str, device: str) -> None:
    from harness.measure import encode_media

    encode_media(dataset, device)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = run.fit_parser(__doc__, BENCHMARKS)
    parser.add_argument("--ablation", nargs="*", choices=ABLATIONS, help="variants of gnnrec; all if none is named")
    parser.add_argument("--fusions", action="store_true", help="gnnrec with every other fusion")
    parser.add_argument("--alignments", action="store_true", help="gnnrec with every alignment objective")
    parser.add_argument("--sequences", action="store_true", help="gnnrec with every encoder of events in order")
    chosen = parser.parse_args(arguments)
    left_out = ABLATIONS if chosen.ablation == [] else {name: ABLATIONS[name] for name in chosen.ablation or ()}
    chosen.variants = {
        **left_out,
        **(OTHER_FUSIONS if chosen.fusions else {}),
        **(ALIGNMENTS if chosen.alignments else {}),
        **(SEQUENCES if chosen.sequences else {}),
    }
    if not chosen.model and not chosen.variants:
        parser.error("nothing to measure: name models by --model, or ask for variants by --ablation, --fusions, …")
    return chosen


if __name__ == "__main__":
    run.as_command(main)
