"""Every ranker keeps its promises, and the check notices rankers that do not."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnrec.presets import PRESETS, RecommenderConfig
from gnnrec.rankers import (
    ContentKnnRanker,
    EaseRanker,
    GraphFilterRanker,
    ItemKnnRanker,
    NeuralRanker,
    PopularityRanker,
)
from gnnrec.rankers.base import RankerState
from gnnrec.rankers.content_knn import ContentKnnConfig
from gnnrec.rankers.ease import EaseConfig
from gnnrec.rankers.graph_filter import GraphFilterConfig
from gnnrec.rankers.item_knn import ItemKnnConfig
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.rankers.popularity import PopularityConfig
from gnnrec.testing import check_ranker

NEURAL = {name: config for name, config in PRESETS.items() if config.ranker == "neural"}


def short(config: RecommenderConfig) -> NeuralConfig:
    """The same model, trained briefly."""
    training = replace(config.training, epochs=12, learning_rate=max(config.training.learning_rate, 0.02))
    return NeuralConfig(replace(config.model, embedding_dim=16), training, config.graph.similar_items or 10)


@pytest.mark.parametrize("name", NEURAL)
def test_neural_presets(name: str) -> None:
    check_ranker(NeuralRanker, short(NEURAL[name]))


@pytest.mark.parametrize("part", ["ease", "random-walk", "graph-filter", "low-pass"])
def test_the_default_with_a_linear_part(part: str) -> None:
    options = {"linear_part": part, "linear_weight": 0.5}
    check_ranker(NeuralRanker, short(NEURAL["gnnrec"].with_options(options)))


def test_ease() -> None:
    check_ranker(EaseRanker, EaseConfig())


@pytest.mark.parametrize("factors", [0, 4, 256])
def test_graph_filter(factors: int) -> None:
    check_ranker(GraphFilterRanker, GraphFilterConfig(factors=factors))


def test_item_knn() -> None:
    check_ranker(ItemKnnRanker, ItemKnnConfig())


@pytest.mark.parametrize("neighbours", [0, 8])
def test_content_knn(neighbours: int) -> None:
    check_ranker(ContentKnnRanker, ContentKnnConfig(neighbours))


def test_popularity() -> None:
    check_ranker(PopularityRanker, PopularityConfig(), learns_taste=False)


class NotANumber(ItemKnnRanker):
    def score(self, user_index):
        return super().score(user_index).log() * 0


class TooFewColumns(ItemKnnRanker):
    def score(self, user_index):
        return super().score(user_index)[:, 1:]


class DependsOnTheBlock(ItemKnnRanker):
    def score(self, user_index):
        scores = super().score(user_index)
        return scores - scores.mean(dim=0)


class ForgetsOnLoad(ItemKnnRanker):
    @classmethod
    def from_state(cls, state):
        tensors = dict(state.tensors)
        tensors["similarity.data"] = tensors["similarity.data"].half().float()
        return super().from_state(RankerState(tensors, state.facts))


class FoldsInNobody(ItemKnnRanker):
    def fold_in(self, histories):
        return super().fold_in(histories) / torch.from_numpy(np.diff(histories.indptr))[:, None]


class FoldsInByPopularity(ItemKnnRanker):
    def fold_in(self, histories):
        return torch.from_numpy(np.asarray(self.interactions.sum(axis=0), np.float32)).expand(histories.shape[0], -1)

    def score(self, user_index):
        return super().fold_in(self.interactions[user_index])


class ChangesItself(ItemKnnRanker):
    def update(self, interactions, changed_users):
        updated = super().update(interactions, changed_users)
        self.similarity = self.similarity * 2
        return updated


class IgnoresNewUsers(ItemKnnRanker):
    def update(self, interactions, changed_users):
        return self

    def score(self, user_index):
        return super().score(user_index[user_index < self.interactions.shape[0]])


class LosesTheHistoriesOfNewUsers(ItemKnnRanker):
    def update(self, interactions, changed_users):
        return super().update(sp.csr_matrix(interactions.shape, dtype=np.float32), changed_users)


class OneRowForAll(ItemKnnRanker):
    def similar(self, item_index):
        return super().similar(item_index)[:1]


class PromisesToAttach(ItemKnnRanker):
    capabilities = frozenset({"attach"})


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (NotANumber, "scores are finite"),
        (TooFewColumns, "one column per item"),
        (DependsOnTheBlock, "do not depend on the block"),
        (ForgetsOnLoad, "every bit of the scores"),
        (FoldsInNobody, "an empty history"),
        (FoldsInByPopularity, "fold-in follows the planted taste"),
        (ChangesItself, "leaves the ranker itself"),
        (IgnoresNewUsers, "takes in a new user"),
        (LosesTheHistoriesOfNewUsers, "what fold-in gives a stranger"),
        (OneRowForAll, "one row per item"),
        (PromisesToAttach, "declares 'attach'"),
    ],
)
def test_broken_rankers_are_found(mutant: type[ItemKnnRanker], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_ranker(mutant, ItemKnnConfig())


def test_a_ranker_that_ignores_its_users_is_found() -> None:
    with pytest.raises(AssertionError, match="rankings follow the planted taste"):
        check_ranker(PopularityRanker, PopularityConfig())


class MovesKnownItems(NeuralRanker):
    def attach(self, added, known, num_added, relations):
        attached = super().attach(added, known, num_added, relations)
        return replace(attached, serving=replace(attached.serving, user=attached.serving.user * 1.01))


class AttachesNothing(NeuralRanker):
    def attach(self, added, known, num_added, relations):
        return self


@pytest.mark.parametrize(("mutant", "promise"), [(MovesKnownItems, "as they were"), (AttachesNothing, "appends")])
def test_rankers_that_attach_badly_are_found(mutant: type[NeuralRanker], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_ranker(mutant, short(NEURAL["gnnrec"]))
