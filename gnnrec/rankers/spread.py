"""Tells how wide scores spread, so that a weight beside those of a model means the same on every data set."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["score_spread", "some_people"]


def score_spread(scores: Tensor) -> float:
    """Returns the standard deviation of a person's scores ``[num_people, num_items]``, on average over people."""
    return float(scores.std(dim=1, correction=0).mean())


def some_people(interactions: sp.csr_matrix, most: int) -> NDArray[np.int64]:
    """Returns users with interactions, ascending: all, or so many at random, the same ones each time."""
    people = np.flatnonzero(np.diff(interactions.indptr))
    if len(people) > most:
        people = np.sort(np.random.default_rng(0).choice(people, most, replace=False))
    return people
