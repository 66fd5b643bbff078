import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnrec.nn.propagate import bipartite_operator, propagate
from gnnrec.rankers import fold_in
from gnnrec.rankers.fold_in import fold_in_by_least_squares, fold_in_by_propagation, tastes_of_histories

NUM_ITEMS, DIM = 9, 4


def random_histories(seed: int, num_people: int = 12, density: float = 0.3) -> np.ndarray:
    histories = np.random.default_rng(seed).random((num_people, NUM_ITEMS)) < density
    histories[2] = False  # somebody without a history
    return histories.astype(np.float32)


def normal(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def test_propagation_is_a_row_of_the_normalised_adjacency_times_the_messages() -> None:
    histories, messages = random_histories(0), normal(NUM_ITEMS, DIM)
    degree = torch.tensor([3, 1, 0, 8, 2, 2, 5, 1, 9])
    length = histories.sum(axis=1, keepdims=True)
    row = histories / np.sqrt(np.maximum(length, 1)) / np.sqrt(np.maximum(degree.numpy(), 1))
    vectors = fold_in_by_propagation(sp.csr_matrix(histories), messages, degree)
    np.testing.assert_allclose(vectors.numpy(), row @ messages.numpy(), atol=1e-6)
    assert not vectors[2].any()


@pytest.mark.parametrize("hops", [1, 3])
def test_known_users_are_their_own_layer_zero_plus_the_fold_in_of_their_history(hops: int) -> None:
    histories = random_histories(1)
    edge_index = torch.from_numpy(np.stack(np.nonzero(histories)))
    x = normal(12 + NUM_ITEMS, DIM)
    propagated, messages = propagate(bipartite_operator(edge_index, 12, NUM_ITEMS), x, hops)
    folded = fold_in_by_propagation(sp.csr_matrix(histories), messages[12:], torch.from_numpy(histories.sum(axis=0)))
    torch.testing.assert_close(x[:12] / (hops + 1) + folded, propagated[:12])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_people=st.integers(3, 12),
    density=st.floats(0, 1),
    block_entries=st.sampled_from([1, DIM**2, 10 * DIM**2, 4_000_000]),
)
def test_least_squares_equal_the_normal_equations_of_each_person(
    seed: int, num_people: int, density: float, block_entries: int
) -> None:
    histories, vectors = random_histories(seed, num_people, density), normal(NUM_ITEMS, DIM, seed=seed % 1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_in, "_BLOCK_ENTRIES", block_entries)
        answer = fold_in_by_least_squares(sp.csr_matrix(histories), vectors, unseen_weight=0.05, ridge=0.1)
    items = vectors.double().numpy()
    for person, history in enumerate(histories):
        chosen = items[history > 0]
        matrix = chosen.T @ chosen + 0.05 * items.T @ items + 0.1 * np.mean((items**2).sum(1)) * np.eye(DIM)
        np.testing.assert_allclose(answer[person], np.linalg.solve(matrix, chosen.sum(axis=0)), atol=1e-4)


def test_the_unit_of_the_item_vectors_plays_no_part() -> None:
    histories, vectors = sp.csr_matrix(random_histories(3)), normal(NUM_ITEMS, DIM)
    scores = [fold_in_by_least_squares(histories, unit * vectors) @ (unit * vectors).T for unit in (0.1, 1.0, 7.0)]
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores[2], scores[1], atol=1e-5, rtol=1e-4)


def test_no_block_of_people_is_too_large() -> None:
    lengths = np.random.default_rng(0).integers(0, 3, size=3000) * 300  # many have no history
    indptr, column = np.append(0, lengths.cumsum()).astype(np.int32), np.zeros(lengths.sum(), dtype=np.int32)
    histories = sp.csr_matrix((np.ones(lengths.sum()), column, indptr))
    assert histories.indptr.dtype == np.int32
    assert histories.nnz * 64**2 > 2**31  # what 32 bits cannot count
    bounds = fold_in._block_bounds(histories, 64)
    assert (bounds[0], bounds[-1]) == (0, 3000)
    room = np.add.reduceat(np.maximum(lengths, 1), bounds[:-1]) * 64**2
    assert room.max() <= fold_in._BLOCK_ENTRIES + 600 * 64**2  # a person is never cut in two
    assert len(room) < 1.5 * room.sum() / fold_in._BLOCK_ENTRIES
    nobody = sp.csr_matrix((100_000, 5))
    assert np.diff(fold_in._block_bounds(nobody, 64)).max() * 64**2 <= fold_in._BLOCK_ENTRIES + 64**2


def test_a_long_history_takes_no_room_for_every_event() -> None:
    items = normal(3000, 64)
    history = sp.csr_matrix(np.ones((1, 3000), dtype=np.float32))
    with torch.profiler.profile(profile_memory=True) as profile:
        fold_in_by_least_squares(history, items)
    assert max(event.self_cpu_memory_usage for event in profile.key_averages()) < 3000 * 64 * 64


def test_others_do_not_share_the_block_of_a_long_history() -> None:
    lengths = [2, 3000, 1, 1, 3000]
    histories = sp.csr_matrix((np.ones(sum(lengths)), np.zeros(sum(lengths)), np.append(0, np.cumsum(lengths))))
    assert fold_in._block_bounds(histories, 64).tolist() == [0, 1, 2, 4, 5]


def test_nobody_asks_for_nothing() -> None:
    nobody = sp.csr_matrix((0, NUM_ITEMS), dtype=np.float32)
    assert fold_in_by_least_squares(nobody, normal(NUM_ITEMS, DIM)).shape == (0, DIM)
    assert fold_in_by_propagation(nobody, normal(NUM_ITEMS, DIM), torch.ones(NUM_ITEMS)).shape == (0, DIM)


def test_tastes_are_two_views_of_a_history() -> None:
    histories = sp.csr_matrix(np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=np.float32))
    directions = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, 1.0], [5.0, 5.0]])
    propagated = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]])
    half = 0.5**0.5
    expected = torch.tensor([[0.6, 0.8, half, half], [0, 0, 0, 0], [0, 1, 0, 1]])
    torch.testing.assert_close(tastes_of_histories(histories, propagated, directions), expected)
