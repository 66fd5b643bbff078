"""Measures a fitted state on held-out events, unseen items and people included."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.data.dataset import Dataset, require_datasets
from gnnrec.data.ids import IdMap
from gnnrec.data.pairs import enlarged, pair_matrix
from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation.protocol import Evaluation, evaluate_rankings
from gnnrec.evaluation.validation_part import pairs_between
from gnnrec.growth import positive_events, undescribed, with_events, with_items
from gnnrec.modalities.features import Features, owned_by
from gnnrec.newcomers import encode_media
from gnnrec.related import edges_of_new_items
from gnnrec.state import RecommenderState

__all__ = ["HeldOut", "evaluate_state", "take_in"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A fitted state in one catalogue with the unseen items and people of a test set.

    Attributes:
        state: The fitted state, with the new items and the histories that it could take in.
        users: Ids of its users and, behind them, of strangers.
        items: Ids of its items and, behind them, of those that the ranker cannot take in: nobody is ever offered these.
        cold: ``[num_items]`` bool: items without an interaction in training.
        profiles: Modality → prepared vectors of the strangers, counted from 0; empty where nothing is known of them.
    """

    state: RecommenderState
    users: IdMap
    items: IdMap
    cold: NDArray[np.bool_]
    profiles: Mapping[str, Features]

    def score(self, user_index: Tensor) -> Tensor:
        """Scores all items ``[num_users_given, num_items]``; strangers by their profiles, or by the average taste."""
        ranker, num_items = self.state.ranker, len(self.state.items)
        index = user_index.numpy()
        scores = torch.full((len(index), len(self.items)), -torch.inf)
        known = index < len(self.state.users)
        scores[torch.from_numpy(known), :num_items] = ranker.score(index[known])
        if not known.all():
            scores[torch.from_numpy(~known), :num_items] = self._score_strangers(index[~known] - len(self.state.users))
        scores[:, torch.from_numpy(self.state.removed)] = -torch.inf
        return scores

    def _score_strangers(self, stranger: NDArray[np.int64]) -> Tensor:
        nothing = np.zeros(0, dtype=np.int64)
        nobody = pair_matrix(nothing, nothing, (len(stranger) if self.profiles else 1, len(self.state.items)))
        if not self.profiles:
            return self.state.ranker.fold_in(nobody)
        block = {name: owned_by(profile, stranger) for name, profile in self.profiles.items()}
        return self.state.ranker.fold_in_with_profiles(nobody, block)

    def pairs(self, dataset: Dataset) -> sp.csr_matrix:
        """Returns the distinct pairs of the positive events of a data set ``[num_users, num_items]``."""
        return pairs_between(_positive_part(self.state, dataset), self.users, self.items)

    def hidden(self, mask: str = "train+valid") -> sp.csr_matrix:
        """Returns the pairs that are hidden from the rankings ``[num_users, num_items]``.

        Raises:
            ConfigError: An unknown mask.
        """
        if mask not in ("train+valid", "train"):
            raise ConfigError(f"mask is 'train+valid' or 'train', not {mask!r}")
        known = self.state.train if mask == "train" else self.state.seen
        return enlarged(known, (len(self.users), len(self.items)))

    def candidates(self, kind: str) -> NDArray[np.bool_] | None:
        """Returns which items are ranked ``[num_items]``: the ``cold`` ones alone; ``None`` for ``all``.

        Raises:
            ConfigError: Another kind.
        """
        if kind not in ("all", "cold"):
            raise ConfigError(f"candidates are 'all' or 'cold', not {kind!r}")
        return self.cold if kind == "cold" else None


def take_in(state: RecommenderState, test: Dataset, history: Dataset | None = None, *, device: str) -> HeldOut:
    """Attaches the items of a test set as ``add_items`` would, and folds people in by their histories or profiles."""
    grown = _with_people(_with_new_items(state, test, device), history)
    users = grown.users.extend(test.users.ids[grown.users.find(test.users.ids) < 0])
    items = grown.items.extend(test.items.ids[grown.items.find(test.items.ids) < 0])
    cold = np.ones(len(items), dtype=np.bool_)
    cold[: len(state.items)] = state.popularity == 0
    return HeldOut(grown, users, items, cold, _profiles(grown, test, device))


def evaluate_state(
    state: RecommenderState,
    test: Dataset,
    metrics: Sequence[str],
    *,
    mask: str = "train+valid",
    candidates: str = "all",
    history: Dataset | None = None,
    device: str,
) -> Evaluation:
    """Ranks all items for every user with test events; see :meth:`gnnrec.Recommender.evaluate`.

    Raises:
        ConfigError: An unknown metric, mask or set of candidates.
        DataError: Something else than a data set.
    """
    require_datasets(test=test, optional={"history": history})
    held_out = take_in(state, test, history, device=device)
    return evaluate_rankings(
        held_out.score,
        held_out.pairs(test),
        mask=held_out.hidden(mask),
        metrics=metrics,
        candidates=held_out.candidates(candidates),
        user_ids=held_out.users.ids,
    )


def _positive_part(state: RecommenderState, dataset: Dataset) -> Dataset:
    """Leaves out what is not positive by the threshold of the fit, unless the data set was built with its own."""
    if dataset.positive_from is not None:
        return dataset
    return dataset.with_events(positive_events(dataset.events, state.catalogue.positive_from))


def _with_new_items(state: RecommenderState, test: Dataset, device: str) -> RecommenderState:
    """Attaches those items of ``test`` that training never saw and ``add_items`` would take."""
    new = state.items.find(test.items.ids) < 0
    if not new.any():
        return state
    if "attach" not in state.ranker.capabilities:
        logger.warning(
            "the ranker %r cannot take in %d items of the test set; events on them count as missed",
            state.ranker.name,
            new.sum(),
        )
        return state
    heard = [name for name, is_heard in state.ranker.relations.items() if is_heard]
    if heard and test.relations.keys().isdisjoint(heard):
        logger.warning(
            "the test set brings no relation %s, by which the model knows what new items are like",
            " or ".join(map(repr, heard)),
        )
    ids, features, related = _described(state, test, new, device)
    bare = undescribed(state, len(ids), features, related)
    if len(bare):
        logger.warning(
            "%d of %d new items of the test set have no medium that the model knows; events on them count as missed",
            len(bare),
            len(ids),
        )
        new[np.flatnonzero(new)[bare]] = False
        if not new.any():
            return state
        ids, features, related = _described(state, test, new, device)
    return with_items(state, ids, None, features, related)  # a table of theirs is read no more


def _described(
    state: RecommenderState, test: Dataset, new: NDArray[np.bool_], device: str
) -> tuple[IdMap, dict[str, Features], dict[str, sp.csr_matrix]]:
    """Returns the ids of the items ``new [num_items]`` of a test set, their vectors and relations."""
    ids = IdMap(test.items.ids[new], "item")
    only_new = test.without(items=~new)
    specs = {name: spec for name, spec in only_new.modalities.items() if spec.of == "item" and name in state.features}
    features = encode_media(state, "item", ids, only_new.item_table, specs, device=device)
    return ids, features, edges_of_new_items(state, ids, test)


def _profiles(state: RecommenderState, test: Dataset, device: str) -> dict[str, Features]:
    """Encodes the media of the people of ``test`` whom the state does not know, if its ranker hears them."""
    strange = state.users.find(test.users.ids) < 0
    if "profiles" not in state.ranker.capabilities or not strange.any():
        return {}
    strangers = test.without(users=~strange)
    specs = {name: spec for name, spec in strangers.modalities.items() if spec.of == "user" and name in state.features}
    return encode_media(state, "user", strangers.users, strangers.user_table, specs, device=device)


def _with_people(state: RecommenderState, history: Dataset | None) -> RecommenderState:
    """Folds in people by their history; pairs of unknown items are left out."""
    if history is None:
        return state
    events = _positive_part(state, history).events
    users, items = history.users.ids_of(events.user_index), history.items.ids_of(events.item_index)
    known = state.items.find(items) >= 0
    if not known.any():
        raise DataError("history: none of its events is on a known item")
    timestamp = None if events.timestamp is None else events.timestamp[known]
    folded = with_events(state, users[known], items[known], timestamp)
    return replace(folded, version=state.version)
