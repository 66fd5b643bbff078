"""Fits the LightGCN of RecBole (https://recbole.io).

RecBole 1.2.1 needs numpy 1 and SciPy 1.11 (it uses ``np.float_`` and ``dok_matrix._update``), while gnnrec asks for
numpy 2. It runs in an environment of its own, with the older versions put under gnnrec:

    pip install -e '.[dev]'
    pip install 'recbole==1.2.1' 'numpy<2' 'scipy<1.12' 'pandas<3' 'pyarrow<20' 'setuptools<81'
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from harness.task import FitTask, FittedModel

_MAX_EPOCHS, _EPOCHS_BETWEEN_LOOKS, _PATIENCE = 1000, 5, 10  # patience counts looks at the validation recall


def fit_lightgcn(task: FitTask, hyperparameters: Mapping[str, Any]) -> FittedModel:
    """He et al. 2020, by RecBole's own trainer; its early stopping looks at its own recall@20."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.general_recommender import LightGCN
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    with tempfile.TemporaryDirectory() as folder:
        _write_log(Path(folder) / "log", task)
        config = Config(model="LightGCN", dataset="log", config_dict=_settings(folder, task, hyperparameters))
        init_seed(config["seed"], reproducibility=True)
        data = create_dataset(config)
        train, valid, _ = data_preparation(config, data)
    model = LightGCN(config, train.dataset).to(config["device"])
    best: dict[str, Any] = {"recall": -1.0}
    looks: list[int] = []

    def keep_best(epoch_index: int, recall: float) -> None:
        looks.append(epoch_index + 1)
        if recall > best["recall"]:
            best.update(recall=recall, epoch=epoch_index + 1, vectors=_vectors(model))

    if task.valid is None:
        Trainer(config, model).fit(train, saved=False, verbose=False)
        best, looks = {"epoch": config["epochs"], "vectors": _vectors(model)}, [config["epochs"]]
    else:
        Trainer(config, model).fit(train, valid, saved=False, verbose=False, callback_fn=keep_best)
    return FittedModel(_scores(best["vectors"], data, task.pairs.shape), best["epoch"], looks[-1])


def _settings(folder: str, task: FitTask, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data_path": folder,
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "checkpoint_dir": folder,
        "seed": task.seed,
        "use_gpu": task.device != "cpu",
        "show_progress": False,
        "epochs": _MAX_EPOCHS,
        "eval_step": _EPOCHS_BETWEEN_LOOKS,
        "stopping_step": _PATIENCE,
        "metrics": ["Recall"],
        "topk": [20],
        "valid_metric": "Recall@20",
        "eval_args": {"group_by": "user", "order": "RO", "mode": "full", "split": {"LS": "valid_and_test"}},
        **hyperparameters,
    }


def _write_log(folder: Path, task: FitTask) -> None:
    """Writes the pairs in RecBole's format. What it takes for a test set is the validation set once more."""
    folder.mkdir()
    held_out = task.pairs[:1] if task.valid is None else task.valid.interaction_matrix()
    for part, pairs in (("train", task.pairs), ("valid", held_out), ("test", held_out)):
        rows = np.column_stack(sp.coo_matrix(pairs).nonzero())
        header = "user_id:token\titem_id:token"
        np.savetxt(folder / f"log.{part}.inter", rows, fmt="%d", delimiter="\t", header=header, comments="")


@torch.no_grad()
def _vectors(model: Any) -> tuple[Tensor, Tensor]:
    user, item = model.forward()
    return user.clone(), item.clone()


def _scores(vectors: tuple[Tensor, Tensor], data: Any, shape: tuple[int, int]) -> Any:
    """Brings RecBole's positions, which start at 1 in the order of the log, back to those of the catalogue."""
    position = [
        torch.tensor([data.field2token_id[field].get(str(index), 0) for index in range(size)])
        for field, size in zip(("user_id", "item_id"), shape, strict=True)
    ]
    user, item = (one.cpu()[place] for one, place in zip(vectors, position, strict=True))
    unknown = position[1] == 0

    def score_block(user_index: Tensor) -> Tensor:
        return (user[user_index] @ item.T).masked_fill(unknown, -torch.inf)

    return score_block
