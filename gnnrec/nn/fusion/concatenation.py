"""Fuses by putting the modalities side by side and bringing them back to width by one linear layer."""

from torch import Tensor

from gnnrec.nn.fusion.base import Fused, Fusion, ModalityRows
from gnnrec.nn.fusion.blocks import BlockMixing

__all__ = ["ConcatenationFusion"]


class ConcatenationFusion(Fusion):
    """``c_i = W [z̄_i1 … z̄_iM] + b``, with the mean ``z̄_im`` of the node's rows of modality ``m`` as block ``m``.

    A learned vector, zero at first, stands in for a missing modality.

    ``Fused.attention`` is how far the vector would move if the row's modality were missing, ``|W_m (z̄_im - s_m)|``, as
    a share of the sum of these lengths, divided evenly among the rows of the modality. Blocks may point against each
    other, so the lengths do not add up to that of the vector.

    Cost: ``O(num_nodes × num_modalities × dim²)``.

    Args:
        num_modalities: Number of modalities.
        dim: Width of the aligned space.
    """

    def __init__(self, num_modalities: int, dim: int) -> None:
        super().__init__()
        self.mixing = BlockMixing(num_modalities, dim, dim)

    def reset_parameters(self) -> None:
        """Draws the linear layer anew."""
        self.mixing.reset_parameters()

    def forward(self, rows: ModalityRows, identity: Tensor | None) -> Fused:
        """Fuses ``rows``; the identity plays no part."""
        x, attention = self.mixing(rows)
        return Fused(x * rows.present[:, None], rows.present, attention)
