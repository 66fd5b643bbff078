"""Fits models of LensKit (https://lenskit.org)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.task import FitTask, FittedModel


def fit_als(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """Hu, Koren & Volinsky 2008, by Cholesky decomposition."""
    from lenskit.als import ImplicitMFScorer

    return _fitted(ImplicitMFScorer(**hyperparameters), task)


def fit_ease(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """Steck 2019."""
    from lenskit.knn import EASEScorer

    return _fitted(EASEScorer(**hyperparameters), task)


def fit_item_knn(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """Deshpande & Karypis 2004."""
    from lenskit.knn import ItemKNNScorer

    return _fitted(ItemKNNScorer(feedback="implicit", **hyperparameters), task)


def _fitted(scorer: Any, task: FitTask) -> FittedModel:
    from lenskit.data import DatasetBuilder, ItemList, RecQuery
    from lenskit.training import TrainingOptions

    pairs = task.pairs.tocoo()
    num_users, num_items = pairs.shape
    builder = DatasetBuilder()
    builder.add_entities("user", np.arange(num_users))
    builder.add_entities("item", np.arange(num_items))
    events = pd.DataFrame({"user_id": pairs.row, "item_id": pairs.col})
    builder.add_interactions("event", events, entities=["user", "item"], default=True)
    scorer.train(builder.build(), TrainingOptions(rng=task.seed, device="cpu"))
    all_items = ItemList(item_ids=np.arange(num_items))

    def scores_of(user: int) -> np.ndarray:
        history = ItemList(item_ids=task.pairs[user].indices.astype(np.int64))
        scores = scorer(RecQuery(user_id=user, history_items=history), all_items).scores()
        # LensKit says by NaN, or by nothing at all, which items it cannot score.
        return np.full(num_items, -np.inf) if scores is None else np.nan_to_num(scores, nan=-np.inf)

    def score_block(user_index: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([scores_of(user) for user in user_index.tolist()]))

    return FittedModel(score_block)
