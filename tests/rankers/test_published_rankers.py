"""What a published model answers after training: folding in, updating, adding items."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnrec.errors import UnsupportedError
from gnnrec.graph.build import build_graph
from gnnrec.modalities.features import Features
from gnnrec.presets import PRESETS
from gnnrec.rankers.base import RankingTask
from gnnrec.rankers.neural import NeuralRanker
from gnnrec.rankers.neural_config import NeuralConfig
from gnnrec.testing import PlantedGraph

EVERYBODY = np.arange(120)
PUBLISHED = [name for name, preset in PRESETS.items() if preset.model.architecture != "multimodal"]
ADDS_ITEMS = ["vbpr", "freedom", "mgcn", "pgl", "dropoutnet", "clcrec", "generative"]


@pytest.fixture(scope="session", params=PUBLISHED)
def fitted(request: pytest.FixtureRequest, planted: PlantedGraph) -> NeuralRanker:
    preset = PRESETS[request.param]
    graph = build_graph(planted.train, planted.features, config=preset.graph)
    config = NeuralConfig(
        replace(preset.model, embedding_dim=16),
        replace(preset.training, epochs=15, learning_rate=0.02),
        preset.graph.similar_items,
        preset.graph.item_graph,
    )
    return NeuralRanker.fit(RankingTask(graph, planted.train), config)[0]


def test_an_update_without_new_events_changes_nothing(fitted: NeuralRanker, planted: PlantedGraph) -> None:
    if not fitted.model.hears_history:
        pytest.skip("a learned vector is replaced by the one that fits the history")
    updated = fitted.update(planted.train, EVERYBODY)
    torch.testing.assert_close(updated.vectors("user"), fitted.vectors("user"), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["lightgcn", "bm3", "mgcn"])
def test_new_people_get_what_they_like_without_propagation_too(name: str, planted: PlantedGraph) -> None:
    preset = PRESETS[name]
    graph = build_graph(planted.train, planted.features, config=preset.graph)
    training = replace(preset.training, epochs=30, learning_rate=0.02)
    config = NeuralConfig(replace(preset.model, embedding_dim=16, hops=0), training)
    ranker, _ = NeuralRanker.fit(RankingTask(graph, planted.train), config)
    scores = ranker.fold_in(planted.train).numpy()
    scores[planted.train.nonzero()] = -np.inf
    scores[:, planted.new_items] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :4]
    assert (planted.item_taste[best] == planted.user_taste[:, None]).mean() > 0.6  # chance is .25


def test_a_user_without_events_has_the_average_taste(fitted: NeuralRanker) -> None:
    scores = fitted.fold_in(sp.csr_matrix((1, 80), dtype=np.float32))[0]
    torch.testing.assert_close(scores, fitted.vectors("user").mean(dim=0) @ fitted.vectors("item").T)


def items_like(planted: PlantedGraph, models: np.ndarray) -> Features:
    """New items whose content is that of known ones, nearly."""
    values = planted.features["content"].values[models]
    values = values + 0.1 * np.random.default_rng(0).normal(size=values.shape)
    return Features("content", "item", values.astype(np.float32), np.arange(len(models)))


def test_added_items_reach_the_right_users(fitted: NeuralRanker, planted: PlantedGraph) -> None:
    models = np.arange(20)
    added = items_like(planted, models)
    if fitted.config.model.architecture not in ADDS_ITEMS:
        assert "attach" not in fitted.capabilities
        with pytest.raises(UnsupportedError, match=fitted.config.model.architecture):
            fitted.attach({"content": added}, planted.features, 20)
        return
    attached = fitted.attach({"content": added}, planted.features, 20)
    best = np.argsort(-attached.score(EVERYBODY).numpy()[:, 80:], axis=1)[:, :4]
    assert (planted.item_taste[models][best] == planted.user_taste[:, None]).mean() > 0.7
    assert torch.equal(attached.vectors("item")[:80], fitted.vectors("item"))
    histories = sp.csr_matrix((np.ones(5, dtype=np.float32), ([0] * 5, 80 + np.arange(5))), (1, 100))
    assert torch.isfinite(attached.fold_in(histories)).all()


def test_added_items_hear_nothing_of_those_added_before(fitted: NeuralRanker, planted: PlantedGraph) -> None:
    if fitted.config.model.architecture not in ADDS_ITEMS:
        pytest.skip("takes no new items")
    added, known = items_like(planted, np.arange(20)), planted.features["content"]
    once = fitted.attach({"content": added}, {"content": known}, 20)
    grown = Features("content", "item", np.concatenate([known.values, added.values]), np.arange(100))
    twice = once.attach({"content": added}, {"content": grown}, 20)
    assert torch.equal(twice.vectors("item")[100:], once.vectors("item")[80:])
