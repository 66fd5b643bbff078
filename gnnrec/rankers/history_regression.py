"""Predicts from the history of a new person the vector that training would have made of the two together."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.pairs import some_people
from gnnrec.evaluation.cold_start import arrivals
from gnnrec.evaluation.validation import ValidationPairs, ranks_surely_better
from gnnrec.named_tensors import below
from gnnrec.rankers.fold_in import fold_in_by_propagation, tastes_of_histories
from gnnrec.rankers.ridge import RidgeRegression
from gnnrec.rankers.serving import ServingTensors

__all__ = ["HistoryRegression"]

logger = logging.getLogger(__name__)

_MOST_PEOPLE = 50_000  # more examples change some thousands of weights no further
_FEW_EVENTS = (1, 3, 10)
_PRIORS, _USUAL_PRIOR = (0.0, 1.0, 3.0, 10.0), 3.0


@dataclass(frozen=True, eq=False)
class HistoryRegression:
    """A known person's vector is an identity and what the history sends; a new one has no identity.

    What identities add is learned by ridge regression from two views of the histories of known people. Few events tell
    little, so the average person counts as much as ``prior`` events (the shrinkage of a posterior mean).

    Attributes:
        regression: From :func:`~gnnrec.rankers.fold_in.tastes_of_histories` to vectors.
        average: ``[width]`` the mean vector of known people.
        average_taste: ``[any]`` the mean of their content tastes.
        prior: Events.
    """

    regression: RidgeRegression
    average: Tensor
    average_taste: Tensor
    prior: float

    @classmethod
    def fit(cls, serving: ServingTensors, interactions: sp.csr_matrix, direction: Tensor) -> Self:
        """Learns from the people of the training, at most 50,000 of them.

        Cost: ``O(num_entries × dim + num_people × dim²)``.

        Args:
            serving: Of the trained model.
            interactions: ``[num_users, num_items]`` training pairs.
            direction: ``[num_items, width]`` item vectors without their biases.
        """
        people = some_people(interactions, _MOST_PEOPLE)
        target = serving.user[torch.from_numpy(people), : direction.shape[1]]
        tastes = _tastes(serving, interactions[people], direction)
        regression, _ = RidgeRegression.fit(tastes, target)
        average_taste = serving.user_taste[torch.from_numpy(people)].mean(dim=0)
        return cls(regression, target.mean(dim=0), average_taste, _USUAL_PRIOR)

    def __call__(self, histories: sp.csr_matrix, serving: ServingTensors, direction: Tensor) -> Tensor:
        """Returns ``[num_people, width]``; the average for an empty history. Cost: ``O(num_entries × dim)``."""
        count = torch.from_numpy(np.diff(histories.indptr).astype(np.float32))
        return self.shrink(self.regression(_tastes(serving, histories, direction)), self.average, count)

    def shrink(self, told: Tensor, average: Tensor, count: Tensor) -> Tensor:
        """Returns the mean of what events tell and what the average person is, who counts as ``prior`` events.

        Args:
            told: ``[num_people, any]``.
            average: ``[any]``.
            count: ``[num_people]`` events.
        """
        weight = count[:, None]
        return torch.where(weight > 0, (weight * told + self.prior * average) / (weight + self.prior), average)

    def with_best_prior(
        self,
        validation: ValidationPairs,
        fold_in: Callable[[Self, sp.csr_matrix], Tensor],
        select_by: str,
    ) -> Self:
        """Returns the same with the prior that ranks best for people of 1, 3 and 10 events.

        Known people play new ones, of whom only the first events are known, or random ones where the log has no time;
        their validation pairs are to be found. The training has seen these people, which makes them easier to tell from
        few events than strangers are. So of the priors that none ranks surely better than, the largest is taken. Cost:
        12 validations on at most 10,000 people.

        Args:
            validation: The pairs.
            fold_in: From this with another prior, and histories in order, to the scores of all items.
            select_by: The metric to maximise.
        """
        validation = validation.for_settling()[1]
        events = (validation.mask if validation.order is None else validation.order).tocoo()
        arriving = arrivals(
            events.row.astype(np.int64),
            events.col.astype(np.int64),
            None if validation.order is None else events.data,
            events.shape,
            of="user",
            more_than=0,
        )
        histories = [arriving.first_in_order(count) for count in _FEW_EVENTS]

        def measured(tried: Self, known: sp.csr_matrix) -> NDArray[np.float64]:
            return validation.per_user(lambda rows: fold_in(tried, known[rows.numpy()]), select_by)

        qualities = {
            prior: np.mean([measured(replace(self, prior=prior), known) for known in histories], axis=0)
            for prior in _PRIORS
        }
        best = max(qualities.values(), key=lambda one: float(one.mean()))
        chosen = max(prior for prior, one in qualities.items() if not ranks_surely_better(best, than=one))
        logger.info("new people: the average counts as %g events", chosen)
        return replace(self, prior=chosen)

    def tensors(self) -> dict[str, Tensor]:
        """Returns all numbers, to be saved."""
        saved = {f"regression.{name}": value for name, value in vars(self.regression).items()}
        averages = {"average": self.average, "average_taste": self.average_taste}
        return saved | averages | {"prior": torch.tensor(self.prior)}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Rebuilds what :meth:`tensors` gave."""
        regression = RidgeRegression(**below("regression.", tensors))
        return cls(regression, tensors["average"], tensors["average_taste"], float(tensors["prior"]))


def _tastes(serving: ServingTensors, histories: sp.csr_matrix, direction: Tensor) -> Tensor:
    heard = fold_in_by_propagation(histories, serving.item_messages, serving.item_degree)
    return tastes_of_histories(histories, heard, direction)
