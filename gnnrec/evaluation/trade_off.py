"""Tells what room new items in a list cost the known ones: for every offset between the two at once, exactly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.pairs import only_items
from gnnrec.evaluation.protocol import find_hits
from gnnrec.selection.topk import forbid, top_k_of_scores

__all__ = ["TradeOff", "trade_off"]

_ROUNDING = 1e-9  # of sums of shares
_LARGEST = float(np.finfo(np.float64).max)
_BELOW = 1e-6  # so that an offset that is added in single precision stays below its limit


@dataclass(frozen=True, eq=False)
class TradeOff:
    """Recall@k of known and of new items in one list, as functions of an offset to the scores of the new ones.

    With ``r`` better known items, a pair on a known item is found as long as fewer than ``k - r`` new items are ahead
    of it: while the offset lies below its score less that of the ``(k - r)``-th new item. A pair on a new item is found
    from such a limit on. So both recalls are steps at limits that one pass over the scores gives.

    Attributes:
        k: Length of the lists.
        known_limit: ``[num_known_pairs]`` ascending: the offset from which a pair on a known item is no longer found.
        known_share: ``[num_known_pairs]`` what finding it adds to the mean recall over people.
        new_limit: ``[num_new_pairs]`` ascending: the offset beyond which a pair on a new item is found.
        new_share: ``[num_new_pairs]`` likewise.
    """

    k: int
    known_limit: NDArray[np.float64]
    known_share: NDArray[np.float64]
    new_limit: NDArray[np.float64]
    new_share: NDArray[np.float64]

    @classmethod
    def mean(cls, parts: Sequence["TradeOff"]) -> Self:
        """Returns the means of both recalls over several lists of one length, at one offset for all."""
        steps = []
        for limit, share in (("known_limit", "known_share"), ("new_limit", "new_share")):
            limits = np.concatenate([getattr(part, limit) for part in parts])
            shares = np.concatenate([getattr(part, share) for part in parts]) / len(parts)
            order = np.argsort(limits, kind="stable")
            steps += [limits[order], shares[order]]
        return cls(parts[0].k, *steps)

    def known_recall(self, offset: float) -> float:
        """Returns the recall of known items, new ones ranked beside them, with the offset."""
        return float(self.known_share[np.searchsorted(self.known_limit, _finite(offset), side="right") :].sum())

    def new_recall(self, offset: float) -> float:
        """Returns the recall of new items among all, with the offset."""
        return float(self.new_share[: np.searchsorted(self.new_limit, _finite(offset), side="left")].sum())

    def area(self) -> float:
        """Returns the area under the curve of both recalls: what new items reach beside known ones, at any offset.

        It compares models whose offsets were settled differently, or not at all: the mean recall of new items over
        all recalls of known ones, times the largest of these. After Chao et al. 2016, "An Empirical Study and
        Analysis of Generalized Zero-Shot Learning", section 3.3 (area under seen-unseen accuracy curve).
        """
        found = np.searchsorted(self.new_limit, np.minimum(self.known_limit, _LARGEST), side="left")
        new_recall = np.concatenate([[0.0], np.cumsum(self.new_share)])
        return float(self.known_share @ new_recall[found])

    def to_frame(self, num_points: int = 101) -> pd.DataFrame:
        """Returns what the list can be: one row per offset, from where known items lose nothing to where they lose all.

        Args:
            num_points: How many offsets, at which known items keep evenly spaced shares of their recall.

        Returns:
            Columns ``offset``, ``known`` and ``new``, the recalls.
        """
        most = self.known_recall(-np.inf)
        offsets = [self.largest_offset(most * share) for share in np.linspace(1, 0, num_points)]
        recalls = [(offset, self.known_recall(offset), self.new_recall(offset)) for offset in offsets]
        return pd.DataFrame(recalls, columns=["offset", "known", "new"])

    def largest_offset(self, known_recall: float) -> float:
        """Returns the largest offset at which known items keep a recall; 0 if they have none to lose.

        It lies just below the first limit that may not be passed, or beyond the limits of both kinds where all may be.

        Args:
            known_recall: The recall to keep. If it is more than there is, no known item loses anything.
        """
        if not self.known_share.any():
            return 0.0
        finite = np.isfinite(self.known_limit)
        limit, share = self.known_limit[finite], self.known_share[finite]
        affordable = self.known_share.sum() - known_recall + _ROUNDING
        passed = int(np.searchsorted(np.cumsum(share), affordable, side="right"))
        if passed == len(limit):
            limits = np.concatenate([limit, self.new_limit[np.isfinite(self.new_limit)]])
            return float(limits.max() + 1) if len(limits) else 0.0
        return float(limit[passed] - _BELOW * max(1.0, abs(limit[passed])))


def _finite(offset: float) -> float:
    """Lets an offset without end be larger than every limit but those without end, which no offset passes."""
    return float(np.clip(offset, -_LARGEST, _LARGEST))


def trade_off(
    score: Callable[[Tensor], Tensor],
    pairs: sp.csr_matrix,
    new: NDArray[np.bool_],
    *,
    mask: sp.csr_matrix,
    k: int = 20,
    block_size: int = 512,
) -> TradeOff:
    """Measures known and new items in one list, whatever offset lies between them.

    Cost: one pass over the scores of everybody with pairs.

    Args:
        score: ``user_index [block] -> [block, num_items]``; ``-inf`` is never recommended.
        pairs: ``[num_users, num_items]`` to be found.
        new: ``[num_items]`` bool: whose scores the offset is added to.
        mask: ``[num_users, num_items]`` hidden from the rankings; a hidden pair is never found.
        k: Length of the lists.
        block_size: Users scored at once.
    """
    sides = [_Side(only_items(pairs, of_side)) for of_side in (~new, new)]
    people = np.flatnonzero(np.diff(pairs.indptr))
    for start in range(0, len(people), block_size):
        block = people[start : start + block_size]
        scores = forbid(score(torch.from_numpy(block)), exclude=mask[block])
        ahead = [top_k_of_scores(scores, k, allowed=of_side) for of_side in (~new, new)]
        for side, own, others in zip(sides, ahead, reversed(ahead), strict=True):
            side.measure(block, own, others, k)
    known, unknown = sides
    # A new item competes with known ones as they with it, but its limit is passed from the other side.
    return TradeOff(k, *known.steps(), *unknown.steps(upwards=True))


class _Side:
    """The pairs of known items, or those of new ones, and how far each is from its last place in the list."""

    def __init__(self, pairs: sp.csr_matrix) -> None:
        self.pairs = pairs
        self.num_people = max(1, int(np.count_nonzero(np.diff(pairs.indptr))))
        self.margin: list[NDArray[np.float64]] = []
        self.share: list[NDArray[np.float64]] = []

    def measure(
        self, people: NDArray[np.int64], own: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor], k: int
    ) -> None:
        """Notes by how much the pairs of some people lead that item of the other side which would take their place.

        Args:
            people: ``[num_people]``.
            own: Scores and indices ``[num_people, at most k]`` of the best items of this side, best first.
            others: Those of the other side.
            k: Length of the lists.
        """
        hit, rank = np.nonzero(find_hits(own[1].numpy(force=True), self.pairs[people]))
        score, index = (part[hit, rank].numpy(force=True) for part in own)
        place, missing = k - 1 - rank, k - others[0].shape[1]
        rival_score, rival = (
            torch.nn.functional.pad(part, (0, missing), value=nothing)[hit, place].numpy(force=True)
            for part, nothing in zip(others, (-torch.inf, -1), strict=True)
        )
        margin = score.astype(np.float64) - rival_score
        # Of two equal items a ranking takes the one that comes first in the catalogue.
        self.margin.append(np.where(index < rival, np.nextafter(margin, np.inf), margin))
        self.share.append(1 / (np.diff(self.pairs.indptr)[people][hit] * self.num_people))

    def steps(self, *, upwards: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns limits, ascending, and the share of each."""
        margin, share = (np.concatenate([np.zeros(0), *parts]) for parts in (self.margin, self.share))
        limit = -margin if upwards else margin
        order = np.argsort(limit, kind="stable")
        return limit[order], share[order]
