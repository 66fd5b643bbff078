"""Sets aside what chooses epochs and options: the pairs that are given for it, or a tenth of the training pairs."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from gnnrec.data.dataset import Dataset
from gnnrec.data.ids import IdMap
from gnnrec.data.pairs import items_with_pairs, only_items, pair_matrix
from gnnrec.data.split import holdout
from gnnrec.evaluation.cold_start import arrivals
from gnnrec.evaluation.validation import ValidationPairs

__all__ = ["ValidationPart", "pairs_between", "set_aside"]

logger = logging.getLogger(__name__)

_MOST_COME_AFTER = 0.6


@dataclass(frozen=True, eq=False)
class ValidationPart:
    """What is left to learn from, and the pairs that choose.

    Attributes:
        train: What is left to learn from.
        valid: The events that choose.
        pairs: ``[num_users, num_items]`` binary, their pairs in the catalogue of ``train``, but for those of ``train``.
        come_after: Most of the pairs were given, and come after the training events of their users.
    """

    train: Dataset
    valid: Dataset
    pairs: sp.csr_matrix
    come_after: bool

    def measured_by(self, metrics: tuple[str, ...], *, in_order: bool) -> ValidationPairs | None:
        """Returns what measures a model after an epoch; ``None`` without a pair.

        Args:
            metrics: Names of metrics.
            in_order: Tell in which order the training pairs came, if their time is known.
        """
        if self.pairs.nnz == 0:
            return None
        training_pairs = self.train.interaction_matrix()
        measured = ValidationPairs(self.pairs, training_pairs, metrics, come_after=self.come_after).for_epochs()
        if not in_order or self.train.events.timestamp is None:
            return measured
        return replace(measured, order=_order_of_arrival(self.train, np.diff(measured.pairs.indptr) > 0))


def set_aside(train: Dataset, valid: Dataset | None, *, seed: int) -> ValidationPart:
    """Takes the pairs that choose from ``valid``; where none of them can, a tenth of those of ``train``.

    Args:
        train: All that may be learned from.
        valid: Held-out events. Those on unknown users and items, and those that repeat training pairs, tell nothing;
            those on items of the catalogue without training events tell something beside others that are not.
        seed: Of what is held out.
    """
    if valid is not None:
        pairs = _new_pairs(valid, train)
        if only_items(pairs, items_with_pairs(train.interaction_matrix())).nnz:
            return ValidationPart(train, valid, pairs, _come_after(valid, train))
        logger.warning(
            "no validation pair that training lacks is of a known user and an item with training events; "
            "a tenth of the training pairs is held out instead"
        )
    left, held_out = holdout(train, fraction=0.1, seed=seed)
    logger.info("%d of %d events held out at random, to choose by", len(held_out.events), len(train.events))
    return ValidationPart(left, held_out, _new_pairs(held_out, left), come_after=False)


def pairs_between(dataset: Dataset, users: IdMap, items: IdMap) -> sp.csr_matrix:
    """Returns the distinct pairs of a data set in the positions of another catalogue.

    Pairs of users or items that the other catalogue lacks are left out, and the log says how many.

    Returns:
        ``[num_users, num_items]`` binary float32.
    """
    matrix = dataset.interaction_matrix().tocoo()
    row, column = users.find(dataset.users.ids)[matrix.row], items.find(dataset.items.ids)[matrix.col]
    known = (row >= 0) & (column >= 0)
    if not known.all():
        logger.info("%d of %d held-out pairs are of users or items unseen in training", (~known).sum(), len(known))
    return pair_matrix(row[known], column[known], (len(users), len(items)))


def _new_pairs(valid: Dataset, train: Dataset) -> sp.csr_matrix:
    """Leaves out validation pairs that repeat training pairs: these are hidden, so they measure nothing."""
    valid_pairs = pairs_between(valid, train.users, train.items)
    left = sp.csr_matrix(valid_pairs - valid_pairs.multiply(train.interaction_matrix()))
    left.eliminate_zeros()
    return left


def _order_of_arrival(train: Dataset, people: NDArray[np.bool_]) -> sp.csr_matrix:
    """Returns the place of each pair in its user's history, 1 for the first, of some people ``[num_users]`` alone."""
    events, shape = train.events.take(people[train.events.user_index]), (train.num_users, train.num_items)
    arriving = arrivals(events.user_index, events.item_index, events.timestamp, shape, of="user", more_than=0)
    return arriving.first_in_order(train.num_items)


def _come_after(valid: Dataset, train: Dataset) -> bool:
    """Tells whether the validation events come after the last training event of their user, but for a few.

    Ties count half. Of random pairs of two events each half come later, of longer histories fewer.
    """
    if valid.events.timestamp is None or train.events.timestamp is None:
        return False
    last = np.full(train.num_users, -np.inf)
    np.maximum.at(last, train.events.user_index, train.events.timestamp)
    row = train.users.find(valid.users.ids)[valid.events.user_index]
    before = np.where(row >= 0, last[row], -np.inf)
    known = before > -np.inf
    time, before = valid.events.timestamp[known], before[known]
    return bool(known.any() and (time > before).mean() + (time >= before).mean() > 2 * _MOST_COME_AFTER)
