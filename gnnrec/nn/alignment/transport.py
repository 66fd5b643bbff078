"""Matches the owners of a batch across two modalities by optimal transport, and the graphs of their neighbours."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gnnrec.nn.alignment.contrast import TEMPERATURE
from gnnrec.nn.alignment.objective import AlignedRows, AlignmentObjective, mean_over_pairs

__all__ = ["OptimalTransport", "neighbour_graph", "sinkhorn"]


class OptimalTransport(AlignmentObjective):
    """The cheapest matching of a batch shall be the true one, and neighbours in one modality be so in the other.

    ``−mean_i log(n P_ii) + mean_i Σ_j (A_ij − B_ij)²``. ``P`` is the entropic transport plan (Cuturi 2013) of the
    costs ``1 − cos(a_i, b_j)`` between ``n`` owners; the first term is the distance of the true matching from it, the
    inverse optimal transport of Shi et al. 2023, eq. 6. It differs from InfoNCE in that no vector can be everybody's
    nearest: every column is shared out as every row is. The second is the Gromov–Wasserstein cost of the true
    matching (Peyré et al. 2016, eq. 5) between the two graphs of soft nearest neighbours.

    Of a larger batch 512 owners are drawn at random, anew each time: a plan of all costs more than the ranking loss.

    Cost: ``O(n² · (dim + iterations))`` with ``n`` owners.
    """

    iterations, most_owners = 20, 512

    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the mean over the pairs of modalities."""
        return mean_over_pairs(rows, self._pair)

    def _pair(self, first: Tensor, second: Tensor) -> Tensor:
        if len(first) > self.most_owners:
            drawn = torch.randperm(len(first), device=first.device)[: self.most_owners]
            first, second = first[drawn], second[drawn]
        first, second = F.normalize(first), F.normalize(second)
        log_plan = sinkhorn(1 - first @ second.T, TEMPERATURE, self.iterations)
        matching = -(log_plan.diagonal() + math.log(len(first))).mean()
        graphs = neighbour_graph(first, TEMPERATURE), neighbour_graph(second, TEMPERATURE)
        return matching + (graphs[0] - graphs[1]).square().sum(dim=1).mean()


def sinkhorn(cost: Tensor, regularisation: float, iterations: int) -> Tensor:
    """Solves entropic optimal transport between uniform weights, in logarithms (Cuturi 2013, algorithm 1).

    ``argmin_P Σ P_ij C_ij + regularisation · Σ P_ij log P_ij`` with equal sums of all rows, and of all columns.

    Args:
        cost: ``[rows, columns]``.
        regularisation: > 0.
        iterations: Scalings of rows and columns; the sums of the columns are exact after each.

    Returns:
        ``log P``, ``[rows, columns]``; gradients pass through all iterations.
    """
    log_plan = -cost / regularisation
    rows, columns = cost.shape
    for _ in range(iterations):
        log_plan = log_plan.log_softmax(dim=1) - math.log(rows)
        log_plan = log_plan.log_softmax(dim=0) - math.log(columns)
    return log_plan


def neighbour_graph(unit: Tensor, temperature: float) -> Tensor:
    """Links every row to its neighbours, softly: the differentiable form of choosing the k nearest.

    Args:
        unit: ``[rows, dim]`` unit vectors.
        temperature: > 0; the lower, the fewer neighbours count.

    Returns:
        ``[rows, rows]`` softmax of the cosines with all other rows; each row sums to 1.
    """
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    return (unit @ unit.T / temperature).masked_fill(itself, -torch.inf).softmax(dim=1)
