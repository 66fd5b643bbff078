"""Turns log files of any size into a saved data set, in memory that does not grow with the rows.

The first pass parses the files and keeps the valid rows (:mod:`gnnrec.data.staging`). Then users and items are
numbered, repeated rows found (:mod:`gnnrec.data.numbering`) and bounds on events applied. The second pass writes the
events. What is finished is kept, so that an ingestion that was killed goes on from there.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnnrec.data.build import CleanedLog, LogIds
from gnnrec.data.cleaning import (
    Cleaning,
    CleaningReport,
    as_threshold,
    count_removed,
    is_positive,
    rows_of_each,
    within_event_bounds,
)
from gnnrec.data.dataset import Dataset
from gnnrec.data.events import Events
from gnnrec.data.frames import matching_files
from gnnrec.data.ids import IdMap
from gnnrec.data.numbering import OWNERS, NumberedLog, number_log
from gnnrec.data.schema import Owner
from gnnrec.data.staging import StagedLog, stage_log
from gnnrec.data.storage import check_place, save_in_pieces
from gnnrec.errors import ConfigError, DataError, MissingPackageError, StorageError
from gnnrec.storage import partial_folders

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["ingest"]

logger = logging.getLogger(__name__)


def ingest(
    pattern: str | Path,
    folder: str | Path,
    cleaning: Cleaning,
    build: Callable[[CleanedLog], Dataset],
    *,
    columns: Mapping[str, str],
    positive_from: float | None = None,
    keep_columns: Sequence[str] | None = None,
    memory_limit: str = "2GB",
    threads: int | None = None,
) -> Dataset:
    """Reads log files into a saved data set; see :meth:`gnnrec.data.dataset.Dataset.from_files`.

    Args:
        pattern: Path or glob of the files.
        folder: Where the data set is saved.
        cleaning: What to remove.
        build: Joins the log with all else that makes the data set.
        columns: Role → column name.
        positive_from: Events with a smaller weight are not positive.
        keep_columns: Further columns to keep; ``None`` for all.
        memory_limit: Of DuckDB.
        threads: Of DuckDB.
    """
    if not isinstance(pattern, str | Path):
        raise DataError(f"interactions: from_files takes a path or glob, not {type(pattern).__name__}; see from_frames")
    positive_from = as_threshold(positive_from)
    folder = Path(folder).absolute()
    check_place(folder)
    paths = matching_files(str(pattern), "interactions")
    workplace = folder.with_name(f".{folder.name}.ingestion")
    with _database(workplace, memory_limit, threads) as database:
        for unfinished in partial_folders(folder):  # of an ingestion that was killed: no other may run here
            shutil.rmtree(unfinished)
        log = stage_log(paths, workplace / "staged", columns, cleaning)
        if len(log) == 0:
            raise DataError(f"interactions: no row is valid: {CleaningReport(log.rows_in, 0, log.removed)}")
        further = log.further(keep_columns)
        numbered = number_log(log, workplace / "numbered", cleaning, database)
        kept, positive, report = _clean(log, numbered, cleaning, positive_from)
        dataset = replace(build(_cleaned(log, numbered, kept, report)), positive_from=positive_from)
        pieces = _pieces(log, numbered, kept & positive, dataset, further)
        save_in_pieces(dataset, folder, pieces, report.rows_out)
    shutil.rmtree(workplace, ignore_errors=True)
    return Dataset.load(folder)


@contextmanager
def _database(workplace: Path, memory_limit: str, threads: int | None) -> Iterator["DuckDBPyConnection"]:
    """Connects to a database in the workplace, which nobody else can open meanwhile."""
    try:
        import duckdb
    except ImportError as error:
        raise MissingPackageError("logs larger than memory need DuckDB: pip install 'gnnrec[stream]'") from error
    try:
        workplace.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(workplace / "database")
    except (OSError, duckdb.Error) as error:
        raise StorageError(f"cannot work in {str(workplace)!r}; does another ingestion run there? {error}") from error
    with connection:
        for unfinished in [*workplace.glob("spill"), *workplace.rglob(".*.partial")]:
            shutil.rmtree(unfinished)
        try:
            connection.execute("SET temp_directory = ?", [str(workplace / "spill")])
            connection.execute("SET enable_progress_bar = false")
            connection.execute("SET preserve_insertion_order = false")  # or results would be held back in memory
            connection.execute("SET memory_limit = ?", [memory_limit])
            if threads is not None:
                connection.execute("SET threads = ?", [threads])
        except duckdb.Error as error:
            raise ConfigError(f"memory_limit={memory_limit!r}, threads={threads!r}: {error}") from error
        try:
            yield connection
        except duckdb.Error as error:
            raise StorageError(
                f"DuckDB stopped; it may need a larger memory_limit= than {memory_limit}, or more room on the disk of "
                f"{str(workplace)!r}: {error}"
            ) from error


def _clean(
    log: StagedLog, numbered: NumberedLog, cleaning: Cleaning, positive_from: float | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], CleaningReport]:
    """Returns which rows are left, which are positive events, and what was removed, as ``clean_log`` does in memory."""
    removed, kept = dict(log.removed), numbered.first
    count_removed(removed, "exact duplicate", ~kept)
    positive = np.ones(len(log), dtype=bool)
    if positive_from is not None:
        positive = _positive(log, positive_from)
        count_removed(removed, f"weight below {positive_from:g}", kept & ~positive)
    if cleaning.bounds_events:
        users, items = (numbered.all_numbers(owner) for owner in OWNERS)
        shape = (len(numbered.ids["user"]), len(numbered.ids["item"]))
        kept = within_event_bounds(users, items, shape, kept, positive, cleaning, removed)
    report = CleaningReport(log.rows_in, int((kept & positive).sum()), removed)
    if report.rows_out == 0:
        raise DataError(f"interactions: no events are left: {report}")
    return kept, positive, report


def _positive(log: StagedLog, positive_from: float) -> NDArray[np.bool_]:
    if "weight" not in log.columns:
        return is_positive(None, positive_from, len(log))  # which says that there is no weight
    weights = (chunk["weight"].to_numpy() for chunk in log.chunks(["weight"]))
    return np.concatenate([is_positive(weight, positive_from, len(weight)) for weight in weights])


def _cleaned(log: StagedLog, numbered: NumberedLog, kept: NDArray[np.bool_], report: CleaningReport) -> CleanedLog:
    ids = {}
    for owner in OWNERS:
        given = numbered.ids[owner].ids
        has_rows = rows_of_each(numbered.all_numbers(owner), kept, len(given)) > 0
        ids[owner] = LogIds(log.columns[f"{owner}_id"], given[has_rows], given)
    none = np.empty(0, dtype=np.int64)
    types = Events(
        user_index=none,
        item_index=none,
        weight=none.astype(np.float32) if "weight" in log.columns else None,
        timestamp=none.astype(np.float64) if "timestamp" in log.columns else None,
    )
    return CleanedLog(ids, lambda catalogue: types, report)


def _pieces(
    log: StagedLog, numbered: NumberedLog, rows: NDArray[np.bool_], dataset: Dataset, further: Sequence[str]
) -> Iterator[tuple[Events, pa.Table]]:
    """Yields the marked rows as events in positions of the catalogue, with their further columns."""
    catalogue: Mapping[Owner, IdMap] = {"user": dataset.users, "item": dataset.items}
    position = {owner: catalogue[owner].find(numbered.ids[owner].ids) for owner in OWNERS}
    timed = [role for role in ("weight", "timestamp") if role in log.columns]
    start = 0
    for chunk in log.chunks(["user_id", *timed, *further]):
        taken = rows[start : start + len(chunk)]
        user, item = (position[owner][numbered.numbers(owner, start, len(chunk))[taken]] for owner in OWNERS)
        weight, timestamp = (
            chunk[role].to_numpy()[taken] if role in timed else None for role in ("weight", "timestamp")
        )
        yield Events(user, item, weight, timestamp), log.under_own_names(chunk.select(further).filter(taken))
        start += len(chunk)
