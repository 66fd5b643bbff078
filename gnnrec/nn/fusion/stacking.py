"""Fuses by a small network over all modalities side by side."""

from torch import Tensor, nn

from gnnrec.nn.fusion.base import Fused, Fusion, ModalityRows
from gnnrec.nn.fusion.blocks import BlockMixing

__all__ = ["StackingFusion"]


class StackingFusion(Fusion):
    """``c_i = LayerNorm(W₂ GELU(W₁ [z̄_i1 … z̄_iM] + b₁) + b₂)``: what one modality means may depend on the others.

    ``z̄_im`` is the mean of the node's rows of modality ``m``; a learned vector, zero at first, stands in for a missing
    one. The hidden layer is ``2 × dim`` wide. The normalisation gives all vectors one scale, like that of the rows.

    ``Fused.attention`` is how far the hidden layer, before its nonlinearity, would move if the row's modality were
    missing, as in :class:`~gnnrec.nn.fusion.concatenation.ConcatenationFusion`: what the layers after it make of that
    is not seen.

    Cost: ``O(num_nodes × num_modalities × dim²)``.

    Args:
        num_modalities: Number of modalities.
        dim: Width of the aligned space.
    """

    def __init__(self, num_modalities: int, dim: int) -> None:
        super().__init__()
        self.mixing = BlockMixing(num_modalities, dim, 2 * dim)
        self.activation = nn.GELU()
        self.output = nn.Linear(2 * dim, dim)
        self.norm = nn.LayerNorm(dim)

    def reset_parameters(self) -> None:
        """Draws both layers anew."""
        self.mixing.reset_parameters()
        self.output.reset_parameters()
        self.norm.reset_parameters()

    def forward(self, rows: ModalityRows, identity: Tensor | None) -> Fused:
        """Fuses ``rows``; the identity plays no part."""
        hidden, attention = self.mixing(rows)
        x = self.norm(self.output(self.activation(hidden)))
        return Fused(x * rows.present[:, None], rows.present, attention)
