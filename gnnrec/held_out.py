"""Measures a fitted state on held-out events, unseen items and people included."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gnnrec.data.dataset import Dataset
from gnnrec.data.ids import IdMap
from gnnrec.data.pairs import enlarged, pair_matrix
from gnnrec.errors import ConfigError, DataError, UnsupportedError
from gnnrec.evaluation.protocol import Evaluation, evaluate_rankings
from gnnrec.fitting import pairs_between
from gnnrec.growth import with_events, with_items
from gnnrec.newcomers import encode_media
from gnnrec.state import RecommenderState

__all__ = ["evaluate_state"]

logger = logging.getLogger(__name__)


def evaluate_state(
    state: RecommenderState,
    test: Dataset,
    metrics: Sequence[str],
    *,
    mask: str = "train+valid",
    candidates: str = "all",
    history: Dataset | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Ranks all items for every user with test events; see :meth:`gnnrec.Recommender.evaluate`.

    Raises:
        ConfigError: An unknown metric, mask or set of candidates.
    """
    if mask not in ("train+valid", "train"):
        raise ConfigError(f"mask is 'train+valid' or 'train', not {mask!r}")
    if candidates not in ("all", "cold"):
        raise ConfigError(f"candidates are 'all' or 'cold', not {candidates!r}")
    fitted_items = len(state.items)
    state = _with_people(_with_new_items(state, test, device), history)
    ranker, num_users = state.ranker, len(state.users)
    strangers = test.users.ids[state.users.find(test.users.ids) < 0]
    users = state.users.extend(strangers)
    # Items that the ranker cannot take in have a column behind the others, which nobody is ever offered.
    lost = test.items.ids[state.items.find(test.items.ids) < 0]
    items = state.items.extend(lost)
    shape = (len(users), len(items))
    nobody = pair_matrix(np.zeros(0, np.int64), np.zeros(0, np.int64), (1, len(state.items)))

    def score(user_index: Tensor) -> Tensor:
        index = user_index.numpy()
        scores = torch.full((len(index), len(items)), -torch.inf)
        known = index < num_users
        scores[torch.from_numpy(known), : len(state.items)] = ranker.score(index[known])
        if not known.all():
            scores[torch.from_numpy(~known), : len(state.items)] = ranker.fold_in(nobody)
        scores[:, torch.from_numpy(state.removed)] = -torch.inf
        return scores

    hidden = enlarged(state.train if mask == "train" else state.seen, shape)
    chosen = None
    if candidates == "cold":
        chosen = np.ones(len(items), dtype=np.bool_)
        chosen[:fitted_items] = state.popularity[:fitted_items] == 0
    return evaluate_rankings(score, pairs_between(test, users, items), mask=hidden, metrics=metrics, candidates=chosen)


def _with_new_items(state: RecommenderState, test: Dataset, device: str) -> RecommenderState:
    """Attaches the items of ``test`` that training never saw, as ``add_items`` would."""
    new = state.items.find(test.items.ids) < 0
    if not new.any():
        return state
    ids = IdMap(test.items.ids[new], "item")
    only_new = test.without(items=~new)
    specs = {name: spec for name, spec in only_new.modalities.items() if spec.of == "item" and name in state.features}
    try:
        features = encode_media(state, "item", ids, only_new.item_table, specs, device=device)
        return with_items(state, ids, only_new.item_table, features)
    except UnsupportedError:
        logger.warning(
            "the ranker %r cannot take in %d items of the test set; events on them count as missed",
            state.ranker.name,
            len(ids),
        )
        return state


def _with_people(state: RecommenderState, history: Dataset | None) -> RecommenderState:
    """Folds in people by their history; pairs of unknown items are left out."""
    if history is None:
        return state
    events = history.events
    users, items = history.users.ids_of(events.user_index), history.items.ids_of(events.item_index)
    known = state.items.find(items) >= 0
    if not known.any():
        raise DataError("history: none of its events is on a known item")
    folded = with_events(state, users[known], items[known])
    return replace(folded, version=state.version)
