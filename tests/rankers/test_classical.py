import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics.pairwise import cosine_similarity

from gnnrec.errors import ConfigError, UnsupportedError
from gnnrec.rankers import RANKERS, ItemKnnRanker, PopularityRanker, RankingTask
from gnnrec.rankers.item_knn import ItemKnnConfig
from gnnrec.rankers.popularity import PopularityConfig
from gnnrec.testing import PlantedGraph

EVERYBODY = np.arange(120)


def cosines(train: sp.csr_matrix, neighbours: int) -> np.ndarray:
    """Row i holds the cosine of item i with each of its nearest items, by the definition."""
    similarity = cosine_similarity(train.T.toarray())
    np.fill_diagonal(similarity, 0)
    worst = np.argsort(-similarity, axis=1, kind="stable")[:, neighbours:]
    np.put_along_axis(similarity, worst, 0, axis=1)
    return similarity


def test_item_knn_equals_the_cosines_of_sklearn(task: RankingTask, planted: PlantedGraph) -> None:
    ranker, history = ItemKnnRanker.fit(task, ItemKnnConfig(neighbours=100))
    assert history is None
    similarity = cosines(planted.train, 100)
    expected = planted.train.toarray() @ similarity.T
    np.testing.assert_allclose(ranker.score(EVERYBODY), expected, atol=1e-5)
    np.testing.assert_allclose(ranker.fold_in(planted.train[[5, 2]]), expected[[5, 2]], atol=1e-5)
    np.testing.assert_allclose(ranker.similar(np.array([7, 0])), similarity[[7, 0]], atol=1e-5)


def test_shrinkage_adds_users_to_the_denominator(task: RankingTask, planted: PlantedGraph) -> None:
    ranker, _ = ItemKnnRanker.fit(task, ItemKnnConfig(neighbours=80, shrinkage=10.0))
    dense = planted.train.toarray().astype(np.float64)
    degree = np.maximum(dense.sum(axis=0), 1) + 10
    expected = dense.T @ dense / np.sqrt(np.outer(degree, degree))
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(ranker.similar(np.arange(80)), expected, atol=1e-6)
    again = ItemKnnRanker.from_state(ranker.state())
    assert again.config == ranker.config


@pytest.mark.parametrize("neighbours", [1, 5])
def test_each_item_listens_to_its_nearest_only(neighbours: int, task: RankingTask, planted: PlantedGraph) -> None:
    ranker, _ = ItemKnnRanker.fit(task, ItemKnnConfig(neighbours=neighbours))
    similar = ranker.similar(np.arange(80)).numpy()
    exact = cosines(planted.train, 80)
    assert ((similar > 0).sum(axis=1) <= neighbours).all()
    # Which of several equally near items is kept is left open; how near they are is not.
    best = np.sort(exact, axis=1)[:, ::-1][:, :neighbours]
    np.testing.assert_allclose(np.sort(similar, axis=1)[:, ::-1][:, :neighbours], best, atol=1e-5)
    kept = similar > 0
    np.testing.assert_allclose(similar[kept], exact[kept], atol=1e-5)
    # The item that is scored keeps the neighbours, not the item of the history.
    np.testing.assert_allclose(ranker.fold_in(sp.csr_matrix(np.eye(80))), similar.T, atol=1e-6)


def test_item_knn_follows_new_events_at_once(task: RankingTask, planted: PlantedGraph) -> None:
    ranker, _ = ItemKnnRanker.fit(task, ItemKnnConfig())
    grown = sp.vstack([planted.train[:-1], planted.train[3] + planted.train[-1]], format="csr")
    updated = ranker.update(grown, np.array([119]))
    assert torch.equal(updated.score(np.array([119])), ranker.fold_in(grown[119]))
    assert torch.equal(updated.score(EVERYBODY[:-1]), ranker.score(EVERYBODY[:-1]))


def test_popularity_counts_users(task: RankingTask, planted: PlantedGraph) -> None:
    ranker, _ = PopularityRanker.fit(task, PopularityConfig())
    counts = planted.train.toarray().sum(axis=0)
    for scores in (ranker.score(np.array([0, 9])), ranker.fold_in(planted.train[:2]), ranker.similar(np.array([4, 5]))):
        np.testing.assert_array_equal(scores, np.stack([counts, counts]))
    grown = sp.vstack([planted.train, planted.train[:1]], format="csr")
    updated = ranker.update(grown, np.array([120]))
    np.testing.assert_array_equal(updated.score(np.array([120]))[0], counts + planted.train[0].toarray()[0])


def test_rankers_without_vectors_say_who_has_them(task: RankingTask, planted: PlantedGraph) -> None:
    for ranker, config in ((ItemKnnRanker, ItemKnnConfig()), (PopularityRanker, PopularityConfig())):
        fitted, _ = ranker.fit(task, config)
        with pytest.raises(UnsupportedError, match="'neural' has"):
            fitted.vectors("user")
        with pytest.raises(UnsupportedError, match="'neural' can"):
            fitted.attach(planted.features, planted.features, 80)
        assert not fitted.capabilities


def test_every_ranker_is_found_by_its_name() -> None:
    assert {name: ranker.name for name, ranker in RANKERS.items()} == {name: name for name in RANKERS}
    assert set(RANKERS) == {"neural", "ease", "graph-filter", "item-knn", "content-knn", "popularity"}


def test_no_neighbours_is_refused() -> None:
    with pytest.raises(ConfigError, match="neighbours"):
        ItemKnnConfig(neighbours=0)
