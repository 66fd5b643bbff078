"""Fuses the aligned vectors of each node's modalities into one vector per node."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnnrec.geometric import scatter, softmax

__all__ = ["FUSIONS", "AttentionFusion", "Fused", "MeanFusion", "ModalityRows"]


@dataclass(frozen=True, eq=False)
class ModalityRows:
    """Aligned vectors of all modalities, one under another.

    Attributes:
        z: ``[num_rows, dim]`` aligned vectors.
        owner_index: ``[num_rows]`` the node that each row describes; a node may have many rows, or none.
        modality_index: ``[num_rows]`` position of the row's modality in the order given to the fusion.
        num_nodes: Nodes of the described type.
    """

    z: Tensor
    owner_index: Tensor
    modality_index: Tensor
    num_nodes: int

    def of(self, node_index: Tensor) -> "ModalityRows":
        """Returns the rows of some nodes, which are counted anew in the order of ``node_index`` ``[num_chosen]``."""
        position = torch.full((self.num_nodes,), -1, device=node_index.device)
        position[node_index] = torch.arange(len(node_index), device=node_index.device)
        row = torch.nonzero(position[self.owner_index] >= 0).flatten()
        return ModalityRows(
            z=self.z.index_select(0, row),
            owner_index=position[self.owner_index[row]],
            modality_index=self.modality_index[row],
            num_nodes=len(node_index),
        )


@dataclass(frozen=True, eq=False)
class Fused:
    """One content vector per node.

    Attributes:
        x: ``[num_nodes, dim]``; zero for a node without any row.
        present: ``[num_nodes]`` bool: the node has at least one row.
        attention: ``[num_rows]`` share of each row in its node's vector; sums to 1 over a node's rows.
    """

    x: Tensor
    present: Tensor
    attention: Tensor


class AttentionFusion(nn.Module):
    """Attention-based message passing over the edges (modality row → node).

    ``a_r ∝ exp(q_i · W z_r / sqrt(dim) + b_m)`` over the rows ``r`` of node ``i`` (scaled dot-product attention,
    Vaswani et al. 2017, eq. 1, on the edges of a graph), ``c_i = sum_r a_r z_r``. The query is a shared vector
    plus a projection of the node's identity, if it has one: a node with a history decides for itself which modality
    to trust, a new node uses what holds for all. A missing modality is an absent edge.

    Cost: ``O(num_nodes × dim² + num_rows × dim)``.

    Args:
        num_modalities: Number of modalities.
        dim: Width of the aligned space.
    """

    def __init__(self, num_modalities: int, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(dim))
        self.identity_query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.modality_bias = nn.Parameter(torch.empty(num_modalities))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts from equal shares that do not depend on the identity."""
        nn.init.zeros_(self.query)
        nn.init.zeros_(self.modality_bias)
        nn.init.zeros_(self.identity_query.weight)
        self.key.reset_parameters()

    def forward(self, rows: ModalityRows, identity: Tensor | None) -> Fused:
        """Fuses ``rows``; ``identity`` is ``[num_nodes, dim]``, zero where a node has none."""
        query = self.query.expand(rows.num_nodes, -1)
        if identity is not None:
            query = query + self.identity_query(identity)
        # q · W z = (q W) · z: there are fewer nodes than rows.
        query = query @ self.key.weight
        logit = (query.index_select(0, rows.owner_index) * rows.z).sum(-1) / math.sqrt(rows.z.shape[1])
        logit = logit + self.modality_bias[rows.modality_index]
        return _weighted(rows, softmax(logit, rows.owner_index, num_nodes=rows.num_nodes))


class MeanFusion(nn.Module):
    """The plain mean of a node's rows: the closed form of aligning by distance.

    Args:
        num_modalities: Unused; every fusion is built alike.
        dim: Unused; every fusion is built alike.
    """

    def __init__(self, num_modalities: int, dim: int) -> None:
        super().__init__()

    def reset_parameters(self) -> None:
        """Nothing is learned."""

    def forward(self, rows: ModalityRows, identity: Tensor | None) -> Fused:
        """Fuses ``rows``; the identity plays no part."""
        return _weighted(rows, softmax(torch.zeros_like(rows.z[:, 0]), rows.owner_index, num_nodes=rows.num_nodes))


def _weighted(rows: ModalityRows, attention: Tensor) -> Fused:
    x = scatter(attention[:, None] * rows.z, rows.owner_index, dim=0, dim_size=rows.num_nodes, reduce="sum")
    present = torch.zeros(rows.num_nodes, dtype=torch.bool, device=rows.z.device)
    present[rows.owner_index] = True
    return Fused(x, present, attention)


FUSIONS: Mapping[str, Callable[[int, int], nn.Module]] = {"attention": AttentionFusion, "mean": MeanFusion}
