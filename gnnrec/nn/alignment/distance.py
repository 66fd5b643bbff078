"""Aligns by distance: the vectors of one owner shall lie close together; its aligned vector is their mean."""

import torch.nn.functional as F
from torch import Tensor

from gnnrec.nn.alignment.objective import AlignedRows, AlignmentObjective, mean_over_pairs

__all__ = ["Distance", "mean_alignment"]


def mean_alignment(z: Tensor, present: Tensor) -> Tensor:
    """The aligned vector in closed form: ``argmin_a Σ_m ‖z_m − a‖²``, the mean of the modalities an owner has.

    Args:
        z: ``[num_owners, num_modalities, dim]``.
        present: ``[num_owners, num_modalities]`` bool.

    Returns:
        ``[num_owners, dim]``; zero for an owner without any modality.
    """
    given = present.to(z.dtype)[:, :, None]
    return (z * given).sum(dim=1) / given.sum(dim=1).clamp(min=1)


class Distance(AlignmentObjective):
    """Trains the projections such that the vectors of an owner come close: VICReg (Bardes et al. 2022, eq. 1–6).

    ``25 · mean ‖a_i − b_i‖² / dim + 25 · mean_d max(0, 1 − std_d) + 1 · Σ_{d≠e} C_de² / dim``, the last two as the mean
    over both modalities, where eq. 6 has their sum. Distance alone would be least where all vectors are equal; the
    variance term keeps the spread of every coordinate at 1 or more, the covariance term keeps coordinates from saying
    the same.
    """

    distance_weight, variance_weight, covariance_weight = 25.0, 25.0, 1.0

    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the mean over the pairs of modalities."""
        return mean_over_pairs(rows, self._pair)

    def _pair(self, first: Tensor, second: Tensor) -> Tensor:
        return self.distance_weight * F.mse_loss(first, second) + (self._spread(first) + self._spread(second)) / 2

    def _spread(self, z: Tensor) -> Tensor:
        centred = z - z.mean(dim=0)
        covariance = centred.T @ centred / (len(z) - 1)
        variance = covariance.diagonal()
        too_little = F.relu(1 - (variance + 1e-4).sqrt()).mean()
        shared = (covariance.square().sum() - variance.square().sum()) / self.dim
        return self.variance_weight * too_little + self.covariance_weight * shared
