"""Turns scores into tidy ranked frames in the ids that people use."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.ids import IdArray, IdMap, as_id_array
from gnnrec.errors import ConfigError
from gnnrec.retrieval.topk import top_k_of_scores

__all__ = ["allowed_items", "ranked_frame"]

_BLOCK_SCORES = 4_000_000  # scores held at once: 16 MB of float32


def allowed_items(
    items: IdMap, include: Iterable[Any] | None, exclude: Iterable[Any] | None
) -> NDArray[np.bool_] | None:
    """Returns ``[num_items]`` whether each item may be answered, or ``None`` for all.

    Raises:
        UnknownIdError: A filter names an unknown item.
    """
    if include is None and exclude is None:
        return None
    allowed = np.full(len(items), include is None)
    if include is not None:
        allowed[items.index_of(as_id_array(list(include), "include_items"))] = True
    if exclude is not None:
        allowed[items.index_of(as_id_array(list(exclude), "exclude_items"))] = False
    return allowed


def ranked_frame(
    score: Callable[[NDArray[np.int64]], Tensor],
    queries: IdArray,
    query_column: str,
    items: IdMap,
    k: int,
    *,
    exclude: sp.csr_matrix | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """Ranks items for many queries, a block at a time.

    Args:
        score: Positions of queries ``[block]`` → scores ``[block, num_items]``.
        queries: ``[num_queries]`` what the answers are labelled with.
        query_column: Name of that column.
        items: The catalogue.
        k: Answers per query; a query with fewer items left gets fewer rows.
        exclude: ``[num_queries, num_items]`` pairs that must not be answered.
        allowed: ``[num_items]`` items that may be answered at all.

    Returns:
        A frame ``<query_column>, item_id, score, rank``; ranks start at 1.

    Raises:
        ConfigError: ``k`` is not a positive integer.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k <= 0:
        raise ConfigError(f"k must be a positive integer, got {k!r}")
    parts = []
    rows_at_once = max(1, _BLOCK_SCORES // max(1, len(items)))
    for start in range(0, len(queries), rows_at_once):
        rows = np.arange(start, min(start + rows_at_once, len(queries)))
        hidden = None if exclude is None else exclude[rows]
        scores, index = top_k_of_scores(score(rows), int(k), exclude=hidden, allowed=allowed)
        found = index.numpy() >= 0
        row, place = np.nonzero(found)
        parts.append((rows[row], index.numpy()[found], scores.numpy()[found], place + 1))
    query, item, value, rank = (
        [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.zeros(0, np.int64)] * 4
    )
    return pd.DataFrame(
        {
            query_column: queries[query],
            "item_id": items.ids_of(item),
            "score": value.astype(np.float32),
            "rank": rank.astype(np.int64),
        }
    )
