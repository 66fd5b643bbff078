import logging

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation import Evaluation, evaluate_rankings, find_hits

# Four users, five items; everybody's scores fall from item 0 to item 4.
SCORES = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0]])
TEST = sp.csr_matrix(np.array([[0, 1, 0, 0, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]]))
TRAIN = sp.csr_matrix(np.array([[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]))


def same_for_all(user_index: Tensor) -> Tensor:
    return SCORES.expand(len(user_index), -1)


def test_worked_example() -> None:
    evaluation = evaluate_rankings(same_for_all, TEST, mask=TRAIN, metrics=["recall@2", "ndcg@2", "mrr@3", "auc"])
    assert evaluation.num_users == 3
    assert evaluation.user_index.tolist() == [0, 1, 3]  # user 2 has nothing to find
    assert evaluation.top_items.tolist() == [[1, 2, 3], [0, 3, 4], [0, 1, 2]]
    assert evaluation.per_user["recall@2"].tolist() == [0.5, 1.0, 0.0]
    assert evaluation.values["recall@2"] == pytest.approx(0.5)
    ideal_of_two = 1 + 1 / np.log2(3)
    assert evaluation.values["ndcg@2"] == pytest.approx((1 / ideal_of_two + 1 + 0) / 3)
    assert evaluation.values["mrr@3"] == pytest.approx((1 + 1 + 0) / 3)
    assert evaluation.per_user["auc"].tolist() == [0.5, 1.0, 0.25]


def test_masked_items_never_appear_and_hidden_test_pairs_are_misses(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        evaluation = evaluate_rankings(same_for_all, TEST, mask=TEST, metrics=["recall@5", "auc"])
    assert evaluation.values == {"recall@5": 0.0, "auc": 0.0}
    assert evaluation.top_items[0].tolist() == [0, 2, 3, -1, -1]
    assert "4 of 4 test pairs are hidden" in caplog.text


def test_candidates_restrict_the_ranking_and_the_test(caplog: pytest.LogCaptureFixture) -> None:
    cold = np.array([False, False, False, True, True])
    with caplog.at_level(logging.INFO):
        evaluation = evaluate_rankings(same_for_all, TEST, candidates=torch.from_numpy(cold), metrics=["recall@1"])
    assert evaluation.user_index.tolist() == [0, 3]
    assert evaluation.top_items.tolist() == [[3], [3]]
    assert evaluation.per_user["recall@1"].tolist() == [0.0, 1.0]
    assert "2 of 4 test pairs are of items that are no candidates" in caplog.text


@pytest.mark.parametrize("kind", [sp.coo_matrix, sp.csc_matrix, sp.csc_array])
def test_the_format_of_the_matrices_does_not_matter(kind) -> None:
    expected = evaluate_rankings(same_for_all, TEST, mask=TRAIN, metrics=["recall@2"])
    evaluation = evaluate_rankings(same_for_all, kind(TEST), mask=kind(TRAIN), metrics=["recall@2"])
    assert evaluation.top_items.tolist() == expected.top_items.tolist()
    assert evaluation.values == expected.values


def test_users_subset(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        evaluation = evaluate_rankings(same_for_all, TEST, users=torch.tensor([3, 2, 1, 1]), metrics=["recall@1"])
    assert evaluation.user_index.tolist() == [1, 3]
    assert "1 of 3 users have no test item" in caplog.text


@pytest.mark.parametrize("block_size", [1, 7, 64])
def test_blocks_do_not_change_the_outcome_and_bound_the_memory(block_size: int) -> None:
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.random((50, 30)))
    test, train = (sp.csr_matrix(rng.random((50, 30)) < 0.1) for _ in range(2))
    asked: list[int] = []

    def score(user_index: Tensor) -> Tensor:
        asked.extend(user_index.tolist())
        assert len(user_index) <= block_size
        return scores[user_index]

    names = ["recall@5", "ndcg@10", "map@10", "auc"]
    blocked = evaluate_rankings(score, test, mask=train, metrics=names, block_size=block_size)
    # The same from a dense table of everything.
    dense = scores.numpy().copy()
    dense[train.toarray()] = -np.inf
    users = np.flatnonzero(test.getnnz(axis=1))
    order = np.argsort(-dense[users], axis=1)[:, :5]
    recall = np.take_along_axis(test.toarray()[users], order, axis=1).sum(axis=1) / test.getnnz(axis=1)[users]
    assert asked == users.tolist()
    np.testing.assert_allclose(blocked.per_user["recall@5"], recall)
    np.testing.assert_array_equal(blocked.top_items[:, :5], order)
    whole = evaluate_rankings(lambda user_index: scores[user_index], test, mask=train, metrics=names, block_size=50)
    assert blocked.values == pytest.approx(whole.values)


def test_k_beyond_the_catalogue() -> None:
    evaluation = evaluate_rankings(same_for_all, TEST, metrics=["recall@100", "precision@100"])
    assert evaluation.values["recall@100"] == 1.0
    assert evaluation.per_user["precision@100"].tolist() == [0.02, 0.01, 0.01]
    assert evaluation.top_items.shape == (3, 5)


def test_weights_and_repeated_entries_do_not_count_twice() -> None:
    twice = sp.csr_matrix((np.array([0.0, 5.0]), np.array([0, 0]), np.array([0, 2])), shape=(1, 5))
    assert evaluate_rankings(same_for_all, twice, metrics=["recall@1"]).values == {"recall@1": 1.0}
    assert twice.nnz == 2  # and the matrix handed in is left alone


def test_nothing_to_evaluate() -> None:
    evaluation = evaluate_rankings(same_for_all, sp.csr_matrix((4, 5)), metrics=["recall@1", "auc"])
    assert evaluation.num_users == 0
    assert np.isnan(list(evaluation.values.values())).all()


def test_frame_and_text() -> None:
    evaluation = Evaluation(
        {"recall@20": 0.5, "auc": 0.75},
        {"recall@20": np.array([0.0, 1.0]), "auc": np.array([0.75, 0.75])},
        np.array([3, 8]),
        np.array([[1], [2]]),
    )
    frame = evaluation.to_frame()
    assert frame["metric"].tolist() == ["recall@20", "auc"]
    assert frame["value"].tolist() == [0.5, 0.75]
    assert frame["standard_error"].tolist() == pytest.approx([0.5, 0.0])
    assert frame["num_users"].tolist() == [2, 2]
    assert str(evaluation) == "Evaluation of 2 users\n  recall@20  0.5000\n  auc        0.7500"


def test_the_ids_of_the_rows_are_told() -> None:
    evaluation = evaluate_rankings(same_for_all, TEST, users=np.array([3, 0]), user_ids=["a", "b", "c", "d"])
    assert evaluation.user_ids is not None
    assert evaluation.user_ids.tolist() == ["a", "d"]
    assert evaluate_rankings(same_for_all, TEST).user_ids is None
    with pytest.raises(DataError, match="user_ids: 3 ids for the 4 rows"):
        evaluate_rankings(same_for_all, TEST, user_ids=["a", "b", "c"])


def test_find_hits_keeps_rows_apart() -> None:
    relevant = sp.csr_matrix(np.array([[0, 0, 1], [1, 0, 0]]))
    # -1 in the second row must not be read as the last item of the first.
    assert find_hits(np.array([[2, 0], [-1, 0]]), relevant).tolist() == [[True, False], [False, True]]


def test_what_cannot_be_evaluated() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ndcg'"):
        evaluate_rankings(same_for_all, TEST, metrics=["ndgc@20"])
    with pytest.raises(ConfigError, match="name at least one"):
        evaluate_rankings(same_for_all, TEST, metrics=[])
    with pytest.raises(ConfigError, match="block_size"):
        evaluate_rankings(same_for_all, TEST, block_size=0)
    with pytest.raises(DataError, match=r"mask has the shape \(4, 4\)"):
        evaluate_rankings(same_for_all, TEST, mask=TRAIN[:, :4])
    with pytest.raises(DataError, match="candidates must be 5 booleans"):
        evaluate_rankings(same_for_all, TEST, candidates=np.ones(4, dtype=bool))
    with pytest.raises(DataError, match="indices run from 0 to 3"):
        evaluate_rankings(same_for_all, TEST, users=np.array([4]))
    with pytest.raises(DataError, match="score_block gave"):
        evaluate_rankings(lambda user_index: SCORES, TEST)
    with pytest.raises(DataError, match="not Tensor; of a matrix, lambda"):
        evaluate_rankings(SCORES.expand(4, -1), TEST)
    with pytest.raises(DataError, match="score_block gave list; a tensor or an array"):
        evaluate_rankings(lambda user_index: same_for_all(user_index).tolist(), TEST)
    with pytest.raises(DataError, match="NaN"):
        evaluate_rankings(lambda user_index: same_for_all(user_index) * float("nan"), TEST)
