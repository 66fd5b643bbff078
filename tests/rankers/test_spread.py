import numpy as np
import pytest
import scipy.sparse as sp
import torch

from gnnrec.rankers.spread import score_spread, some_people


def test_the_spread_is_that_within_a_person() -> None:
    scores = torch.tensor([[0.0, 2.0, 4.0], [100.0, 101.0, 102.0]])
    assert score_spread(scores) == pytest.approx((2 + 1) / 2 * np.sqrt(2 / 3))
    assert score_spread(scores[:, :1]) == 0


def test_people_without_a_history_are_never_among_some() -> None:
    interactions = sp.csr_matrix((np.arange(100) % 3 > 0).astype(np.float32)[:, None])
    with_history = np.flatnonzero(np.arange(100) % 3)
    assert some_people(interactions, 100).tolist() == with_history.tolist()
    few = some_people(interactions, 10)
    assert len(np.unique(few)) == 10
    assert (np.diff(few) > 0).all()
    assert np.isin(few, with_history).all()
    assert some_people(interactions, 10).tolist() == few.tolist()
