"""Declares the data sets in which modalities are aligned, how each is split, and the spaces that are compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import gnnrec as gr
from gnnrec.nn.alignment import OBJECTIVES
from gnnrec.retrieval.aligned_space import AlignmentConfig

NONE, CLOSED_FORM, DEFAULT = "no alignment", "closed form alone", "infonce"
FROM_RANDOM = {"start": "random", "epochs": 30, "learning_rate": 3e-3}


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
