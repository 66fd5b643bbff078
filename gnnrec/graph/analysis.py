"""Turns an interaction matrix into what its graph looks like: components, degrees, reach, and why items are cold.

An interaction matrix is a scipy CSR matrix ``[num_users, num_items]``; every stored entry is an edge of the bipartite
graph, whatever its value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csgraph

from gnnrec.errors import ConfigError, DataError

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "Components",
    "connected_components",
    "degree_report",
    "gini",
    "reachability_report",
    "to_networkx",
    "why_cold",
]

_BLOCK = 64  # users whose reach is followed at once
_MAX_EDGES = 1_000_000  # a networkx graph of more would take gigabytes


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components, numbered by size (nodes), largest first.

    Attributes:
        of_user: ``[num_users]`` the component of each user.
        of_item: ``[num_items]`` the component of each item.
        sizes: One row per component: ``component, num_users, num_items, num_edges``.
    """

    of_user: NDArray[np.int64]
    of_item: NDArray[np.int64]
    sizes: pd.DataFrame


def connected_components(interactions: sp.csr_matrix) -> Components:
    """Finds which users and items are joined by any path; a node without edges is a component of its own."""
    num_users, num_items = interactions.shape
    edges = _edges(interactions)
    graph = sp.coo_array(
        (np.ones(edges.nnz, dtype=np.int8), (edges.row, edges.col.astype(np.int64) + num_users)),
        shape=(num_users + num_items, num_users + num_items),
    )
    count, label = csgraph.connected_components(graph, directed=False)
    by_size = np.argsort(-np.bincount(label, minlength=count), kind="stable")
    number = np.empty(count, dtype=np.int64)
    number[by_size] = np.arange(count)
    of_user, of_item = number[label[:num_users]], number[label[num_users:]]
    sizes = pd.DataFrame(
        {
            "component": np.arange(count),
            "num_users": np.bincount(of_user, minlength=count),
            "num_items": np.bincount(of_item, minlength=count),
            "num_edges": np.bincount(of_user[edges.row], minlength=count),
        }
    )
    return Components(of_user, of_item, sizes)


def degree_report(interactions: sp.csr_matrix) -> pd.DataFrame:
    """Describes how the edges are spread over users and over items.

    Returns:
        Two rows (``node`` is ``user`` or ``item``): ``num_nodes, num_isolated, mean, min, q25, median, q75, q90,
        q99, max, gini``, all of the degree.
    """
    edges = _edges(interactions)
    rows = []
    for node, index, count in (("user", edges.row, edges.shape[0]), ("item", edges.col, edges.shape[1])):
        degree = np.bincount(index, minlength=count)
        quantiles = np.quantile(degree, [0, 0.25, 0.5, 0.75, 0.9, 0.99, 1]) if count else np.full(7, np.nan)
        mean = degree.mean() if count else np.nan
        rows.append((node, count, int((degree == 0).sum()), mean, *quantiles, gini(degree)))
    names = ["node", "num_nodes", "num_isolated", "mean", "min", "q25", "median", "q75", "q90", "q99", "max", "gini"]
    return pd.DataFrame(rows, columns=names)


def gini(counts: ArrayLike) -> float:
    """Inequality of non-negative counts: 0 if all are equal, towards 1 if one has everything; NaN without any.

    >>> gini([1, 1, 1]), gini([0, 0, 3])
    (0.0, 0.6666666666666666)
    """
    ordered = np.sort(np.asarray(counts, dtype=np.float64))
    total, n = ordered.sum(), len(ordered)
    if total == 0:
        return float("nan")
    rank = np.arange(1, n + 1)
    return float(((2 * rank - n - 1) * ordered).sum() / (n * total))


def reachability_report(
    interactions: sp.csr_matrix, hops: Sequence[int] = (1, 3, 5), *, sample: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Measures how much of the catalogue a message passed along edges can bring to a user.

    From a user, items lie at odd distances: 1 hop are the own items, 3 hops those of people with an item in common.

    Args:
        interactions: ``[num_users, num_items]``.
        hops: Distances to report; an even one reaches the items of the odd one below.
        sample: Follow this many users drawn at random, or all if there are fewer.
        seed: Seed of the draw.

    Returns:
        One row per distance: ``hops``, the ``mean``, ``min`` and ``max`` share of items reached by a user, and
        ``reached_by_any``, the share reached by at least one of the users followed.

    Raises:
        ConfigError: A distance or sample below 1.
        DataError: No user or no item.
    """
    if not hops or min(hops) < 1 or sample < 1:
        raise ConfigError(f"hops={tuple(hops)} and sample={sample} must be at least 1")
    num_users, num_items = interactions.shape
    if num_users == 0 or num_items == 0:
        raise DataError(f"a graph of {num_users} users and {num_items} items reaches nothing")
    forward = _binary(interactions)
    backward = sp.csr_array(forward.T)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(num_users, size=min(sample, num_users), replace=False))
    rounds = sorted({(distance + 1) // 2 for distance in hops})
    share = {number: np.empty(len(chosen)) for number in rounds}
    reached_by_any = {number: np.zeros(num_items, dtype=bool) for number in rounds}
    for start in range(0, len(chosen), _BLOCK):
        reached = forward[chosen[start : start + _BLOCK]].toarray() > 0
        for number in range(1, rounds[-1] + 1):
            if number > 1:  # items → their users → these users' items
                users = forward @ reached.T.astype(np.float32) > 0
                reached |= (backward @ users.astype(np.float32)).T > 0
            if number in share:
                share[number][start : start + _BLOCK] = reached.mean(axis=1)
                reached_by_any[number] |= reached.any(axis=0)
    rows = []
    for distance in hops:
        number = (distance + 1) // 2
        found = share[number]
        rows.append((distance, found.mean(), found.min(), found.max(), reached_by_any[number].mean()))
    return pd.DataFrame(rows, columns=["hops", "mean", "min", "max", "reached_by_any"])


def why_cold(
    interactions: sp.csr_matrix,
    modalities: Mapping[str, NDArray[np.bool_]] | None = None,
    neighbours: sp.csr_matrix | None = None,
    *,
    items: ArrayLike | None = None,
    min_events: int = 1,
) -> pd.DataFrame:
    """Explains, for each cold item, what keeps it cold and what could still place it.

    An item is cold if it has fewer than ``min_events`` events or lies outside the largest component, so that nothing
    learnt there reaches it.

    Args:
        interactions: ``[num_users, num_items]`` training events.
        modalities: Modality → ``[num_items]`` bool, which items have it.
        neighbours: ``[num_items, num_items]``; every stored entry of a row is a neighbour of that item, e.g.
            the most similar items by media.
        items: Explain these items, cold or not; by default all cold ones.
        min_events: From how many events on an item counts as warm.

    Returns:
        One row per item: ``item_index, num_events, component, component_items`` (items in its component),
        ``is_cold``, ``modalities`` and ``neighbours`` (how many it has; only if they were given), ``reason``.

    Raises:
        DataError: Shapes that do not fit or item indices out of range.
    """
    num_items = interactions.shape[1]
    for name, present in (modalities or {}).items():
        if np.shape(present) != (num_items,):
            raise DataError(f"modality {name!r}: presence has the shape {np.shape(present)} for {num_items} items")
    if neighbours is not None and neighbours.shape != (num_items, num_items):
        raise DataError(f"neighbours has the shape {neighbours.shape} for {num_items} items")

    components = connected_components(interactions)
    num_events = np.bincount(_edges(interactions).col, minlength=num_items)
    frame = pd.DataFrame(
        {
            "item_index": np.arange(num_items),
            "num_events": num_events,
            "component": components.of_item,
            "component_items": components.sizes["num_items"].to_numpy()[components.of_item],
            "is_cold": (num_events < min_events) | (components.of_item > 0),
        }
    )
    if modalities is not None:
        frame["modalities"] = sum((np.asarray(has, dtype=np.int64) for has in modalities.values()), np.int64(0))
    if neighbours is not None:
        frame["neighbours"] = np.diff(neighbours.indptr)
    frame["reason"] = _reasons(frame, min_events)
    if items is None:
        return frame[frame["is_cold"]].reset_index(drop=True)
    if np.asarray(items).dtype == np.bool_:
        raise DataError("items: give indices, such as np.flatnonzero(mask), not booleans")
    chosen = np.asarray(items, dtype=np.int64)
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= num_items):
        raise DataError(f"items: indices run from 0 to {num_items - 1}, got {chosen.min()} … {chosen.max()}")
    return frame.iloc[chosen].reset_index(drop=True)


def to_networkx(interactions: sp.csr_matrix) -> "nx.Graph":
    """Builds a networkx graph, for small data: nodes ``("user", i)`` with ``bipartite=0`` and ``("item", j)`` with 1.

    The value of an entry becomes the edge's ``weight``.

    Raises:
        DataError: More than a million edges; cut the matrix first.
    """
    import networkx as nx

    edges = _edges(interactions)
    if edges.nnz > _MAX_EDGES:
        raise DataError(f"{edges.nnz:,} edges are too many for networkx (limit {_MAX_EDGES:,}); take a part first")
    graph = nx.Graph()
    graph.add_nodes_from((("user", index) for index in range(edges.shape[0])), bipartite=0)
    graph.add_nodes_from((("item", index) for index in range(edges.shape[1])), bipartite=1)
    triples = zip(edges.row.tolist(), edges.col.tolist(), edges.data.tolist(), strict=True)
    graph.add_weighted_edges_from((("user", user), ("item", item), weight) for user, item, weight in triples)
    return graph


def _edges(interactions: sp.csr_matrix) -> sp.coo_array:
    """Returns the distinct entries; repeated ones are added up."""
    edges = sp.csr_array(interactions, copy=True)
    edges.sum_duplicates()
    return edges.tocoo()


def _binary(interactions: sp.csr_matrix) -> sp.csr_array:
    edges = _edges(interactions)
    return sp.csr_array((np.ones(edges.nnz, dtype=np.float32), (edges.row, edges.col)), shape=edges.shape)


def _reasons(frame: pd.DataFrame, min_events: int) -> NDArray[np.object_]:
    """Writes what keeps each item cold, then what it has to be placed by."""
    events = frame["num_events"].astype(str)
    cause = np.select(
        [frame["num_events"] == 0, frame["num_events"] < min_events, frame["component"] > 0],
        [
            "no events",
            f"fewer than {min_events} events (" + events + ")",
            "cut off from the largest component (items in its own: " + frame["component_items"].astype(str) + ")",
        ],
        "warm (events: " + events + ")",
    )
    reason = pd.Series(cause, index=frame.index, dtype=object)
    for name in ("modalities", "neighbours"):
        if name in frame:
            reason = reason + np.where(frame[name] > 0, f"; {name}: " + frame[name].astype(str), f"; no {name}")
    return reason.to_numpy(dtype=object)
