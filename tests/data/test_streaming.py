"""What files of any size become is what the same files become in memory."""

import gzip
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnrec.data import chunks, streaming
from gnnrec.data.cleaning import Cleaning, CleaningReport
from gnnrec.data.dataset import Dataset
from gnnrec.data.schema import Relation, Text, Vectors
from gnnrec.errors import ConfigError, DataError, MissingPackageError, StorageError

CHUNK_ROWS = 3


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", CHUNK_ROWS)
    monkeypatch.setattr(chunks, "_JSON_BYTES", 60)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of small folders


def write_csv(frame, path):
    frame.to_csv(path, index=False)


def write_json_lines(frame, path):
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(frame, path):
    frame.to_parquet(path, index=False)


WRITERS = {".csv": write_csv, ".jsonl": write_json_lines, ".parquet": write_parquet}


def outcome(build, saved_at=None):
    """Returns the data set, once through its file, since files hold missing cells in their own way, or the error."""
    try:
        data = build()
    except DataError as error:
        return error
    if saved_at is not None:
        data.save(saved_at)
        data = Dataset.load(saved_at)
    return data


def cells(values):
    """Returns the cells of a column, with None for a missing one of whatever kind."""
    column = pd.Series(values, dtype=object)
    return column.where(column.notna(), None).tolist()


def assert_equal(found, expected):
    assert isinstance(expected, Dataset), expected
    assert isinstance(found, Dataset), found
    for name in ("users", "items"):
        assert getattr(found, name).ids.tolist() == getattr(expected, name).ids.tolist()
        assert getattr(found, name).kind == getattr(expected, name).kind
    for name in ("user_index", "item_index", "weight", "timestamp"):
        ours, theirs = getattr(found.events, name), getattr(expected.events, name)
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    assert list(found.events.columns) == list(expected.events.columns)
    for name, theirs in expected.events.columns.items():
        assert cells(found.events.columns[name]) == cells(theirs)
    assert found.cleaning_report == expected.cleaning_report
    assert found.frame_library == expected.frame_library


NUMBERS = st.one_of(st.none(), st.integers(1, 3))
NAMES = st.one_of(st.none(), st.sampled_from(["a", "b", "007", "7", "NA"]))
TIMES = st.sampled_from(
    [None, "2020-01-01", "2020-01-01 10:00", "2020-01-01T10:00:00.25Z", "2020-01-01T10:00+02:00", "soon", "1577836800"]
)
WEIGHTS = st.sampled_from([None, "1", "2.5", "-0.0", "0", "inf", "many", "1e60"])


@st.composite
def logs(draw):
    """A messy log in up to three files."""
    columns = {
        "user_id": draw(st.sampled_from([NUMBERS, NAMES])),
        "item": draw(st.sampled_from([NUMBERS, NAMES])),
        "rating": draw(st.sampled_from([st.integers(0, 2), st.floats(0, 2), WEIGHTS])),
        "timestamp": draw(st.sampled_from([st.integers(0, 2), TIMES])),
        "place": draw(st.sampled_from([st.integers(0, 1), NAMES, st.booleans()])),
    }
    chosen = draw(st.sets(st.sampled_from(["rating", "timestamp", "place"])))
    names = ["user_id", "item", *sorted(chosen)]
    rows = draw(st.lists(st.tuples(*(columns[name] for name in names)), min_size=1, max_size=12))
    rows += draw(st.lists(st.sampled_from(rows), max_size=4))  # repeated on purpose
    frame = pd.DataFrame(rows, columns=names)
    whole_numbers = [name for name in ("user_id", "item") if columns[name] is NUMBERS]
    frame = frame.astype(dict.fromkeys(whole_numbers, "Int64"))
    cuts = sorted(draw(st.sets(st.integers(1, len(rows) - 1), max_size=2))) if len(rows) > 1 else []
    return [frame.iloc[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True)]


CLEANINGS = st.one_of(
    st.none(),
    st.builds(
        Cleaning,
        duplicates=st.sampled_from(["drop", "keep"]),
        min_user_events=st.sampled_from([None, 1, 2]),
        min_item_events=st.sampled_from([None, 2]),
        max_user_events=st.sampled_from([None, 3]),
    ),
)


@settings(deadline=None, max_examples=50)
@given(logs(), st.sampled_from(sorted(WRITERS)), CLEANINGS, st.sampled_from([None, 1.0]))
def test_the_data_set_is_that_of_the_same_files_in_memory(frames, suffix, cleaning, positive_from):
    with TemporaryDirectory() as name:
        folder = Path(name)
        for number, frame in enumerate(frames):
            WRITERS[suffix](frame, folder / f"log-{number}{suffix}")
        pattern = folder / f"log-*{suffix}"
        options = {"cleaning": cleaning, "positive_from": positive_from}
        expected = outcome(lambda: Dataset.from_frames(pattern, **options), folder / "in memory")
        found = outcome(lambda: Dataset.from_files(pattern, folder / "streamed", threads=1, **options))
        if isinstance(expected, DataError):
            assert isinstance(found, DataError)
        else:
            assert_equal(found, expected)


FRAME = pd.DataFrame({"user_id": [3, 1, 2, 3, 1, 2, 3], "item_id": list("abababa"), "rating": [1, 2, 3, 1, 2, 3, 1]})


@pytest.fixture
def log(tmp_path):
    """Two files with one repeated row among seven."""
    FRAME[:4].to_parquet(tmp_path / "log-0.parquet")
    FRAME[4:].to_parquet(tmp_path / "log-1.parquet")
    return tmp_path / "log-*.parquet"


def test_side_tables_media_and_relations_join_the_log_as_in_memory(log, tmp_path):
    parts = {
        "items": pd.DataFrame({"item_id": ["c", "a"], "title": ["C", "A"]}),
        "modalities": {"title": Text("title"), "vgg": Vectors(np.eye(2), ids=["b", "a"])},
        "relations": {"follows": Relation(pd.DataFrame({"source_id": [1, 9], "target_id": [2, 1]}))},
        "cleaning": Cleaning(min_item_events=3),
    }
    expected = Dataset.from_frames(log, **parts)
    found = Dataset.from_files(log, tmp_path / "saved", **parts)
    assert_equal(found, expected)
    assert found.items.ids.tolist() == ["a", "b", "c"]  # b has vectors, c a row in the table
    pd.testing.assert_frame_equal(found.item_table, expected.item_table)
    assert found.modalities["title"] == Text("title")
    np.testing.assert_array_equal(found.modalities["vgg"].matrix, np.eye(2))
    assert found.relations["follows"].source_index.tolist() == expected.relations["follows"].source_index.tolist()
    assert found.cleaning_report.removed_elsewhere == {"relation 'follows': unknown user": 1}


def test_the_folder_is_an_ordinary_saved_data_set_and_nothing_else_is_left(log, tmp_path):
    found = Dataset.from_files(log, tmp_path / "saved")
    assert_equal(Dataset.load(tmp_path / "saved"), found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log-0.parquet", "log-1.parquet", "saved"]


def test_a_column_has_one_type_in_all_chunks_of_a_text_file(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n007,1\n8,2\n9,3\n10,4\nx,5\n", encoding="utf-8")
    data = Dataset.from_files(tmp_path / "log.csv", tmp_path / "saved")
    assert data.users.ids.tolist() == ["007", "10", "8", "9", "x"]
    assert data.items.ids.tolist() == [1, 2, 3, 4, 5]


def test_numbers_of_one_file_are_texts_beside_the_texts_of_another(tmp_path):
    (tmp_path / "1.csv").write_text("user_id,item_id,note\n100,1,5\n100,1,6\n")
    (tmp_path / "2.csv").write_text("user_id,item_id,note\n007,2,x\n")
    pattern, cleaning = str(tmp_path / "?.csv"), Cleaning(duplicates="keep")
    found = Dataset.from_files(pattern, tmp_path / "streamed", cleaning=cleaning)
    assert_equal(found, Dataset.from_frames(pattern, cleaning=cleaning))
    assert found.users.ids.tolist() == ["007", "100"]
    assert found.items.ids.tolist() == [1, 2]
    assert found.events.columns["note"].tolist() == ["5", "6", "x"]


def test_only_texts_beside_numbers_are_read_again(tmp_path, small_chunks, caplog):
    frame = pd.DataFrame({"user_id": range(9), "item_id": 1, "clicked": [True, None, *[False] * 7]})
    for suffix, write in WRITERS.items():
        write(frame, tmp_path / f"log{suffix}")
        with caplog.at_level("INFO", "gnnrec"):
            Dataset.from_files(tmp_path / f"log{suffix}", tmp_path / f"streamed{suffix}")
    assert "are read as texts" not in caplog.text


def test_json_lines_may_be_compressed_and_leave_cells_out(tmp_path):
    rows = [{"user": 1, "item": "a", "score": 1}] * 4 + [
        {"user": 2, "item": "b", "score": 0.5, "place": "x"},
        {"user": 3},
    ]
    with gzip.open(tmp_path / "log.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    data = Dataset.from_files(tmp_path / "log.jsonl.gz", tmp_path / "saved")
    assert data.events.weight.tolist() == [1, 0.5]
    assert data.events.columns["place"].tolist()[1] == "x"
    assert data.cleaning_report == CleaningReport(6, 2, {"missing item id ('item')": 1, "exact duplicate": 3})


def test_columns_that_are_not_kept_still_tell_rows_apart(tmp_path):
    FRAME.assign(place=list("xyzxyzw"), hour=0).to_parquet(tmp_path / "log.parquet")
    data = Dataset.from_files(tmp_path / "log.parquet", tmp_path / "saved", keep_columns=["hour"])
    assert len(data.events) == len(Dataset.from_frames(tmp_path / "log.parquet").events) == 7
    assert list(data.events.columns) == ["hour"]
    with pytest.raises(DataError, match="no further column 'city'"):
        Dataset.from_files(tmp_path / "log.parquet", tmp_path / "saved", keep_columns=["city"])


@pytest.mark.parametrize("damage", ["rating", "item_id"])
def test_a_strict_reading_names_file_row_and_column(log, tmp_path, damage):
    FRAME[:5].astype(object).where(lambda frame: (frame.index != 4)[:, None] | (frame.columns != damage)).to_json(
        tmp_path / "log-2.jsonl", orient="records", lines=True
    )
    with pytest.raises(DataError, match=rf"log-2\.jsonl': row 4, column '{damage}'"):
        Dataset.from_files(tmp_path / "log-*", tmp_path / "saved", cleaning=None)
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (FRAME.rename(columns={"rating": "stars"}), r"log-2.*'stars'.*files before it.*'rating'"),
        (FRAME.astype({"user_id": str}), r"log-2.*column 'user_id'.*string.*int64"),
        (FRAME.assign(user_id=1.5), r"log-2.*column 'user_id'.*1\.5 is not an id"),
        (FRAME[:0], r"log-2.*holds no rows"),
    ],
)
def test_files_that_do_not_fit_together_are_named(log, tmp_path, second, message):
    second.to_parquet(tmp_path / "log-2.parquet")
    with pytest.raises(DataError, match=message):
        Dataset.from_files(log, tmp_path / "saved")


def test_what_cannot_work_says_so(log, tmp_path):
    for options, error, message in [
        ({"memory_limit": "much"}, ConfigError, "memory_limit='much'"),
        ({"threads": 0}, ConfigError, "threads=0"),
        ({"positive_from": 9}, DataError, "no events are left.*weight below 9"),
        ({"columns": {"timestamp": "when"}}, DataError, "log-0.*no column 'when'"),
    ]:
        with pytest.raises(error, match=message):
            Dataset.from_files(log, tmp_path / "saved", **options)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").touch()
    with pytest.raises(StorageError, match="letters"):
        Dataset.from_files(log, tmp_path / "letters")
    FRAME.assign(tags=[["x"]] * len(FRAME)).to_parquet(tmp_path / "lists.parquet")
    with pytest.raises(DataError, match="'tags' holds lists"):
        Dataset.from_files(tmp_path / "lists.parquet", tmp_path / "saved")
    (tmp_path / "array.json").write_text('[{"user": 1, "item": 2}]', encoding="utf-8")
    with pytest.raises(DataError, match="one object a line"):
        Dataset.from_files(tmp_path / "array.json", tmp_path / "saved")


def test_without_duckdb_it_says_which_extra_brings_it(log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingPackageError, match=r"gnnrec\[stream\]"):
        Dataset.from_files(log, tmp_path / "saved")


def test_a_damaged_file_is_named(log, tmp_path):
    (tmp_path / "log-2.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"log-2\.parquet"):
        Dataset.from_files(log, tmp_path / "saved")


def interrupted_before(monkeypatch, step, run):
    """Runs until a step begins, and interrupts it there."""
    with monkeypatch.context() as patch:
        patch.setattr(streaming, step, lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run()


def test_a_second_run_takes_what_the_first_finished(log, tmp_path, monkeypatch, caplog):
    def run():
        return Dataset.from_files(log, tmp_path / "saved")

    interrupted_before(monkeypatch, "save_in_pieces", run)
    assert not (tmp_path / "saved").exists()
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr("gnnrec.data.staging.read_chunks", None)  # nothing is parsed
        patch.setattr("gnnrec.data.numbering._distinct_ids", None)  # nor numbered
        data = run()
    assert caplog.text.count("finished before, not done again") == 3  # two files and their numbers
    assert_equal(data, Dataset.from_frames(log))


DYING = """
import os, signal, sys
from gnnrec import Dataset
from gnnrec.data import staging

read = staging.read_chunks

def dying(path, what, texts):
    for chunk in read(path, what, texts):
        yield chunk
        if path.name == "log-1.parquet":
            os.kill(os.getpid(), signal.SIGKILL)

staging.read_chunks = dying
Dataset.from_files(*sys.argv[1:])
"""


def test_a_killed_process_leaves_nothing_half_written_behind(log, tmp_path, caplog):
    killed = subprocess.run([sys.executable, "-c", DYING, str(log), str(tmp_path / "saved")])
    assert killed.returncode == -signal.SIGKILL
    staged = tmp_path / ".saved.ingestion" / "staged"
    whole, half = sorted(staged.iterdir(), key=lambda path: path.name.endswith(".partial"))
    assert whole.name == "file 00000"
    assert half.name.startswith(".file 00001.")
    with caplog.at_level(logging.INFO):
        data = Dataset.from_files(log, tmp_path / "saved")
    assert "file 00000: finished before" in caplog.text
    assert "file 00001: finished before" not in caplog.text
    assert_equal(data, Dataset.from_frames(log))
    assert not (tmp_path / ".saved.ingestion").exists()


DYING_AT_THE_END = """
import os, signal, sys
from gnnrec import Dataset
from gnnrec.data import streaming

pieces = streaming._pieces

def dying(*arguments):
    yield from pieces(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

streaming._pieces = dying
Dataset.from_files(*sys.argv[1:])
"""


def test_what_a_killed_process_wrote_of_the_data_set_is_removed(log, tmp_path):
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", DYING_AT_THE_END, str(log), str(tmp_path / "saved")])
        assert killed.returncode == -signal.SIGKILL
        assert len(list(tmp_path.glob(".saved.*.partial"))) == 1
    other = tmp_path / f".saved.too.{'0' * 32}.partial"  # of a data set of another name
    other.mkdir()
    assert_equal(Dataset.from_files(log, tmp_path / "saved"), Dataset.from_frames(log))
    assert list(tmp_path.glob(".*")) == [other]


def test_files_that_have_changed_since_are_read_again(log, tmp_path, monkeypatch, caplog):
    def run():
        return Dataset.from_files(log, tmp_path / "saved")

    interrupted_before(monkeypatch, "save_in_pieces", run)
    FRAME[2:].to_parquet(tmp_path / "log-1.parquet")
    data = run()
    assert "file 00001: files or options have changed" in caplog.text
    assert "file 00000: files or options" not in caplog.text
    assert_equal(data, Dataset.from_frames(log))


def test_other_options_number_the_log_again(log, tmp_path, monkeypatch, caplog):
    interrupted_before(monkeypatch, "save_in_pieces", lambda: Dataset.from_files(log, tmp_path / "saved"))
    data = Dataset.from_files(log, tmp_path / "saved", cleaning=Cleaning(duplicates="keep"))
    assert "numbered: files or options have changed" in caplog.text
    assert len(data.events) == len(FRAME)


def test_what_was_damaged_since_is_not_used(log, tmp_path, monkeypatch, caplog):
    interrupted_before(monkeypatch, "number_log", lambda: Dataset.from_files(log, tmp_path / "saved"))
    part = next((tmp_path / ".saved.ingestion" / "staged" / "file 00000").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    data = Dataset.from_files(log, tmp_path / "saved")
    assert "cannot be used" in caplog.text
    assert_equal(data, Dataset.from_frames(log))


def test_a_file_that_changes_while_it_is_read_is_an_error(log, tmp_path, monkeypatch):
    whole = chunks.read_chunks

    def growing(path, what, texts):
        yield from whole(path, what)
        FRAME.to_parquet(path)

    monkeypatch.setattr("gnnrec.data.staging.read_chunks", growing)
    with pytest.raises(StorageError, match=r"log-0\.parquet' changed while it was read"):
        Dataset.from_files(log, tmp_path / "saved")


def test_two_ingestions_into_one_folder_are_refused(log, tmp_path):
    (tmp_path / ".saved.ingestion").mkdir()
    other = f"import duckdb; held = duckdb.connect({str(tmp_path / '.saved.ingestion' / 'database')!r})"
    with subprocess.Popen(
        [sys.executable, "-c", f"{other}; print('held', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match="another ingestion"):
            Dataset.from_files(log, tmp_path / "saved")
        process.communicate("\n")
    assert len(Dataset.from_files(log, tmp_path / "saved").events) == 6


def test_what_exceeds_the_memory_limit_is_written_to_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 100_000)
    num_rows = 600_000
    rows = np.random.default_rng(0).integers(0, num_rows // 2, num_rows)
    pd.DataFrame({"user_id": rows, "item_id": rows * 7 % 1000, "timestamp": rows}).to_parquet(tmp_path / "log.parquet")
    with pytest.raises(StorageError, match="larger memory_limit= than 1MB"):
        Dataset.from_files(tmp_path / "log.parquet", tmp_path / "saved", memory_limit="1MB", threads=1)
    data = Dataset.from_files(tmp_path / "log.parquet", tmp_path / "saved", memory_limit="24MB", threads=1)
    first = pd.Series(rows).drop_duplicates().to_numpy()
    np.testing.assert_array_equal(data.users.ids_of(data.events.user_index), first)
    np.testing.assert_array_equal(data.events.timestamp, first)


def test_padded_numbers_are_texts_in_all_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("gnnrec.data.chunks.CHUNK_ROWS", 2)
    (tmp_path / "log.csv").write_text("user,item\n1,7\n1,8\n2,7\n2,007\n3,9\n3,9E0\n", encoding="utf-8")
    data = Dataset.from_files(tmp_path / "log.csv", tmp_path / "saved")
    assert data.items.ids.tolist() == ["007", "7", "8", "9", "9E0"]
    assert data.users.ids.tolist() == [1, 2, 3]
