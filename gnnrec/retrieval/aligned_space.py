"""Learns one space for all modalities of one kind of owner, such that a vector of any of them finds the owner."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from gnnrec.config import from_dict, suggest, to_dict
from gnnrec.errors import ConfigError, DataError
from gnnrec.modalities.features import Features, mean_per_owner
from gnnrec.nn.align import Alignment
from gnnrec.nn.alignment import AlignedRows, WeightedObjectives
from gnnrec.nn.alignment.objective import num_outputs
from gnnrec.nn.alignment.registry import check_weights
from gnnrec.retrieval.common_directions import Directions, correlated_projections, main_directions

__all__ = ["AlignedSpace", "AlignmentConfig"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignmentConfig:
    """How a common space is learned.

    Attributes:
        objectives: Name in ``gnnrec.nn.alignment.OBJECTIVES`` → weight ≥ 0.
        dim: Width of the space.
        epochs: Passes over the owners; with 0 the start is the answer.
        learning_rate: Of Adam.
        weight_decay: Pull of all weights towards 0, apart from the gradient (AdamW).
        batch_size: Owners per step; objectives that contrast tell each from the others of its batch.
        dropout: Share of the entries of the vectors, seen along their main directions, set to zero in training.
        directions: Main directions of each modality that are kept. Fewer resist overfitting, more say more.
        ridge: How much variance, in units of the mean, a direction needs to count in full
            (``gnnrec.retrieval.common_directions``).
        start: ``correlation``: the projections in which the modalities correlate most, in closed form; ``random``.
    """

    objectives: Mapping[str, float] = field(default_factory=lambda: {"infonce": 1.0})
    dim: int = 64
    epochs: int = 10
    learning_rate: float = 3e-4
    weight_decay: float = 0.1
    batch_size: int = 512
    dropout: float = 0.5
    directions: int = 256
    ridge: float = 2.0
    start: Literal["correlation", "random"] = "correlation"

    def __post_init__(self) -> None:
        check_weights(self.objectives)
        for name in ("dim", "batch_size"):
            if getattr(self, name) < 2:
                raise ConfigError(f"option {name!r} must be at least 2, got {getattr(self, name)}")
        if self.directions < 1:
            raise ConfigError(f"option 'directions' must be at least 1, got {self.directions}")
        for name in ("epochs", "weight_decay", "ridge"):
            if getattr(self, name) < 0:
                raise ConfigError(f"option {name!r} must not be negative, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ConfigError(f"option 'learning_rate' must be positive, got {self.learning_rate}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"option 'dropout' must lie in [0, 1), got {self.dropout}")
        if self.start not in ("correlation", "random"):
            raise ConfigError(f"option 'start' is 'correlation' or 'random', not {self.start!r}")


@dataclass(frozen=True, eq=False)
class AlignedSpace:
    """A learned space in which vectors of any modality are compared by their inner product, the cosine.

    Attributes:
        config: How it was learned.
        widths: Modality → width of its vectors.
        tasks: Label → width of its prediction, where labels were learned from.
    """

    config: AlignmentConfig
    widths: Mapping[str, int]
    tasks: Mapping[str, int]
    _network: "_Network"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in the order in which they were given."""
        return tuple(self.widths)

    @property
    def dim(self) -> int:
        """Width of the space."""
        return self.config.dim

    @classmethod
    def fit(
        cls,
        features: Mapping[str, Features],
        config: AlignmentConfig | None = None,
        *,
        labels: Mapping[str, ArrayLike] | None = None,
        owners: NDArray[np.int64] | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> "AlignedSpace":
        """Learns the space. Equal arguments give equal spaces.

        A vector counts by its direction only; an owner with several rows of a modality enters with their mean
        direction.

        Args:
            features: Modality → prepared vectors, all of one kind of owner.
            config: Options; the defaults when not given.
            labels: Task → what ``multi-task`` learns to predict, by owner index: integers (classes, -1: unknown),
                floats (numbers, NaN: unknown), or a matrix of 0 and 1 (several classes at once, NaN: unknown).
            owners: Owners to learn from; ``None``: all with at least two modalities.
            seed: Fixes everything random.
            device: Where to compute.

        Raises:
            DataError: No features, a modality without any vector, or labels that do not fit.
            ConfigError: ``multi-task`` is wanted and there are no labels.
        """
        config = config or AlignmentConfig()
        table = _OwnerTable.gather(features, owners).to(device)
        targets = {name: _targets(name, values, table.owner_index) for name, values in (labels or {}).items()}
        if config.objectives.get("multi-task") and not targets:
            raise ConfigError("the alignment objective 'multi-task' predicts labels: give some, or leave it out")
        tasks = {name: num_outputs(target) for name, target in targets.items()}
        devices = [device] if torch.device(device).type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            network = _Network({name: features[name].dim for name in features}, config, tasks).to(device)
            _learn(network, table, {name: target.to(device) for name, target in targets.items()}, config)
        return cls(config, network.widths, tasks, network.cpu().eval().requires_grad_(False))

    def project(self, modality: str, values: ArrayLike | Tensor) -> Tensor:
        """Places vectors of one modality in the space.

        Args:
            modality: One of ``modalities``.
            values: ``[num_rows, width]``, prepared as those that the space was fitted on.

        Returns:
            ``[num_rows, dim]`` unit vectors on the CPU.

        Raises:
            DataError: Another modality, or another width.
        """
        if modality not in self.widths:
            raise DataError(f"the space has no modality {modality!r}{suggest(modality, self.widths)}")
        x = torch.as_tensor(np.array(values, dtype=np.float32) if not isinstance(values, Tensor) else values).float()
        if x.ndim != 2 or x.shape[1] != self.widths[modality]:
            raise DataError(
                f"vectors of {modality!r} are [rows, {self.widths[modality]}] in this space, these {tuple(x.shape)}; "
                "they come from another encoder"
            )
        with torch.no_grad():
            projected: Tensor = self._network(modality, x.cpu())
        return projected

    def tensors(self) -> dict[str, Tensor]:
        """Returns all learned numbers, to be saved beside :meth:`facts`."""
        return {name: tensor.contiguous() for name, tensor in self._network.state_dict().items()}

    def facts(self) -> dict[str, Any]:
        """Returns what rebuilds the space around its :meth:`tensors`, as JSON has it."""
        return {"config": to_dict(self.config), "widths": dict(self.widths), "tasks": dict(self.tasks)}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> "AlignedSpace":
        """Rebuilds a space that :meth:`tensors` and :meth:`facts` took apart; it projects to the very same bits."""
        config = from_dict(AlignmentConfig, facts["config"], "alignment")
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced at once
            network = _Network(facts["widths"], config, facts["tasks"])
        network.load_state_dict(dict(tensors))
        return cls(config, network.widths, dict(facts["tasks"]), network.eval().requires_grad_(False))


class _Network(nn.Module):
    """Direction of a vector → linear projection → what the objectives make of it → direction."""

    def __init__(self, widths: Mapping[str, int], config: AlignmentConfig, tasks: Mapping[str, int]) -> None:
        super().__init__()
        self.widths = dict(widths)
        self.alignment = Alignment(widths, config.dim, normalise=False)
        self.objectives = WeightedObjectives(config.objectives, len(widths), config.dim, tasks)

    def forward(self, modality: str, x: Tensor) -> Tensor:
        z = self.alignment({modality: F.normalize(x)})[modality]
        return F.normalize(self.objectives.transform(z, list(self.widths).index(modality)))


@dataclass(frozen=True, eq=False)
class _OwnerTable:
    """One unit vector per modality and owner to learn from: ``x[m]`` is ``[num_owners, width_m]``, 0 where absent."""

    x: Sequence[Tensor]
    present: Tensor
    owner_index: Tensor

    @classmethod
    def gather(cls, features: Mapping[str, Features], owners: NDArray[np.int64] | None) -> "_OwnerTable":
        if not features:
            raise DataError("a common space needs the vectors of at least one modality")
        for name, part in features.items():
            if not len(part):
                raise DataError(f"modality {name!r} has no vectors; leave it out of the common space")
        means = [mean_per_owner(part) for part in features.values()]
        owner_index = torch.unique(torch.cat([index for _, index in means]))
        present = torch.stack([torch.isin(owner_index, index) for _, index in means], dim=1)
        x = [torch.zeros(len(owner_index), mean.shape[1]) for mean, _ in means]
        for values, (mean, index) in zip(x, means, strict=True):
            values[torch.searchsorted(owner_index, index)] = F.normalize(mean)
        chosen = present.sum(dim=1) >= 2 if owners is None else torch.isin(owner_index, torch.tensor(owners))
        for position, name in enumerate(features):
            if not (present[:, position] & chosen).any():
                logger.warning(
                    "common space: modality %s has no vectors among the %d owners to learn from; "
                    "the space is learned from all %d owners",
                    name,
                    int(chosen.sum()),
                    len(chosen),
                )
                chosen = torch.ones_like(chosen)
        logger.info("common space: learned from %d owners, of %d with any vector", int(chosen.sum()), len(chosen))
        return cls([values[chosen] for values in x], present[chosen], owner_index[chosen])

    def to(self, device: str) -> "_OwnerTable":
        return _OwnerTable([x.to(device) for x in self.x], self.present.to(device), self.owner_index)


def _learn(network: _Network, table: _OwnerTable, targets: Mapping[str, Tensor], config: AlignmentConfig) -> None:
    """Trains along the main directions of each modality, then folds these into the network's projections."""
    directions = [
        main_directions(x[there], config.directions, config.ridge)
        for x, there in zip(table.x, table.present.T, strict=True)
    ]
    coordinates = [
        part.coordinates(x) * there[:, None]
        for part, x, there in zip(directions, table.x, table.present.T, strict=True)
    ]
    if config.start == "correlation":
        start = correlated_projections(coordinates, config.dim)
    else:
        start = [torch.randn(y.shape[1], config.dim, device=y.device) / math.sqrt(y.shape[1]) for y in coordinates]
    weights = nn.ParameterList(start)
    optimizer = torch.optim.AdamW(
        [*weights, *network.objectives.parameters()], lr=config.learning_rate, weight_decay=config.weight_decay
    )
    num_owners = len(table.present)
    for epoch in range(config.epochs):
        for batch in torch.randperm(num_owners).tensor_split(math.ceil(num_owners / config.batch_size)):
            z = [F.dropout(y[batch], config.dropout) @ w for y, w in zip(coordinates, weights, strict=True)]
            labels = {name: target[batch] for name, target in targets.items()}
            loss = network.objectives(AlignedRows(torch.stack(z, dim=1), table.present[batch], labels=labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        logger.debug("common space: loss %.4f after epoch %d", float(loss.detach()), epoch + 1)
    _fold(network.alignment, directions, [w.detach() for w in weights])


@torch.no_grad()
def _fold(alignment: Alignment, directions: Sequence[Directions], weights: Sequence[Tensor]) -> None:
    """Sets every projection to ``W^T basis^T (x − mean)``."""
    for projection, part, weight in zip(alignment.projections, directions, weights, strict=True):
        linear = projection[0]  # type: ignore[index]
        linear.weight.copy_((part.basis @ weight).T)
        linear.bias.copy_(-linear.weight @ part.mean)


def _targets(name: str, values: ArrayLike, owner_index: Tensor) -> Tensor:
    """Returns the labels of some owners; numbers with mean 0 and deviation 1 over those that are known."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2) or len(array) <= int(owner_index.max()):
        raise DataError(
            f"labels {name!r} must be integers, floats or a matrix of 0 and 1 with a row for each owner, "
            f"not {array.dtype} of shape {array.shape}"
        )
    chosen = array[owner_index.numpy()]
    if array.ndim == 1 and array.dtype.kind in "iu":
        return torch.from_numpy(chosen.astype(np.int64))
    target = torch.from_numpy(chosen.astype(np.float32))
    if array.ndim == 2:
        return target
    known = target[~target.isnan()]
    return (target - known.mean()) / known.std().clamp(min=1e-6) if len(known) >= 2 else target * torch.nan
