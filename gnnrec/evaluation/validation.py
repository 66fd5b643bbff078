"""Measures user and item vectors on held-out pairs, while a model trains and right after."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.pairs import only_items, some_people
from gnnrec.evaluation.protocol import evaluate_rankings

__all__ = ["ValidationPairs", "ranks_surely_better"]

# Users after an epoch, and scores, which take half a minute on one core; more users change a recall by less than the
# next seed does. What is settled after training asks forty times, so each time less.
_MOST_USERS, _MOST_SCORES = 50_000, 2_000_000_000
_MOST_USERS_TO_SETTLE, _MOST_SCORES_TO_SETTLE = 10_000, 400_000_000
_SHARED_SCORES = 25_000_000  # 100 MB
_SURELY = 2.0  # standard errors


@dataclass(frozen=True, eq=False)
class ValidationPairs:
    """Held-out pairs that choose epochs and options.

    Attributes:
        pairs: ``[num_users, num_items]`` binary, to be found.
        mask: ``[num_users, num_items]`` binary, hidden from the rankings: the training pairs.
        metrics: What to measure.
        order: ``[num_users, num_items]`` the place of each training pair in the order in which its user's came, larger
            for later ones, for users with ``pairs``; ``None`` where it is not known, or not read.
        come_after: Most of the pairs came after all training pairs of their users, so they tell what is chosen next.
    """

    pairs: sp.csr_matrix
    mask: sp.csr_matrix
    metrics: tuple[str, ...]
    order: sp.csr_matrix | None = None
    come_after: bool = False

    def __call__(self, user: Tensor, item: Tensor) -> Mapping[str, float]:
        """Returns metric → mean over users, of rankings by the inner product.

        Args:
            user: ``[num_users, dim]``.
            item: ``[num_items, dim]``.
        """

        def score(user_index: Tensor) -> Tensor:
            return user[user_index.to(user.device)] @ item.T

        return self.of_scores(score)

    def of_scores(self, score: Callable[[Tensor], Tensor]) -> Mapping[str, float]:
        """Returns the same of rankings by any scores: ``user_index [block]`` → ``[block, num_items]``."""
        return evaluate_rankings(score, self.pairs, mask=self.mask, metrics=self.metrics).values

    def per_user(
        self, score: Callable[[Tensor], Tensor], metric: str, *, candidates: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Returns one metric of each user with pairs ``[num_with_pairs]``, of rankings by any scores.

        Args:
            score: As for :meth:`of_scores`.
            metric: What to measure.
            candidates: ``[num_items]`` which are ranked, and sought; all when not given.
        """
        found = evaluate_rankings(score, self.pairs, mask=self.mask, metrics=(metric,), candidates=candidates)
        return found.per_user[metric]

    def per_user_of_each(
        self, scores: Callable[[Tensor], Iterable[Tensor]], metric: str, *, candidates: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Returns the same of several rankings ``[num_rankings, num_with_pairs]``, whose scores share their cost.

        Args:
            scores: ``user_index [block]`` → for each ranking ``[block, num_items]``; a block has 25 million scores.
            metric: What to measure.
            candidates: As above.
        """
        people = np.flatnonzero(np.diff(self.pairs.indptr))
        at_once = max(1, _SHARED_SCORES // self.pairs.shape[1])

        def of_block(start: int) -> list[NDArray[np.float64]]:
            rows = people[start : start + at_once]
            block = replace(self, pairs=self.pairs[rows], mask=self.mask[rows], order=None)
            return [
                block.per_user(one.__getitem__, metric, candidates=candidates) for one in scores(torch.from_numpy(rows))
            ]

        return np.concatenate([of_block(start) for start in range(0, max(len(people), 1), at_once)], axis=1)

    def among(self, item_index: NDArray[np.int64]) -> "ValidationPairs":
        """Returns the pairs of the items ``item_index [num_chosen]``, which are ranked among themselves."""
        return replace(self, pairs=self.pairs[:, item_index], mask=self.mask[:, item_index], order=None)

    def of_items(self, chosen: NDArray[np.bool_]) -> "ValidationPairs":
        """Returns the pairs of some items ``[num_items]`` alone; all keep their columns."""
        return replace(self, pairs=only_items(self.pairs, chosen))

    def for_epochs(self) -> "ValidationPairs":
        """Returns the pairs of at most 50,000 users, in a large catalogue fewer: no more than two billion scores."""
        users = self._some_users(_MOST_USERS, _MOST_SCORES)
        if len(users) == np.count_nonzero(np.diff(self.pairs.indptr)):
            return self
        kept = np.zeros(self.pairs.shape[0], dtype=np.float32)
        kept[users] = 1
        pairs = sp.csr_matrix(sp.diags(kept) @ self.pairs)
        pairs.eliminate_zeros()
        return replace(self, pairs=pairs)

    def for_settling(self) -> tuple[NDArray[np.int64], "ValidationPairs"]:
        """Chooses at most 10,000 users, in a large catalogue fewer: no more than 400 million scores.

        Returns:
            The users ``[num_chosen]``, ascending, and the pairs with a row for each of those alone.
        """
        users = self._some_users(_MOST_USERS_TO_SETTLE, _MOST_SCORES_TO_SETTLE)
        order = None if self.order is None else self.order[users]
        return users, replace(self, pairs=self.pairs[users], mask=self.mask[users], order=order)

    def _some_users(self, most: int, most_scores: int) -> NDArray[np.int64]:
        """Returns users with pairs, ascending: all, or some drawn at random, always the same."""
        return some_people(self.pairs, min(most, max(1, most_scores // self.pairs.shape[1])))


def ranks_surely_better(tried: NDArray[np.float64], than: NDArray[np.float64]) -> bool:
    """Tells whether a metric of the same users ``[num_users]`` is higher by twice the standard error of its mean gain.

    So nothing is preferred to the simpler by chance.
    """
    gain = tried - than
    return bool(gain.mean() > _SURELY * gain.std() / np.sqrt(len(gain)))
