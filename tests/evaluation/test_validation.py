"""The held-out pairs that choose epochs and options, cut down to some people."""

import numpy as np
import scipy.sparse as sp

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
