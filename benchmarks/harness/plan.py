"""Declares the data sets that models are compared on, and how each is split."""

from collections.abc import Mapping
from dataclasses import dataclass

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
        raw_media: It brings texts or pictures, which have to be encoded before a fit is timed.
    """

    title: str
    splitter: Splitter
    has_valid: bool
    split: str
    raw_media: bool = False


_PUBLISHED = gr.split.column("x_label")

BENCHMARKS: Mapping[str, Benchmark] = {
    "tiktok": Benchmark("TikTok", _PUBLISHED, True, "published"),
    "amazon-baby-interactions": Benchmark("Amazon Baby, log only", _PUBLISHED, True, "published by DiffMM"),
    "allrecipes-interactions": Benchmark("Allrecipes, log only", _PUBLISHED, True, "published"),
    "gowalla": Benchmark("Gowalla", _PUBLISHED, False, "published by NGCF and LightGCN, no validation part"),
    "ml-1m": Benchmark("MovieLens 1M", _PUBLISHED, False, "published, no validation part", raw_media=True),
    "ml-100k-multimodal": Benchmark(
        "MovieLens 100K with posters and plots",
        gr.split.random(valid=0.1, test=0.1, seed=0),
        True,
        "random pairs, a tenth each for validation and test, seed 0",
        raw_media=True,
    ),
}
