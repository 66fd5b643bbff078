"""Numbers the users and items of a staged log, and finds the rows that repeat an earlier one.

Both are done by DuckDB, which writes to the disk what exceeds its memory limit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnnrec.data.cleaning import Cleaning
from gnnrec.data.ids import IdMap
from gnnrec.data.resumable import once
from gnnrec.data.schema import Owner
from gnnrec.data.staging import StagedLog

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["OWNERS", "NumberedLog", "number_log"]

OWNERS: tuple[Owner, ...] = ("user", "item")
_FIRST = "first.npy"


@dataclass(frozen=True)
class NumberedLog:
    """Who and what each row of a staged log is about, in numbers.

    Attributes:
        folder: Where the numbers are kept.
        ids: Owner → all ids, sorted; the position of an id is its number.
        first: ``[num_rows]`` false for the rows that repeat an earlier one and are not to be kept.
    """

    folder: Path
    ids: Mapping[Owner, IdMap]
    first: NDArray[np.bool_]

    def all_numbers(self, owner: Owner) -> NDArray[np.integer]:
        """Returns the numbers of all rows ``[num_rows]``, mapped from their file."""
        return np.memmap(_file(self.folder, owner), dtype=_number_type(self.ids[owner]), mode="r")

    def numbers(self, owner: Owner, start: int, count: int) -> NDArray[np.integer]:
        """Reads the numbers of consecutive rows."""
        dtype = _number_type(self.ids[owner])
        return np.fromfile(_file(self.folder, owner), dtype, count, offset=start * dtype.itemsize)


def number_log(log: StagedLog, folder: Path, cleaning: Cleaning, database: "DuckDBPyConnection") -> NumberedLog:
    """Numbers a staged log, unless that was done before.

    Args:
        log: The log.
        folder: Where to write.
        cleaning: Whether repeated rows are dropped.
        database: A connection with its memory limit set.

    Raises:
        StorageError: The disk is full.
    """
    made_from = {**log.made_from, "duplicates": cleaning.duplicates}
    once(folder, made_from, partial(_number, log, cleaning, database))
    ids = {owner: _read_ids(folder, owner) for owner in OWNERS}
    return NumberedLog(folder, ids, np.load(folder / _FIRST))


def _number(log: StagedLog, cleaning: Cleaning, database: "DuckDBPyConnection", folder: Path) -> dict[str, Any]:
    ids = {owner: _distinct_ids(log, owner, folder, database) for owner in OWNERS}
    for owner in OWNERS:
        with _file(folder, owner).open("wb") as file:
            for chunk in log.chunks([f"{owner}_id"]):
                numbers = ids[owner].index_of(chunk[f"{owner}_id"].to_pandas())
                numbers.astype(_number_type(ids[owner])).tofile(file)
    first = np.ones(len(log), dtype=bool)
    if cleaning.duplicates == "drop":
        first = _first_rows(log, NumberedLog(folder, ids, first), database)
    np.save(folder / _FIRST, first)
    return {"users": len(ids["user"]), "items": len(ids["item"]), "repeated": int((~first).sum())}


def _distinct_ids(log: StagedLog, owner: Owner, folder: Path, database: "DuckDBPyConnection") -> IdMap:
    column = f"{owner}_id"
    found = folder / "distinct.parquet"
    query = f"SELECT DISTINCT {column} AS id FROM log"  # noqa: S608 - the name is ours
    _copy(query, log.chunks([column]), found, database)
    distinct = IdMap.from_values([pd.read_parquet(found)["id"].to_numpy()], owner)
    found.unlink()
    pd.DataFrame({"id": distinct.ids}).to_parquet(_ids_file(folder, owner), index=False)
    return distinct


def _first_rows(log: StagedLog, numbered: NumberedLog, database: "DuckDBPyConnection") -> NDArray[np.bool_]:
    """Marks the first of rows that are equal in all columns; missing cells are equal to each other."""
    compared = [name for name in log.schema.names if name not in ("user_id", "item_id")]
    named = [f"column_{number}" for number in range(len(compared))]  # quotes in names are no concern then
    found = numbered.folder / "first.parquet"
    group = ", ".join(["user_number", "item_number", *named])
    query = f"SELECT min(row) AS row FROM log GROUP BY {group}"  # noqa: S608 - the names are ours
    _copy(query, _rows(log, numbered, compared, named), found, database)
    first = np.zeros(len(log), dtype=bool)
    with pq.ParquetFile(found) as file:
        for batch in file.iter_batches(columns=["row"]):
            first[batch["row"].to_numpy()] = True
    found.unlink()
    return first


def _rows(log: StagedLog, numbered: NumberedLog, compared: Sequence[str], named: Sequence[str]) -> Iterator[pa.Table]:
    start = 0
    for chunk in log.chunks(compared) if compared else log.chunks(["user_id"]):
        count = len(chunk)
        numbers = [pa.array(numbered.numbers(owner, start, count)) for owner in OWNERS]
        rows = pa.array(np.arange(start, start + count))
        columns = chunk.columns if compared else []
        yield pa.table([*numbers, rows, *columns], ["user_number", "item_number", "row", *named])
        start += count


def _copy(query: str, log: Iterator[pa.Table], file: Path, database: "DuckDBPyConnection") -> None:
    """Streams chunks through a query over ``log`` into a Parquet file; its rows come in any order."""
    head = next(log)
    batches = (batch for table in chain([head], log) for batch in table.to_batches())
    database.register("log", pa.RecordBatchReader.from_batches(head.schema, batches))
    escaped = str(file).replace("'", "''")
    database.execute(f"COPY ({query}) TO '{escaped}' (FORMAT parquet)")
    database.unregister("log")


def _read_ids(folder: Path, owner: Owner) -> IdMap:
    return IdMap(pd.read_parquet(_ids_file(folder, owner))["id"], owner)


def _ids_file(folder: Path, owner: Owner) -> Path:
    return folder / f"{owner}_ids.parquet"


def _file(folder: Path, owner: Owner) -> Path:
    return folder / f"{owner}_numbers.bin"


def _number_type(ids: IdMap) -> np.dtype[Any]:
    """Returns the smallest type of integers that the numbers fit into."""
    return np.dtype(np.int32 if len(ids) <= np.iinfo(np.int32).max else np.int64)
