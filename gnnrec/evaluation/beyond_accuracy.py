"""Turns recommended lists into measures other than accuracy: coverage, novelty, diversity, popularity, calibration.

Lists are ``top_items [num_users, k]``: item indices, -1 for an empty place. As a sparse matrix (users × items, a one
for each place) every measure below is a product with that matrix. Where PyG has the measure (``LinkPredCoverage``,
``Diversity``, ``Personalization``, ``AveragePopularity``), the tests hold the two equal; PyG's read -1 as the last
item and compare users pair by pair, which these do not.
"""

from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from gnnrec.errors import DataError
from gnnrec.evaluation.protocol import Evaluation
from gnnrec.evaluation.slices import kept_places
from gnnrec.graph.analysis import gini

__all__ = [
    "average_popularity",
    "beyond_accuracy",
    "calibration",
    "catalogue_coverage",
    "exposure",
    "intra_list_diversity",
    "long_tail_share",
    "novelty",
    "personalization",
    "popularity_lift",
]

Matrix: TypeAlias = NDArray[np.floating] | sp.csr_matrix | sp.csr_array

_BLOCK = 1024  # users whose lists are summed at once
_SMOOTHING = 0.01  # Steck's alpha


def beyond_accuracy(
    evaluation: Evaluation,
    train: sp.csr_matrix,
    *,
    k: int | None = None,
    vectors: Matrix | None = None,
    categories: Matrix | None = None,
) -> dict[str, float]:
    """Measures the lists of an evaluation.

    Args:
        evaluation: Holds the lists.
        train: ``[num_users, num_items]``; every stored entry is a training pair.
        k: Length of the lists; by default all places that were kept.
        vectors: ``[num_items, dim]`` for the diversity; the items' users in ``train`` when not given, so
            that two items are alike when the same people chose them.
        categories: ``[num_items, num_categories]`` non-negative, e.g. genres, for the calibration.

    Returns:
        Means over users with a list (and, for calibration and lift, a history).

    Raises:
        ConfigError: A ``k`` beyond the places that were kept.
        DataError: Matrices whose shapes do not fit, such as those of a split whose new items or people ``train`` lacks.
    """
    kept_places(evaluation, k, train.shape[1])
    _check_shapes(evaluation, train, vectors)
    top_items = evaluation.top_items[:, :k]
    num_items = train.shape[1]
    popularity = np.bincount(train.indices, minlength=num_items)
    history = train[evaluation.user_index]
    similar_by = sp.csr_matrix(train.T) if vectors is None else vectors
    measures = {
        "coverage": catalogue_coverage(top_items, num_items),
        "gini": gini(exposure(top_items, num_items)),
        "personalization": personalization(top_items, num_items),
        "novelty": _mean(novelty(top_items, popularity, train.shape[0])),
        "diversity": _mean(intra_list_diversity(top_items, similar_by)),
        "average_popularity": _mean(average_popularity(top_items, popularity)),
        "popularity_lift": popularity_lift(top_items, history, popularity),
        "long_tail_share": _mean(long_tail_share(top_items, popularity)),
    }
    if categories is not None:
        measures["calibration"] = _mean(calibration(top_items, history, categories))
    return measures


def _check_shapes(evaluation: Evaluation, train: sp.csr_matrix, vectors: Matrix | None) -> None:
    indices = {"user": evaluation.user_index, "item": evaluation.top_items}
    for (what, index), size in zip(indices.items(), train.shape, strict=True):
        if index.size and index.max() >= size:
            raise DataError(f"the lists hold {what} {index.max()}, but train has {size}; count from one catalogue")
    if vectors is not None:
        _check_rows("vectors", vectors, train.shape[1])


def _check_rows(what: str, matrix: Matrix, num_items: int) -> None:
    shape = np.shape(matrix)
    if len(shape) != 2 or shape[0] != num_items:
        raise DataError(
            f"{what}: the shape is {shape}, and a matrix with one row for each of {num_items} items is needed; of "
            "labels, np.eye(num_labels)[labels] makes one"
        )


def exposure(top_items: NDArray[np.integer], num_items: int) -> NDArray[np.int64]:
    """Counts in how many lists each item stands ``[num_items]``."""
    return np.bincount(top_items[top_items >= 0], minlength=num_items)


def catalogue_coverage(top_items: NDArray[np.integer], num_items: int) -> float:
    """Share of the catalogue that is in at least one list."""
    return float((exposure(top_items, num_items) > 0).mean())


def personalization(top_items: NDArray[np.integer], num_items: int) -> float:
    """1 - mean cosine of the lists of two different users: 0 if all get the same, 1 if no list shares an item.

    Exact over all pairs: with lists of unit length, the sum of all products is the squared length of their sum.
    """
    lists = _lists(top_items, num_items)
    length = _length(lists)
    num_lists = int((length > 0).sum())
    if num_lists < 2:
        return float("nan")
    total = np.asarray(lists.T @ (1 / np.sqrt(np.maximum(length, 1))))
    return float(1 - (total @ total - num_lists) / (num_lists * (num_lists - 1)))


def novelty(top_items: NDArray[np.integer], popularity: NDArray[np.integer], num_users: int) -> NDArray[np.float64]:
    """Mean self-information of a user's list in bits, -log2 of the share of users who know the item.

    Zhou et al., 2010, "Solving the apparent diversity-accuracy dilemma", eq. 3. An item without events
    counts as known to one user.

    Args:
        top_items: ``[num_users, k]``.
        popularity: ``[num_items]`` number of training users of each item.
        num_users: Number of training users.

    Returns:
        ``[num_users]``; NaN for an empty list.
    """
    return _mean_of_lists(top_items, -np.log2(np.maximum(popularity, 1) / num_users))


def intra_list_diversity(top_items: NDArray[np.integer], vectors: Matrix) -> NDArray[np.float64]:
    """Mean of 1 - cosine over the pairs of different places in a user's list (Ziegler et al., 2005).

    Args:
        top_items: ``[num_users, k]``.
        vectors: ``[num_items, dim]`` dense or sparse: embeddings, one-hot categories, or the items' users.
            A zero vector is orthogonal to all others.

    Returns:
        ``[num_users]``; NaN for a list of fewer than two items.
    """
    matrix = vectors if sp.issparse(vectors) else np.asarray(vectors)
    norm = np.sqrt(_squared_norms(matrix))
    unit = sp.diags_array(1 / np.where(norm > 0, norm, 1)) @ matrix
    lists = _lists(top_items, len(norm))
    # The sum over all pairs of places is the squared length of the list's sum, less each place with itself.
    similarity: NDArray[np.float64] = -(lists @ (norm > 0).astype(np.float64))
    for start in range(0, len(top_items), _BLOCK):
        similarity[start : start + _BLOCK] += _squared_norms(lists[start : start + _BLOCK] @ unit)
    length = _length(lists)
    return np.where(length > 1, 1 - similarity / np.maximum(length * (length - 1), 1), np.nan)


def average_popularity(top_items: NDArray[np.integer], popularity: NDArray[np.integer]) -> NDArray[np.float64]:
    """Mean number of training users of the items in a user's list ``[num_users]``; NaN for an empty list."""
    return _mean_of_lists(top_items, popularity)


def popularity_lift(top_items: NDArray[np.integer], history: sp.csr_matrix, popularity: NDArray[np.integer]) -> float:
    """How much more popular the lists are than the users' own histories, relative to these; 0 is unbiased.

    Abdollahpouri et al., 2020, "The connection between popularity bias, calibration, and fairness in
    recommendation", eq. 2, with all users as the group.

    Args:
        top_items: ``[num_users, k]``.
        history: ``[num_users, num_items]``; every stored entry is a training pair of the same users.
        popularity: ``[num_items]`` number of training users of each item.
    """
    of_lists = average_popularity(top_items, popularity)
    of_history = _row_means(history, popularity)
    known = np.isfinite(of_lists) & np.isfinite(of_history)
    return float(of_lists[known].mean() / of_history[known].mean() - 1) if known.any() else float("nan")


def long_tail_share(
    top_items: NDArray[np.integer], popularity: NDArray[np.integer], *, head: float = 0.2
) -> NDArray[np.float64]:
    """Share of a user's list outside the ``head`` most popular items ``[num_users]``; NaN for an empty list."""
    by_popularity = np.argsort(-popularity, kind="stable")
    tail = np.ones(len(popularity))
    tail[by_popularity[: round(head * len(popularity))]] = 0
    return _mean_of_lists(top_items, tail)


def calibration(top_items: NDArray[np.integer], history: sp.csr_matrix, categories: Matrix) -> NDArray[np.float64]:
    """Divergence of the categories in a user's list from those in the history; 0 is calibrated.

    Steck, 2018, "Calibrated recommendations", eqs. 2, 3 and 6: the Kullback–Leibler divergence in nats, where
    the list's distribution is mixed with 1 % of the history's so that it is finite.

    Args:
        top_items: ``[num_users, k]``.
        history: ``[num_users, num_items]``; every stored entry is a training pair of the same users.
        categories: ``[num_items, num_categories]`` non-negative; an item's row is scaled to sum to 1.

    Returns:
        ``[num_users]``; NaN where the history or the list has no category.

    Raises:
        DataError: Categories that are no matrix, or one of the wrong height.
    """
    _check_rows("categories", categories, history.shape[1])
    dense = np.asarray(categories.todense() if sp.issparse(categories) else categories, dtype=np.float64)
    share = dense / np.maximum(dense.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    wanted = _distribution(_binary(history) @ share)
    given = _distribution(_lists(top_items, len(share)) @ share)
    mixed = (1 - _SMOOTHING) * given + _SMOOTHING * wanted
    ratio = np.divide(wanted, mixed, out=np.ones_like(wanted), where=wanted > 0)
    divergence: NDArray[np.float64] = (wanted * np.log(ratio)).sum(axis=1)
    return divergence


def _lists(top_items: NDArray[np.integer], num_items: int) -> sp.csr_matrix:
    """Returns the lists as a binary matrix ``[num_users, num_items]``."""
    if top_items.size and top_items.max() >= num_items:  # products would read beyond the matrix
        raise DataError(f"the lists hold item {top_items.max()}, but there are {num_items}; count from one catalogue")
    filled = top_items >= 0
    bounds = np.concatenate([[0], filled.sum(axis=1).cumsum()])
    column = top_items[filled]
    return sp.csr_matrix((np.ones(len(column)), column, bounds), shape=(len(top_items), num_items))


def _binary(pairs: sp.csr_matrix) -> sp.csr_matrix:
    return sp.csr_matrix((np.ones(pairs.nnz), pairs.indices, pairs.indptr), shape=pairs.shape)


def _length(lists: sp.csr_matrix) -> NDArray[np.int64]:
    return np.diff(lists.indptr).astype(np.int64)


def _squared_norms(matrix: Any) -> NDArray[np.float64]:
    matrix = matrix.astype(np.float64)
    squares = matrix**2 if isinstance(matrix, np.ndarray) else matrix.multiply(matrix)
    return np.asarray(squares.sum(axis=1), dtype=np.float64).ravel()


def _mean_of_lists(top_items: NDArray[np.integer], value: NDArray[np.generic]) -> NDArray[np.float64]:
    return _row_means(_lists(top_items, len(value)), value)


def _row_means(pairs: sp.csr_matrix, value: NDArray[np.generic]) -> NDArray[np.float64]:
    """Returns the mean of ``value [num_items]`` over the stored entries of each row; NaN for an empty row."""
    total, length = _binary(pairs) @ value.astype(np.float64), _length(pairs)
    return np.where(length > 0, total / np.maximum(length, 1), np.nan)


def _distribution(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales each row to sum to 1; a row of zeros becomes NaN."""
    total = weight.sum(axis=1, keepdims=True)
    share: NDArray[np.float64] = np.divide(weight, total, out=np.full_like(weight, np.nan), where=total > 0)
    return share


def _mean(values: NDArray[np.float64]) -> float:
    """Returns the mean of the values that exist."""
    exist = values[np.isfinite(values)]
    return float(exist.mean()) if len(exist) else float("nan")
