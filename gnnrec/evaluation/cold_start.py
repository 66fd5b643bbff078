"""What measuring cold start needs beside rankings: what chance would give, and the first events of each newcomer."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from gnnrec.data.pairs import only_items, pair_matrix, places_within
from gnnrec.evaluation.protocol import Evaluation, ids_of_rows

__all__ = ["Arrivals", "arrivals", "expected_at_random"]


def expected_at_random(
    test: sp.csr_matrix,
    *,
    mask: sp.csr_matrix | None = None,
    candidates: NDArray[np.bool_] | None = None,
    offered: NDArray[np.bool_] | None = None,
    k: int = 20,
    user_ids: Any = None,
) -> Evaluation:
    """Returns what ``evaluate_rankings`` gives on average over all orders of the candidates, in closed form.

    Each of a user's ``c`` candidates is as likely as any other at each place. So the first ``k`` places hold
    ``n min(k, c) / c`` of ``n`` test items, and the discounted gain is ``n / c`` times the sum of their discounts.

    Args:
        test: ``[num_users, num_items]`` binary pairs to be found.
        mask: ``[num_users, num_items]`` binary pairs that are hidden; a hidden test pair is never found.
        candidates: ``[num_items]`` bool: only these are ranked, and only test items among them count.
        offered: ``[num_items]`` bool: a test item that nobody is offered counts, and is never found.
        k: Length of the lists.
        user_ids: ``[num_users]`` the id of each row of ``test``, if known.

    Returns:
        The expectation of ``recall@k`` and ``ndcg@k`` for each user with a test item; there are no rankings in it.
    """
    if candidates is not None:
        test = only_items(test, candidates)
        mask = None if mask is None else only_items(mask, candidates)
    num_tests = np.diff(test.indptr)
    user_index = np.flatnonzero(num_tests)
    num_tests = num_tests[user_index]
    ranked = np.ones(test.shape[1], dtype=np.bool_) if candidates is None else candidates
    if offered is not None:
        ranked = ranked & offered
        test = only_items(test, offered)
        mask = None if mask is None else only_items(mask, offered)
    num_ranked = np.full(len(user_index), ranked.sum())
    num_found = np.diff(test.indptr)[user_index]
    if mask is not None:
        num_ranked = num_ranked - np.diff(mask.indptr)[user_index]
        num_found = num_found - np.diff(test.multiply(mask).tocsr().indptr)[user_index]
    gain = np.append(0.0, np.cumsum(1 / np.log2(np.arange(2, k + 2))))  # of the first 0, 1, … k places
    per_place = num_found / np.maximum(num_ranked, 1)
    places = np.minimum(k, num_ranked)
    per_user = {
        f"recall@{k}": per_place * places / num_tests,
        f"ndcg@{k}": per_place * gain[places] / gain[np.minimum(k, num_tests)],
    }
    values = {name: float(value.mean()) if len(value) else float("nan") for name, value in per_user.items()}
    no_lists = np.empty((len(user_index), 0), dtype=np.int64)
    return Evaluation(values, per_user, user_index, no_lists, ids_of_rows(user_ids, test.shape[0], user_index))


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Distinct pairs of newcomers, in the order in which each newcomer's came.

    Attributes:
        user_index: ``[num_pairs]``.
        item_index: ``[num_pairs]``.
        place: ``[num_pairs]`` how many pairs of the same newcomer came before.
        shape: ``(num_users, num_items)``.
    """

    user_index: NDArray[np.int64]
    item_index: NDArray[np.int64]
    place: NDArray[np.int64]
    shape: tuple[int, int]

    def first(self, count: int) -> sp.csr_matrix:
        """Returns the first pairs of every newcomer ``[num_users, num_items]``."""
        return self._pairs(self.place < count)

    def first_in_order(self, count: int) -> sp.csr_matrix:
        """Returns the same, each pair with its place in the newcomer's history, 1 for the oldest."""
        first = self.place < count
        values = (self.place[first] + 1).astype(np.float32)
        return sp.csr_matrix((values, (self.user_index[first], self.item_index[first])), self.shape)

    def after(self, count: int) -> sp.csr_matrix:
        """Returns all pairs but the first ``[num_users, num_items]``."""
        return self._pairs(self.place >= count)

    def _pairs(self, keep: NDArray[np.bool_]) -> sp.csr_matrix:
        return pair_matrix(self.user_index[keep], self.item_index[keep], self.shape)


def arrivals(
    user_index: NDArray[np.int64],
    item_index: NDArray[np.int64],
    timestamp: NDArray[np.float64] | None,
    shape: tuple[int, int],
    *,
    of: Literal["user", "item"],
    more_than: int,
) -> Arrivals:
    """Orders the distinct pairs of each newcomer by time; at random, always alike, where there is no time, or the same.

    Args:
        user_index: ``[num_events]``.
        item_index: ``[num_events]``.
        timestamp: ``[num_events]``, if known; a pair that repeats came when it came first.
        shape: ``(num_users, num_items)``.
        of: Whether the newcomers are users or items.
        more_than: Newcomers without more pairs than this are left out.
    """
    order = np.random.default_rng(0).permutation(len(user_index))
    if timestamp is not None:
        order = order[np.argsort(timestamp[order], kind="stable")]
    pair = user_index[order] * shape[1] + item_index[order]
    order = order[np.sort(np.unique(pair, return_index=True)[1])]
    user, item = user_index[order], item_index[order]
    owner = user if of == "user" else item
    num_pairs = np.bincount(owner)
    keep = num_pairs[owner] > more_than
    return Arrivals(user[keep], item[keep], places_within(owner, len(num_pairs))[keep], shape)
