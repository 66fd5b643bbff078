"""Turns the rows of fits into one line per model: mean and deviation over seeds, and how far the best other is."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.evaluation import PairedBootstrap, paired_bootstrap
from harness.rows import COLD_METRICS, MASKS, TEST_METRICS, cold_column, per_user_column, test_column

_MEASURED = (
    *(test_column(metric, mask) for mask in MASKS for metric in TEST_METRICS),
    *map(cold_column, COLD_METRICS),
    "valid recall@20",
)


def summarise(rows: pd.DataFrame, by: str = "model") -> pd.DataFrame:
    """Returns one line per model (or variant) of one data set, best first.

    Args:
        rows: The rows that went well.
        by: ``model`` or ``variant``.

    Returns:
        Indexed by ``by``: for every metric its mean and, as ``<metric> sd``, its standard deviation over seeds (absent
        for one seed), ``num_seeds``, mean seconds of a fit and best epoch, seconds of the search (which only one of the
        seeds makes), peak memory, ``package``, ``device``, ``threads``, ``hyperparameters``.
    """
    groups = rows.groupby(by, sort=False)
    means, deviations = groups[list(_MEASURED)].mean(), groups[list(_MEASURED)].std(ddof=1)
    summary = means.join(deviations.add_suffix(" sd"))
    summary["num_seeds"] = groups["seed"].nunique()
    for column in ("fit_seconds", "best_epoch"):
        summary[column] = groups[column].mean()
    for column in ("search_seconds", "peak_memory_gib", "peak_device_memory_gib"):
        summary[column] = groups[column].max()
    for column in ("package", "device", "threads", "hyperparameters"):
        summary[column] = groups[column].first()
    return summary.sort_values(headline(summary), ascending=False, kind="stable")


def headline(summary: pd.DataFrame) -> str:
    """Returns the column that models are ranked by: recall@20 under the strictest mask that the data set allows."""
    strict = test_column("recall@20", "train+valid")
    return strict if summary[strict].notna().any() else test_column("recall@20", "train")


def per_user(rows: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Returns each user's value, averaged over the seeds of one model: ``[num_users]``."""
    return np.stack(rows[column].to_list()).astype(np.float64).mean(axis=0)


def compared_by_user(rows: pd.DataFrame, beside: pd.DataFrame, column: str) -> PairedBootstrap | None:
    """Compares two models on a column of values per user, each averaged over its seeds.

    ``None`` where a row lacks them: no user has such test pairs, or the row is older than the column.

    Args:
        rows: The rows that went well, of one model.
        beside: Those of the other.
        column: Such as :func:`harness.rows.per_user_column` names.
    """
    if rows[column].isna().any() or beside[column].isna().any():
        return None
    return paired_bootstrap(per_user(rows, column), per_user(beside, column))


def against_best_other(rows: pd.DataFrame, ranking: Sequence[str], mask: str) -> dict[str, PairedBootstrap]:
    """Compares every model with the best of the others on recall@20, paired by user.

    Args:
        rows: The rows that went well, of one data set.
        ranking: Models, best first.
        mask: Mask of the rankings.
    """
    if len(ranking) < 2:
        return {}
    column = per_user_column(test_column("recall@20", mask))
    values = {model: per_user(rows[rows["model"] == model], column) for model in ranking}
    rivals = {model: ranking[0] if model != ranking[0] else ranking[1] for model in ranking}
    return {model: paired_bootstrap(values[model], values[rival]) for model, rival in rivals.items()}


def slice_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns recall@20 by training events of the item, averaged over seeds: one line per model, a column per slice.

    A column is named after its slice and the number of its test pairs.
    """
    parts = [
        {"model": model, "slice": f"{one['slice']} ({one['num_pairs']:,})", "recall@20": one["recall@20"]}
        for model, slices in zip(rows["model"], rows["slices"], strict=True)
        for one in slices
    ]
    frame = pd.DataFrame(parts, columns=["model", "slice", "recall@20"])
    order = frame["slice"].drop_duplicates()
    return frame.pivot_table("recall@20", "model", "slice", aggfunc="mean")[order]
