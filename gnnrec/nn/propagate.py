"""Propagates embeddings over the user–item graph and over item–item and user–user relations."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gnnrec.nn.operator import SparseOperator, product

__all__ = ["RelationMixing", "bipartite_operator", "propagate", "row_normalised_operator"]


def bipartite_operator(
    edge_index: Tensor, num_users: int, num_items: int, weight: Tensor | None = None
) -> SparseOperator:
    """Builds the symmetrically normalised adjacency of users and items stacked in one index space.

    The entry of user ``u`` and item ``i`` is ``1 / sqrt(degree(u) × degree(i))`` (He et al. 2020, LightGCN, eq. 3),
    times the weight of the pair if pairs have weights; the degree of a node is then the sum of its weights.

    Args:
        edge_index: ``[2, num_edges]`` (user_index, item_index) of distinct pairs.
        num_users: Users come first in the stacked space.
        num_items: Items come behind.
        weight: ``[num_edges]`` above 0; ones when not given.

    Returns:
        A symmetric operator ``[num_users + num_items]`` squared.
    """
    user_index, item_index = edge_index
    given = torch.ones(edge_index.shape[1], dtype=torch.float64) if weight is None else weight.double()
    user_degree = torch.bincount(user_index, given, minlength=num_users)
    item_degree = torch.bincount(item_index, given, minlength=num_items)
    normalised = (given * (user_degree[user_index] * item_degree[item_index]).rsqrt()).float()
    item_node = item_index + num_users
    both_ways = torch.cat([torch.stack([user_index, item_node]), torch.stack([item_node, user_index])], dim=1)
    size = (num_users + num_items, num_users + num_items)
    return SparseOperator(both_ways, normalised.repeat(2), size, symmetric=True)


def row_normalised_operator(edge_index: Tensor, weight: Tensor, num_nodes: int) -> SparseOperator:
    """Builds the operator that gives each target the weighted mean of its sources.

    Args:
        edge_index: ``[2, num_edges]`` (source, target).
        weight: ``[num_edges]`` non-negative.
        num_nodes: Nodes of the one type that both ends belong to.
    """
    total = torch.zeros(num_nodes).index_add_(0, edge_index[1], weight.float())
    return SparseOperator(edge_index, weight / total[edge_index[1]].clamp(min=1e-12), (num_nodes, num_nodes))


def propagate(operator: SparseOperator, x: Tensor, hops: int) -> tuple[Tensor, Tensor]:
    """Averages the embeddings of all layers (He et al. 2020, LightGCN, eq. 4 and 8).

    Args:
        operator: Normalised adjacency ``[num_nodes, num_nodes]``.
        x: ``[num_nodes, dim]`` layer 0.
        hops: Number of propagation layers; 0 returns ``x``.

    Returns:
        The mean over layers ``0 … hops`` and the *messages*, the sum over layers ``0 … hops - 1`` divided by
        ``hops + 1``: what a node sends to its neighbours in all layers together. A new node whose only edges come
        from known ones has the embedding ``(own layer 0) / (hops + 1) + (its row of the adjacency) @ messages``.
    """
    propagated, messages = _LayerMean.apply(x, operator.forward_matrix, operator.backward_matrix, hops)
    return propagated, messages


class _LayerMean(torch.autograd.Function):
    """The mean over layers, forward and backward, in as many passes over the nodes as there are products.

    With ``A`` the adjacency the sum is ``x + A (x + A (x + …))``, so each product is followed by one addition in place.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, transpose: Tensor, hops: int) -> tuple[Tensor, Tensor]:
        ctx.transpose, ctx.hops = transpose, hops
        total, before = _layer_sums(matrix, x, hops)
        propagated = total.div_(hops + 1) if hops else x.clone()
        messages = before / (hops + 1) if before is x else before.div_(hops + 1)
        ctx.mark_non_differentiable(messages)
        return propagated, messages

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor, None, None, None]:
        total, _ = _layer_sums(ctx.transpose, gradient, ctx.hops)
        return total.div_(ctx.hops + 1) if ctx.hops else gradient, None, None, None


def _layer_sums(matrix: Tensor, x: Tensor, hops: int) -> tuple[Tensor, Tensor]:
    """Returns the sums over layers ``0 … hops`` and ``0 … hops - 1``."""
    total, before = x, torch.zeros_like(x) if hops == 0 else x
    for _ in range(hops):
        before, total = total, product(matrix, total).add_(x)
    return total, before


class RelationMixing(nn.Module):
    """Adds one hop of each further relation to the nodes of one type, with a learned weight per relation.

    ``y_i = x_i + sum_r softplus(a_r) × (weighted mean of x over the sources of i in relation r)``

    Args:
        names: The relations.
        initial_weight: Mixing weight of each relation before training.
    """

    def __init__(self, names: Sequence[str], initial_weight: float) -> None:
        super().__init__()
        self.names = tuple(names)
        self.initial_weight = initial_weight
        self.logit = nn.Parameter(torch.empty(len(names)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets every mixing weight back to its initial value."""
        nn.init.constant_(self.logit, math.log(math.expm1(self.initial_weight)))

    def weights(self) -> dict[str, float]:
        """Returns the present mixing weight of each relation."""
        return dict(zip(self.names, nn.functional.softplus(self.logit.detach()).tolist(), strict=True))

    def forward(
        self, own: Tensor, source: Tensor, operators: Mapping[str, SparseOperator], unlinked: Mapping[str, Tensor]
    ) -> Tensor:
        """Mixes what the neighbours send into the nodes.

        Args:
            own: ``[num_nodes, dim]`` what each node has by itself.
            source: ``[num_nodes, dim]`` what each node sends.
            operators: Relation → row-normalised operator.
            unlinked: Relation → ``[num_nodes]`` bool: nodes to treat as if they had no edge of it.
        """
        result = own
        for weight, name in zip(nn.functional.softplus(self.logit), self.names, strict=True):
            message = operators[name] @ source
            if name in unlinked:
                message = message.masked_fill(unlinked[name][:, None], 0.0)
            result = result + weight * message
        return result
