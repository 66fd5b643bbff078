"""Adds to the scores of a trained model what a linear model in closed form says of the same histories."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.pairs import items_with_pairs, some_people, without_places
from gnnrec.errors import ConfigError
from gnnrec.nn.model_config import LinearPartName
from gnnrec.rankers.base import RankerState, RankingTask
from gnnrec.rankers.ease import EaseConfig, EaseRanker
from gnnrec.rankers.graph_filter import GraphFilterConfig, GraphFilterRanker
from gnnrec.rankers.history_ranker import HistoryRanker
from gnnrec.rankers.recency import recency_weights
from gnnrec.rankers.spread import score_spread

__all__ = ["LinearPart", "check_linear_part"]

_GRAPH_FILTERS: Mapping[str, GraphFilterConfig] = {
    "random-walk": GraphFilterConfig(factors=0, linear_exponent=0.5, user_exponent=1.0),
    # Beside vectors of Gowalla, Amazon Baby and CiteULike these rank better on validation pairs than a walk and the
    # published exponents (0 and 1), and about as well beside those of TikTok and Allrecipes.
    "graph-filter": GraphFilterConfig(factors=0, linear_exponent=0.125, user_exponent=0.75),
    # Beside vectors of Gowalla and CiteULike, 1,536 directions rank better than 1,024 and as well as 2,048, and with
    # degrees larger by their mean better than by a quarter or none of it.
    "low-pass": GraphFilterConfig(factors=1536, linear_exponent=0.125, user_exponent=0.75, regularisation=1.0),
}
_MEASURED_PEOPLE = 500


@dataclass(frozen=True, eq=False)
class LinearPart:
    """A linear map from histories to scores of items, beside those of a model with vectors.

    A vector of some dozen numbers tells the taste of a person, but not every pair of items that go together; a matrix
    of items × items does. Four kinds: ``ease`` (Steck 2019, eq. 8) for small and dense logs; for any, ``random-walk``,
    three steps from the user (Cooper et al. 2014, P³), and ``graph-filter``, the linear filter of Shen et al. (2021,
    section 4), with exponents of ours, which leans less to popular items; ``low-pass`` adds their ideal low-pass filter
    to it, of regularised degrees, which spreads the items of a person as wide. How they are added up is ours.

    Attributes:
        name: ``random-walk``, ``graph-filter``, ``low-pass`` or ``ease``.
        ranker: The linear model, with the histories as it hears them.
        factor: How much its scores count.
        decay: How much less an event counts than the next one of the same history, ``exp(-decay)``; at 0 they count
            alike, and histories are heard without an order.
    """

    name: LinearPartName
    ranker: HistoryRanker
    factor: float
    decay: float = 0.0

    @classmethod
    def fit(cls, name: LinearPartName, task: RankingTask, user: Tensor, item: Tensor) -> Self:
        """Solves for the linear model; a factor of 1 lets both spread the items of a person equally wide.

        Args:
            name: ``random-walk``, ``graph-filter``, ``low-pass`` or ``ease``.
            task: The training pairs.
            user: ``[num_users, dim]`` vectors of the model.
            item: ``[num_items, dim]``.

        Cost: that of the linear model, and the scores of 500 people.
        """
        ranker: HistoryRanker
        if name == "ease":
            ranker, _ = EaseRanker.fit(task, EaseConfig())
        else:
            filtering, _ = GraphFilterRanker.fit(task, _GRAPH_FILTERS[name])
            ranker = _balanced(filtering, task.interactions) if name == "low-pass" else filtering
        return cls(name, ranker, _factor_of_one(ranker, task.interactions, user, item))

    def with_decay(self, decay: float, places: sp.csr_matrix, user: Tensor, item: Tensor) -> Self:
        """Returns the same at a factor of 1, hearing histories in order.

        Args:
            decay: As above.
            places: ``[num_users, num_items]`` the place of each training pair in its user's history.
            user: As in :meth:`fit`.
            item: As in :meth:`fit`.
        """
        ranker = self.ranker.update(recency_weights(places, decay), np.arange(places.shape[0]))
        return replace(self, ranker=ranker, factor=_factor_of_one(ranker, places, user, item), decay=decay)

    def weighed(self, weight: float) -> Self:
        """Returns the same, counting so many times as much."""
        return replace(self, factor=weight * self.factor)

    def add_to(self, scores: Tensor, *, users: NDArray[np.int64]) -> Tensor:
        """Adds what the histories of known users say to their scores ``[num_users, num_items]``, in place.

        An empty one says nothing, so the vectors alone tell what such people like.
        """
        return self._add(scores, self.ranker.from_histories(self.ranker.interactions[users]))

    def add_to_new(self, scores: Tensor, *, histories: sp.csr_matrix) -> Tensor:
        """Adds what histories ``[num_people, num_items]`` say to the scores of new people, in place.

        With a ``decay`` their entries are places, as for the ranker's capability ``order``.
        """
        return self._add(scores, self.ranker.from_histories(self._heard(histories)))

    def update(self, interactions: sp.csr_matrix, changed_users: NDArray[np.int64]) -> Self:
        """Takes the new histories, with a ``decay`` places again."""
        return replace(self, ranker=self.ranker.update(self._heard(interactions), changed_users))

    def state(self) -> RankerState:
        """Returns everything that :meth:`from_state` needs."""
        inner = self.ranker.state()
        facts = {"name": self.name, "factor": self.factor, "decay": self.decay}
        return RankerState(inner.tensors, {**facts, "facts": dict(inner.facts)})

    @classmethod
    def from_state(cls, state: RankerState) -> Self:
        """Rebuilds the part, bit by bit."""
        name = state.facts["name"]
        kind: type[HistoryRanker] = EaseRanker if name == "ease" else GraphFilterRanker
        ranker = kind.from_state(RankerState(state.tensors, state.facts["facts"]))
        return cls(name, ranker, state.facts["factor"], state.facts.get("decay", 0.0))  # before format 7 there was none

    @property
    def _num_items(self) -> int:
        return int(self.ranker.interactions.shape[1])

    def _heard(self, histories: sp.csr_matrix) -> sp.csr_matrix:
        """Weighs the events, less those on items added after the fit, of which no pair with another is known."""
        known = sp.csr_matrix(histories[:, : self._num_items])
        return recency_weights(known, self.decay) if self.decay else without_places(known)

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
            "'random-walk' or 'graph-filter', whose memory grows with the interactions"
        )


def _balanced(filtering: GraphFilterRanker, interactions: sp.csr_matrix) -> GraphFilterRanker:
    """Lets the ideal filter spread the known items as wide as the linear one does, for a person."""
    people, known = some_people(interactions, _MEASURED_PEOPLE), np.flatnonzero(items_with_pairs(interactions))
    linear, both = (filtering.weighing_ideal(weight).score(people)[:, known] for weight in (0.0, 1.0))
    return filtering.weighing_ideal(score_spread(linear) / max(score_spread(both - linear), 1e-12))


def _factor_of_one(ranker: HistoryRanker, interactions: sp.csr_matrix, user: Tensor, item: Tensor) -> float:
    """Returns the factor with which a linear model spreads the known items as wide as the vectors do, for a person."""
    people, known = some_people(interactions, _MEASURED_PEOPLE), np.flatnonzero(items_with_pairs(interactions))
    spread = score_spread(user[torch.from_numpy(people)] @ item[known].T)
    return spread / max(score_spread(ranker.score(people)[:, known]), 1e-12)
