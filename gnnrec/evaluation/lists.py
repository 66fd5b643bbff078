"""Measures lists that any program recommended, given as a frame, as the lists of a model are measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.dataset import Dataset, require_datasets
from gnnrec.data.frames import read_frame
from gnnrec.data.ids import IdMap, as_id_array, listed
from gnnrec.data.pairs import enlarged, places_within
from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation.metrics import parse_metric
from gnnrec.evaluation.protocol import DEFAULT_METRICS, Evaluation, evaluate_rankings

__all__ = ["evaluate_lists"]


def evaluate_lists(lists: Any, test: Dataset, metrics: Sequence[str] = DEFAULT_METRICS) -> Evaluation:
    """Measures recommended lists, such as those of RecTools or LensKit, by the protocol of :func:`evaluate_rankings`.

    Every user with test events counts; for one without a list, nothing was found. Nothing is hidden: what a list holds
    takes its place in it, training items and items that ``test`` does not know too.

    Args:
        lists: A frame or path with ``user_id``, ``item_id`` and ``rank``, smallest first; or ``score``, largest first.
            Equal ones come in the order of the rows. Lists of people without test events count for nothing.
        test: The held-out events.
        metrics: Names such as ``recall@20``; places that a list lacks are misses.

    Returns:
        The metrics. In ``top_items``, items that ``test`` does not know are numbered behind those of its catalogue.

    Raises:
        ConfigError: An unknown metric, or ``auc``, which needs whole rankings.
        DataError: A column is missing or cannot be used, an item is twice in a list, or nobody has test events.
    """
    require_datasets(test=test)
    metrics = (metrics,) if isinstance(metrics, str) else metrics
    if any(parse_metric(name)[1] is None for name in metrics):
        raise ConfigError("metric 'auc' judges whole rankings; lists have metrics such as 'recall@20'")
    frame = read_frame(lists, "lists")[0]
    places, items = _places(frame, test)

    def score(user_index: Tensor) -> NDArray[np.floating]:
        of_block = places[user_index.numpy()].tocoo()
        scores = np.full(of_block.shape, -np.inf, dtype=np.float32)
        scores[of_block.row, of_block.col] = -of_block.data
        return scores

    pairs = enlarged(test.interaction_matrix(), (test.num_users, len(items)))
    return evaluate_rankings(score, pairs, metrics=metrics, user_ids=test.users.ids)


def _places(frame: pd.DataFrame, test: Dataset) -> tuple[sp.csr_matrix, IdMap]:
    """Returns the place of each item in its user's list ``[num_users, num_items]``, 1 for the first, and the items."""
    by = "rank" if "rank" in frame else "score"
    if missing := [name for name in ("user_id", "item_id", by) if name not in frame]:
        raise DataError(f"lists: no column {', '.join(map(repr, missing))}; there are {', '.join(frame.columns)}")
    user_ids, item_ids = (as_id_array(frame[name], f"lists: {name}") for name in ("user_id", "item_id"))
    twice = frame.duplicated(["user_id", "item_id"]).to_numpy()
    if twice.any():
        raise DataError(f"lists: {twice.sum()} items are twice in a list, such as {listed(item_ids[twice][:1])}")
    value = pd.to_numeric(frame[by], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isnan(value).any():
        raise DataError(f"lists: {by!r} holds {np.isnan(value).sum()} values that are no numbers")
    user = test.users.find(user_ids)
    if not (user >= 0).any():
        raise DataError("lists: none of the users is in the test set; are the ids of the same kind?")
    new_items = pd.unique(item_ids[test.items.find(item_ids) < 0])
    items = test.items.extend(new_items)
    known = np.flatnonzero(user >= 0)
    order = known[np.lexsort((value[known] if by == "rank" else -value[known], user[known]))]
    place = places_within(user[order], test.num_users) + 1
    entries = (place.astype(np.float32), (user[order], items.index_of(item_ids[order])))
    return sp.csr_matrix(entries, shape=(test.num_users, len(items))), items
