"""Fits models of Cornac (https://github.com/PreferredAI/cornac)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.task import FitTask, FittedModel


def fit_bpr(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """Rendle et al. 2009, with item biases; one thread, as a seed needs."""
    from cornac.models import BPR

    return _fitted(BPR(seed=task.seed, **hyperparameters), task)


def fit_mmmf(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """Weimer et al. 2008: the pairs of ``fit_bpr`` under a hinge loss; one thread, as a seed needs."""
    from cornac.models import MMMF

    return _fitted(MMMF(seed=task.seed, **hyperparameters), task)


def fit_vbpr(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """He & McAuley 2016, on the vectors of all item media side by side."""
    from cornac.data import ImageModality
    from cornac.models import VBPR

    index = range(task.train.num_items)
    images = ImageModality(features=task.item_vectors, ids=list(index)).build(id_map={item: item for item in index})
    model = VBPR(seed=task.seed, verbose=False, use_gpu=task.device != "cpu", **hyperparameters)
    return _fitted(model, task, item_image=images)


def fit_lightgcn(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """He et al. 2020, on DGL."""
    from cornac.models import LightGCN

    return _fitted(LightGCN(seed=task.seed, **hyperparameters), task)


def _fitted(model: Any, task: FitTask, **media: Any) -> FittedModel:
    from cornac.data import Dataset

    pairs = task.pairs.tocoo()
    # The identity as id map keeps users and items without training pairs, and everybody's place.
    users, items = ({index: index for index in range(size)} for size in pairs.shape)
    train = Dataset.build(
        zip(pairs.row.tolist(), pairs.col.tolist(), pairs.data.tolist(), strict=True),
        global_uid_map=users,
        global_iid_map=items,
        seed=task.seed,
    )
    train.add_modalities(**media)
    model.fit(train)

    def score_block(user_index: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([model.score(user) for user in user_index.tolist()]))

    return FittedModel(score_block)
