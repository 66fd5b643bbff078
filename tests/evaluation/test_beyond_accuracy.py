import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation import evaluate_rankings
from gnnrec.evaluation.beyond_accuracy import (
    average_popularity,
    beyond_accuracy,
    calibration,
    catalogue_coverage,
    exposure,
    intra_list_diversity,
    long_tail_share,
    novelty,
    personalization,
    popularity_lift,
)

with warnings.catch_warnings():  # warns about torch.jit on import
    warnings.simplefilter("ignore")
    from torch_geometric import metrics as pyg

USERS, ITEMS, K = 50, 30, 6
RNG = np.random.default_rng(0)
TOP_ITEMS = np.argsort(RNG.random((USERS, ITEMS)) - np.arange(ITEMS) / 40, axis=1)[:, :K]
POPULARITY = RNG.integers(1, 50, ITEMS)
CATEGORY = RNG.integers(0, 4, ITEMS)


def by_pyg(metric: pyg.LinkPredMetric) -> float:
    metric.update(torch.from_numpy(TOP_ITEMS), torch.empty(2, 0, dtype=torch.int64))
    return float(metric.compute())


def test_coverage_equals_pyg() -> None:
    few = TOP_ITEMS[:3]
    assert catalogue_coverage(TOP_ITEMS, 40) == pytest.approx(by_pyg(pyg.LinkPredCoverage(K, 40)))
    assert catalogue_coverage(few, ITEMS) == len(np.unique(few)) / ITEMS


def test_personalization_equals_pyg() -> None:
    assert personalization(TOP_ITEMS, ITEMS) == pytest.approx(by_pyg(pyg.LinkPredPersonalization(K, None)), abs=1e-6)
    assert personalization(np.array([[1, 2], [2, 1]]), 3) == pytest.approx(0.0)
    assert personalization(np.array([[0, 1], [2, 3]]), 4) == pytest.approx(1.0)
    # Lists of different lengths: the cosine of {0, 1} and {0} is 1/√2; an empty list is left out.
    assert personalization(np.array([[0, 1], [0, -1], [-1, -1]]), 4) == pytest.approx(1 - 1 / np.sqrt(2))
    assert np.isnan(personalization(np.array([[0, 1]]), 4))


def test_average_popularity_equals_pyg() -> None:
    reference = by_pyg(pyg.LinkPredAveragePopularity(K, torch.from_numpy(POPULARITY)))
    assert average_popularity(TOP_ITEMS, POPULARITY).mean() == pytest.approx(reference, rel=1e-6)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_diversity_of_categories_equals_pyg(kind: str) -> None:
    one_hot = np.eye(4)[CATEGORY]
    vectors = sp.csr_matrix(one_hot) if kind == "sparse" else one_hot
    reference = by_pyg(pyg.LinkPredDiversity(K, torch.from_numpy(CATEGORY)))
    assert intra_list_diversity(TOP_ITEMS, vectors).mean() == pytest.approx(reference, abs=1e-6)


def test_diversity_of_vectors_pair_by_pair() -> None:
    vectors = RNG.standard_normal((ITEMS, 5))
    vectors[TOP_ITEMS[0, 0]] = 0  # orthogonal to everything
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    wanted = [
        np.mean([1 - unit[i] @ unit[j] for i in row for j in row if i != j]) for row in TOP_ITEMS
    ]  # an item occurs once in a list
    np.testing.assert_allclose(intra_list_diversity(TOP_ITEMS, vectors), wanted)
    short = np.array([[3, 4, -1], [5, -1, -1]])
    assert intra_list_diversity(short, vectors).tolist() == pytest.approx([1 - unit[3] @ unit[4], np.nan], nan_ok=True)


def test_novelty() -> None:
    # 1 of 8 users know item 0 (3 bits), 4 of 8 item 1 (1 bit), nobody item 2, which counts as one.
    values = novelty(np.array([[0, 1], [2, -1], [-1, -1]]), np.array([1, 4, 0]), 8)
    assert values.tolist() == pytest.approx([2.0, 3.0, np.nan], nan_ok=True)


def test_popularity_bias() -> None:
    popularity = np.array([10, 4, 2, 2, 1])
    top_items = np.array([[0, 1], [0, 2]])
    history = sp.csr_matrix(np.array([[0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]))
    # Lists: 7 and 6; histories: 3 and 1.5.
    assert popularity_lift(top_items, history, popularity) == pytest.approx(6.5 / 2.25 - 1)
    assert long_tail_share(top_items, popularity, head=0.4).tolist() == [0.0, 0.5]
    assert long_tail_share(top_items, popularity).tolist() == [0.5, 0.5]  # the head is item 0
    assert np.isnan(popularity_lift(top_items, sp.csr_matrix((2, 5)), popularity))
    # Who has no history, or no list, is compared with nothing.
    first, nobody = np.array([[1, 0], [0, 0]]), np.array([[0, 1], [-1, -1]])
    assert popularity_lift(top_items, sp.csr_matrix(first @ history.toarray()), popularity) == pytest.approx(7 / 3 - 1)
    assert popularity_lift(nobody, history, popularity) == pytest.approx(7 / 3 - 1)


def test_exposure_ignores_empty_places() -> None:
    assert exposure(np.array([[0, 1], [1, -1]]), 3).tolist() == [1, 2, 0]


def test_calibration() -> None:
    categories = np.array([[1, 0], [0, 2], [1, 1]])  # drama, comedy, both
    history = sp.csr_matrix(np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]]))
    lists = np.array([[0, -1], [1, -1], [2, -1], [0, 1]])
    values = calibration(lists, history, categories)
    # User 0 gets what they like; user 1 the opposite: log(1 / 0.01); user 2 a balance; user 3 has no history.
    assert values.tolist() == pytest.approx([0.0, np.log(100), 0.0, np.nan], nan_ok=True)
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    mixed = 0.99 * q + 0.01 * p
    third = calibration(np.array([[2, 1]]), history[[2]], categories)
    assert third.item() == pytest.approx((p * np.log(p / mixed)).sum())
    np.testing.assert_allclose(calibration(lists, history, sp.csr_matrix(categories)), values)
    stars = sp.csr_matrix(history.multiply([[1, 5, 1]]))  # every stored entry is one pair
    np.testing.assert_allclose(calibration(lists, stars, categories), values)
    with pytest.raises(DataError, match=r"categories: the shape is \(2, 2\)"):
        calibration(lists, history, categories[:2])


def test_all_measures_of_an_evaluation() -> None:
    train = sp.csr_matrix(RNG.random((USERS, ITEMS)) < 0.2)
    test = sp.csr_matrix(RNG.random((USERS, ITEMS)) < 0.1)
    scores = torch.from_numpy(RNG.random((USERS, ITEMS)))
    evaluation = evaluate_rankings(lambda user: scores[user], test, mask=train, metrics=["recall@10"])
    measures = beyond_accuracy(evaluation, train, k=5, categories=np.eye(4)[CATEGORY])
    assert set(measures) == {
        "coverage", "gini", "personalization", "novelty", "diversity", "average_popularity", "popularity_lift",
        "long_tail_share", "calibration",
    }  # fmt: skip
    top_items = evaluation.top_items[:, :5]
    assert measures["average_popularity"] == pytest.approx(train.getnnz(axis=0)[top_items].mean())
    dense = train.toarray().T.astype(float)
    assert measures["diversity"] == pytest.approx(intra_list_diversity(top_items, dense).mean())
    assert measures["calibration"] > 0
    assert np.isfinite(list(measures.values())).all()


def test_lists_of_another_catalogue_are_refused() -> None:
    train = sp.csr_matrix(RNG.random((USERS, ITEMS)) < 0.2)
    scores = torch.from_numpy(RNG.random((USERS, ITEMS)))
    evaluation = evaluate_rankings(lambda user: scores[user], train, metrics=["recall@10"])
    with pytest.raises(DataError, match=r"the lists hold item \d+, but train has 2"):
        beyond_accuracy(evaluation, train[:, :2])
    with pytest.raises(DataError, match=r"the lists hold user \d+, but train has 2"):
        beyond_accuracy(evaluation, train[:2])
    with pytest.raises(DataError, match=r"vectors: the shape is \(3, 2\)"):
        beyond_accuracy(evaluation, train, vectors=np.ones((3, 2)))
    with pytest.raises(DataError, match=r"the lists hold item \d+, but there are 2"):
        intra_list_diversity(evaluation.top_items, np.ones((2, 2)))
    for k in (0, -1, 11):
        with pytest.raises(ConfigError, match="kept 10 places"):
            beyond_accuracy(evaluation, train, k=k)


def test_labels_are_no_matrix() -> None:
    pairs = sp.csr_matrix(RNG.random((USERS, ITEMS)) < 0.3)
    evaluation = evaluate_rankings(lambda user_index: torch.rand(len(user_index), ITEMS), pairs)
    for argument in ("categories", "vectors"):
        with pytest.raises(DataError, match=rf"{argument}: the shape is \(30,\).*np.eye"):
            beyond_accuracy(evaluation, pairs, **{argument: CATEGORY})
    assert beyond_accuracy(evaluation, pairs, categories=np.eye(4)[CATEGORY])["calibration"] >= 0
