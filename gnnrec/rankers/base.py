"""The protocol that every ranker follows: fitted on a graph, it scores all items for known and for new people."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.errors import UnsupportedError
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.geometric import HeteroData
from gnnrec.modalities.features import Features
from gnnrec.training.distributed import ALONE, Processes
from gnnrec.training.loop import EpochRecord, TrainingResult

__all__ = ["Capability", "Ranker", "RankerState", "RankingTask", "WarmStart"]

Capability: TypeAlias = Literal["attach", "linear", "order", "profiles", "vectors"]


@dataclass(frozen=True, eq=False)
class WarmStart:
    """What a training goes on from.

    Attributes:
        ranker: The ranker as it was fitted before.
        user_index: ``[num_users]`` row of each user in that ranker; -1 for a new one.
        item_index: ``[num_items]`` row of each item in that ranker; -1 for a new one.
    """

    ranker: "Ranker"
    user_index: NDArray[np.int64]
    item_index: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RankingTask:
    """What a ranker is fitted on.

    Attributes:
        graph: The heterogeneous graph of the training data (see ``gnnrec.graph.build_graph``).
        interactions: ``[num_users, num_items]`` binary training pairs, the same as in ``graph``.
        validation: Measures user and item vectors after an epoch.
        seed: Fixes everything random.
        device: Where to train.
        run_dir: Folder for checkpoints, if any.
        resume: Go on from the checkpoint in ``run_dir``.
        on_epoch: Called with the record of each epoch.
        start: Weights to go on from, for rankers that can; drawn anew without it.
        processes: Which others train the same ranker, for rankers that train.
        order: ``[num_users, num_items]`` the place of each training pair in its user's history, larger for later ones;
            ``None`` where it is not known, or not read.
    """

    graph: HeteroData
    interactions: sp.csr_matrix
    validation: ValidationPairs | None = None
    seed: int = 0
    device: str = "cpu"
    run_dir: Path | None = None
    resume: bool = False
    on_epoch: Callable[[EpochRecord], None] | None = None
    start: WarmStart | None = None
    processes: Processes = ALONE
    order: sp.csr_matrix | None = None


@dataclass(frozen=True)
class RankerState:
    """A ranker as plain tensors and JSON values, for saving.

    Attributes:
        tensors: Name → tensor.
        facts: JSON values.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)


class Ranker(ABC):
    """A fitted ranker. It is never changed: ``attach`` and ``update`` return a new one."""

    name: ClassVar[str]
    trains: ClassVar[bool] = False
    """Whether a fit can go on from the weights of an earlier one."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this ranker can do beside scoring.

        ``attach`` new items, hear ``profiles``, give ``vectors``; ``linear``: its scores are more than the products of
        those vectors; and ``order``: it reads histories in order, so in :meth:`fold_in`, :meth:`fold_in_with_profiles`
        and :meth:`update` the entry of a pair is not 1 but its place in the person's history, 1 for the oldest.
        """
        return frozenset()

    @classmethod
    @abstractmethod
    def fit(cls, task: RankingTask, config: Any) -> tuple[Self, TrainingResult | None]:
        """Fits the ranker; also returns the history of its training, if it has epochs."""

    @abstractmethod
    def score(self, user_index: NDArray[np.int64]) -> Tensor:
        """Scores all items for known users: ``[num_users_given, num_items]``."""

    @abstractmethod
    def fold_in(self, histories: sp.csr_matrix) -> Tensor:
        """Scores all items for new people ``[num_people, num_items]`` from their histories of the same shape.

        An empty history gets what people like on average.

        Args:
            histories: 1 for every chosen item, or its place in the history with the capability ``order``.
        """

    @abstractmethod
    def similar(self, item_index: NDArray[np.int64]) -> Tensor:
        """Scores all items by their similarity to the given ones: ``[num_given, num_items]``."""

    @abstractmethod
    def update(self, interactions: sp.csr_matrix, changed_users: NDArray[np.int64]) -> Self:
        """Takes in new events without retraining.

        Args:
            interactions: ``[num_users, num_items]`` all pairs, old and new, as histories; new users come last, and get
                the scores that :meth:`fold_in` gives their histories from then on.
            changed_users: Users with new pairs, new users included.
        """

    @abstractmethod
    def state(self) -> RankerState:
        """Returns everything that :meth:`from_state` needs."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: RankerState) -> Self:
        """Rebuilds the ranker, bit by bit."""

    @property
    def relations(self) -> Mapping[str, bool]:
        """Relation between items that the fit knew → whether new items are described by it, or it did not help."""
        return {}

    def attach(
        self,
        added: Mapping[str, Features],
        known: Mapping[str, Features],
        num_added: int,
        relations: Mapping[str, sp.csr_matrix] = MappingProxyType({}),
    ) -> Self:
        """Appends items that have only media, or are related to items that have.

        Args:
            added: Modality → prepared vectors of the new items, owners counted from 0.
            known: Modality → prepared vectors of the known items.
            num_added: How many items are new.
            relations: Name out of :attr:`relations` → ``[num_added, num_known + num_added]`` weights of the edges that
                join new items to known and to new ones.

        Raises:
            UnsupportedError: The ranker has no use for media.
        """
        raise UnsupportedError(f"the ranker {self.name!r} cannot add items without retraining; 'neural' can")

    def fold_in_with_profiles(self, histories: sp.csr_matrix, profiles: Mapping[str, Features]) -> Tensor:
        """Scores all items for new people ``[num_people, num_items]`` from their histories and their own media.

        Args:
            histories: ``[num_people, num_items]`` as for :meth:`fold_in`.
            profiles: Modality of users → prepared vectors, owners counted as the rows of ``histories``.

        Raises:
            UnsupportedError: The ranker has no use for the media of people.
        """
        raise UnsupportedError(
            f"the ranker {self.name!r} has no use for profiles; 'neural' has, fitted with a modality of='user'"
        )

    def vectors(self, kind: Literal["user", "item"]) -> Tensor:
        """Returns ``[num_users, dim]`` or ``[num_items, dim]`` whose inner product is the score, but for ``linear``.

        Raises:
            UnsupportedError: The ranker has no vectors.
        """
        raise UnsupportedError(f"the ranker {self.name!r} has no {kind} vectors; 'neural' has")
