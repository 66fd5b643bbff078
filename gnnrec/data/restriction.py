"""Leaves users or items out of a data set, with all that belongs to them, and renumbers the others."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.data.events import RelationEdges
from gnnrec.data.ids import IdMap
from gnnrec.data.schema import ModalitySpec, Owner, Vectors
from gnnrec.errors import DataError

if TYPE_CHECKING:
    from gnnrec.data.dataset import Dataset

__all__ = ["restricted"]


def restricted(dataset: "Dataset", items: NDArray[np.bool_] | None, users: NDArray[np.bool_] | None) -> "Dataset":
    """Leaves out the marked items and users; see :meth:`gnnrec.data.dataset.Dataset.without`."""
    kept: dict[Owner, NDArray[np.bool_]] = {"item": _kept(items, dataset.items), "user": _kept(users, dataset.users)}
    position = {owner: np.cumsum(mask) - 1 for owner, mask in kept.items()}
    events = dataset.events.take(kept["user"][dataset.events.user_index] & kept["item"][dataset.events.item_index])
    return replace(
        dataset,
        users=_remaining(dataset.users, kept["user"]),
        items=_remaining(dataset.items, kept["item"]),
        events=replace(
            events,
            user_index=position["user"][events.user_index],
            item_index=position["item"][events.item_index],
        ),
        user_table=_rows(dataset.user_table, kept["user"]),
        item_table=_rows(dataset.item_table, kept["item"]),
        modalities={
            name: _owned(spec, dataset.ids(spec.of), kept[spec.of]) for name, spec in dataset.modalities.items()
        },
        relations={
            name: _joined(edges, kept[edges.between], position[edges.between])
            for name, edges in dataset.relations.items()
        },
    )


def _kept(left_out: NDArray[np.bool_] | None, ids: IdMap) -> NDArray[np.bool_]:
    if left_out is None:
        return np.ones(len(ids), dtype=bool)
    left_out = np.asarray(left_out)
    if left_out.dtype != bool or left_out.shape != (len(ids),):
        raise DataError(f"expected a boolean mask over {len(ids)} {ids.what}s, got {left_out.dtype} {left_out.shape}")
    return ~left_out


def _remaining(ids: IdMap, kept: NDArray[np.bool_]) -> IdMap:
    return ids if kept.all() else IdMap(ids.ids[kept], ids.what)


def _rows(table: pd.DataFrame | None, kept: NDArray[np.bool_]) -> pd.DataFrame | None:
    return None if table is None else table[kept].reset_index(drop=True)


def _owned(spec: ModalitySpec, ids: IdMap, kept: NDArray[np.bool_]) -> ModalitySpec:
    """Leaves out the vectors of owners that are gone; media in a table go with its rows."""
    if not isinstance(spec, Vectors) or kept.all():
        return spec
    rows = kept[ids.index_of(spec.ids)]
    return Vectors(spec.matrix[rows], spec.ids[rows], spec.of)


def _joined(edges: RelationEdges, kept: NDArray[np.bool_], position: NDArray[np.int64]) -> RelationEdges:
    """Leaves out edges with an end that is gone, and renumbers the others."""
    rows = kept[edges.source_index] & kept[edges.target_index]
    return RelationEdges(
        between=edges.between,
        source_index=position[edges.source_index[rows]],
        target_index=position[edges.target_index[rows]],
        weight=edges.weight[rows],
    )
