"""Keeps what was measured: one small Parquet file per fit, and one line per reading of a test set.

A row is written whole or not at all, under a name of its own, so any number of harnesses may write side by side.
"""

import datetime
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

RESULTS = Path(__file__).parents[1] / "results"

MASKS = ("train", "train+valid")
TEST_METRICS = ("recall@10", "recall@20", "recall@50", "ndcg@10", "ndcg@20")
PER_USER_METRICS = ("recall@20", "ndcg@20")  # what the bootstrap compares
COLD_METRICS = ("recall@20", "ndcg@20")
VIEWS = ("warm", "cold among cold", "cold among all")  # those of gnnrec.cold_start_report, which imports torch
RARE = 3  # training events of an item up to which it counts as rare
RARE_PER_USER = "test recall@20 of rare items, per user"
AMONG_RARE_PER_USER = "test recall@20 of rare items among rare items, per user"
TRADE_OFF = ("test trade-off, warm", "test trade-off, cold among all")  # recall@20, 101 points of a curve
HARMONIC_MEAN = "test recall@20, harmonic mean of warm and cold among all"

_SLICE = pa.struct(
    [("slice", pa.string()), ("num_users", pa.int64()), ("num_pairs", pa.int64()), ("recall@20", pa.float64())]
)


def test_column(metric: str, mask: str) -> str:
    """Returns the column of a test metric, such as ``test recall@20, train+valid masked``."""
    return f"test {metric}, {mask} masked"


def cold_column(metric: str) -> str:
    """Returns the column of a metric of cold items ranked among cold items."""
    return f"test {metric} of cold items among cold items"


def view_column(part: str, metric: str, view: str) -> str:
    """Returns the column of a metric of cold or warm items, such as ``test recall@20, cold among all``."""
    return f"{part} {metric}, {view}"


def per_user_column(column: str) -> str:
    """Returns the column of what the named one is the mean of: a value of each user, in the order of the catalogue."""
    return f"{column}, per user"


@dataclass(frozen=True)
class Table:
    """One kind of rows.

    Attributes:
        folder: Where they lie, below the results.
        schema: Their columns.
    """

    folder: str
    schema: pa.Schema


# Absent values are null. Structures that differ from model to model are JSON texts.
_OF_EVERY_FIT = [
    ("dataset", pa.string()),
    ("model", pa.string()),
    ("variant", pa.string()),  # "" or the name of the changed options
    ("seed", pa.int64()),
    ("status", pa.string()),  # "ok" or "failed"
    ("reason", pa.string()),  # why it failed, else ""
    ("options", pa.string()),  # JSON: what the command line changed
    ("hyperparameters", pa.string()),  # JSON: what validation chose from the grid
    ("config", pa.string()),  # JSON: all options, where the package tells them
    ("trials", pa.string()),  # JSON: every candidate with its validation recall@20 and seconds
    ("package", pa.string()),
    ("deterministic", pa.bool_()),  # the seed changes nothing
    ("versions", pa.string()),  # JSON: package -> version
    ("machine", pa.string()),
    ("cores", pa.int64()),
    ("threads", pa.int64()),
    ("device", pa.string()),
    ("date", pa.string()),
    ("fit_seconds", pa.float64()),  # the fit that is measured, with its choice of epochs; without media encoding
    ("search_seconds", pa.float64()),  # all candidates of the grid together
    ("peak_memory_gib", pa.float64()),  # of the whole process, until the last fit ends
    ("peak_device_memory_gib", pa.float64()),
    ("best_epoch", pa.int64()),
    ("epochs", pa.int64()),
    ("valid recall@20", pa.float64()),  # what chose the hyper-parameters; training pairs hidden
]

QUALITY = Table(
    "quality",
    pa.schema(
        [
            *_OF_EVERY_FIT,
            ("num_test_users", pa.int64()),
            *((test_column(metric, mask), pa.float64()) for mask in MASKS for metric in TEST_METRICS),
            *((cold_column(metric), pa.float64()) for metric in COLD_METRICS),
            ("num_cold_test_users", pa.int64()),
            (RARE_PER_USER, pa.list_(pa.float32())),  # of the users with such a test item, all items ranked
            (AMONG_RARE_PER_USER, pa.list_(pa.float32())),  # of the same users, only rare items ranked
            ("slices", pa.list_(_SLICE)),  # recall@20 by training events of the item, strictest mask
            *(
                (per_user_column(test_column(metric, mask)), pa.list_(pa.float32()))
                for mask in MASKS
                for metric in PER_USER_METRICS
            ),
        ]
    ),
)

# Training and validation pairs are hidden.
COLD_START = Table(
    "cold-start",
    pa.schema(
        [
            *_OF_EVERY_FIT,
            *(
                (view_column(part, metric, view), pa.float64())
                for part in ("valid", "test")
                for view in VIEWS
                for metric in COLD_METRICS
            ),
            (HARMONIC_MEAN, pa.float64()),
            *((name, pa.list_(pa.float32())) for name in TRADE_OFF),
            *((view_column("test", "users", view), pa.int64()) for view in VIEWS),
            *(
                (per_user_column(view_column("test", metric, view)), pa.list_(pa.float32()))
                for view in VIEWS
                for metric in COLD_METRICS
            ),
        ]
    ),
)

# Validation pairs, the training pairs hidden; the options name the modality, the kind and the share of the damage.
ROBUSTNESS = Table(
    "robustness",
    pa.schema(
        [
            *_OF_EVERY_FIT,
            *((view_column("valid", "recall@20", view), pa.float64()) for view in VIEWS),
            *((per_user_column(view_column("valid", "recall@20", view)), pa.list_(pa.float32())) for view in VIEWS),
        ]
    ),
)


@dataclass(frozen=True)
class Fit:
    """Names one fit: what its row is found by.

    Attributes:
        dataset: Name of the data set.
        model: Name of the model.
        seed: Seed of the fit.
        variant: Name of the changed options; empty for the model as it comes.
    """

    dataset: str
    model: str
    seed: int
    variant: str = ""

    def __str__(self) -> str:
        variant = f" ({self.variant})" if self.variant else ""
        return f"{self.dataset} · {self.model}{variant} · seed {self.seed}"


def row_path(results: Path, fit: Fit, table: Table = QUALITY) -> Path:
    """Returns the file of a fit's row."""
    variant = f".{fit.variant.replace(' ', '-')}" if fit.variant else ""
    return results / table.folder / fit.dataset / f"{fit.model}{variant}-{fit.seed}.parquet"


def write_row(results: Path, fit: Fit, values: Mapping[str, Any], table: Table = QUALITY) -> Path:
    """Writes the row of a fit, all at once.

    Raises:
        KeyError: A value has no column.
    """
    row: dict[str, Any] = {
        "dataset": fit.dataset,
        "model": fit.model,
        "variant": fit.variant,
        "seed": fit.seed,
        "reason": "",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **values,
    }
    if unknown := set(row) - set(table.schema.names):
        raise KeyError(f"no such columns: {sorted(unknown)}")
    path = row_path(results, fit, table)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    pq.write_table(pa.Table.from_pylist([row], schema=table.schema), partial, compression="zstd", compression_level=19)
    partial.rename(path)
    return path


def read_row(results: Path, fit: Fit, table: Table = QUALITY) -> dict[str, Any] | None:
    """Returns the row of a fit without its per-user values, or ``None``; a column younger than the row is null."""
    path = row_path(results, fit, table)
    if not path.exists():
        return None
    columns = [name for name in table.schema.names if not name.endswith("per user")]
    return pq.read_table(path, columns=columns, schema=table.schema).to_pylist()[0]


def read_rows(results: Path, table: Table = QUALITY) -> pd.DataFrame:
    """Returns all rows, in the order of their files."""
    files = sorted((results / table.folder).glob("*/*.parquet"))
    tables = [pq.read_table(file, schema=table.schema) for file in files]
    return pa.concat_tables([table.schema.empty_table(), *tables]).to_pandas()


def log_test_reading(results: Path, folder: str, fit: Fit, options: Mapping[str, Any]) -> None:
    """Appends the line of one reading of a test set; called before the reading, so that none goes unlogged.

    Args:
        results: Where the log lies.
        folder: That of the results which the reading is for. The oldest lines do not tell it.
        fit: What is read.
        options: Of the model.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = {"date": now, "for": folder, "dataset": fit.dataset, "model": fit.model, "seed": fit.seed}
    line |= {"variant": fit.variant, "options": dict(options)}
    results.mkdir(parents=True, exist_ok=True)
    log = os.open(results / "test-readings.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(log, (json.dumps(line) + "\n").encode())  # one write in append mode: lines of others stay whole
    finally:
        os.close(log)


def read_test_readings(results: Path) -> pd.DataFrame:
    """Returns the log of test readings, one row each."""
    path = results / "test-readings.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    columns = ["date", "for", "dataset", "model", "seed", "variant"]
    return pd.DataFrame([json.loads(line) for line in lines], columns=columns)
