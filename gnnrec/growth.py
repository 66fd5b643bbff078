"""Adds and removes items, and adds events and people, each giving a new fitted state and no retraining."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from gnnrec.data.build import as_vectors
from gnnrec.data.cleaning import is_positive
from gnnrec.data.events import Events
from gnnrec.data.frames import as_lists, holds_lists, kind_of, type_with_gaps
from gnnrec.data.ids import IdArray, IdMap, listed
from gnnrec.data.pairs import enlarged, pair_matrix, place_matrix
from gnnrec.data.schema import Vectors
from gnnrec.errors import DataError, UnknownIdError
from gnnrec.modalities.features import Features, appended
from gnnrec.newcomers import encode_media, given_media, read_new_items
from gnnrec.related import read_relations
from gnnrec.state import RecommenderState

__all__ = ["positive_events", "undescribed", "with_events", "with_items", "with_new_items", "without_items"]

logger = logging.getLogger(__name__)


def with_new_items(
    state: RecommenderState,
    frame: Any,
    vectors: Mapping[str, Vectors] | None,
    relations: Mapping[str, Any] | None = None,
    *,
    device: str,
) -> RecommenderState:
    """Returns a state whose catalogue ends in the items of a table; see :meth:`gnnrec.Recommender.add_items`."""
    if "attach" not in state.ranker.capabilities:
        state.ranker.attach({}, {}, 0)  # says why it cannot
    vectors = {} if vectors is None else vectors
    if not isinstance(vectors, Mapping):
        raise DataError(f"vectors= takes a mapping of modalities to gnnrec.Vectors, not {type(vectors).__name__}")
    vectors = {name: as_vectors(name, given) for name, given in vectors.items()}
    ids, table = read_new_items(state, frame, vectors)
    related = read_relations(state, ids, relations)
    features = encode_media(state, "item", ids, table, given_media(state, "item", table, vectors), device=device)
    _check_described(state, ids, features, related)
    return with_items(state, ids, table, features, related)


def with_items(
    state: RecommenderState,
    ids: IdMap,
    table: pd.DataFrame | None,
    features: Mapping[str, Features],
    related: Mapping[str, sp.csr_matrix] = MappingProxyType({}),
) -> RecommenderState:
    """Returns a state whose catalogue ends in new items.

    Args:
        state: The fitted state.
        ids: The new items.
        table: One row per new item, or ``None``.
        features: Modality → prepared vectors, owners counted from 0 in the order of ``ids``.
        related: Relation that the ranker reads → ``[num_new, num_known + num_new]`` weights of its edges.

    Raises:
        UnsupportedError: The ranker needs a refit to know new items.
    """
    num_known, num_users = len(state.items), len(state.users)
    ranker = state.ranker.attach(features, state.features, len(ids), related)
    merged = {name: appended(known, features.get(name), num_known) for name, known in state.features.items()}
    item_table = state.catalogue.item_table
    if item_table is not None:
        rows = pd.DataFrame(index=range(len(ids))) if table is None else table
        rows = rows.reindex(columns=item_table.columns)
        item_table = _stacked(item_table, rows)
    shape = (num_users, num_known + len(ids))
    return replace(
        state,
        catalogue=replace(state.catalogue, items=state.items.extend(ids.ids), item_table=item_table),
        train=enlarged(state.train, shape),
        valid=enlarged(state.valid, shape),
        order=None if state.order is None else enlarged(state.order, shape),
        features=merged,
        ranker=ranker,
        version=state.version + 1,
    )


def without_items(state: RecommenderState, item_ids: Any) -> RecommenderState:
    """Returns a state that answers some items no more; they stay where they are in histories and in the ranker.

    Raises:
        UnknownIdError: An item is not in the catalogue, or was removed already.
    """
    index = np.unique(state.items.index_of(item_ids))
    again = np.intersect1d(index, state.removed)
    if len(again):
        shown = listed(state.items.ids_of(again))
        raise UnknownIdError(f"{len(again)} of these items were removed already: {shown}; leave them out")
    return replace(state, removed=np.union1d(state.removed, index), version=state.version + 1)


def with_events(
    state: RecommenderState, user_ids: IdArray, item_ids: IdArray, timestamp: NDArray[np.float64] | None = None
) -> RecommenderState:
    """Returns a state that knows further events, of known or new users with known items.

    A pair counts once: events that repeat a known pair change nothing. Late events, older than the newest one known,
    count like all others; where the order of a history counts, they come last in it all the same. The log says how many
    there were of each.

    Args:
        state: The fitted state.
        user_ids: ``[num_events]``; unknown ones become new users.
        item_ids: ``[num_events]``; removed items count, for they still tell what somebody likes.
        timestamp: ``[num_events]`` when they happened, if known; else the order given is taken for that of time.

    Raises:
        UnknownIdError: An item is not in the catalogue.
        DataError: User ids of another kind than the known ones.
    """
    item_index = _known_items(state, item_ids)
    added = pd.unique(user_ids[state.users.find(user_ids) < 0])
    users = state.users.extend(added) if len(added) else state.users
    shape = (len(users), len(state.items))
    before = enlarged(state.train, shape)
    given = pair_matrix(users.index_of(user_ids), item_index, shape)
    fresh = given - given.multiply(before)  # a sum with what is new, and not a new sort of all pairs
    fresh.eliminate_zeros()
    user_table = state.catalogue.user_table
    if user_table is not None and len(added):
        user_table = _stacked(user_table, pd.DataFrame(index=range(len(added)), columns=user_table.columns))
    changed = np.flatnonzero(np.diff(fresh.indptr))
    logger.info(
        "update: %d events; %d new pairs of %d users, %d of them new; %d events repeat a pair",
        *(len(user_ids), fresh.nnz, len(changed), len(added), len(user_ids) - fresh.nnz),
    )
    train = before + fresh
    order = None
    if state.order is not None:
        by_time = slice(None) if timestamp is None else np.argsort(timestamp, kind="stable")
        places = place_matrix(users.index_of(user_ids)[by_time], item_index[by_time], shape)
        order = _continued(enlarged(state.order, shape), places.multiply(fresh).tocsr())
    return replace(
        state,
        catalogue=replace(state.catalogue, users=users, user_table=user_table),
        train=train,
        valid=enlarged(state.valid, shape),
        order=order,
        ranker=state.ranker.update(train if order is None else order, changed) if len(changed) else state.ranker,
        last_event=_last_event(state.last_event, timestamp),
        version=state.version + 1,
    )


def positive_events(events: Events, positive_from: float | None) -> Events:
    """Leaves out events of smaller weight; without a threshold, or without weights, all events are positive."""
    if positive_from is None:
        return events
    if events.weight is None:
        logger.warning("there is no weight column, so all %d events count as positive", len(events))
        return events
    positive = is_positive(events.weight, positive_from, len(events))
    logger.info("%d of %d events are not positive: weight below %g", (~positive).sum(), len(events), positive_from)
    return events.take(positive)


def undescribed(
    state: RecommenderState, num_new: int, features: Mapping[str, Features], related: Mapping[str, sp.csr_matrix]
) -> NDArray[np.int64]:
    """Returns the new items of which nothing can be said: without any medium, and not related to an item that has one.

    Args:
        state: The fitted state.
        num_new: How many items are new.
        features: Modality → their vectors, owners counted from 0.
        related: Relation that the ranker reads → ``[num_new, num_known + num_new]`` weights of its edges.
    """
    num_known = len(state.items)
    having = np.zeros(num_known + num_new, dtype=np.float32)
    for feature in state.features.values():
        if feature.of == "item":
            having[feature.owner_index] = 1
    for feature in features.values():
        having[feature.owner_index + num_known] = 1
    heard = [edges @ having for name, edges in related.items() if state.ranker.relations[name]]
    return np.flatnonzero(sum(heard, start=having[num_known:]) == 0)


def _check_described(
    state: RecommenderState, ids: IdMap, features: Mapping[str, Features], related: Mapping[str, sp.csr_matrix]
) -> None:
    """Refuses items of which nothing could be said."""
    bare = undescribed(state, len(ids), features, related)
    if len(bare) == 0:
        return
    known = ", ".join(name for name, feature in state.features.items() if feature.of == "item") or "none"
    shown = listed(ids.ids[bare])
    unreadable = "; ".join(example for feature in features.values() for example in feature.report.examples)
    raise DataError(
        f"{len(bare)} of {len(ids)} new items have no medium that the model knows ({known}), e.g. {shown}; "
        f"give them one{' or relate them to items that have one' if any(state.ranker.relations.values()) else ''}, "
        f"or leave them out{' (unreadable: ' + unreadable + ')' if unreadable else ''}"
    )


def _known_items(state: RecommenderState, item_ids: IdArray) -> NDArray[np.int64]:
    try:
        return state.items.index_of(item_ids)
    except UnknownIdError as error:
        raise UnknownIdError(f"{error}; give their media beside the events, or call add_items first") from error


def _continued(order: sp.csr_matrix, places: sp.csr_matrix) -> sp.csr_matrix:
    """Returns both, with the places of each user's new events behind those of the old ones."""
    newest = order.max(axis=1).toarray().ravel()
    later = places.copy()
    later.data += np.repeat(newest, np.diff(later.indptr))
    continued: sp.csr_matrix = order + later
    return continued


def _last_event(last: float | None, timestamp: NDArray[np.float64] | None) -> float | None:
    """Returns the newest timestamp, and reports events that come late."""
    if timestamp is None or len(timestamp) == 0:
        return last
    if last is None:
        return float(timestamp.max())
    late = int((timestamp < last).sum())
    if late:
        logger.info("update: %d events are older than the newest one known (%g); they count all the same", late, last)
    return max(last, float(timestamp.max()))


def _as_before(known: pd.Series, new: pd.Series) -> pd.Series:
    """Returns new values in the type of the known ones, if it holds them: whole numbers beside gaps, texts of dates."""
    try:
        if pd.api.types.is_integer_dtype(known.dtype) or pd.api.types.is_bool_dtype(known.dtype):
            return new.astype(type_with_gaps(known.dtype)) if new.isna().any() else new
        if pd.api.types.is_datetime64_any_dtype(known.dtype) and kind_of(new) == "string":  # JSON has no dates
            return pd.to_datetime(new, format="ISO8601").astype(known.dtype)
    except (TypeError, ValueError):
        pass  # it does not
    return new


def _stacked(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Appends rows; a column without values takes no part in choosing the type, and a text beside lists is one of one.

    Raises:
        DataError: A column holds values of another kind than before, so that the table could not be saved.
    """
    listing = [name for name in table.columns if holds_lists(table[name]) or holds_lists(rows[name])]
    table, rows = (part.assign(**{str(name): as_lists(part[name]) for name in listing}) for part in (table, rows))
    rows = rows.assign(**{str(name): _as_before(table[name], rows[name]) for name in table.columns})
    for name in table.columns:
        now = kind_of(rows[name])
        if now is not None and (before := kind_of(table[name])) not in (None, now):
            raise DataError(f"new items: column {name!r} holds {now} values, and {before} values in the item table")
    empty = {name: table[name].dtype for name in table.columns if rows[name].isna().all()}
    rows = rows.astype({name: type_with_gaps(kind) if kind.kind in "fObiu" else object for name, kind in empty.items()})
    return pd.concat([table, rows], ignore_index=True)
