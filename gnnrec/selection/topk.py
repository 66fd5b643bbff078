"""Turns query and item vectors, or blocks of scores, into each query's k best items, exactly.

Order of answers: by score, highest first; equal scores by item index, lowest first, also where a tie runs across
the k-th place. So the answer depends on the scores only, not on the device, the block size or the number of threads
(the scores themselves come from a matrix product, whose last bits may depend on these).
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.errors import ConfigError, DataError
from gnnrec.selection.pruning import Sample, best_above_guess, refuse_nan
from gnnrec.selection.rows import select

__all__ = ["check_positive", "forbid", "top_k", "top_k_of_scores"]

# Scores held at once: on a CPU what stays in the cache, on an accelerator what keeps it busy.
_CPU_BLOCK, _ACCELERATOR_BLOCK = 2**20, 2**27
_MIN_ROWS = 32  # fewer rows would read the item matrix too often
_PRUNED_ROWS = 512  # rows that go through the items together, a tile at a time
_FEW_ROWS = 8  # reading a random sample of the items does not pay for fewer


def top_k(
    queries: Tensor | NDArray[np.floating],
    items: Tensor | NDArray[np.floating],
    k: int,
    *,
    exclude: sp.csr_matrix | None = None,
    allowed: Tensor | NDArray[np.bool_] | None = None,
    block_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Finds the items with the largest inner product for each query, a block of queries at a time.

    On a CPU, blocks are shared out among as many threads as ``torch.get_num_threads()`` says.

    Args:
        queries: ``[num_queries, dim]``; the work is done on its device and in its precision. Half precision pays on
            accelerators; on most CPUs its products are far slower.
        items: ``[num_items, dim]``.
        k: How many items a query gets.
        exclude: ``[num_queries, num_items]``; every stored entry is an item its query must not get.
        allowed: ``[num_items]`` bool; only these items may be answered.
        block_size: Queries scored at once at most; by default about a million scores on a CPU.

    Returns:
        Scores and item indices, each ``[num_queries, min(k, num_items)]``. Where a query has too few
        permitted items, its row ends in score ``-inf`` and index -1.

    Raises:
        ConfigError: ``k`` or ``block_size`` is below 1, or no integer.
        DataError: Shapes that do not fit, or scores that are not numbers.
    """
    queries = _tensor(queries)
    items = _tensor(items).to(queries)
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise DataError(
            f"queries {tuple(queries.shape)} and items {tuple(items.shape)} must be matrices of equal width"
        )
    exclude = None if exclude is None else sp.csr_matrix(exclude)
    if exclude is not None and exclude.shape != (len(queries), len(items)):
        raise DataError(f"exclude has the shape {exclude.shape}, not ({len(queries)}, {len(items)})")
    if block_size is not None:
        check_positive("block_size", block_size)
    k = min(check_positive("k", k), len(items))
    permitted = None if allowed is None else _checked_allowed(allowed, len(items), items.device)
    sample = _sample(queries, len(items), k, permitted)
    num_threads = _num_threads(items.device)
    most = _default_rows(items.device, len(items))
    if sample is not None:
        most = min(_PRUNED_ROWS, math.ceil(len(queries) / num_threads))

    def of_block(rows: slice) -> tuple[Tensor, Tensor]:
        hidden = None if exclude is None else exclude[rows]
        if sample is None:
            return _best_(queries[rows] @ items.T, k, hidden, permitted)
        return _best_pruned(queries[rows], items, k, sample, hidden, permitted)

    return _in_blocks(of_block, len(queries), min(block_size or most, most), num_threads)


def top_k_of_scores(
    scores: Tensor | NDArray[np.floating],
    k: int,
    *,
    exclude: sp.csr_matrix | None = None,
    allowed: Tensor | NDArray[np.bool_] | None = None,
) -> tuple[Tensor, Tensor]:
    """Finds the best items of a block of scores, which is left as it was.

    Args:
        scores: ``[num_rows, num_items]``; an item scored ``-inf`` is never answered.
        k: How many items a row gets.
        exclude: ``[num_rows, num_items]``; every stored entry is an item its row must not get.
        allowed: ``[num_items]`` bool; only these items may be answered.

    Returns:
        As for :func:`top_k`.

    Raises:
        ConfigError: ``k`` is below 1.
        DataError: Shapes that do not fit, or scores that are not numbers.
    """
    exclude = None if exclude is None else sp.csr_matrix(exclude)
    scores = _matrix(scores, exclude)
    k = min(check_positive("k", k), scores.shape[1])
    permitted = None if allowed is None else _checked_allowed(allowed, scores.shape[1], scores.device)

    def of_block(rows: slice) -> tuple[Tensor, Tensor]:
        block = forbid(scores[rows], exclude=None if exclude is None else exclude[rows], allowed=permitted)
        return _best_(block, k)

    num_threads = _num_threads(scores.device)
    most = _default_rows(scores.device, scores.shape[1])
    if exclude is None and permitted is None:
        most *= 4  # the scores are there already, and nothing is copied
    if scores.numel() > _CPU_BLOCK:
        most = min(most, math.ceil(len(scores) / num_threads))
    return _in_blocks(of_block, len(scores), most, num_threads)


def forbid(
    scores: Tensor | NDArray[np.floating],
    *,
    exclude: sp.csr_matrix | None = None,
    allowed: Tensor | NDArray[np.bool_] | None = None,
) -> Tensor:
    """Returns the scores ``[num_rows, num_items]`` with ``-inf`` for every forbidden item, as a copy if any is.

    Raises:
        DataError: Shapes that do not fit.
    """
    exclude = None if exclude is None else sp.csr_matrix(exclude)
    scores = _matrix(scores, exclude)
    permitted = None if allowed is None else _checked_allowed(allowed, scores.shape[1], scores.device)
    if exclude is not None or permitted is not None:
        scores = scores.clone(memory_format=torch.contiguous_format)
        _forbid_(scores, exclude, permitted)
    return scores


def _best_(
    scores: Tensor, k: int, exclude: sp.csr_matrix | None = None, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Selects from whole rows; what is forbidden in them is overwritten."""
    _forbid_(scores, exclude, allowed)
    values, index = select(scores, k)
    refuse_nan(values)
    return values, index


def _best_pruned(
    queries: Tensor, items: Tensor, k: int, sample: Sample, exclude: sp.csr_matrix | None, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Selects from products of which no whole row is ever held; where that fails, from whole rows."""
    permitted = None if allowed is None else allowed.numpy()
    values, index, unsettled = best_above_guess(queries, items, k, sample, exclude, permitted)
    rows_at_once = _default_rows(items.device, len(items))
    for start in range(0, len(unsettled), rows_at_once):
        rows = unsettled[start : start + rows_at_once]
        hidden = None if exclude is None else exclude[rows]
        values[rows], index[rows] = _best_(queries[rows] @ items.T, k, hidden, allowed)
    return values, index


def _sample(queries: Tensor, num_items: int, k: int, allowed: Tensor | None) -> Sample | None:
    """Draws what pruning needs, where pruning pays: on a CPU, in its own precisions, for several queries."""
    precise = queries.dtype in (torch.float32, torch.float64)
    if queries.device.type != "cpu" or not precise or len(queries) < _FEW_ROWS:
        return None
    return Sample.draw(np.arange(num_items) if allowed is None else np.flatnonzero(allowed.numpy()), k)


def _in_blocks(
    of_block: Callable[[slice], tuple[Tensor, Tensor]], num_rows: int, rows_at_once: int, num_threads: int
) -> tuple[Tensor, Tensor]:
    """Answers one block of rows after another, and marks missing answers with -1.

    Several threads have a block each, and one torch thread: so they need not wait for each other at every step.
    """
    blocks = [slice(start, start + rows_at_once) for start in range(0, max(num_rows, 1), rows_at_once)]
    if num_threads == 1 or len(blocks) == 1:
        answers = list(map(of_block, blocks))
    else:
        try:
            with ThreadPoolExecutor(num_threads, "top-k", initializer=torch.set_num_threads, initargs=(1,)) as pool:
                answers = list(pool.map(of_block, blocks))
        finally:
            torch.set_num_threads(num_threads)  # what threads to come start with
    values, index = (torch.cat(parts) for parts in zip(*answers, strict=True))
    return values, index.masked_fill_(values == -torch.inf, -1)


def _num_threads(device: torch.device) -> int:
    return torch.get_num_threads() if device.type == "cpu" else 1


def _default_rows(device: torch.device, num_items: int) -> int:
    block = _CPU_BLOCK if device.type == "cpu" else _ACCELERATOR_BLOCK
    return max(_MIN_ROWS, block // max(num_items, 1))


def check_positive(name: str, value: int) -> int:
    """Returns a number that is to be a positive integer, whatever type of integer it is.

    Raises:
        ConfigError: It is no integer, or below 1; ``name`` says of what.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ConfigError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ConfigError(f"{name} must be at least 1, got {value}")
    return int(value)


def _matrix(scores: Tensor | NDArray[np.floating], exclude: sp.csr_matrix | None) -> Tensor:
    scores = _tensor(scores)
    if scores.ndim != 2:
        raise DataError(f"scores must be a matrix [num_rows, num_items], not of the shape {tuple(scores.shape)}")
    if exclude is not None and exclude.shape != tuple(scores.shape):
        raise DataError(f"exclude has the shape {exclude.shape}, the scores {tuple(scores.shape)}")
    return scores if scores.is_floating_point() else scores.double()  # whole numbers have no -inf


def _tensor(values: Tensor | NDArray[np.generic]) -> Tensor:
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch has no read-only tensors
    return torch.as_tensor(values).detach()


def _checked_allowed(allowed: Tensor | NDArray[np.bool_], num_items: int, device: torch.device) -> Tensor:
    allowed = _tensor(allowed).to(device)
    if allowed.dtype != torch.bool or tuple(allowed.shape) != (num_items,):
        raise DataError(f"allowed must be {num_items} booleans, one for each item")
    return allowed


def _forbid_(scores: Tensor, exclude: sp.csr_matrix | None, allowed: Tensor | None) -> None:
    """Sets forbidden entries to ``-inf``, in place."""
    if exclude is not None:
        row = np.repeat(np.arange(len(scores)), np.diff(exclude.indptr))
        column = exclude.indices.astype(np.int64, copy=False)
        scores[torch.from_numpy(row).to(scores.device), torch.from_numpy(column).to(scores.device)] = -torch.inf
    if allowed is not None:
        scores.masked_fill_(~allowed, -torch.inf)
