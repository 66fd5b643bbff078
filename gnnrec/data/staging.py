"""Copies the valid rows of log files, parsed, into Parquet, which later passes read fast and in equal chunks."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gnnrec.data.chunks import read_chunks
from gnnrec.data.cleaning import Cleaning, drop_invalid
from gnnrec.data.frames import kind_of, mixed_columns
from gnnrec.data.ids import as_id_array
from gnnrec.data.log import Log, log_columns, read_log
from gnnrec.data.resumable import once
from gnnrec.errors import DataError, StorageError

__all__ = ["StagedLog", "stage_log"]

logger = logging.getLogger(__name__)

_ROLES = ("user_id", "item_id", "weight", "timestamp")
_FURTHER = "column."  # before the names of all other columns, so that none is taken for a role


@dataclass(frozen=True)
class StagedLog:
    """The valid rows of all files, in order.

    Attributes:
        made_from: All that the rows depend on: the state of the files and how they were read.
        columns: Role → column, as the files call it.
        rows_in: Rows of the files.
        removed: Reason → rows that were not valid.
        parts: One Parquet file for each chunk of rows → the file that it came from.
        schema: Types of the columns: the roles that there are, and ``column.<name>`` for the others.
    """

    made_from: Mapping[str, Any]
    columns: Mapping[str, str]
    rows_in: int
    removed: Mapping[str, int]
    parts: Mapping[Path, Path]
    schema: pa.Schema

    def __len__(self) -> int:
        return self.rows_in - sum(self.removed.values())

    def chunks(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Yields the columns of that name in the schema, in chunks of consecutive rows."""
        schema = pa.schema([self.schema.field(name) for name in names])
        for part in self.parts:
            yield pq.read_table(part, columns=list(names)).cast(schema)

    def further(self, kept: Sequence[str] | None) -> list[str]:
        """Returns the columns without a role, as the schema calls them.

        Args:
            kept: Only these, as the files call them; ``None`` for all.

        Raises:
            DataError: There is no such column.
        """
        names = [name.removeprefix(_FURTHER) for name in self.schema.names if name not in _ROLES]
        for name in kept or ():
            if name not in names:
                raise DataError(f"interactions: no further column {name!r} to keep; there are {names}")
        return [_FURTHER + name for name in (names if kept is None else kept)]

    @staticmethod
    def under_own_names(table: pa.Table) -> pa.Table:
        """Gives further columns the names that the files have for them."""
        return table.rename_columns([name.removeprefix(_FURTHER) for name in table.column_names])


def stage_log(paths: Sequence[Path], folder: Path, columns: Mapping[str, str], cleaning: Cleaning) -> StagedLog:
    """Reads log files and writes their valid rows. A file that was staged before and has not changed is not read again.

    Where a column holds texts in one file and numbers in another, all files are read once more, for texts.

    Args:
        paths: The files, in the order of their rows.
        folder: Where to write.
        columns: Role → name of the column, where the name is not one of the aliases.
        cleaning: Whether invalid rows are dropped or are an error.

    Raises:
        DataError: A file cannot be read, lacks a column or holds an invalid row that is not to be dropped.
        StorageError: The disk is full, or a file changed while it was read.
    """
    staged, kinds = _stage_files(paths, folder, columns, cleaning)
    if texts := mixed_columns(kinds, paths):
        logger.info("pass 1: texts in some files and numbers in others, all of them are read as texts: %s", texts)
        staged, _ = _stage_files(paths, folder / "as texts", columns, cleaning, texts)
    if staged.removed:
        logger.warning("removed %d invalid rows of the log: %s", sum(staged.removed.values()), staged.removed)
    return replace(staged, schema=_joint_schema(staged.parts))


def _stage_files(
    paths: Sequence[Path], folder: Path, columns: Mapping[str, str], cleaning: Cleaning, texts: Sequence[str] = ()
) -> tuple[StagedLog, dict[str, set[str]]]:
    """Stages all files, without a schema; also says which kinds of values each column holds, invalid rows included."""
    kinds: dict[str, set[str]] = {}
    sources: list[dict[str, Any]] = []
    parts: dict[Path, Path] = {}
    removed: dict[str, int] = {}
    rows_in = 0
    names: list[str] | None = None
    for number, path in enumerate(paths):
        staged, source = folder / f"file {number:05d}", _state_of(path)
        read_as = {"columns": dict(columns), "names": names, "invalid": cleaning.invalid, "texts": list(texts)}
        stage = partial(_stage_file, path, source, names, columns, cleaning, texts)
        report = once(staged, {"source": source, **read_as}, stage)
        columns, names = report["columns"], report["names"]  # those of the first file hold for all
        sources.append(source)
        parts |= dict.fromkeys(sorted(staged.glob("*.parquet")), path)
        rows_in += report["rows_in"]
        for name, found in report["kinds"].items():
            kinds.setdefault(name, set()).update(found)
        for reason, rows in report["removed"].items():
            removed[reason] = removed.get(reason, 0) + rows
        logger.info("pass 1, file %d of %d: %r, %d rows", number + 1, len(paths), str(path), report["rows_in"])
    log = StagedLog(
        made_from={"sources": sources, "columns": dict(columns), "invalid": cleaning.invalid, "texts": list(texts)},
        columns=columns,
        rows_in=rows_in,
        removed=removed,
        parts=parts,
        schema=pa.schema([]),
    )
    return log, kinds


def _state_of(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"path": str(path.absolute()), "size": status.st_size, "modified": status.st_mtime_ns}


def _stage_file(
    path: Path,
    source: Mapping[str, Any],
    names: list[str] | None,
    columns: Mapping[str, str],
    cleaning: Cleaning,
    texts: Sequence[str],
    folder: Path,
) -> dict[str, Any]:
    """Stages one file whose columns must be ``names``, if others came before it."""
    what = f"interactions: {str(path)!r}"
    removed: dict[str, int] = {}
    rows_in = 0
    kinds: dict[str, set[str]] = {}
    for number, chunk in enumerate(read_chunks(path, "interactions", texts)):
        names = names or list(chunk.columns)
        if list(chunk.columns) != names:
            raise DataError(f"{what} has the columns {list(chunk.columns)}, the files before it have {names}")
        for name in names:
            kinds.setdefault(name, set()).update(filter(None, [kind_of(chunk[name])]))
        columns = log_columns(chunk, columns, what)
        log = drop_invalid(read_log(chunk, columns), cleaning, removed, what, rows_in)
        rows_in += len(chunk)
        if len(log):
            pq.write_table(_as_arrow(log, what, cleaning), folder / f"{number:06d}.parquet", compression="zstd")
    if _state_of(path) != source:
        raise StorageError(f"{str(path)!r} changed while it was read; start again when nothing writes to it")
    found = {name: sorted(kind) for name, kind in kinds.items()}
    return {"rows_in": rows_in, "removed": removed, "columns": columns, "names": names, "kinds": found}


def _as_arrow(log: Log, what: str, cleaning: Cleaning) -> pa.Table:
    arrays: dict[str, pa.Array] = {
        "user_id": pa.array(as_id_array(log.user_ids, f"{what}, column {log.user_ids.name!r}")),
        "item_id": pa.array(as_id_array(log.item_ids, f"{what}, column {log.item_ids.name!r}")),
    }
    for role, values in (("weight", log.weight), ("timestamp", log.timestamp)):
        if values is not None:
            arrays[role] = pa.array(values)
    for name in map(str, log.columns):
        array = _further_column(log.columns[name], f"{what}, column {name!r}")
        if pa.types.is_nested(array.type) and cleaning.duplicates == "drop":
            raise DataError(f"{what}, column {name!r} holds lists; keep lists in the item or user table")
        arrays[_FURTHER + name] = array
    return pa.table(arrays)


def _further_column(column: pd.Series, what: str) -> pa.Array:
    try:
        array = pa.Array.from_pandas(column)
    except pa.ArrowException as error:
        raise DataError(f"{what}: values of several types: {error}") from error
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    return pa.nulls(len(array)) if array.null_count == len(array) else array


def _joint_schema(parts: Mapping[Path, Path]) -> pa.Schema:
    """Returns the types that hold for all parts (part → the file that it came from)."""
    fields: dict[str, pa.Field] = {}
    for part, path in parts.items():
        for field in pq.read_schema(part):
            before = fields.get(field.name, field)
            try:
                schema = pa.unify_schemas([pa.schema([before]), pa.schema([field])], promote_options="permissive")
            except pa.ArrowException as error:
                raise DataError(
                    f"interactions: {str(path)!r}, column {field.name.removeprefix(_FURTHER)!r}: "
                    f"values are {field.type}, before they were {before.type}; convert one of them"
                ) from error
            fields[field.name] = schema.field(0)
    return pa.schema(list(fields.values()))
