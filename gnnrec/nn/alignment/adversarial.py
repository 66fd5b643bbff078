"""Aligns modalities such that a discriminator cannot tell which one a vector comes from."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnrec.nn.alignment.objective import AlignedRows, AlignmentObjective

__all__ = ["Adversarial", "reverse_gradient"]


class Adversarial(AlignmentObjective):
    """A discriminator behind a gradient reversal (Ganin & Lempitsky 2015, eq. 4; ACMR, Wang et al. 2017).

    The loss is the discriminator's cross-entropy, at most ``log num_modalities`` where it can but guess. The
    discriminator descends it; the reversed gradient makes the projections climb it. So it does not fall as the
    modalities come together: it rises.

    It matches what modalities look like as a whole and knows no pairs, so it finds no owner by itself; add it, with a
    weight, to an objective that does. Owners of a single modality take part.

    Args:
        num_modalities: Number of modalities.
        dim: Width of the common space.
    """

    def __init__(self, num_modalities: int, dim: int) -> None:
        super().__init__(num_modalities, dim)
        self.discriminator = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, num_modalities))

    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the cross-entropy, each modality counting alike."""
        if not rows.present.any():
            return rows.z.sum() * 0
        modality = torch.nonzero(rows.present)[:, 1]
        logits = self.discriminator(reverse_gradient(F.normalize(rows.z[rows.present])))
        weight = 1 / rows.present.sum(dim=0).clamp(min=1).to(logits.dtype)
        return F.cross_entropy(logits, modality, weight=weight)


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def reverse_gradient(x: Tensor) -> Tensor:
    """Returns ``x``; its gradient arrives with the opposite sign."""
    reversed_: Tensor = _ReverseGradient.apply(x)
    return reversed_
