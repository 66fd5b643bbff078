"""The events that came last count most, and a history counts as much as before."""

import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnrec.rankers.recency import recency_weights


def test_worked_example() -> None:
    places = sp.csr_matrix(np.array([[3.0, 0, 1, 2], [0, 5, 0, 0], [0, 0, 0, 0], [7, 0, 0, 9]]))
    weights = recency_weights(places, np.log(2)).toarray()
    np.testing.assert_allclose(weights[0], np.array([4, 0, 1, 2]) * 3 / 7, rtol=1e-6)
    np.testing.assert_allclose(weights[1], [0, 1, 0, 0])
    assert not weights[2].any()
    np.testing.assert_allclose(weights[3], [2 / 3, 0, 0, 4 / 3], rtol=1e-6)  # gaps between places mean nothing


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 50))
def test_weights_rise_with_the_place_and_sum_to_the_number_of_events(seed: int, decay: float) -> None:
    rng = np.random.default_rng(seed)
    there = rng.random((6, 9)) < 0.5
    places = sp.csr_matrix(np.where(there, np.argsort(rng.random(there.shape), axis=1) + 1, 0).astype(np.float32))
    weights = recency_weights(places, decay)
    assert (weights.indices == places.indices).all()
    np.testing.assert_allclose(weights.sum(axis=1).A1, there.sum(axis=1), rtol=1e-5)
    for row in range(6):
        by_place = weights[row].data[np.argsort(places[row].data)]
        assert (np.diff(by_place) >= 0).all()
    if decay == 0:
        assert (weights.data == 1).all()
