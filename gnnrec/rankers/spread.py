"""Tells how wide scores spread, so that a weight beside those of a model means the same on every data set."""

from torch import Tensor

__all__ = ["score_spread"]


def score_spread(scores: Tensor) -> float:
    """Returns the standard deviation of a person's scores ``[num_people, num_items]``, on average over people."""
    return float(scores.std(dim=1, correction=0).mean())
