"""Turns sparse matrices into named tensors, as files hold them, and finds tensors by the beginning of their names."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

__all__ = ["below", "csr_matrix", "csr_tensors"]

Item = TypeVar("Item")


def below(prefix: str, named: Mapping[str, Item]) -> dict[str, Item]:
    """Returns what is stored under names that begin with ``prefix``, without the prefix."""
    return {name.removeprefix(prefix): item for name, item in named.items() if name.startswith(prefix)}


def csr_tensors(name: str, matrix: sp.csr_matrix) -> dict[str, Tensor]:
    """Returns a matrix as tensors ``<name>.indptr``, ``<name>.indices`` and, unless it is binary, ``<name>.data``."""
    tensors = {
        f"{name}.indptr": torch.from_numpy(matrix.indptr.astype(np.int64)),
        f"{name}.indices": torch.from_numpy(matrix.indices.astype(np.int64)),
    }
    if not (matrix.data == 1).all():
        tensors[f"{name}.data"] = torch.from_numpy(matrix.data.astype(np.float32))
    return tensors


def csr_matrix(name: str, tensors: Mapping[str, Tensor], num_columns: int) -> sp.csr_matrix:
    """Rebuilds in float32 the matrix that :func:`csr_tensors` took apart."""
    indptr, indices = tensors[f"{name}.indptr"].numpy(), tensors[f"{name}.indices"].numpy()
    data = tensors[f"{name}.data"].numpy() if f"{name}.data" in tensors else np.ones(len(indices), dtype=np.float32)
    return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, num_columns))
