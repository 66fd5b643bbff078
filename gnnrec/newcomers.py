"""Turns the media of items and people that a fit did not know into vectors, as the fit prepared those it knew."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from gnnrec.data.build import as_vectors
from gnnrec.data.frames import check_savable, kind_of, read_frame, with_gaps
from gnnrec.data.ids import IdArray, IdMap, as_id_array, listed
from gnnrec.data.log import required_column
from gnnrec.data.schema import COLUMN_ALIASES, ModalitySpec, Owner, Vectors, spec_columns
from gnnrec.errors import DataError
from gnnrec.modalities.encode import encode_modality
from gnnrec.modalities.features import Features, appended
from gnnrec.modalities.imputation import impute
from gnnrec.modalities.store import open_store
from gnnrec.modalities.vectors import features_from_vectors
from gnnrec.state import RecommenderState

__all__ = ["encode_media", "given_media", "read_new_items", "read_profiles"]


def read_new_items(
    state: RecommenderState, frame: Any, vectors: Mapping[str, Vectors]
) -> tuple[IdMap, pd.DataFrame | None]:
    """Checks a table of new items.

    Args:
        state: The fitted state.
        frame: A frame or path with item ids and any columns of the item table, or ``None``: the ids of ``vectors``.
        vectors: Modality → vectors of the new items, in the form that :func:`gnnrec.data.build.as_vectors` gives them.

    Returns:
        The new ids and their table, row by row.

    Raises:
        DataError: A missing or repeated id, or one that is or was in the catalogue.
    """
    if frame is None:
        ids = IdMap.from_values([given.ids for given in vectors.values()], "item")
        table = None
    else:
        owners, table = _read_table(frame, "new items", "item_id", state.items, state.catalogue.item_table)
        ids = IdMap(owners, "item")
        if state.catalogue.item_table is not None:
            check_savable(table[[name for name in table if name in state.catalogue.item_table]], "new items")
    if len(ids) == 0:
        raise DataError("new items: there is no row; give a frame with 'item_id' or vectors with ids")
    gone = ids.ids[np.isin(state.items.find(ids.ids), state.removed)]
    if len(gone):
        raise DataError(
            f"item ids were removed, and histories still mean the removed items by them: {listed(gone)}; "
            "add the items under other ids, or fit again"
        )
    state.items.extend(ids.ids)  # refuses ids that exist already, or are of another kind
    return ids, table


def read_profiles(
    state: RecommenderState,
    names: Sequence[Any],
    frame: Any = None,
    vectors: Mapping[str, Vectors] | None = None,
    *,
    device: str,
) -> dict[str, Features]:
    """Encodes and prepares the media of people, as :func:`encode_media` does.

    Args:
        state: The fitted state.
        names: What the people are called; not everybody needs a profile.
        frame: A frame or path with ``user_id``, which holds such names, and the media columns of the user table.
        vectors: Modality of users → vectors, by name, instead of or beside the columns.
        device: Where encoders compute.

    Returns:
        Modality → prepared vectors, owners counted in the order of ``names``.

    Raises:
        DataError: A profile of nobody in ``names``, no medium that the model knows, an unknown modality, or vectors of
            another width.
        UnsupportedError: The model has no use for profiles.
    """
    if "profiles" not in state.ranker.capabilities:
        state.ranker.fold_in_with_profiles(state.train[:0], {})  # says why it cannot
    people = IdMap(list(names), "user")
    vectors = {name: as_vectors(name, given) for name, given in (vectors or {}).items()}
    table = None
    if frame is not None:
        owners, given = _read_table(frame, "profiles", "user_id", people, state.catalogue.user_table)
        _check_known(owners, people, "profiles")
        position = IdMap(owners, "user").find(people.ids)  # refuses people with two rows
        table = with_gaps(given, position)
    for name, spec in vectors.items():
        _check_known(spec.ids, people, f"modality {name!r}")
    specs = given_media(state, "user", table, vectors)
    if not specs:
        known = ", ".join(_modalities(state, "user")) or "none"
        raise DataError(f"profiles: none of their columns is a medium of people that the model knows ({known})")
    return encode_media(state, "user", people, table, specs, device=device)


def given_media(
    state: RecommenderState, of: Owner, table: pd.DataFrame | None, vectors: Mapping[str, Vectors]
) -> dict[str, ModalitySpec]:
    """Returns what there is to encode: the vectors, and the fitted modalities whose columns are in the table."""
    columns = [] if table is None else list(table.columns)
    in_table = {
        name: spec
        for name, spec in state.catalogue.modalities.items()
        if spec.of == of
        and name in state.features
        and not isinstance(spec, Vectors)
        and any(column in columns for column in spec_columns(spec))
    }
    return {**in_table, **vectors}


def encode_media(
    state: RecommenderState,
    of: Owner,
    ids: IdMap,
    table: pd.DataFrame | None,
    specs: Mapping[str, ModalitySpec],
    *,
    device: str,
) -> dict[str, Features]:
    """Encodes, scales and completes media with the encoders, the statistics and the policy of the fit.

    Args:
        state: The fitted state.
        of: Whether the media are those of items or of users.
        ids: Whose they are.
        table: One row per id, or ``None``.
        specs: Modality → where its vectors come from; modalities that the fit did not know are an error.
        device: Where encoders compute.

    Returns:
        Modality → prepared vectors, owners counted from 0 in the order of ``ids``.

    Raises:
        DataError: An unknown modality, or vectors of another width.
        EncoderError: An encoder differs from the one of the fit.
    """
    known = _modalities(state, of)
    features: dict[str, Features] = {}
    for name, spec in specs.items():
        if name not in known:
            raise DataError(
                f"modality {name!r} was not there when the model was fitted (known of {of}s: "
                f"{', '.join(known) or 'none'}); fit again"
            )
        if isinstance(spec, Vectors):
            raw = features_from_vectors(name, replace(spec, of=of), ids)
            if raw.dim != (fitted := state.preparation.raw_dim(known[name])):
                raise DataError(f"modality {name!r}: new vectors are {raw.dim} wide, the fitted ones {fitted}")
        elif table is None:
            continue
        else:
            encoder = known[name].encoder
            raw = encode_modality(name, spec, table, ids, store=open_store(), device=device, expected=encoder)
        features[name] = state.preparation.scale(raw)
    return _completed(state, of, features, len(ids))


def _completed(state: RecommenderState, of: Owner, added: dict[str, Features], num_added: int) -> dict[str, Features]:
    """Fills what is missing by the policy of the fit, from the prepared vectors of owners with interactions."""
    policy = state.preparation.missing
    described = np.unique(np.concatenate([np.zeros(0, np.int64), *(feature.owner_index for feature in added.values())]))
    if policy == "absent" or len(described) == 0:
        return added
    warm = state.popularity > 0 if of == "item" else np.diff(state.train.indptr) > 0
    num_known = len(warm)
    together = {name: appended(known, added.get(name), num_known) for name, known in _modalities(state, of).items()}
    num_owners = num_known + num_added
    completed = {}
    for name, feature in impute(together, num_owners, policy, np.append(warm, np.zeros(num_added, np.bool_))).items():
        # Whoever has no medium at all stays without: a guess from nothing says nothing.
        rows = np.isin(feature.owner_index, described + num_known)
        completed[name] = replace(
            feature, values=feature.values[rows], owner_index=feature.owner_index[rows] - num_known
        )
    return completed


def _modalities(state: RecommenderState, of: Owner) -> dict[str, Features]:
    return {name: feature for name, feature in state.features.items() if feature.of == of}


def _read_table(
    frame: Any, what: str, role: str, known: IdMap, known_table: pd.DataFrame | None
) -> tuple[IdArray, pd.DataFrame]:
    """Returns the ids of a role and the other columns; in a file all are texts that are so in what is known."""
    others = pd.DataFrame() if known_table is None else known_table  # none of these holds the ids
    texts = [str(name) for name in others if kind_of(others[name]) == "string"]
    if known.kind == "str":
        texts += [name for name in COLUMN_ALIASES[role] if name not in others]
    table, _ = read_frame(frame, what, texts)
    column = required_column(table[table.columns.difference(others.columns, sort=False)], role, what)
    return as_id_array(table[column], f"{what}, column {column!r}"), table.drop(columns=column).reset_index(drop=True)


def _check_known(owners: IdArray, people: IdMap, what: str) -> None:
    unknown = owners[people.find(owners) < 0]
    if len(unknown):
        raise DataError(f"{what}: there is no history of {listed(unknown)}; give an empty one to who has none")
