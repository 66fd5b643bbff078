import datetime
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gnnrec.data import split
from gnnrec.data.dataset import Dataset
from gnnrec.data.schema import Vectors
from gnnrec.errors import ConfigError, DataError

logs = st.lists(
    st.tuples(st.integers(0, 7), st.integers(100, 111), st.integers(0, 20)), min_size=2, max_size=80, unique=True
).map(lambda rows: pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))
fractions = st.sampled_from([0.0, 0.1, 0.3, 0.45])


def rows(dataset):
    """The events in external ids and their times."""
    events = dataset.events
    return list(
        zip(
            dataset.users.ids_of(events.user_index).tolist(),
            dataset.items.ids_of(events.item_index).tolist(),
            events.timestamp.tolist(),
            strict=True,
        )
    )


def pairs(dataset):
    return {row[:2] for row in rows(dataset)}


def assert_shared_catalogue(parts, data):
    for part in parts:
        assert part.users is data.users
        assert part.items is data.items


@settings(deadline=None, max_examples=60)
@given(logs, fractions, fractions, st.integers(0, 3))
def test_random_parts_are_disjoint_complete_and_leave_every_user_a_pair(frame, valid, test, seed):
    data = Dataset.from_frames(frame)
    parts = data.split(split.random(valid, test, seed))
    assert_shared_catalogue(parts, data)
    held = [pairs(part) for part in parts]
    assert sum(map(len, held)) == len(set.union(*held))
    assert sum(len(part.events) for part in parts) == len(pairs(data))  # repeats became one pair
    assert set.union(*held) == pairs(data)
    assert {user for user, _ in held[0]} == set(data.users.ids.tolist())
    free = len(pairs(data)) - data.num_users
    assert len(held[2]) == min(round(test * len(pairs(data))), free)
    assert [rows(part) for part in data.split(split.random(valid, test, seed))] == [rows(part) for part in parts]


def test_random_depends_on_the_seed_and_keeps_the_first_of_repeats():
    frame = pd.DataFrame({"user_id": np.arange(200) % 5, "item_id": np.arange(200) // 5, "timestamp": np.arange(200)})
    data = Dataset.from_frames(pd.concat([frame, frame.assign(timestamp=999)]))
    first, second = (data.split(split.random(seed=seed))[2] for seed in (0, 1))
    assert pairs(first) != pairs(second)
    assert first.events.timestamp.max() < 999
    assert (np.diff(first.events.timestamp) > 0).all()  # still in the order of the log


def test_random_takes_from_people_with_few_pairs_as_often_as_from_the_others():
    twice = pd.DataFrame({"user_id": np.repeat(np.arange(3000), 2), "item_id": np.arange(6000) % 200})
    often = pd.DataFrame({"user_id": 3000 + np.arange(12000) // 120, "item_id": np.arange(12000) % 120})
    data = Dataset.from_frames(pd.concat([twice, often]))
    _, valid, test = data.split(split.random(valid=0.1, test=0.1))
    # Two of one user are both in the last fifth once in 25 times, and then one of them stays: 90 % of their third.
    for part, share in ((test, 0.95), (valid, 0.85)):
        rare = (part.users.ids_of(part.events.user_index) < 3000).mean()
        assert rare == pytest.approx(6000 / 18000 * share, abs=0.03)


@settings(deadline=None, max_examples=60)
@given(logs, st.integers(0, 2), st.integers(0, 2))
def test_leave_last_takes_each_users_latest_events(frame, valid, test):
    data = Dataset.from_frames(frame)
    parts = data.split(split.leave_last(valid, test))
    assert_shared_catalogue(parts, data)
    for user in data.users.ids.tolist():
        history = [row for row in rows(data) if row[0] == user]
        history.sort(key=lambda row: row[2])  # stable: ties in the order of the log
        expected_test = history[len(history) - min(test, len(history) - 1) :]
        rest = history[: len(history) - len(expected_test)]
        expected_valid = rest[len(rest) - min(valid, len(rest) - 1) :]
        expected_train = rest[: len(rest) - len(expected_valid)]
        for part, expected in zip(parts, (expected_train, expected_valid, expected_test), strict=True):
            assert sorted(row for row in rows(part) if row[0] == user) == sorted(expected)


@settings(deadline=None, max_examples=60)
@given(logs, fractions, fractions)
def test_by_time_never_lets_a_part_see_a_later_one(frame, valid, test):
    data = Dataset.from_frames(frame)
    earliest_held = len(frame) - round(valid * len(frame)) - round(test * len(frame))
    times = [*np.sort(data.events.timestamp), np.inf]
    assume(times[0] < times[earliest_held])  # otherwise nothing is left to train on
    parts = data.split(split.by_time(valid, test))
    assert_shared_catalogue(parts, data)
    assert sorted(row for part in parts for row in rows(part)) == sorted(rows(data))
    assert len(parts[2].events) >= round(test * len(data.events))
    times = [part.events.timestamp for part in parts if len(part.events)]
    for earlier, later in pairwise(times):
        assert earlier.max() < later.min()


@pytest.mark.parametrize(
    ("valid", "test"),
    [
        (86400, 172800.0),
        ("1970-01-02", "1970-01-03T00:00Z"),
        (datetime.datetime(1970, 1, 2), datetime.datetime(1970, 1, 3)),
    ],
)
def test_by_time_takes_explicit_times(valid, test):
    frame = pd.DataFrame({"user_id": [1] * 4, "item_id": [1, 2, 3, 4], "timestamp": [0, 86400, 172799, 172800]})
    parts = Dataset.from_frames(frame).split(split.by_time(valid, test))
    assert [part.events.timestamp.tolist() for part in parts] == [[0], [86400, 172799], [172800]]
    parts = Dataset.from_frames(frame).split(split.by_time(0, test))
    assert [len(part.events) for part in parts] == [3, 0, 1]


@pytest.fixture
def catalogue():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"user_id": rng.integers(0, 20, 300), "item_id": rng.integers(0, 30, 300), "timestamp": np.arange(300)}
    )
    return Dataset.from_frames(
        frame,
        items=pd.DataFrame({"item_id": np.arange(32), "title": [f"t{index}" for index in range(32)]}),
        users=pd.DataFrame({"user_id": np.arange(20), "age": np.arange(20)}),
        modalities={"v": Vectors(np.arange(32.0)[:, None], ids=np.arange(32))},
        relations={"follows": pd.DataFrame({"source_id": np.arange(19), "target_id": np.arange(1, 20)})},
    )


def test_cold_items_leave_train_with_their_media(catalogue):
    train, valid, test = catalogue.split(split.cold_items(valid=0.1, test=0.2, seed=1))
    tested = set(test.items.ids_of(test.events.item_index).tolist())
    validated = set(valid.items.ids_of(valid.events.item_index).tolist())
    assert (len(tested), len(validated)) == (6, 3)
    assert test.items is catalogue.items
    assert set(valid.items.ids.tolist()) == set(range(32)) - tested
    assert set(train.items.ids.tolist()) == set(range(32)) - tested - validated
    assert train.users is catalogue.users
    for part in (train, valid):
        assert part.item_table["title"].tolist() == [f"t{item}" for item in part.items.ids]
        assert part.modalities["v"].ids.tolist() == part.items.ids.tolist()
        assert part.modalities["v"].matrix[:, 0].tolist() == part.items.ids.tolist()
    assert sorted(rows(train) + rows(valid) + rows(test)) == sorted(rows(catalogue))
    again = catalogue.split(split.cold_items(valid=0.1, test=0.2, seed=1))
    assert rows(again[2]) == rows(test)
    assert rows(catalogue.split(split.cold_items(seed=2))[2]) != rows(test)


def test_cold_users_leave_train_with_their_edges(catalogue):
    train, valid, test = catalogue.split(split.cold_users(valid=0.1, test=0.2))
    tested = set(test.users.ids_of(test.events.user_index).tolist())
    assert len(tested) == 4
    assert tested.isdisjoint(valid.users.ids.tolist())
    assert train.num_users == 14
    assert train.items is catalogue.items
    assert train.user_table["age"].tolist() == train.users.ids.tolist()
    edges = train.relations["follows"]
    assert (train.users.ids_of(edges.target_index) - train.users.ids_of(edges.source_index) == 1).all()
    assert sorted(rows(train) + rows(valid) + rows(test)) == sorted(rows(catalogue))


def test_column_follows_the_log(caplog):
    frame = pd.DataFrame({"user_id": [1, 1, 1, 1], "item_id": [1, 2, 3, 4], "x_label": [0, 2, 1, 7], "timestamp": 0})
    data = Dataset.from_frames(frame)
    parts = data.split(split.column("x_label"))
    assert [pairs(part) for part in parts] == [{(1, 1)}, {(1, 3)}, {(1, 2)}]
    assert_shared_catalogue(parts, data)
    assert "1 events are in no part" in caplog.text
    assert len(data.split(split.column("x_label", train=1, valid=None))[1].events) == 0
    with pytest.raises(DataError, match="no column 'fold'; it has 'x_label'"):
        data.split(split.column("fold"))
    with pytest.raises(DataError, match="never says 'train'"):
        data.split(split.column("x_label", train="train"))


def test_column_can_take_cold_items_or_users_out():
    frame = pd.DataFrame(
        {"user_id": [1, 2, 3, 1], "item_id": [10, 11, 12, 12], "x_label": [0, 1, 2, 2], "timestamp": 0}
    )
    data = Dataset.from_frames(frame, items=pd.DataFrame({"item_id": [10, 11, 12, 13]}))
    by_item = data.split(split.column("x_label", cold="item"))
    assert [part.items.ids.tolist() for part in by_item] == [[10, 13], [10, 11, 13], [10, 11, 12, 13]]
    assert [pairs(part) for part in by_item] == [{(1, 10)}, {(2, 11)}, {(3, 12), (1, 12)}]
    by_user = data.split(split.column("x_label", cold="user"))
    assert [part.users.ids.tolist() for part in by_user] == [[1], [1, 2], [1, 2, 3]]


@settings(deadline=None, max_examples=60)
@given(logs, st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 3))
def test_holdout_leaves_every_user_and_item_a_training_pair(frame, fraction, seed):
    data = Dataset.from_frames(frame)
    train, valid = split.holdout(data, fraction, seed)
    assert_shared_catalogue((train, valid), data)
    assert pairs(train).isdisjoint(pairs(valid))
    assert pairs(train) | pairs(valid) == pairs(data)
    assert {user for user, _ in pairs(train)} == set(data.users.ids.tolist())
    assert {item for _, item in pairs(train)} == set(data.items.ids.tolist())
    assert len(valid.events) == len(pairs(valid)) <= round(fraction * len(pairs(data)))
    kept = pairs(train)
    assert rows(train) == [row for row in rows(data) if row[:2] in kept]  # repeats stay, in order
    firsts = [row for at, row in enumerate(rows(data)) if row[:2] not in {other[:2] for other in rows(data)[:at]}]
    assert rows(valid) == [row for row in firsts if row[:2] not in kept]


def test_holdout_takes_the_whole_fraction_where_it_can():
    frame = pd.DataFrame({"user_id": np.arange(1000) % 20, "item_id": np.arange(1000) // 20})
    train, valid = split.holdout(Dataset.from_frames(frame))
    assert (len(train.events), len(valid.events)) == (900, 100)


@pytest.mark.parametrize(("rare", "frequent"), [("user_id", "item_id"), ("item_id", "user_id")])
def test_holdout_takes_from_those_with_few_pairs_as_often_as_from_the_others(rare, frequent):
    twice = pd.DataFrame({rare: np.repeat(np.arange(3000), 2), frequent: np.arange(6000) % 200})
    often = pd.DataFrame({rare: 3000 + np.arange(12000) // 120, frequent: np.arange(12000) % 120})
    data = Dataset.from_frames(pd.concat([twice, often]))
    valid = split.holdout(data, fraction=0.1)[1]
    owner = (valid.users if rare == "user_id" else valid.items).ids_of(getattr(valid.events, f"{rare[:4]}_index"))
    share = (owner < 3000).mean()
    # Two of a kind are both in the last tenth once in a hundred times, and one of them stays: 95 % of their third.
    assert share == pytest.approx(6000 / 18000 * 0.95, abs=0.03)


@pytest.mark.parametrize(
    "make",
    [
        lambda: split.random(0.5, 0.5),
        lambda: split.random(-0.1, 0.5),
        lambda: split.cold_items(0.6, 0.4),
        lambda: split.cold_users(2, 0),
        lambda: split.leave_last(-1, 1),
        lambda: split.by_time(0.1, "2024-01-01"),
        lambda: split.by_time("2024-01-02", "2024-01-01"),
        lambda: split.by_time("soon", "later"),
        lambda: split.by_time(0.5, 0.6),
        lambda: split.random("a tenth"),
        lambda: split.cold_items(float("nan")),
        lambda: split.leave_last("one"),
        lambda: split.leave_last(0.1, 0.2),
        lambda: split.random(seed=-1),
        lambda: split.cold_users(seed=0.5),
        lambda: split.column("x_label", cold="items"),
    ],
)
def test_impossible_splits_are_refused_when_they_are_named(make):
    with pytest.raises(ConfigError):
        make()


def test_splits_in_time_need_times():
    data = Dataset.from_frames(pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2]}))
    for splitter in (split.leave_last(), split.by_time()):
        with pytest.raises(DataError, match="needs a timestamp column"):
            data.split(splitter)


def test_times_beside_those_of_the_log_are_named(caplog):
    frame = pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": [1717200000, 1719792000]})
    seconds, thousandths = (Dataset.from_frames(frame.assign(timestamp=frame["timestamp"] * n)) for n in (1, 1000))
    with pytest.raises(DataError, match=r"before 17\d+, 2024-06-01T.*: its times go from .*2024-07-01T00:00:00 \("):
        seconds.split(split.by_time("2024-06-01", "2024-06-02"))
    with pytest.raises(DataError, match=r"go from 1717200000000 to 1719792000000 .*milliseconds have to be divided"):
        thousandths.split(split.by_time("2024-06-01", "2024-06-02"))
    assert not caplog.text
    _, valid, test = seconds.split(split.by_time("2025-01-01", "2025-02-01"))
    assert len(valid.events) == len(test.events) == 0
    assert "no event to validate on from 1735689600, 2025-01-01T00:00:00 to " in caplog.text
    assert "no event to test on from 1738368000, 2025-02-01T00:00:00 on: its times go from" in caplog.text
    caplog.clear()
    assert len(seconds.split(split.by_time(0, "2024-06-02"))[2].events) == 1
    assert not caplog.text


def test_events_without_a_part_are_in_none(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,part\nu1,i1,train\nu2,i2,test\nu3,i3,\n")
    parts = Dataset.from_frames(tmp_path / "log.csv").split(split.column("part", "train", "valid", "test"))
    assert [len(part.events) for part in parts] == [1, 0, 1]
