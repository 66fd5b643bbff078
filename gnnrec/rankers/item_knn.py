"""Ranks items by their cosine similarity, in users, to the items of a history."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.config import Range, from_dict, searched, to_dict
from gnnrec.errors import ConfigError
from gnnrec.graph.neighbours import co_occurrence_edges
from gnnrec.named_tensors import csr_matrix, csr_tensors
from gnnrec.rankers.base import RankerState, RankingTask
from gnnrec.rankers.history_ranker import HistoryRanker
from gnnrec.training.loop import TrainingResult

__all__ = ["ItemKnnConfig", "ItemKnnRanker"]


@dataclass(frozen=True)
class ItemKnnConfig:
    """Options of the item-based nearest neighbours.

    Attributes:
        neighbours: Similar items kept for each item.
        shrinkage: Users added to those of each item in the denominator of the cosine, so that two items that share
            their only user are not the most alike of all; 0 is the plain cosine.
    """

    neighbours: int = searched(100, Range(5, 1000, log=True))
    shrinkage: float = searched(0.0, Range(0, 100))

    def __post_init__(self) -> None:
        if self.neighbours <= 0:
            raise ConfigError(f"option 'neighbours' must be positive, got {self.neighbours}")
        if self.shrinkage < 0:
            raise ConfigError(f"option 'shrinkage' must not be negative, got {self.shrinkage}")


class ItemKnnRanker(HistoryRanker):
    """Item-based collaborative filtering (Sarwar et al. 2001, section 3.1.1; Deshpande & Karypis 2004).

    The score of item ``i`` is the sum of its cosine similarities to the items of the history, of which each keeps
    only its nearest. Cost: ``O(sum over users of degree²)`` once; memory ``O(num_items × neighbours)``.

    Args:
        similarity: ``[num_items, num_items]`` sparse; row ``j`` holds the items that take ``j`` as a neighbour.
        interactions: ``[num_users, num_items]`` binary.
        config: Options.
    """

    name: ClassVar[str] = "item-knn"

    def __init__(self, similarity: sp.csr_matrix, interactions: sp.csr_matrix, config: ItemKnnConfig) -> None:
        super().__init__(interactions)
        self.similarity = similarity
        self.config = config

    @classmethod
    def fit(cls, task: RankingTask, config: ItemKnnConfig) -> tuple[Self, TrainingResult | None]:
        """Finds the neighbours of each item."""
        return cls(_cosine_neighbours(task.interactions, config), task.interactions, config), None

    def from_histories(self, histories: sp.csr_matrix) -> Tensor:
        """Scores all items from histories."""
        return _dense(histories.astype(np.float32) @ self.similarity)

    def similar(self, item_index: NDArray[np.int64]) -> Tensor:
        """Returns the kept similarities of the given items; items that are no neighbours score 0."""
        return _dense(self._neighbours[item_index])

    @cached_property
    def _neighbours(self) -> sp.csr_matrix:
        """Row ``i`` holds the neighbours of ``i``: turned once, since a request must not cost the whole matrix."""
        return self.similarity.T.tocsr()

    def state(self) -> RankerState:
        """Returns similarities and histories."""
        matrices = csr_tensors("similarity", self.similarity) | csr_tensors("interactions", self.interactions)
        return RankerState(matrices, to_dict(self.config))

    @classmethod
    def from_state(cls, state: RankerState) -> Self:
        """Rebuilds the ranker."""
        num_items = len(state.tensors["similarity.indptr"]) - 1
        similarity, interactions = (
            csr_matrix(name, state.tensors, num_items) for name in ("similarity", "interactions")
        )
        return cls(similarity, interactions, from_dict(ItemKnnConfig, state.facts))


def _cosine_neighbours(interactions: sp.csr_matrix, config: ItemKnnConfig) -> sp.csr_matrix:
    degree = np.bincount(interactions.indices, minlength=interactions.shape[1])
    unit_columns = interactions @ sp.diags(1 / np.sqrt(np.maximum(degree, 1) + config.shrinkage))
    # Cosines are the products of unit columns; any positive one counts.
    edge_index, cosine = co_occurrence_edges(sp.csr_matrix(unit_columns), config.neighbours, minimum_shared=0)
    shape = (interactions.shape[1], interactions.shape[1])
    return sp.coo_matrix((cosine.numpy(), (edge_index[0].numpy(), edge_index[1].numpy())), shape=shape).tocsr()


def _dense(rows: sp.csr_matrix) -> Tensor:
    return torch.from_numpy(np.asarray(rows.todense(), dtype=np.float32))
