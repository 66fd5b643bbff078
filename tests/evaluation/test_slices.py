import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation import evaluate_rankings
from gnnrec.evaluation.slices import harmonic_mean, sliced

# Item 0 has 4 training events, item 1 has 2, items 2 and 3 are cold; user 3 has 2 events, the others 0 to 2.
TRAIN = sp.csr_matrix(np.array([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 1], [0, 0, 0, 0, 1]]))
TEST = sp.csr_matrix(np.array([[0, 1, 1, 1, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]]))
# Everybody gets the items 0, 1, 2 …, less what they know.
EVALUATION = evaluate_rankings(
    lambda user: torch.arange(5.0, 0.0, -1.0).expand(len(user), -1), TEST, mask=TRAIN, metrics=["recall@2"]
)


def test_item_degree() -> None:
    frame = sliced(EVALUATION, TEST, TRAIN, k=2).set_index("slice")
    assert frame.index.tolist() == ["0", "1–3", "4–10"]
    # Cold: user 0 finds item 2 of 2 and 3, user 1 finds item 2, user 2 finds item 3 (known: 0 and 1).
    assert frame.loc["0", "recall@2"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert frame.loc["1–3", "recall@2"] == 1.0
    assert frame.loc["4–10", "recall@2"] == 1.0
    assert frame["num_users"].tolist() == [3, 3, 1]
    assert frame["num_pairs"].tolist() == [4, 3, 1]
    assert frame.loc["0", "standard_error"] == pytest.approx(np.std([0.5, 1, 1], ddof=1) / np.sqrt(3))
    assert np.isnan(frame.loc["4–10", "standard_error"])


def test_cold_and_warm_with_their_balance() -> None:
    frame = sliced(EVALUATION, TEST, TRAIN, by="cold", k=2)
    assert frame["slice"].tolist() == ["cold", "warm"]
    assert frame["num_pairs"].tolist() == [4, 4]
    assert frame["recall@2"].tolist() == pytest.approx([2.5 / 3, 1.0])
    assert harmonic_mean(frame["recall@2"]) == pytest.approx(2 / (3 / 2.5 + 1))


def test_user_history() -> None:
    frame = sliced(EVALUATION, TEST, TRAIN, by="user history", k=2)
    assert frame["slice"].tolist() == ["1–3"]  # user 3 has no test item
    assert frame["num_users"].item() == EVALUATION.num_users
    assert frame["recall@2"].item() == pytest.approx(EVALUATION.values["recall@2"])


def test_one_slice_equals_the_whole() -> None:
    rng = np.random.default_rng(0)
    test = sp.csr_matrix(rng.random((30, 40)) < 0.1)
    train = sp.csr_matrix(np.ones((30, 40)))
    scores = torch.from_numpy(rng.random((30, 40)))
    evaluation = evaluate_rankings(lambda user: scores[user], test, metrics=["recall@5", "recall@20"])
    frame = sliced(evaluation, test, train, k=5)
    assert frame["slice"].tolist() == ["11–50"]
    assert frame["recall@5"].item() == pytest.approx(evaluation.values["recall@5"])


def test_harmonic_mean() -> None:
    assert harmonic_mean([0.2, 0.2]) == pytest.approx(0.2)
    assert harmonic_mean([0.0, 1.0]) == 0.0
    assert harmonic_mean([]) == 0.0


def test_what_cannot_be_sliced() -> None:
    with pytest.raises(ConfigError, match="cannot slice by 'degree'"):
        sliced(EVALUATION, TEST, TRAIN, by="degree", k=2)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="evaluate a metric such as 'recall@3'"):
        sliced(EVALUATION, TEST, TRAIN, k=3)
    with pytest.raises(ConfigError, match="k=0"):
        sliced(EVALUATION, TEST, TRAIN, k=0)
    with pytest.raises(DataError, match="shape"):
        sliced(EVALUATION, TEST, TRAIN[:4], k=2)
    for rows, columns in ((2, TEST.shape[1]), (TEST.shape[0], 2)):
        with pytest.raises(DataError, match="give the matrix that was evaluated"):
            sliced(EVALUATION, TEST[:rows, :columns], TRAIN[:rows, :columns], k=2)


@pytest.mark.parametrize("kind", [sp.coo_matrix, sp.csc_matrix])
def test_the_format_of_the_matrices_does_not_matter(kind) -> None:
    expected = sliced(EVALUATION, TEST, TRAIN, k=2)
    pd.testing.assert_frame_equal(sliced(EVALUATION, kind(TEST), kind(TRAIN), k=2), expected)


def test_a_pair_that_is_stored_twice_is_one() -> None:
    test, train = (sp.csr_matrix((np.ones(2), [0, 0], [0, 2]), (1, 3)) for _ in range(2))
    evaluation = evaluate_rankings(lambda user: torch.tensor([[3.0, 2.0, 1.0]]), test, metrics=["recall@2"])
    frame = sliced(evaluation, test, train, k=2)
    assert frame[["slice", "num_pairs", "recall@2"]].values.tolist() == [["1–3", 1, 1.0]]
    assert test.nnz == 2  # what was given stays as it is


def test_lists_may_be_asked_to_be_longer_than_the_catalogue() -> None:
    whole = evaluate_rankings(lambda user: torch.ones(len(user), 5), TEST, metrics=["recall@9"])
    frame = sliced(whole, TEST, TRAIN, by="cold", k=9)
    assert frame["recall@9"].tolist() == [1, 1]
