import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnrec.data.cleaning import Cleaning, CleaningReport
from gnnrec.data.dataset import Dataset
from gnnrec.data.schema import Vectors
from gnnrec.errors import DataError


def pairs(dataset):
    return set(
        zip(
            dataset.users.ids_of(dataset.events.user_index).tolist(),
            dataset.items.ids_of(dataset.events.item_index).tolist(),
            strict=True,
        )
    )


def test_the_default_removes_exact_duplicates_only():
    frame = pd.DataFrame({"user_id": [1, 1, 1, 1], "item_id": [5, 5, 5, 6], "timestamp": [1, 1, 2, 1]})
    data = Dataset.from_frames(frame)
    assert data.events.timestamp.tolist() == [1, 2, 1]  # the repeat at another time is an event of its own
    assert data.cleaning_report == CleaningReport(4, 3, {"exact duplicate": 1})
    assert len(Dataset.from_frames(frame, cleaning=Cleaning(duplicates="keep")).events) == 4
    assert len(Dataset.from_frames(frame, cleaning=None).events) == 4
    assert len(Dataset.from_frames(frame.assign(session=[1, 2, 3, 4])).events) == 4


def test_lists_in_the_log_are_an_error_that_says_where_they_belong():
    with pytest.raises(DataError, match="item or user table"):
        Dataset.from_frames(pd.DataFrame({"user_id": [1, 1], "item_id": [5, 5], "tags": [["x"], ["x"]]}))


edges = st.lists(st.tuples(st.integers(0, 9), st.integers(100, 109)), min_size=1, max_size=60, unique=True)


@settings(deadline=None, max_examples=60)
@given(edges, st.integers(1, 4))
def test_the_k_core_is_that_of_networkx(pairs_given, k):
    frame = pd.DataFrame(pairs_given, columns=["user_id", "item_id"])
    expected = set(nx.k_core(nx.Graph(pairs_given), k).edges)
    cleaning = Cleaning(min_user_events=k, min_item_events=k)
    if not expected:
        with pytest.raises(DataError, match="no events are left"):
            Dataset.from_frames(frame, cleaning=cleaning)
        return
    data = Dataset.from_frames(frame, cleaning=cleaning)
    assert pairs(data) == {(min(edge), max(edge)) for edge in expected}
    assert set(data.items.ids.tolist()) == {max(edge) for edge in expected}  # the others leave the catalogue
    assert sum(data.cleaning_report.removed.values()) == len(frame) - len(data.events)


def test_the_k_core_never_takes_items_with_media_out_of_the_catalogue():
    frame = pd.DataFrame({"user_id": [1, 1, 2, 2, 3], "item_id": [10, 11, 10, 11, 12]})
    cleaning = Cleaning(min_item_events=2)
    assert Dataset.from_frames(frame, cleaning=cleaning).items.ids.tolist() == [10, 11]
    with_vectors = Dataset.from_frames(frame, cleaning=cleaning, modalities={"v": Vectors(np.ones((1, 2)), ids=[12])})
    assert with_vectors.items.ids.tolist() == [10, 11, 12]
    with_table = Dataset.from_frames(frame, cleaning=cleaning, items=pd.DataFrame({"item_id": [12, 13]}))
    assert with_table.items.ids.tolist() == [10, 11, 12, 13]
    both = Dataset.from_frames(
        frame,
        cleaning=cleaning,
        items=pd.DataFrame({"item_id": [10]}),
        modalities={"v": Vectors(np.ones((1, 2)), ids=[12])},
    )
    assert both.items.ids.tolist() == [10, 11, 12]
    assert pairs(both) == {(1, 10), (1, 11), (2, 10), (2, 11)}


def test_users_with_too_many_events_leave_before_the_core_is_taken():
    frame = pd.DataFrame({"user_id": [1, 1, 1, 2, 3], "item_id": [10, 11, 12, 10, 11]})
    data = Dataset.from_frames(frame, cleaning=Cleaning(max_user_events=2, min_item_events=1))
    assert pairs(data) == {(2, 10), (3, 11)}
    assert data.users.ids.tolist() == [2, 3]
    assert data.cleaning_report.removed == {"user with more than 2 events": 3}


def test_bounds_count_positive_events_only():
    frame = pd.DataFrame({"user_id": [1, 1, 2, 2], "item_id": [10, 11, 10, 11], "rating": [5, 5, 5, 1]})
    data = Dataset.from_frames(frame, positive_from=3, cleaning=Cleaning(min_user_events=2))
    assert pairs(data) == {(1, 10), (1, 11)}
    assert data.users.ids.tolist() == [1]
    assert data.cleaning_report.removed == {"weight below 3": 1, "user or item with too few events": 1}


def test_negative_events_do_not_make_a_user_too_busy():
    frame = pd.DataFrame({"user_id": [1, 1, 1, 2, 2, 2], "item_id": [10, 11, 12] * 2, "rating": [5, 5, 1, 5, 5, 5]})
    data = Dataset.from_frames(frame, positive_from=3, cleaning=Cleaning(max_user_events=2))
    assert pairs(data) == {(1, 10), (1, 11)}
    assert data.cleaning_report.removed == {"weight below 3": 1, "user with more than 2 events": 3}


def test_rows_that_lie_equally_far_from_the_centre_are_no_outliers():
    matrix = np.concatenate([np.eye(4), -np.eye(4)]) + 0.01 * np.random.default_rng(0).normal(size=(8, 4))
    frame = pd.DataFrame({"user_id": [1], "item_id": [1]})
    specs = {"v": Vectors(matrix, ids=np.arange(8))}
    data = Dataset.from_frames(frame, modalities=specs, cleaning=Cleaning(feature_outliers=3))
    assert len(data.modalities["v"].ids) == 8


def test_feature_outliers_are_removed_but_their_items_stay():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(50, 4))
    matrix[7] += 40
    specs = {"v": Vectors(matrix, ids=np.arange(50))}
    frame = pd.DataFrame({"user_id": [1], "item_id": [1]})
    data = Dataset.from_frames(frame, modalities=specs, cleaning=Cleaning(feature_outliers=4))
    assert 7 not in data.modalities["v"].ids
    assert len(data.modalities["v"].ids) == 49
    assert 7 in data.items.ids
    assert data.cleaning_report.removed_elsewhere == {"modality 'v': outlier": 1}
    assert len(Dataset.from_frames(frame, modalities=specs).modalities["v"].ids) == 50


def test_the_report_prints_as_a_line_and_as_rows():
    report = CleaningReport(
        10, 6, {"exact duplicate": 3, "missing user id ('u')": 1}, {"relation 'f': unknown user": 2}
    )
    assert str(report) == (
        "10 rows → 6 events; removed: 3 exact duplicate, 1 missing user id ('u'), 2 relation 'f': unknown user"
    )
    assert report.rows()[0] == ("rows in", 10)
    assert str(CleaningReport(1, 1)).endswith("removed: nothing")


def test_a_row_with_two_faults_counts_once():
    frame = pd.DataFrame({"user_id": [None, 1.0], "item_id": [2, 3], "rating": [np.nan, 1.0]})
    data = Dataset.from_frames(frame)
    assert data.cleaning_report.removed == {"missing user id ('user_id')": 1}
    assert pairs(data) == {(1, 3)}
