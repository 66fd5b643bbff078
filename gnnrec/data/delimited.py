"""Reads CSV, TSV and ``.inter`` files such that no id becomes another and no row part of a text."""

import csv
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

__all__ = ["check_rows", "csv_options", "extension", "names_like_numbers", "read_delimited"]

# Cells that mean "nothing here". Words such as "NA" or "None" stay: they are names of things.
_MISSING = ["", "NaN", "nan", "NULL", "null"]

# Digits behind a zero are a name, such as 007, and so are whole numbers with an E between them, such as 12E4: as a
# number it would be that of another. (Programs that write numbers put a point before the E, or a sign behind it.)
_NAME = r" *[+-]?(?:0\d|\d+[eE]\d)"
_SCANNED_BYTES = 1 << 24
_LONGEST_START = 64  # of a field: no more blanks are to be expected


def extension(path: Path) -> str:
    """Returns the extension in small letters, less a ``.gz``."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def csv_options(path: Path) -> dict[str, Any]:
    """Returns how ``pandas.read_csv`` reads a file with that extension."""
    return {
        "sep": "," if extension(path) == ".csv" else "\t",
        "quoting": csv.QUOTE_NONE if extension(path) == ".inter" else csv.QUOTE_MINIMAL,
        "na_values": _MISSING,
        "keep_default_na": False,
        "low_memory": False,
        "dtype_backend": "numpy_nullable",  # an integer id beside an empty cell would otherwise become a rounded float
    }


def read_delimited(path: Path, texts: Collection[str] = ()) -> pd.DataFrame:
    """Reads a whole file.

    Args:
        path: The file; its extension says what separates the fields, and whether texts may be in quotes.
        texts: Columns that are texts, whatever they look like.
    """
    frame: pd.DataFrame = pd.read_csv(path, dtype=dict.fromkeys(texts, "string"), **csv_options(path))
    check_rows(frame, path)
    for written in names_like_numbers(path, {str(name): dtype for name, dtype in frame.dtypes.items()}):
        frame[written.columns] = written
    return frame


def names_like_numbers(path: Path, types: Mapping[str, Any], chunk_rows: int | None = None) -> Iterator[pd.DataFrame]:
    """Yields, as texts, the columns of a file that look like numbers and hold names such as 007.

    Args:
        path: The file.
        types: Column → its type; those that are numbers are looked at.
        chunk_rows: Rows in each frame, of its own such columns; all rows when not given.
    """
    numbers = [name for name, dtype in types.items() if pd.api.types.is_numeric_dtype(dtype)]
    if not numbers or not _may_hold_names(path):
        return
    read = pd.read_csv(path, usecols=numbers, dtype="string", chunksize=chunk_rows, **csv_options(path))
    for written in [read] if isinstance(read, pd.DataFrame) else read:
        yield written[[name for name in written if written[name].str.match(_NAME).any()]]


def _may_hold_names(path: Path) -> bool:
    """Tells whether any field begins like such a name: a glance at the bytes."""
    pattern = re.compile(f'[\n\r{csv_options(path)["sep"]}"]{_NAME}'.encode())
    with pa.input_stream(path) as stream:  # unpacks .gz
        rest = b""
        while block := stream.read(_SCANNED_BYTES):
            if pattern.search(rest + block):
                return True
            rest = block[-_LONGEST_START:]
    return False


def check_rows(frame: pd.DataFrame, path: Path) -> None:
    """Raises a ``ValueError`` where pandas would misread rows without a word.

    With rows longer than the header it takes the first column for labels, and a text that begins with a quote goes on
    to the next quote, over the rows between.
    """
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError("the rows have more fields than the header; is a comma within a text not in quotes?")
    if extension(path) == ".csv":
        return
    for name in map(str, frame.select_dtypes("string")):
        holds_rows = frame[name].str.contains(r"\n[^\t]*\t", regex=True).fillna(False).to_numpy(dtype=bool)
        if holds_rows.any():
            row = int(holds_rows.argmax())
            raise ValueError(f"row {row}, column {name!r}: a quote begins a text that holds rows; double it")
