"""Names the alignment objectives and combines several of them with weights."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnrec.config import suggest
from gnnrec.errors import ConfigError
from gnnrec.nn.alignment.adversarial import Adversarial
from gnnrec.nn.alignment.co_training import CoTraining
from gnnrec.nn.alignment.contrast import InfoNCE
from gnnrec.nn.alignment.distance import Distance
from gnnrec.nn.alignment.distribution import Distribution
from gnnrec.nn.alignment.multi_task import MultiTask
from gnnrec.nn.alignment.networks import Concatenation, CrossAttention, Generative
from gnnrec.nn.alignment.objective import AlignedRows, AlignmentObjective
from gnnrec.nn.alignment.transport import OptimalTransport

__all__ = ["OBJECTIVES", "WeightedObjectives", "check_weights"]

# Name → an AlignmentObjective, built as Objective(num_modalities, dim); multi-task also takes what it predicts.
OBJECTIVES: Mapping[str, type[AlignmentObjective]] = {
    "distance": Distance,
    "infonce": InfoNCE,
    "concatenation": Concatenation,
    "cross-attention": CrossAttention,
    "adversarial": Adversarial,
    "generative": Generative,
    "optimal-transport": OptimalTransport,
    "distribution": Distribution,
    "co-training": CoTraining,
    "multi-task": MultiTask,
}


class WeightedObjectives(AlignmentObjective):
    """A weighted sum of objectives; those of weight 0 are left out.

    What it makes of one modality alone is the weighted mean of the unit vectors that its objectives make.

    Args:
        weights: Name in ``OBJECTIVES`` → weight ≥ 0.
        num_modalities: Number of modalities.
        dim: Width of the common space.
        tasks: Label → number of classes, or 1 for a number, for ``multi-task``.

    Raises:
        ConfigError: An unknown name, a negative weight, or no weight above 0.
    """

    def __init__(
        self, weights: Mapping[str, float], num_modalities: int, dim: int, tasks: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(num_modalities, dim)
        check_weights(weights)
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}

        def build(name: str) -> AlignmentObjective:
            if name == "multi-task":
                return MultiTask(num_modalities, dim, tasks)
            return OBJECTIVES[name](num_modalities, dim)

        self.objectives = nn.ModuleDict({name: build(name) for name in self.weights})

    def forward(self, rows: AlignedRows) -> Tensor:
        """Returns the weighted sum of the losses."""
        return torch.stack([self.weights[name] * loss(rows) for name, loss in self.objectives.items()]).sum()

    def transform(self, z: Tensor, modality: int) -> Tensor:
        """Returns ``[num_rows, dim]`` unit vectors."""
        made = [self.weights[name] * F.normalize(self._of(name).transform(z, modality)) for name in self.weights]
        return F.normalize(torch.stack(made).sum(dim=0))

    def _of(self, name: str) -> AlignmentObjective:
        objective = self.objectives[name]
        assert isinstance(objective, AlignmentObjective)
        return objective


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuses weights of objectives that cannot be used, as :class:`WeightedObjectives` says."""
    for name, weight in weights.items():
        if name not in OBJECTIVES:
            raise ConfigError(f"there is no alignment objective {name!r}{suggest(name, OBJECTIVES)}")
        if not (weight >= 0 and math.isfinite(weight)):
            raise ConfigError(f"the weight of the alignment objective {name!r} must be 0 or more, got {weight}")
    if not any(weights.values()):
        raise ConfigError(f"an alignment needs an objective of weight above 0; choose from {', '.join(OBJECTIVES)}")
