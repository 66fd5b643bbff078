"""What a search solves: which options make a fit on the training set score best on the validation set."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnnrec.config import to_dict
from gnnrec.data.dataset import Dataset
from gnnrec.data.labels import item_labels
from gnnrec.evaluation.protocol import evaluate_rankings
from gnnrec.fitting import fit_state
from gnnrec.modalities.features import Features
from gnnrec.presets import RecommenderConfig
from gnnrec.training.loop import EpochRecord
from gnnrec.tuning.space import Point, SearchSpace, at_point

__all__ = ["Problem"]


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that a trial needs, so that it can run in any process.

    Attributes:
        train: What every trial learns from.
        valid: What every trial is measured on.
        features: The media of ``train``, encoded once for all trials.
        config: Where the search starts.
        space: Option → where to look.
        start: The point of the space where ``config`` lies.
    """

    train: Dataset
    valid: Dataset
    features: Mapping[str, Features]
    config: RecommenderConfig
    space: SearchSpace
    start: Point

    @property
    def metric(self) -> str:
        """The validation metric to maximise."""
        return self.config.training.select_by

    def measure(self, point: Mapping[str, Any], on_epoch: Callable[[EpochRecord], None]) -> float:
        """Fits with the options of a point and returns the metric of what was fitted.

        That is measured anew: after its best epoch a model may still choose how much popularity counts.

        Args:
            point: One value per option of the space.
            on_epoch: Called with each epoch's record; what it raises ends the fit.

        Raises:
            GnnrecError: The options do not work.
        """
        config = at_point(self.config, point)
        state, _ = fit_state(self.train, self.valid, config, on_epoch=on_epoch, features=self.features, align=False)
        evaluation = evaluate_rankings(
            lambda user_index: state.ranker.score(user_index.numpy()),
            state.valid,
            mask=state.train,
            metrics=(self.metric,),
        )
        return evaluation.values[self.metric]

    def fingerprint(self) -> dict[str, Any]:
        """Returns what two searches must share to continue one another, as JSON has it."""
        options = to_dict(self.config)
        del options["device"]  # the same search may go on elsewhere
        space = {name: to_dict(where) for name, where in self.space.items()}
        facts: dict[str, Any] = json.loads(json.dumps({"options": options, "space": space}))
        return {"data": self._digest(), **facts}

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for dataset in (self.train, self.valid):
            pairs = dataset.interaction_matrix()
            for ids in (dataset.users.ids, dataset.items.ids):
                digest.update(json.dumps(ids.tolist()).encode())
            digest.update(pairs.indptr.astype(np.int64).tobytes() + pairs.indices.astype(np.int64).tobytes())
            events = dataset.events
            for values in (events.user_index, events.item_index, events.weight, events.timestamp):
                digest.update(b"none" if values is None else np.ascontiguousarray(values).tobytes())
        labels = item_labels(self.train, self.config.graph.labels)
        for name, label in sorted(labels.items()):
            digest.update(name.encode() + np.ascontiguousarray(label).tobytes())
        for name, edges in sorted(self.train.relations.items()):
            digest.update(f"{name} {edges.between}".encode())
            digest.update(edges.source_index.tobytes() + edges.target_index.tobytes() + edges.weight.tobytes())
        for name, feature in sorted(self.features.items()):
            digest.update(name.encode() + feature.owner_index.tobytes())
            digest.update(np.ascontiguousarray(feature.values).ravel().data)
        return digest.hexdigest()
