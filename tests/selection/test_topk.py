from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnrec.errors import ConfigError, DataError
from gnnrec.retrieval import top_k, top_k_of_scores

INF = float("inf")


def by_full_sort(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition: sort by score, then by index; forbidden entries are -inf and answered as -1."""
    order = np.lexsort((np.broadcast_to(np.arange(scores.shape[1]), scores.shape), -scores), axis=1)[:, :k]
    values = np.take_along_axis(scores, order, axis=1)
    return values, np.where(values == -INF, -1, order)


def random_pairs(rng: np.random.Generator, shape: tuple[int, int], density: float) -> sp.csr_matrix:
    return sp.csr_matrix(rng.random(shape) < density)


@pytest.mark.parametrize("block_size", [1, 7, 100, None])
@pytest.mark.parametrize("k", [1, 5, 40, 1000])
def test_equals_a_full_sort(block_size: int | None, k: int) -> None:
    rng = np.random.default_rng(0)
    # Small integers: exact products, many ties.
    queries, items = rng.integers(-2, 3, (23, 3)).astype(np.float32), rng.integers(-2, 3, (57, 3)).astype(np.float32)
    exclude = random_pairs(rng, (23, 57), 0.3)
    allowed = rng.random(57) < 0.8
    scores, index = top_k(queries, items, k, exclude=exclude, allowed=allowed, block_size=block_size)
    wanted = np.where(exclude.toarray() | ~allowed, -INF, queries @ items.T)
    wanted_scores, wanted_index = by_full_sort(wanted, k)
    assert scores.shape == (23, min(k, 57))
    np.testing.assert_array_equal(scores.numpy(), wanted_scores)
    np.testing.assert_array_equal(index.numpy(), wanted_index)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 4),
    num_items=st.integers(1, 1500),
    k=st.integers(1, 12),
    levels=st.sampled_from([1, 2, 5, 10**6]),
)
def test_selection_of_any_width_and_any_number_of_ties(
    seed: int, rows: int, num_items: int, k: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (rows, num_items)).astype(np.float64)
    scores[rng.random(scores.shape) < 0.2] = -INF
    values, index = top_k_of_scores(scores, k)
    wanted_values, wanted_index = by_full_sort(scores, k)
    np.testing.assert_array_equal(values.numpy(), wanted_values)
    np.testing.assert_array_equal(index.numpy(), wanted_index)


def test_of_equal_items_the_first_is_chosen_though_a_later_one_stands_beside_the_best() -> None:
    """In a row so wide that whole groups of items are compared first."""
    scores = torch.zeros(1, 1000)
    scores[0, 500], scores[0, [501, 40]] = 2, 1
    assert top_k_of_scores(scores, 2)[1].tolist() == [[500, 40]]


def test_agrees_with_torch_where_nothing_ties() -> None:
    generator = torch.Generator().manual_seed(1)
    queries, items = torch.randn(9, 16, generator=generator), torch.randn(3000, 16, generator=generator)
    scores, index = top_k(queries, items, 10)
    wanted = (queries @ items.T).topk(10)
    np.testing.assert_allclose(scores, wanted.values, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(index, wanted.indices)


def test_too_few_permitted_items_end_in_minus_one() -> None:
    scores, index = top_k_of_scores(
        torch.tensor([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]]),
        2,
        exclude=sp.csr_matrix(np.array([[1, 1, 0], [0, 0, 0]])),
        allowed=torch.tensor([True, True, True]),
    )
    assert scores.tolist() == [[2.0, -INF], [3.0, 2.0]]
    assert index.tolist() == [[2, -1], [2, 1]]


def test_the_scores_handed_in_stay_as_they_were() -> None:
    popularity = torch.arange(4.0).expand(3, 4)  # one row of memory, shared: could not be written to
    _, index = top_k_of_scores(popularity, 1, exclude=sp.csr_matrix(([1.0], ([1], [3])), shape=(3, 4)))
    assert index.tolist() == [[3], [2], [3]]
    assert popularity[0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_read_only_arrays_and_other_precisions() -> None:
    items = np.eye(3, dtype=np.float64)
    items.setflags(write=False)
    scores, index = top_k(np.array([[0.1, 0.3, 0.2]], dtype=np.float32), items, 3)
    assert scores.dtype == torch.float32
    assert index.tolist() == [[1, 2, 0]]


@pytest.mark.parametrize("shape", [(0, 5), (4, 0)])
def test_no_queries_or_no_items(shape: tuple[int, int]) -> None:
    scores, index = top_k(torch.ones(shape[0], 2), torch.ones(shape[1], 2), 3)
    assert scores.shape == index.shape == (shape[0], min(3, shape[1]))


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one(k: int) -> None:
    with pytest.raises(ConfigError, match=f"k must be at least 1, got {k}"):
        top_k(torch.ones(1, 1), torch.ones(1, 1), k)
    with pytest.raises(ConfigError, match="k must be at least 1"):
        top_k_of_scores(torch.ones(1, 1), k)


def test_k_is_an_integer_of_any_kind() -> None:
    with pytest.raises(ConfigError, match=r"k must be an integer, got 2\.5"):
        top_k(torch.ones(1, 1), torch.ones(4, 1), 2.5)
    assert top_k(torch.ones(1, 1), torch.ones(4, 1), np.int64(3))[1].tolist() == [[0, 1, 2]]


def test_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="equal width"):
        top_k(torch.ones(1, 2), torch.ones(1, 3), 1)
    with pytest.raises(DataError, match=r"exclude has the shape \(1, 2\)"):
        top_k(torch.ones(1, 2), torch.ones(3, 2), 1, exclude=sp.csr_matrix((1, 2)))
    with pytest.raises(DataError, match="exclude has the shape"):
        top_k_of_scores(torch.ones(1, 3), 1, exclude=sp.csr_matrix((1, 2)))
    with pytest.raises(DataError, match="3 booleans"):
        top_k_of_scores(torch.ones(1, 3), 1, allowed=torch.ones(2, dtype=torch.bool))
    with pytest.raises(DataError, match="NaN"):
        top_k_of_scores(torch.tensor([[1.0, float("nan"), 2.0]]), 2)
    with pytest.raises(DataError, match="matrix"):
        top_k_of_scores(torch.ones(3), 1)
    with pytest.raises(ConfigError, match="block_size"):
        top_k(torch.ones(1, 2), torch.ones(3, 2), 1, block_size=0)


def test_hidden_pairs_may_come_in_any_sparse_form():
    scores = np.arange(9.0, dtype=np.float32).reshape(3, 3)
    hidden = sp.csc_matrix(([1.0], ([0], [2])), shape=(3, 3))
    assert top_k_of_scores(scores, 1, exclude=hidden)[1].ravel().tolist() == [1, 2, 2]
    assert top_k(scores, np.eye(3, dtype=np.float32), 1, exclude=hidden)[1].ravel().tolist() == [1, 2, 2]


def test_nan_beside_a_tie_is_refused():
    with pytest.raises(DataError, match="NaN"):
        top_k_of_scores(torch.tensor([[float("nan"), 1.0, 1.0, 1.0]]), 2)


def test_whole_numbers_are_scores_too() -> None:
    counts = np.array([[3, 1, 2]])
    allowed, seen = np.array([False, True, True]), sp.csr_matrix(np.array([[0, 0, 1]]))
    scores, index = top_k_of_scores(counts, 3, allowed=allowed, exclude=seen)
    assert (scores.tolist(), index.tolist()) == ([[1, -INF, -INF]], [[1, -1, -1]])
    assert top_k_of_scores(torch.from_numpy(counts), 2)[1].tolist() == [[0, 2]]


def test_large_whole_numbers_keep_their_order() -> None:
    counts = np.array([[2**24, 2**24 + 1]])  # equal in single precision
    assert top_k_of_scores(counts, 1)[1].tolist() == [[1]]


def test_threads_to_come_are_as_free_as_before() -> None:
    torch.set_num_threads(2)
    try:
        top_k_of_scores(torch.zeros(5000, 500), 1)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(1)
