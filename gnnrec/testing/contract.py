"""Checks that a ranker or an encoder keeps what its protocol promises; for third parties' own test suites."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from gnnrec.data.pairs import pair_matrix
from gnnrec.errors import UnsupportedError
from gnnrec.modalities.encoder import Encoder
from gnnrec.modalities.features import Features
from gnnrec.rankers.base import Ranker, RankingTask
from gnnrec.testing.planted import planted_graph

__all__ = ["check_encoder", "check_ranker"]


def check_ranker(ranker: type[Ranker], config: Any, *, learns_taste: bool = True) -> None:
    """Fits a ranker on a planted graph and checks every promise of :class:`~gnnrec.rankers.base.Ranker`.

    Args:
        ranker: The class.
        config: Its options.
        learns_taste: Whether its rankings follow the user's taste (popularity's do not).

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    planted = planted_graph()
    num_users, num_items = planted.train.shape
    fitted, _ = ranker.fit(RankingTask(planted.graph, planted.train), config)
    everybody = np.arange(num_users)
    scores = fitted.score(everybody)
    _check(scores.shape == (num_users, num_items), "score gives one row per user and one column per item")
    _check(bool(torch.isfinite(scores).all()), "scores are finite")
    few = fitted.score(everybody[[3, 1]])
    _check(torch.allclose(few, scores[[3, 1]], atol=1e-5), "scores do not depend on the block but for rounding")
    if learns_taste:
        purity = planted.purity(scores.numpy(), everybody)
        _check(purity > 0.6, f"rankings follow the planted taste (purity {purity:.2f}, chance .25)")
        purity = planted.purity(fitted.fold_in(planted.train).numpy(), everybody)
        _check(purity > 0.6, f"fold-in follows the planted taste (purity {purity:.2f}, chance .25)")
    nothing = np.zeros(0, dtype=np.int64)
    empty = pair_matrix(nothing, nothing, (1, num_items))
    _check(bool(torch.isfinite(fitted.fold_in(empty)).all()), "an empty history gives finite scores")
    _check(fitted.similar(np.array([0, 5])).shape == (2, num_items), "similar gives one row per item")

    again = ranker.from_state(fitted.state())
    _check(torch.equal(again.score(everybody), scores), "state and from_state keep every bit of the scores")
    _check(torch.equal(again.fold_in(planted.train), fitted.fold_in(planted.train)), "… and of the fold-in")

    grown = sp.vstack([planted.train, planted.train[:1]], format="csr")
    updated = fitted.update(grown, np.array([num_users]))
    newcomer = updated.score(np.array([num_users]))
    _check(newcomer.shape == (1, num_items), "update takes in a new user")
    by_history = updated.fold_in(grown[num_users:])
    _check(torch.allclose(newcomer, by_history, atol=1e-5), "a new user of update gets what fold-in gives a stranger")
    _check(torch.equal(fitted.score(everybody), scores), "update leaves the ranker itself as it was")
    _check_attach(fitted, planted.features)
    _check_profiles(fitted, empty)


def _check_attach(fitted: Ranker, known: dict[str, Features]) -> None:
    num_items = len(known["content"])
    twin = Features("content", "item", known["content"].values[:2], np.arange(2))
    try:
        attached = fitted.attach({"content": twin}, known, 2, {})
    except UnsupportedError:
        _check("attach" not in fitted.capabilities, "a ranker that declares 'attach' takes in new items")
        return
    user = np.array([0])
    _check(attached.score(user).shape == (1, num_items + 2), "attach appends the new items")
    _check(
        torch.allclose(attached.score(user)[:, :num_items], fitted.score(user), atol=1e-6),
        "attach leaves the scores of known items as they were",
    )


def _check_profiles(fitted: Ranker, history: sp.csr_matrix) -> None:
    """The planted graph has no media of users, so nothing fitted on it can hear a profile."""
    _check("profiles" not in fitted.capabilities, "a ranker declares 'profiles' only if it was fitted with such media")
    try:
        fitted.fold_in_with_profiles(history, {})
    except UnsupportedError:
        return
    _check(False, "a ranker that does not declare 'profiles' refuses them")


def check_encoder(encoder: Encoder, batch: Sequence[Any]) -> None:
    """Checks every promise of :class:`~gnnrec.modalities.encoder.Encoder`.

    Args:
        encoder: The encoder.
        batch: At least two different decoded media.

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    vectors = encoder.encode(batch)
    _check(vectors.dtype == np.float32, "vectors are float32")
    _check(vectors.shape == (len(batch), encoder.card.dim), "there is one vector of the card's width per medium")
    _check(bool(np.isfinite(vectors).all()), "vectors are finite")
    _check(not np.allclose(vectors[0], vectors[1]), "different media have different vectors")
    alone = encoder.encode(batch[:1])
    _check(np.allclose(alone[0], vectors[0], atol=1e-4), "a vector does not depend on the rest of the batch")
    _check(encoder.card.modality == encoder.modality, "card and encoder name the same modality")


def _check(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(f"broken promise: {promise}")
