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
from torch import Tensor

from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation.cross_modal import CrossModalRetrieval, cross_modal_retrieval
from gnnrec.evaluation.directions import as_matrix, at_length_one, present, random_projections, uniformity, unit_rows
from gnnrec.evaluation.report import plot_embeddings

__all__ = ["AlignmentReport", "PairAlignment", "alignment_report", "plot_modalities"]

logger = logging.getLogger(__name__)


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
    unit = {name: unit_rows(name, values) for name, values in vectors.items()}
    if len(unit) < 2 or len({matrix.shape for matrix in unit.values()}) > 1:
        shapes = {name: matrix.shape for name, matrix in unit.items()}
        raise DataError(f"alignment needs two or more modalities with one row per owner and one width; got {shapes}")
    raw = _before(before or {}, unit, seed)

    has = {name: present(matrix) for name, matrix in unit.items()}
    retrieval = {}
    for query, target in permutations(unit, 2):
        if not (has[query] & has[target]).any():
            logger.warning("no owner has both %s and %s, so the pair is left out", query, target)
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
    unit = {name: unit_rows(name, values) for name, values in vectors.items()}
    if len({matrix.shape[1] for matrix in unit.values()}) > 1:
        widths = {name: matrix.shape[1] for name, matrix in unit.items()}
        raise DataError(f"one map needs one width, these are {widths}; see random_projections")
    points = {name: matrix[present(matrix)] for name, matrix in unit.items()}
    labels = [name for name, matrix in points.items() for _ in range(len(matrix))]
    plot_embeddings(np.concatenate(list(points.values())), labels, path, title=title)


def _before(
    vectors: Mapping[str, ArrayLike | Tensor], aligned: Mapping[str, NDArray[np.float64]], seed: int
) -> dict[str, NDArray[np.float64]]:
    """Returns unit vectors from before alignment, of one width; nothing if none were given."""
    given = {name: as_matrix(name, values) for name, values in vectors.items()}
    if given and {name: len(matrix) for name, matrix in given.items()} != {
        name: len(aligned[name]) for name in aligned
    }:
        raise DataError("before= must hold the same modalities and owners as the aligned vectors")
    if len({matrix.shape[1] for matrix in given.values()}) > 1:
        given = random_projections(given, next(iter(aligned.values())).shape[1], seed=seed)
    return {name: at_length_one(matrix) for name, matrix in given.items()}


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
    both = present(first) & present(second)
    return np.asarray((first[both] * second[both]).sum(axis=1))
