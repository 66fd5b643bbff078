"""Reads a file of any size as consecutive chunks of rows, which together are what ``read_frame`` gives as a whole."""

import gzip
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gnnrec.data.delimited import check_rows, csv_options, extension, names_like_numbers
from gnnrec.data.frames import check_column_names, from_arrow, plain, read_json_lines, with_types, without_types
from gnnrec.errors import DataError

__all__ = ["CHUNK_ROWS", "read_chunks"]

CHUNK_ROWS = 500_000
_JSON_BYTES = 1 << 26  # of text in a chunk of JSON lines
_PARQUET_BUFFER = 1 << 20  # bytes read ahead in each column, instead of a whole row group


def read_chunks(path: Path, what: str, texts: Collection[str] = ()) -> Iterator[pd.DataFrame]:
    """Yields the rows of a file in order, in chunks of about :data:`CHUNK_ROWS`.

    The type of a column is that of the whole column and not of the chunk. Text files do not say what it is, so they are
    read twice, the first time for the types alone.

    Args:
        path: CSV, TSV, ``.inter``, JSON lines (each perhaps with ``.gz``) or Parquet.
        what: What the file is, for messages.
        texts: Columns of CSV, TSV and ``.inter`` files that are texts, whatever they look like.

    Raises:
        DataError: The extension is unknown, or the file is empty or cannot be parsed.
    """
    suffix = extension(path)
    if suffix not in _READERS:
        raise DataError(f"{what}: cannot read {str(path)!r}; known extensions are {', '.join(_READERS)}")
    num_rows = 0
    try:
        for chunk in _READERS[suffix](path, texts):
            check_column_names(list(chunk.columns), f"{what}: {str(path)!r}")
            num_rows += len(chunk)
            if len(chunk):
                yield plain(chunk)
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, ValueError, pa.ArrowException) as error:  # parse errors are ValueErrors
        raise DataError(f"{what}: cannot read {str(path)!r}: {error}") from error
    if num_rows == 0:
        raise DataError(f"{what}: {str(path)!r} holds no rows")


def _read_inter(path: Path, texts: Collection[str]) -> Iterator[pd.DataFrame]:
    return map(without_types, _read_delimited(path, with_types(texts)))


def _read_delimited(path: Path, asked: Collection[str]) -> Iterator[pd.DataFrame]:
    types: dict[str, set[str]] = {}
    with pd.read_csv(path, chunksize=CHUNK_ROWS, **csv_options(path)) as chunks:
        for chunk in chunks:
            check_rows(chunk, path)
            for name in chunk.columns[chunk.notna().any()]:
                types.setdefault(name, set()).add(str(chunk[name].dtype))
    # A column with a text in any row consists of texts; whether numbers have a fraction may differ between chunks.
    texts = dict.fromkeys(asked, "string")
    texts |= {name: "string" for name, found in types.items() if len(found) > 1 and found != {"Int64", "Float64"}}
    numbers = {name: next(iter(found)) for name, found in types.items() if name not in texts}
    texts |= {str(name): "string" for written in names_like_numbers(path, numbers, CHUNK_ROWS) for name in written}
    with pd.read_csv(path, chunksize=CHUNK_ROWS, dtype=texts, **csv_options(path)) as chunks:
        yield from chunks


def _read_json_lines(path: Path, _: Collection[str]) -> Iterator[pd.DataFrame]:
    types: dict[str, pa.DataType] = {}
    for content in _lines(path):
        for field in read_json_lines(content).schema:
            types[field.name] = _joined_json(path, field, types.get(field.name, field.type))
    schema = pa.schema(list(types.items()))
    for content in _lines(path):
        yield from_arrow(read_json_lines(content, schema))


def _joined_json(path: Path, field: pa.Field, other: pa.DataType) -> pa.DataType:
    """Returns the type that pyarrow finds in a column whose parts are of two types."""
    try:
        fields = [pa.schema([(field.name, of_part)]) for of_part in {field.type, other}]
        return pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except pa.ArrowException as error:
        raise DataError(f"{str(path)!r}: column {field.name!r} is {other} in one row and {field.type} later") from error


def _lines(path: Path) -> Iterator[bytes]:
    """Yields a file in pieces of whole lines."""
    with _opened(path) as file:
        while lines := file.readlines(_JSON_BYTES):
            content = b"".join(lines)
            if content.lstrip().startswith(b"["):
                raise DataError(
                    f"{str(path)!r} is a JSON array, which must be read as a whole; write one object a line"
                )
            if content.strip():
                yield content


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _read_parquet(path: Path, _: Collection[str]) -> Iterator[pd.DataFrame]:
    with pq.ParquetFile(path, buffer_size=_PARQUET_BUFFER) as file:
        for batch in file.iter_batches(CHUNK_ROWS):
            yield from_arrow(pa.Table.from_batches([batch]))


_READERS: Mapping[str, Callable[[Path, Collection[str]], Iterator[Any]]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".inter": _read_inter,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json_lines,
}
