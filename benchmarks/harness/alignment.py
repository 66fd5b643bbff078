"""Learns one space for the modalities of some items, and measures how well held-out items find each other in it."""

import time
from collections.abc import Callable, Mapping
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
from gnnrec.nn.alignment import OBJECTIVES
from gnnrec.retrieval.aligned_space import AlignedSpace, AlignmentConfig

K = 10
NONE, CLOSED_FORM, DEFAULT = "no alignment", "closed form alone", "infonce"
FROM_RANDOM = {"start": "random", "epochs": 30, "learning_rate": 3e-3}

Vectors = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Space:
    """A space to measure: what it is called and how it is learned; ``None``: random projections, nothing is learned."""

    name: str
    config: AlignmentConfig | None

    @property
    def seeds_differ(self) -> bool:
        """Whether the seed changes anything."""
        return self.config is None or self.config.epochs > 0


@dataclass(frozen=True)
class AlignmentBenchmark:
    """A data set, what is aligned in it, and which items are held out.

    Attributes:
        title: What readers call it.
        read: Returns the data set, with the modalities to align.
        modalities: The modalities to align.
        directions: (Query, target): what the page lists, and what validation judges a space by.
        split: Number of items, seed → (learned from while choosing, validation, learned from in the end, test).
        split_anew: Every seed has its own split, not that of seed 0: where few items are held out, more are asked.
        words: The split in words.
        spaces: What is measured.
        labels: Data set → labels for ``multi-task``.
    """

    title: str
    read: Callable[[], gr.Dataset]
    modalities: tuple[str, ...]
    directions: tuple[tuple[str, str], ...]
    split: Callable[[int, int], tuple[NDArray[np.int64], ...]]
    split_anew: bool
    words: str
    spaces: tuple[Space, ...]
    labels: Callable[[gr.Dataset], dict[str, NDArray[Any]]]


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


def _movie_parts(num_items: int, seed: int) -> tuple[NDArray[np.int64], ...]:
    items = np.random.default_rng(seed).permutation(num_items)
    train, valid, test = np.split(items, [round(0.6 * num_items), round(0.8 * num_items)])
    return train, valid, train, test


def _stamp_parts(num_items: int, seed: int) -> tuple[NDArray[np.int64], ...]:
    train, test = np.split(np.random.default_rng(seed).permutation(num_items), [round(0.7 * num_items)])
    fit, valid = np.split(train, [round(0.8 * len(train))])
    return fit, valid, train, test


def _movie_labels(data: gr.Dataset) -> dict[str, NDArray[Any]]:
    assert data.item_table is not None
    stars = pd.Series(data.events.weight).groupby(data.events.item_index).mean()
    genres = data.item_table["genres"].str.get_dummies(", ").to_numpy(dtype=np.float32)
    return {"genres": genres, "stars": stars.reindex(range(data.num_items)).to_numpy()}


def _stamp_labels(data: gr.Dataset) -> dict[str, NDArray[Any]]:
    assert data.item_table is not None
    return {"category": pd.factorize(data.item_table["category"])[0]}


def _movies() -> gr.Dataset:
    """Reads the movies; posters are seen whole, since half of one lies outside its middle square."""
    data = gr.datasets.load("ml-100k-multimodal")
    poster = replace(data.modalities["poster"], encoder="efficientnet-lite0-whole")
    return replace(data, modalities={**data.modalities, "poster": poster})


def _stamps() -> gr.Dataset:
    """Reads the stamps, with a richer English text beside the name."""
    data = gr.datasets.load("stamps")
    return replace(data, modalities={**data.modalities, "described_en": gr.Text(("name_en", "subcategory"))})


def _joined(weights: Mapping[str, float]) -> str:
    return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in weights.items())


_START = Space(CLOSED_FORM, AlignmentConfig(epochs=0))
_COMBINATIONS: tuple[dict[str, float], ...] = (
    {"infonce": 1.0, "distance": 0.1},
    {"distribution": 1.0, "distance": 0.1},
    {"adversarial": 1.0, "infonce": 1.0},
    {"multi-task": 1.0, "infonce": 1.0},
)

BENCHMARKS: Mapping[str, AlignmentBenchmark] = {
    "ml-100k-multimodal": AlignmentBenchmark(
        title="MovieLens 100K with posters and plots",
        read=_movies,
        modalities=("plot", "poster"),
        directions=(("plot", "poster"), ("poster", "plot")),
        split=_movie_parts,
        split_anew=False,
        words="movies in random order (seed 0): 60 % to learn from, 20 % for validation, 20 % for test",
        spaces=(
            Space(NONE, None),
            _START,
            *(Space(name, AlignmentConfig(objectives={name: 1.0})) for name in OBJECTIVES),
            *(Space(_joined(weights), AlignmentConfig(objectives=weights)) for weights in _COMBINATIONS),
            *(
                Space(f"{name}, random start", AlignmentConfig(objectives={name: 1.0}, **FROM_RANDOM))
                for name in OBJECTIVES
            ),
        ),
        labels=_movie_labels,
    ),
    "stamps": AlignmentBenchmark(
        title="Stamps: pictures, sounds and names in five languages",
        read=_stamps,
        modalities=(
            *("picture", "name_en", "described_en", "name_fr", "name_es", "name_ja", "name_zh"),
            *("spoken_fr", "sound"),
        ),
        directions=(
            *(("name_en", "picture"), ("picture", "name_en")),
            *(("described_en", "picture"), ("picture", "described_en")),
            *(("spoken_fr", "picture"), ("name_zh", "picture")),
        ),
        split=_stamp_parts,
        split_anew=True,
        words="stamps in random order, another for every seed, since few of them sound: 70 % to learn from, 30 % for "
        "test; a space is chosen on a fifth of the former, then learned once more from all of them",
        spaces=(
            Space(NONE, None),
            _START,
            Space(DEFAULT, AlignmentConfig()),
            Space("multi-task + infonce", AlignmentConfig(objectives={"multi-task": 1.0, "infonce": 1.0})),
        ),
        labels=_stamp_labels,
    ),
}
