"""Adds new items, new people and new events to a fitted state, each giving a new state and no retraining."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.data.frames import read_frame
from gnnrec.data.ids import IdArray, IdMap, as_id_array
from gnnrec.data.pairs import enlarged, pair_matrix
from gnnrec.data.schema import ModalitySpec, Vectors
from gnnrec.errors import DataError, UnknownIdError
from gnnrec.modalities.encode import encode_modality
from gnnrec.modalities.features import Features
from gnnrec.modalities.store import open_store
from gnnrec.modalities.vectors import features_from_vectors
from gnnrec.state import RecommenderState

__all__ = ["encode_new_items", "read_new_items", "with_events", "with_items"]

logger = logging.getLogger(__name__)


def read_new_items(
    state: RecommenderState, frame: Any, vectors: Mapping[str, Vectors] | None
) -> tuple[IdMap, pd.DataFrame | None]:
    """Checks a table of new items.

    Args:
        state: The fitted state.
        frame: A frame or path with ``item_id`` and any columns of the item table, or ``None``: the ids of ``vectors``.
        vectors: Modality → vectors of the new items.

    Returns:
        The new ids and their table, row by row.

    Raises:
        DataError: A missing or repeated id, or one that is in the catalogue already.
    """
    vectors = vectors or {}
    if frame is None:
        ids = IdMap.from_values([as_id_array(given.ids, "ids of new vectors") for given in vectors.values()], "item")
        table = None
    else:
        table, _ = read_frame(frame, "new items")
        if "item_id" not in table.columns:
            raise DataError(f"new items: no column 'item_id'; the columns are {', '.join(map(str, table.columns))}")
        ids = IdMap(table["item_id"], "item")
        table = table.drop(columns="item_id")
    if len(ids) == 0:
        raise DataError("new items: there is no row; give a frame with 'item_id' or vectors with ids")
    state.items.extend(ids.ids)  # refuses ids that exist already, or are of another kind
    return ids, table


def encode_new_items(
    state: RecommenderState,
    ids: IdMap,
    table: pd.DataFrame | None,
    specs: Mapping[str, ModalitySpec],
    *,
    device: str = "cpu",
    cache_dir: Path | None = None,
    allow_bare: bool = False,
) -> dict[str, Features]:
    """Encodes and prepares the media of new items with the encoders and statistics of the fit.

    Args:
        state: The fitted state.
        ids: The new items.
        table: One row per new item, or ``None``.
        specs: Modality → where its vectors come from; modalities that the fit did not know are an error.
        device: Where encoders compute.
        cache_dir: Folder of encoded media.
        allow_bare: Take items without any medium; nothing can be said of them.

    Returns:
        Modality → prepared vectors, owners counted from 0 in the order of ``ids``.

    Raises:
        DataError: An unknown modality, vectors of another width, or items without any medium.
        EncoderError: An encoder differs from the one of the fit.
    """
    features: dict[str, Features] = {}
    for name, spec in specs.items():
        if name not in state.features:
            known = ", ".join(state.features) or "none"
            raise DataError(f"modality {name!r} was not there when the model was fitted (known: {known}); fit again")
        fitted = state.features[name]
        if isinstance(spec, Vectors):
            raw = features_from_vectors(name, spec, ids)
            if raw.dim != fitted.dim:
                raise DataError(f"modality {name!r}: new vectors are {raw.dim} wide, the fitted ones {fitted.dim}")
        elif table is None:
            continue
        else:
            store = open_store(cache_dir)
            raw = encode_modality(name, spec, table, ids, store=store, device=device, expected=fitted.encoder)
        features[name] = state.preparation.scale(raw)
    described = np.unique(np.concatenate([np.zeros(0, np.int64), *(f.owner_index for f in features.values())]))
    if len(described) < len(ids) and not allow_bare:
        bare = np.setdiff1d(np.arange(len(ids)), described)
        shown = ", ".join(repr(value) for value in ids.ids[bare[:5]].tolist())
        raise DataError(
            f"{len(bare)} of {len(ids)} new items have no medium that the model knows ({', '.join(state.features)}), "
            f"e.g. {shown}; give them one or leave them out"
        )
    return features


def with_items(
    state: RecommenderState, ids: IdMap, table: pd.DataFrame | None, features: Mapping[str, Features]
) -> RecommenderState:
    """Returns a state whose catalogue ends in the new items.

    Raises:
        UnsupportedError: The ranker needs a refit to know new items.
    """
    num_known, num_users = len(state.items), len(state.users)
    ranker = state.ranker.attach(features, state.features, len(ids))
    merged = {name: _appended(known, features.get(name), num_known) for name, known in state.features.items()}
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
        features=merged,
        ranker=ranker,
        version=state.version + 1,
    )


def with_events(state: RecommenderState, user_ids: IdArray, item_ids: IdArray) -> RecommenderState:
    """Returns a state that knows further events, of known or new users with known items.

    Args:
        state: The fitted state.
        user_ids: ``[num_events]``; unknown ones become new users.
        item_ids: ``[num_events]``.

    Raises:
        UnknownIdError: An item is not in the catalogue.
        DataError: User ids of another kind than the known ones.
    """
    item_index = _known_items(state, item_ids)
    added = pd.unique(user_ids[state.users.find(user_ids) < 0])
    users = state.users.extend(added)
    user_index = users.index_of(user_ids)
    shape = (len(users), len(state.items))
    old = state.train.tocoo()
    train = pair_matrix(np.append(old.row, user_index), np.append(old.col, item_index), shape)
    user_table = state.catalogue.user_table
    if user_table is not None and len(added):
        user_table = _stacked(user_table, pd.DataFrame(index=range(len(added)), columns=user_table.columns))
    logger.info(
        "update: %d events of %d users, %d of them new", len(user_index), len(np.unique(user_index)), len(added)
    )
    return replace(
        state,
        catalogue=replace(state.catalogue, users=users, user_table=user_table),
        train=train,
        valid=enlarged(state.valid, shape),
        ranker=state.ranker.update(train, np.unique(user_index)),
        version=state.version + 1,
    )


def _known_items(state: RecommenderState, item_ids: IdArray) -> NDArray[np.int64]:
    try:
        return state.items.index_of(item_ids)
    except UnknownIdError as error:
        raise UnknownIdError(f"{error}; call add_items first") from error


def _appended(known: Features, added: Features | None, num_known: int) -> Features:
    if added is None:
        return known
    return replace(
        known,
        values=np.concatenate([known.values, added.values]),
        owner_index=np.concatenate([known.owner_index, added.owner_index + num_known]),
    )


def _stacked(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Appends rows; a column without values takes no part in choosing the type."""
    empty = {name: table[name].dtype for name in table.columns if rows[name].isna().all()}
    rows = rows.astype({name: kind if kind.kind in "fO" else object for name, kind in empty.items()})
    return pd.concat([table, rows], ignore_index=True)
