import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from gnnrec.training.negatives import UniformNegatives


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_users=st.integers(1, 6), num_candidates=st.integers(4, 12))
def test_negatives_are_candidates_that_the_user_has_not_seen(seed: int, num_users: int, num_candidates: int) -> None:
    rng = np.random.default_rng(seed)
    num_items = 2 * num_candidates
    candidates = rng.permutation(num_items)[:num_candidates]
    seen = rng.random((num_users, num_items)) < 0.5
    seen[:, candidates[num_candidates // 4 :]] = False  # with most of them unseen, no redraw is in vain
    seen[0, candidates[0]] = True
    edge_index = torch.from_numpy(np.stack(np.nonzero(seen)))
    negatives = UniformNegatives(edge_index, torch.from_numpy(candidates), num_items)
    users = torch.arange(num_users).repeat(20)
    items = negatives.sample(users, 3, torch.Generator().manual_seed(seed % 2**31))
    assert items.shape == (20 * num_users, 3)
    assert np.isin(items, candidates).all()
    assert not seen[users[:, None], items].any()


def test_negatives_are_uniform_and_independent_of_popularity() -> None:
    edge_index = torch.tensor([[0, 0, 1, 1, 1, 2], [0, 1, 0, 2, 3, 0]])
    negatives = UniformNegatives(edge_index, torch.arange(8), 8)
    drawn = negatives.sample(torch.ones(1000, dtype=torch.int64), 5, torch.Generator().manual_seed(0))
    counts = np.bincount(drawn.flatten(), minlength=8)
    assert not counts[[0, 2, 3]].any()
    assert chisquare(counts[[1, 4, 5, 6, 7]]).pvalue > 1e-3


def test_a_user_who_has_seen_everything_still_gets_some() -> None:
    edge_index = torch.tensor([[0, 0, 0, 1], [0, 1, 2, 1]])
    negatives = UniformNegatives(edge_index, torch.tensor([0, 1, 2]), 4)
    items = negatives.sample(torch.tensor([0, 1]), 4, torch.Generator().manual_seed(0))
    assert set(items[0].tolist()) <= {0, 1, 2}
    assert 1 not in items[1]


def test_the_generator_decides() -> None:
    negatives = UniformNegatives(torch.tensor([[0], [0]]), torch.arange(50), 50)
    users = torch.zeros(10, dtype=torch.int64)
    first, again, other = (negatives.sample(users, 2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
