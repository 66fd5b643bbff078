"""Ranks items by their number of users: the baseline that everything must beat."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.rankers.base import Ranker, RankerState, RankingTask
from gnnrec.training.loop import TrainingResult

__all__ = ["PopularityConfig", "PopularityRanker", "users_per_item"]


@dataclass(frozen=True)
class PopularityConfig:
    """Popularity has no options."""


class PopularityRanker(Ranker):
    """The same list for everybody. Cost: ``O(num_edges)`` once.

    Args:
        num_users_of: ``[num_items]`` float32 distinct users of each item.
    """

    name: ClassVar[str] = "popularity"

    def __init__(self, num_users_of: Tensor) -> None:
        self.num_users_of = num_users_of

    @classmethod
    def fit(cls, task: RankingTask, config: PopularityConfig) -> tuple[Self, TrainingResult | None]:
        """Counts the users of each item."""
        return cls(users_per_item(task.interactions)), None

    def score(self, user_index: NDArray[np.int64]) -> Tensor:
        """Returns the counts for every user."""
        return self.num_users_of.expand(len(user_index), -1)

    def fold_in(self, histories: sp.csr_matrix) -> Tensor:
        """Returns the counts for everybody."""
        return self.num_users_of.expand(histories.shape[0], -1)

    def similar(self, item_index: NDArray[np.int64]) -> Tensor:
        """Returns the counts for every item: all that popularity knows."""
        return self.num_users_of.expand(len(item_index), -1)

    def update(self, interactions: sp.csr_matrix, changed_users: NDArray[np.int64]) -> Self:
        """Counts again: exactly what a refit gives."""
        return type(self)(users_per_item(interactions))

    def state(self) -> RankerState:
        """Returns the counts."""
        return RankerState({"num_users_of": self.num_users_of})

    @classmethod
    def from_state(cls, state: RankerState) -> Self:
        """Rebuilds the ranker."""
        return cls(state.tensors["num_users_of"])


def users_per_item(interactions: sp.csr_matrix) -> Tensor:
    """Returns the number of distinct users of each item ``[num_items]`` float32."""
    return torch.from_numpy(np.bincount(interactions.indices, minlength=interactions.shape[1]).astype(np.float32))
