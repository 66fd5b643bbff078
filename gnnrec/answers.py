"""Turns scores into tidy ranked frames in the ids that people use."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.ids import IdMap, as_id_array, id_column
from gnnrec.errors import ConfigError
from gnnrec.selection.topk import check_positive, forbid, top_k_of_scores

__all__ = ["NewItems", "allowed_items", "ranked_frame"]

_BLOCK_SCORES = 4_000_000  # scores held at once: 16 MB of float32


def allowed_items(
    items: IdMap,
    removed: NDArray[np.int64],
    include: Iterable[Any] | None = None,
    exclude: Iterable[Any] | None = None,
) -> NDArray[np.bool_] | None:
    """Returns ``[num_items]`` whether each item may be answered, or ``None`` for all.

    Args:
        items: The catalogue.
        removed: Positions of the removed items, which no filter brings back.
        include: Only these, if given.
        exclude: None of these.

    Raises:
        UnknownIdError: A filter names an unknown item.
    """
    if include is None and exclude is None and len(removed) == 0:
        return None
    allowed = np.full(len(items), include is None)
    if include is not None:
        allowed[items.index_of(as_id_array(include, "include_items"))] = True
    if exclude is not None:
        allowed[items.index_of(as_id_array(exclude, "exclude_items"))] = False
    allowed[removed] = False
    return allowed


@dataclass(frozen=True, eq=False)
class NewItems:
    """How many places of every list are kept for items without interactions.

    Attributes:
        is_new: ``[num_items]`` which items those are.
        share: Of the ``k`` places, rounded half up.

    Raises:
        ConfigError: The share is not a number in [0, 1].
    """

    is_new: NDArray[np.bool_]
    share: float

    def __post_init__(self) -> None:
        if isinstance(self.share, bool) or not isinstance(self.share, Real) or not 0 <= self.share <= 1:
            raise ConfigError(f"new_item_share is a number between 0 and 1, or None for none, not {self.share!r}")


def ranked_frame(
    score: Callable[[NDArray[np.int64]], Tensor],
    queries: pd.Series,
    query_column: str,
    items: IdMap,
    k: int,
    *,
    exclude: sp.csr_matrix | None = None,
    allowed: NDArray[np.bool_] | None = None,
    new: NewItems | None = None,
) -> pd.DataFrame:
    """Ranks items for many queries, a block at a time.

    Args:
        score: Positions of queries ``[block]`` → scores ``[block, num_items]``.
        queries: ``[num_queries]`` what the answers are labelled with, in a column of that type.
        query_column: Name of that column.
        items: The catalogue.
        k: Answers per query; a query with fewer items left gets fewer rows.
        exclude: ``[num_queries, num_items]`` pairs that must not be answered.
        allowed: ``[num_items]`` items that may be answered at all.
        new: Places that are kept for new items; by score alone when not given.

    Returns:
        A frame ``<query_column>, item_id, score, rank``; ranks start at 1.

    Raises:
        ConfigError: ``k`` is not a positive integer.
    """
    k = check_positive("k", k)
    parts = []
    rows_at_once = max(1, _BLOCK_SCORES // max(1, len(items)))
    for start in range(0, len(queries), rows_at_once):
        rows = np.arange(start, min(start + rows_at_once, len(queries)))
        hidden = None if exclude is None else exclude[rows]
        if new is None:
            scores, index = top_k_of_scores(score(rows), k, exclude=hidden, allowed=allowed)
        else:
            scores, index = _top_k_with_share(forbid(score(rows), exclude=hidden, allowed=allowed), k, new)
        found = index.numpy() >= 0
        row, place = np.nonzero(found)
        parts.append((rows[row], index.numpy()[found], scores.numpy()[found], place + 1))
    query, item, value, rank = (
        [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.zeros(0, np.int64)] * 4
    )
    return pd.DataFrame(
        {
            query_column: queries.take(query).reset_index(drop=True),
            "item_id": id_column(items.ids_of(item), items.kind),
            "score": value.astype(np.float32),
            "rank": rank.astype(np.int64),
        }
    )


def _top_k_with_share(scores: Tensor, k: int, new: NewItems) -> tuple[Tensor, Tensor]:
    """Finds the best new items for their share of the places and the best others for the rest, merged by score.

    Where there are too few of either kind, the other kind gets their places.

    Args:
        scores: ``[num_rows, num_items]``.
        k: How many items a row gets.
        new: Which items are new, and their share.

    Returns:
        As :func:`~gnnrec.selection.topk.top_k_of_scores`.
    """
    values, index = zip(*(top_k_of_scores(scores, k, allowed=kind) for kind in (new.is_new, ~new.is_new)), strict=True)
    num_new, num_others = ((found >= 0).sum(dim=1, keepdim=True) for found in index)
    places_of_new = torch.minimum(num_new, (k - num_others).clamp(min=math.floor(new.share * k + 0.5)))
    place = torch.arange(values[0].shape[1])
    kept = torch.cat([place < places_of_new, place < k - places_of_new], dim=1)
    joined, by_item = torch.cat(index, dim=1).sort(dim=1)  # equal scores then stay in the order of items
    merged, order = (
        torch.cat(values, dim=1)
        .masked_fill(~kept, -torch.inf)
        .gather(1, by_item)
        .sort(dim=1, descending=True, stable=True)
    )
    chosen = joined.gather(1, order).masked_fill(merged == -torch.inf, -1)
    return merged[:, :k], chosen[:, :k]
