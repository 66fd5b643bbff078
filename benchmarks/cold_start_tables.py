"""Writes ``docs/benchmarks-cold-start.md`` from the rows that ``benchmarks/cold_start.py`` measured.

    python benchmarks/cold_start_tables.py

Every figure on the page comes from a row, and every row finds its way into it.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.evaluation.drawing import cycle
from harness import markdown
from harness.options import check_options
from harness.pages import DOCS, failed, since_changed, surroundings
from harness.pictures import draw_trade_offs
from harness.plan import COLD_START as BENCHMARKS
from harness.plan import Benchmark
from harness.rows import COLD_START, HARMONIC_MEAN, RESULTS, TRADE_OFF, VIEWS, per_user_column, read_rows, view_column
from harness.summary import compared_by_user

_FIGURES = [view_column("test", metric, view) for view in VIEWS[1:] for metric in ("recall@20", "ndcg@20")]
_AREA = "area under the curve"
_FIGURES += [view_column("test", "recall@20", "warm"), HARMONIC_MEAN, _AREA]
_WARM, _AMONG_ALL = (view_column("test", "recall@20", view) for view in ("warm", "cold among all"))
_CHOICE = view_column("valid", "recall@20", "cold among all")

_INTRODUCTION = """# Benchmarks of cold start

`benchmarks/cold_start_tables.py` wrote this page from the rows in `benchmarks/results/cold-start`, which
`benchmarks/cold_start.py` measured: one row per data set, preset and seed. No figure on it was typed by hand.

## How it was measured

- New items are those without a training interaction. Where a split takes them out of train altogether, they are
  attached after the fit by the code of `add_items`, from their media and, where the data have relations between
  items, those of the items that they are joined to. Of the presets only `gnnrec` reads relations.
- "Among cold" ranks new items only, "among all" the whole catalogue. "Warm" are test items with training interactions,
  ranked among all items, new ones included: on splits without such test pairs a tenth of the training pairs (seed 0) is
  held out for it. "Harmonic" is the harmonic mean of warm and among all: both are figures of one and the same list.
- `random` is the expectation of a random order, in closed form. A preset that cannot take in new items misses them.
- Presets run as they come; of those with a grid, the candidate with the best recall@20 of the new items of the
  validation part among all items is kept. The options with which `gnnrec` comes were found on validation pairs of these
  data sets, those of the references were not. Training and validation pairs are hidden from the rankings.
- ± is the standard deviation over seeds. Comparisons are of each user's recall@20, averaged over the seeds (of
  variants, over those that both have), by a paired bootstrap over users: difference, 95 % interval, p-value.
- Who shows more new items finds more of them, and less of the rest. So a curve shows, for each model, both recalls as
  an offset to the scores of all new items grows; a dot is the list as the model gives it. "At its warm recall" is read
  off the curve where its warm recall is that of the other model as it comes. "Area" is that under the curve (Chao et
  al. 2016), which no offset changes.
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    chosen = parser.parse_args(arguments)
    rows = read_rows(chosen.results, COLD_START)
    check_options(rows)
    rows[_AREA] = [_area(known, new) for known, new in rows[[*TRADE_OFF]].itertuples(index=False)]
    sections = [_INTRODUCTION]
    traded = sorted(
        rows.loc[rows[TRADE_OFF[0]].notna(), "model"].unique(), key=lambda model: (model != "gnnrec", model)
    )
    colours = dict(zip(traded, cycle(len(traded)), strict=True))  # a model has the same one in all pictures
    for name, benchmark in BENCHMARKS.items():
        of_dataset = rows[rows["dataset"] == name]
        if len(of_dataset):
            sections.append(section(name, benchmark, of_dataset, colours, chosen.docs))
    (chosen.docs / "benchmarks-cold-start.md").write_text("\n".join([*sections, surroundings(rows)]), encoding="utf-8")


def section(name: str, benchmark: Benchmark, rows: pd.DataFrame, colours: Mapping[str, str], docs: Path) -> str:
    """Returns the section of one data set: its models, the variants of each, and what failed; draws its picture."""
    went_well, went_wrong = rows[rows["status"] == "ok"], rows[rows["status"] != "ok"]
    parts = [f"## {benchmark.title}\n", f"[{name}](../datasets/{name}.md). Split: {benchmark.split}.\n"]
    models = went_well[went_well["variant"] == ""]
    if len(models):
        users = [f"{models[view_column('test', 'users', view)].max():,.0f} {view}" for view in VIEWS]
        figures = _compared_figures(models, "model") + since_changed(models)
        parts += [f"Users with a test pair: {', '.join(users)}.\n", figures]
    traded = models[models[TRADE_OFF[0]].notna()]
    if traded["model"].nunique() > 1 and "gnnrec" in set(traded["model"]):
        picture = f"images/trade-off-{name}.png"
        draw_trade_offs(traded, colours, benchmark.title, docs / picture)
        title = f"New items against known ones on {benchmark.title}"
        parts += ["**At the same recall of warm items**\n", f"![{title}]({picture})\n", _at_the_same_price(traded)]
    for model, of_model in went_well.groupby("model"):
        if of_model["variant"].any():
            parts += [f"**Variants of `{model}`**\n", _compared_figures(of_model, "variant")]
    if len(went_wrong):
        parts.append(failed(went_wrong))
    return "\n".join(parts)


def _compared_figures(rows: pd.DataFrame, by: str) -> str:
    """Returns one line per model or variant, each compared with the default model, or with the one unchanged."""
    reference = "gnnrec" if by == "model" else ""
    groups = rows.groupby(by, sort=False)
    columns = [*_FIGURES, _CHOICE]
    summary = groups[columns].mean().join(groups[columns].std(ddof=1).add_suffix(" sd"))
    summary = summary.sort_values(_FIGURES[2], ascending=False, kind="stable")
    lines = []
    for name, line in summary.iterrows():
        cells = [f"`{name}`" if by == "model" else name or "as it comes", groups["seed"].nunique()[name]]
        cells += [*(markdown.mean(line, column) for column in _FIGURES), markdown.number(line[_CHOICE])]
        for view in (*VIEWS[1:], VIEWS[0]):
            if name == reference or reference not in summary.index:
                cells.append("")
                continue
            usual, changed = (rows[rows[by] == one] for one in (reference, name))
            if by == "variant":
                both = set(usual["seed"]) & set(changed["seed"])
                usual, changed = (one[one["seed"].isin(both)] for one in (usual, changed))
            column = per_user_column(view_column("test", "recall@20", view))
            cells.append(markdown.compared(compared_by_user(usual, changed, column)))
        if by == "variant":
            cells.append(markdown.plain(rows.loc[rows[by] == name, "options"].iloc[0]))
        lines.append(cells)
    header = [by, "seeds", "recall@20 among cold", "ndcg@20 among cold", "recall@20 among all", "ndcg@20 among all"]
    header += ["warm recall@20", "harmonic", "area", "validation recall@20 among all"]
    against = "`gnnrec`" if by == "model" else "the model as it comes"
    header += [f"{against} against it, {view}" for view in ("among cold", "among all", "warm")]
    return markdown.table(header if by == "model" else [*header, "options"], lines)


def _at_the_same_price(rows: pd.DataFrame) -> str:
    """Returns one line per other model: what it and the default model find of new items where both pay as much."""
    summary = rows.groupby("model", sort=False)[[_WARM, _AMONG_ALL]].mean()
    summary = summary.sort_values(_AMONG_ALL, ascending=False, kind="stable")
    warm, among_all = summary.loc["gnnrec", [_WARM, _AMONG_ALL]]
    lines = []
    for name, line in summary.drop(index="gnnrec").iterrows():
        ours = _found_at(rows[rows["model"] == "gnnrec"], line[_WARM])
        theirs = _found_at(rows[rows["model"] == name], warm)
        figures = (line[_WARM], line[_AMONG_ALL], ours, theirs)
        lines.append([f"`{name}`", *map(markdown.number, figures)])
    header = ["model", "warm recall@20 as it comes", "recall@20 among all", "`gnnrec` among all at its warm recall"]
    header += ["the model among all at that of `gnnrec`"]
    as_it_comes = f"warm recall@20 {markdown.number(warm)}, {markdown.number(among_all)} among all"
    return markdown.table(header, lines) + f"\n`gnnrec` as it comes: {as_it_comes}.\n"


def _found_at(rows: pd.DataFrame, warm: float) -> float:
    """Returns the recall of new items among all at a warm recall, a mean over seeds; none above its best."""
    known, new = (np.stack(rows[column].to_list()).astype(np.float64) for column in TRADE_OFF)
    at = [np.interp(warm, one[::-1], other[::-1], right=np.nan) for one, other in zip(known, new, strict=True)]
    return float(np.mean(at))


def _area(known: NDArray[np.float32] | None, new: NDArray[np.float32] | None) -> float:
    """Returns the area under one row's curve; NaN without one. Known recall falls from point to point."""
    if known is None or new is None:
        return np.nan
    return float(-np.trapezoid(new, known) + known[-1] * new[-1])  # on: nothing is left to find of new items


if __name__ == "__main__":
    main()
