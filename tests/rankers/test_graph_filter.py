import numpy as np
import pytest
import scipy.sparse as sp
import torch

import gnnrec as gr
from gnnrec.errors import ConfigError
from gnnrec.rankers import GraphFilterRanker, RankingTask, graph_filter
from gnnrec.rankers.graph_filter import GraphFilterConfig
from gnnrec.testing import PlantedGraph

EVERYBODY = np.arange(120)
CONFIG = GraphFilterConfig(
    factors=6,
    ideal_weight=0.4,
    linear_exponent=0.3,
    user_exponent=0.6,
    ideal_user_exponent=0.8,
    regularisation=0.7,
)


def dense_filters(train: sp.csr_matrix, config: GraphFilterConfig) -> tuple[np.ndarray, np.ndarray]:
    """The filter of histories, and its symmetric form, as items × items matrices."""
    dense = train.toarray().astype(np.float64)
    user_degree, item_degree = (np.maximum(dense.sum(axis=axis), 1) for axis in (1, 0))
    more = (config.regularisation * degree[degree > 0].mean() for degree in (dense.sum(axis=1), dense.sum(axis=0)))
    of_users, of_items = (degree + added for degree, added in zip((user_degree, item_degree), more, strict=True))
    normalised = dense / np.sqrt(np.outer(user_degree**config.user_exponent, item_degree))
    regularised = dense / np.sqrt(np.outer(of_users**config.ideal_user_exponent, of_items))
    basis = np.linalg.svd(regularised)[2][: config.factors].T
    linear, ideal = normalised.T @ normalised, config.ideal_weight * basis @ basis.T
    leaning = item_degree[None, :] / item_degree[:, None]
    return linear * leaning**config.linear_exponent + ideal * np.sqrt(of_items / of_items[:, None]), linear + ideal


@pytest.fixture(scope="module")
def fitted(task: RankingTask) -> GraphFilterRanker:
    return GraphFilterRanker.fit(task, CONFIG)[0]


@pytest.mark.parametrize("cost", [0, 1_000_000])
def test_scores_equal_the_dense_filter(
    fitted: GraphFilterRanker, planted: PlantedGraph, cost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the walks are added up: by looking up each step, or by whole rows."""
    monkeypatch.setattr("gnnrec.rankers.graph_filter._COST_OF_A_LOOKUP", cost)
    expected = planted.train.toarray() @ dense_filters(planted.train, CONFIG)[0]
    np.testing.assert_allclose(fitted.score(EVERYBODY), expected, atol=1e-5)
    np.testing.assert_allclose(fitted.fold_in(planted.train[[5, 2]]), expected[[5, 2]], atol=1e-5)


def test_blocks_of_signals_do_not_matter(
    fitted: GraphFilterRanker, planted: PlantedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fitted.fold_in(planted.train)
    monkeypatch.setattr("gnnrec.rankers.graph_filter._MOST_REACHED", 1)  # 16 at once
    torch.testing.assert_close(fitted.fold_in(planted.train), expected)
    assert fitted.fold_in(planted.train[:0]).shape == (0, 80)


def test_the_filter_as_published(task: RankingTask, planted: PlantedGraph) -> None:
    train = planted.train.toarray().astype(np.float64)
    from_user, from_item = (sp.diags(1 / np.sqrt(np.maximum(train.sum(axis=axis), 1))).toarray() for axis in (1, 0))
    normalised = from_user @ train @ from_item
    top = np.linalg.svd(normalised)[2][:9]
    expected = train @ normalised.T @ normalised + 0.3 * train @ from_item @ top.T @ top @ np.linalg.inv(from_item)
    published = GraphFilterConfig(factors=9, ideal_weight=0.3, linear_exponent=0.0)
    np.testing.assert_allclose(GraphFilterRanker.fit(task, published)[0].score(EVERYBODY), expected, atol=1e-5)


def test_at_one_half_the_linear_filter_is_a_random_walk(task: RankingTask, planted: PlantedGraph) -> None:
    train = planted.train.toarray().astype(np.float64)
    to_item, to_user = (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1) for matrix in (train, train.T))
    config = GraphFilterConfig(factors=0, linear_exponent=0.5)
    walk = GraphFilterRanker.fit(task, config)[0].score(EVERYBODY).numpy() / train.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(walk, to_item @ to_user @ to_item, atol=1e-6)


def test_similar_items_are_rows_of_the_symmetric_filter(fitted: GraphFilterRanker, planted: PlantedGraph) -> None:
    expected = dense_filters(planted.train, CONFIG)[1]
    np.testing.assert_allclose(fitted.similar(np.array([7, 0])), expected[[7, 0]], atol=1e-5)


def test_more_users_than_items_or_fewer_makes_no_difference(planted: PlantedGraph) -> None:
    few = planted.train[:40]
    ranker, _ = GraphFilterRanker.fit(RankingTask(planted.graph, few), CONFIG)
    np.testing.assert_allclose(ranker.score(np.arange(40)), few.toarray() @ dense_filters(few, CONFIG)[0], atol=1e-5)


@pytest.mark.parametrize("num_users", [1, 30, 120])
def test_factors_beyond_the_rank_are_left_out(num_users: int, planted: PlantedGraph) -> None:
    train = planted.train[:num_users]
    rank = np.linalg.matrix_rank(train.toarray())
    config = GraphFilterConfig(factors=79)
    ranker, _ = GraphFilterRanker.fit(RankingTask(planted.graph, train), config)
    assert ranker.basis.shape == (80, rank)
    # All frequencies pass, so histories, which are made of them, come out of the ideal filter as they were.
    linear, _ = GraphFilterRanker.fit(RankingTask(planted.graph, train), GraphFilterConfig(ideal_weight=0.0))
    ideal = ranker.score(np.arange(num_users)) - linear.score(np.arange(num_users))
    np.testing.assert_allclose(ideal, config.ideal_weight * train.toarray(), atol=1e-5)


@pytest.mark.parametrize("most_exact", [256, 0], ids=["few directions", "many directions"])
def test_of_large_graphs_the_leading_vectors_are_found_by_iteration(
    most_exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(4, size=300), rng.integers(4, size=200)
    chosen = rng.random((300, 200)) < np.where(group[0][:, None] == group[1], 0.4, 0.05)
    graph = sp.csr_matrix(chosen.astype(np.float32))
    monkeypatch.setattr(graph_filter, "_FEW", 100)
    monkeypatch.setattr(graph_filter, "_MOST_EXACT", most_exact)
    config = GraphFilterConfig(factors=4, regularisation=0.5)
    basis = graph_filter._leading_tastes(graph, config, seed=0).numpy()
    of_users, of_items = (chosen.sum(axis=axis) for axis in (1, 0))
    raised = np.outer(of_users + of_users.mean() / 2, of_items + of_items.mean() / 2)
    exact = np.linalg.svd(chosen / np.sqrt(raised))[2][:4]  # one direction for each group, far ahead of all others
    np.testing.assert_allclose(basis @ basis.T, exact.T @ exact, atol=1e-3)
    assert abs(basis[:, -1] @ exact[0]) > 0.999  # the widest comes last


def test_few_directions_are_exact_where_singular_values_fall_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sparse log at random no direction is far ahead of the next."""
    graph = sp.random(300, 200, density=0.02, random_state=0, data_rvs=np.ones, format="csr", dtype=np.float32)
    monkeypatch.setattr(graph_filter, "_FEW", 100)
    basis = graph_filter._leading_tastes(graph, GraphFilterConfig(factors=8, regularisation=1.0), seed=0).numpy()
    of_users, of_items = (np.asarray(graph.sum(axis=axis)).ravel() for axis in (1, 0))
    raised = [np.maximum(degree, 1) + graph.nnz / np.count_nonzero(degree) for degree in (of_users, of_items)]
    exact = np.linalg.svd(graph.toarray() / np.sqrt(np.outer(*raised)))[2][:8]
    np.testing.assert_allclose(basis @ basis.T, exact.T @ exact, atol=1e-5)


def test_regularised_degrees_keep_tiny_parts_from_taking_up_directions() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), 75), np.repeat(np.arange(4), 50)
    chosen = rng.random((300, 200)) < np.where(group[0][:, None] == group[1], 0.3, 0.03)
    alone = sp.eye(30)  # people with one item that nobody else has: a singular value of 1 each
    graph = sp.csr_matrix(sp.block_diag([sp.csr_matrix(chosen), alone]).astype(np.float32))
    tastes = np.eye(4)[group[1]] / np.sqrt(50)  # one direction for each group of items

    def heard(regularisation: float) -> float:
        config = GraphFilterConfig(factors=4, regularisation=regularisation)
        basis = graph_filter._leading_tastes(graph, config, seed=0).numpy()
        return float(np.square(basis[:200].T @ tastes).sum() / 4)  # 1: they span the same space

    assert heard(1.0) > 0.9
    assert heard(0.0) < 0.3


def test_one_seed_gives_one_basis(task: RankingTask, fitted: GraphFilterRanker) -> None:
    assert torch.equal(GraphFilterRanker.fit(task, CONFIG)[0].basis, fitted.basis)


def test_new_events_count_at_once_and_the_filter_stays(fitted: GraphFilterRanker, planted: PlantedGraph) -> None:
    grown = sp.vstack([planted.train[:-1], planted.train[3] + planted.train[-1]], format="csr")
    updated = fitted.update(grown, np.array([119]))
    expected = grown.toarray() @ dense_filters(planted.train, CONFIG)[0]
    np.testing.assert_allclose(updated.score(EVERYBODY), expected, atol=1e-5)
    again = GraphFilterRanker.from_state(updated.state())
    assert torch.equal(again.score(EVERYBODY), updated.score(EVERYBODY))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("factors", -1),
        ("ideal_weight", -0.1),
        ("linear_exponent", -1.0),
        ("user_exponent", -1.0),
        ("ideal_user_exponent", -1.0),
        ("regularisation", -0.5),
    ],
)
def test_impossible_options_are_refused(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=option):
        GraphFilterConfig(**{option: value})


@pytest.mark.data
@pytest.mark.parametrize(
    ("dataset", "splitter", "recall"),
    [
        ("ml-100k-multimodal", gr.split.random(0.1, 0.1, seed=0), 0.32),
        pytest.param("tiktok", gr.split.column("x_label"), 0.098, marks=pytest.mark.slow),
    ],
)
def test_the_known_quality_on_validation_pairs(data_dir, dataset, splitter, recall) -> None:
    train, valid, _ = gr.datasets.load(dataset, data_dir=data_dir).split(splitter)
    fitted = gr.Recommender.preset("graph-filter").fit(train, valid=valid, progress=False)
    assert fitted.evaluate(valid, mask="train").values["recall@20"] >= recall
