"""Measures the default model while media are missing or noisy, one row per damage and seed, and draws the curves.

    python benchmarks/robustness.py --dataset tiktok
    python benchmarks/robustness.py --dataset ml-100k-multimodal --modality poster --kinds missing --shares 0 0.5 1
    python benchmarks/robustness.py --draw

A damage takes the vectors of a share of the items that have them, known and new items alike: ``missing`` leaves them
out, ``noise`` puts normal noise with the mean and deviation of the modality in their place. The owners are drawn with
the seed of the fit, those of a larger share contain those of a smaller one, and what is measured is that of
``benchmarks/cold_start.py``, on validation pairs: no test set is read. Rows lie in ``benchmarks/results/robustness``;
those that exist are not measured again. ``--draw`` fits nothing: it writes ``docs/robustness.md`` and its pictures.

Needs Linux, gnnrec with the extra ``plot``, and the data sets below GNNREC_DATA_DIR.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import gnnrec as gr
from harness import markdown, run
from harness.options import check_options
from harness.pages import DOCS, failed, since_changed, surroundings
from harness.pictures import draw_robustness
from harness.plan import COLD_START as BENCHMARKS
from harness.plan import Benchmark
from harness.rows import RESULTS, ROBUSTNESS, Fit, per_user_column, read_rows, view_column
from harness.summary import compared_by_user

DATASETS = ("ml-100k-multimodal", "tiktok")
KINDS = ("missing", "noise")
SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
VIEWS = {
    "warm": view_column("valid", "recall@20", "warm"),
    "cold": view_column("valid", "recall@20", "cold among cold"),
}

_INTRODUCTION = """# Missing and noisy media

`benchmarks/robustness.py` wrote this page from the rows in `benchmarks/results/robustness`, which it measured: one row
per data set, damage and seed. No figure on it was typed by hand.

- A share of the items that have a modality loses it (missing), or gets normal noise instead, with the mean and
  deviation of the modality in each dimension. Known and new items are drawn alike, with the seed of the fit; the items
  of a larger share contain those of a smaller one. The model is fitted on the damaged media.
- All of them missing means that the modality is not there at all.
- Recall@20 of validation pairs, training pairs hidden; the test set is not read. "Warm" are items with training
  interactions, ranked among all items, new ones included; "cold" are new items, ranked among new items. On a split
  that takes new items out of train, a tenth of the training pairs (seed 0) is held out for the warm ones, as a tenth is
  for the warm test pairs of [benchmarks-cold-start.md](benchmarks-cold-start.md). Elsewhere the validation pairs have
  also chosen the epoch.
- Changes are relative to the undamaged fit of the same seed, means over seeds. Two seeds of the same fit differ by one
  or two per cent of the warm recall: of one seed, a change of that size means nothing.
- "Noise against without" compares each user's recall@20, averaged over the seeds that both have, by a paired bootstrap:
  difference, 95 % interval, p-value. A positive difference says that a modality of noise does no harm. The bootstrap
  is over users alone: of one seed it takes chance in training for an effect.
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--modality", nargs="+", default=[], help="of items; all when not given")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--shares", nargs="+", type=float, choices=SHARES, default=SHARES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--limit", type=float, default=3600, help="seconds that a fit may take")
    parser.add_argument("--retry", action="store_true", help="try failed fits again")
    parser.add_argument("--draw", action="store_true", help="write the page of the rows that are there; no fit")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    chosen = parser.parse_args(arguments)
    if chosen.draw:
        write_page(chosen.results, chosen.docs)
        return
    for dataset in chosen.dataset:
        for seed in chosen.seeds:
            for name, options in damages(dataset, chosen.modality, chosen.kinds, chosen.shares):
                run.run_fit(chosen, Fit(dataset, "gnnrec", seed, name), options, _measure, ROBUSTNESS)


def damages(
    dataset: str, modalities: Sequence[str], kinds: Sequence[str], shares: Sequence[float]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and the options of every fit of a data set; nothing is damaged in the first one."""
    known = [name for name, spec in gr.datasets.load(dataset).modalities.items() if spec.of == "item"]
    if unknown := set(modalities) - set(known):
        raise SystemExit(f"{dataset} has no modality {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    if 0 in shares:
        yield "", {}
    for modality in modalities or known:
        for kind in kinds:
            for share in filter(None, shares):
                yield f"{modality} {kind} {share:g}", {"modality": modality, "kind": kind, "share": share}


def write_page(results: Path, docs: Path) -> None:
    """Writes ``robustness.md``, and a picture of each data set that has rows."""
    rows = read_rows(results, ROBUSTNESS)
    check_options(rows)
    sections = [_INTRODUCTION]
    for name in DATASETS:
        of_dataset = rows[rows["dataset"] == name]
        if len(of_dataset):
            sections.append(section(name, BENCHMARKS[name], of_dataset, docs))
    (docs / "robustness.md").write_text("\n".join([*sections, surroundings(rows)]), encoding="utf-8")


def section(name: str, benchmark: Benchmark, rows: pd.DataFrame, docs: Path) -> str:
    """Returns the section of one data set, and draws its picture."""
    went_well, went_wrong = rows[rows["status"] == "ok"], rows[rows["status"] != "ok"]
    parts = [f"## {benchmark.title}\n", f"[{name}](../datasets/{name}.md). Split: {benchmark.split}.\n"]
    went_well = _with_damage(went_well)
    if (went_well["share"] == 0).any():
        picture = f"images/robustness-{name}.png"
        draw_robustness(went_well, VIEWS, benchmark.title, docs / picture)
        parts += [f"![recall@20 by the share of damaged items on {benchmark.title}]({picture})\n", _changes(went_well)]
        parts.append(_noise_against_without(went_well) + since_changed(went_well[went_well["variant"] == ""]))
    if len(went_wrong):
        parts.append(failed(went_wrong))
    return "\n".join(parts)


def _with_damage(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with the columns ``modality``, ``kind`` and ``share``; share 0 where nothing is damaged."""
    options = rows["options"].map(json.loads)
    columns = {name: options.map(lambda one, name=name: one.get(name)) for name in ("modality", "kind", "share")}
    return rows.assign(**columns).fillna({"share": 0.0})


def _changes(rows: pd.DataFrame) -> str:
    """Returns what is lost: the change of each view against the undamaged fit of the same seed."""
    whole = rows[rows["share"] == 0].set_index("seed")
    undamaged = ", ".join(f"{view} {markdown.number(whole[column].mean())}" for view, column in VIEWS.items())
    lines = []
    for (modality, kind), of_kind in rows[rows["share"] > 0].groupby(["modality", "kind"], sort=False):
        for view, column in VIEWS.items():
            change = of_kind[column] / of_kind["seed"].map(whole[column]) - 1
            mean = change.groupby(of_kind["share"]).mean()
            lines.append([modality, kind, view, *(_percent(mean.get(share)) for share in SHARES[1:])])
    header = ["modality", "damage", "items", *(f"{share:.0%}".replace("%", " %") for share in SHARES[1:])]
    seeds = f"{len(whole)} seed{'s' if len(whole) > 1 else ''}"
    return f"Recall@20 of the undamaged fit ({seeds}): {undamaged}. Change of it:\n\n{markdown.table(header, lines)}"


def _noise_against_without(rows: pd.DataFrame) -> str:
    """Returns, for each modality, how nothing but noise compares with not having it."""
    lines = []
    for modality, of_modality in rows[rows["share"] == 1].groupby("modality", sort=False):
        noise, without = (of_modality[of_modality["kind"] == kind].set_index("seed") for kind in ("noise", "missing"))
        seeds = noise.index.intersection(without.index)
        if len(seeds):
            lines.append([modality, len(seeds)])
            for column in VIEWS.values():
                compared = compared_by_user(noise.loc[seeds], without.loc[seeds], per_user_column(column))
                lines[-1].append(markdown.compared(compared))
    return "Noise against without:\n\n" + markdown.table(["modality", "seeds", *VIEWS], lines) if lines else ""


def _percent(change: float | None) -> str:
    return "" if change is None or pd.isna(change) else f"{change:+.1%}".replace("%", " %")


def _measure(results: Path, fit: Fit, options: dict[str, Any], device: str) -> None:
    from harness.robustness import measure  # only in the process of the fit: it imports torch

    measure(results, fit, options, device)


if __name__ == "__main__":
    run.as_command(main)
