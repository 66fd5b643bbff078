"""A fixed sparse matrix that multiplies dense embeddings quickly, forward and backward."""

import warnings
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["SparseOperator", "product"]


class SparseOperator:
    """A constant sparse matrix ``[num_rows, num_columns]`` in CSR form, with its transpose.

    Autograd through torch's sparse products builds a transpose at every backward pass. Here the transpose is
    stored, and a symmetric matrix is its own. Indices are int32 where they fit, which halves index traffic. On the CPU
    a product is a weighted sum of bags of rows, whose kernel fetches rows ahead: about four times as fast as torch's
    sparse product (``benchmarks/speed.py``).

    Cost of one product, forward or backward: ``O(num_entries × dim)`` time, ``O(num_rows × dim)`` memory.

    Args:
        edge_index: ``[2, num_edges]`` int64; row 0 is the source (column), row 1 the target (row) of each entry.
        weight: ``[num_edges]`` float32; repeated entries add up.
        size: ``(num_sources, num_targets)``.
        symmetric: The matrix equals its transpose, which is then not stored twice.
    """

    def __init__(self, edge_index: Tensor, weight: Tensor, size: tuple[int, int], *, symmetric: bool = False) -> None:
        num_sources, num_targets = size
        self.forward_matrix = _csr(edge_index[1], edge_index[0], weight, (num_targets, num_sources))
        self.backward_matrix = (
            self.forward_matrix if symmetric else _csr(edge_index[0], edge_index[1], weight, (num_sources, num_targets))
        )

    @property
    def num_entries(self) -> int:
        """Stored entries after adding up repeated ones."""
        return int(self.forward_matrix.values().numel())

    def to(self, device: torch.device | str) -> Self:
        """Moves both matrices; returns itself."""
        symmetric = self.backward_matrix is self.forward_matrix
        self.forward_matrix = self.forward_matrix.to(device)
        self.backward_matrix = self.forward_matrix if symmetric else self.backward_matrix.to(device)
        return self

    def __matmul__(self, x: Tensor) -> Tensor:
        """Returns ``matrix @ x`` for ``x`` of ``[num_columns, dim]``.

        Raises:
            ValueError: ``x`` has another number of rows than the matrix has columns.
        """
        result: Tensor = _Product.apply(x, self.forward_matrix, self.backward_matrix)
        return result


class _Product(torch.autograd.Function):
    """A constant matrix times a dense one; the gradient is the stored transpose times the incoming gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        ctx.transpose = transpose
        return product(matrix, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return product(ctx.transpose, gradient), None, None


def product(matrix: Tensor, x: Tensor) -> Tensor:
    """Returns ``matrix @ x`` for a matrix of a :class:`SparseOperator`, without a gradient.

    Args:
        matrix: ``[num_rows, num_columns]`` CSR, float32.
        x: ``[num_columns, dim]``.

    Returns:
        ``[num_rows, dim]`` in the precision of ``x``, computed in float32: half precision loses small messages.

    Raises:
        ValueError: ``x`` has another number of rows than the matrix has columns.
    """
    if len(x) != matrix.shape[1]:  # the sum of bags would read the first rows only
        raise ValueError(f"{len(x)} rows do not fit a matrix of {matrix.shape[1]} columns")
    with torch.autocast(x.device.type, enabled=False):
        rows = x.float().contiguous()
        if x.device.type != "cpu":
            return (matrix @ rows).to(x.dtype)
        columns, starts, weight = matrix.col_indices(), matrix.crow_indices(), matrix.values()
        sums = functional.embedding_bag(
            columns, rows, starts, mode="sum", per_sample_weights=weight, include_last_offset=True
        )
        return sums.to(x.dtype)


def _csr(row: Tensor, column: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Sorts entries into CSR; int32 indices if every count and position fits."""
    with warnings.catch_warnings():
        # torch calls its CSR tensors beta; the products used here are checked against dense ones in the tests.
        warnings.filterwarnings("ignore", message="Sparse")
        indices = torch.stack([row, column])
        coalesced = torch.sparse_coo_tensor(indices, weight.float(), size, check_invariants=False).coalesce()
        row, column = coalesced.indices()
        starts = torch.zeros(size[0] + 1, dtype=torch.int64, device=row.device)
        starts[1:] = torch.bincount(row, minlength=size[0]).cumsum(0)
        fits = max(coalesced.values().numel(), *size) < 2**31
        kind = torch.int32 if fits else torch.int64
        values = coalesced.values()
        return torch.sparse_csr_tensor(starts.to(kind), column.to(kind), values, size, check_invariants=False)
