import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from gnnrec.errors import ConfigError
from gnnrec.graph import neighbours
from gnnrec.graph.neighbours import (
    co_occurrence_edges,
    nearest_neighbours,
    neighbour_shares,
    similarity_edges,
    top_entries_per_row,
)
from gnnrec.modalities.features import Features


def features(values: np.ndarray, owner_index: list[int] | None = None) -> Features:
    owners = np.arange(len(values)) if owner_index is None else np.array(owner_index)
    return Features("plot", "item", np.asarray(values, dtype=np.float32), owners)


def as_dict(edge_index: torch.Tensor, weight: torch.Tensor) -> dict[tuple[int, int], float]:
    """(neighbour, item) → weight; every edge once."""
    pairs = [tuple(pair) for pair in edge_index.T.tolist()]
    assert len(set(pairs)) == len(pairs)
    return dict(zip(pairs, weight.tolist(), strict=True))


@pytest.mark.parametrize("block_entries", [1, 100, 10**6])
@pytest.mark.parametrize("k", [1, 7, 31, 100])
def test_nearest_neighbours_equal_those_of_sklearn(k: int, block_entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK_ENTRIES", block_entries)
    rng = np.random.default_rng(0)
    queries, base = rng.normal(size=(13, 6)).astype(np.float32), rng.normal(size=(31, 6)).astype(np.float32)
    similarity, index = nearest_neighbours(torch.from_numpy(queries), torch.from_numpy(base), k)
    distance, expected = NearestNeighbors(metric="cosine", algorithm="brute").fit(base).kneighbors(queries, min(k, 31))
    np.testing.assert_array_equal(index.numpy(), expected)
    np.testing.assert_allclose(similarity.numpy(), 1 - distance, atol=1e-5)


@pytest.mark.parametrize(
    "find",
    [
        lambda k: nearest_neighbours(torch.ones(2, 2), torch.ones(2, 2), k),
        lambda k: co_occurrence_edges(sp.csr_matrix((2, 2)), k),
    ],
)
def test_the_number_of_neighbours_is_positive(find) -> None:
    with pytest.raises(ConfigError, match="positive, not 0"):
        find(0)


@pytest.mark.parametrize("block_entries", [1, 50, 10**6])
def test_similarity_edges_equal_those_of_sklearn(block_entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK_ENTRIES", block_entries)
    values = np.random.default_rng(1).normal(size=(25, 4))
    distance, index = NearestNeighbors(metric="cosine", algorithm="brute").fit(values).kneighbors(values, 6)
    expected = {
        (int(neighbour), item): 1 - distance[item, rank]
        for item in range(25)
        for rank, neighbour in enumerate(index[item])
        if neighbour != item and distance[item, rank] < 1
    }
    assert as_dict(*similarity_edges(features(values), 5)) == pytest.approx(expected, abs=1e-5)


def test_vectors_that_point_apart_are_no_neighbours() -> None:
    values = np.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]])
    edges = as_dict(*similarity_edges(features(values), 2))
    assert edges.keys() == {(0, 1), (1, 0)}


def test_identical_items_never_link_to_themselves_nor_get_too_many() -> None:
    edge_index, weight = similarity_edges(features(np.ones((9, 3))), 4)
    edges = as_dict(edge_index, weight)
    assert not any(source == target for source, target in edges)
    assert torch.bincount(edge_index[1]).tolist() == [4] * 9
    assert list(edges.values()) == pytest.approx([1.0] * 36)


def test_several_rows_of_an_item_count_as_their_mean_direction() -> None:
    # Item 5 has a long row along x and a short one along y: its direction is the diagonal.
    values = np.array([[1.0, 0.0], [1.0, 1.0], [100.0, 0.0], [0.0, 0.5]])
    edges = as_dict(*similarity_edges(features(values, [2, 3, 5, 5]), 2))
    diagonal = 2**-0.5
    assert edges == pytest.approx(
        {(3, 5): 1, (5, 3): 1, (2, 5): diagonal, (2, 3): diagonal, (3, 2): diagonal, (5, 2): diagonal}
    )


def test_items_without_media_get_no_edge() -> None:
    edge_index, _ = similarity_edges(features(np.ones((2, 3)), [4, 7]), 5)
    assert as_dict(edge_index, torch.ones(2)).keys() == {(4, 7), (7, 4)}
    assert similarity_edges(features(np.ones((1, 3)), [4]), 5)[0].shape == (2, 0)


# Item 1 lies between item 0 and item 2: cosines of .8 and .6; items 0 and 2 are at right angles.
BETWEEN = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])


def test_published_item_graphs_are_normalised_by_both_degrees() -> None:
    edges = as_dict(*similarity_edges(features(BETWEEN), 3, "lattice"))
    degree = [1.8, 2.4, 1.6]
    cosine = {(0, 0): 1, (1, 1): 1, (2, 2): 1, (0, 1): 0.8, (1, 0): 0.8, (1, 2): 0.6, (2, 1): 0.6}
    assert edges == pytest.approx({(i, j): w / np.sqrt(degree[i] * degree[j]) for (i, j), w in cosine.items()})
    # Two neighbours each, the item itself and the nearest other one, and all weigh the same.
    edges = as_dict(*similarity_edges(features(BETWEEN), 2, "freedom"))
    assert edges == pytest.approx(dict.fromkeys([(0, 0), (1, 1), (2, 2), (1, 0), (0, 1), (1, 2)], 0.5))


@pytest.mark.parametrize(
    ("weights", "k", "index", "share", "own"),
    [
        ("cosine", 2, [1, 0], [1 / 1.8, 0.8 / 1.8], 0.0),
        ("lattice", 3, [1, 0], [1 / 2.8, 0.8 / 2.8], 1 / 2.8),
        ("freedom", 3, [1, 0], [1 / 3, 1 / 3], 1 / 3),
        ("lattice", 1, [1], [0.0], 1.0),  # an item is the first of its own neighbours
        ("freedom", 1, [1], [0.0], 1.0),
    ],
)
def test_new_items_hear_as_known_ones_do(weights, k: int, index: list, share: list, own: float) -> None:
    found = neighbour_shares(torch.tensor(BETWEEN[1:2]), torch.tensor(BETWEEN), k, weights)
    assert found[0].tolist() == [index]
    assert found[1][0].tolist() == pytest.approx(share)
    assert found[2].tolist() == pytest.approx([own])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    density=st.floats(0, 1),
    k=st.integers(1, 6),
    minimum_shared=st.integers(1, 4),
    block_entries=st.sampled_from([1, 20, 4_000_000]),
)
def test_co_occurrence_equals_the_dense_product(
    seed: int, shape: tuple[int, int], density: float, k: int, minimum_shared: int, block_entries: int
) -> None:
    dense = (np.random.default_rng(seed).random(shape) < density).astype(np.float32)
    shared = dense.T @ dense
    np.fill_diagonal(shared, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_BLOCK_ENTRIES", block_entries)
        edge_index, count = co_occurrence_edges(sp.csr_matrix(dense), k, minimum_shared)
    edges = as_dict(edge_index, count)
    for item in range(shape[1]):
        # Most shared users first, ties to the lower neighbour.
        best = [other for other in np.argsort(-shared[item], kind="stable") if shared[item, other] >= minimum_shared]
        expected = {(int(other), item): float(shared[item, other]) for other in best[:k]}
        assert {pair: value for pair, value in edges.items() if pair[1] == item} == expected


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shape=st.tuples(st.integers(0, 8), st.integers(1, 8)), k=st.integers(1, 9))
def test_top_entries_are_the_largest_stored_ones(seed: int, shape: tuple[int, int], k: int) -> None:
    rng = np.random.default_rng(seed)
    # Few levels, so that there are ties; negative entries are stored too.
    dense = rng.integers(-2, 4, size=shape).astype(np.float32)
    row, column, value = top_entries_per_row(sp.csr_matrix(dense), k)
    expected = [
        (place, int(other), entries[other])
        for place, entries in enumerate(dense)
        for other in [other for other in np.argsort(-entries, kind="stable") if entries[other]][:k]
    ]
    assert list(zip(row.tolist(), column.tolist(), value.tolist(), strict=True)) == expected
    # The order in which a row is stored does not matter.
    stored = sp.csr_matrix(dense)
    order = np.lexsort((-stored.indices, np.repeat(np.arange(shape[0]), np.diff(stored.indptr))))
    turned = sp.csr_matrix((stored.data[order], stored.indices[order], stored.indptr), shape)
    for one, other in zip(top_entries_per_row(turned, k), (row, column, value), strict=True):
        np.testing.assert_array_equal(one, other)
