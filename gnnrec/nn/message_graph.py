"""Turns a heterogeneous graph into the normalised sparse operators that message passing multiplies with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from gnnrec.geometric import HeteroData
from gnnrec.nn.alignment.objective import num_outputs
from gnnrec.nn.operator import SparseOperator
from gnnrec.nn.propagate import bipartite_operator, row_normalised_operator
from gnnrec.nn.sequence import Histories

__all__ = ["GraphShape", "MessageGraph", "degree_sensitive_edge_sample"]


@dataclass(frozen=True)
class GraphShape:
    """What a model must know of a graph to be built.

    Attributes:
        num_users: Users.
        num_items: Items.
        user_modalities: Modality → width, of those that describe users.
        item_modalities: Modality → width, of those that describe items.
        user_relations: Names of the user–user relations.
        item_relations: Names of the item–item relations.
        tasks: Label of the items → number of classes, or 1 for a number.
    """

    num_users: int
    num_items: int
    user_modalities: Mapping[str, int] = field(default_factory=dict)
    item_modalities: Mapping[str, int] = field(default_factory=dict)
    user_relations: tuple[str, ...] = ()
    item_relations: tuple[str, ...] = ()
    tasks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MessageGraph:
    """A graph, ready to multiply.

    Attributes:
        num_users: Users.
        num_items: Items.
        edge_index: ``[2, num_edges]`` the training pairs (user, item).
        edge_weight: ``[num_edges]`` how much each counts in propagation; ``None``: all alike.
        interactions: Normalised adjacency of users and items in one index space; of all edges or, in training, of a
            sample of them.
        relations: Node type (``user``, ``item``) → relation → operator: row-normalised, unless the graph says that its
            weights are normalised already.
        x_dict: Modality → ``[num_rows, width]``.
        owner_dict: Modality → ``[num_rows]``.
        described: Modality → node type that it describes.
        user_degree: ``[num_users]`` training interactions of each user.
        item_degree: ``[num_items]`` training interactions of each item.
        labels: Label → what is known of each item: a class ``[num_items]`` int64 (-1: unknown), a number float (NaN:
            unknown), or several classes ``[num_items, num_classes]`` float (NaN: unknown).
        histories: The training pairs in the order in which they came; ``None`` where the graph does not tell.
    """

    num_users: int
    num_items: int
    edge_index: Tensor
    interactions: SparseOperator
    relations: Mapping[str, Mapping[str, SparseOperator]]
    x_dict: Mapping[str, Tensor]
    owner_dict: Mapping[str, Tensor]
    described: Mapping[str, str]
    user_degree: Tensor
    item_degree: Tensor
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    edge_weight: Tensor | None = None
    histories: Histories | None = None

    @classmethod
    def from_hetero_data(cls, graph: HeteroData, device: torch.device | str = "cpu") -> Self:
        """Prepares the graph that ``gnnrec.graph.build_graph`` returns.

        Cost: ``O(num_edges)`` once.
        """
        num_users, num_items = int(graph["user"].num_nodes), int(graph["item"].num_nodes)
        edge_index = graph["user", "interacts", "item"].edge_index
        edge_weight = graph["user", "interacts", "item"].get("edge_weight")
        place = graph["user", "interacts", "item"].get("edge_place")
        relations: dict[str, dict[str, SparseOperator]] = {"user": {}, "item": {}}
        x_dict, owner_dict, described = {}, {}, {}
        for source, name, target in graph.edge_types:
            store = graph[source, name, target]
            if source == target:
                num_nodes = num_users if source == "user" else num_items
                if getattr(store, "normalised", False):
                    operator = SparseOperator(store.edge_index, store.edge_weight, (num_nodes, num_nodes))
                else:
                    operator = row_normalised_operator(store.edge_index, store.edge_weight, num_nodes)
                relations[source][name] = operator.to(device)
            elif name == "describes":
                x_dict[source] = graph[source].x.to(device)
                owner_dict[source] = store.edge_index[1].to(device)
                described[source] = target
        return cls(
            num_users=num_users,
            num_items=num_items,
            edge_index=edge_index.to(device),
            edge_weight=edge_weight,
            interactions=bipartite_operator(edge_index, num_users, num_items, edge_weight).to(device),
            relations=relations,
            x_dict=x_dict,
            owner_dict=owner_dict,
            described=described,
            user_degree=torch.bincount(edge_index[0], minlength=num_users).to(device),
            item_degree=torch.bincount(edge_index[1], minlength=num_items).to(device),
            labels={name: label.to(device) for name, label in graph["item"].get("labels", {}).items()},
            histories=None if place is None else Histories.from_edges(edge_index, place, num_users).to(device),
        )

    @property
    def shape(self) -> GraphShape:
        """Sizes, modalities and relations."""

        def widths(kind: str) -> dict[str, int]:
            return {name: int(x.shape[1]) for name, x in self.x_dict.items() if self.described[name] == kind}

        return GraphShape(
            num_users=self.num_users,
            num_items=self.num_items,
            user_modalities=widths("user"),
            item_modalities=widths("item"),
            user_relations=tuple(self.relations["user"]),
            item_relations=tuple(self.relations["item"]),
            tasks={name: num_outputs(label) for name, label in self.labels.items()},
        )

    def sampled_interactions(self, keep: float, generator: torch.Generator) -> SparseOperator:
        """Returns the adjacency of a degree-sensitive sample of the interactions."""
        edge_index = self.edge_index.cpu()
        kept = degree_sensitive_edge_sample(edge_index, keep, generator)
        weight = None if self.edge_weight is None else self.edge_weight[kept]
        operator = bipartite_operator(edge_index[:, kept], self.num_users, self.num_items, weight)
        return operator.to(self.edge_index.device)


def degree_sensitive_edge_sample(edge_index: Tensor, keep: float, generator: torch.Generator) -> Tensor:
    """Keeps a share of the edges, those between popular nodes least likely (Zhou & Shen 2023, FREEDOM, eq. 8 and 9).

    Edge ``(u, i)`` is drawn without replacement in proportion to ``1 / sqrt(degree(u) × degree(i))``, by the
    exponential race of Efraimidis & Spirakis (2006): one pass, no loop.

    Args:
        edge_index: ``[2, num_edges]`` (user, item).
        keep: Share of the edges to keep, in (0, 1].
        generator: Source of randomness, on CPU.

    Returns:
        ``[round(keep × num_edges)]`` positions of the kept edges, ascending.
    """
    user_degree, item_degree = (torch.bincount(row)[row].double() for row in edge_index)
    waiting = torch.empty(edge_index.shape[1], dtype=torch.float64).exponential_(generator=generator)
    waiting = waiting * (user_degree * item_degree).sqrt()
    count = max(1, round(keep * edge_index.shape[1]))
    return waiting.topk(count, largest=False).indices.sort().values
