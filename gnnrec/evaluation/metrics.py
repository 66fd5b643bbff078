"""Turns hits (which places of each ranking hold a test item) into one value per user and metric.

Every metric has the signature ``metric(hits, num_relevant, k) -> [num_users]``:

* ``hits`` ``[num_users, width]`` bool: is the item at this rank one of the user's test items? Places beyond
  the width count as misses, so ``k`` may exceed it.
* ``num_relevant`` ``[num_users]``: the user's number of test items. A user without any gets 0.
* ``k``: the length of the list that is judged.

Arrays are taken for tensors; the values are tensors.

Values per user, rather than a running mean, are what significance tests and slices need. The formulas are those
of ``torch_geometric.metrics``, whose metrics return the mean only; the tests compare the two.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from gnnrec.config import suggest
from gnnrec.errors import ConfigError

__all__ = [
    "METRICS",
    "Metric",
    "area_under_curve",
    "average_precision",
    "f1",
    "hit_rate",
    "ndcg",
    "parse_metric",
    "precision",
    "recall",
    "reciprocal_rank",
]

Metric = Callable[[Tensor, Tensor, int], Tensor]
Measure = TypeVar("Measure", bound=Callable[..., Tensor])


def _takes_arrays(measure: Measure) -> Measure:
    """Lets a function of tensors be given arrays."""

    def as_tensor(given: Any) -> Any:
        return torch.tensor(given) if isinstance(given, np.ndarray) else given

    @wraps(measure)
    def of_tensors(*given: Any, **named: Any) -> Tensor:
        return measure(*map(as_tensor, given), **{name: as_tensor(value) for name, value in named.items()})

    return cast(Measure, of_tensors)


@_takes_arrays
def recall(hits: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Share of the user's test items among the first k: hits / number of test items.

    >>> recall(torch.tensor([[True, False, True]]), torch.tensor([4]), k=3)
    tensor([0.5000], dtype=torch.float64)
    """
    return _num_hits(hits, k) / num_relevant.clamp(min=1)


@_takes_arrays
def precision(hits: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Share of the first k places that hold a test item: hits / k, also when fewer than k items exist.

    >>> precision(torch.tensor([[True, False, True]]), torch.tensor([4]), k=4)
    tensor([0.5000], dtype=torch.float64)
    """
    return _num_hits(hits, k) / k


@_takes_arrays
def f1(hits: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Harmonic mean of precision and recall, per user: 2 hits / (k + number of test items).

    >>> f1(torch.tensor([[True, False, True]]), torch.tensor([5]), k=3)
    tensor([0.5000], dtype=torch.float64)
    """
    return 2 * _num_hits(hits, k) / (k + num_relevant)


@_takes_arrays
def hit_rate(hits: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """1 if any of the first k is a test item, else 0.

    >>> hit_rate(torch.tensor([[False, True], [False, False]]), torch.tensor([1, 1]), k=2)
    tensor([1., 0.], dtype=torch.float64)
    """
    return hits[:, :k].any(dim=1).double()


@_takes_arrays
def ndcg(hits: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Normalised discounted cumulative gain with binary relevance (Järvelin & Kekäläinen, 2002).

    The gain at rank r is ``1 / log2(r + 1)``; the ideal list has ``min(|test items|, k)`` hits at its head.

    >>> ndcg(torch.tensor([[False, True]]), torch.tensor([1]), k=2)
    tensor([0.6309], dtype=torch.float64)
    """
    discount = 1 / torch.log2(_ranks(k, hits) + 1)
    ideal = torch.cat([discount.new_zeros(1), discount.cumsum(dim=0)])[num_relevant.clamp(max=k)]
    gain = hits[:, :k].double() @ discount[: hits.shape[1]]
    return torch.where(num_relevant > 0, gain / ideal.clamp(min=discount[0]), 0.0)


@_takes_arrays
def reciprocal_rank(hits: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """1 / rank of the first hit within the first k, else 0; its mean is MRR.

    >>> reciprocal_rank(torch.tensor([[False, True, True]]), torch.tensor([2]), k=3)
    tensor([0.5000], dtype=torch.float64)
    """
    if hits.shape[1] == 0:
        return torch.zeros(len(hits), dtype=torch.float64, device=hits.device)
    return (hits[:, :k] / _ranks(k, hits)[: hits.shape[1]]).amax(dim=1)


@_takes_arrays
def average_precision(hits: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Mean of the precisions at each hit, over ``min(|test items|, k)`` so that 1 can be reached; its mean is MAP.

    >>> average_precision(torch.tensor([[True, False, True]]), torch.tensor([2]), k=3)
    tensor([0.8333], dtype=torch.float64)
    """
    first = hits[:, :k].double()
    precision_at = first.cumsum(dim=1) / _ranks(k, hits)[: hits.shape[1]]
    return (precision_at * first).sum(dim=1) / num_relevant.clamp(min=1, max=k)


METRICS: Mapping[str, Metric] = {
    "recall": recall,
    "precision": precision,
    "f1": f1,
    "hit_rate": hit_rate,
    "ndcg": ndcg,
    "mrr": reciprocal_rank,
    "map": average_precision,
}


def parse_metric(name: str) -> tuple[str, int | None]:
    """Reads ``"recall@20"`` as ``("recall", 20)``; ``"auc"``, which judges whole rankings, has no k.

    >>> parse_metric("ndcg@10")
    ('ndcg', 10)

    Raises:
        ConfigError: An unknown metric, a missing or needless ``@k``, or a k that is not a positive integer.
    """
    if not isinstance(name, str):
        raise ConfigError(f"a metric is a name such as 'recall@20', not {name!r}")
    metric, at, k = name.partition("@")
    if metric == "auc":
        if at:
            raise ConfigError(f"metric {name!r}: auc judges the whole ranking; write 'auc'")
        return metric, None
    if metric not in METRICS:
        raise ConfigError(f"unknown metric {name!r}{suggest(metric, [*METRICS, 'auc'])}")
    if not (k.isascii() and k.isdigit() and int(k) > 0):
        raise ConfigError(f"metric {name!r} needs the length of the list, as in '{metric}@20'")
    return metric, int(k)


@_takes_arrays
def area_under_curve(scores: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Probability that a test item outscores a candidate that is none, exact over the whole row; a tie counts ½.

    With the ranks of the test items among all candidates this is the Mann–Whitney statistic: no list of
    negatives is drawn or stored.

    Args:
        scores: ``[num_users, num_items]``; ``-inf`` marks items that are no candidates. A test item that
            is none counts as ranked last.
        row: ``[num_pairs]`` the row of each test pair.
        column: ``[num_pairs]`` its item.

    Returns:
        ``[num_users]``; 0.5 where no candidate is left to compare with, 0 for a user without test items.

    >>> area_under_curve(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([0]), torch.tensor([1]))
    tensor([0.5000], dtype=torch.float64)
    """
    num_users = len(scores)
    num_candidates = (scores > -torch.inf).sum(dim=1)
    pair_scores = scores[row, column]
    rankable = pair_scores > -torch.inf
    outranked = torch.zeros(len(row), dtype=torch.float64, device=scores.device)
    for start in range(0, len(row), max(num_users, 1)):  # so that no temporary is larger than `scores`
        pairs = slice(start, start + num_users)
        block, value = scores[row[pairs]], pair_scores[pairs, None]
        above, equal = (block > value).sum(dim=1), (block == value).sum(dim=1)
        outranked[pairs] = num_candidates[row[pairs]] - above - equal.double() / 2
    outranked = torch.where(rankable, outranked, 0.0)

    def per_user(values: Tensor) -> Tensor:
        return torch.zeros(num_users, dtype=torch.float64, device=scores.device).index_add_(0, row, values.double())

    num_rankable, num_relevant = per_user(rankable), per_user(torch.ones_like(row))
    # Test items outrank each other, and tie with themselves, in exactly num_rankable² / 2 cases.
    wins = per_user(outranked) - num_rankable**2 / 2
    num_negatives = num_candidates - num_rankable
    curve = wins / (num_relevant * num_negatives).clamp(min=1)
    return torch.where((num_negatives == 0) & (num_relevant > 0), 0.5, curve)


def _num_hits(hits: Tensor, k: int) -> Tensor:
    return hits[:, :k].sum(dim=1).double()


def _ranks(k: int, like: Tensor) -> Tensor:
    return torch.arange(1, k + 1, dtype=torch.float64, device=like.device)
