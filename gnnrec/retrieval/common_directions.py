"""Finds in closed form the directions of each modality that vary most, and those in which the modalities agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.eigenvectors import eigenvectors

__all__ = ["Directions", "correlated_projections", "main_directions"]


@dataclass(frozen=True, eq=False)
class Directions:
    """The main directions of one modality: ``y = (x − mean) @ basis``.

    Attributes:
        mean: ``[width]``.
        basis: ``[width, num_directions]``.
    """

    mean: Tensor
    basis: Tensor

    def coordinates(self, x: Tensor) -> Tensor:
        """Returns ``[rows, num_directions]`` for vectors ``[rows, width]``."""
        return (x - self.mean) @ self.basis


def main_directions(x: Tensor, num_directions: int, ridge: float) -> Directions:
    """Finds the directions in which rows vary most, scaled towards equal variance as far as they stand out.

    Principal components with variance ``v_d`` are divided by ``sqrt(v_d + ridge · v̄)``: those above the mean variance
    become about equal, those below it, mostly noise, stay small. The mean square of all coordinates is 1.

    Args:
        x: ``[rows, width]``.
        num_directions: At most so many; there are no more than rows or columns.
        ridge: ≥ 0.
    """
    mean = x.mean(dim=0)
    centred = (x - mean).double()
    variance, directions = eigenvectors(centred.T @ centred / len(x))  # ascending
    kept = min(num_directions, *x.shape)
    mean_variance = variance.clamp(min=0).sum() / min(x.shape)
    smallest = torch.finfo(x.dtype).eps * mean_variance.clamp(min=torch.finfo(x.dtype).tiny)
    scale = (variance[-kept:].clamp(min=0) + ridge * mean_variance).clamp(min=smallest).sqrt()
    basis = directions[:, -kept:] / scale
    spread = (centred @ basis).square().mean().sqrt()
    return Directions(mean, (basis / spread.clamp(min=1e-6)).to(x.dtype))


def correlated_projections(coordinates: Sequence[Tensor], dim: int) -> list[Tensor]:
    """Solves regularised canonical correlation analysis of any number of modalities.

    Maximum-variance CCA (Kettenring 1971, section 4.3): the projections are the blocks of the leading eigenvectors
    of the joint covariance of the decorrelated coordinates, so that ``Σ_m ‖g − y_m W_m‖²`` is least over a common
    ``g`` with uncorrelated columns: aligning by distance, in closed form. With two modalities it is CCA. Columns count
    by the square of their eigenvalue, since those in which modalities agree more find the owner more surely.

    Args:
        coordinates: ``[rows, num_directions]`` of each modality, as :func:`main_directions` gives them; rows of zeros
            where a modality is missing.
        dim: Width of the common space. Columns beyond the number of all directions are 0.

    Returns:
        ``[num_directions, dim]`` of each modality. The mean square of all projected entries is 1.
    """
    joint = torch.cat(list(coordinates), dim=1).double()
    agreement, directions = eigenvectors(joint.T @ joint / len(joint))
    agreement, directions = agreement.flip(0)[:dim], directions.flip(1)[:, :dim]
    weights = directions * agreement.clamp(min=0).square()
    weights = F.pad(weights, (0, dim - weights.shape[1])).to(coordinates[0].dtype)
    blocks = torch.split(weights, [y.shape[1] for y in coordinates])
    projected = torch.stack([y @ block for y, block in zip(coordinates, blocks, strict=True)])
    spread = projected.square().mean().sqrt().clamp(min=1e-6)
    return [block / spread for block in blocks]
