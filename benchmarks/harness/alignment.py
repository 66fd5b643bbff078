"""Learns one space for the modalities of some items, and measures how well held-out items find each other in it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import gnnrec as gr
from gnnrec.evaluation import AlignmentReport, alignment_report
from gnnrec.evaluation.directions import random_projections
from gnnrec.modalities.encode import encode_dataset
from gnnrec.modalities.features import Features, mean_per_owner
from gnnrec.retrieval.aligned_space import AlignedSpace, AlignmentConfig
from harness.alignment_plan import NONE, AlignmentBenchmark, Space

K = 10

Vectors = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Media:
    """Encoded media of the items of a data set."""

    benchmark: AlignmentBenchmark
    features: Mapping[str, Features]
    labels: Mapping[str, NDArray[Any]]
    num_items: int

    @classmethod
    def encode(cls, benchmark: AlignmentBenchmark) -> "Media":
        """Encodes what the cache of features lacks."""
        data = benchmark.read()
        wanted = {name: data.modalities[name] for name in benchmark.modalities}
        features = encode_dataset(replace(data, modalities=wanted))
        return cls(benchmark, features, benchmark.labels(data), data.num_items)

    def parts(self, seed: int) -> tuple[NDArray[np.int64], ...]:
        """Returns the items of each part of a seed's split."""
        return self.benchmark.split(self.num_items, seed if self.benchmark.split_anew else 0)

    def both(self, query: str, target: str, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns those of the items that have both modalities."""
        return items[
            np.isin(items, self.features[query].owner_index) & np.isin(items, self.features[target].owner_index)
        ]


def measure(media: Media, space: Space, seeds: list[int]) -> dict[str, Any]:
    """Learns a space with every seed; returns plain figures of the test items, and validation recall."""
    directions = media.benchmark.directions
    started = time.perf_counter()
    reports, validation = [], []
    raw = raw_vectors(media)
    measured = seeds if space.seeds_differ or media.benchmark.split_anew else seeds[:1]
    for seed in measured:
        fit, valid, train, test = media.parts(seed)
        chosen_by = aligned_vectors(media, space, fit, seed)
        vectors = chosen_by if train is fit else aligned_vectors(media, space, train, seed)
        reports.append(alignment_report(taken(vectors, test), before=taken(raw, test), seed=seed))
        on_validation = alignment_report(taken(chosen_by, valid), seed=seed)
        validation.append(float(np.mean([on_validation.retrieval[pair].recall(K) for pair in directions])))
    # Every seed has new random projections, so with them chance has a share in what is below or above it.
    nothing = []
    for seed in seeds:
        *_, train, test = media.parts(seed)
        nothing.append(alignment_report(taken(aligned_vectors(media, Space(NONE, None), train, seed), test), seed=seed))
    return {
        "options": None if space.config is None else changed_options(space.config),
        "seeds": len(reports),
        "validation": validation,
        "seconds": (time.perf_counter() - started) / len(reports),
        "directions": {
            f"{query} → {target}": _figures(
                (query, target), reports, nothing, [media.both(query, target, media.parts(seed)[-1]) for seed in seeds]
            )
            for query, target in permutations(media.features, 2)
        },
        "uniformity": {name: float(np.mean([one.uniformity[name] for one in reports])) for name in media.features},
    }


def aligned_vectors(media: Media, space: Space, owners: NDArray[np.int64], seed: int) -> Vectors:
    """Returns modality → ``[num_items, dim]`` in a space learned from some items; NaN where an item lacks it."""
    if space.config is None:
        return random_projections(raw_vectors(media), AlignmentConfig().dim, seed=seed)
    labels = media.labels if space.config.objectives.get("multi-task") else None
    learned = AlignedSpace.fit(media.features, space.config, labels=labels, owners=owners, seed=seed)
    return {
        name: _by_item(media, np.asarray(learned.project(name, part.values)), part.owner_index)
        for name, part in media.features.items()
    }


def raw_vectors(media: Media) -> Vectors:
    """Returns modality → ``[num_items, width]`` as encoded; NaN where an item lacks it."""
    means = {name: mean_per_owner(part) for name, part in media.features.items()}
    return {name: _by_item(media, values.numpy(), owners.numpy()) for name, (values, owners) in means.items()}


def taken(vectors: Vectors, items: NDArray[np.int64]) -> Vectors:
    """Returns the rows of some items."""
    return {name: matrix[items] for name, matrix in vectors.items()}


def changed_options(config: AlignmentConfig) -> dict[str, Any]:
    """Returns the options that are not those of the default."""
    default = AlignmentConfig()
    return {name: value for name, value in vars(config).items() if value != getattr(default, name)}


def _by_item(media: Media, values: NDArray[Any], owner_index: NDArray[np.int64]) -> NDArray[np.float64]:
    matrix = np.full((media.num_items, values.shape[1]), np.nan)
    matrix[owner_index] = values
    return matrix


def _figures(
    direction: tuple[str, str],
    reports: list[AlignmentReport],
    nothing: list[AlignmentReport],
    asked: list[NDArray[np.int64]],
) -> dict[str, Any]:
    """Returns the figures of one direction: one value per seed, and bootstraps of each item's mean over the seeds.

    Args:
        direction: Query and target.
        reports: One per seed, or that of the first seed alone.
        nothing: Without alignment, one per seed.
        asked: The test items that have both modalities, of each seed.
    """
    found = [report.retrieval[direction] for report in reports]
    without = [report.retrieval[direction] for report in nothing]
    chance = _mean_by_item(asked, [np.full(len(one), each.chance(K)) for one, each in zip(asked, without, strict=True)])
    hits = _mean_by_item(asked[: len(found)], [one.hits(K) for one in found])
    unaligned = _mean_by_item(asked, [one.hits(K) for one in without])
    pairs = [report.pairs.get(direction) or report.pairs[direction[::-1]] for report in reports]
    return {
        "queries": len(hits),
        "candidates": round(float(np.mean([one.num_candidates for one in found]))),
        "chance": float(np.mean([one.chance(K) for one in found])),
        "chance rank": float(np.mean([one.chance_rank for one in found])),
        "recall": [one.recall(K) for one in found],
        "median rank": [one.median_rank for one in found],
        "above chance": vars(gr.evaluation.paired_bootstrap(hits, chance)),
        "above no alignment": vars(gr.evaluation.paired_bootstrap(hits, unaligned)),
        "entropy": float(np.mean([one.entropy for one in found])),
        "cross-entropy": float(np.mean([one.cross_entropy for one in found])),
        **{
            name: float(np.mean([getattr(pair, name) for pair in pairs]))
            for name in ("cosine_before", "cosine", "alignment", "gap")
        },
    }


def _mean_by_item(items: list[NDArray[np.int64]], values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Returns the mean value of every item, over the seeds that held it out."""
    return pd.Series(np.concatenate(values)).groupby(np.concatenate(items)).mean().to_numpy()
