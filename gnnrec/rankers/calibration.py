"""Chooses on validation what training cannot tell: how popularity and content count, and what room new items get."""

import logging
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.pairs import only_items
from gnnrec.evaluation.metrics import parse_metric
from gnnrec.evaluation.trade_off import TradeOff, trade_off
from gnnrec.evaluation.validation import ValidationPairs
from gnnrec.rankers.fold_in import content_tastes
from gnnrec.rankers.linear_part import LinearPart

__all__ = [
    "Predicted",
    "best_content_taste",
    "best_known_content_taste",
    "best_new_item_offset",
    "best_popularity_weight",
]

logger = logging.getLogger(__name__)

# Where they rank equally well the first one stays: as in training.
_POPULARITY_WEIGHTS = (1.0, 0.0, 0.25, 0.5, 0.75, 1.5, 2.0, 3.0, 5.0)
_CONTENT_TASTES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
_GROUPS = 4  # of known items, which play new ones in turn
_ENOUGH_PAIRS_ON_NEW_ITEMS = 100
_ENOUGH_NEW_ITEMS = 0.05  # times as many as known ones
_USUAL_LENGTH = 20  # of a list


@dataclass(frozen=True, eq=False)
class Predicted:
    """What the attachment says of items.

    Attributes:
        known: ``[num_known]`` items that training knew, all or some.
        left_out: ``[num_known, dim]`` their vectors as they would be if they were new, each predicted without itself.
        new: ``[num_new]`` items that it did not know.
        placed: ``[num_new, dim]`` their vectors.
    """

    known: Tensor
    left_out: Tensor
    new: Tensor
    placed: Tensor


def best_popularity_weight(
    validation: ValidationPairs, user: Tensor, item: Tensor, known: NDArray[np.bool_], select_by: str
) -> float:
    """Returns how many times the biases of items should count: tomorrow's popularity may be another than the log's.

    Known items are ranked among themselves: others have no bias to speak of. Cost: nine validations on at most 10,000
    users.

    Args:
        validation: Held-out pairs.
        user: ``[num_users, dim]``.
        item: ``[num_items, dim]``, the last entry of which is the bias.
        known: ``[num_items]`` bool: items with training interactions.
        select_by: The metric to maximise.
    """
    index = np.flatnonzero(known)
    direction, bias = item[index, :-1], item[index, -1:]
    people, validation = validation.among(index).for_settling()
    user = user[torch.from_numpy(people)]

    def quality(weight: float) -> float:
        return validation(user, torch.cat([direction, weight * bias], dim=1))[select_by]

    best = max(_POPULARITY_WEIGHTS, key=quality)
    logger.info("popularity counts %g times as much as in training: best on validation", best)
    return best


def best_content_taste(
    validation: ValidationPairs,
    user: Tensor,
    content: Tensor,
    interactions: sp.csr_matrix,
    predicted: Predicted,
    select_by: str,
) -> float:
    """Returns how much the likeness of a new item's content to that of a history should count in its score.

    Validation pairs on items that training did not see say it best. Where they are few, each quarter of the known items
    in turn plays new ones: its items are scored by what is predicted of them when they are left out, and tell nothing
    of anybody's taste. Items are ranked among those of their kind. Cost: six validations on at most 10,000 users.

    Args:
        validation: Held-out pairs.
        user: ``[num_users, dim]``.
        content: ``[num_items, width]``.
        interactions: ``[num_users, num_items]`` training pairs.
        predicted: What new items would be, or are.
        select_by: The metric to maximise.
    """
    people, validation = validation.for_settling()
    user, interactions = user[torch.from_numpy(people)], interactions[people]
    if validation.among(predicted.new.numpy()).pairs.nnz >= _ENOUGH_PAIRS_ON_NEW_ITEMS:
        groups = [(predicted.new, predicted.placed)]
    else:
        groups = _playing_new(predicted, len(content) - len(predicted.new))
    quality = dict.fromkeys(_CONTENT_TASTES, 0.0)
    for group, vectors in groups:
        plays_new = np.zeros(len(content), dtype=np.bool_)
        plays_new[group.numpy()] = True
        among_new = validation.among(group.numpy())
        if among_new.pairs.nnz == 0:
            continue
        taste = content_tastes(only_items(interactions, ~plays_new), content)
        item = torch.cat([content[group], vectors], dim=1)
        for weight in quality:
            quality[weight] += among_new(torch.cat([weight * taste, user], dim=1), item)[select_by]
    best = max(_CONTENT_TASTES, key=lambda weight: quality[weight])
    logger.info("new items: likeness of content to a history counts %g, best on validation", best)
    return best


def best_known_content_taste(
    validation: ValidationPairs,
    user: Tensor,
    item: Tensor,
    taste: Tensor,
    content: Tensor,
    known: Tensor,
    *,
    linear: LinearPart | None,
    select_by: str,
) -> float:
    """Returns how much the likeness of a known item's content to that of a history should count in its score.

    Known items are ranked among themselves. Cost: six validations on at most 10,000 users.

    Args:
        validation: Held-out pairs.
        user: ``[num_users, dim]``.
        item: ``[num_items, dim]``.
        taste: ``[num_users, width]``.
        content: ``[num_items, width]``.
        known: ``[num_items]`` bool: items with training interactions.
        linear: What is added to the scores of known items.
        select_by: The metric to maximise.
    """
    people, validation = validation.for_settling()
    user, taste = user[torch.from_numpy(people)], taste[torch.from_numpy(people)]
    described, unknown = torch.cat([content, item], dim=1), torch.nonzero(~known).flatten()

    def quality(weight: float) -> float:
        person = torch.cat([weight * taste, user], dim=1)

        def score(rows: Tensor) -> Tensor:
            scores = person[rows] @ described.T
            if linear is not None:
                scores = linear.add_to(scores, users=people[rows.numpy()])
            return scores.index_fill_(1, unknown, -torch.inf)

        return validation.of_scores(score)[select_by]

    best = max(_CONTENT_TASTES, key=quality)
    logger.info("known items: likeness of content to a history counts %g, best on validation", best)
    return best


def best_new_item_offset(
    validation: ValidationPairs,
    user: Tensor,
    item: Tensor,
    content: Tensor,
    predicted: Predicted,
    *,
    linear: LinearPart | None,
    price: float,
    select_by: str,
) -> float:
    """Returns the largest offset to the scores of new items that known items can afford.

    New items of the catalogue compete with the known ones as they will. Where there are few of them, as good as all new
    items are still to come: each quarter of the known items in turn plays them, scored by what is predicted of them
    when they are left out, and as if nobody had chosen them, so they are hidden from nobody and tell of nobody's taste.
    The offset may grow until the others lose the price, on average over the quarters. Cost: at most four validations on
    at most 10,000 users.

    Args:
        validation: Held-out pairs.
        user: ``[num_users, dim]``.
        item: ``[num_items, width + dim]``: the content as much as it counts, then the vector, whose last entry is the
            bias.
        content: ``[num_items, width]`` what tastes are the mean of.
        predicted: What new items would be, and are, as wide as ``item``.
        linear: What is added to the scores of known items, and of them alone.
        price: Share of the recall on known items that may be lost.
        select_by: The metric in whose first k places they lose it; 20 for one that has no k.
    """
    ranked, num_known = np.ones(len(item), dtype=np.bool_), len(item) - len(predicted.new)
    groups = [(predicted.new, predicted.placed)]
    if len(predicted.new) < _ENOUGH_NEW_ITEMS * num_known:
        ranked[predicted.new.numpy()] = False
        groups = _playing_new(predicted, num_known)
    people, validation = validation.of_items(ranked).for_settling()
    user, absent = user[torch.from_numpy(people)], torch.from_numpy(np.flatnonzero(~ranked))
    k = parse_metric(select_by)[1] or _USUAL_LENGTH

    def trade_with(new: Tensor, placed: Tensor) -> TradeOff:
        is_new = np.zeros(len(item), dtype=np.bool_)
        is_new[new.numpy()] = True
        histories = only_items(validation.mask, ~is_new)
        person = torch.cat([content_tastes(histories, content), user], dim=1)

        def score(rows: Tensor) -> Tensor:
            scores = person[rows] @ item.T
            if linear is not None:
                scores = linear.add_to(scores, users=people[rows.numpy()])
            scores[:, new] = person[rows] @ placed.T
            return scores.index_fill_(1, absent, -torch.inf)

        return trade_off(score, validation.pairs, is_new, mask=histories, k=k)

    trade = TradeOff.mean([trade_with(*group) for group in groups])
    alone = trade.known_recall(-np.inf)
    offset = trade.largest_offset((1 - price) * alone)
    logger.info(
        "new items are moved by %+.3f: on validation known ones keep %.4f of a recall@%d of %.4f, new ones reach %.4f",
        *(offset, trade.known_recall(offset), k, alone, trade.new_recall(offset)),
    )
    return offset


def _playing_new(predicted: Predicted, num_known: int) -> list[tuple[Tensor, Tensor]]:
    """Returns the groups of known items that play new ones, each with what is predicted of it when it is left out.

    Each is about a quarter of all known items, so there are fewer of them where some alone were predicted.
    """
    shuffled = torch.randperm(len(predicted.known), generator=torch.Generator().manual_seed(0))
    num_groups = max(1, round(_GROUPS * len(shuffled) / max(1, num_known)))
    return [(predicted.known[group], predicted.left_out[group]) for group in shuffled.tensor_split(num_groups)]
