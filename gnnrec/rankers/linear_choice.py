"""Chooses on validation which linear part is added to the scores of a trained model, and how much it counts."""

import logging
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.pairs import items_with_pairs
from gnnrec.errors import ConfigError
from gnnrec.evaluation.validation import ranks_surely_better
from gnnrec.nn.model_config import LinearPartName
from gnnrec.rankers.base import RankingTask
from gnnrec.rankers.linear_part import LinearPart

__all__ = ["best_linear_part"]

logger = logging.getLogger(__name__)

_MOST_ITEMS_FOR_EASE = 5_000  # whose weights are 100 MB
# Its directions are 6 kB of each item. Beside TikTok, Amazon Baby and Allrecipes, with 6,700 to 8,400 items, they
# gained nothing.
_ITEMS_FOR_LOW_PASS = range(10_000, 50_001)
_WEIGHTS = (0.05, 0.1, 0.2, 0.4, 0.8)
_USUAL_WEIGHT = 0.1
_DECAYS = (0.03, 0.1, 0.3)  # after some 20, 7 and 2 later events one counts half

# What people get, by which part at which weight.
_Tried: TypeAlias = tuple[NDArray[np.float64], LinearPart, float]


def best_linear_part(
    name: LinearPartName,
    weight: float | None,
    decay: float | None,
    task: RankingTask,
    user: Tensor,
    item: Tensor,
    select_by: str,
) -> tuple[LinearPart | None, LinearPartName, float | None]:
    """Chooses the linear part, its weight and its decay by the validation pairs, where the options leave them open.

    ``auto`` takes the better of ``random-walk`` and, up to 5,000 items, ``ease``. To be preferred, ``graph-filter``,
    then from 10,000 to 50,000 items ``low-pass``, and then a decay for the kind that is best without one have to rank
    better by twice the standard error. Cost: of at most 10,000 users the scores of each kind, and where the task has an
    order of three decays, and five rankings of each.

    Args:
        name: The kind, or ``auto``.
        weight: Its weight; ``None``: what ranks the validation pairs best.
        decay: Its decay; likewise, and 0 where the task has no order.
        task: Training and validation pairs.
        user: ``[num_users, dim]``.
        item: ``[num_items, dim]``.
        select_by: The metric to maximise.

    Returns:
        The part, its name and its weight; ``None`` and ``none`` where there is none, or where ``auto``, without a
        weight, finds that none pays.

    Raises:
        ConfigError: There is a decay, and no order.
    """
    if name == "none" or (name == "auto" and weight is None and task.validation is None):
        return None, "none", None
    names: list[LinearPartName] = [name]
    if name == "auto":
        both = task.validation is not None and len(item) <= _MOST_ITEMS_FOR_EASE
        names = ["random-walk", "ease"] if both else ["random-walk"]
    if decay and task.order is None:
        raise ConfigError(f"option 'linear_decay' is {decay:g}, and the task has no order of events")

    def in_order(part: LinearPart) -> LinearPart:
        return part.with_decay(decay, task.order, user, item) if decay and task.order is not None else part

    parts = [in_order(LinearPart.fit(kind, task, user, item)) for kind in names]
    weights = _WEIGHTS if weight is None else (weight,)
    if task.validation is None:
        part, chosen = parts[0], _USUAL_WEIGHT if weight is None else weight
    else:
        known = items_with_pairs(task.interactions)
        people, validation = task.validation.of_items(known).for_settling()

        def quality(part: LinearPart, weights: Sequence[float]) -> NDArray[np.float64]:
            def scores(rows: Tensor) -> Iterator[Tensor]:
                chosen = people[rows.numpy()]
                alone = user[torch.from_numpy(chosen)] @ item.T
                added = part.add_to(torch.zeros_like(alone), users=chosen)
                return (torch.add(alone, added, alpha=weight) for weight in weights)

            # Known items are ranked among themselves.
            return validation.per_user_of_each(scores, select_by, candidates=known)

        def best_of(parts: Sequence[LinearPart]) -> _Tried:
            tried = [
                (reached, part, weight)
                for part in parts
                for reached, weight in zip(quality(part, weights), weights, strict=True)
            ]
            return max(tried, key=lambda one: float(one[0].mean()))

        best = best_of(parts)
        if name == "auto":
            further: list[LinearPartName] = ["graph-filter"]
            if len(item) in _ITEMS_FOR_LOW_PASS:
                further.append("low-pass")
            for kind in further:
                best = _surely_better(best, best_of([in_order(LinearPart.fit(kind, task, user, item))]))
        if decay is None and task.order is not None:
            order = task.order
            best = _surely_better(best, best_of([best[1].with_decay(one, order, user, item) for one in _DECAYS]))
        reached, part, chosen = best
        if name == "auto" and weight is None and reached.mean() <= quality(part, [0.0]).mean():
            logger.info("no linear part: the model alone ranks best on validation")
            return None, "none", None
    recent = f", an event exp(-{part.decay:g}) times as much as the next one" if part.decay else ""
    logger.info("the linear part %s counts %g times as much as the model%s", part.name, chosen, recent)
    return part.weighed(chosen), part.name, chosen


def _surely_better(best: _Tried, tried: _Tried) -> _Tried:
    """Returns the second if it ranks better by more than chance would, the first else."""
    return tried if ranks_surely_better(tried[0], best[0]) else best
