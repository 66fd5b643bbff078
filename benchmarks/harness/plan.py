"""Declares what is compared: data sets with their splits, models, and the hyper-parameters each may choose from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import gnnrec as gr
from gnnrec.data.split import Splitter
from harness.task import FitTask, FittedModel, Model
from peers import cornac_models, implicit_models, lenskit_models, pyg_models


@dataclass(frozen=True)
class Benchmark:
    """A data set and how it is split.

    Attributes:
        title: What readers call it.
        splitter: Gives (train, valid, test).
        has_valid: The split has a validation part; without one a tenth of train is held out to choose epochs and
            hyper-parameters, and the model is then fitted once more on all of train.
        split: The same in words.
    """

    title: str
    splitter: Splitter
    has_valid: bool
    split: str


_PUBLISHED = gr.split.column("x_label")

BENCHMARKS: Mapping[str, Benchmark] = {
    "tiktok": Benchmark("TikTok", _PUBLISHED, True, "published"),
    "amazon-baby-interactions": Benchmark("Amazon Baby, log only", _PUBLISHED, True, "published by DiffMM"),
    "allrecipes-interactions": Benchmark("Allrecipes, log only", _PUBLISHED, True, "published"),
    "gowalla": Benchmark("Gowalla", _PUBLISHED, False, "published by NGCF and LightGCN, no validation part"),
    "ml-1m": Benchmark("MovieLens 1M", _PUBLISHED, False, "published, no validation part"),
    "ml-100k-multimodal": Benchmark(
        "MovieLens 100K with posters and plots",
        gr.split.random(valid=0.1, test=0.1, seed=0),
        True,
        "random pairs, a tenth each for validation and test, seed 0",
    ),
}


def _grid(**values: Sequence[Any]) -> tuple[Mapping[str, Any], ...]:
    """Returns every combination."""
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))


# Vectors are 64 wide everywhere, as in most published comparisons.
PEERS: Mapping[str, Model] = {
    "implicit-als": Model(
        implicit_models.fit_als,
        _grid(factors=[64], regularization=[0.01, 0.1, 1.0], alpha=[1.0, 10.0], iterations=[15]),
        package="implicit",
    ),
    "implicit-bpr": Model(
        implicit_models.fit_bpr,
        _grid(factors=[64], learning_rate=[0.01, 0.05], regularization=[0.001, 0.01, 0.05], iterations=[100]),
        package="implicit",
    ),
    "cornac-bpr": Model(
        cornac_models.fit_bpr,
        _grid(k=[64], learning_rate=[0.01, 0.05], lambda_reg=[0.001, 0.01, 0.05], max_iter=[100]),
        package="cornac",
    ),
    "cornac-vbpr": Model(
        cornac_models.fit_vbpr,
        _grid(k=[32], k2=[32], learning_rate=[0.001, 0.005], lambda_w=[0.01, 0.1], n_epochs=[50], batch_size=[1024]),
        package="cornac",
    ),
    "cornac-lightgcn": Model(cornac_models.fit_lightgcn, package="cornac"),
    "lenskit-als": Model(
        lenskit_models.fit_als,
        _grid(embedding_size=[64], regularization=[0.01, 0.1, 1.0], weight=[10.0, 40.0], epochs=[15]),
        package="lenskit",
    ),
    "lenskit-ease": Model(
        lenskit_models.fit_ease, _grid(regularization=[10.0, 50.0, 200.0]), package="lenskit", deterministic=True
    ),
    "lenskit-item-knn": Model(
        lenskit_models.fit_item_knn, _grid(max_nbrs=[20, 100, 500]), package="lenskit", deterministic=True
    ),
    "pyg-lightgcn": Model(
        pyg_models.fit_lightgcn,
        _grid(embedding_dim=[64], num_layers=[2, 3], learning_rate=[0.001], lambda_reg=[1e-4]),
        package="torch-geometric",
        early_stopping=True,
    ),
}


def model_of(name: str) -> Model:
    """Returns the peer of that name, or gnnrec's preset.

    Raises:
        ConfigError: There is neither.
    """
    if name in PEERS:
        return PEERS[name]
    trained = gr.presets.preset(name).ranker == "neural"
    return Model(partial(_fit_preset, name), deterministic=not trained, refits_itself=trained)


def _fit_preset(name: str, task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    recommender = gr.Recommender.preset(name, seed=task.seed, device=task.device, **hyperparameters)
    recommender.fit(task.train, task.valid, refit=task.valid is None, progress=False)
    state = recommender.state
    epochs = (state.best_epoch, len(state.history)) if state.history else (None, None)
    return FittedModel(lambda user_index: state.ranker.score(user_index.numpy()), *epochs)
