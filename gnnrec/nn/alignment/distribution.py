"""Aligns the distributions of modalities: their means, their covariances, and all their moments."""

import math
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.nn.alignment.objective import AlignedRows, AlignmentObjective

__all__ = ["Distribution", "coral", "maximum_mean_discrepancy"]


class Distribution(AlignmentObjective):
    """``‖mean(a) − mean(b)‖² / dim + CORAL(a, b) + MMD²(a, b)`` of the directions of every pair of modalities.

    It matches what modalities look like as a whole and knows no pairs, so it finds no owner by itself; add it, with a
    weight, to an objective that does. Owners of a single modality take part. Directions have the length √dim here, so
    that their coordinates vary by about 1, and shrinking them gains nothing.
    """

    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the mean over the pairs of modalities that two owners or more have each."""
        scaled = F.normalize(rows.z, dim=-1) * math.sqrt(self.dim)
        samples = [scaled[rows.present[:, m], m] for m in range(rows.z.shape[1])]
        losses = [
            F.mse_loss(first.mean(dim=0), second.mean(dim=0))
            + coral(first, second)
            + maximum_mean_discrepancy(first, second)
            for first, second in combinations([sample for sample in samples if len(sample) >= 2], 2)
        ]
        return torch.stack(losses).mean() if losses else rows.z.sum() * 0


def coral(first: Tensor, second: Tensor) -> Tensor:
    """Squared distance of covariances, ``‖C_a − C_b‖² / (4 dim²)`` (CORAL, Sun & Saenko 2016, eq. 1).

    Args:
        first: ``[rows, dim]``, at least two rows.
        second: ``[other_rows, dim]``, likewise.
    """
    difference: Tensor = torch.cov(first.T) - torch.cov(second.T)
    return difference.square().sum() / (4 * first.shape[1] ** 2)


def maximum_mean_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Squared MMD, ``mean k(a, a') + mean k(b, b') − 2 mean k(a, b)`` (Gretton et al. 2012, eq. 5, biased so ≥ 0).

    ``k(x, y) = exp(−‖x − y‖² / σ²)`` where ``σ²`` is the median squared distance of all rows (section 8 there); no
    gradient flows through it.

    Args:
        first: ``[rows, dim]``.
        second: ``[other_rows, dim]``.
    """
    both = torch.cat([first, second])
    length = both.square().sum(dim=1)
    distance = (length[:, None] + length - 2 * both @ both.T).clamp(min=0)
    above = torch.triu_indices(len(both), len(both), offset=1, device=both.device)
    kernel = torch.exp(-distance / distance.detach()[above[0], above[1]].median().clamp(min=1e-6))
    sign = torch.cat([torch.full((len(first),), 1 / len(first)), torch.full((len(second),), -1 / len(second))])
    sign = sign.to(kernel)
    return (sign @ kernel @ sign).clamp(min=0)
