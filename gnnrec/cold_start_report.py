"""Measures what a fitted state makes of new items and new people: beside warm items, and interaction by interaction."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from torch import Tensor

from gnnrec.data.dataset import Dataset, require_datasets
from gnnrec.data.pairs import enlarged, only_items
from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation.cold_start import Arrivals, arrivals, expected_at_random
from gnnrec.evaluation.protocol import Evaluation, evaluate_rankings
from gnnrec.evaluation.slices import harmonic_mean
from gnnrec.evaluation.trade_off import TradeOff, trade_off
from gnnrec.growth import with_events
from gnnrec.held_out import take_in
from gnnrec.state import RecommenderState

__all__ = ["VIEWS", "ColdStartReport", "evaluate_cold_start", "few_shot_items", "few_shot_people"]

logger = logging.getLogger(__name__)

VIEWS = ("warm", "cold among cold", "cold among all")
_SHOTS = (0, 1, 2, 5, 10)


@dataclass(frozen=True, eq=False)
class ColdStartReport:
    """Warm and cold items, measured in one list and apart.

    Attributes:
        k: Length of the lists.
        evaluations: View → ``recall@k`` and ``ndcg@k``, per user and on average, of

            * ``warm``: test items with training interactions, ranked among all items, the new ones included;
            * ``cold among cold``: test items without, ranked among such items;
            * ``cold among all``: the same, ranked among all items.
        random: View → what a random order gives on average: of all items of the catalogue or, for ``cold among cold``,
            of its cold ones, those included that the ranker could not take in.
        trade_off: What ``warm`` and ``cold among all`` would be, were the scores of cold items moved by any offset.
    """

    k: int
    evaluations: Mapping[str, Evaluation]
    random: Mapping[str, Evaluation]
    trade_off: TradeOff

    def harmonic_mean(self, metric: str | None = None) -> float:
        """Returns the harmonic mean of ``warm`` and ``cold among all``, the two figures of one and the same list.

        It is that of the means over users: a single user mostly finds nothing among a few cold test items, and the
        harmonic mean of anything and 0 is 0.

        Args:
            metric: ``recall@k`` when not given.

        Raises:
            ConfigError: The metric was not measured.
        """
        metric = metric or f"recall@{self.k}"
        if metric not in (measured := self.evaluations["warm"].values):
            raise ConfigError(f"metric {metric!r} was not measured; there are {', '.join(measured)}")
        return harmonic_mean(self.evaluations[view].values[metric] for view in ("warm", "cold among all"))

    def to_frame(self) -> pd.DataFrame:
        """Returns one row per view and metric: its mean and standard error over users, their number, and chance."""
        parts = []
        for view, evaluation in self.evaluations.items():
            frame = evaluation.to_frame()
            frame.insert(0, "view", view)
            parts.append(frame.assign(random=list(self.random[view].values.values())))
        return pd.concat(parts, ignore_index=True)

    def __str__(self) -> str:
        lines = [
            f"  {view:<15}  {name}  {value:.4f}  (random {self.random[view].values[name]:.4f}; "
            f"{evaluation.num_users:,} users)"
            for view, evaluation in self.evaluations.items()
            for name, value in evaluation.values.items()
        ]
        return "\n".join(["Cold start", *lines, f"  harmonic mean of recall@{self.k}  {self.harmonic_mean():.4f}"])


def evaluate_cold_start(
    state: RecommenderState,
    test: Dataset,
    warm_test: Dataset | None = None,
    *,
    history: Dataset | None = None,
    mask: Literal["train+valid", "train"] = "train+valid",
    k: int = 20,
    device: str = "cpu",
) -> ColdStartReport:
    """Measures warm and cold items beside each other.

    Args:
        state: The fitted state, such as ``recommender.state``; it stays as it is.
        test: Held-out events. Items that training never saw are attached by the code of ``add_items``.
        warm_test: Held-out events on items with training interactions, where ``test`` has none of them.
        history: Events by which unseen users are folded in.
        mask: Which pairs are hidden from the rankings; ``train`` where ``test`` is the validation part of the fit.
        k: Length of the lists.
        device: Where media are encoded.

    Raises:
        ConfigError: An unknown mask.
        DataError: Something else than a state and data sets.
    """
    _check_given(state, test, warm_test=warm_test, history=history)
    held_out = take_in(state, test, history, device=device)
    pairs, cold, hidden = held_out.pairs(test), held_out.cold, held_out.hidden(mask)
    if warm_test is not None:
        pairs = sp.csr_matrix((pairs + held_out.pairs(warm_test)).astype(bool).astype(np.float32))
    on_cold = only_items(pairs, cold)
    views = {
        "warm": (only_items(pairs, ~cold), None),
        "cold among cold": (on_cold, cold),
        "cold among all": (on_cold, None),
    }
    metrics, ids = (f"recall@{k}", f"ndcg@{k}"), held_out.users.ids
    evaluations = {
        view: evaluate_rankings(
            held_out.score, wanted, mask=hidden, metrics=metrics, candidates=candidates, user_ids=ids
        )
        for view, (wanted, candidates) in views.items()
    }
    offered = np.ones(len(cold), dtype=np.bool_)
    offered[held_out.state.removed] = False
    random = {
        view: expected_at_random(wanted, mask=hidden, candidates=candidates, offered=offered, k=k, user_ids=ids)
        for view, (wanted, candidates) in views.items()
    }
    moved = trade_off(held_out.score, pairs, cold, mask=hidden, k=k)
    return ColdStartReport(k, evaluations, random, moved)


def few_shot_people(
    state: RecommenderState, test: Dataset, *, shots: Sequence[int] = _SHOTS, k: int = 20
) -> dict[int, Evaluation]:
    """Measures what people get who were never seen in training, after some of their interactions.

    All points have the same people, test pairs and candidates: a person's first ``max(shots)`` pairs are hidden from
    every ranking, the rest is to be found, and only as many of the first as the point says are folded in.

    Args:
        state: The fitted state.
        test: Events of the people, such as the test part of ``split.cold_users``. People whom training knows, events on
            unknown items, and people without more than ``max(shots)`` pairs are left out; the log says how many remain.
        shots: Numbers of interactions.
        k: Length of the lists.

    Returns:
        Number of interactions → ``recall@k`` and ``ndcg@k``.

    Raises:
        ConfigError: ``shots`` are not different numbers of 0 or more.
        DataError: Nobody is left, or something else is given than a state and a data set.
    """
    _check_given(state, test)
    unseen = state.users.find(test.users.ids) < 0
    item = state.items.find(test.items.ids)
    usable = unseen[test.events.user_index] & (item >= 0)[test.events.item_index]
    events = test.events.take(usable)
    shape = (test.num_users, len(state.items))
    known = arrivals(
        *(events.user_index, item[events.item_index], events.timestamp, shape),
        of="user",
        more_than=_most(shots),
    )
    _report_newcomers(known, "user")

    def measure(count: int) -> Evaluation:
        in_order = "order" in state.ranker.capabilities
        histories = known.first_in_order(count) if in_order else known.first(count)

        def score(user_index: Tensor) -> Tensor:
            return state.ranker.fold_in(histories[user_index.numpy()])

        return evaluate_rankings(
            score,
            known.after(_most(shots)),
            mask=known.first(_most(shots)),
            metrics=(f"recall@{k}", f"ndcg@{k}"),
            candidates=state.offered,
            user_ids=test.users.ids,
        )

    return {count: measure(count) for count in shots}


def few_shot_items(
    state: RecommenderState,
    test: Dataset,
    *,
    shots: Sequence[int] = _SHOTS,
    candidates: Literal["all", "cold"] = "all",
    k: int = 20,
    device: str = "cpu",
) -> dict[int, Evaluation]:
    """Measures how well items are recommended that training had no interactions of, after some through ``update``.

    All points have the same items, test pairs and candidates, as in :func:`few_shot_people`.

    Args:
        state: The fitted state.
        test: Events on the items, such as the test part of ``split.cold_items``; the items are attached first. Items
            with training interactions, events of unknown users, and items without more than ``max(shots)`` pairs are
            left out; the log says how many remain.
        shots: Numbers of interactions.
        candidates: Rank ``all`` items, or only ``cold`` ones.
        k: Length of the lists.
        device: Where media are encoded.

    Returns:
        Number of interactions → ``recall@k`` and ``ndcg@k`` over the users of the test pairs.

    Raises:
        ConfigError: ``shots`` are not different numbers of 0 or more, or an unknown set of candidates.
        DataError: No item is left, or something else is given than a state and a data set.
        UnsupportedError: None is, since the ranker cannot take in new items.
    """
    _check_given(state, test)
    held_out = take_in(state, test, device=device)
    ranked = held_out.candidates(candidates)
    grown, cold = held_out.state, held_out.cold[: len(held_out.state.items)]
    user, item = grown.users.find(test.users.ids), grown.items.find(test.items.ids)
    events = test.events
    # Items that the ranker could not take in have no place; -1 would be that of the last one.
    usable = (user >= 0)[events.user_index] & ((item >= 0) & cold[item])[events.item_index]
    if not usable.any() and (item < 0).any() and "attach" not in state.ranker.capabilities:
        state.ranker.attach({}, {}, 0)  # says why it cannot
    events = events.take(usable)
    shape = (len(grown.users), len(grown.items))
    known = arrivals(
        *(user[events.user_index], item[events.item_index], events.timestamp, shape),
        of="item",
        more_than=_most(shots),
    )
    _report_newcomers(known, "item")
    hidden = sp.csr_matrix(enlarged(state.seen, shape) + known.first(_most(shots)))
    allowed = grown.offered if ranked is None else grown.offered & cold

    def measure(count: int) -> Evaluation:
        first = known.place < count  # in the order in which they came
        events = grown.users.ids_of(known.user_index[first]), grown.items.ids_of(known.item_index[first])
        told = with_events(grown, *events) if count else grown
        return evaluate_rankings(
            lambda user_index: told.ranker.score(user_index.numpy()),
            known.after(_most(shots)),
            mask=hidden,
            metrics=(f"recall@{k}", f"ndcg@{k}"),
            candidates=allowed,
            user_ids=grown.users.ids,
        )

    return {count: measure(count) for count in shots}


def _check_given(state: RecommenderState, test: Dataset, **optional: Any) -> None:
    if not isinstance(state, RecommenderState):
        raise DataError(f"state: give the fitted state, such as recommender.state, not {type(state).__name__}")
    require_datasets(test=test, optional=optional)


def _most(shots: Sequence[int]) -> int:
    if not shots or min(shots) < 0 or len(set(shots)) < len(shots):
        raise ConfigError(f"shots are different numbers of interactions, 0 or more, not {list(shots)}")
    return max(shots)


def _report_newcomers(known: Arrivals, of: str) -> None:
    owners = np.unique(known.user_index if of == "user" else known.item_index)
    if len(owners) == 0:
        raise DataError(f"no new {of} has more interactions than the largest of 'shots'; lower it")
    logger.info("few-shot curve over %d new %ss with %d pairs", len(owners), of, len(known.place))
