"""Measures how well the vectors of one modality find those of another."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from torch import Tensor

from gnnrec.errors import DataError
from gnnrec.evaluation.directions import row_blocks, unit_rows
from gnnrec.evaluation.significance import PairedBootstrap, paired_bootstrap
from gnnrec.selection.topk import check_positive

__all__ = ["CrossModalRetrieval", "cross_modal_retrieval"]

_SAME = 1e-6  # cosines nearer to each other than this tie: equal media get vectors that differ by rounding only


@dataclass(frozen=True, eq=False)
class CrossModalRetrieval:
    """How well the vectors of one modality find those of another, among all candidates.

    Attributes:
        num_candidates: Owners that have the wanted modality.
        num_better: ``[num_queries]`` candidates whose cosine with the query is above that of the right one.
        num_tied: ``[num_queries]`` other candidates whose cosine equals that of the right one.
        entropy: Mean entropy (nats) of the matching distribution: the softmax over the candidates of the cosines
            divided by the temperature. ``log(num_candidates)`` when the query says nothing.
        cross_entropy: Mean surprise (nats) at the right candidate under that distribution, the InfoNCE loss of all
            candidates (van den Oord et al., 2018, eq. 4).
    """

    num_candidates: int
    num_better: NDArray[np.int64]
    num_tied: NDArray[np.int64]
    entropy: float
    cross_entropy: float

    @property
    def num_queries(self) -> int:
        """Owners that have both modalities."""
        return len(self.num_better)

    @property
    def rank(self) -> NDArray[np.float64]:
        """Rank of the right candidate ``[num_queries]``, from 1; the mean over the orders of those that tie."""
        return 1 + self.num_better + self.num_tied / 2

    @property
    def median_rank(self) -> float:
        """Median over queries of :attr:`rank`."""
        return float(np.median(self.rank))

    @property
    def chance_rank(self) -> float:
        """Median rank of a random order."""
        return (self.num_candidates + 1) / 2

    def hits(self, k: int) -> NDArray[np.float64]:
        """Returns the probability that the right candidate is among the first k ``[num_queries]``, ties at random.

        Raises:
            ConfigError: ``k`` is below 1.
        """
        check_positive("k", k)
        return np.clip((k - self.num_better) / (self.num_tied + 1), 0, 1)

    def recall(self, k: int) -> float:
        """Returns the share of queries that find the right candidate among the first k."""
        return float(self.hits(k).mean())

    def chance(self, k: int) -> float:
        """Returns recall@k of a random order."""
        return min(k / self.num_candidates, 1.0)

    def above_chance(self, k: int, *, resamples: int = 10_000, seed: int = 0) -> PairedBootstrap:
        """Compares recall@k with that of a random order by a bootstrap over queries.

        Returns:
            The difference; retrieval is above chance where ``low`` is above zero.
        """
        hits = self.hits(k)
        return paired_bootstrap(hits, np.full_like(hits, self.chance(k)), resamples=resamples, seed=seed)


def cross_modal_retrieval(
    queries: ArrayLike | Tensor, candidates: ArrayLike | Tensor, answer: ArrayLike, *, temperature: float = 0.07
) -> CrossModalRetrieval:
    """Ranks candidates by their cosine with each query, and says where the right one comes.

    Args:
        queries: ``[num_queries, dim]``.
        candidates: ``[num_candidates, dim]``.
        answer: ``[num_queries]`` position of the right candidate of each query.
        temperature: Divides the cosines in the matching distribution.

    Raises:
        DataError: There is no query, a row holds something that is no number, the widths or the number of answers do
            not fit, or an answer is no candidate.
    """
    asked, offered = unit_rows("queries", queries), unit_rows("candidates", candidates)
    right = np.asarray(answer, dtype=np.int64)
    if len(asked) == 0 or asked.shape[1] != offered.shape[1] or right.shape != (len(asked),):
        raise DataError(
            f"queries {asked.shape}, candidates {offered.shape} and answers {right.shape} do not fit: one width, and "
            "one answer for each of one or more queries"
        )
    if right.min() < 0 or right.max() >= len(offered):
        raise DataError(f"answers are positions of the {len(offered)} candidates, not {right.min()} to {right.max()}")
    if not (np.isfinite(asked).all() and np.isfinite(offered).all()):
        raise DataError("queries and candidates need finite numbers; leave out the rows of owners without the modality")
    better, tied = np.empty(len(asked), dtype=np.int64), np.empty(len(asked), dtype=np.int64)
    entropy, surprise = np.empty(len(asked)), np.empty(len(asked))
    for block in row_blocks(len(asked), len(offered)):
        cosine = asked[block] @ offered.T
        own = np.take_along_axis(cosine, right[block, None], axis=1)
        better[block] = (cosine > own + _SAME).sum(axis=1)
        tied[block] = (np.abs(cosine - own) <= _SAME).sum(axis=1) - 1
        log_share = log_softmax(cosine / temperature, axis=1)
        entropy[block] = -(np.exp(log_share) * log_share).sum(axis=1)
        surprise[block] = -np.take_along_axis(log_share, right[block, None], axis=1)[:, 0]
    return CrossModalRetrieval(len(offered), better, tied, float(entropy.mean()), float(surprise.mean()))
