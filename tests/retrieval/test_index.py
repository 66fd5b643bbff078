"""What the index finds, against brute force."""

import sys

import numpy as np
import pytest
import torch

from gnnrec.errors import ConfigError, DataError, MissingPackageError
from gnnrec.retrieval import ItemIndex

APPROXIMATE = ["ivf", "hnsw"]


def clustered(num_rows, dim=16, seed=0):
    """Unit vectors around 40 centres."""
    centres = np.random.default_rng(7).normal(size=(40, dim))
    rng = np.random.default_rng(seed)
    rows = centres[rng.integers(40, size=num_rows)] + 0.5 * rng.normal(size=(num_rows, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


ITEMS, QUERIES = clustered(5000), clustered(50, seed=1)


@pytest.fixture(scope="module", params=["exact", *APPROXIMATE])
def index(request):
    if request.param != "exact":
        pytest.importorskip("faiss")
    return ItemIndex(ITEMS, request.param)


def brute_force(items=ITEMS, queries=QUERIES, k=10):
    scores = queries @ items.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def test_finds_what_brute_force_finds(index):
    scores, found = index.search(QUERIES, 10)
    wanted_scores, wanted = brute_force()
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]
    assert np.mean(shared) == pytest.approx(index.recall(QUERIES, 10), abs=0.005)
    assert index.recall(QUERIES, 10) > 0.95
    if index.kind == "exact":
        assert found.tolist() == wanted.tolist()
    # The scores are not those of half precision.
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", QUERIES, ITEMS[found]), atol=1e-6)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    np.testing.assert_allclose(scores[:, 0], wanted_scores[:, 0], atol=0.1)


@pytest.mark.parametrize("share", [0.6, 0.01])
def test_only_allowed_items_are_answered(index, share):
    allowed = np.random.default_rng(3).random(len(ITEMS)) < share
    _, found = index.search(QUERIES, 10, allowed=allowed)
    assert allowed[found].all()
    wanted = np.flatnonzero(allowed)[brute_force(ITEMS[allowed])[1]]
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]
    assert np.mean(shared) > 0.95


@pytest.mark.parametrize("share", [0.6, 0.01])
@pytest.mark.parametrize("given", [list, torch.from_numpy])
def test_allowed_items_may_be_a_list_or_a_tensor(index, share, given):
    allowed = np.random.default_rng(3).random(len(ITEMS)) < share
    wanted = index.search(QUERIES, 10, allowed=allowed)[1]
    assert index.search(QUERIES, 10, allowed=given(allowed))[1].tolist() == wanted.tolist()


def test_too_few_items_end_in_minus_one(index):
    allowed = np.zeros(len(ITEMS), dtype=bool)
    allowed[[5, 9]] = True
    scores, found = index.search(QUERIES[:3], 4, allowed=allowed)
    assert scores.shape == found.shape == (3, 4)
    assert (np.sort(found[:, :2], axis=1) == [5, 9]).all()
    assert (found[:, 2:] == -1).all()
    assert (scores[:, 2:] == -np.inf).all()


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_more_effort_finds_more(kind):
    pytest.importorskip("faiss")
    hard = np.random.default_rng(0).normal(size=(4000, 32)).astype(np.float32)
    hard /= np.linalg.norm(hard, axis=1, keepdims=True)
    index = ItemIndex(hard[:-50], kind, effort=1)
    little = index.recall(hard[-50:])
    index.effort = 400
    assert little < 0.8 < 0.99 < index.recall(hard[-50:])


@pytest.mark.parametrize("kind", ["exact", *APPROXIMATE])
@pytest.mark.parametrize("num_items", [0, 1, 7])
def test_a_handful_of_items(kind, num_items):
    pytest.importorskip("faiss")
    scores, found = ItemIndex(ITEMS[:num_items], kind, version=3).search(QUERIES[:2], 10)
    assert scores.shape == found.shape == (2, num_items)
    if num_items:
        assert found.tolist() == brute_force(ITEMS[:num_items], QUERIES[:2])[1].tolist()


def test_it_knows_its_version_and_size():
    index = ItemIndex(ITEMS, version=3)
    assert (len(index), index.version, index.kind) == (5000, 3, "exact")


def test_bad_input():
    with pytest.raises(ConfigError, match="exact, ivf, hnsw, not 'annoy'"):
        ItemIndex(ITEMS, "annoy")
    with pytest.raises(ConfigError, match="effort must be at least 1, got 0"):
        ItemIndex(ITEMS, effort=0)
    for wrong in (ITEMS[0], np.full((2, 2), np.nan), np.zeros((2, 0))):
        with pytest.raises(DataError, match="matrix of finite numbers"):
            ItemIndex(wrong)


def test_bad_queries(index):
    with pytest.raises(ConfigError, match="k must be at least 1"):
        index.search(QUERIES, 0)
    with pytest.raises(DataError, match=r"wide|width"):
        index.search(QUERIES[:, :3], 5)
    with pytest.raises(DataError, match="allowed must be 5000 booleans"):
        index.search(QUERIES, 5, allowed=np.ones(3, dtype=bool))


def test_queries_and_vectors_that_are_no_numbers(index):
    with pytest.raises(DataError, match=r"finite number|not a number"):
        index.search(np.full_like(QUERIES, np.nan), 5)
    for wrong in ([["a", "b"]], [[1.0, 2.0], [3.0]]):
        with pytest.raises(DataError, match="matrix of finite numbers"):
            ItemIndex(wrong)


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_effort_that_became_too_small(kind):
    pytest.importorskip("faiss")
    index = ItemIndex(ITEMS, kind)
    index.effort = 0
    with pytest.raises(ConfigError, match="effort must be at least 1"):
        index.search(QUERIES, 5)


def test_without_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert ItemIndex(ITEMS).search(QUERIES, 3)[1].shape == (50, 3)
    with pytest.raises(MissingPackageError, match=r"gnnrec\[ann\]"):
        ItemIndex(ITEMS, "ivf")


@pytest.mark.parametrize("kind", ["exact", *APPROXIMATE])
@pytest.mark.parametrize("scale", [1e-15, 1e-8, 1e5, 1e15])
def test_the_scale_of_vectors_and_queries_plays_no_part(kind, scale):
    if kind != "exact":
        pytest.importorskip("faiss")
    index, scaled = ItemIndex(ITEMS, kind), ItemIndex(scale * ITEMS, kind)
    found = index.search(QUERIES, 10)[1]
    assert (scaled.search(scale * QUERIES, 10)[1] == found).float().mean() > 0.99  # rounded elsewhere
    assert scaled.recall(QUERIES, 10) == pytest.approx(index.recall(QUERIES, 10), abs=0.01)
    # What was not found is not taken for found because it is small.
    mistaken = ItemIndex(np.roll(scale * ITEMS, 1, axis=0), kind)
    mistaken._vectors = scaled._vectors
    if kind != "exact":
        assert mistaken.recall(QUERIES, 10) < 0.5


@pytest.mark.parametrize("kind", ["exact", *APPROXIMATE])
def test_numbers_that_are_none_are_named(kind):
    if kind != "exact":
        pytest.importorskip("faiss")
    index = ItemIndex(ITEMS[:200], kind)
    for k in (2.5, "ten", None, True):
        with pytest.raises(ConfigError, match="k must be"):
            index.search(QUERIES, k)
    with pytest.raises(ConfigError, match="effort must be"):
        ItemIndex(ITEMS[:200], kind, effort=2.5)
    trained = torch.from_numpy(ITEMS[:200]).requires_grad_()
    assert ItemIndex(trained, kind).search(torch.from_numpy(QUERIES).requires_grad_(), 3)[1].shape == (50, 3)


@pytest.mark.parametrize("kind", ["exact", *APPROXIMATE])
def test_no_queries_have_no_answers(kind):
    if kind != "exact":
        pytest.importorskip("faiss")
    scores, found = ItemIndex(ITEMS[:200], kind).search(np.zeros((0, 16), dtype=np.float32), 3)
    assert scores.shape == found.shape == (0, 3)


def test_lists_that_hold_too_few_items_end_in_minus_one():
    pytest.importorskip("faiss")
    scores, found = ItemIndex(ITEMS, "ivf", effort=1).search(QUERIES, 2000)  # one list of some seventy is read
    nothing = found < 0
    assert nothing.any(dim=1).all()
    assert (scores[nothing] == -np.inf).all()
    for row, answered in zip(scores, (~nothing).sum(dim=1), strict=True):
        assert row[:answered].isfinite().all()
        assert (row[:answered].diff() <= 0).all()
