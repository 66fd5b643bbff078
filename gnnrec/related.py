"""Reads the relations that join new items to known ones."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
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
    if relations is None:
        return {}
    if not isinstance(relations, Mapping):
        raise DataError(f"relations= is a mapping from names to frames, not a {type(relations).__name__}")
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
        _report(name, edges, len(state.items), known[name], dropped)
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
        if edges.between != "item":
            continue
        if name not in state.ranker.relations:
            logger.info("relation %r: new items are not described by it, since the fit did not know it", name)
            continue
        source, target = place[edges.source_index], place[edges.target_index]
        kept = (source >= 0) & (target >= 0)
        moved = RelationEdges("item", source[kept], target[kept], edges.weight[kept])
        found[name] = _rows_of_new(moved, len(state.items), len(items))
    return found


def _report(name: str, edges: RelationEdges, num_known: int, is_heard: bool, dropped: dict[str, int]) -> None:
    """Logs how many edges tell nothing of new items, and why; loudly where none is left."""
    reasons = {
        "an item with itself": edges.source_index == edges.target_index,
        "between known items, which stay as they are": (edges.source_index < num_known)
        & (edges.target_index < num_known),
        "it did not help to describe items in the fit": np.full(len(edges.weight), not is_heard),
    }
    left = np.ones(len(edges.weight), dtype=np.bool_)
    for reason, concerned in reasons.items():
        if (left & concerned).any():
            dropped[f"relation {name!r}: {reason}"] = int((left & concerned).sum())
        left &= ~concerned
    if dropped:
        logger.log(logging.INFO if left.any() else logging.WARNING, "edges without an effect: %s", dropped)


def _rows_of_new(edges: RelationEdges, num_known: int, num_items: int) -> sp.csr_matrix:
    return relation_matrix(edges.source_index, edges.target_index, edges.weight, num_items)[num_known:]
