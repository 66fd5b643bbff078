"""Trains one ranker per modality such that all rank alike."""

import torch.nn.functional as F
from torch import Tensor

from gnnrec.nn.alignment.contrast import TEMPERATURE, contrast
from gnnrec.nn.alignment.objective import AlignedRows, AlignmentObjective, mean_over_pairs

__all__ = ["CoTraining", "disagreement"]


class CoTraining(AlignmentObjective):
    """Rankers by one modality each teach each other (co-training, Blum & Mitchell 1998; as deep mutual learning).

    Every modality is a ranker. Given users, each ranks the owners for each user by ``cos(u, z_m)``, and the loss is
    the disagreement ``½ KL(p ‖ q) + ½ KL(q ‖ p)`` of two rankings; what is right is left to the ranking loss beside
    it. Without users, each ranks for every owner all owners by the closed-form mean of the *two* modalities, the right
    answer being the owner itself: cross-entropy plus disagreement (deep mutual learning, Zhang et al. 2018, eq. 5–7),
    since rankers that all say nothing would agree as well.
    """

    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the mean over the pairs of modalities."""
        if rows.scores_by is None:
            return mean_over_pairs(rows, self._taught_by_owners)
        users = F.normalize(rows.scores_by)
        return mean_over_pairs(rows, lambda first, second: disagreement(_scores(users, first), _scores(users, second)))

    def _taught_by_owners(self, first: Tensor, second: Tensor) -> Tensor:
        first, second = F.normalize(first), F.normalize(second)
        means = (first + second).detach()
        return contrast(first, second) + disagreement(_scores(first, means), _scores(second, means))


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Returns ``½ KL(p ‖ q) + ½ KL(q ‖ p)`` of two rankings given as scores ``[rankings, candidates]``, the mean."""
    first, second = first.log_softmax(dim=1), second.log_softmax(dim=1)
    return ((first.exp() - second.exp()) * (first - second)).sum(dim=1).mean() / 2


def _scores(queries: Tensor, candidates: Tensor) -> Tensor:
    return queries @ F.normalize(candidates).T / TEMPERATURE
