"""Shows results as tables on the terminal, or writes them to a file."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gnnrec.errors import ConfigError
from gnnrec.storage import whole_file

if TYPE_CHECKING:
    import pandas as pd

    from gnnrec.data.dataset import Dataset

__all__ = ["check_output", "held_out_frame", "print_frame", "print_rows", "write_frame"]

_IDS = ("user_id", "item_id", "query")
_WIDE = 10_000
_SMALL = 1e-3  # shows fewer than two digits with four behind the point
_FORMATS = (".csv", ".tsv", ".parquet", ".jsonl")


def print_rows(title: str, rows: Iterable[Sequence[Any]], columns: Sequence[str] = ()) -> None:
    """Shows rows under a heading; numbers stand on the right."""
    rows = [list(row) for row in rows]
    table = Table(title=Text(title), title_justify="left", title_style="bold", show_header=bool(columns))
    for number in range(len(rows[0]) if rows else len(columns)):
        numeric = bool(rows) and all(isinstance(row[number], int | float) for row in rows)
        table.add_column(Text(columns[number]) if columns else "", justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row))  # brackets in an id are no markup
    # A file or a pipe has no width that something would have to be cut to.
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def print_frame(title: str, frame: Any) -> None:
    """Shows a frame of any library as a table."""
    rows = _pandas(frame)
    rows = rows.astype({name: str for name in rows.columns if name in _IDS})  # 2,007 is no id
    print_rows(title, rows.astype(object).to_numpy().tolist(), list(rows.columns))


def write_frame(frame: Any, output: str) -> None:
    """Writes a frame of any library to a file, in the format that its ending names; ``-`` is CSV on standard output.

    Raises:
        ConfigError: An unknown ending.
        StorageError: The file cannot be written; what was there before stays.
    """
    check_output(output)
    rows = _pandas(frame)
    if output == "-":
        rows.to_csv(sys.stdout, index=False)
        return
    with whole_file(output) as file:
        if file.suffix == ".parquet":
            rows.to_parquet(file, index=False)
        elif file.suffix == ".jsonl":
            rows.to_json(file, orient="records", lines=True, force_ascii=False)
        else:
            rows.to_csv(file, index=False, sep="," if file.suffix == ".csv" else "\t")


def check_output(output: str | None) -> None:
    """Finds out before long work whether :func:`write_frame` knows the format.

    Raises:
        ConfigError: An unknown ending.
    """
    if output not in (None, "-") and Path(str(output)).suffix not in _FORMATS:
        raise ConfigError(f"--output {output!r} must end in one of {', '.join(_FORMATS)}, or be '-'")


def held_out_frame(dataset: "Dataset") -> "pd.DataFrame":
    """Returns the events of a data set in ids, as a log that can be read again."""
    import pandas as pd

    events = dataset.events
    columns: dict[str, Any] = {
        "user_id": dataset.users.ids_of(events.user_index),
        "item_id": dataset.items.ids_of(events.item_index),
    }
    columns |= {name: values for name in ("weight", "timestamp") if (values := getattr(events, name)) is not None}
    return pd.DataFrame(columns)


def _pandas(frame: Any) -> "pd.DataFrame":
    """Returns a frame of any library as pandas."""
    from gnnrec.data.frames import read_frame

    return read_frame(frame, "answer")[0]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2g}" if 0 < abs(value) < _SMALL else f"{value:.4f}"
    return f"{value:,}" if type(value) is int else str(value)
