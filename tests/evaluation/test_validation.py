"""The held-out pairs that choose epochs and options, cut down to some people."""

from collections.abc import Iterator

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnrec.evaluation.validation import ValidationPairs


def test_what_is_settled_on_is_told_of_people_with_pairs_alone() -> None:
    """Their pairs, what is hidden from them, and its order stay beside each other."""
    rng = np.random.default_rng(0)
    pairs = sp.csr_matrix((rng.random((20, 9)) < 0.2).astype(np.float32))
    mask = sp.csr_matrix((rng.random((20, 9)) < 0.3).astype(np.float32))
    order = sp.csr_matrix(mask.multiply(rng.integers(1, 9, (20, 9))))
    people, settled = ValidationPairs(pairs, mask, ("recall@2",), order=order).for_settling()
    assert people.tolist() == np.flatnonzero(pairs.getnnz(axis=1)).tolist()
    assert 0 < len(people) < 20
    assert settled.order is not None
    for ours, whole in ((settled.pairs, pairs), (settled.mask, mask), (settled.order, order)):
        np.testing.assert_array_equal(ours.toarray(), whole.toarray()[people])


@pytest.mark.parametrize("at_once", [1, 40, 1_000_000])
def test_rankings_that_share_their_scores_are_measured_as_each_alone(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnnrec.evaluation.validation._SHARED_SCORES", at_once)
    rng = np.random.default_rng(0)
    mask = sp.csr_matrix((rng.random((30, 9)) < 0.3).astype(np.float32))
    pairs = sp.csr_matrix((rng.random((30, 9)) < 0.2).astype(np.float32))
    validation = ValidationPairs(pairs, mask, ("recall@2",))
    known = np.arange(9) < 7
    first, second = torch.from_numpy(rng.normal(size=(2, 30, 9)))
    asked = []

    def both(rows: torch.Tensor) -> Iterator[torch.Tensor]:
        asked.extend(rows.tolist())
        return (first[rows] + weight * second[rows] for weight in (0.0, 2.0))

    expected = [
        validation.per_user(lambda rows, weight=weight: first[rows] + weight * second[rows], "ndcg@3", candidates=known)
        for weight in (0.0, 2.0)
    ]
    found = validation.per_user_of_each(both, "ndcg@3", candidates=known)
    np.testing.assert_array_equal(found, expected)
    assert asked == sorted(set(asked))  # once each
    assert 0 < found[0].mean() != found[1].mean()


def test_without_pairs_nobody_is_measured() -> None:
    nothing = sp.csr_matrix((4, 9), dtype=np.float32)
    validation = ValidationPairs(nothing, nothing, ("recall@2",))
    found = validation.per_user_of_each(
        lambda rows: [torch.zeros(len(rows), 9)] * 3, "recall@2", candidates=np.ones(9, dtype=bool)
    )
    assert found.shape == (3, 0)
