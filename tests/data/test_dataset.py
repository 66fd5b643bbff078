import logging
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from gnnrec.data.cleaning import Cleaning
from gnnrec.data.dataset import Dataset
from gnnrec.data.schema import Image, Relation, Text, Vectors
from gnnrec.errors import ConfigError, DataError, StorageError


def log(**columns):
    return pd.DataFrame({"user_id": ["u1", "u2", "u1"], "item_id": ["a", "b", "b"], **columns})


def pairs(dataset):
    """The events in external ids."""
    return list(
        zip(
            dataset.users.ids_of(dataset.events.user_index),
            dataset.items.ids_of(dataset.events.item_index),
            strict=True,
        )
    )


# --- what a log becomes ------------------------------------------------------------------------


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_every_library_gives_the_same_data_and_is_remembered(library):
    columns = {
        "userId": [7, 7, 3],
        "movieId": [1, 2, 1],
        "rating": [1.0, 2.0, 5.0],
        "time": [10, 20, 30],
        "tag": ["x", "y", "z"],
    }
    data = Dataset.from_frames(library(columns))
    assert data.users.ids.tolist() == [3, 7]
    assert data.items.ids.tolist() == [1, 2]
    assert pairs(data) == [(7, 1), (7, 2), (3, 1)]  # in the order of the log
    assert data.events.weight.tolist() == [1, 2, 5]
    assert data.events.weight.dtype == np.float32
    assert data.events.timestamp.tolist() == [10, 20, 30]
    assert data.events.columns["tag"].tolist() == ["x", "y", "z"]
    assert data.frame_library == {pd.DataFrame: "pandas", pl.DataFrame: "polars", pa.table: "pyarrow"}[library]


def test_named_columns_win_over_aliases_and_the_rest_is_kept():
    frame = pd.DataFrame({"user_id": [1, 2], "customer": ["c1", "c2"], "item": ["x", "y"]})
    data = Dataset.from_frames(frame, columns={"user_id": "customer"})
    assert data.users.ids.tolist() == ["c1", "c2"]
    assert data.events.columns["user_id"].tolist() == [1, 2]


def test_a_named_id_column_that_no_table_has_is_refused():
    frame = pd.DataFrame({"user_id": [1, 2], "item": ["x", "y"]})
    with pytest.raises(DataError, match=r"user_id is 'person', which is not there; that of the log is 'user_id'"):
        Dataset.from_frames(frame, columns={"user_id": "person"})
    items = pd.DataFrame({"product": ["x", "y"]})
    assert Dataset.from_frames(frame, items=items, columns={"item_id": "product"}).num_items == 2  # that of one table
    with pytest.raises(DataError, match=r"'sku'.* log is 'item', and of the item table 'item_id'"):
        Dataset.from_frames(frame, items=items.rename(columns=lambda _: "item_id"), columns={"item_id": "sku"})


def test_of_two_aliases_the_better_is_used_and_said(caplog):
    frame = log(item=["x", "y", "z"])
    data = Dataset.from_frames(frame)
    assert data.items.ids.tolist() == ["a", "b"]
    assert "['item_id', 'item']" in caplog.text


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([1, 2.5, 3], [1, 2.5, 3]),
        (pd.to_datetime(["1970-01-01", "1970-01-02", "1970-01-03"]), [0, 86400, 172800]),
        (
            pd.to_datetime(["1970-01-01T01", "1970-01-02T00", "1970-01-03T00"]).tz_localize("Europe/Berlin"),
            [0, 82800, 169200],
        ),
        (["1970-01-01", "1970-01-02T00:00:00Z", "1970-01-03T02:00:00+02:00"], [0, 86400, 172800]),
        (["10", "20.5", "1970-01-01T00:00:30"], [10, 20.5, 30]),
    ],
)
def test_timestamps_become_seconds(times, seconds):
    assert Dataset.from_frames(log(timestamp=times), cleaning=None).events.timestamp.tolist() == seconds


def test_positive_from_removes_events_but_neither_users_nor_items():
    frame = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [10, 20, 30], "rating": [5.0, 3.0, 1.0]})
    data = Dataset.from_frames(frame, positive_from=4)
    assert pairs(data) == [(1, 10)]
    assert data.users.ids.tolist() == [1, 2]
    assert data.items.ids.tolist() == [10, 20, 30]
    assert data.cleaning_report.removed == {"weight below 4": 2}
    with pytest.raises(DataError, match="weight column"):
        Dataset.from_frames(log(), positive_from=4)


def test_interaction_matrix_is_binary_over_the_whole_catalogue():
    frame = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [10, 10, 30], "t": [1, 2, 3]})
    data = Dataset.from_frames(frame, items=pd.DataFrame({"item_id": [30, 20, 10]}))
    assert data.interaction_matrix().toarray().tolist() == [[1, 0, 0], [0, 0, 1]]
    assert len(data.events) == 3


def test_media_need_no_log(tmp_path):
    items = pd.DataFrame({"item_id": ["b", "a"], "title": ["Bee", None]})
    for source in (items, pl.from_pandas(items)):
        data = Dataset.from_frames(None, items=source, modalities={"title": Text("title")})
        assert (data.num_users, data.items.ids.tolist(), len(data.events)) == (0, ["a", "b"], 0)
        assert data.interaction_matrix().shape == (0, 2)
        assert data.item_table["title"].iloc[1] == "Bee"
        assert data.describe().modalities == {"title": (1, 1)}
    data.save(tmp_path / "media")
    assert Dataset.load(tmp_path / "media").describe() == data.describe()
    vectors = {"x": Vectors(np.ones((2, 3)), ids=["b", "a"])}
    assert Dataset.from_frames(None, modalities=vectors).items.ids.tolist() == ["a", "b"]
    with pytest.raises(DataError, match="without interactions a data set needs items"):
        Dataset.from_frames(None)


# --- catalogue, side tables, media ---------------------------------------------------------------


def test_tables_are_aligned_to_the_catalogue():
    items = pd.DataFrame({"title": ["Zed", "Aye"], "item_id": ["z", "a"]})
    users = pd.DataFrame({"user_id": ["u2", "u9"], "age": [20, 90]})
    data = Dataset.from_frames(log(), items=items, users=users)
    assert data.items.ids.tolist() == ["a", "b", "z"]
    assert data.item_table["title"].fillna("-").tolist() == ["Aye", "-", "Zed"]
    assert data.users.ids.tolist() == ["u1", "u2", "u9"]
    assert data.user_table["age"].fillna(-1).tolist() == [-1, 20, 90]
    assert "item_id" not in data.item_table


def test_without_a_table_the_vectors_extend_the_catalogue():
    vectors = Vectors(torch.eye(2, dtype=torch.float16), ids=["c", "a"])
    data = Dataset.from_frames(log(), modalities={"vgg": vectors})
    assert data.items.ids.tolist() == ["a", "b", "c"]
    assert data.modalities["vgg"].matrix.dtype == np.float32
    assert data.modalities["vgg"].ids.tolist() == ["c", "a"]
    assert data.users.ids.tolist() == ["u1", "u2"]


def test_with_a_table_vectors_of_strangers_are_an_error_that_names_them():
    items = pd.DataFrame({"item_id": ["z"]})
    Dataset.from_frames(log(), items=items, modalities={"vgg": Vectors(np.eye(2), ids=["z", "b"])})
    with pytest.raises(DataError, match=r"'vgg'.*'ghost'"):
        Dataset.from_frames(log(), items=items, modalities={"vgg": Vectors(np.eye(2), ids=["z", "ghost"])})


def test_media_root_is_the_default_of_specs_without_one(tmp_path):
    items = pd.DataFrame({"item_id": ["a", "b"], "front": ["1.png", None], "back": ["2.png", ""]})
    specs = {"front": Image("front"), "back": Image("back", media_root="elsewhere")}
    data = Dataset.from_frames(log(), items=items, modalities=specs, media_root=tmp_path)
    assert data.modalities["front"].media_root == tmp_path
    assert data.modalities["back"].media_root == "elsewhere"


def test_user_media_live_in_the_user_table():
    users = pd.DataFrame({"user_id": ["u1"], "bio": ["likes cats"]})
    data = Dataset.from_frames(log(), users=users, modalities={"bio": Text("bio", of="user")})
    assert data.describe().modalities == {"bio": (1, 1)}
    with pytest.raises(DataError, match="users= was not given"):
        Dataset.from_frames(log(), modalities={"bio": Text("bio", of="user")})


def test_relations_are_read_in_catalogue_positions():
    follows = pd.DataFrame(
        {"source_id": ["u2", "u1", "u1"], "target_id": ["u1", "u2", "u9"], "weight": [2.0, 1.0, 1.0]}
    )
    also = pl.DataFrame({"source_id": ["a"], "target_id": ["b"]})
    data = Dataset.from_frames(log(), relations={"follows": follows, "also": Relation(also, between="item")})
    edges = data.relations["follows"]
    assert (edges.between, edges.source_index.tolist(), edges.target_index.tolist()) == ("user", [1, 0], [0, 1])
    assert edges.weight.tolist() == [2, 1]
    assert data.relations["also"].between == "item"
    assert data.relations["also"].weight.tolist() == [1]
    assert data.cleaning_report.removed_elsewhere == {"relation 'follows': unknown user": 1}
    with pytest.raises(DataError, match="relation 'follows': row 2: unknown user"):
        Dataset.from_frames(log(), relations={"follows": follows}, cleaning=None)


def test_edges_without_a_weight_above_0_are_dropped_and_counted():
    follows = pd.DataFrame({"source_id": ["u1"] * 4, "target_id": ["u2"] * 4, "weight": [1.0, 0.0, -1.0, np.nan]})
    data = Dataset.from_frames(log(), relations={"follows": follows})
    assert data.relations["follows"].weight.tolist() == [1]
    assert data.cleaning_report.removed_elsewhere == {
        "relation 'follows': weight is not a finite number": 1,
        "relation 'follows': weight is not above 0": 2,
    }


def test_ids_of_another_kind_are_named():
    numbers = pd.DataFrame({"source_id": [1], "target_id": [2]})
    with pytest.raises(DataError, match="column 'source_id' holds integers, such as 1, and the user ids are strings"):
        Dataset.from_frames(log(), relations={"follows": numbers})
    with pytest.raises(DataError, match="item ids are integers in one place and strings in another, such as 'a' and 7"):
        Dataset.from_frames(log(), items=pd.DataFrame({"item_id": [7]}))


def test_whole_numbers_stay_whole_beside_items_without_a_row():
    table = pd.DataFrame({"item_id": ["a"], "year": [1979], "large": [2**60 + 1], "new": [True]})
    known = Dataset.from_frames(log(), items=table).item_table
    assert known["year"].tolist() == [1979, pd.NA]
    assert known["large"][0] == 2**60 + 1
    assert known["new"][0] is np.True_ or known["new"][0] is True


# --- every bad input: under the default, and strictly --------------------------------------------


@pytest.mark.parametrize(
    ("frame", "reason", "left"),
    [
        (log().assign(user_id=["u1", None, "u1"]), "missing user id ('user_id')", 2),
        (log().assign(item_id=["a", "b", None]), "missing item id ('item_id')", 2),
        (log(rating=[1, np.nan, 2]), "weight is not a finite number ('rating')", 2),
        (log(rating=[np.inf, 1, 1e300]), "weight is not a finite number ('rating')", 1),
        (log(rating=["1", "two", "3"]), "weight is not a finite number ('rating')", 2),
        (log(timestamp=["2024-01-01", "yesterday", "2024-01-02"]), "timestamp cannot be read ('timestamp')", 2),
        (log(timestamp=[1.0, np.nan, 3.0]), "timestamp cannot be read ('timestamp')", 2),
    ],
)
def test_invalid_rows_are_removed_and_reported_or_an_error(frame, reason, left, caplog):
    data = Dataset.from_frames(frame)
    assert len(data.events) == left
    assert data.cleaning_report.removed == {reason: 3 - left}
    assert reason in str(data.cleaning_report)
    assert reason in caplog.text
    words, column = reason.removesuffix(")").split(" (")
    row = next(row for row in range(3) if row not in data_rows(frame, data))
    with pytest.raises(DataError, match=f"row {row}, column {column}: {words}"):
        Dataset.from_frames(frame, cleaning=None)


def data_rows(frame, data):
    """Positions in the frame of the events that are left."""
    left = pairs(data)
    return [row for row, pair in enumerate(zip(frame["user_id"], frame["item_id"], strict=True)) if pair in left]


@pytest.mark.parametrize("cleaning", [Cleaning(), None])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interactions": log()[:0]}, "holds no rows"),
        ({"interactions": log().drop(columns="item_id")}, "no column for item_id"),
        ({"interactions": log().assign(item_id=["a", 2, "b"])}, "all integers or all strings"),
        ({"interactions": log().assign(item_id=[0.5, 1.0, 2.0])}, "0.5 is not an id"),
        ({"interactions": log().assign(user_id=None)}, "no events are left|missing user id"),
        ({"interactions": [1, 2]}, "expected a pandas, polars or pyarrow frame"),
        ({"interactions": log(), "columns": {"weight": "stars"}}, "no column 'stars'"),
        ({"columns": {"user_id": "item_id", "item_id": "item_id"}}, "has 'item_id' for both user_id and item_id"),
        ({"interactions": log(), "columns": {"wieght": "stars"}}, "did you mean 'weight'"),
        ({"interactions": log(), "items": pd.DataFrame({"item_id": ["a", "b", "a"]})}, "item table.*repeats 'a'"),
        ({"interactions": log(), "items": pd.DataFrame({"item_id": [1, 2]})}, "integers in one place and strings"),
        ({"interactions": log(), "items": pd.DataFrame({"sku": ["a"]})}, "item table: no column for item_id"),
        ({"interactions": log(), "users": pd.DataFrame({"user_id": ["u1", "u1"]})}, "user table.*repeats 'u1'"),
        ({"modalities": {"x": Vectors(np.ones((2, 3)), ids=["a"])}}, "'x': 2 rows but 1 ids"),
        ({"modalities": {"x": Vectors(np.ones(2), ids=["a", "b"])}}, r"'x'.*shape \(2,\)"),
        ({"modalities": {"x": Vectors([[1.0], [1.0, 2.0]], ids=["a", "b"])}}, "'x': the matrix is ragged"),
        ({"modalities": {"x": Vectors([["p"], ["q"]], ids=["a", "b"])}}, "'x': expected a dense matrix of numbers"),
        ({"modalities": {"x": Vectors(np.ones((1, 0)), ids=["a"])}}, "'x': the matrix has no columns"),
        ({"modalities": {"x": Text("title")}}, "items= was not given"),
        (
            {"modalities": {"x": Text(["title", "plot"])}, "items": pd.DataFrame({"item_id": ["a"], "title": ["A"]})},
            "no column 'plot'",
        ),
        ({"modalities": {"item": Vectors(np.ones((1, 1)), ids=["a"])}}, "cannot be called 'item'"),
        ({"modalities": {"x": "title"}}, "expected Text, Image, Audio, Video or Vectors, got str"),
        ({"relations": {"f": pd.DataFrame({"source_id": ["u1"]})}}, "'f': no column 'target_id'"),
    ],
)
def test_structural_faults_are_errors_whatever_the_cleaning(arguments, message, cleaning):
    with pytest.raises(DataError, match=message):
        Dataset.from_frames(**{"interactions": log(), **arguments}, cleaning=cleaning)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_feature_rows_are_removed_and_reported_or_an_error(bad):
    specs = {"x": Vectors([[1.0, 2.0], [bad, 0.0]], ids=["a", "c"])}
    data = Dataset.from_frames(log(), modalities=specs)
    assert data.modalities["x"].ids.tolist() == ["a"]
    assert data.cleaning_report.removed_elsewhere == {"modality 'x': not finite": 1}
    assert "c" in data.items.ids  # it lacks the modality, but it is an item
    with pytest.raises(DataError, match=r"'x': row 1 \(item 'c'\) is not finite"):
        Dataset.from_frames(log(), modalities=specs, cleaning=None)


def test_table_rows_without_an_id_are_removed_and_reported_or_an_error():
    items = pd.DataFrame({"item_id": ["a", None], "title": ["A", "nobody"]})
    data = Dataset.from_frames(log(), items=items)
    assert data.cleaning_report.removed_elsewhere == {"item table: missing item id": 1}
    with pytest.raises(DataError, match="item table: row 1"):
        Dataset.from_frames(log(), items=items, cleaning=None)


# --- describe, without, save and load ------------------------------------------------------------


@pytest.fixture
def rich():
    """Every kind of thing that a data set can hold."""
    frame = log(rating=[1, 2, 3], timestamp=[30, 20, 10], x_label=[0, 1, 2], note=["p", None, "q"])
    items = pd.DataFrame(
        {"item_id": ["a", "b", "c"], "title": ["A", " ", "C"], "pictures": [["1.png", "2.png"], [], None]}
    )
    return Dataset.from_frames(
        frame,
        items=items,
        users=pd.DataFrame({"user_id": ["u1", "u2", "u3"], "age": [1, 2, 3]}),
        modalities={
            "words": Text(("title",), max_tokens=8),
            "poster": Image("pictures", media_root="root"),
            "vgg": Vectors(np.arange(6).reshape(3, 2), ids=["c", "a", "c"]),
        },
        relations={
            "follows": pd.DataFrame({"source_id": ["u1", "u3"], "target_id": ["u3", "u2"], "weight": [0.5, 2.0]})
        },
    )


def test_describe_counts_what_there_is(rich):
    summary = rich.describe()
    assert (summary.users, summary.items, summary.events, summary.pairs) == (3, 3, 3, 3)
    assert summary.density == pytest.approx(1 / 3)
    assert (summary.users_without_events, summary.items_without_events) == (1, 1)
    assert (summary.median_events_per_user, summary.median_events_per_item) == (1.5, 1.5)
    assert summary.modalities == {"words": (2, 1), "poster": (1, 2), "vgg": (2, 1)}
    assert summary.relations == {"follows": 2}
    assert "density 33.333%" in str(summary)


def test_without_takes_entities_out_everywhere_and_renumbers(rich):
    smaller = rich.without(items=rich.items.ids == "a", users=rich.users.ids == "u2")
    assert smaller.items.ids.tolist() == ["b", "c"]
    assert smaller.users.ids.tolist() == ["u1", "u3"]
    assert pairs(smaller) == [("u1", "b")]
    assert smaller.events.columns["x_label"].tolist() == [2]
    assert smaller.item_table["title"].tolist() == [" ", "C"]
    assert smaller.user_table["age"].tolist() == [1, 3]
    assert smaller.modalities["vgg"].matrix.tolist() == [[0, 1], [4, 5]]
    assert smaller.modalities["vgg"].ids.tolist() == ["c", "c"]
    edges = smaller.relations["follows"]
    assert (edges.source_index.tolist(), edges.target_index.tolist(), edges.weight.tolist()) == ([0], [1], [0.5])
    assert rich.without(items=np.zeros(3, dtype=bool)).items is rich.items
    with pytest.raises(DataError, match="mask over 3 items"):
        rich.without(items=np.array([0]))


def test_save_and_load_give_the_same_data(rich, tmp_path):
    rich.save(tmp_path / "data")
    loaded = Dataset.load(tmp_path / "data")
    assert loaded.users.ids.tolist() == rich.users.ids.tolist()
    assert loaded.items.ids.tolist() == rich.items.ids.tolist()
    for name in ("user_index", "item_index", "weight", "timestamp"):
        np.testing.assert_array_equal(getattr(loaded.events, name), getattr(rich.events, name))
        assert getattr(loaded.events, name).dtype == getattr(rich.events, name).dtype
    assert loaded.events.columns["x_label"].tolist() == [0, 1, 2]
    pd.testing.assert_frame_equal(loaded.user_table, rich.user_table)
    assert loaded.item_table["pictures"].map(lambda cell: None if cell is None else list(cell)).tolist() == [
        ["1.png", "2.png"],
        [],
        None,
    ]
    assert loaded.modalities["poster"] == rich.modalities["poster"]
    assert list(loaded.modalities["words"].columns) == ["title"]
    assert loaded.modalities["words"].max_tokens == 8
    assert loaded.modalities["vgg"].matrix.tolist() == rich.modalities["vgg"].matrix.tolist()
    assert loaded.modalities["vgg"].ids.tolist() == ["c", "a", "c"]
    assert loaded.relations["follows"].weight.tolist() == [0.5, 2.0]
    assert loaded.cleaning_report == rich.cleaning_report
    assert loaded.describe() == rich.describe()


def test_an_integer_log_without_extras_saves_and_loads(tmp_path):
    data = Dataset.from_frames(pd.DataFrame({"user_id": [5, 3], "item_id": [9, 8]}))
    data.save(tmp_path / "data")
    loaded = Dataset.load(tmp_path / "data")
    assert pairs(loaded) == [(5, 9), (3, 8)]
    assert loaded.users.kind == "int"
    assert loaded.events.weight is None
    assert loaded.item_table is None


@pytest.mark.parametrize("name", ["arrays.safetensors", "item_table.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "tampered"])
def test_a_damaged_data_set_is_refused_by_name(rich, tmp_path, name, damage):
    rich.save(tmp_path / "data")
    file = tmp_path / "data" / name
    content = file.read_bytes()
    file.write_bytes(content[:-9] if damage == "truncated" else content.replace(b"a", b"b", 1))
    with pytest.raises(StorageError, match=name):
        Dataset.load(tmp_path / "data")


def test_a_table_that_parquet_cannot_hold_is_a_data_error_and_leaves_nothing(tmp_path):
    items = pd.DataFrame({"item_id": ["a", "b"], "odd": [1, "one"]})
    with pytest.raises(DataError, match="odd"):
        Dataset.from_frames(log(), items=items).save(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_the_report_is_logged(caplog):
    caplog.set_level(logging.INFO, logger="gnnrec")
    Dataset.from_frames(pd.concat([log(), log()]))
    assert "removed 3 exact duplicates" in caplog.text


def test_impossible_cleaning_options_are_refused():
    for options in ({"min_user_events": 0}, {"feature_outliers": -1.0}, {"invalid": "ignore"}, {"max_user_events": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Cleaning(**options)


def test_a_data_set_saved_by_the_first_format_still_loads():
    data = Dataset.load(Path(__file__).parent / "golden" / "dataset-1")
    assert pairs(data) == [("u1", "a"), ("u2", "b"), ("u1", "b")]
    assert data.events.weight.tolist() == [1, 2, 3]
    assert data.events.timestamp.tolist() == [30, 20, 10]
    assert data.events.columns["x_label"].tolist() == [0, 1, 2]
    assert data.item_table["title"].tolist() == ["A", " ", "C"]
    assert data.user_table["age"].tolist() == [1, 2, 3]
    assert data.modalities["vgg"].matrix.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert data.modalities["vgg"].ids.tolist() == ["c", "a", "c"]
    assert data.modalities["poster"] == Image("pictures", media_root="root")
    assert data.relations["follows"].target_index.tolist() == [2, 1]
    assert data.cleaning_report.rows_in == 3


def test_times_may_lie_far_away():
    def seconds(*times) -> list[float]:
        log = pd.DataFrame({"user_id": range(len(times)), "item_id": range(len(times)), "timestamp": times})
        return Dataset.from_frames(log).events.timestamp.tolist()

    assert seconds("9999-12-31", "2020-01-01") == [253402214400, 1577836800]
    assert seconds("1000", "1500") == [1000, 1500]  # numbers, no years
    assert seconds(*np.array(["9999-12-31", "1500-01-01"], "datetime64[us]")) == [253402214400, -14831769600]


def test_a_threshold_is_a_number():
    log = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "weight": [1, 5]})
    assert type(Dataset.from_frames(log, positive_from=log["weight"].max()).positive_from) is float
    with pytest.raises(ConfigError, match="positive_from is a number"):
        Dataset.from_frames(log, positive_from="4")
    with pytest.raises(ConfigError, match=r"min_user_events must be positive, not '5'"):
        Cleaning(min_user_events="5")


def test_vectors_in_a_precision_that_numpy_lacks():
    log = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2]})
    matrix = torch.tensor([[1.0, 0.5], [2.0, 0.25]])
    data = Dataset.from_frames(log, modalities={"look": Vectors(matrix.bfloat16(), [1, 2])})
    np.testing.assert_array_equal(data.modalities["look"].matrix, matrix)
    with pytest.raises(DataError, match="dense matrix"):
        Dataset.from_frames(log, modalities={"look": Vectors(matrix.to_sparse(), [1, 2])})


def test_events_of_another_data_set_come_behind_and_strangers_stay_out(caplog):
    log = pd.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "y"], "timestamp": [5, 6, 7], "kind": 1})
    more = pd.DataFrame({"user_id": ["b", "c", "a"], "item_id": ["x", "x", "z"], "timestamp": [1, 2, 3]})
    data, other = Dataset.from_frames(log), Dataset.from_frames(more)
    with caplog.at_level(logging.INFO):
        both = data.with_events_of(other)
    assert "2 of 3 added events are of unknown users or items: left out" in caplog.text
    assert both.users.ids[both.events.user_index].tolist() == ["a", "a", "b", "b"]
    assert both.items.ids[both.events.item_index].tolist() == ["x", "y", "y", "x"]
    assert both.events.timestamp.tolist() == [5, 6, 7, 1]
    assert not both.events.columns
    assert len(data.events) == 3
    timeless = Dataset.from_frames(more.drop(columns="timestamp"))
    with pytest.raises(DataError, match="one part of the log has the column 'timestamp', and the other has none"):
        data.with_events_of(timeless)


@pytest.mark.parametrize(
    "column",
    [
        pd.cut(pd.Series([1.0, 2.0]), 2),
        pd.Series([{}, {}]),
        pd.Series([1 + 2j, 0]),
        pd.Series([2**70, 1], dtype=object),
        pd.Series([1, "a"], dtype=object),
    ],
)
def test_a_column_that_could_not_be_saved_is_named_at_once(column):
    items = pd.DataFrame({"item_id": [1, 2], "odd": column})
    with pytest.raises(DataError, match="item table: column 'odd' cannot be saved"):
        Dataset.from_frames(pd.DataFrame({"user_id": [1], "item_id": [1]}), items)


def test_tables_of_pyarrow_can_be_read_again(tmp_path):
    tags = pd.Series(pa.array([["a", "b"], None]), dtype=pd.ArrowDtype(pa.list_(pa.string())))
    kind = pd.Series(
        pa.array(["x", "y"]).dictionary_encode(), dtype=pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))
    )
    data = Dataset.from_frames(
        pd.DataFrame({"user_id": [1], "item_id": [1]}), pd.DataFrame({"item_id": [1, 2], "tags": tags, "kind": kind})
    )
    data.save(tmp_path / "data")
    again = Dataset.load(tmp_path / "data")
    assert list(again.item_table["tags"][0]) == ["a", "b"]
    assert again.item_table["kind"].tolist() == ["x", "y"]


def test_modalities_are_a_mapping():
    with pytest.raises(DataError, match="modalities= takes a mapping of names to what they are, not list"):
        Dataset.from_frames(pd.DataFrame({"user_id": [1], "item_id": [1]}), modalities=["title"])


def test_a_column_that_is_named_for_one_role_is_not_found_for_another():
    frame = pd.DataFrame({"user_id": [1], "item_id": [2], "rating": [978300760], "score": [4.0]})
    data = Dataset.from_frames(frame, columns={"timestamp": "rating"})
    assert data.events.timestamp.tolist() == [978300760]
    assert data.events.weight.tolist() == [4]


def test_a_data_set_stays_as_it_is_whatever_becomes_of_the_arrays_of_its_maker():
    matrix, ids = np.eye(2, dtype=np.float32), np.array([7, 8])
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [7, 8], "weight": [1.0, 2.0], "timestamp": [1.0, 2.0]})
    data = Dataset.from_frames(frame, modalities={"vgg": Vectors(matrix, ids)})
    matrix[:], ids[:] = 5, 0
    frame.loc[:, ["weight", "timestamp"]] = 9.0
    assert data.modalities["vgg"].matrix.tolist() == [[1, 0], [0, 1]]
    assert data.modalities["vgg"].ids.tolist() == [7, 8]
    assert data.events.weight.tolist() == data.events.timestamp.tolist() == [1, 2]


def test_the_arrays_of_events_and_relations_cannot_be_written_to(tmp_path):
    follows = pd.DataFrame({"source_id": ["u1"], "target_id": ["u2"]})
    data = Dataset.from_frames(log(rating=[1, 2, 3], time=[1, 2, 3], x_label=0), relations={"follows": follows})
    data.save(tmp_path / "data")
    for one in (data, Dataset.load(tmp_path / "data"), data.with_events(data.events.take(np.arange(2)))):
        events, edges = one.events, one.relations["follows"]
        arrays = [events.user_index, events.item_index, events.weight, events.timestamp, events.columns["x_label"]]
        for array in [*arrays, edges.source_index, edges.target_index, edges.weight]:
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0
