"""Fuses by the plain mean."""

import torch
from torch import Tensor

from gnnrec.geometric import softmax
from gnnrec.nn.fusion.base import Fused, Fusion, ModalityRows, weighted_sum

__all__ = ["MeanFusion"]


class MeanFusion(Fusion):
    """The plain mean of a node's rows: the closed form of aligning by distance. A missing modality is left out.

    ``Fused.attention`` is one over the number of the node's rows.

    Cost: ``O(num_rows × dim)``.

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
        return weighted_sum(rows, softmax(torch.zeros_like(rows.z[:, 0]), rows.owner_index, num_nodes=rows.num_nodes))
