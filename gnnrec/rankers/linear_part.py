"""Adds to the scores of a trained model what a linear model in closed form says of the same histories."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.errors import ConfigError
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.nn.model_config import LinearPartName
from gnnrec.rankers.base import Ranker, RankerState, RankingTask
from gnnrec.rankers.ease import EaseConfig, EaseRanker
from gnnrec.rankers.graph_filter import GraphFilterConfig, GraphFilterRanker
from gnnrec.rankers.spread import score_spread, some_people

__all__ = ["LinearPart", "best_linear_part", "check_linear_part"]

logger = logging.getLogger(__name__)

_MOST_ITEMS_FOR_EASE = 5_000  # whose weights are 100 MB
_WEIGHTS = (0.05, 0.1, 0.2, 0.4, 0.8)
_USUAL_WEIGHT = 0.1
_MEASURED_PEOPLE = 500


@dataclass(frozen=True, eq=False)
class LinearPart:
    """A linear map from histories to scores of items, beside those of a model with vectors.

    A vector of some dozen numbers tells the taste of a person, but not every pair of items that go together; a matrix
    of items × items does. Two kinds: ``ease`` (Steck 2019, eq. 8) for small and dense logs, and ``graph-filter``, the
    linear filter of Shen et al. (2021, section 4), for any. How both are added up is ours.

    Attributes:
        name: ``ease`` or ``graph-filter``.
        ranker: The linear model.
        factor: How much its scores count.
    """

    name: str
    ranker: Ranker
    factor: float

    @classmethod
    def fit(cls, name: str, task: RankingTask, user: Tensor, item: Tensor) -> Self:
        """Solves for the linear model; a factor of 1 lets both spread the items of a person equally wide.

        Args:
            name: ``ease`` or ``graph-filter``.
            task: The training pairs.
            user: ``[num_users, dim]`` vectors of the model.
            item: ``[num_items, dim]``.

        Cost: that of the linear model, and the scores of 500 people.
        """
        ranker: Ranker
        if name == "ease":
            ranker, _ = EaseRanker.fit(task, EaseConfig())
        else:
            ranker, _ = GraphFilterRanker.fit(task, GraphFilterConfig(factors=0))
        people = some_people(task.interactions, _MEASURED_PEOPLE)
        spread = score_spread(user[torch.from_numpy(people)] @ item.T)
        return cls(name, ranker, spread / max(score_spread(ranker.score(people)), 1e-12))

    def weighed(self, weight: float) -> Self:
        """Returns the same, counting so many times as much."""
        return replace(self, factor=weight * self.factor)

    def add_to(self, scores: Tensor, *, users: NDArray[np.int64]) -> Tensor:
        """Adds what the histories of known users say to their scores ``[num_users, num_items]``, in place."""
        return self._add(scores, self.ranker.score(users))

    def add_to_new(self, scores: Tensor, *, histories: sp.csr_matrix) -> Tensor:
        """Adds what histories ``[num_people, num_items]`` say to the scores of new people, in place."""
        return self._add(scores, self.ranker.fold_in(self._known(histories)))

    def update(self, interactions: sp.csr_matrix, changed_users: NDArray[np.int64]) -> Self:
        """Takes the new histories."""
        return replace(self, ranker=self.ranker.update(self._known(interactions), changed_users))

    def state(self) -> RankerState:
        """Returns everything that :meth:`from_state` needs."""
        inner = self.ranker.state()
        return RankerState(inner.tensors, {"name": self.name, "factor": self.factor, "facts": dict(inner.facts)})

    @classmethod
    def from_state(cls, state: RankerState) -> Self:
        """Rebuilds the part, bit by bit."""
        kinds: Mapping[str, type[Ranker]] = {kind.name: kind for kind in (EaseRanker, GraphFilterRanker)}
        name = state.facts["name"]
        ranker = kinds[name].from_state(RankerState(state.tensors, state.facts["facts"]))
        return cls(name, ranker, state.facts["factor"])

    @property
    def _num_items(self) -> int:
        assert isinstance(self.ranker, EaseRanker | GraphFilterRanker)
        return int(self.ranker.interactions.shape[1])

    def _known(self, histories: sp.csr_matrix) -> sp.csr_matrix:
        """Leaves out items that were added after the fit, of which no pair with another is known."""
        return sp.csr_matrix(histories[:, : self._num_items])

    def _add(self, scores: Tensor, addition: Tensor) -> Tensor:
        scores[:, : self._num_items] += self.factor * addition
        return scores


def check_linear_part(name: LinearPartName, num_items: int) -> None:
    """Refuses a kind that does not fit the catalogue, before anything is trained.

    Raises:
        ConfigError: ``ease`` for more items than its weights have room for.
    """
    most = EaseConfig().maximum_items
    if name == "ease" and num_items > most:
        raise ConfigError(
            f"option 'linear_part' is 'ease', which serves up to {most} items, and there are {num_items}; choose "
            "'graph-filter', whose memory grows with the interactions"
        )


def best_linear_part(
    name: LinearPartName,
    weight: float | None,
    task: RankingTask,
    user: Tensor,
    item: Tensor,
    select_by: str,
) -> tuple[LinearPart | None, LinearPartName, float | None]:
    """Chooses the linear part and its weight by the validation pairs, where the options leave them open.

    Cost: five validations of each kind on at most 10,000 users; ``ease`` is tried up to 5,000 items.

    Args:
        name: The kind, or ``auto``.
        weight: Its weight; ``None``: what ranks the validation pairs best.
        task: Training and validation pairs.
        user: ``[num_users, dim]``.
        item: ``[num_items, dim]``.
        select_by: The metric to maximise.

    Returns:
        The part, its name and its weight; ``None`` and ``none`` where there is none, or where ``auto``, without a
        weight, finds that none pays.
    """
    if name == "none" or (name == "auto" and weight is None and task.validation is None):
        return None, "none", None
    names: list[LinearPartName] = [name]
    if name == "auto":
        both = task.validation is not None and len(item) <= _MOST_ITEMS_FOR_EASE
        names = ["graph-filter", "ease"] if both else ["graph-filter"]
    parts = {kind: LinearPart.fit(kind, task, user, item) for kind in names}
    weights = _WEIGHTS if weight is None else (weight,)
    if task.validation is None:
        kind, chosen = names[0], _USUAL_WEIGHT if weight is None else weight
    else:
        people, validation = task.validation.for_settling()
        tried = {
            (kind, one): _quality(validation, people, user, item, parts[kind].weighed(one), select_by)
            for kind in names
            for one in weights
        }
        kind, chosen = max(tried, key=lambda pair: tried[pair])
        left_open = name == "auto" and weight is None
        if left_open and tried[kind, chosen] <= _quality(validation, people, user, item, None, select_by):
            logger.info("no linear part: the model alone ranks best on validation")
            return None, "none", None
    logger.info("the linear part %s counts %g times as much as the model", kind, chosen)
    return parts[kind].weighed(chosen), kind, chosen


def _quality(
    validation: ValidationPairs,
    people: NDArray[np.int64],
    user: Tensor,
    item: Tensor,
    part: LinearPart | None,
    select_by: str,
) -> float:
    def score(rows: Tensor) -> Tensor:
        chosen = people[rows.numpy()]
        scores = user[torch.from_numpy(chosen)] @ item.T
        return scores if part is None else part.add_to(scores, users=chosen)

    return validation.of_scores(score)[select_by]
