"""Reads the relations that join new items to known ones."""

import logging
from collections.abc import Mapping
from typing import Any

import scipy.sparse as sp

from gnnrec.data.build import read_edges
from gnnrec.data.cleaning import Cleaning
from gnnrec.data.dataset import Dataset, RelationEdges
from gnnrec.data.ids import IdMap
from gnnrec.data.pairs import relation_matrix
from gnnrec.data.schema import Relation
from gnnrec.errors import DataError, UnsupportedError
from gnnrec.state import RecommenderState

__all__ = ["edges_of_new_items", "read_relations"]

logger = logging.getLogger(__name__)


def read_relations(
    state: RecommenderState, ids: IdMap, relations: Mapping[str, Any] | None
) -> dict[str, sp.csr_matrix]:
    """Reads the edges between new items and any others; the rest is left out, and the log says how many and why.

    Args:
        state: The fitted state.
        ids: The new items.
        relations: Name → frame or path with ``source_id``, ``target_id`` and optionally ``weight``.

    Returns:
        Name → ``[num_new, num_known + num_new]`` weights of the edges.

    Raises:
        DataError: The fit knew no such relation between items, or a frame cannot be used.
        UnsupportedError: The ranker describes new items by their media alone.
    """
    relations = relations or {}
    known = state.ranker.relations
    if relations and not known:
        raise UnsupportedError(
            f"relations of new items: the ranker {state.ranker.name!r} knows none between items; fit the preset "
            "'gnnrec' with media and with relations={name: gr.Relation(frame, between='item')}"
        )
    items = state.items.extend(ids.ids)
    read: dict[str, sp.csr_matrix] = {}
    for name, given in relations.items():
        if name not in known:
            raise DataError(
                f"relation {name!r} was not there when the model was fitted (known between items: "
                f"{', '.join(sorted(known))}); fit again"
            )
        if not isinstance(given, Relation):
            given = Relation(given, between="item")
        if given.between != "item":
            raise DataError(f"relation {name!r} of new items is between='item', not {given.between!r}")
        dropped: dict[str, int] = {}
        edges = read_edges(name, given, {"item": items}, Cleaning(), dropped)
        read[name] = _rows_of_new(edges, len(state.items), len(items))
        between_known = ((edges.source_index < len(state.items)) & (edges.target_index < len(state.items))).sum()
        if between_known:
            dropped[f"relation {name!r}: between known items, which stay as they are"] = int(between_known)
        if not known[name]:
            dropped[f"relation {name!r}: it did not help to describe items in the fit"] = read[name].nnz
        if dropped:
            logger.info("edges without an effect: %s", dropped)
    return read


def edges_of_new_items(state: RecommenderState, new: IdMap, dataset: Dataset) -> dict[str, sp.csr_matrix]:
    """Takes from a data set the edges that join new items to known ones and to each other.

    Args:
        state: The fitted state.
        new: The new items.
        dataset: Holds the relations.

    Returns:
        Relation that the ranker reads → ``[num_new, num_known + num_new]`` weights of the edges.
    """
    items = state.items.extend(new.ids)
    place = items.find(dataset.items.ids)
    found = {}
    for name, edges in dataset.relations.items():
        if name in state.ranker.relations and edges.between == "item":
            source, target = place[edges.source_index], place[edges.target_index]
            kept = (source >= 0) & (target >= 0)
            moved = RelationEdges("item", source[kept], target[kept], edges.weight[kept])
            found[name] = _rows_of_new(moved, len(state.items), len(items))
    return found


def _rows_of_new(edges: RelationEdges, num_known: int, num_items: int) -> sp.csr_matrix:
    return relation_matrix(edges.source_index, edges.target_index, edges.weight, num_items)[num_known:]
