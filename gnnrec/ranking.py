"""Ranks items by a fitted state: for known people, for people by their history, and beside other items."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.answers import NewItems, allowed_items, ranked_frame
from gnnrec.data.ids import IdArray, IdMap, as_id_array, id_column
from gnnrec.data.pairs import pair_matrix, place_matrix
from gnnrec.data.schema import Vectors
from gnnrec.errors import ConfigError, DataError
from gnnrec.fitting import resolve_device
from gnnrec.modalities.features import owned_by
from gnnrec.newcomers import read_profiles
from gnnrec.state import RecommenderState

__all__ = ["rank_beside_items", "rank_for_histories", "rank_for_users"]


def rank_for_users(
    state: RecommenderState,
    users: Any,
    k: int,
    *,
    exclude_seen: bool = True,
    include_items: Iterable[Any] | None = None,
    exclude_items: Iterable[Any] | None = None,
    on_unknown: str = "raise",
    new_item_share: float | None = None,
) -> pd.DataFrame:
    """Ranks items for known users; see :meth:`gnnrec.Recommender.recommend`."""
    if on_unknown not in ("raise", "skip", "popular"):
        raise ConfigError(f"on_unknown is 'raise', 'skip' or 'popular', not {on_unknown!r}")
    ids = as_id_array(users, "users")
    index = state.users.index_of(ids) if on_unknown == "raise" else state.users.find(ids)
    if on_unknown == "skip":
        ids, index = ids[index >= 0], index[index >= 0]
    known = index >= 0

    def score(rows: NDArray[np.int64]) -> Tensor:
        if known[rows].all():
            return state.ranker.score(index[rows])
        scores = torch.from_numpy(state.popularity.astype(np.float32)).repeat(len(rows), 1)
        scores[torch.from_numpy(known[rows])] = state.ranker.score(index[rows][known[rows]])
        return scores

    seen = state.seen_by(index) if exclude_seen else None
    allowed = allowed_items(state.items, state.removed, include_items, exclude_items)
    new = _new_items(state, new_item_share)
    people = _labels(ids, state.users)
    return ranked_frame(score, people, "user_id", state.items, k, exclude=seen, allowed=allowed, new=new)


def rank_for_histories(
    state: RecommenderState,
    histories: Sequence[Iterable[Any]] | Mapping[Any, Iterable[Any]],
    k: int,
    *,
    profiles: Any = None,
    user_vectors: Mapping[str, Vectors] | None = None,
    exclude_seen: bool = True,
    include_items: Iterable[Any] | None = None,
    exclude_items: Iterable[Any] | None = None,
    new_item_share: float | None = None,
    device: str,
) -> pd.DataFrame:
    """Ranks items for people without an id; see :meth:`gnnrec.Recommender.recommend_for`."""
    given = _checked_histories(histories)
    names: list[Any] = list(histories) if isinstance(histories, Mapping) else list(range(len(given)))
    lists = [list(history) for history in given]
    items = state.items.index_of([item for history in lists for item in history])
    person = np.repeat(np.arange(len(lists)), [len(history) for history in lists])
    read = place_matrix if "order" in state.ranker.capabilities else pair_matrix
    matrix = read(person, items, (len(lists), len(state.items)))
    media = None
    if profiles is not None or user_vectors is not None:
        media = read_profiles(state, names, profiles, user_vectors, device=resolve_device(device))

    def score(rows: NDArray[np.int64]) -> Tensor:
        if media is None:
            return state.ranker.fold_in(matrix[rows])
        block = {name: owned_by(feature, rows) for name, feature in media.items()}
        return state.ranker.fold_in_with_profiles(matrix[rows], block)

    allowed = allowed_items(state.items, state.removed, include_items, exclude_items)
    seen = matrix if exclude_seen else None
    new = _new_items(state, new_item_share)
    queries = np.empty(len(names), dtype=object)  # not np.array(names): a name may be a tuple
    queries[:] = names
    column = pd.Series(queries).infer_objects()
    return ranked_frame(score, column, "query", state.items, k, exclude=seen, allowed=allowed, new=new)


def _checked_histories(histories: Any) -> list[Iterable[Any]]:
    """Returns the histories; refuses what is easily given for lists of item ids.

    Raises:
        DataError: A history is a single value.
    """
    if isinstance(histories, str) or not isinstance(histories, Iterable):
        raise DataError(f"histories: expected lists of item ids, one for each person, got {histories!r}")
    given = list(histories.values() if isinstance(histories, Mapping) else histories)
    for history in given:
        if isinstance(history, str) or not isinstance(history, Iterable):
            raise DataError(f"histories: expected a list of item ids for each person, got the single value {history!r}")
    return given


def rank_beside_items(state: RecommenderState, items: Any, k: int) -> pd.DataFrame:
    """Ranks items by their likeness to others; see :meth:`gnnrec.Recommender.similar_items`."""
    ids = as_id_array(items, "items")
    index = state.items.index_of(ids)
    itself = pair_matrix(np.arange(len(index)), index, (len(index), len(state.items)))
    allowed = allowed_items(state.items, state.removed)

    def score(rows: NDArray[np.int64]) -> Tensor:
        return state.ranker.similar(index[rows])

    return ranked_frame(score, _labels(ids, state.items), "query", state.items, k, exclude=itself, allowed=allowed)


def _labels(ids: IdArray, known: IdMap) -> pd.Series:
    """Returns ids as a column of their kind, and of that of the known ones if there are none."""
    return id_column(ids, known.kind if len(ids) == 0 else "int" if ids.dtype.kind == "i" else "str")


def _new_items(state: RecommenderState, share: float | None) -> NewItems | None:
    return None if share is None else NewItems(state.popularity == 0, share)
