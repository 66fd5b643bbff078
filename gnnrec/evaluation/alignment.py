"""Turns the vectors that several modalities have of the same owners into a report of how well they agree.

Row ``i`` of every matrix belongs to owner ``i``; a row of NaN says that the owner lacks the modality. All vectors are
scaled to length 1 first, so that only directions count.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from torch import Tensor

from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation.report import plot_embeddings
from gnnrec.evaluation.significance import PairedBootstrap, paired_bootstrap

__all__ = [
    "AlignmentReport",
    "CrossModalRetrieval",
    "PairAlignment",
    "alignment_report",
    "cross_modal_retrieval",
    "plot_modalities",
    "random_projections",
    "uniformity",
]

_BLOCK = 2**22  # cosines held at once
_SAME = 1e-6  # cosines nearer to each other than this tie: equal media get vectors that differ by rounding only

_logger = logging.getLogger(__name__)


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
        if k < 1:
            raise ConfigError(f"k must be at least 1, got {k}")
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


@dataclass(frozen=True)
class PairAlignment:
    """How near the vectors of two modalities are.

    Attributes:
        num_matched: Owners that have both.
        cosine_before: Mean cosine of the two vectors of an owner before alignment; NaN where it was not asked for.
        cosine: The same after alignment.
        alignment: Mean squared distance of the two unit vectors of an owner (Wang & Isola, 2020, section 4.1, α = 2).
        gap: Distance between the mean unit vectors of both modalities, of all owners (Liang et al., 2022).
    """

    num_matched: int
    cosine_before: float
    cosine: float
    alignment: float
    gap: float


@dataclass(frozen=True, eq=False)
class AlignmentReport:
    """How well the modalities of one space agree.

    Attributes:
        retrieval: (Modality that asks, modality that is looked for) → how well it is found.
        pairs: (Modality, later modality) → how near they are.
        uniformity: Modality → how evenly its vectors fill the sphere, see :func:`uniformity`.
    """

    retrieval: Mapping[tuple[str, str], CrossModalRetrieval]
    pairs: Mapping[tuple[str, str], PairAlignment]
    uniformity: Mapping[str, float]

    def table(self, ks: Sequence[int] = (1, 5, 10), *, resamples: int = 10_000, seed: int = 0) -> pd.DataFrame:
        """Returns one row per direction of each pair.

        Args:
            ks: Lengths of the lists.
            resamples: Resamples of each bootstrap over queries.
            seed: Seed of the bootstraps.

        Returns:
            ``query``, ``target``, ``num_queries``, ``num_candidates``; for each k ``recall@k``, ``chance@k``, and
            ``above_chance@k``: the lower end of the 95 % interval of their difference is above zero; ``median_rank``,
            ``chance_rank``, ``entropy``, ``cross_entropy``; of the pair ``cosine_before``, ``cosine``, ``alignment``,
            ``gap``; of both modalities ``query_uniformity`` and ``target_uniformity``.
        """
        rows = []
        for (query, target), found in self.retrieval.items():
            pair = self.pairs.get((query, target)) or self.pairs[target, query]
            row: dict[str, object] = {"query": query, "target": target}
            row |= {"num_queries": found.num_queries, "num_candidates": found.num_candidates}
            for k in ks:
                row[f"recall@{k}"], row[f"chance@{k}"] = found.recall(k), found.chance(k)
                row[f"above_chance@{k}"] = found.above_chance(k, resamples=resamples, seed=seed).low > 0
            row |= {"median_rank": found.median_rank, "chance_rank": found.chance_rank}
            row |= {"entropy": found.entropy, "cross_entropy": found.cross_entropy}
            row |= {"cosine_before": pair.cosine_before, "cosine": pair.cosine}
            row |= {"alignment": pair.alignment, "gap": pair.gap}
            row |= {"query_uniformity": self.uniformity[query], "target_uniformity": self.uniformity[target]}
            rows.append(row)
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        return self.table().to_string(index=False, float_format="{:.4f}".format)


def alignment_report(
    vectors: Mapping[str, ArrayLike | Tensor],
    *,
    before: Mapping[str, ArrayLike | Tensor] | None = None,
    temperature: float = 0.07,
    seed: int = 0,
) -> AlignmentReport:
    """Measures how well the modalities of one space agree.

    A pair is measured on the owners that have both; candidates are all owners that have the wanted modality. Pairs
    that no owner has are left out, and a warning says which.

    Args:
        vectors: Modality → ``[num_owners, dim]`` aligned vectors; rows of NaN where an owner lacks it.
        before: Modality → ``[num_owners, width]`` vectors before alignment. Cosines of unlike widths are taken after
            :func:`random_projections` to the width of ``vectors``.
        temperature: Divides the cosines in the matching distribution.
        seed: Seed of the random projections.

    Raises:
        DataError: Fewer than two modalities, matrices that do not fit, or no owner with two modalities.
        ConfigError: The temperature is not positive.
    """
    if not temperature > 0:
        raise ConfigError(f"temperature must be above zero, got {temperature}")
    unit = {name: _unit_rows(name, values) for name, values in vectors.items()}
    if len(unit) < 2 or len({matrix.shape for matrix in unit.values()}) > 1:
        shapes = {name: matrix.shape for name, matrix in unit.items()}
        raise DataError(f"alignment needs two or more modalities with one row per owner and one width; got {shapes}")
    raw = _before(before or {}, unit, seed)

    has = {name: _present(matrix) for name, matrix in unit.items()}
    retrieval = {}
    for query, target in permutations(unit, 2):
        if not (has[query] & has[target]).any():
            _logger.warning("no owner has both %s and %s, so the pair is left out", query, target)
            continue
        retrieval[query, target] = _retrieval(unit[query], unit[target], has[query], has[target], temperature)
    if not retrieval:
        raise DataError("no owner has two modalities, so there is nothing to compare")
    pairs = {
        (first, second): _pair(unit[first], unit[second], raw.get(first), raw.get(second))
        for first, second in combinations(unit, 2)
        if (first, second) in retrieval
    }
    return AlignmentReport(retrieval, pairs, {name: uniformity(unit[name][has[name]]) for name in unit})


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
    asked, offered = _unit_rows("queries", queries), _unit_rows("candidates", candidates)
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
    rows = max(1, _BLOCK // len(offered))
    for start in range(0, len(asked), rows):
        block = slice(start, start + rows)
        cosine = asked[block] @ offered.T
        own = np.take_along_axis(cosine, right[block, None], axis=1)
        better[block] = (cosine > own + _SAME).sum(axis=1)
        tied[block] = (np.abs(cosine - own) <= _SAME).sum(axis=1) - 1
        log_share = log_softmax(cosine / temperature, axis=1)
        entropy[block] = -(np.exp(log_share) * log_share).sum(axis=1)
        surprise[block] = -np.take_along_axis(log_share, right[block, None], axis=1)[:, 0]
    return CrossModalRetrieval(len(offered), better, tied, float(entropy.mean()), float(surprise.mean()))


def uniformity(vectors: ArrayLike | Tensor) -> float:
    """Returns how evenly vectors fill the unit sphere (Wang & Isola, 2020, section 4.1, t = 2).

    The logarithm of the mean of exp(-2 d²) over all pairs of different rows: 0 when all point one way, about -4 when
    they spread over a sphere of many dimensions. NaN for fewer than two rows.

    Args:
        vectors: ``[num_vectors, dim]``, without rows of NaN.
    """
    unit = _unit_rows("vectors", vectors)
    if len(unit) < 2:
        return float("nan")
    rows = max(1, _BLOCK // len(unit))
    total = 0.0
    for start in range(0, len(unit), rows):
        cosine = unit[start : start + rows] @ unit.T
        total += float(np.exp(4 * (cosine - 1)).sum())  # the squared distance of unit vectors is 2 - 2 cosine
    # Every row has met itself once, at distance 0.
    return float(np.log((total - len(unit)) / (len(unit) * (len(unit) - 1))))


def random_projections(
    vectors: Mapping[str, ArrayLike | Tensor], dim: int, *, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Projects each modality to one width by a normal random matrix of its own: a space in which nothing is aligned.

    Lengths and angles within a modality are kept in expectation (Johnson & Lindenstrauss, 1984); across modalities
    cosines are those of chance. Vectors are centred first, since a common mean would make all owners alike.

    Args:
        vectors: Modality → ``[num_owners, width]``; rows of NaN stay.
        dim: Width of the projections.
        seed: Seed of the matrices.
    """
    rng = np.random.default_rng(seed)
    projected = {}
    for name, values in vectors.items():
        matrix = _matrix(name, values)
        centre = np.nanmean(matrix, axis=0) if np.isfinite(matrix).any() else 0.0
        projected[name] = (matrix - centre) @ rng.normal(size=(matrix.shape[1], dim)) / np.sqrt(dim)
    return projected


def plot_modalities(
    vectors: Mapping[str, ArrayLike | Tensor], path: str | Path, *, title: str = "One space, coloured by modality"
) -> None:
    """Draws a map of the vectors of all modalities: two principal components of their directions, coloured by modality.

    Args:
        vectors: Modality → ``[num_owners, dim]``; rows of NaN are left out.
        path: File to write.
        title: Heading of the picture.

    Raises:
        DataError: Widths differ, or there are fewer than two vectors.
        ConfigError: An ending that is no picture format.
        MissingPackageError: matplotlib is not installed.
    """
    unit = {name: _unit_rows(name, values) for name, values in vectors.items()}
    if len({matrix.shape[1] for matrix in unit.values()}) > 1:
        widths = {name: matrix.shape[1] for name, matrix in unit.items()}
        raise DataError(f"one map needs one width, these are {widths}; see random_projections")
    points = {name: matrix[_present(matrix)] for name, matrix in unit.items()}
    labels = [name for name, matrix in points.items() for _ in range(len(matrix))]
    plot_embeddings(np.concatenate(list(points.values())), labels, path, title=title)


def _before(
    vectors: Mapping[str, ArrayLike | Tensor], aligned: Mapping[str, NDArray[np.float64]], seed: int
) -> dict[str, NDArray[np.float64]]:
    """Returns unit vectors from before alignment, of one width; nothing if none were given."""
    given = {name: _matrix(name, values) for name, values in vectors.items()}
    if given and {name: len(matrix) for name, matrix in given.items()} != {
        name: len(aligned[name]) for name in aligned
    }:
        raise DataError("before= must hold the same modalities and owners as the aligned vectors")
    if len({matrix.shape[1] for matrix in given.values()}) > 1:
        given = random_projections(given, next(iter(aligned.values())).shape[1], seed=seed)
    return {name: _scaled(matrix) for name, matrix in given.items()}


def _retrieval(
    queries: NDArray[np.float64],
    candidates: NDArray[np.float64],
    can_ask: NDArray[np.bool_],
    can_answer: NDArray[np.bool_],
    temperature: float,
) -> CrossModalRetrieval:
    position = np.cumsum(can_answer) - 1  # of each owner among the candidates
    both = can_ask & can_answer
    return cross_modal_retrieval(queries[both], candidates[can_answer], position[both], temperature=temperature)


def _pair(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    first_before: NDArray[np.float64] | None,
    second_before: NDArray[np.float64] | None,
) -> PairAlignment:
    cosines = _matched_cosines(first, second)
    before = np.nan
    if first_before is not None and second_before is not None:
        before = float(_matched_cosines(first_before, second_before).mean())
    return PairAlignment(
        num_matched=len(cosines),
        cosine_before=before,
        cosine=float(cosines.mean()),
        alignment=float((2 - 2 * cosines).mean()),
        gap=float(np.linalg.norm(np.nanmean(first, axis=0) - np.nanmean(second, axis=0))),
    )


def _matched_cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the cosine of the two vectors of each owner that has both."""
    both = _present(first) & _present(second)
    return np.asarray((first[both] * second[both]).sum(axis=1))


def _present(unit: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Marks the owners that have the modality ``[num_owners]``."""
    return np.asarray(np.isfinite(unit).all(axis=1))


def _unit_rows(name: str, values: ArrayLike | Tensor) -> NDArray[np.float64]:
    return _scaled(_matrix(name, values))


def _scaled(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns rows of length 1; zero stays zero, and NaN stays NaN."""
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(length == 0, 1, length))


def _matrix(name: str, values: ArrayLike | Tensor) -> NDArray[np.float64]:
    plain = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    matrix = np.asarray(plain, dtype=np.float64)
    if matrix.ndim != 2 or np.isinf(matrix).any():
        raise DataError(f"{name}: expected a matrix of finite numbers with a row per owner, got shape {matrix.shape}")
    return matrix
