"""Tells whether two models differ, from their metric values on the same users, by the paired bootstrap."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnnrec.data.ids import IdMap
from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation.protocol import Evaluation

__all__ = ["PairedBootstrap", "compare", "paired_bootstrap"]

_DRAWS = 2**22  # random indices held at once


@dataclass(frozen=True)
class PairedBootstrap:
    """How much better the first model is.

    Attributes:
        difference: Mean of first - second over users.
        low: Lower end of the confidence interval of the difference.
        high: Upper end.
        p_value: Two-sided, for the hypothesis that the difference is zero.
        num_users: Number of users.
        confidence: Coverage of the interval.
    """

    difference: float
    low: float
    high: float
    p_value: float
    num_users: int
    confidence: float = 0.95

    def __str__(self) -> str:
        return (
            f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}] "
            f"({self.confidence:.0%} interval), p = {self.p_value:.4f}, {self.num_users:,} users"
        )


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> PairedBootstrap:
    """Resamples users with replacement, both models together (Efron & Tibshirani, 1993, chapters 13 and 16).

    The interval holds the percentiles of the resampled mean differences. The p-value is the share of resamples
    whose difference is at least as far from the observed one as that is from zero, counting the observed
    data as one resample, so it is never 0.

    Args:
        first: ``[num_users]`` values of one model, e.g. ``Evaluation.per_user["recall@20"]``.
        second: ``[num_users]`` values of the other for the same users in the same order.
        resamples: Number of resamples.
        confidence: Coverage of the interval.
        seed: Seed of the resampling.

    Raises:
        DataError: The values are not two rows of equal, positive length, or some are not numbers.
        ConfigError: ``resamples`` is below 1, ``confidence`` is not between 0 and 1, or ``seed`` is negative.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise DataError(f"one value per user and model is needed; got the shapes {a.shape} and {b.shape}")
    if not np.isfinite(a - b).all():
        raise DataError("some values are not finite; remove these users from both models")
    if resamples < 1 or not 0 < confidence < 1:
        raise ConfigError(f"resamples={resamples} must be at least 1 and confidence={confidence} between 0 and 1")
    if seed < 0:
        raise ConfigError(f"seed={seed} must not be negative")

    rng = np.random.default_rng(seed)
    differences = a - b
    observed, num_users = differences.mean(), len(differences)
    means = np.empty(resamples)
    block = max(1, _DRAWS // num_users)
    for start in range(0, resamples, block):
        part = means[start : start + block]
        part[:] = differences[rng.integers(num_users, size=(len(part), num_users), dtype=np.int32)].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    # A hair's breadth, so that rounding does not decide between equal distances.
    as_far = np.abs(means - observed) >= np.abs(observed) * (1 - 1e-12)
    p_value = (1 + int(as_far.sum())) / (1 + resamples)
    return PairedBootstrap(float(observed), float(low), float(high), p_value, num_users, confidence)


def compare(
    first: Evaluation, second: Evaluation, metric: str = "recall@20", *, resamples: int = 10_000, seed: int = 0
) -> PairedBootstrap:
    """Compares two evaluations of the same users on one metric, whatever order each has them in.

    Users are the same by their ids; by their positions where neither evaluation has ids.

    Raises:
        ConfigError: One of them lacks the metric.
        DataError: They are not of the same users, or only one of them has ids.
    """
    for evaluation in (first, second):
        if metric not in evaluation.per_user:
            raise ConfigError(f"metric {metric!r} was not evaluated, only {', '.join(evaluation.per_user)}")
    row = _rows_of_the_same_users(first, second)
    return paired_bootstrap(first.per_user[metric], second.per_user[metric][row], resamples=resamples, seed=seed)


def _rows_of_the_same_users(first: Evaluation, second: Evaluation) -> NDArray[np.int64]:
    """Returns in which row of the second each user of the first is ``[num_users]``."""
    if (first.user_ids is None) != (second.user_ids is None):
        raise DataError(
            "only one of the two evaluations knows the ids of its users, so who is who cannot be told; give "
            "evaluate_rankings the ids of its rows by user_ids="
        )
    ours, theirs = (one.user_index if one.user_ids is None else one.user_ids for one in (first, second))
    row = IdMap(theirs.copy(), "user").find(ours)  # the copy, since a map freezes its ids
    only_first, only_second = int((row < 0).sum()), len(theirs) - int((row >= 0).sum())
    if only_first or only_second:
        raise DataError(
            f"the two evaluations are of different users: {only_first} of {len(ours)} are only in the first, and "
            f"{only_second} of {len(theirs)} only in the second; evaluate both on the same test pairs"
        )
    return row
