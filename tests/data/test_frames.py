import gzip
import json
import sys
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from gnnrec.data.chunks import read_chunks
from gnnrec.data.frames import read_frame, to_library
from gnnrec.errors import DataError, MissingPackageError

ROWS = pd.DataFrame({"user_id": [1, 2, 3], "title": ["a", "NA", "None"], "rating": [1.5, 2.0, 3.0]})


def write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix in (".csv", ".gz"):
        frame.to_csv(path, index=False)
    elif path.suffix in (".tsv", ".inter"):
        frame.to_csv(path, index=False, sep="\t")
    else:
        frame.to_json(path, orient="records", lines=path.suffix != ".json")
    return path


@pytest.mark.parametrize(
    "name", ["f.csv", "f.csv.gz", "f.tsv", "f.inter", "f.parquet", "f.jsonl", "f.ndjson", "f.json"]
)
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_every_file_format_gives_the_same_rows(tmp_path, name, kind):
    frame, library = read_frame(kind(write(ROWS, tmp_path / name)))
    assert library == "pandas"
    assert frame["user_id"].tolist() == [1, 2, 3]
    assert frame["user_id"].dtype == "int64"
    assert frame["title"].tolist() == ["a", "NA", "None"]
    assert frame["rating"].tolist() == [1.5, 2.0, 3.0]


def test_recbole_headers_lose_their_types(tmp_path):
    (tmp_path / "r.inter").write_text("user_id:token\titem_id:token\ttags:token_seq\n1\t2\tx\n")
    assert list(read_frame(tmp_path / "r.inter")[0].columns) == ["user_id", "item_id", "tags"]


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.parquet", "polars", "pyarrow"])
def test_large_integer_ids_beside_a_gap_are_not_rounded(tmp_path, name):
    large = 2**53 + 1
    frame = pd.DataFrame({"user_id": pd.array([large, None], dtype="Int64"), "x": [1, 2]})
    if name in ("polars", "pyarrow"):
        source = to_library(frame, name)
    elif name == "f.jsonl":
        source = tmp_path / name
        source.write_text(f'{{"user_id": {large}, "x": 1}}\n{{"user_id": null, "x": 2}}\n')
    else:
        source = write(frame, tmp_path / name)
    column = read_frame(source)[0]["user_id"]
    assert column.isna().tolist() == [False, True]
    assert column.iloc[0] == large


def test_a_glob_is_read_in_sorted_order(tmp_path):
    for name, user in (("part-2.csv", 2), ("part-1.csv", 1), ("part-3.csv", 3)):
        (tmp_path / name).write_text(f"user_id\n{user}\n")
    frame, _ = read_frame(str(tmp_path / "part-*.csv"))
    assert frame["user_id"].tolist() == [1, 2, 3]
    assert frame.index.tolist() == [0, 1, 2]


def test_lazy_frames_are_collected_and_duplicate_indexes_forgotten():
    assert read_frame(pl.LazyFrame({"a": [1]}))[1] == "polars"
    assert read_frame(pd.DataFrame({"a": [1, 2]}, index=[7, 7]))[0].index.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.xlsx", b"x", "known extensions are .csv, .tsv"),
        ("f.csv", b"", "No columns"),
        ("f.csv", b"user_id,item_id\n", "holds no rows"),
        ("f.csv", b"a,b\n1,2\n1,2,3\n", "Expected 2 fields"),
        ("f.csv", b"item_id,title\n1,Good, Bad and Ugly\n2,Heat\n", "more fields than the header"),
        ("f.csv", b"a,b\n1,2,\n3,4,\n", "more fields than the header"),
        ("f.json", b"[1, 2]", "array of objects"),
        ("f.csv", b"a\n\xff\xfe\n", "decode"),
        ("f.csv.gz", b"not gzip", "gzip"),
        ("f.parquet", b"PAR1", "Parquet"),
        ("f.jsonl", b"{", "JSON"),
        ("f.json", b"[{]", "property name"),
        ("f.json", b"[]", "holds no rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        read_frame(tmp_path / name, "interactions")
    assert message.lower() in str(caught.value).lower()


def test_absent_files_differing_columns_and_repeated_columns_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"no file matches '.*none-\*\.csv'"):
        read_frame(str(tmp_path / "none-*.csv"))
    (tmp_path / "1.csv").write_text("a\n1\n")
    (tmp_path / "2.csv").write_text("b\n1\n")
    with pytest.raises(DataError, match=r"2\.csv"):
        read_frame(str(tmp_path / "*.csv"))
    with pytest.raises(DataError, match="several columns are called 'a'"):
        read_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(DataError, match="several columns are called '1'"):
        read_frame(pd.DataFrame([[1, 2]], columns=[1, "1"]))
    with pytest.raises(DataError, match=r"one name, not the 2 of \('x', 'a'\)"):
        read_frame(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("x", "a"), ("x", "b")])))


def test_answers_come_back_in_the_library_asked_for():
    assert to_library(ROWS, "pandas") is ROWS
    assert isinstance(to_library(ROWS, "polars"), pl.DataFrame)
    assert to_library(ROWS, "polars").rows()[1] == (2, "NA", 2.0)
    table = to_library(ROWS, "pyarrow")
    assert isinstance(table, pa.Table)
    assert table.column_names == ["user_id", "title", "rating"]
    with pytest.raises(DataError, match="'dask'"):
        to_library(ROWS, "dask")


def test_a_compressed_json_file_is_unpacked(tmp_path):
    with gzip.open(tmp_path / "f.jsonl.gz", "wt") as file:
        file.write('{"user_id": 5}\n')
    assert read_frame(tmp_path / "f.jsonl.gz")[0]["user_id"].tolist() == [5]


@pytest.mark.parametrize("name", ["f.csv.gz", "f.jsonl.gz"])
def test_a_compressed_file_that_is_cut_short_is_named(tmp_path, name):
    rows = "".join(f'{{"user_id": {i}}}\n' if "json" in name else f"{i * i}\n" for i in range(5000))
    packed = gzip.compress((rows if "json" in name else "user_id\n" + rows).encode())
    (tmp_path / name).write_bytes(packed[: len(packed) // 2])
    for read in (read_frame, lambda path: list(read_chunks(path, "log"))):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)


def test_texts_of_json_that_are_dates_stay_texts(tmp_path):
    row = {"item_id": 1, "day": "2001-01-01", "days": ["2001-01-01"], "made": {"on": "2001-01-01"}}
    (tmp_path / "f.jsonl").write_text(json.dumps(row) + "\n")
    for frame in (read_frame(tmp_path / "f.jsonl")[0], *read_chunks(tmp_path / "f.jsonl", "log")):
        assert frame["day"].tolist() == ["2001-01-01"]
        assert list(frame["days"][0]) == ["2001-01-01"]
        assert frame["made"][0] == {"on": "2001-01-01"}
        assert frame["item_id"].tolist() == [1]


def test_numbers_of_one_file_are_texts_beside_the_texts_of_another(tmp_path):
    (tmp_path / "1.csv").write_text("item_id,title,year\n100,1984,1\n")
    (tmp_path / "2.csv").write_text("item_id,title,year\n007,Heat,\n")
    frame, _ = read_frame(str(tmp_path / "?.csv"))
    assert frame["item_id"].tolist() == ["100", "007"]
    assert frame["title"].tolist() == ["1984", "Heat"]
    assert frame["year"].tolist() == [1, pd.NA]


@pytest.mark.parametrize("name", ["f.inter", "f.csv"])
@pytest.mark.parametrize("read", [read_frame, lambda *given: (pd.concat(read_chunks(*given)), None)])
def test_columns_with_a_typed_header_are_texts_on_request(tmp_path, name, read):
    header = "user_id:token\titem_id:token\n" if name == "f.inter" else "user_id,item_id\n"
    (tmp_path / name).write_text(header + ("7\t8\n" if name == "f.inter" else "7,8\n"))
    frame, _ = read(tmp_path / name, "log", ["item_id"])
    assert frame["user_id"].tolist() == [7]
    assert frame["item_id"].tolist() == ["8"]


def test_columns_of_pyarrow_become_plain_ones():
    arrays = {"n": pa.array([1, None]), "t": pa.array(["a", None]), "tags": pa.array([["a", "b"], None])}
    arrays["__index_level_0__"] = pa.array(
        [0, 1]
    )  # what pandas calls an index in a file, of a frame of another library
    frame = pd.DataFrame({name: pd.Series(array, dtype=pd.ArrowDtype(array.type)) for name, array in arrays.items()})
    read, _ = read_frame(frame)
    assert not any(isinstance(dtype, pd.ArrowDtype) for dtype in read.dtypes)
    assert read["n"].tolist() == [1, pd.NA]
    assert read["t"][0] == "a"
    assert list(read["tags"][0]) == ["a", "b"]


def test_what_a_library_cannot_hold_is_said():
    mixed = pd.DataFrame({"query": ["a", 5], "rank": [1, 1]})
    with pytest.raises(DataError, match="polars cannot hold the answer, call people by integers or by texts"):
        to_library(mixed, "polars")


def test_polars_answers_without_polars_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingPackageError, match="pip install polars"):
        to_library(ROWS, "polars")


def test_an_array_of_objects_has_the_columns_of_all_of_them(tmp_path):
    (tmp_path / "f.json").write_text('\ufeff[{"item_id": 1}, {"item_id": 2, "plot": "z"}]', encoding="utf-8")
    frame, _ = read_frame(tmp_path / "f.json")
    assert frame["item_id"].tolist() == [1, 2]
    assert frame["plot"].isna().tolist() == [True, False]


def test_columns_are_texts_on_request(tmp_path):
    (tmp_path / "f.csv").write_text("user_id,rating\n007,1\n7,2\n")
    assert read_frame(tmp_path / "f.csv", texts=["user_id"])[0]["user_id"].tolist() == ["007", "7"]
    (tmp_path / "f.csv").write_text("user_id,rating\n8,1\n7,2\n")
    assert read_frame(tmp_path / "f.csv", texts=["user_id"])[0]["user_id"].tolist() == ["8", "7"]
    assert read_frame(tmp_path / "f.csv")[0]["user_id"].tolist() == [8, 7]


def test_paths_become_texts():
    frame, _ = read_frame(pd.DataFrame({"picture": [Path("a") / "b.png", None]}))
    assert frame["picture"][0] == str(Path("a") / "b.png")
    assert pd.isna(frame["picture"][1])


def test_numbers_padded_with_zeros_are_texts(tmp_path):
    (tmp_path / "f.csv").write_text("user_id,item_id,rating,share\n1,007,1,0.5\n1,7,2,0.25\n2,,3,-0.5\n")
    frame, _ = read_frame(tmp_path / "f.csv")
    assert frame["item_id"].dropna().tolist() == ["007", "7"]
    assert frame["user_id"].tolist() == [1, 1, 2]
    assert frame["share"].tolist() == [0.5, 0.25, -0.5]
    (tmp_path / "g.csv").write_text("user_id,item_id\n1, 007\n2, 7\n")
    assert read_frame(tmp_path / "g.csv")[0]["item_id"].str.strip().tolist() == ["007", "7"]
    (tmp_path / "f.tsv").write_text("user_id\titem_id\n1\t10\n1\t0\n")
    assert read_frame(tmp_path / "f.tsv")[0]["item_id"].tolist() == [10, 0]


def test_an_e_between_digits_makes_a_name_and_not_a_number(tmp_path):
    (tmp_path / "f.csv").write_text("user_id,item_id,rating,share\n1,1E5,1e+1,1e-05\n2,100000,1.5E1,2.5e-3\n")
    frame, _ = read_frame(tmp_path / "f.csv")
    assert frame["item_id"].tolist() == ["1E5", "100000"]
    assert frame["rating"].tolist() == [10, 15]
    assert frame["share"].tolist() == [1e-05, 2.5e-3]


def test_a_quote_swallows_no_rows(tmp_path):
    rows = 'user_id\titem_id\treview\na\tx\t"great\nb\tx\tso-so\nc\ty\t"fine"\n'
    (tmp_path / "f.inter").write_text(rows)
    assert read_frame(tmp_path / "f.inter")[0]["review"].tolist() == ['"great', "so-so", '"fine"']
    (tmp_path / "f.tsv").write_text(rows)
    with pytest.raises(DataError, match="row 0, column 'review': a quote begins a text that holds rows; double it"):
        read_frame(tmp_path / "f.tsv")
    (tmp_path / "f.tsv").write_text('user_id\treview\na\t"two\nlines"\n')
    assert read_frame(tmp_path / "f.tsv")[0]["review"].tolist() == ["two\nlines"]


def test_an_index_in_a_file_is_no_column(tmp_path):
    pd.DataFrame({"user_id": ["a", "a", "b"]}, index=[3, 5, 9]).to_parquet(tmp_path / "f.parquet")
    assert list(read_frame(tmp_path / "f.parquet")[0]) == ["user_id"]


def test_paths_in_lists_become_texts():
    frame, _ = read_frame(pd.DataFrame({"pictures": [[Path("a") / "b.png", "c.png"], None]}))
    assert frame["pictures"][0] == [str(Path("a") / "b.png"), "c.png"]


def test_a_line_of_json_may_be_long(tmp_path):
    rows = [{"item_id": name, "review": name * 3_000_000} for name in "ab"]
    (tmp_path / "f.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert read_frame(tmp_path / "f.jsonl")[0]["review"].str.len().tolist() == [3_000_000] * 2
    chunks = list(read_chunks(tmp_path / "f.jsonl", "log"))
    assert sum(len(chunk) for chunk in chunks) == 2


@pytest.mark.parametrize("scanned", range(4, 24))
def test_numbers_padded_with_zeros_are_found_wherever_a_block_of_the_file_ends(tmp_path, monkeypatch, scanned):
    monkeypatch.setattr("gnnrec.data.delimited._SCANNED_BYTES", scanned)
    (tmp_path / "f.csv").write_text("user,item\n1,9\n1,  007\n2,8\n")
    assert read_frame(tmp_path / "f.csv")[0]["item"].str.strip().tolist() == ["9", "007", "8"]


def test_a_column_has_a_fraction_in_all_chunks_or_in_none(tmp_path, monkeypatch):
    monkeypatch.setattr("gnnrec.data.chunks.CHUNK_ROWS", 2)
    (tmp_path / "f.csv").write_text("user_id,price\n1,2\n2,3\n3,0.5\n4,1\n")
    whole, _ = read_frame(tmp_path / "f.csv")
    in_chunks = pd.concat(read_chunks(tmp_path / "f.csv", "log"), ignore_index=True)
    pd.testing.assert_frame_equal(in_chunks, whole)
