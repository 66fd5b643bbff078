"""Turns a scoring function and held-out pairs into the metrics of the ranking of all items, per user and on average.

The protocol: every item is ranked, or every one of ``candidates``; items that ``mask`` stores for the user (normally
the training pairs) are hidden; a metric is the mean over the users with at least one test item, the others are skipped.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.ids import IdArray, as_id_array
from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation.metrics import METRICS, area_under_curve, parse_metric
from gnnrec.selection.topk import check_positive, forbid, top_k_of_scores

__all__ = ["DEFAULT_METRICS", "Evaluation", "distinct_pairs", "evaluate_rankings", "find_hits"]

DEFAULT_METRICS = ("recall@20", "ndcg@20")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The outcome of one evaluation.

    Attributes:
        values: Metric → mean over users.
        per_user: Metric → ``[num_users]`` float64.
        user_index: ``[num_users]`` int64, ascending: who was evaluated.
        top_items: ``[num_users, largest k]`` int64 item indices, best first; -1 where a user ran out of candidates.
        user_ids: ``[num_users]`` the ids of the users; ``None`` where only their positions were given.
    """

    values: Mapping[str, float]
    per_user: Mapping[str, NDArray[np.float64]]
    user_index: NDArray[np.int64]
    top_items: NDArray[np.int64]
    user_ids: IdArray | None = None

    @property
    def num_users(self) -> int:
        """Number of users that were evaluated."""
        return len(self.user_index)

    def to_frame(self) -> pd.DataFrame:
        """Returns one row per metric: its mean and standard error over users, and their number."""
        error = [
            float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
            for values in self.per_user.values()
        ]
        return pd.DataFrame(
            {
                "metric": list(self.values),
                "value": list(self.values.values()),
                "standard_error": error,
                "num_users": self.num_users,
            }
        )

    def __str__(self) -> str:
        width = max(map(len, self.values), default=0)
        lines = [f"  {name:<{width}}  {value:.4f}" for name, value in self.values.items()]
        return "\n".join([f"Evaluation of {self.num_users:,} users", *lines])


def evaluate_rankings(
    score_block: Callable[[Tensor], Tensor | NDArray[np.floating]],
    test: sp.csr_matrix,
    *,
    mask: sp.csr_matrix | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    candidates: Tensor | NDArray[np.bool_] | None = None,
    users: Tensor | NDArray[np.integer] | None = None,
    user_ids: Any = None,
    block_size: int = 512,
) -> Evaluation:
    """Ranks the items for each user with test items, a block of users at a time, and measures the rankings.

    Args:
        score_block: ``user_index [block] -> scores [block, num_items]``, on any device. Scores of ``-inf``
            are never recommended.
        test: ``[num_users, num_items]``; every stored entry is a pair to be found.
        mask: ``[num_users, num_items]``; stored entries are hidden from the user's ranking. A test pair
            that is hidden remains a test pair, one that cannot be found; the log says how many there are.
        metrics: Names such as ``"recall@20"`` (see :data:`gnnrec.evaluation.metrics.METRICS`) and ``"auc"``.
        candidates: ``[num_items]`` bool: only these are ranked, and only test items among them count
            (for "cold among cold").
        users: Evaluate only these user indices.
        user_ids: ``[num_users]`` the id of each row of ``test``, by which the outcome can be compared with that of a
            model which numbers its users otherwise.
        block_size: Users scored at once; no matrix is larger than ``block_size × num_items``.

    Returns:
        The metrics. Without a single test pair the means are NaN.

    Raises:
        ConfigError: An unknown metric, or a block size below 1.
        DataError: Matrices, ids or scores whose shapes do not fit, unknown user indices, scores that are NaN, no tensor
            and no array, or no function that gives them.
    """
    if not callable(score_block):
        raise DataError(
            "score_block: a function from user indices to their rows of scores is needed, not "
            f"{type(score_block).__name__}; of a matrix, lambda user_index: matrix[user_index] is one"
        )
    metrics = (metrics,) if isinstance(metrics, str) else metrics
    wanted = {name: parse_metric(name) for name in dict.fromkeys(metrics)}
    if not wanted:
        raise ConfigError("metrics: name at least one, such as 'recall@20'")
    check_positive("block_size", block_size)
    allowed = None if candidates is None else np.asarray(candidates)
    test, mask = _checked(test, mask, allowed)
    user_index = _users_with_tests(test, users)
    evaluated_ids = ids_of_rows(user_ids, test.shape[0], user_index)
    max_k = max((k for _, k in wanted.values() if k is not None), default=1)

    top_items = np.empty((len(user_index), min(max_k, test.shape[1])), dtype=np.int64)
    hits = np.empty(top_items.shape, dtype=np.bool_)
    curve = np.empty(len(user_index))
    for start in range(0, len(user_index), block_size):
        rows = slice(start, start + block_size)
        block = user_index[rows]
        scores = score_block(torch.from_numpy(block))
        if not isinstance(scores, Tensor | np.ndarray):
            raise DataError(f"score_block gave {type(scores).__name__}; a tensor or an array is needed")
        if tuple(scores.shape) != (len(block), test.shape[1]):
            raise DataError(f"score_block gave {tuple(scores.shape)} for {len(block)} users × {test.shape[1]} items")
        scores = forbid(scores, exclude=None if mask is None else mask[block], allowed=allowed)
        top_items[rows] = top_k_of_scores(scores, max_k)[1].numpy(force=True)
        hits[rows] = find_hits(top_items[rows], test[block])
        if "auc" in wanted:
            curve[rows] = _curve_of_block(scores, test[block])

    num_relevant = torch.from_numpy(np.diff(test.indptr)[user_index].astype(np.int64))
    per_user = {
        name: curve if k is None else METRICS[metric](torch.from_numpy(hits), num_relevant, k).numpy()
        for name, (metric, k) in wanted.items()
    }
    values = {name: float(value.mean()) if len(value) else float("nan") for name, value in per_user.items()}
    return Evaluation(values, per_user, user_index, top_items, evaluated_ids)


def find_hits(top_items: NDArray[np.integer], relevant: sp.csr_matrix) -> NDArray[np.bool_]:
    """Tells which places of each ranking hold one of the row's relevant items.

    Args:
        top_items: ``[num_rows, k]`` item indices; -1 is an empty place.
        relevant: ``[num_rows, num_items]``; every stored entry is a relevant item.

    Returns:
        ``[num_rows, k]``.
    """
    num_items = relevant.shape[1]
    pairs = np.repeat(np.arange(len(top_items)) * num_items, np.diff(relevant.indptr)) + relevant.indices
    places = np.arange(len(top_items))[:, None] * num_items + top_items
    return np.isin(places, pairs) & (top_items >= 0)


def ids_of_rows(user_ids: Any, num_rows: int, row: NDArray[np.int64]) -> IdArray | None:
    """Returns the ids of some rows of a matrix of users, if there are ids.

    Args:
        user_ids: ``[num_rows]`` the id of each row, or ``None``.
        num_rows: Of the matrix.
        row: ``[num_chosen]``.

    Raises:
        DataError: There are more or fewer ids than rows.
    """
    if user_ids is None:
        return None
    ids = as_id_array(user_ids, "user_ids")
    if len(ids) != num_rows:
        raise DataError(f"user_ids: {len(ids)} ids for the {num_rows} rows of test; give the id of each row")
    return ids[row]


def _checked(
    test: sp.csr_matrix, mask: sp.csr_matrix | None, allowed: NDArray[np.bool_] | None
) -> tuple[sp.csr_matrix, sp.csr_matrix | None]:
    """Returns binary matrices of distinct pairs, the test restricted to the allowed items, and logs what is lost."""
    if allowed is not None and (allowed.dtype != np.bool_ or allowed.shape != (test.shape[1],)):
        raise DataError(f"candidates must be {test.shape[1]} booleans, one for each item")
    test = distinct_pairs(test)
    if allowed is not None:
        all_pairs = test.nnz
        test.data[:] = allowed[test.indices]
        test.eliminate_zeros()
        if test.nnz < all_pairs:
            logger.info("%d of %d test pairs are of items that are no candidates", all_pairs - test.nnz, all_pairs)
    if mask is None:
        return test, None
    if mask.shape != test.shape:
        raise DataError(f"mask has the shape {mask.shape}, test {test.shape}")
    mask = distinct_pairs(mask)
    if lost := test.multiply(mask).nnz:
        logger.warning("%d of %d test pairs are hidden by the mask, so they count as missed", lost, test.nnz)
    return test, mask


def distinct_pairs(pairs: sp.csr_matrix) -> sp.csr_matrix:
    """Returns the stored entries, each once, as a binary int8 matrix of any format given."""
    pairs = sp.csr_matrix(pairs)  # whatever format it comes in
    distinct = sp.csr_matrix((np.ones(pairs.nnz, dtype=np.int8), pairs.indices, pairs.indptr), pairs.shape, copy=True)
    distinct.sum_duplicates()
    distinct.data[:] = 1
    return distinct


def _users_with_tests(test: sp.csr_matrix, users: Tensor | NDArray[np.integer] | None) -> NDArray[np.int64]:
    has_tests = np.diff(test.indptr) > 0
    if users is None:
        return np.flatnonzero(has_tests).astype(np.int64)
    chosen = np.unique(np.asarray(users, dtype=np.int64))
    if len(chosen) and (chosen[0] < 0 or chosen[-1] >= test.shape[0]):
        raise DataError(f"users: indices run from 0 to {test.shape[0] - 1}, got {chosen[0]} … {chosen[-1]}")
    if skipped := int((~has_tests[chosen]).sum()):
        logger.info("%d of %d users have no test item and are skipped", skipped, len(chosen))
    return chosen[has_tests[chosen]]


def _curve_of_block(scores: Tensor, test: sp.csr_matrix) -> NDArray[np.float64]:
    """Returns the area under the curve of each row ``[block]``."""
    pairs = test.tocoo()
    row, column = (torch.from_numpy(index.astype(np.int64)).to(scores.device) for index in (pairs.row, pairs.col))
    return area_under_curve(scores, row, column).numpy(force=True)
