"""Turns lists of (user, item) positions into binary sparse matrices, and enlarges or restricts such matrices."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["enlarged", "only_items", "pair_matrix"]


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


def enlarged(matrix: sp.csr_matrix, shape: tuple[int, int]) -> sp.csr_matrix:
    """Returns the matrix with empty rows below and empty columns to the right; its arrays are shared."""
    added_rows = np.full(shape[0] - matrix.shape[0], matrix.indptr[-1], dtype=matrix.indptr.dtype)
    indptr = np.concatenate([matrix.indptr, added_rows])
    return sp.csr_matrix((matrix.data, matrix.indices, indptr), shape=shape)


def only_items(matrix: sp.csr_matrix, keep: NDArray[np.bool_]) -> sp.csr_matrix:
    """Returns the matrix with only the entries of some items ``[num_items]``; its shape stays."""
    part = matrix.copy()
    part.data[:] = keep[part.indices]
    part.eliminate_zeros()
    return part
