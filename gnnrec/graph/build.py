"""Builds one heterogeneous graph of users, items and modality vectors from interactions and features."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from gnnrec.config import Range, searched
from gnnrec.data.dataset import RelationEdges
from gnnrec.data.pairs import relation_matrix
from gnnrec.errors import ConfigError
from gnnrec.geometric import HeteroData
from gnnrec.graph.neighbours import ItemGraph, co_occurrence_edges, similarity_edges
from gnnrec.modalities.features import Features

__all__ = ["GraphConfig", "build_graph", "given_item_relations"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphConfig:
    """Which relations the graph holds beside the interactions.

    Attributes:
        similar_items: Neighbours of each item per modality (``similar_by_<modality>``); 0 leaves the relation out.
        item_graph: How those neighbours weigh: ``cosine``, in proportion to their cosine; ``lattice`` and ``freedom``,
            as in the published models of these names, where the item itself is one of its neighbours.
        co_occurring_items: Neighbours of each item by shared users (``co_occurs``); 0 leaves the relation out.
        co_occurring_users: Neighbours of each user by shared items; 0 leaves the relation out.
        labels: Columns of the item table that the alignment objective ``multi-task`` learns to predict.
        weighted_interactions: Let the weights of events, such as stars or the sentiment of a review, weigh the edges
            between users and items in propagation, relative to each other. Histories that are folded in, and users with
            later updates, are read without weights, so they only approximate what propagation would give.
        minimum_shared: Fewer common users (or items) than this make no co-occurrence edge.
    """

    similar_items: int = searched(10, Range(3, 40, log=True))
    item_graph: ItemGraph = "cosine"
    co_occurring_items: int = searched(10, Range(3, 40, log=True))
    co_occurring_users: int = 0
    minimum_shared: int = 2
    labels: tuple[str, ...] = ()
    weighted_interactions: bool = False

    def __post_init__(self) -> None:
        for name in ("similar_items", "co_occurring_items", "co_occurring_users"):
            if getattr(self, name) < 0:
                raise ConfigError(f"option {name!r} must not be negative, got {getattr(self, name)}")


def build_graph(
    matrix: sp.csr_matrix,
    features: Mapping[str, Features] | None = None,
    relations: Mapping[str, RelationEdges] | None = None,
    config: GraphConfig = GraphConfig(),
    labels: Mapping[str, NDArray[np.generic]] | None = None,
    weights: sp.csr_matrix | None = None,
    order: sp.csr_matrix | None = None,
) -> HeteroData:
    """Builds the graph that the neural ranker learns on.

    Node types are ``user``, ``item`` and one per modality (its nodes are the rows of the features). Edge types are

    * ``(user, interacts, item)``,
    * ``(<modality>, describes, item | user)``,
    * ``(item, similar_by_<modality>, item)``: frozen cosine k-NN in feature space, with ``edge_weight``,
    * ``(item, co_occurs, item)`` and ``(user, co_occurs, user)``, with ``edge_weight``,
    * ``(user | item, <relation>, user | item)`` for every given relation, with ``edge_weight``.

    Reverse edges are implied: interactions are symmetric, and operators keep their transposes.

    Args:
        matrix: ``[num_users, num_items]`` binary interactions.
        features: Modality → vectors with their owners.
        relations: Name → further edges.
        config: Which derived relations to add.
        labels: Label → what is known of each item, as ``gnnrec.data.labels.item_labels`` gives it.
        weights: ``[num_users, num_items]`` above 0 for every interaction; all weigh alike when not given.
        order: ``[num_users, num_items]`` above 0 for every interaction, and growing with time within each user; for
            models that read histories in order (``edge_place``).

    Raises:
        ConfigError: A modality or relation is named like a node type or like another relation.
    """
    features, relations = features or {}, relations or {}
    graph = HeteroData()
    graph["user"].num_nodes, graph["item"].num_nodes = matrix.shape
    graph["item"].labels = {name: torch.from_numpy(values) for name, values in (labels or {}).items()}
    pairs = matrix.tocoo()
    graph["user", "interacts", "item"].edge_index = torch.from_numpy(np.stack([pairs.row, pairs.col]).astype(np.int64))
    for name, matrix_of_values in (("edge_weight", weights), ("edge_place", order)):
        if matrix_of_values is not None:
            given = np.asarray(matrix_of_values[pairs.row, pairs.col], dtype=np.float32).ravel()
            graph["user", "interacts", "item"][name] = torch.from_numpy(given)
    for name, feature in features.items():
        if name in ("user", "item"):
            raise ConfigError(f"a modality cannot be named {name!r}: that is a node type; choose another name")
        _add_modality(graph, name, feature, config)
    for what, neighbours in (("item", config.co_occurring_items), ("user", config.co_occurring_users)):
        if neighbours:
            shared_by = matrix if what == "item" else matrix.T.tocsr()
            edge_index, weight = co_occurrence_edges(shared_by, neighbours, config.minimum_shared)
            graph[what, "co_occurs", what].edge_index = edge_index
            graph[what, "co_occurs", what].edge_weight = weight
    for name, edges in relations.items():
        edge_type = (edges.between, name, edges.between)
        if edge_type in graph.edge_types:
            raise ConfigError(f"relation {name!r} exists already between {edges.between}s; choose another name")
        graph[edge_type].edge_index = torch.from_numpy(np.stack([edges.source_index, edges.target_index]))
        graph[edge_type].edge_weight = torch.tensor(edges.weight)
        graph[edge_type].given = True
    logger.info("graph: %s", _summary(graph))
    return graph


def given_item_relations(graph: HeteroData) -> dict[str, sp.csr_matrix]:
    """Returns the edges between items that were given, and not derived from interactions or media.

    Returns:
        Relation → ``[num_items, num_items]`` weights, in both directions.
    """
    stores = {
        name: graph[source, name, target]
        for source, name, target in graph.edge_types
        if source == target == "item" and getattr(graph[source, name, target], "given", False)
    }
    num_items = int(graph["item"].num_nodes)
    relations = {}
    for name, store in stores.items():
        source, target = store.edge_index.numpy()
        relations[name] = relation_matrix(source, target, store.edge_weight.numpy(), num_items)
    return relations


def _add_modality(graph: HeteroData, name: str, feature: Features, config: GraphConfig) -> None:
    x = torch.from_numpy(np.ascontiguousarray(feature.values, dtype=np.float32))
    owner_index = torch.from_numpy(feature.owner_index.astype(np.int64))
    graph[name].x = x
    graph[name, "describes", feature.of].edge_index = torch.stack([torch.arange(len(x)), owner_index])
    if feature.of == "item" and config.similar_items and len(x):
        edge_index, weight = similarity_edges(feature, config.similar_items, config.item_graph)
        store = graph["item", f"similar_by_{name}", "item"]
        store.edge_index, store.edge_weight = edge_index, weight
        store.normalised = config.item_graph != "cosine"


def _summary(graph: HeteroData) -> str:
    nodes = ", ".join(f"{graph[kind].num_nodes} {kind}" for kind in graph.node_types)
    edges = ", ".join(
        f"{graph[kind].edge_index.shape[1]} {kind[1]} ({kind[0]} → {kind[2]})" for kind in graph.edge_types
    )
    return f"nodes: {nodes}; edges: {edges}"
