"""The options of a training run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gnnrec.config import Range, searched, suggest
from gnnrec.errors import ConfigError
from gnnrec.evaluation.metrics import parse_metric
from gnnrec.training.auxiliary import AUXILIARY_LOSSES

__all__ = ["TrainingConfig"]

# A pass over a small log must not be a handful of steps, nor a step a handful of pairs; and since every step propagates
# over the whole graph, a pass over a large log must not be thousands of steps.
_LEAST_STEPS, _MOST_STEPS = 30, 100
_LEAST_BATCH, _USUAL_BATCH = 64, 2048


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        loss: ``softmax`` over all items, ``sampled-softmax`` with logQ correction, ``bpr``, ``bce``, ``bootstrap`` (of
            BM3, without negatives), or ``auto``: full softmax up to 50,000 items, or 2,000 where the model reads
            histories in order, and sampled beyond.
        temperature: Scores are divided by it before any loss; ``bootstrap`` has none. That of the two softmax losses is
            for up to 10,000 items and shrinks by ``sqrt(10,000 / num_items)`` beyond, to .3 of it at most.
        negatives: Negatives per positive, for ``bpr`` and ``bce``.
        auxiliary: Auxiliary loss → weight, added to the ranking loss: ``alignment`` (content against behaviour),
            ``regularisation`` (length of embeddings), and those of published models, all of them names in
            ``gnnrec.training.auxiliary.AUXILIARY_LOSSES``.
        view_dropout: Share of the entries set to zero in views that are compared with each other (BM3, PGL).
        edge_dropout: Share of the interactions left out of propagation, drawn anew every epoch, popular ones first.
        epochs: At most this many passes over the interactions.
        sampled_neighbours: Train on samples of the graph, for graphs that do not fit where the model is: how many
            neighbours each node draws, a number for each of the model's ``hops``; -1 takes all. Empty: train on the
            whole graph.
        batch_size: Positive pairs per step, fewer on small data, down to 64, so that an epoch has at least 30 steps.
            ``None`` means 2,048, and without ``sampled_neighbours`` more on large data, so that an epoch has at most
            100 steps.
        learning_rate: Of Adam.
        patience: Stop after this many epochs without a better validation score.
        select_by: Validation metric that picks the best epoch.
        precision: ``bfloat16`` runs projections and scores in half precision, sums in single.
    """

    loss: Literal["auto", "softmax", "sampled-softmax", "bpr", "bce", "bootstrap"] = "auto"
    temperature: float = searched(0.25, Range(0.05, 0.5, log=True))
    negatives: int = 1
    auxiliary: Mapping[str, float] = searched({}, Range(1e-6, 1, log=True))
    view_dropout: float = 0.0
    edge_dropout: float = searched(0.5, Range(0, 0.9))
    epochs: int = 60
    sampled_neighbours: tuple[int, ...] = ()
    batch_size: int | None = None
    learning_rate: float = searched(0.005, Range(5e-4, 0.03, log=True))
    patience: int = 10
    select_by: str = "recall@20"
    precision: Literal["float32", "bfloat16"] = "float32"

    def pairs_per_step(self, num_edges: int) -> int:
        """Returns the batch size for so many training pairs."""
        # A step on a sample costs the same however large the graph is.
        enough = 0 if self.sampled_neighbours else math.ceil(num_edges / _MOST_STEPS)
        wanted = self.batch_size or max(_USUAL_BATCH, enough)
        return min(wanted, max(_LEAST_BATCH, math.ceil(num_edges / _LEAST_STEPS)))

    def __post_init__(self) -> None:
        for name in ("temperature", "negatives", "epochs", "batch_size", "learning_rate", "patience"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"option {name!r} must be positive, got {value}")
        try:
            parse_metric(self.select_by)
        except ConfigError as error:
            raise ConfigError(f"option 'select_by': {error}") from error
        for name in ("view_dropout", "edge_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"option {name!r} must lie in [0, 1), got {getattr(self, name)}")
        if not all(number == -1 or number > 0 for number in self.sampled_neighbours):
            given = self.sampled_neighbours
            raise ConfigError(f"option 'sampled_neighbours' holds positive numbers, or -1 for all, got {given}")
        if self.sampled_neighbours and self.loss not in ("auto", "sampled-softmax"):
            raise ConfigError(f"option 'sampled_neighbours' needs loss='sampled-softmax', got loss={self.loss!r}")
        for name, weight in self.auxiliary.items():
            if weight < 0:
                raise ConfigError(f"the weight of the auxiliary loss {name!r} must not be negative, got {weight}")

    def check_auxiliary(self) -> None:
        """Refuses losses that are not registered here; whoever only answers by a trained model needs none of them.

        Raises:
            ConfigError: There is one.
        """
        for name in self.auxiliary:
            if name not in AUXILIARY_LOSSES:
                raise ConfigError(f"unknown auxiliary loss {name!r}{suggest(name, AUXILIARY_LOSSES)}")
