"""Turns lists of pairs of positions into sparse matrices, and enlarges or restricts such matrices."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = [
    "enlarged",
    "items_with_pairs",
    "only_items",
    "pair_matrix",
    "place_matrix",
    "places_within",
    "relation_matrix",
    "some_people",
    "without_places",
]


def pair_matrix(user_index: NDArray[np.int64], item_index: NDArray[np.int64], shape: tuple[int, int]) -> sp.csr_matrix:
    """Returns the distinct pairs as a binary float32 matrix.

    Args:
        user_index: ``[num_pairs]`` rows; pairs may repeat.
        item_index: ``[num_pairs]`` columns.
        shape: ``(num_users, num_items)``.
    """
    data = np.ones(len(user_index), dtype=np.float32)
    matrix = sp.csr_matrix((data, (user_index, item_index)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def place_matrix(user_index: NDArray[np.int64], item_index: NDArray[np.int64], shape: tuple[int, int]) -> sp.csr_matrix:
    """Returns the distinct pairs, each with its place in its user's history: 1 for the oldest; float32.

    Args:
        user_index: ``[num_events]`` rows, oldest event first; a pair that repeats came when it came last.
        item_index: ``[num_events]`` columns.
        shape: ``(num_users, num_items)``.
    """
    latest = np.unique((user_index * shape[1] + item_index)[::-1], return_index=True)[1]
    kept = np.sort(len(user_index) - 1 - latest)
    place = places_within(user_index[kept], shape[0]) + 1
    return sp.csr_matrix((place.astype(np.float32), (user_index[kept], item_index[kept])), shape=shape)


def without_places(histories: sp.csr_matrix) -> sp.csr_matrix:
    """Returns 1 for every pair of histories ``[num_people, num_items]``, whatever its place."""
    ones = np.ones(histories.nnz, dtype=np.float32)
    return sp.csr_matrix((ones, histories.indices, histories.indptr), histories.shape)


def relation_matrix(
    source_index: NDArray[np.int64], target_index: NDArray[np.int64], weight: NDArray[np.float32], num_nodes: int
) -> sp.csr_matrix:
    """Returns the edges of a relation in both directions ``[num_nodes, num_nodes]``; repeated ones add up.

    Loops, and edges whose weight is not above 0, join nothing.

    Args:
        source_index: ``[num_edges]``.
        target_index: ``[num_edges]``.
        weight: ``[num_edges]``.
        num_nodes: How many nodes.
    """
    kept = (source_index != target_index) & (weight > 0)
    one_way = sp.csr_matrix((weight[kept], (source_index[kept], target_index[kept])), shape=(num_nodes, num_nodes))
    return sp.csr_matrix(one_way + one_way.T)


def places_within(owner: NDArray[np.int64], num_owners: int) -> NDArray[np.int64]:
    """Returns for each entry ``[n]`` how many entries of the same owner come before it."""
    together = np.argsort(owner, kind="stable")
    count = np.bincount(owner, minlength=num_owners)
    start = np.cumsum(count) - count
    place = np.empty(len(owner), dtype=np.int64)
    place[together] = np.arange(len(owner)) - start[owner[together]]
    return place


def enlarged(matrix: sp.csr_matrix, shape: tuple[int, int]) -> sp.csr_matrix:
    """Returns the matrix with empty rows below and empty columns to the right; its arrays are shared."""
    added_rows = np.full(shape[0] - matrix.shape[0], matrix.indptr[-1], dtype=matrix.indptr.dtype)
    indptr = np.concatenate([matrix.indptr, added_rows])
    return sp.csr_matrix((matrix.data, matrix.indices, indptr), shape=shape)


def items_with_pairs(matrix: sp.csr_matrix) -> NDArray[np.bool_]:
    """Tells which items have an entry ``[num_items]``."""
    return np.bincount(matrix.indices, minlength=matrix.shape[1]) > 0


def only_items(matrix: sp.csr_matrix, keep: NDArray[np.bool_]) -> sp.csr_matrix:
    """Returns the matrix with only the entries of some items ``[num_items]``; its shape stays."""
    part = matrix.copy()
    part.data[:] = keep[part.indices]
    part.eliminate_zeros()
    return part


def some_people(matrix: sp.csr_matrix, most: int) -> NDArray[np.int64]:
    """Returns users with an entry, ascending: all, or so many at random, the same ones each time."""
    people = np.flatnonzero(np.diff(matrix.indptr))
    if len(people) > most:
        people = np.sort(np.random.default_rng(0).choice(people, most, replace=False))
    return people
