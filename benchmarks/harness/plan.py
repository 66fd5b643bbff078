"""Declares the data sets that models are compared on, how each is split, and the parts that an ablation leaves out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import gnnrec as gr
from gnnrec.data.split import Splitter


@dataclass(frozen=True)
class Benchmark:
    """A data set and how it is split.

    Attributes:
        title: What readers call it.
        splitter: Gives (train, valid, test).
        has_valid: The split has a validation part; without one a tenth of train is held out to choose epochs and
            hyper-parameters, and the model is then fitted once more on all of train.
        split: The same in words.
        dataset: Name of the data set; that of the benchmark when not given.
        raw_media: It brings texts or pictures, which have to be encoded before a fit is timed.
    """

    title: str
    splitter: Splitter
    has_valid: bool
    split: str
    raw_media: bool = False
    dataset: str | None = None


def few_events(most: int, splitter: Splitter) -> Splitter:
    """Splits a log as sparse as that of a shop: of each person at most so many events, drawn at random, are there."""

    def split(dataset: gr.Dataset) -> tuple[gr.Dataset, gr.Dataset, gr.Dataset]:
        events = dataset.events
        drawn = np.random.default_rng(0).permutation(len(events))
        by_user = drawn[np.argsort(events.user_index[drawn], kind="stable")]
        user = events.user_index[by_user]
        place = np.arange(len(user)) - np.searchsorted(user, user)
        return splitter(dataset.with_events(events.take(np.sort(by_user[place < most]))))

    return split


_PUBLISHED = gr.split.column("x_label")
_LAST_EVENTS = "the last event of each person for test, the one before for validation"

BENCHMARKS: Mapping[str, Benchmark] = {
    "tiktok": Benchmark("TikTok", _PUBLISHED, True, "published"),
    "amazon-baby-interactions": Benchmark("Amazon Baby, log only", _PUBLISHED, True, "published by DiffMM"),
    "allrecipes-interactions": Benchmark("Allrecipes, log only", _PUBLISHED, True, "published"),
    "gowalla": Benchmark("Gowalla", _PUBLISHED, False, "published by NGCF and LightGCN, no validation part"),
    "ml-1m": Benchmark("MovieLens 1M", _PUBLISHED, False, "published, no validation part", raw_media=True),
    "citeulike-a": Benchmark(
        "CiteULike with tags and abstracts",
        gr.split.random(valid=0.1, test=0.1, seed=0),
        True,
        "random pairs, a tenth each for validation and test, seed 0",
        raw_media=True,
        dataset="citeulike-a-coldstart",
    ),
    "citeulike-a-few": Benchmark(
        "CiteULike with tags and abstracts, few events",
        few_events(10, gr.split.random(valid=0.1, test=0.1, seed=0)),
        True,
        "at most ten events of each person, of all pairs a tenth each for validation and test, seed 0",
        raw_media=True,
        dataset="citeulike-a-coldstart",
    ),
    "ml-100k-multimodal": Benchmark(
        "MovieLens 100K with posters and plots",
        gr.split.random(valid=0.1, test=0.1, seed=0),
        True,
        "random pairs, a tenth each for validation and test, seed 0",
        raw_media=True,
    ),
    "ml-100k-multimodal-last": Benchmark(
        "MovieLens 100K with posters and plots, last events",
        gr.split.leave_last(valid=1, test=1),
        True,
        _LAST_EVENTS,
        raw_media=True,
        dataset="ml-100k-multimodal",
    ),
    "ml-latest-small-last": Benchmark(
        "MovieLens latest small, last events",
        gr.split.leave_last(valid=1, test=1),
        True,
        _LAST_EVENTS,
        raw_media=True,
        dataset="ml-latest-small",
    ),
}


@dataclass(frozen=True)
class Published:
    """What others measured of a model that is a preset here, on the same split with training pairs masked.

    Attributes:
        dataset: Name of the benchmark.
        preset: Name of the preset.
        recall: Recall@20.
        ndcg: NDCG@20.
        source: Who measured it, and what differs.
    """

    dataset: str
    preset: str
    recall: float
    ndcg: float
    source: str


_MMREC = "MMRec's own code, run once on the same features; it is no package, so it is not among the peers"
_WITH_TEXT = "publications, with text beside picture and sound"

PUBLISHED = (
    Published("tiktok", "lightgcn", 0.0922, 0.0419, _MMREC),
    Published("tiktok", "lightgcn", 0.0916, 0.0406, "DA-MRS's authors, who tuned it"),
    Published("tiktok", "freedom", 0.0880, 0.0388, _MMREC),
    Published("tiktok", "bm3", 0.0957, 0.0404, _WITH_TEXT),
    Published("tiktok", "vbpr", 0.0380, 0.0134, _WITH_TEXT),
    Published("amazon-baby-interactions", "lightgcn", 0.0698, 0.0319, "DiffMM's authors, whose split it is"),
    Published("amazon-baby-interactions", "mf-bpr", 0.0440, 0.0200, "DiffMM's authors"),
    Published("gowalla", "lightgcn", 0.1830, 0.1554, "He et al. 2020, 3 layers and 1,000 epochs"),
)

# New items. Where a split takes them out of train, the harness holds out a tenth of the training pairs as warm test.
COLD_START: Mapping[str, Benchmark] = {
    "citeulike-a-coldstart": Benchmark(
        "CiteULike", gr.split.column("x_label", cold="item"), True, "published, test papers unknown in training", True
    ),
    "ml-100k-multimodal": Benchmark(
        "MovieLens 100K with posters and plots",
        gr.split.cold_items(valid=0.1, test=0.2, seed=0),
        True,
        "a tenth and a fifth of the movies for validation and test, unknown in training, seed 0",
        raw_media=True,
    ),
    "tiktok": Benchmark("TikTok", _PUBLISHED, True, "published, new videos in the catalogue of training"),
}

# Nothing added to the products of the vectors.
VECTORS_ALONE = "vectors alone"
_VECTORS_ALONE: Mapping[str, Any] = {"linear_part": "none", "known_content_taste": 0.0}

# The default model, each time with one of its parts left out, or another in its place.
WITHOUT_MEDIA = "without media"
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    WITHOUT_MEDIA: {"content": "none", "similar_items": 0},
    "without content of its own": {"content": "none"},
    "without neighbours by content": {"similar_items": 0},
    "without content of known items": {"known_content_taste": 0.0},
    "without co-occurrence": {"co_occurring_items": 0},
    "without propagation": {"hops": 0},
    "without edge dropout": {"edge_dropout": 0.0},
    "without hidden items": {"identity_dropout": 0.0},
    "without item bias": {"item_bias": False},
    "popularity as trained": {"popularity_weight": 1.0},
    "without a linear part": {"linear_part": "none"},
    "random walk for the graph filter": {"linear_part": "random-walk"},
    "without a sequence encoder": {"sequence_encoder": "none"},
    "without order of events": {"linear_decay": 0.0, "sequence_encoder": "none"},
    "BPR for the softmax": {"loss": "bpr"},
    "spectral initialisation": {"initialisation": "spectral"},
    VECTORS_ALONE: _VECTORS_ALONE,
}

# What follows changes the vectors, so it is measured on them alone: what else counts would hide some of the difference.

# The default model with each of the other fusions. (Named here, since torch belongs into the process of a fit alone.)
OTHER_FUSIONS: Mapping[str, Mapping[str, Any]] = {
    f"fusion {name}": {**_VECTORS_ALONE, "fusion": name}
    for name in ("mean", "weighted", "concatenation", "stacking", "gated", "transformer")
}

# The default model that reads the last events of each person in order, or does not, whatever validation says.
SEQUENCES: Mapping[str, Mapping[str, Any]] = {
    f"sequence {name}": {**_VECTORS_ALONE, "sequence_encoder": name} for name in ("none", "gru", "transformer")
}

# The default model with each alignment objective beside the ranking loss, at a weight usual for contrastive terms.
_WEIGHT = 0.03
_LABELS = {"multi-task": {"labels": ["genres"]}}
ALIGNMENTS: Mapping[str, Mapping[str, Any]] = {
    f"alignment {name}": {**_VECTORS_ALONE, "modality_alignment": {name: _WEIGHT}, **_LABELS.get(name, {})}
    for name in (
        "distance",
        "infonce",
        "concatenation",
        "cross-attention",
        "adversarial",
        "generative",
        "optimal-transport",
        "distribution",
        "co-training",
        "multi-task",
    )
}
