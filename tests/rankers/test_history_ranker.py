"""Whoever has no history gets what most people chose, and nobody else is touched by it."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnrec.rankers import ContentKnnRanker, EaseRanker, GraphFilterRanker, ItemKnnRanker
from gnnrec.rankers.base import RankingTask
from gnnrec.rankers.content_knn import ContentKnnConfig
from gnnrec.rankers.ease import EaseConfig
from gnnrec.rankers.graph_filter import GraphFilterConfig
from gnnrec.rankers.history_ranker import HistoryRanker
from gnnrec.rankers.item_knn import ItemKnnConfig
from gnnrec.testing import PlantedGraph

CONFIGS = {
    EaseRanker: EaseConfig(),
    GraphFilterRanker: GraphFilterConfig(factors=8),
    ItemKnnRanker: ItemKnnConfig(),
    ContentKnnRanker: ContentKnnConfig(),
}


def counts(interactions: sp.csr_matrix) -> torch.Tensor:
    return torch.from_numpy(interactions.toarray().sum(axis=0))


@pytest.fixture(params=CONFIGS, ids=lambda kind: kind.name)
def ranker(request: pytest.FixtureRequest, planted: PlantedGraph) -> HistoryRanker:
    return request.param.fit(RankingTask(planted.graph, planted.train), CONFIGS[request.param])[0]


def test_an_empty_history_is_scored_by_popularity(ranker: HistoryRanker, planted: PlantedGraph) -> None:
    nobody = sp.csr_matrix((1, 80), dtype=np.float32)
    mixed = sp.vstack([planted.train[:2], nobody, planted.train[2:4]], format="csr")
    scores = ranker.fold_in(mixed)
    assert torch.equal(scores[2], counts(planted.train))
    others = torch.tensor([0, 1, 3, 4])
    assert torch.equal(scores[others], ranker.from_histories(mixed)[others])
    again = type(ranker).from_state(ranker.state())
    assert torch.equal(again.fold_in(nobody), scores[2:3])


def test_popularity_is_that_of_a_refit_after_an_update(ranker: HistoryRanker, planted: PlantedGraph) -> None:
    nobody = sp.csr_matrix((1, 80), dtype=np.float32)
    grown = sp.vstack([planted.train, planted.train[:3], nobody], format="csr")
    updated = ranker.update(grown, np.arange(120, 123))
    for scores in (updated.score(np.array([123])), updated.fold_in(nobody)):
        assert torch.equal(scores[0], counts(grown))
    assert torch.equal(ranker.fold_in(nobody)[0], counts(planted.train))


def test_an_added_item_has_no_users_yet(planted: PlantedGraph) -> None:
    ranker = ContentKnnRanker.fit(RankingTask(planted.graph, planted.train), ContentKnnConfig())[0]
    grown = ranker.attach({}, planted.features, 2)
    scores = grown.fold_in(sp.csr_matrix((1, 82), dtype=np.float32))[0]
    assert torch.equal(scores, torch.cat([counts(planted.train), torch.zeros(2)]))
