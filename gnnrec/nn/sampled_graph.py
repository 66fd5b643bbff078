"""Turns a sampled neighbourhood into a small message graph, on which a model embeds the seeds as on the whole one.

For each node and relation the whole graph gives a weighted sum over all ``d`` edges, and the sample ``f`` of them,
every set of ``f`` equally likely. So the mean over the sampled edges of ``d × weight × x`` is an unbiased estimate of
the sum, with the weights of the whole graph, and the very sum where all edges were taken.

In the sample every hop has copies of nodes of its own (:class:`gnnrec.graph.sampling.NeighbourSampler`). The edges
lead from the copies of a hop to those of the hop before and nowhere else, so one operator holds the independent
samples of all hops, and :func:`gnnrec.nn.propagate.propagate` with it has the expectation, at the seeds, of
propagation over the whole graph: ``E[A_1 A_2 x] = A² x``. All of it is linear, so gradients have theirs too.
"""

import torch
from torch import Tensor

from gnnrec.geometric import HeteroData
from gnnrec.nn.message_graph import MessageGraph
from gnnrec.nn.operator import SparseOperator

__all__ = ["graph_to_sample", "sampled_message_graph"]

_TO_ITEM = ("user", "interacts", "item")
_TO_USER = ("item", "rev_interacts", "user")
_LABEL = "label of items: "


def graph_to_sample(graph: MessageGraph) -> HeteroData:
    """Lays a message graph out for sampling: each edge with its weight times the number of its target's edges.

    Cost: ``O(num_edges)``; features and labels are not copied.

    Args:
        graph: The whole graph.
    """
    data = HeteroData()
    for kind, num_nodes, degree in (
        ("user", graph.num_users, graph.user_degree),
        ("item", graph.num_items, graph.item_degree),
    ):
        data[kind].num_nodes, data[kind].degree = num_nodes, degree
    edge_index, weight = _edges(graph.interactions)
    to_users = int((edge_index[1] < graph.num_users).sum())  # sorted by target, and users come first
    for edge_type, part, shift in (
        (_TO_USER, slice(to_users), [[graph.num_users], [0]]),
        (_TO_ITEM, slice(to_users, None), [[0], [graph.num_users]]),
    ):
        data[edge_type].edge_index = edge_index[:, part] - edge_index.new_tensor(shift)
        data[edge_type].edge_weight = weight[part]
    for kind, operators in graph.relations.items():
        for name, operator in operators.items():
            data[kind, name, kind].edge_index, data[kind, name, kind].edge_weight = _edges(operator)
    for name, x in graph.x_dict.items():
        owner = graph.owner_dict[name]
        data[name].x = x
        data[name, "describes", graph.described[name]].edge_index = torch.stack([torch.arange(len(x)).to(owner), owner])
    for name, label in graph.labels.items():
        data["item"][_LABEL + name] = label
    return data


def sampled_message_graph(sample: HeteroData, device: torch.device | str = "cpu") -> MessageGraph:
    """Makes the operators of a sample.

    Args:
        sample: What PyG's ``NodeLoader`` or ``LinkLoader`` gives, with a ``NeighbourSampler`` over
            :func:`graph_to_sample`.
        device: Where the model is.

    Returns:
        A graph of the copies of users and items in the order of ``n_id``, with the degrees that they have in the whole
        graph. What is computed of the seeds, which come first, is an estimate of what the whole graph gives; what is
        computed of the others is not.
    """
    sample = sample.to(str(device))
    num_users, num_items = int(sample["user"].num_nodes), int(sample["item"].num_nodes)
    to_item, to_user = sample[_TO_ITEM], sample[_TO_USER]
    shift = to_item.edge_index.new_tensor([[0], [num_users]])
    both_ways = torch.cat([to_item.edge_index + shift, to_user.edge_index + shift.flip(0)], dim=1)
    weight = torch.cat([to_item.edge_weight, to_user.edge_weight])
    relations: dict[str, dict[str, SparseOperator]] = {"user": {}, "item": {}}
    x_dict, owner_dict, described = {}, {}, {}
    for source, name, target in sample.edge_types:
        store = sample[source, name, target]
        if source == target:
            num_nodes = num_users if source == "user" else num_items
            relations[source][name] = _mean_operator(store.edge_index, store.edge_weight, num_nodes)
        elif name == "describes":
            row, owner_dict[source] = store.edge_index  # a row is there once, its owner once for every hop
            x_dict[source], described[source] = sample[source].x[row], target
    return MessageGraph(
        num_users=num_users,
        num_items=num_items,
        edge_index=to_item.edge_index,
        interactions=_mean_operator(both_ways, weight, num_users + num_items),
        relations=relations,
        x_dict=x_dict,
        owner_dict=owner_dict,
        described=described,
        user_degree=sample["user"].degree,
        item_degree=sample["item"].degree,
        labels={key.removeprefix(_LABEL): x for key, x in sample["item"].items() if key.startswith(_LABEL)},
    )


def _edges(operator: SparseOperator) -> tuple[Tensor, Tensor]:
    """Returns ``[2, num_edges]`` (source, target) sorted by target, and the weights times the edges of each target."""
    matrix = operator.forward_matrix
    length = matrix.crow_indices().diff()
    target = torch.arange(len(length)).to(length).repeat_interleave(length)
    return torch.stack([matrix.col_indices(), target]), matrix.values() * length[target]


def _mean_operator(edge_index: Tensor, weight: Tensor, num_nodes: int) -> SparseOperator:
    """Builds the operator that gives each target the mean of ``weight × x`` over its edges."""
    count = torch.bincount(edge_index[1], minlength=num_nodes)
    return SparseOperator(edge_index, weight / count[edge_index[1]], (num_nodes, num_nodes))
