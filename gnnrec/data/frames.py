"""Reads any frame or file into pandas, and gives answers back in the library that the caller uses."""

import codecs
import glob
import io
import json
import logging
import re
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnnrec.data.delimited import extension, read_delimited
from gnnrec.errors import DataError, MissingPackageError

__all__ = [
    "FrameLibrary",
    "as_lists",
    "check_column_names",
    "check_savable",
    "from_arrow",
    "holds_lists",
    "kind_of",
    "matching_files",
    "mixed_columns",
    "plain",
    "read_frame",
    "read_json_lines",
    "to_library",
    "type_with_gaps",
    "with_gaps",
    "with_types",
    "without_types",
]

logger = logging.getLogger(__name__)

FrameLibrary: TypeAlias = Literal["pandas", "polars", "pyarrow"]

# Bytes that are parsed at once: a line has to fit.
_JSON_BLOCK, _LARGEST_JSON_BLOCK = 1 << 20, (1 << 31) - 1
_NULLABLE = {"i": "Int64", "u": "UInt64", "b": "boolean"}  # kinds that a missing cell would otherwise make floats

_LIKE_NUMBERS = frozenset({"numeric", "boolean"})  # what texts may be taken for
_UNTYPED = (".csv", ".tsv", ".inter")  # files that do not say what is a text
_TYPES = ("token", "float")  # of columns, as RecBole has them

# What pandas calls an index that it wrote into a file.
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def read_frame(source: Any, what: str = "frame", texts: Collection[str] = ()) -> tuple[pd.DataFrame, FrameLibrary]:
    """Reads a frame or file(s) into pandas and says which library it came from.

    Args:
        source: A pandas, polars, pyarrow or any other frame that narwhals knows (lazy ones are
            collected), or a path or glob of CSV, TSV, Parquet, JSON lines or ``.inter`` files.
            Several files are concatenated in sorted order.
        what: What the frame is, for messages.
        texts: Columns of CSV and TSV files that are texts, whatever they look like.

    Returns:
        The rows under a fresh index, with plain NumPy columns where nothing is missing, and the
        library that answers should be given in (pandas for files and for unusual libraries).

    Raises:
        DataError: Nothing matches the path, the extension is unknown, a file cannot be parsed or
            is empty, the files' columns differ, or the source is not a frame.
    """
    if isinstance(source, str | Path):
        return plain(_read_files(str(source), what, texts)), "pandas"
    if isinstance(source, pd.DataFrame):
        check_column_names(list(source.columns), what)
        return plain(source), "pandas"
    try:
        frame = nw.from_native(source)
    except (TypeError, nw.exceptions.NarwhalsError) as error:
        raise DataError(
            f"{what}: expected a pandas, polars or pyarrow frame or a path, got {type(source).__name__}"
        ) from error
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    rows = plain(from_arrow(frame.to_arrow()))
    if frame.implementation.is_polars():
        return rows, "polars"
    return rows, "pyarrow" if frame.implementation.is_pyarrow() else "pandas"


def to_library(frame: pd.DataFrame, library: str) -> Any:
    """Returns a pandas answer as a frame of the given library.

    Raises:
        MissingPackageError: The library is polars and polars is not installed.
        DataError: The library is none of pandas, polars and pyarrow, or cannot hold a column of the answer.
    """
    if library == "pandas":
        return frame
    if library not in ("pyarrow", "polars"):
        raise DataError(f"unknown frame library {library!r}; choose pandas, polars or pyarrow")
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except pa.ArrowException as error:
        raise DataError(f"{library} cannot hold the answer, call people by integers or by texts: {error}") from error
    if library == "pyarrow":
        return table
    try:
        import polars
    except ImportError as error:
        raise MissingPackageError("answers in polars need it: pip install polars") from error
    return polars.from_arrow(table)


def matching_files(pattern: str, what: str) -> list[Path]:
    """Returns the file of that name, or all files of the glob in sorted order.

    Raises:
        DataError: There is none.
    """
    paths = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise DataError(f"{what}: no file matches {pattern!r}")
    return [Path(path) for path in paths]


def _read_files(pattern: str, what: str, texts: Collection[str]) -> pd.DataFrame:
    """Reads the file, or all files of the glob, in sorted order."""
    paths = matching_files(pattern, what)
    frames = [_read_file(path, what, texts) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if list(frame.columns) != list(frames[0].columns):
            raise DataError(
                f"{what}: {str(path)!r} has the columns {list(frame.columns)}, "
                f"{str(paths[0])!r} has {list(frames[0].columns)}"
            )
    kinds = {str(name): [kind_of(frame[name]) for frame in frames] for name in frames[0]}
    if mixed := mixed_columns(kinds, paths):  # as if all were one file
        frames = [_read_file(path, what, [*texts, *mixed]) for path in paths]
    if len(paths) > 1:
        logger.info("%s: read %d files of %s", what, len(paths), pattern)
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]


def mixed_columns(kinds: Mapping[str, Collection[str | None]], paths: Collection[Path]) -> list[str]:
    """Returns the columns that hold texts in some file or part and numbers in another, if they can be read as texts.

    Args:
        kinds: Column → what :func:`kind_of` says of it in each file or part.
        paths: The files; those of Parquet and JSON say themselves what is a text.
    """
    if not any(extension(path) in _UNTYPED for path in paths):
        return []
    return [name for name, found in kinds.items() if "string" in found and not _LIKE_NUMBERS.isdisjoint(found)]


def kind_of(column: pd.Series) -> str | None:
    """Returns what pandas calls the values of a column, but ``numeric`` for any number; ``None`` without a value."""
    if not column.notna().any():
        return None
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return "numeric"
    return kind.removesuffix("64")  # a column of times has another type while cells are missing


def _read_file(path: Path, what: str, texts: Collection[str]) -> pd.DataFrame:
    suffix = extension(path)
    if suffix not in _READERS:
        raise DataError(f"{what}: cannot read {str(path)!r}; known extensions are {', '.join(_READERS)}")
    try:
        frame = _READERS[suffix](path, texts)
    except (OSError, EOFError, zlib.error, ValueError, pa.ArrowException) as error:  # parse errors are ValueErrors
        raise DataError(f"{what}: cannot read {str(path)!r}: {error}") from error
    if len(frame) == 0:
        raise DataError(f"{what}: {str(path)!r} holds no rows")
    check_column_names(list(frame.columns), f"{what}: {str(path)!r}")
    return frame


def _read_inter(path: Path, texts: Collection[str]) -> pd.DataFrame:
    """Reads the log format of MMRec and RecBole."""
    return without_types(read_delimited(path, with_types(texts)))


def with_types(names: Collection[str]) -> list[str]:
    """Returns all that columns of these names may be called in a header that RecBole wrote, and the bare names."""
    return [name + kind for name in names for kind in ("", *(f":{of}{many}" for of in _TYPES for many in ("", "_seq")))]


def without_types(frame: pd.DataFrame) -> pd.DataFrame:
    """Takes the types off a header that RecBole wrote (``user_id:token``)."""
    frame.columns = frame.columns.str.replace(rf":({'|'.join(_TYPES)})(_seq)?$", "", regex=True)
    return frame


def _read_json(path: Path, _: Collection[str]) -> pd.DataFrame:
    """Reads one JSON object a line, or a single JSON array of objects."""
    with pa.input_stream(path) as stream:  # unpacks .gz
        content = stream.read().removeprefix(codecs.BOM_UTF8)
    if content.lstrip().startswith(b"["):
        rows = json.loads(content)
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("expected an array of objects, one for each row")
        names = dict.fromkeys(name for row in rows for name in row)
        return from_arrow(pa.table({name: pa.array([row.get(name) for row in rows]) for name in names}))
    return from_arrow(read_json_lines(content))


def read_json_lines(content: bytes, schema: pa.Schema | None = None) -> pa.Table:
    """Parses one JSON object a line, however long a line is.

    Args:
        content: The lines.
        schema: Types of columns; when not given, those that the values have as JSON. Texts that are dates stay texts.
    """
    size = pyarrow.json.ReadOptions(block_size=max(_JSON_BLOCK, min(len(content), _LARGEST_JSON_BLOCK)))
    options = pyarrow.json.ParseOptions(explicit_schema=schema)
    table = pyarrow.json.read_json(pa.BufferReader(content), read_options=size, parse_options=options)
    written = pa.schema([(field.name, _as_written(field.type)) for field in table.schema])
    return table if schema is not None or written.equals(table.schema) else read_json_lines(content, written)


def _as_written(kind: pa.DataType) -> pa.DataType:
    """Returns the type of what pyarrow takes for dates, which JSON has none of."""
    if pa.types.is_list(kind):
        return pa.list_(_as_written(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _as_written(field.type)) for field in kind])
    return pa.string() if pa.types.is_timestamp(kind) else kind


def _read_parquet(path: Path, _: Collection[str]) -> pd.DataFrame:
    return from_arrow(pq.read_table(path))


_READERS: Mapping[str, Callable[[Path, Collection[str]], pd.DataFrame]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".inter": _read_inter,
    ".parquet": _read_parquet,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".json": _read_json,
}


def from_arrow(table: pa.Table) -> pd.DataFrame:
    """Returns a table in pandas, with nullable integers, which as floats would be rounded; an index is no column."""
    nullable = {
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
    }
    table = table.select([name for name in table.column_names if not _PANDAS_INDEX.fullmatch(name)])
    frame: pd.DataFrame = table.to_pandas(types_mapper=nullable.get, ignore_metadata=True)
    return frame


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Gives the frame a fresh index, string column names and, where nothing is missing, NumPy columns.

    Integers with gaps stay nullable, because as floats large ids would be rounded.
    """
    frame = frame.reset_index(drop=True)
    frame.columns = frame.columns.astype(str)
    for name in frame.columns:
        column = frame[name]
        if column.dtype == object and pd.api.types.infer_dtype(column) == "mixed":
            cells = column.map(_with_texts_for_paths)
            frame[name] = as_lists(cells) if holds_lists(cells) else cells
        if isinstance(column.dtype, pd.ArrowDtype):  # of which pandas cannot read all that it writes
            column = from_arrow(pa.table({"": pa.chunked_array(column.array.__arrow_array__())}))[""]
            frame[name] = column
        if not pd.api.types.is_extension_array_dtype(column.dtype):
            continue
        if pd.api.types.is_float_dtype(column.dtype):
            frame[name] = column.to_numpy(dtype="float64", na_value=float("nan"))
        elif pd.api.types.is_integer_dtype(column.dtype) and not column.isna().any():
            unsigned = pd.api.types.is_unsigned_integer_dtype(column.dtype)
            frame[name] = column.to_numpy(dtype="uint64" if unsigned else "int64")
        elif pd.api.types.is_bool_dtype(column.dtype) and not column.isna().any():
            frame[name] = column.to_numpy(dtype="bool")
    return frame


def with_gaps(frame: pd.DataFrame, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Returns rows of a frame, missing cells for -1, beside which whole numbers stay whole.

    Args:
        frame: With a fresh index.
        rows: ``[n]`` positions.
    """
    if (rows < 0).any():
        frame = frame.astype({name: type_with_gaps(dtype) for name, dtype in frame.dtypes.items()})
    return frame.reindex(np.where(rows < 0, len(frame), rows)).reset_index(drop=True)


def type_with_gaps(dtype: Any) -> Any:
    """Returns the type of a column that gets missing cells: whole numbers stay whole."""
    return _NULLABLE.get(dtype.kind, dtype) if isinstance(dtype, np.dtype) else dtype


def _with_texts_for_paths(cell: Any) -> Any:
    """Returns a cell as it can be saved: paths as texts, those in a list too."""
    if isinstance(cell, PurePath):
        return str(cell)
    return [_with_texts_for_paths(one) for one in cell] if isinstance(cell, list | tuple) else cell


def holds_lists(column: pd.Series) -> bool:
    """Tells whether a cell of a column is a list of values."""
    return column.dtype == object and bool(column.map(lambda cell: isinstance(cell, list | tuple | np.ndarray)).any())


def as_lists(column: pd.Series) -> pd.Series:
    """Returns a column in which every text is a list of one, as it has to be beside cells that are lists."""
    return column.astype(object).map(lambda cell: [cell][: bool(cell.strip())] if isinstance(cell, str) else cell)


def check_savable(frame: pd.DataFrame, what: str) -> None:
    """Refuses columns that no Parquet file holds, which would show only when what was trained is saved.

    Raises:
        DataError: There is one.
    """
    for name, column in frame.items():
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufM":
            continue
        try:
            array = pa.array(column, from_pandas=True)
            pq.write_table(pa.table({"": array[:1]}), io.BytesIO())  # a row shows what the type is worth
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise DataError(f"{what}: column {name!r} cannot be saved, leave it out: {error}") from error


def check_column_names(names: list[Any], what: str) -> None:
    """Raises a :class:`~gnnrec.errors.DataError` if a name occurs twice, written out, or consists of several."""
    if tuples := [name for name in names if isinstance(name, tuple)]:
        raise DataError(f"{what}: a column needs one name, not the {len(tuples[0])} of {tuples[0]!r}; rename it")
    texts = pd.Series(list(map(str, names)), dtype=object)
    repeated = sorted(texts[texts.duplicated()].unique())
    if repeated:
        raise DataError(f"{what}: several columns are called {', '.join(map(repr, repeated))}; rename them")
