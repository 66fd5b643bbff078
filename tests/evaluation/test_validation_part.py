"""The pairs that choose epochs and options: which they are, and whether they tell what comes next."""

import logging

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.evaluation.validation_part import pairs_between, set_aside


def dataset(events: list[tuple[str, str, float]]) -> gr.Dataset:
    return gr.Dataset.from_frames(pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"]))


TRAIN = dataset([("ann", "tea", 1), ("ann", "jam", 4), ("bob", "tea", 2), ("bob", "rice", 3), ("cyd", "jam", 9)])


def cells(part: gr.Dataset, pairs: object) -> set[tuple[str, str]]:
    matrix = pairs.tocoo()  # type: ignore[attr-defined]
    return set(zip(part.users.ids[matrix.row], part.items.ids[matrix.col], strict=True))


def test_given_pairs_choose_but_those_of_training_and_of_strangers(caplog: pytest.LogCaptureFixture) -> None:
    valid = dataset([("ann", "rice", 5), ("ann", "tea", 6), ("bob", "jam", 7), ("dan", "tea", 8), ("cyd", "figs", 8)])
    with caplog.at_level(logging.INFO):
        part = set_aside(TRAIN, valid, seed=0)
    assert part.train is TRAIN
    assert cells(TRAIN, part.pairs) == {("ann", "rice"), ("bob", "jam")}
    assert "2 of 5 held-out pairs are of users or items unseen in training" in caplog.text


def test_pairs_between_are_placed_by_their_ids() -> None:
    valid = dataset([("cyd", "tea", 1), ("ann", "rice", 1)])
    assert cells(TRAIN, pairs_between(valid, TRAIN.users, TRAIN.items)) == {("cyd", "tea"), ("ann", "rice")}


@pytest.mark.parametrize(
    ("times", "after"),
    [
        ((5.0, 4.0), True),  # both later
        ((5.0, 3.0), True),  # one later, one at the time of the last event: 1.5 of 2
        ((4.0, 3.0), False),  # two ties: 1 of 2
        ((5.0, 1.0), False),  # one later, one earlier
    ],
)
def test_most_have_to_come_after_the_last_event_of_their_users(times: tuple[float, float], after: bool) -> None:
    valid = dataset([("ann", "rice", times[0]), ("bob", "jam", times[1])])
    assert set_aside(TRAIN, valid, seed=0).come_after is after


def test_people_without_training_events_say_nothing_of_what_comes_after() -> None:
    users = pd.DataFrame({"user_id": ["ann", "eve", "fay"]})
    log = pd.DataFrame({"user_id": "ann", "item_id": ["tea", "jam"], "timestamp": [2.0, 3.0]})
    train = gr.Dataset.from_frames(log, users=users, items=pd.DataFrame({"item_id": ["jam", "rice", "tea"]}))
    valid = dataset([("ann", "rice", 1), ("eve", "tea", 9), ("fay", "tea", 9)])
    assert not set_aside(train, valid, seed=0).come_after


def test_without_time_nothing_is_known_to_come_after() -> None:
    valid = gr.Dataset.from_frames(pd.DataFrame({"user_id": ["ann"], "item_id": ["rice"]}))
    assert not set_aside(TRAIN, valid, seed=0).come_after


def test_a_tenth_is_held_out_where_no_pair_is_given_that_can_choose(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    log = pd.DataFrame({"user_id": rng.integers(0, 30, 400), "item_id": rng.integers(0, 40, 400), "timestamp": 1.0})
    train = gr.Dataset.from_frames(log)
    useless = gr.Dataset.from_frames(log.head(5))
    part, again = set_aside(train, None, seed=3), set_aside(train, useless, seed=3)
    assert "a tenth of the training pairs is held out instead" in caplog.text
    assert not part.come_after
    assert cells(train, part.pairs) == cells(train, again.pairs)
    left = cells(train, part.train.interaction_matrix())
    assert not left & cells(train, part.pairs)
    assert left | cells(train, part.pairs) == cells(train, train.interaction_matrix())
    assert 0.05 < part.pairs.nnz / train.interaction_matrix().nnz < 0.15


def test_pairs_on_items_without_events_alone_choose_nothing(caplog: pytest.LogCaptureFixture) -> None:
    log = pd.DataFrame({"user_id": np.repeat(np.arange(6), 4), "item_id": np.tile(np.arange(4), 6)})
    whole = gr.Dataset.from_frames(log, pd.DataFrame({"item_id": np.arange(6)}))
    news = gr.Dataset.from_frames(pd.DataFrame({"user_id": [0, 1], "item_id": [4, 5]}))
    assert set_aside(whole, news, seed=0).train is not whole
    assert "a tenth of the training pairs is held out instead" in caplog.text
    both = gr.Dataset.from_frames(pd.DataFrame({"user_id": [0, 1, 2], "item_id": [4, 5, 3]}))
    lacking = whole.with_events(whole.events.take((log["user_id"] != 2) | (log["item_id"] != 3)))
    part = set_aside(lacking, both, seed=0)
    assert part.train is lacking
    assert cells(lacking, part.pairs) == {(0, 4), (1, 5), (2, 3)}  # beside a known item new ones tell something, too


def test_the_order_of_arrival_is_told_of_people_who_are_asked_about() -> None:
    part = set_aside(TRAIN, dataset([("ann", "rice", 9)]), seed=0)
    measured = part.measured_by(("recall@20",), in_order=True)
    assert measured is not None
    assert measured.order is not None
    row = TRAIN.users.index_of(["ann"])[0]
    places = measured.order[row].toarray().ravel()
    assert places[TRAIN.items.index_of(["tea", "jam"])].tolist() == [1, 2]
    assert measured.order.nnz == 2
    assert part.measured_by(("recall@20",), in_order=False).order is None  # type: ignore[union-attr]
