"""Lets the events that came last in a history count most."""

import numpy as np
import scipy.sparse as sp

__all__ = ["recency_weights"]


def recency_weights(places: sp.csr_matrix, decay: float) -> sp.csr_matrix:
    """Returns how much each event of a history counts, in place of 1.

    ``exp(-decay × number of later events)`` times what keeps the sum of a history at the number of its events: the
    exponential decay of Ding & Li 2005, "Time weight collaborative filtering", eq. 3, counted in events instead of
    days. Cost: that of sorting all entries.

    Args:
        places: ``[num_people, num_items]`` the place of each item in its person's history, larger for later ones.
        decay: At least 0; at 0 all events count alike.
    """
    count = np.diff(places.indptr)
    person = np.repeat(np.arange(len(count)), count)
    oldest_first = np.lexsort((places.data, person))
    later = np.empty(places.nnz)
    later[oldest_first] = np.repeat(places.indptr[1:], count) - 1 - np.arange(places.nnz)
    weight = np.exp(-decay * later)
    total = np.bincount(person, weight, minlength=len(count))
    weight *= (count / np.maximum(total, 1e-300))[person]
    return sp.csr_matrix((weight.astype(np.float32), places.indices, places.indptr), places.shape)
