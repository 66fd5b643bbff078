"""Ranks items by how like the content of a history theirs is: the plainest answer to new items."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.config import Choices, from_dict, searched, to_dict
from gnnrec.data.pairs import enlarged
from gnnrec.errors import ConfigError
from gnnrec.geometric import HeteroData
from gnnrec.graph.neighbours import nearest_neighbours
from gnnrec.modalities.features import Features, mean_per_owner
from gnnrec.named_tensors import csr_matrix, csr_tensors
from gnnrec.rankers.base import Capability, RankerState, RankingTask
from gnnrec.rankers.history_ranker import HistoryRanker
from gnnrec.training.loop import TrainingResult

__all__ = ["ContentKnnConfig", "ContentKnnRanker"]


@dataclass(frozen=True)
class ContentKnnConfig:
    """Options of the nearest neighbours by content.

    Attributes:
        content_neighbours: An item is compared with so many items of the catalogue that are most like it, itself among
            them; 0: with all.
    """

    content_neighbours: int = searched(0, Choices((0, 10, 30, 100, 300)))

    def __post_init__(self) -> None:
        if self.content_neighbours < 0:
            raise ConfigError(f"option 'content_neighbours' must not be negative, got {self.content_neighbours}")


class ContentKnnRanker(HistoryRanker):
    """Content-based filtering: the score of an item is the mean of its cosines to the items of the history.

    The content of an item is all its modalities side by side, each of unit length (the mean of its rows), zero where
    it lacks one. Compared with all items, the mean of cosines is the product with the mean of the history's unit
    vectors, so nothing of the size items × items is ever held. A refit after an update would only scale the media anew.

    Cost: ``O(history × width + num_items × width)`` per person; with neighbours ``O(num_items² × width)`` once, in
    blocks, and memory of ``num_items × content_neighbours``.

    Args:
        content: ``[num_items, width]`` unit vectors, or zeros.
        widths: Modality → width of its part, in their order.
        interactions: ``[num_users, num_items]`` binary.
        neighbours: ``[num_items, num_items]`` sparse cosines; column ``j`` holds the items that ``j`` is compared with.
            ``None``: all.
        config: Options.
    """

    name: ClassVar[str] = "content-knn"

    def __init__(
        self,
        content: Tensor,
        widths: Mapping[str, int],
        interactions: sp.csr_matrix,
        neighbours: sp.csr_matrix | None,
        config: ContentKnnConfig,
    ) -> None:
        super().__init__(interactions)
        self.content = content
        self.widths = widths
        self.neighbours = neighbours
        self.config = config

    @property
    def capabilities(self) -> frozenset[Capability]:
        """New items, by the same comparison."""
        return frozenset({"attach"})

    @classmethod
    def fit(cls, task: RankingTask, config: ContentKnnConfig) -> tuple[Self, TrainingResult | None]:
        """Puts the content of the items side by side.

        Raises:
            ConfigError: Items have no media.
        """
        features = _item_features(task.graph)
        if not features:
            raise ConfigError(
                "the ranker 'content-knn' compares media of items, and the data have none; give the data set "
                "modalities, or choose 'item-knn'"
            )
        widths = {name: feature.dim for name, feature in features.items()}
        content = _side_by_side(features, widths, task.interactions.shape[1])
        neighbours = _nearest(content, content, config.content_neighbours) if config.content_neighbours else None
        return cls(content, widths, task.interactions, neighbours, config), None

    def from_histories(self, histories: sp.csr_matrix) -> Tensor:
        """Scores all items from histories."""
        mean = sp.diags(1 / np.maximum(np.diff(histories.indptr), 1)) @ histories
        if self.neighbours is not None:
            return torch.from_numpy((mean @ self.neighbours).toarray().astype(np.float32))
        profile = torch.from_numpy(np.asarray(mean @ self.content.numpy(), dtype=np.float32))
        return profile @ self.content.T

    def similar(self, item_index: NDArray[np.int64]) -> Tensor:
        """Scores all items by their cosine to the given ones."""
        return self.content[torch.from_numpy(item_index)] @ self.content.T

    def attach(
        self,
        added: Mapping[str, Features],
        known: Mapping[str, Features],
        num_added: int,
        relations: Mapping[str, sp.csr_matrix] = MappingProxyType({}),
    ) -> Self:
        """Appends the content of new items; with neighbours, only the new items take new ones for theirs."""
        content = torch.cat([self.content, _side_by_side(added, self.widths, num_added)])
        interactions = enlarged(self.interactions, (self.interactions.shape[0], len(content)))
        neighbours = self.neighbours
        if neighbours is not None:
            of_known = enlarged(neighbours, (len(content), neighbours.shape[1]))
            of_new = _nearest(content[len(self.content) :], content, self.config.content_neighbours)
            neighbours = sp.hstack([of_known, of_new], format="csr")
        return type(self)(content, self.widths, interactions, neighbours, self.config)

    def state(self) -> RankerState:
        """Returns content, histories and neighbours."""
        tensors = {"content": self.content} | csr_tensors("interactions", self.interactions)
        if self.neighbours is not None:
            tensors |= csr_tensors("neighbours", self.neighbours)
        return RankerState(tensors, {"config": to_dict(self.config), "widths": dict(self.widths)})

    @classmethod
    def from_state(cls, state: RankerState) -> Self:
        """Rebuilds the ranker."""
        content, config = state.tensors["content"], from_dict(ContentKnnConfig, state.facts["config"])
        interactions = csr_matrix("interactions", state.tensors, len(content))
        neighbours = csr_matrix("neighbours", state.tensors, len(content)) if config.content_neighbours else None
        return cls(content, state.facts["widths"], interactions, neighbours, config)


def _item_features(graph: HeteroData) -> dict[str, Features]:
    """Takes the media of items out of a graph."""
    return {
        name: Features(name, "item", graph[name].x.numpy(), graph[name, relation, owner].edge_index[1].numpy())
        for name, relation, owner in graph.edge_types
        if relation == "describes" and owner == "item" and name != "item" and len(graph[name].x)
    }


def _side_by_side(features: Mapping[str, Features], widths: Mapping[str, int], num_items: int) -> Tensor:
    """Returns ``[num_items, sum of widths]`` of unit length; zeros for absent modalities."""
    parts = []
    for name, width in widths.items():
        part = torch.zeros(num_items, width)
        if name in features:
            means, owners = mean_per_owner(features[name])
            part[owners] = F.normalize(means)
        parts.append(part)
    return F.normalize(torch.cat(parts, dim=1))


def _nearest(queries: Tensor, base: Tensor, k: int) -> sp.csr_matrix:
    """Returns ``[num_base, num_queries]``: in each column the positive cosines of the ``k`` nearest."""
    cosine, index = nearest_neighbours(queries, base, k)
    column = torch.arange(len(queries))[:, None].expand_as(index)
    keep = cosine > 0
    place = (index[keep].numpy(), column[keep].numpy())
    return sp.csr_matrix((cosine[keep].numpy(), place), shape=(len(base), len(queries)))
