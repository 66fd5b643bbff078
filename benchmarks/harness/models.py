"""Declares the models that are compared, and the hyper-parameters that validation may choose for each."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import gnnrec as gr
from gnnrec.config import to_dict
from gnnrec.evaluation.validation_part import set_aside
from harness.task import FitTask, FittedModel, Model
from peers import cornac_models, implicit_models, lenskit_models, pyg_models, recbole_models, rectools_models


def _grid(**values: Sequence[Any]) -> tuple[Mapping[str, Any], ...]:
    """Returns every combination."""
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))


_LINEAR_PART = {"linear_exponent": 0.125, "user_exponent": 0.75}
_NEIGHBOURS = [20, 50, 100, 200, 500]
_ALS_RIDGES = [0.1, 1.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]
_ALS_WEIGHTS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]
_RIDGES = [20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]

# gnnrec's own rankers without training; its other presets run as they come.
GRIDS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "ease": _grid(l2=_RIDGES),
    # The exponents as they come, and those of the linear part of gnnrec.
    "graph-filter": tuple(
        {**size, **exponents}
        for exponents in ({}, _LINEAR_PART, {**_LINEAR_PART, "ideal_user_exponent": 0.75})
        for size in _grid(factors=[16, 64, 256, 1024], ideal_weight=[1.0, 3.0], regularisation=[0.0, 1.0])
    ),
    "content-knn": _grid(content_neighbours=[0, 10, 30, 100, 300], scaling=["standard", "none"]),
    "item-knn": _grid(neighbours=[5, 20, 100, 500, 2000], shrinkage=[0.0, 10.0, 100.0, 1000.0]),
}

# Vectors are 64 wide everywhere, as in most published comparisons.
PEERS: Mapping[str, Model] = {
    "implicit-als": Model(
        implicit_models.fit_als,
        _grid(factors=[64], regularization=_ALS_RIDGES, alpha=_ALS_WEIGHTS, iterations=[15]),
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
    "cornac-mmmf": Model(
        cornac_models.fit_mmmf,
        _grid(k=[64], learning_rate=[0.01, 0.05], lambda_reg=[0.001, 0.01, 0.05], max_iter=[100]),
        package="cornac",
    ),
    "cornac-vbpr": Model(
        cornac_models.fit_vbpr,
        _grid(
            k=[32], k2=[32], learning_rate=[0.001, 0.005], lambda_w=[0.01, 0.1], n_epochs=[50, 200], batch_size=[1024]
        ),
        package="cornac",
    ),
    "cornac-lightgcn": Model(
        cornac_models.fit_lightgcn,
        _grid(emb_size=[64], num_layers=[3], learning_rate=[0.005], batch_size=[8192], num_epochs=[25, 50, 100, 200]),
        package="cornac",
    ),
    "lenskit-als": Model(
        lenskit_models.fit_als,
        _grid(embedding_size=[64], regularization=_ALS_RIDGES, weight=_ALS_WEIGHTS, epochs=[15]),
        package="lenskit",
    ),
    "lenskit-ease": Model(
        lenskit_models.fit_ease,
        _grid(regularization=_RIDGES),
        package="lenskit",
        deterministic=True,
    ),
    "lenskit-item-knn": Model(
        lenskit_models.fit_item_knn,
        _grid(max_nbrs=[500], save_nbrs=_NEIGHBOURS),  # of the history, and of the item
        package="lenskit",
        deterministic=True,
    ),
    "pyg-lightgcn": Model(
        pyg_models.fit_lightgcn,
        _grid(embedding_dim=[64], num_layers=[2, 3], learning_rate=[0.001], lambda_reg=[1e-4]),
        package="torch-geometric",
        early_stopping=True,
    ),
    "recbole-lightgcn": Model(
        recbole_models.fit_lightgcn,
        _grid(embedding_size=[64], n_layers=[2, 3], learning_rate=[0.001], reg_weight=[1e-4], train_batch_size=[4096]),
        package="recbole",
        early_stopping=True,
    ),
    "rectools-sasrec": Model(
        rectools_models.fit_sasrec,
        _grid(n_factors=[64], n_heads=[1], session_max_len=[50, 100], dropout_rate=[0.2, 0.5]),
        package="rectools",
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
    return Model(partial(_fit_preset, name), GRIDS.get(name, ({},)), deterministic=not trained, refits_itself=trained)


def _fit_preset(name: str, task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    recommender = gr.Recommender.preset(name, seed=task.seed, device=task.device, **hyperparameters)
    # Where fit itself holds training pairs out, for want of validation pairs on known items, it learns from all then.
    holds_out = set_aside(task.train, task.valid, seed=task.seed).train is not task.train
    recommender.fit(task.train, task.valid, refit=holds_out, progress=False)
    state = recommender.state
    epochs = (state.best_epoch, len(state.history)) if state.history else (None, None)
    config = {name: value for name, value in to_dict(recommender.config).items() if name not in ("seed", "device")}
    return FittedModel(lambda user_index: state.ranker.score(user_index.numpy()), *epochs, config, state)
