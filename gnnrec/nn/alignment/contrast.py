"""Tells the owner that two vectors share from all other owners of the batch: contrastive alignment."""

import torch.nn.functional as F
from torch import Tensor

from gnnrec.nn.alignment.objective import AlignedRows, AlignmentObjective, mean_over_pairs
from gnnrec.nn.losses import info_nce

__all__ = ["TEMPERATURE", "InfoNCE", "contrast"]

# Cosines are divided by it before the softmax; CLIP starts at .07, small sets generalise better when it is softer.
TEMPERATURE = 0.1


class InfoNCE(AlignmentObjective):
    """Symmetric contrastive loss of every pair of modalities (van den Oord et al. 2018, eq. 4; CLIP, figure 3).

    ``−½ mean_i [ log softmax_j(cos(a_i, b_j) / t)_i + log softmax_j(cos(b_i, a_j) / t)_i ]``

    Args:
        num_modalities: Number of modalities.
        dim: Width of the common space.
        temperature: ``t`` > 0.
    """

    def __init__(self, num_modalities: int, dim: int, temperature: float = TEMPERATURE) -> None:
        super().__init__(num_modalities, dim)
        self.temperature = temperature

    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the mean over the pairs of modalities."""
        return mean_over_pairs(rows, lambda first, second: contrast(first, second, self.temperature))


def contrast(first: Tensor, second: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """InfoNCE between the directions of two matrices ``[rows, dim]`` whose equal rows belong together."""
    return info_nce(F.normalize(first), F.normalize(second), temperature)
