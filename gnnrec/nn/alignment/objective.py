"""Fixes what every alignment objective takes and gives: projected vectors of owners in, one loss out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor, nn

__all__ = ["AlignedRows", "AlignmentObjective", "mean_over_pairs", "num_outputs"]


@dataclass(frozen=True, eq=False)
class AlignedRows:
    """The projected vectors of some owners (items, or users), one per owner and modality.

    Attributes:
        z: ``[num_owners, num_modalities, dim]`` projections into the common space; finite where absent, but unused.
        present: ``[num_owners, num_modalities]`` bool: the owner has the modality.
        scores_by: ``[num_users, dim]`` vectors of users that rank the owners, for co-training; ``None``: no users.
        labels: Task → what is known of each owner: a class ``[num_owners]`` int64 (-1: unknown), a number
            ``[num_owners]`` float (NaN: unknown), or any number of classes ``[num_owners, num_classes]`` float of 0
            and 1 (a row of NaN: unknown).
    """

    z: Tensor
    present: Tensor
    scores_by: Tensor | None = None
    labels: Mapping[str, Tensor] = field(default_factory=dict)


class AlignmentObjective(nn.Module, ABC):
    """Judges how well the modalities of each owner agree.

    Args:
        num_modalities: Number of modalities.
        dim: Width of the common space.
    """

    def __init__(self, num_modalities: int, dim: int) -> None:
        super().__init__()
        self.num_modalities = num_modalities
        self.dim = dim

    @abstractmethod
    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the loss, a scalar ≥ 0: 0 (with a gradient of 0) where ``rows`` hold nothing to compare."""

    def transform(self, z: Tensor, modality: int) -> Tensor:
        """Returns ``[num_rows, dim]``: what the objective makes of one modality alone.

        This is what queries and items are compared by. It is ``z`` itself unless the objective has a network of its
        own.

        Args:
            z: ``[num_rows, dim]`` projections.
            modality: Position of their modality.
        """
        return z


def num_outputs(label: Tensor) -> int:
    """Returns how many numbers predict a label, as :class:`AlignedRows` holds it: its classes, or 1 for a number."""
    if label.ndim == 2:
        return label.shape[1]
    return 1 if label.is_floating_point() else int(label.max()) + 1


def mean_over_pairs(rows: AlignedRows, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Averages a loss over all pairs of modalities, each judged on the owners that have both.

    Args:
        rows: The projected vectors.
        loss: Takes ``[num_both, dim]`` of one modality and the same owners in the other; returns a scalar.

    Returns:
        A scalar: 0, with a gradient of 0, if no pair of modalities has two owners in common.
    """
    losses = []
    for first, second in combinations(range(rows.z.shape[1]), 2):
        both = torch.nonzero(rows.present[:, first] & rows.present[:, second]).flatten()
        if len(both) >= 2:  # a single owner has nobody to be told apart from, and no variance
            losses.append(loss(rows.z[both, first], rows.z[both, second]))
    return torch.stack(losses).mean() if losses else rows.z.sum() * 0
