import numpy as np
import pytest
import scipy.sparse as sp
import torch

import gnnrec as gr
from gnnrec.errors import ConfigError
from gnnrec.rankers import EaseRanker, RankingTask
from gnnrec.rankers.ease import EaseConfig
from gnnrec.testing import PlantedGraph

EVERYBODY = np.arange(120)


def ridge_without_the_item_itself(train: np.ndarray, l2: float) -> np.ndarray:
    """Column j holds the weights of the ridge regression of item j on all other items."""
    num_items = train.shape[1]
    weights = np.zeros((num_items, num_items))
    for item in range(num_items):
        others = np.arange(num_items) != item
        x = train[:, others]
        weights[others, item] = np.linalg.solve(x.T @ x + l2 * np.eye(num_items - 1), x.T @ train[:, item])
    return weights


@pytest.fixture(scope="module")
def fitted(task: RankingTask) -> EaseRanker:
    return EaseRanker.fit(task, EaseConfig(l2=7.0))[0]


@pytest.fixture(scope="module")
def weights(planted: PlantedGraph) -> np.ndarray:
    return ridge_without_the_item_itself(planted.train.toarray().astype(np.float64), 7.0)


def test_the_closed_form_is_a_ridge_regression_of_each_item_on_the_others(fitted, weights) -> None:
    np.testing.assert_allclose(fitted.weights, weights, atol=1e-5)
    assert (fitted.weights.diagonal() == 0).all()
    assert fitted.weights.dtype == torch.float32


def test_scores_are_histories_times_weights(fitted, weights, planted: PlantedGraph) -> None:
    expected = planted.train.toarray() @ weights
    np.testing.assert_allclose(fitted.score(EVERYBODY), expected, atol=1e-5)
    np.testing.assert_allclose(fitted.fold_in(planted.train[[5, 2]]), expected[[5, 2]], atol=1e-5)


def test_similar_items_are_partial_cosines(fitted, planted: PlantedGraph) -> None:
    train = planted.train.toarray().astype(np.float64)
    precision = np.linalg.inv(train.T @ train + 7.0 * np.eye(80))
    expected = -precision / np.sqrt(np.outer(precision.diagonal(), precision.diagonal()))
    np.fill_diagonal(expected, 0)
    similar = fitted.similar(np.arange(80))
    np.testing.assert_allclose(similar, expected, atol=1e-5)
    np.testing.assert_allclose(similar, similar.T, atol=1e-6)
    assert (similar < 0).any()


def test_a_stronger_l2_leaves_co_occurrence_counts(task: RankingTask, planted: PlantedGraph) -> None:
    ranker, _ = EaseRanker.fit(task, EaseConfig(l2=1e5))
    shared = (planted.train.T @ planted.train).toarray()
    np.fill_diagonal(shared, 0)
    np.testing.assert_allclose(ranker.weights * 1e5, shared, atol=0.02)


def test_new_events_count_at_once_and_the_weights_stay(fitted, planted: PlantedGraph) -> None:
    grown = sp.vstack([planted.train[:-1], planted.train[3] + planted.train[-1]], format="csr")
    updated = fitted.update(grown, np.array([119]))
    assert torch.equal(updated.score(np.array([119])), fitted.fold_in(grown[119]))
    assert updated.weights is fitted.weights


def test_a_large_catalogue_is_refused_before_memory_is_taken(planted: PlantedGraph) -> None:
    wide = sp.csr_matrix((3, 200_000), dtype=np.float32)
    with pytest.raises(ConfigError, match=r"'maximum_items' is 30000.* 200000 items.* 160\.0 GB.*'graph-filter'"):
        EaseRanker.fit(RankingTask(planted.graph, wide), EaseConfig())


def test_an_l2_below_rounding_is_refused(planted: PlantedGraph) -> None:
    twins = sp.csr_matrix(np.ones((1000, 6), dtype=np.float32))  # items with the same users are of rank one
    with pytest.raises(ConfigError, match="'l2' is too small at 1e-08"):
        EaseRanker.fit(RankingTask(planted.graph, twins), EaseConfig(l2=1e-8))


@pytest.mark.parametrize("option", ["l2", "maximum_items"])
def test_impossible_options_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        EaseConfig(**{option: 0})


@pytest.mark.data
@pytest.mark.parametrize(
    ("dataset", "splitter", "l2", "recall"),
    [
        ("ml-100k-multimodal", gr.split.random(0.1, 0.1, seed=0), 200.0, 0.355),
        pytest.param("tiktok", gr.split.column("x_label"), 50.0, 0.088, marks=pytest.mark.slow),
    ],
)
def test_the_known_quality_on_validation_pairs(data_dir, dataset, splitter, l2, recall) -> None:
    train, valid, _ = gr.datasets.load(dataset, data_dir=data_dir).split(splitter)
    fitted = gr.Recommender.preset("ease", l2=l2).fit(train, valid=valid, progress=False)
    assert fitted.evaluate(valid, mask="train").values["recall@20"] >= recall
