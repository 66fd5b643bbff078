"""Turns one evaluation into recall by how well known the test items, or the users, are."""

from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from gnnrec.config import suggest
from gnnrec.data.pairs import only_items
from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation.metrics import recall
from gnnrec.evaluation.protocol import Evaluation, distinct_pairs, find_hits

__all__ = ["SliceBy", "harmonic_mean", "kept_places", "sliced"]

SliceBy = Literal["item degree", "user history", "cold"]

# Smallest number of training events in each slice: 0, 1–3, 4–10, 11–50, 51 and more.
_DEGREES = (0, 1, 4, 11, 51)


def kept_places(evaluation: Evaluation, k: int | None, num_items: int) -> None:
    """Raises a :class:`~gnnrec.errors.ConfigError` if the lists of an evaluation do not have ``k`` places."""
    places = evaluation.top_items.shape[1]
    if k is not None and (k < 1 or (k > places and places < num_items)):
        raise ConfigError(f"k={k}, but the evaluation kept {places} places; evaluate a metric such as 'recall@{k}'")


def sliced(
    evaluation: Evaluation, test: sp.csr_matrix, train: sp.csr_matrix, *, by: SliceBy = "item degree", k: int = 20
) -> pd.DataFrame:
    """Splits recall@k by the number of training events.

    With ``by="item degree"`` and ``by="cold"`` (no event, or some) a slice is a set of items: a user's recall there
    is the share of their test items of the slice that the full ranking holds in its first k places, and the value is
    the mean over the users with at least one such test item. With ``by="user history"`` a slice is a set of users.

    Args:
        evaluation: Holds the rankings.
        test: ``[num_users, num_items]``, as it was evaluated.
        train: ``[num_users, num_items]``; every stored entry is a training pair.
        by: What the slices are.
        k: Length of the lists; the evaluation must have kept that many places.

    Returns:
        One row per slice that holds a test pair: ``slice``, ``num_users``, ``num_pairs``, ``recall@k``,
        ``standard_error`` (over users).

    Raises:
        ConfigError: An unknown ``by``, or a ``k`` beyond the places that were kept.
        DataError: Matrices of different shapes, or of another evaluation.
    """
    if by not in get_args(SliceBy):
        raise ConfigError(f"cannot slice by {by!r}{suggest(by, get_args(SliceBy))}")
    if test.shape != train.shape:
        raise DataError(f"test has the shape {test.shape}, train {train.shape}")
    pairs, train = distinct_pairs(test), distinct_pairs(train)
    most_user, most_item = evaluation.user_index.max(initial=-1), evaluation.top_items.max(initial=-1)
    if most_user >= test.shape[0] or most_item >= test.shape[1]:
        raise DataError(
            f"the evaluation holds user {most_user} and item {most_item}, test has the shape {test.shape}; give the "
            "matrix that was evaluated"
        )
    kept_places(evaluation, k, test.shape[1])
    pairs = pairs[evaluation.user_index]
    degree = np.bincount(train.indices, minlength=train.shape[1])
    edges, labels = ((0, 1), ("cold", "warm")) if by == "cold" else (_DEGREES, _labels(_DEGREES))
    slice_of_item = np.searchsorted(edges, degree, side="right") - 1
    slice_of_user = np.searchsorted(edges, np.diff(train.indptr)[evaluation.user_index], side="right") - 1

    rows = []
    for number, label in enumerate(labels):
        if by == "user history":
            part, top_items = pairs[slice_of_user == number], evaluation.top_items[slice_of_user == number]
        else:
            part, top_items = only_items(pairs, slice_of_item == number), evaluation.top_items
        if part.nnz:
            values = _recall(top_items, part, k)
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
            rows.append((label, len(values), part.nnz, values.mean(), error))
    return pd.DataFrame(rows, columns=["slice", "num_users", "num_pairs", f"recall@{k}", "standard_error"])


def harmonic_mean(values: Iterable[float]) -> float:
    """Returns the harmonic mean, which is high only if all are: the usual balance of warm and cold recall.

    >>> round(harmonic_mean([0.1, 0.3]), 4)
    0.15
    """
    numbers = np.asarray(list(values), dtype=np.float64)
    if len(numbers) == 0 or (numbers == 0).any():
        return 0.0
    return float(len(numbers) / (1 / numbers).sum())


def _labels(edges: tuple[int, ...]) -> tuple[str, ...]:
    last = [following - 1 for following in edges[1:]]
    inner = (str(low) if low == high else f"{low}–{high}" for low, high in zip(edges, last, strict=False))
    return (*inner, f"{edges[-1]}+")


def _recall(top_items: NDArray[np.int64], pairs: sp.csr_matrix, k: int) -> NDArray[np.float64]:
    """Returns the recall of each row that has a pair."""
    num_relevant = np.diff(pairs.indptr).astype(np.int64)
    hits = find_hits(top_items[:, :k], pairs)
    return recall(torch.from_numpy(hits), torch.from_numpy(num_relevant), k).numpy()[num_relevant > 0]
