"""Chooses on validation which linear part is added to the scores of a trained model, and how much it counts."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.pairs import items_with_pairs
from gnnrec.errors import ConfigError
from gnnrec.evaluation.validation import ranks_surely_better
from gnnrec.nn.model_config import LinearPartName, ModelConfig
from gnnrec.rankers.base import RankingTask
from gnnrec.rankers.linear_part import LinearPart

__all__ = ["best_linear_part"]

logger = logging.getLogger(__name__)

_MOST_ITEMS_FOR_EASE = 5_000  # whose weights are 100 MB
_MOST_ITEMS_FOR_LOW_PASS = 50_000  # whose 1,024 directions are 200 MB
_WEIGHTS = (0.05, 0.1, 0.2, 0.4, 0.8)
_USUAL_WEIGHT = 0.1
_LOW_PASSES = (0.25, 0.5, 1.0)
_DECAYS = (0.03, 0.1, 0.3)  # after some 20, 7 and 2 later events one counts half

# What people get, by which part at which weight.
_Tried: TypeAlias = tuple[NDArray[np.float64], LinearPart, float]


def best_linear_part(
    config: ModelConfig, task: RankingTask, user: Tensor, item: Tensor, select_by: str
) -> tuple[LinearPart | None, ModelConfig]:
    """Chooses the linear part, its weight, low-pass filter and decay by the validation pairs, where options are open.

    ``auto`` takes the better of ``random-walk`` and, up to 5,000 items, ``ease``. To be preferred, ``graph-filter``,
    then up to 50,000 items a low-pass filter beside the kind that is best without one, and then a decay have to rank
    better by twice the standard error. Cost: five validations of each kind on at most 10,000 users, three of the
    low-pass filter, and where the task has an order fifteen more.

    Args:
        config: The options of the linear part: its kind, or ``auto``; its weight, ``None``: what ranks the validation
            pairs best; its low-pass filter and decay, likewise.
        task: Training and validation pairs.
        user: ``[num_users, dim]``.
        item: ``[num_items, dim]``.
        select_by: The metric to maximise.

    Returns:
        The part, and the options with what was settled: ``None`` and ``none`` where there is no part, or where
        ``auto``, without a weight, finds that none pays.

    Raises:
        ConfigError: There is a decay, and no order.
    """
    name, weight, decay = config.linear_part, config.linear_weight, config.linear_decay
    nothing = replace(config, linear_part="none", linear_weight=None, linear_low_pass=None, linear_decay=None)
    if name == "none" or (name == "auto" and weight is None and task.validation is None):
        return None, nothing
    names: list[LinearPartName] = [name]
    if name == "auto":
        both = task.validation is not None and len(item) <= _MOST_ITEMS_FOR_EASE
        names = ["random-walk", "ease"] if both else ["random-walk"]
    if decay and task.order is None:
        raise ConfigError(f"option 'linear_decay' is {decay:g}, and the task has no order of events")

    def fitted(kind: LinearPartName) -> LinearPart:
        part = LinearPart.fit(kind, task, user, item)
        if config.linear_low_pass and kind != "ease":
            (part,) = part.with_low_pass([config.linear_low_pass], task)
        return part.with_decay(decay, task.order, user, item) if decay and task.order is not None else part

    parts = [fitted(kind) for kind in names]
    weights = _WEIGHTS if weight is None else (weight,)
    if task.validation is None:
        part, chosen = parts[0], _USUAL_WEIGHT if weight is None else weight
    else:
        known = items_with_pairs(task.interactions)
        people, validation = task.validation.of_items(known).for_settling()

        def quality(tried: LinearPart | None) -> NDArray[np.float64]:
            def score(rows: Tensor) -> Tensor:
                chosen = people[rows.numpy()]
                scores = user[torch.from_numpy(chosen)] @ item.T
                return scores if tried is None else tried.add_to(scores, users=chosen)

            return validation.per_user(score, select_by, candidates=known)  # which are ranked among themselves

        def best_of(parts: Sequence[LinearPart], weights: Sequence[float]) -> _Tried:
            tried = [(quality(part.weighed(one)), part, one) for part in parts for one in weights]
            return max(tried, key=lambda one: float(one[0].mean()))

        best = best_of(parts, weights)
        if name == "auto":
            best = _surely_better(best, best_of([fitted("graph-filter")], weights))
            if config.linear_low_pass is None and _MOST_ITEMS_FOR_EASE < len(item) <= _MOST_ITEMS_FOR_LOW_PASS:
                best = _surely_better(best, best_of(best[1].with_low_pass(_LOW_PASSES, task), best[2:]))
        if decay is None and task.order is not None:
            order = task.order
            in_order = [best[1].with_decay(one, order, user, item) for one in _DECAYS]
            best = _surely_better(best, best_of(in_order, weights))
        reached, part, chosen = best
        if name == "auto" and weight is None and reached.mean() <= quality(None).mean():
            logger.info("no linear part: the model alone ranks best on validation")
            return None, nothing
    beside = f", beside it a low-pass filter {part.low_pass:g} times as much" if part.low_pass else ""
    recent = f", an event exp(-{part.decay:g}) times as much as the next one" if part.decay else ""
    logger.info("the linear part %s counts %g times as much as the model%s%s", part.name, chosen, beside, recent)
    settled = replace(config, linear_part=part.name, linear_low_pass=part.low_pass, linear_decay=part.decay)
    return part.weighed(chosen), replace(settled, linear_weight=chosen)


def _surely_better(best: _Tried, tried: _Tried) -> _Tried:
    """Returns the second if it ranks better by more than chance would, the first else."""
    return tried if ranks_surely_better(tried[0], best[0]) else best
