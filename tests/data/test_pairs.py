import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from gnnrec.data.pairs import place_matrix, places_within, relation_matrix, some_people

EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=30)


@given(EVENTS)
def test_places_follow_the_last_time_a_pair_came(events: list[tuple[int, int]]) -> None:
    user, item = np.array(events, dtype=np.int64).reshape(-1, 2).T
    places = place_matrix(user, item, (4, 5)).toarray()
    for one in range(4):
        chosen = [item for user, item in events if user == one]
        latest = [item for at, item in enumerate(chosen) if item not in chosen[at + 1 :]]
        expected = np.zeros(5)
        expected[latest] = np.arange(1, len(latest) + 1)
        np.testing.assert_array_equal(places[one], expected)


@given(st.lists(st.integers(0, 5), max_size=30))
def test_places_within_counts_what_came_before(owner: list[int]) -> None:
    expected = [owner[:at].count(one) for at, one in enumerate(owner)]
    assert places_within(np.array(owner, dtype=np.int64), 6).tolist() == expected


def test_a_relation_joins_both_ways_and_nothing_by_loops_or_weights_of_0() -> None:
    source, target = np.array([0, 0, 1, 2, 2]), np.array([1, 1, 1, 0, 1])
    weight = np.array([1, 2, 4, 0, -1], dtype=np.float32)
    joined = relation_matrix(source, target, weight, 3)
    np.testing.assert_array_equal(joined.toarray(), [[0, 3, 0], [3, 0, 0], [0, 0, 0]])
    assert joined.nnz == 2


def test_people_without_a_history_are_never_among_some() -> None:
    interactions = sp.csr_matrix((np.arange(100) % 3 > 0).astype(np.float32)[:, None])
    with_history = np.flatnonzero(np.arange(100) % 3)
    assert some_people(interactions, 100).tolist() == with_history.tolist()
    few = some_people(interactions, 10)
    assert len(np.unique(few)) == 10
    assert (np.diff(few) > 0).all()
    assert np.isin(few, with_history).all()
    assert some_people(interactions, 10).tolist() == few.tolist()
