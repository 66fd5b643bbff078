"""Turns data sets into what a model is fitted on, and holds what comes out: a function that scores all items."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

import gnnrec as gr
from gnnrec.evaluation import evaluate_rankings
from gnnrec.modalities.encode import encode_dataset
from gnnrec.modalities.features import mean_per_owner
from gnnrec.state import RecommenderState

# user_index [block] -> scores [block, num_items]
ScoreBlock: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class FitTask:
    """What a model is fitted on. Nothing in it comes from the test set.

    Attributes:
        train: What to learn from.
        valid: What chooses epochs and hyper-parameters; never learned from. ``None`` when both are already chosen.
        seed: Fixes everything random.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    train: gr.Dataset
    valid: gr.Dataset | None
    seed: int
    device: str = "auto"

    @cached_property
    def pairs(self) -> sp.csr_matrix:
        """The training pairs, binary float32 ``[num_users, num_items]``."""
        return self.train.interaction_matrix()

    @cached_property
    def item_vectors(self) -> NDArray[np.float32]:
        """One unit vector per item and modality, side by side ``[num_items, dim]``; zeros where one is missing."""
        features = [one for one in encode_dataset(self.train).values() if one.of == "item"]
        if not features:
            raise ValueError("the data set has no item media, and this model needs some")
        blocks = []
        for one in features:
            vectors, owners = mean_per_owner(one)
            block = np.zeros((self.train.num_items, one.dim), dtype=np.float32)
            block[owners.numpy()] = vectors.numpy()
            blocks.append(block)
        return np.hstack(blocks)

    def validation_recall(self, score_block: ScoreBlock) -> float:
        """Returns recall@20 on the validation pairs, with the training pairs hidden."""
        assert self.valid is not None
        pairs = self.valid.interaction_matrix()
        return evaluate_rankings(score_block, pairs, mask=self.pairs, metrics=["recall@20"]).values["recall@20"]


@dataclass(frozen=True, eq=False)
class FittedModel:
    """What a fit gives.

    Attributes:
        score_block: Scores all items for a block of users.
        best_epoch: Epoch that was kept; ``None`` for a model without epochs or without a choice among them.
        epochs: Epochs that were run.
        config: Every option it was fitted with, if its package tells, but seed and device.
        state: Of one of gnnrec's own models: what takes in new items.
    """

    score_block: ScoreBlock
    best_epoch: int | None = None
    epochs: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    state: RecommenderState | None = None


@dataclass(frozen=True)
class Model:
    """A model as the harness sees it.

    Attributes:
        fit: Fits it with the given hyper-parameters.
        grid: The hyper-parameters that validation chooses from.
        package: Where it comes from.
        deterministic: The seed changes nothing, so one fit is enough.
        early_stopping: It chooses its epochs by the validation pairs of the task.
        refits_itself: Without validation pairs it holds some out, chooses its epochs by them and fits once more.
    """

    fit: Callable[[FitTask, Mapping[str, Any]], FittedModel]
    grid: tuple[Mapping[str, Any], ...] = ({},)
    package: str = "gnnrec"
    deterministic: bool = False
    early_stopping: bool = False
    refits_itself: bool = False
