import numpy as np
import pytest
import torch

from gnnrec.rankers.spread import score_spread


def test_the_spread_is_that_within_a_person() -> None:
    scores = torch.tensor([[0.0, 2.0, 4.0], [100.0, 101.0, 102.0]])
    assert score_spread(scores) == pytest.approx((2 + 1) / 2 * np.sqrt(2 / 3))
    assert score_spread(scores[:, :1]) == 0
