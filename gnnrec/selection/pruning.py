"""Turns scores that are made a tile at a time into each row's k best items, exactly, of which it keeps few.

The scores of a random sample of items tell about how high a row's k-th best score lies. Somewhat below it a bound is
guessed, every tile is compared with the bound while it is in the cache, and only what exceeds it is kept. If that is k
items or more, the k best are among them, however lucky the guess (Floyd & Rivest, "Expected time bounds for selection",
1975). Selecting then costs a small part of making the scores.

numpy compares and finds: on one core it does both several times faster than torch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.errors import DataError
from gnnrec.selection.rows import select_directly

__all__ = ["Sample", "best_above_guess", "refuse_nan"]

_TILE = 2**19  # scores at once: few enough for the cache, enough to keep the processor busy
_MIN_ITEMS = 1024  # of a tile: the product of narrower ones is slower
_SHARE = 24  # items of which one is in the sample: it is scored twice, but the larger it is, the less is kept
_MIN_SAMPLE = 1024


@dataclass(frozen=True)
class Sample:
    """A random sample of the items that may be answered.

    Attributes:
        items: ``[size]`` item indices.
        rank: Place in the sample whose score is the guess: with near certainty, k items of all lie above it.
    """

    items: NDArray[np.int64]
    rank: int

    @staticmethod
    def draw(items: NDArray[np.int64], k: int) -> "Sample | None":
        """Draws always the same sample; ``None`` where guessing does not pay: few items, or a large part is wanted."""
        size = max(_MIN_SAMPLE, len(items) // _SHARE)
        if len(items) < 4 * size:
            return None
        expected = k * size / len(items)  # how many of the k best are in the sample: a Poisson variable
        rank = math.ceil(expected + 4 * math.sqrt(expected) + 2)
        if rank > size // 4:
            return None
        return Sample(np.sort(np.random.default_rng(0).choice(items, size, replace=False, shuffle=False)), rank)


def best_above_guess(
    queries: Tensor,
    items: Tensor,
    k: int,
    sample: Sample,
    exclude: sp.csr_matrix | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Finds the items with the largest inner product for each of some hundred queries.

    Args:
        queries: ``[num_queries, dim]`` on the CPU, in single or double precision.
        items: ``[num_items, dim]``, likewise.
        k: How many items a query gets, at most ``num_items``.
        sample: Of the allowed items.
        exclude: ``[num_queries, num_items]``; stored entries are never answered.
        allowed: ``[num_items]``; only these items are.

    Returns:
        Scores and item indices ``[num_queries, k]``, filled up with ``-inf`` and any index, and the queries for which
        the guess was too high: what is given for them are not the best.

    Raises:
        DataError: A score that may be answered is NaN.
    """
    guess = _guess(queries @ items[sample.items].T, sample, exclude)
    row, item, score = _above(queries, items, guess, exclude, allowed)
    count = np.bincount(row, minlength=len(guess))
    order = np.argsort(row.astype(np.uint16), kind="stable")  # by row, then by item; 16 bits: a radix sort
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    shape = (len(guess), max(k, count.max()))
    scores, index = np.full(shape, -np.inf, dtype=score.dtype), np.zeros(shape, dtype=np.int64)
    scores[row[order], place], index[row[order], place] = score[order], item[order]
    best, position = select_directly(torch.from_numpy(scores), k)
    refuse_nan(best)
    too_high = (count < k) & (guess[:, 0] > -np.inf)
    return best, torch.from_numpy(index).gather(1, position), np.flatnonzero(too_high)


def refuse_nan(best: Tensor) -> None:
    """Raises an error if a row's best score is NaN, which ranks above all numbers.

    Raises:
        DataError: If so.
    """
    if best.shape[1] and best[:, 0].isnan().any():
        raise DataError("some scores are not a number (NaN); check the vectors or the model that made them")


def _guess(scores: Tensor, sample: Sample, exclude: sp.csr_matrix | None) -> NDArray[np.floating]:
    """Returns ``[num_rows, 1]`` a score that about as many items of the sample exceed as its rank says."""
    if exclude is not None:
        hidden = exclude[:, sample.items].tocoo()
        scores.numpy()[hidden.row, hidden.col] = -np.inf
    # The best of the sample mostly lie in different ones of so many groups; if not, the guess is a little low.
    groups = 8 * sample.rank
    size = scores.shape[1] // groups * groups
    if size:
        scores = scores[:, :size].reshape(len(scores), -1, groups).amax(dim=1)
    guess = scores.topk(sample.rank, dim=1).values
    refuse_nan(guess)
    return guess[:, -1:].numpy()


def _above(
    queries: Tensor,
    items: Tensor,
    guess: NDArray[np.floating],
    exclude: sp.csr_matrix | None,
    allowed: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating]]:
    """Returns the rows, items and scores of all that exceed the guess of their row, in the order of items in each."""
    width = max(_MIN_ITEMS, _TILE // len(guess))
    rows, columns, scores = [], [], []
    starts = range(0, len(items), width)
    for start, hidden in zip(starts, _by_tile(exclude, len(items), width), strict=True):
        tile = (queries @ items[start : start + width].T).numpy()
        keep = np.less_equal(tile, guess)
        np.logical_not(keep, out=keep)  # not merely "greater": NaN must stay, to be refused
        if allowed is not None:
            keep &= allowed[start : start + width]
        keep[hidden] = False
        row, column = np.divmod(np.flatnonzero(keep), tile.shape[1])
        rows.append(row)
        columns.append(column + start)
        scores.append(tile[row, column])
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(scores)


def _by_tile(
    exclude: sp.csr_matrix | None, num_items: int, width: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yields, for every tile, the rows and the columns, counted within the tile, of the stored entries."""
    row = column = np.zeros(0, dtype=np.int64)
    if exclude is not None:
        order = np.argsort(exclude.indices, kind="stable")
        row = np.repeat(np.arange(exclude.shape[0]), np.diff(exclude.indptr))[order]
        column = exclude.indices[order].astype(np.int64)
    bounds = np.searchsorted(column, np.arange(0, num_items + width, width))
    for tile, (first, last) in enumerate(pairwise(bounds)):
        yield row[first:last], column[first:last] - tile * width
