"""Ranking by a guessed bound, against a full sort; catalogues are just large enough for it to be used."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnrec.errors import DataError
from gnnrec.retrieval import top_k
from gnnrec.selection import pruning
from gnnrec.selection.pruning import Sample, best_above_guess

NUM_QUERIES, NUM_ITEMS, K = 20, 6000, 10
INF = float("inf")


def by_full_sort(scores, k=K):
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(scores, order, axis=1)
    return values, np.where(values == -INF, -1, order)


def whole_numbers(levels, seed=0):
    """Vectors whose products are exact, and tie the more often, the fewer levels there are."""
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(-levels, levels + 1, (rows, 4)).astype(np.float32) for rows in (NUM_QUERIES, NUM_ITEMS))


def ascending():
    """Every item is better than all before it."""
    return np.ones((NUM_QUERIES, 1), np.float32), np.arange(NUM_ITEMS, dtype=np.float32)[:, None]


def peaked():
    """All items tie but a few in odd places, which the sample need not hold."""
    items = np.zeros((NUM_ITEMS, 1), np.float32)
    items[[7, 4000, 5999], 0] = [3, 1, 2]
    return np.ones((NUM_QUERIES, 1), np.float32), items


CATALOGUES = {
    "few ties": whole_numbers(1000),
    "many ties": whole_numbers(3),
    "ascending": ascending(),
    "peaked": peaked(),
    "all the same": (np.ones((NUM_QUERIES, 2), np.float32), np.ones((NUM_ITEMS, 2), np.float32)),
}


@pytest.fixture
def spied(monkeypatch):
    """Counts the queries that went through pruning, and those that it gave back."""
    counts = {"asked": 0, "given back": 0}

    def counting(queries, *rest):
        answer = best_above_guess(queries, *rest)
        counts["asked"] += len(queries)
        counts["given back"] += len(answer[2])
        return answer

    monkeypatch.setattr("gnnrec.selection.topk.best_above_guess", counting)
    return counts


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("name", CATALOGUES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_a_full_sort(name, filtered, dtype, spied, monkeypatch):
    monkeypatch.setattr(pruning, "_TILE", 1)
    monkeypatch.setattr(pruning, "_MIN_ITEMS", 999)  # tiles that do not divide the catalogue
    queries, items = (rows.astype(dtype) for rows in CATALOGUES[name])
    exclude = allowed = None
    wanted = queries @ items.T
    if filtered:
        rng = np.random.default_rng(5)
        hidden = rng.random(wanted.shape) < 0.1
        hidden |= wanted >= np.sort(wanted, axis=1)[:, -60, None]  # the very best, as seen items are
        exclude, allowed = sp.csr_matrix(hidden, dtype=np.float32), rng.random(NUM_ITEMS) < 0.9
        exclude.data[:] = 0  # being stored is enough
        wanted = np.where(hidden | ~allowed, -INF, wanted)
    scores, index = top_k(queries, items, K, exclude=exclude, allowed=allowed)
    assert spied["asked"] == NUM_QUERIES
    wanted_scores, wanted_index = by_full_sort(wanted)
    np.testing.assert_array_equal(scores.numpy(), wanted_scores)
    np.testing.assert_array_equal(index.numpy(), wanted_index)


def test_a_guess_hardly_ever_fails(spied):
    rng = np.random.default_rng(0)
    queries, items = (rng.normal(size=(rows, 8)).astype(np.float32) for rows in (1000, 10_000))
    for k in (1, 10, 100):
        _, index = top_k(queries, items, k)
        np.testing.assert_array_equal(index[:5].numpy(), by_full_sort(queries[:5] @ items.T, k)[1])
    assert spied["asked"] == 3000
    assert spied["given back"] <= 6


def test_a_guess_that_fails_costs_nothing_but_time(monkeypatch):
    queries, items = whole_numbers(1000)
    monkeypatch.setattr("gnnrec.selection.topk.Sample.draw", lambda items, k: Sample(items[:100], rank=1))
    exclude = sp.csr_matrix(np.random.default_rng(1).random((NUM_QUERIES, NUM_ITEMS)) < 0.2)
    _, _, given_back = best_above_guess(
        *map(torch.from_numpy, (queries, np.sort(items, axis=0)[::-1].copy())), K, Sample(np.arange(100), rank=1)
    )
    assert len(given_back) > 0
    _, index = top_k(queries, items[::-1].copy(), K, exclude=exclude)
    wanted = np.where(exclude.toarray(), -INF, queries @ items[::-1].T)
    np.testing.assert_array_equal(index.numpy(), by_full_sort(wanted)[1])


def test_fewer_permitted_items_than_asked_for():
    queries, items = whole_numbers(1000)
    hidden = np.ones((NUM_QUERIES, NUM_ITEMS), dtype=bool)
    hidden[:10, 77] = hidden[:10, 5003] = False
    hidden[10:, 100:200] = False
    scores, index = top_k(queries, items, K, exclude=sp.csr_matrix(hidden))
    wanted_scores, wanted_index = by_full_sort(np.where(hidden, -INF, queries @ items.T))
    np.testing.assert_array_equal(scores.numpy(), wanted_scores)
    np.testing.assert_array_equal(index.numpy(), wanted_index)


def test_infinite_scores_are_ranked():
    queries, items = np.ones((NUM_QUERIES, 1), np.float32), np.arange(NUM_ITEMS, dtype=np.float32)[:, None]
    items[100:3100] = INF
    items[3200:] = -INF
    scores, index = top_k(queries, items, K)
    assert (scores == INF).all()
    assert index.tolist() == [list(range(100, 110))] * NUM_QUERIES


@pytest.mark.parametrize("place", [0, 3333])
def test_nan_is_refused_unless_hidden(place):
    queries, items = whole_numbers(1000)
    items[place] = np.nan
    with pytest.raises(DataError, match="NaN"):
        top_k(queries, items, K)
    allowed = np.ones(NUM_ITEMS, dtype=bool)
    allowed[place] = False
    assert (top_k(queries, items, K, allowed=allowed)[1] >= 0).all()
    column = sp.csr_matrix(
        (np.ones(NUM_QUERIES), (np.arange(NUM_QUERIES), np.full(NUM_QUERIES, place))), shape=(NUM_QUERIES, NUM_ITEMS)
    )
    assert (top_k(queries, items, K, exclude=column)[1] >= 0).all()


def test_every_nan_of_the_sample_is_refused():
    queries, items = whole_numbers(1000)
    items[:] = np.nan
    with pytest.raises(DataError, match="NaN"):
        top_k(queries, items, K)


@pytest.mark.parametrize("block_size", [None, 3])
def test_the_number_of_threads_changes_nothing(block_size):
    queries, items = whole_numbers(3)
    exclude = sp.csr_matrix(np.random.default_rng(1).random((NUM_QUERIES, NUM_ITEMS)) < 0.1)
    before = torch.get_num_threads()
    answers = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with torch.inference_mode():  # which threads do not inherit
                answers.append(top_k(torch.from_numpy(queries), items, K, exclude=exclude, block_size=block_size))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for one, three in zip(*answers, strict=True):
        assert torch.equal(one, three)


def test_vectors_that_are_learned_are_ranked_like_others():
    queries, items = map(torch.from_numpy, whole_numbers(1000))
    _, index = top_k(queries.clone().requires_grad_(), items.clone().requires_grad_(), K)
    assert torch.equal(index, top_k(queries, items, K)[1])


@pytest.mark.parametrize(("num_items", "k"), [(4095, 1), (10_000, 3000)])
def test_no_sample_where_guessing_does_not_pay(num_items, k):
    assert Sample.draw(np.arange(num_items), k) is None
