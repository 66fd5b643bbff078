"""Fuses by attention over the edges (modality row → node): the default."""

import math

import torch
from torch import Tensor, nn

from gnnrec.geometric import softmax
from gnnrec.nn.fusion.base import Fused, Fusion, ModalityRows, weighted_sum

__all__ = ["AttentionFusion"]


class AttentionFusion(Fusion):
    """Attention-based message passing over the edges (modality row → node).

    ``a_r ∝ exp(q_i · W z_r / sqrt(dim) + b_m)`` over the rows ``r`` of node ``i`` (scaled dot-product attention,
    Vaswani et al. 2017, eq. 1, on the edges of a graph), ``c_i = sum_r a_r z_r``. The query is a shared vector
    plus a projection of the node's identity, if it has one: a node with a history decides for itself which modality
    to trust, a new node uses what holds for all. A missing modality is an absent edge.

    ``Fused.attention`` is ``a_r``: the very weights of the sum.

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
        return weighted_sum(rows, softmax(logit, rows.owner_index, num_nodes=rows.num_nodes))
