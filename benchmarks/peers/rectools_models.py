r"""Fits the SASRec of RecTools (https://rectools.readthedocs.io), which reads histories in order.

RecTools 0.19 asks for numpy below 2 on Python 3.11 and 3.12, runs on later ones, and needs pandas below 3. It goes into
an environment of its own, with ``uv``, as pip cannot be told so:

    uv pip install -e . 'rectools[torch]' --override <(printf 'numpy>=2\npandas>=2.2,<3\n')
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gnnrec.fitting import resolve_device
from harness.task import FitTask, FittedModel

_MAX_EPOCHS, _EPOCHS_BETWEEN_LOOKS, _PATIENCE = 500, 5, 5  # patience counts looks at the validation recall


def fit_sasrec(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """Kang & McAuley 2018, with a softmax over all items; keeps the epoch of the best validation recall."""
    from pytorch_lightning import seed_everything
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    options = dict(hyperparameters)
    epochs = options.pop("epochs", _MAX_EPOCHS)
    seed_everything(task.seed, verbose=False)
    data = Dataset.construct(_events(task))
    device = resolve_device(task.device)
    trainer = {"get_trainer_func": _trainer, "get_trainer_func_kwargs": {"device": device}}
    model = SASRecModel(recommend_torch_device=device, **trainer, **options)
    best_recall, best_epoch, best_scores, epoch = -1.0, 0, None, 0
    while epoch < epochs:
        more = min(_EPOCHS_BETWEEN_LOOKS, epochs - epoch)
        model.fit_partial(data, min_epochs=more, max_epochs=more)
        epoch += more
        if task.valid is None:
            continue
        scores = _scores(model, data, task.pairs.shape)
        recall = task.validation_recall(scores.__getitem__)
        if recall > best_recall:
            best_recall, best_epoch, best_scores = recall, epoch, scores
        if epoch - best_epoch >= _PATIENCE * _EPOCHS_BETWEEN_LOOKS:
            break
    if best_scores is None:
        best_epoch, best_scores = epoch, _scores(model, data, task.pairs.shape)
    return FittedModel(best_scores.__getitem__, best_epoch, epoch)


def _trainer(device: str) -> Any:
    from pytorch_lightning import Trainer

    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu" if device == "cpu" else "gpu", devices=1, enable_checkpointing=False, **silent)


def _events(task: FitTask) -> pd.DataFrame:
    """Returns the pairs as RecTools wants them. Their time is the place in the history, so that ties stay in order."""
    order = task.train.order_matrix().tocoo()
    time = pd.Timestamp(0) + pd.to_timedelta(order.data.astype(np.int64), unit="s")
    return pd.DataFrame({"user_id": order.row, "item_id": order.col, "weight": 1.0, "datetime": time})


def _scores(model: Any, data: Any, shape: tuple[int, int]) -> Tensor:
    """Scores all items for all users ``[num_users, num_items]``; -inf where the model can say nothing."""
    listed = model.recommend(
        users=np.unique(data.get_raw_interactions()["user_id"]),
        dataset=data,
        k=shape[1],
        filter_viewed=False,
        add_rank_col=False,
        on_unsupported_targets="ignore",
    )
    scores = torch.full(shape, -torch.inf)
    scores[listed["user_id"].to_numpy(), listed["item_id"].to_numpy()] = torch.tensor(
        listed["score"].to_numpy(np.float32)
    )
    return scores
