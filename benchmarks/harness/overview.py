"""Writes what spans all data sets: variants of the default model side by side, and presets beside published figures."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from harness import markdown
from harness.plan import ABLATIONS, ALIGNMENTS, BENCHMARKS, OTHER_FUSIONS, PUBLISHED, VECTORS_ALONE, WITHOUT_MEDIA
from harness.rows import MASKS, PER_USER_METRICS, RARE, RARE_PER_USER, per_user_column, test_column
from harness.summary import compared_by_user, summarise

_PARTS = """## Parts of the default model

The default model with one of its parts left out, or another in its place. Validation recall@20 is what may choose a
default; it is absent where there is no validation part. Beside it recall@20 on test, training pairs masked. Of the
variants both are differences from the default on the same seeds.
"""

_ALTERNATIVES = """## Fusions and alignment objectives

The vectors of the default model alone, with every other fusion, and with every alignment objective at the weight .03
beside the ranking loss: these change the vectors, and what is added to their products would hide some of that. Figures
as above.
A part that is not ahead on every data set by more than seeds differ is not worth being the default: attention, which
also explains itself, and no alignment loss, since the ranking loss brings the modalities together as far as ranking
needs it. Where retrieval across modalities is wanted, the space of search is aligned apart
([benchmarks-alignment.md](benchmarks-alignment.md)).
"""

_MEDIA = f"""## What the media are worth

The default model less the same model without media, per test user and averaged over the seeds of each, by a paired
bootstrap over users. Once training pairs alone are masked, and once validation pairs as well, where there are any, as
they are for items of at most {RARE} training events. While they are not, they take places in the list away from test
pairs, and a model that ranks them better loses more.
"""

_PUBLISHED = """## Presets beside published figures

Training pairs masked, as in the publications. Published figures stand in `benchmarks/harness/plan.py`.
"""


def variants_of_all(rows: pd.DataFrame) -> list[str]:
    """Returns the sections on the parts of the default model and on what could stand in their places."""
    return [
        _side_by_side(rows, _PARTS, "", ABLATIONS),
        _side_by_side(rows, _ALTERNATIVES, VECTORS_ALONE, {**OTHER_FUSIONS, **ALIGNMENTS}),
    ]


def worth_of_media(rows: pd.DataFrame) -> str:
    """Returns the section on what media add to the default model, on each data set that was fitted without them too."""
    lines = []
    columns = [per_user_column(test_column(metric, mask)) for mask in MASKS for metric in PER_USER_METRICS]
    columns.append(RARE_PER_USER)
    of_default = rows[(rows["model"] == "gnnrec") & (rows["status"] == "ok")]
    for name, benchmark in BENCHMARKS.items():
        of_dataset = of_default[of_default["dataset"] == name]
        whole, without = (of_dataset[of_dataset["variant"] == variant] for variant in ("", WITHOUT_MEDIA))
        if not len(whole) or not len(without):
            continue
        measured = [compared_by_user(whole, without, column) for column in columns]
        seeds = f"{len(whole)} / {len(without)}"
        lines.append([benchmark.title, seeds, *map(markdown.compared, measured)])
    if not lines:
        return ""
    figures = [f"{metric}, {mask} masked" for mask in MASKS for metric in PER_USER_METRICS]
    header = ["data set", "seeds with / without", *figures, "recall@20 of rare items"]
    return f"{_MEDIA}\n{markdown.table(header, lines)}"


def beside_published(rows: pd.DataFrame) -> str:
    """Returns the section on presets that others have measured too, on the same split."""
    column = test_column("recall@20", MASKS[0]), test_column("ndcg@20", MASKS[0])
    lines = []
    for one in PUBLISHED:
        of_preset = rows[(rows["dataset"] == one.dataset) & (rows["model"] == one.preset) & (rows["variant"] == "")]
        of_preset = of_preset[of_preset["status"] == "ok"]
        ours = ["not measured", ""]
        if len(of_preset):
            summary = summarise(of_preset).loc[one.preset]
            ours = [markdown.mean(summary, name) for name in column]
        theirs = [markdown.number(one.recall), markdown.number(one.ndcg)]
        lines.append([BENCHMARKS[one.dataset].title, f"`{one.preset}`", len(of_preset), *ours, *theirs, one.source])
    header = ["data set", "preset", "seeds", "recall@20", "ndcg@20", "published recall@20", "ndcg@20", "by"]
    return f"{_PUBLISHED}\n{markdown.table(header, lines)}"


def _side_by_side(rows: pd.DataFrame, introduction: str, whole: str, named: Collection[str]) -> str:
    """Returns a table of variants, beside the variant that they are a change of."""
    of_default = rows[(rows["model"] == "gnnrec") & (rows["status"] == "ok")]
    measured = {name: set(of_default.loc[of_default["dataset"] == name, "variant"]) & set(named) for name in BENCHMARKS}
    names = [name for name, variants in measured.items() if variants]
    if not names:
        return ""
    lines = []
    for variant in (whole, *named):
        cells = [cell for name in names for cell in _beside(whole, of_default[of_default["dataset"] == name], variant)]
        if any(cells):
            lines.append([variant or "`gnnrec`", *cells])
    header = ["variant"]
    for name in names:
        header += [f"{BENCHMARKS[name].title}: validation", "test (seeds)"]
    return f"{introduction}\n{markdown.table(header, lines)}"


def _beside(whole: str, rows: pd.DataFrame, variant: str) -> list[str]:
    """Returns recall on validation and on test: of a variant, how far they lie from the whole on the same seeds."""
    column = test_column("recall@20", MASKS[0])
    before, changed = (rows[rows["variant"] == name].set_index("seed", drop=False) for name in (whole, variant))
    if not len(changed):
        return ["", ""]
    if variant == whole:
        summary = summarise(changed, by="variant").loc[variant]
        mean = markdown.number(changed["valid recall@20"].mean())
        return [mean, f"{markdown.mean(summary, column)} ({len(changed)})"]
    shared = changed.index.intersection(before.index)
    difference = changed.loc[shared, ["valid recall@20", column]] - before.loc[shared, ["valid recall@20", column]]
    validation, test = (
        f"{value:+.4f}".replace("0.", ".") if np.isfinite(value) else "" for value in difference.astype(float).mean()
    )
    return [validation, f"{test} ({len(shared)})" if test else ""]
