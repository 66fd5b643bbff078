"""The closed form of chance against rankings in random order; the order in which pairs came."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnrec.evaluation import evaluate_rankings, expected_at_random
from gnnrec.evaluation.cold_start import arrivals

RNG = np.random.default_rng(0)
TEST = sp.csr_matrix((RNG.random((6, 12)) < 0.3).astype(np.float32))
MASK = sp.csr_matrix((RNG.random((6, 12)) < 0.2).astype(np.float32))  # hides some test pairs too
CANDIDATES = np.arange(12) % 3 > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("candidates", [None, CANDIDATES])
@pytest.mark.parametrize("k", [3, 9])
def test_chance_is_the_mean_over_random_orders(mask, candidates, k):
    """3,000 orders for every user, as 3,000 copies of the users."""
    times = 3000
    copies = [None if one is None else sp.vstack([one] * times, "csr") for one in (TEST, mask)]

    def score(user_index: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(RNG.random((len(user_index), 12)))

    drawn = evaluate_rankings(
        score, copies[0], mask=copies[1], candidates=candidates, metrics=[f"recall@{k}", f"ndcg@{k}"]
    )
    expected = expected_at_random(TEST, mask=mask, candidates=candidates, k=k)
    np.testing.assert_array_equal(expected.user_index, drawn.user_index[: expected.num_users])
    for name, values in expected.per_user.items():
        means = drawn.per_user[name].reshape(times, -1).mean(axis=0)
        np.testing.assert_allclose(values, means, atol=0.03)
        assert expected.values[name] == pytest.approx(values.mean())


def test_pairs_come_in_the_order_of_time_and_repeats_count_once():
    user, item = np.array([0, 1, 0, 0, 0, 2]), np.array([3, 3, 1, 2, 3, 0])
    time = np.array([5.0, 1.0, 2.0, 9.0, 1.0, 0.0])
    of_users = arrivals(user, item, time, (3, 4), of="user", more_than=1)
    assert of_users.first(1).nonzero() == (np.array([0]), np.array([3]))  # at time 1, not 5
    assert of_users.first(2).nonzero()[1].tolist() == [1, 3]
    assert of_users.after(2).nonzero()[1].tolist() == [2]
    of_items = arrivals(user, item, time, (3, 4), of="item", more_than=1)
    assert of_items.first(9).nonzero()[0].tolist() == [0, 1]  # item 3 alone has two pairs
    assert set(of_items.place) == {0, 1}


def test_without_time_the_order_is_random_and_always_the_same():
    user, item = np.repeat(np.arange(50), 4), np.tile(np.arange(4), 50)
    one, same = (arrivals(user, item, None, (50, 4), of="user", more_than=3).first(1).nonzero()[1] for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert set(one) == {0, 1, 2, 3}


def test_a_hidden_item_that_is_not_offered_takes_no_place():
    offered = np.arange(12) % 4 > 0
    times = 3000

    def score(user_index: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.where(offered, RNG.random((len(user_index), 12)), -np.inf))

    pairs, mask = (sp.vstack([one] * times, "csr") for one in (TEST - TEST.multiply(MASK), MASK))
    drawn = evaluate_rankings(score, pairs, mask=mask, metrics=["recall@3"]).per_user["recall@3"]
    expected = expected_at_random(TEST - TEST.multiply(MASK), mask=MASK, offered=offered, k=3).per_user["recall@3"]
    np.testing.assert_allclose(expected, drawn.reshape(times, -1).mean(axis=0), atol=0.03)
