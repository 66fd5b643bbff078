"""Scores people by their histories alone, and those who have none by popularity: what closed-form rankers share."""

from abc import abstractmethod
from copy import copy
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.rankers.base import Ranker
from gnnrec.rankers.popularity import users_per_item

__all__ = ["HistoryRanker"]


class HistoryRanker(Ranker):
    """A ranker to whom a person is a history, be it known or new; whoever has none gets what most people chose.

    Args:
        interactions: ``[num_users, num_items]``: the histories of the known users, updates included.
    """

    def __init__(self, interactions: sp.csr_matrix) -> None:
        self._remember(interactions)

    def _remember(self, interactions: sp.csr_matrix) -> None:
        self.interactions = interactions
        self.popularity = users_per_item(interactions)

    @abstractmethod
    def from_histories(self, histories: sp.csr_matrix) -> Tensor:
        """Scores all items ``[num_people, num_items]`` by histories of the same shape; 0 for an empty one."""

    def score(self, user_index: NDArray[np.int64]) -> Tensor:
        """Scores all items from the users' histories."""
        return self.fold_in(self.interactions[user_index])

    def fold_in(self, histories: sp.csr_matrix) -> Tensor:
        """Scores all items from histories; for an empty one the score of an item is the number of its users."""
        scores, empty = self.from_histories(histories), np.diff(histories.indptr) == 0
        if empty.any():
            scores[torch.from_numpy(empty)] = self.popularity
        return scores

    def update(self, interactions: sp.csr_matrix, changed_users: NDArray[np.int64]) -> Self:
        """Takes the new histories, and counts the users of each item again; what was fitted stays."""
        updated = copy(self)
        updated._remember(interactions)
        return updated
