"""Writes ``docs/benchmarks.md`` and its pictures from the rows that ``benchmarks/quality.py`` measured.

    python benchmarks/tables.py

The page is written as a whole, every figure in it comes from a row, and every row finds its way into it: the failed
ones with their reason. Needs ``gnnrec[plot]``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from harness import markdown
from harness.options import check_options, other_grids
from harness.overview import beside_published, variants_of_all, worth_of_media
from harness.pages import DOCS, failed, since_changed, surroundings
from harness.pictures import draw_quality
from harness.plan import BENCHMARKS, Benchmark
from harness.rows import (
    AMONG_RARE_PER_USER,
    MASKS,
    RARE,
    RARE_PER_USER,
    RESULTS,
    TEST_METRICS,
    cold_column,
    per_user_column,
    read_rows,
    read_test_readings,
    test_column,
)
from harness.summary import against_best_other, compared_by_user, headline, slice_table, summarise

_INTRODUCTION = """# Benchmarks

`benchmarks/tables.py` wrote this page from the rows in `benchmarks/results/quality`, which `benchmarks/quality.py`
measured: one row per data set, model and seed. No figure on it was typed by hand, but the published ones.

## How it was measured

- All items of the catalogue are ranked for every user with a test item; nothing is sampled. Metrics are those of
  [evaluation.md](evaluation.md), means over users, then over seeds. All models are ranked, masked and measured by the
  same code, the peers too: a peer only gives scores.
- "train+valid masked" hides the training and validation pairs of the user from the ranking; "train masked" hides the
  training pairs only, as MMRec does, so that validation items stay in the list as certain misses. Without a validation
  part there is only the second.
- Epochs and hyper-parameters are chosen by recall@20 on validation pairs. Without a validation part, a tenth of the
  training pairs is held out for that, and the chosen model is fitted once more on all of them. Seed 0 searches the
  grid, the other seeds take over what it chose.
- gnnrec's trained presets run as they come, its closed-form ones and the peers with the best of their grid. Vectors
  have 64 numbers (`pgl` 64 for each modality, `cornac-vbpr` 32 and 32); closed-form models have no such limit, and
  neither has the linear part that `gnnrec` adds to its vectors; where content counts beside histories, it compares up
  to 256 numbers more. The options with which `gnnrec` comes were themselves found on validation pairs of these data
  sets. Where several splits are of one log, test pairs of one are training or validation pairs of another.
- The validation pairs that choose are those by which training stops, for all models alike. So the validation recall of
  the tables is optimistic, and only test figures compare.
- ± is the standard deviation over seeds; models without randomness are fitted once.
- "against the best other" compares each user's recall@20, averaged over the seeds, with that of the best other model
  (for the best: of the runner-up) by a paired bootstrap over users: difference, 95 % interval, p-value. The best other
  is found on the same test pairs, and nothing is corrected for the number of comparisons: of a hundred models that
  are alike, five have a p-value below .05.
- Variants are compared with their model on the seeds that both have. The bootstrap is over users alone, so it tells
  nothing of other seeds, of which two can differ as surely. What one seed says of a variant is a hint.
- Every fit runs in a process of its own. Its time is that of the fit that is measured, choice of epochs included,
  without encoding media and without the other candidates of the grid. Its memory is the peak of the process.
- A row says with which options it was measured. Of rows older than an option, some were completed by the value with
  which the model stays as it was.
- Of events of the same second, the one that comes last in the file is the last event of a person.
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    chosen = parser.parse_args(arguments)
    rows, readings = read_rows(chosen.results), read_test_readings(chosen.results)
    check_options(rows)
    sections = [_INTRODUCTION]
    for name, benchmark in BENCHMARKS.items():
        of_dataset = rows[rows["dataset"] == name]
        if len(of_dataset):
            sections.append(section(name, benchmark, of_dataset, chosen.docs))
    sections += [
        worth_of_media(rows),
        *variants_of_all(rows),
        beside_published(rows),
        _models(rows),
        _readings(readings),
        surroundings(rows),
    ]
    (chosen.docs / "benchmarks.md").write_text("\n".join(sections), encoding="utf-8")


def section(name: str, benchmark: Benchmark, rows: pd.DataFrame, docs: Path) -> str:
    """Returns the section of one data set, and draws its picture."""
    went_well = rows[rows["status"] == "ok"]
    models = went_well[went_well["variant"] == ""]
    dataset = benchmark.dataset or name
    parts = [f"## {benchmark.title}\n", f"[{dataset}](../datasets/{dataset}.md). Split: {benchmark.split}.\n"]
    if len(models):
        summary = summarise(models)
        picture = docs / "images" / f"quality-{name}.png"
        draw_quality(summary, benchmark.title, picture)
        parts.append(f"![recall@20 of every model on {benchmark.title}](images/{picture.name})\n")
        if _masks_agree(summary):
            parts.append("No test user has a validation pair, so both maskings give the same figures.\n")
            parts.append(_quality(summary, models, MASKS[-1]))
        else:
            parts += [_quality(summary, models, mask) for mask in _masks(summary)]
        parts += [_items(summary, models), _cost(summary, models)]
    for model, of_model in went_well.groupby("model"):
        if of_model["variant"].any():
            parts.append(_variants(str(model), of_model))
    went_wrong = rows[rows["status"] != "ok"]
    if len(went_wrong):
        parts.append(failed(went_wrong))
    return "\n".join(parts)


def _quality(summary: pd.DataFrame, rows: pd.DataFrame, mask: str) -> str:
    ranked = summary.sort_values(test_column("recall@20", mask), ascending=False, kind="stable")
    comparison = against_best_other(rows, list(ranked.index), mask)
    lines = [
        [
            f"`{model}`",
            line["num_seeds"],
            *(markdown.mean(line, test_column(metric, mask)) for metric in TEST_METRICS),
            markdown.compared(comparison.get(model)),
        ]
        for model, line in ranked.iterrows()
    ]
    header = ["model", "seeds", *TEST_METRICS, "recall@20 against the best other"]
    users = int(rows["num_test_users"].max())
    return f"**Test, {mask} masked** ({users:,} users)\n\n" + markdown.table(header, lines)


def _items(summary: pd.DataFrame, rows: pd.DataFrame) -> str:
    slices = slice_table(rows).loc[summary.index]
    header = ["model", *slices.columns]
    cold = summary[cold_column("recall@20")].notna().any()
    lines = []
    for model, line in summary.iterrows():
        cells = [f"`{model}`", *map(markdown.number, slices.loc[model])]
        lines.append([*cells, markdown.mean(line, cold_column("recall@20"))] if cold else cells)
    title = f"**recall@20 by the training events of the item** (test pairs in brackets; {_masks(summary)[-1]} masked)\n"
    if cold:
        header.append("0, among such items only")
        title += "\nIn the last column, the order of a model that knows nothing of new items means nothing.\n"
    return title + "\n" + markdown.table(header, lines)


def _cost(summary: pd.DataFrame, rows: pd.DataFrame) -> str:
    chosen = {str(model): _chosen(of_model) for model, of_model in rows.groupby("model")}
    lines = [
        [
            f"`{model}`",
            markdown.seconds(line["fit_seconds"]),
            markdown.seconds(line["search_seconds"]),
            f"{line['peak_memory_gib']:.2f}",
            _device(line),
            "" if pd.isna(line["best_epoch"]) else f"{line['best_epoch']:.0f}",
            markdown.number(line["valid recall@20"]),
            chosen[str(model)],
        ]
        for model, line in summary.iterrows()
    ]
    header = ["model", "fit", "all fits of the grid", "peak GiB", "on", "best epoch", "validation recall@20", "chosen"]
    title = "**Time and memory of a fit** (\\*: at the end of what the grid holds)\n\n"
    grids = [f"`{model}` ({tried} of {now})" for model, (tried, now) in other_grids(rows).items()]
    narrower = (
        f"\nMeasured before the grid became what it is: {'; '.join(grids)} candidates were tried.\n" if grids else ""
    )
    return title + markdown.table(header, lines) + since_changed(rows) + narrower


def _chosen(rows: pd.DataFrame) -> str:
    """Returns what validation chose; a star marks the least or the largest of three values or more."""
    trials = max(map(json.loads, rows["trials"].dropna()), key=len, default=[])
    texts = []
    for name, value in json.loads(rows["hyperparameters"].iloc[0]).items():
        tried = sorted({one[name] for one in trials if name in one})
        texts.append(f"{name}: {value}" + ("*" if len(tried) > 2 and value in (tried[0], tried[-1]) else ""))
    return markdown.plain(", ".join(texts))


def _variants(model: str, rows: pd.DataFrame) -> str:
    summary = summarise(rows, by="variant")
    column, mask = headline(summary), _masks(summary)[-1]
    whole = rows[rows["variant"] == ""]
    comparisons = (per_user_column(test_column("recall@20", mask)), RARE_PER_USER, AMONG_RARE_PER_USER)
    lines = []
    for variant, line in summary.iterrows():
        compared = [None] * len(comparisons)
        if variant and len(whole):
            seeds = set(whole["seed"]) & set(rows.loc[rows["variant"] == variant, "seed"])
            of_seeds = rows[rows["seed"].isin(seeds)]
            changed, usual = (of_seeds[of_seeds["variant"] == name] for name in (variant, ""))
            if seeds:
                compared = [compared_by_user(changed, usual, one) for one in comparisons]
        ndcg = column.replace("recall", "ndcg")
        lines.append([variant or f"`{model}`", line["num_seeds"], markdown.number(line["valid recall@20"])])
        lines[-1] += [
            markdown.mean(line, column),
            markdown.mean(line, ndcg),
            markdown.mean(line, cold_column("recall@20")),
        ]
        options = rows.loc[rows["variant"] == variant, "options"].iloc[0]
        lines[-1] += [*map(markdown.compared, compared), markdown.plain(options)]
    header = ["variant", "seeds", "validation recall@20", "recall@20", "ndcg@20", "cold items among such"]
    header += [f"recall@20 against `{model}`", "the same on rare items", "rare ones ranked among such only", "options"]
    note = f"**Variants of `{model}`** (test, {mask} masked; an item of at most {RARE} training events is rare)\n\n"
    return note + markdown.table(header, lines)


def _models(rows: pd.DataFrame) -> str:
    lines = []
    for model, of_model in rows.groupby("model"):
        last = of_model.dropna(subset=["versions"]).tail(1)
        package = last["package"].item() if len(last) else ""
        version = json.loads(last["versions"].item()).get(package, "not installed") if len(last) else ""
        lines.append([f"`{model}`", package, version, _tried(of_model[of_model["variant"] == ""])])
    return "## Models and grids\n\n" + markdown.table(["model", "package", "version", "grid"], lines)


def _readings(readings: pd.DataFrame) -> str:
    lines = [
        [f"`{name}`", len(of_dataset), of_dataset["model"].nunique(), of_dataset["date"].min()[:10]]
        for name, of_dataset in readings.groupby("dataset")
    ]
    return (
        "## Readings of the test sets\n\nEvery reading is logged in `benchmarks/results/test-readings.jsonl` before it "
        "is made: once per fit, all maskings and slices together.\n\n"
        + markdown.table(["data set", "readings", "models", "first"], lines)
    )


def _masks(summary: pd.DataFrame) -> list[str]:
    return [mask for mask in MASKS if summary[test_column("recall@20", mask)].notna().any()]


def _masks_agree(summary: pd.DataFrame) -> bool:
    pairs = [[summary[test_column(metric, mask)] for mask in MASKS] for metric in TEST_METRICS]
    return all(first.equals(second) for first, second in pairs)


def _device(line: pd.Series) -> str:
    if line["device"] == "cpu":
        return f"CPU, {markdown.threads(line['threads'])}"
    return f"{line['device']}, {line['peak_device_memory_gib']:.2f} GiB"


def _tried(rows: pd.DataFrame) -> str:
    """Returns the values of each hyper-parameter that any of the fits tried."""
    fits = rows.dropna(subset=["trials"])
    tried = [one for text in fits["trials"] for one in json.loads(text)] + list(
        map(json.loads, fits["hyperparameters"])
    )
    values: dict[str, set[Any]] = {}
    for candidate in tried:
        for name, value in candidate.items():
            if name not in ("valid recall@20", "seconds"):
                values.setdefault(name, set()).add(value)
    texts = [f"{name} {', '.join(map(str, sorted(found)))}" for name, found in values.items()]
    return "; ".join(texts) or ("as it comes" if tried else "")


if __name__ == "__main__":
    main()
