"""Builds a data set from a log, side tables, modality specifications and relations."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.data.cleaning import Cleaning, CleaningReport, as_policy, as_threshold, clean_log
from gnnrec.data.dataset import Dataset
from gnnrec.data.events import Events, RelationEdges
from gnnrec.data.frames import check_savable, read_frame, with_gaps
from gnnrec.data.ids import IdArray, IdMap, as_id_array, kind_in_words, listed
from gnnrec.data.log import Log, as_columns, empty_log, parse_numbers, read_log, required_column
from gnnrec.data.schema import COLUMN_ALIASES, MediaSpec, ModalitySpec, Owner, Relation, Text, Vectors, spec_columns
from gnnrec.errors import DataError

__all__ = ["CleanedLog", "LogIds", "as_vectors", "assemble", "build_dataset"]

logger = logging.getLogger(__name__)

_RESERVED = ("user", "item")  # node types of the graph, so no modality can be called that


@dataclass(frozen=True, eq=False)
class LogIds:
    """Ids of the users or of the items of a log, in any order, repeated or not.

    Attributes:
        column: The column that they come from, for messages.
        kept: Ids in the rows that cleaning left.
        given: Ids in all rows; missing ones among them are overlooked.
    """

    column: str
    kept: Any
    given: Any


@dataclass(frozen=True, eq=False)
class CleanedLog:
    """What a data set takes from its log.

    Attributes:
        ids: Whose ids → those of the log.
        events: Returns the events in positions of the catalogue, which is known later.
        report: What cleaning removed.
        library: ``pandas``, ``polars`` or ``pyarrow``: what the log came in.
    """

    ids: Mapping[Owner, LogIds]
    events: Callable[[Mapping[Owner, IdMap]], Events]
    report: CleaningReport
    library: str = "pandas"


@dataclass(frozen=True, eq=False)
class _SideTable:
    """A side table without its id column, which was called ``column``; ``ids[row]`` says whose row it is."""

    column: str
    ids: IdArray
    frame: pd.DataFrame


def build_dataset(
    interactions: Any,
    items: Any = None,
    users: Any = None,
    modalities: Mapping[str, ModalitySpec] | None = None,
    relations: Mapping[str, Any] | None = None,
    cleaning: Cleaning | None = None,
    columns: Mapping[str, str] | None = None,
    positive_from: float | None = None,
    media_root: str | Path | None = None,
    text_ids: Collection[Owner] = (),
) -> Dataset:
    """Builds a data set; see :meth:`gnnrec.data.dataset.Dataset.from_frames`.

    ``text_ids`` says whose ids are texts in CSV and TSV files even where all look like numbers, since those of a data
    set that this one is put beside are.
    """
    cleaning, columns, positive_from = as_policy(cleaning), as_columns(columns), as_threshold(positive_from)
    log = _cleaned(interactions, cleaning, columns, positive_from, text_ids)
    dataset = assemble(log, items, users, modalities, relations, cleaning, columns, media_root, text_ids)
    if interactions is None and dataset.num_items == 0:
        raise DataError("without interactions a data set needs items: give items= or vectors of items")
    return replace(dataset, positive_from=positive_from)


def assemble(
    log: CleanedLog,
    items: Any,
    users: Any,
    modalities: Mapping[str, ModalitySpec] | None,
    relations: Mapping[str, Any] | None,
    cleaning: Cleaning,
    columns: Mapping[str, str],
    media_root: str | Path | None,
    text_ids: Collection[Owner] = (),
) -> Dataset:
    """Joins a cleaned log with side tables, modalities and relations; they are those of :meth:`Dataset.from_frames`.

    Raises:
        DataError: A table, modality or relation cannot be used; the message names it.
    """
    modalities = {} if modalities is None else modalities
    if not isinstance(modalities, Mapping):
        raise DataError(f"modalities= takes a mapping of names to what they are, not {type(modalities).__name__}")
    elsewhere: dict[str, int] = {}
    tables: dict[Owner, _SideTable | None] = {
        "item": _read_table(items, "item", columns, cleaning, elsewhere, text_ids),
        "user": _read_table(users, "user", columns, cleaning, elsewhere, text_ids),
    }
    for owner, table in tables.items():
        _check_named_id(owner, columns, log.ids[owner].column, table)
    vectors = {name: as_vectors(name, spec) for name, spec in modalities.items() if isinstance(spec, Vectors)}
    catalogue = {owner: _catalogue(owner, log.ids[owner], tables[owner], vectors) for owner in tables}
    specs = {
        name: _clean_vectors(name, vectors[name], cleaning, elsewhere)
        if name in vectors
        else _checked_media(name, spec, tables, media_root)
        for name, spec in modalities.items()
    }
    edges = {name: read_edges(name, given, catalogue, cleaning, elsewhere) for name, given in (relations or {}).items()}
    if elsewhere:
        logger.warning("removed rows outside the log: %s", elsewhere)
    dataset = Dataset(
        users=catalogue["user"],
        items=catalogue["item"],
        events=log.events(catalogue),
        user_table=_aligned(tables["user"], catalogue["user"]),
        item_table=_aligned(tables["item"], catalogue["item"]),
        modalities=specs,
        relations=edges,
        frame_library=log.library,
        cleaning_report=replace(log.report, removed_elsewhere=elsewhere),
    )
    logger.info("%d users, %d items, %d events", dataset.num_users, dataset.num_items, log.report.rows_out)
    return dataset


def _cleaned(
    interactions: Any,
    cleaning: Cleaning,
    columns: Mapping[str, str],
    positive_from: float | None,
    text_ids: Collection[Owner],
) -> CleanedLog:
    library: str = "pandas"
    if interactions is None:
        raw = log = empty_log()
        positive, report = np.empty(0, dtype=bool), CleaningReport(0, 0)
    else:
        frame, library = read_frame(interactions, "interactions", _id_names(text_ids, columns))
        raw = read_log(frame, columns)
        log, positive, report = clean_log(raw, cleaning, positive_from)
    return CleanedLog(
        ids={
            "item": LogIds(str(raw.item_ids.name), log.item_ids, raw.item_ids),
            "user": LogIds(str(raw.user_ids.name), log.user_ids, raw.user_ids),
        },
        events=partial(_events, log.take(positive)),
        report=report,
        library=library,
    )


def _id_names(owners: Collection[Owner], columns: Mapping[str, str]) -> list[str]:
    """Returns what the columns with the ids of users or of items may be called."""
    roles = [f"{owner}_id" for owner in owners]
    return [name for role in roles for name in ((columns[role],) if role in columns else COLUMN_ALIASES[role])]


def _read_table(
    source: Any,
    owner: Owner,
    columns: Mapping[str, str],
    cleaning: Cleaning,
    elsewhere: dict[str, int],
    text_ids: Collection[Owner],
) -> _SideTable | None:
    if source is None:
        return None
    what, role = f"{owner} table", f"{owner}_id"
    frame, _ = read_frame(source, what, _id_names([owner] if owner in text_ids else [], columns))
    name = required_column(frame, role, what, columns)
    missing = frame[name].isna().to_numpy()
    if missing.any():
        if cleaning.invalid == "error":
            raise DataError(f"{what}: row {int(missing.argmax())}, column {name!r}: missing {owner} id")
        elsewhere[f"{what}: missing {owner} id"] = int(missing.sum())
        frame = frame[~missing]
    ids = as_id_array(frame[name], f"{what}, column {name!r}")
    repeated = pd.unique(ids[pd.Series(ids).duplicated().to_numpy()])
    if len(repeated):
        raise DataError(f"{what}: column {name!r} repeats {listed(repeated)}; keep one row per {owner}")
    check_savable(frame, what)
    return _SideTable(name, ids, frame.drop(columns=name).reset_index(drop=True))


def _check_named_id(owner: Owner, columns: Mapping[str, str], of_log: str, table: _SideTable | None) -> None:
    """Refuses a name for the ids that neither the log nor the side table has, instead of taking an alias for it."""
    name = columns.get(f"{owner}_id")
    if name is not None and name != of_log and (table is None or name != table.column):
        beside = "" if table is None else f", and of the {owner} table {table.column!r}"
        raise DataError(
            f"columns= says that {owner}_id is {name!r}, which is not there; that of the log is {of_log!r}{beside}"
        )


def _catalogue(owner: Owner, ids: LogIds, table: _SideTable | None, vectors: Mapping[str, Vectors]) -> IdMap:
    """Collects the ids of one side: those in the cleaned log, in the side table and with vectors."""
    what = f"interactions, column {ids.column!r}"
    sources = [as_id_array(ids.kept, what)]
    if table is not None:
        sources.append(table.ids)
    own_vectors = {name: spec for name, spec in vectors.items() if spec.of == owner}
    if table is not None and own_vectors:
        known = IdMap.from_values([as_id_array(pd.Series(ids.given).dropna(), what), table.ids], owner)
        for name, spec in own_vectors.items():
            unknown = spec.ids[known.find(spec.ids) < 0]
            if len(unknown):
                raise DataError(
                    f"modality {name!r}: vectors of {owner}s that are neither in the {owner} table nor in the log: "
                    f"{listed(pd.unique(unknown))}"
                )
    return IdMap.from_values([*sources, *(spec.ids for spec in own_vectors.values())], owner)


def as_vectors(name: str, spec: Vectors) -> Vectors:
    """Checks the form of precomputed vectors; returns a copy of them as a float32 matrix with an id array.

    Raises:
        DataError: Anything else than a matrix of numbers with one id per row.
    """
    what = f"modality {name!r}"
    if not isinstance(spec, Vectors):
        raise DataError(f"{what}: expected gnnrec.Vectors(matrix, ids=…), got {type(spec).__name__}")
    tensor = spec.matrix
    if hasattr(tensor, "detach"):  # a torch tensor, perhaps on a device, perhaps in a precision that NumPy lacks
        tensor = tensor.detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
    try:
        matrix = np.asarray(tensor)
    except ValueError as error:
        raise DataError(f"{what}: the matrix is ragged; every row needs the same width") from error
    except TypeError as error:
        raise DataError(f"{what}: expected a dense matrix of numbers [rows, dim]: {error}") from error
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiub":
        raise DataError(
            f"{what}: expected a dense matrix of numbers [rows, dim], got shape {matrix.shape} of {matrix.dtype}"
        )
    if matrix.shape[1] == 0:
        raise DataError(f"{what}: the matrix has no columns")
    ids = as_id_array(spec.ids, f"{what}, ids")
    if len(ids) != len(matrix):
        raise DataError(f"{what}: {len(matrix)} rows but {len(ids)} ids; give one id per row")
    if spec.of not in ("item", "user"):
        raise DataError(f"{what}: vectors are of='item' or of='user', not {spec.of!r}")
    with np.errstate(over="ignore"):
        return Vectors(np.array(matrix, dtype=np.float32, order="C"), ids.copy(), spec.of)


def _clean_vectors(name: str, spec: Vectors, cleaning: Cleaning, elsewhere: dict[str, int]) -> Vectors:
    _check_name(name)
    kept = np.isfinite(spec.matrix).all(axis=1)
    if not kept.all():
        if cleaning.invalid == "error":
            row = int((~kept).argmax())
            raise DataError(f"modality {name!r}: row {row} ({spec.of} {spec.ids[row]!r}) is not finite")
        elsewhere[f"modality {name!r}: not finite"] = int((~kept).sum())
    if cleaning.feature_outliers is not None:
        outliers = _outliers(spec.matrix, kept, cleaning.feature_outliers)
        if outliers.any():
            elsewhere[f"modality {name!r}: outlier"] = int(outliers.sum())
        kept &= ~outliers
    return spec if kept.all() else Vectors(spec.matrix[kept], spec.ids[kept], spec.of)


def _outliers(matrix: NDArray[np.float32], finite: NDArray[np.bool_], bound: float) -> NDArray[np.bool_]:
    """Marks the finite rows that lie unusually far from the mean row."""
    centre = matrix[finite].mean(axis=0, dtype=np.float64)
    distance = np.full(len(matrix), -np.inf)
    distance[finite] = np.linalg.norm(matrix[finite] - centre, axis=1)
    typical, spread = distance[finite].mean(), distance[finite].std()
    return np.asarray(distance > typical + bound * spread)


def _checked_media(
    name: str, spec: ModalitySpec, tables: Mapping[Owner, _SideTable | None], media_root: str | Path | None
) -> MediaSpec:
    _check_name(name)
    if not isinstance(spec, MediaSpec):
        raise DataError(f"modality {name!r}: expected Text, Image, Audio, Video or Vectors, got {type(spec).__name__}")
    table = tables.get(spec.of)
    if table is None:
        raise DataError(f"modality {name!r} reads a table of {spec.of}s, but {spec.of}s= was not given")
    for column in spec_columns(spec):
        if column not in table.frame:
            raise DataError(
                f"modality {name!r}: the {spec.of} table has no column {column!r}; "
                f"there are {', '.join(map(repr, table.frame.columns))}"
            )
    if media_root is not None and not isinstance(spec, Text) and spec.media_root is None:
        return replace(spec, media_root=media_root)
    return spec


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name or name in _RESERVED:
        raise DataError(f"a modality cannot be called {name!r}; choose another name than {' and '.join(_RESERVED)}")


def read_edges(
    name: str, given: Any, catalogue: Mapping[Owner, IdMap], cleaning: Cleaning, elsewhere: dict[str, int]
) -> RelationEdges:
    """Reads a relation; edges with an unknown end or an unreadable weight are dropped and counted.

    Args:
        name: What it is called.
        given: A :class:`Relation`, or a frame or path of one between users.
        catalogue: Owner → the ids that its ends may have.
        cleaning: Whether a bad edge is an error.
        elsewhere: Reason → number of dropped rows, to be added to.

    Raises:
        DataError: A column is missing or, with ``invalid="error"``, an edge is bad.
    """
    relation = given if isinstance(given, Relation) else Relation(given)
    what = f"relation {name!r}"
    ends = ("source_id", "target_id")
    ids = catalogue[relation.between]
    frame, _ = read_frame(relation.frame, what, ends if ids.kind == "str" else ())
    for column in ends:
        if column not in frame:
            raise DataError(f"{what}: no column {column!r}; there are {', '.join(map(repr, frame.columns))}")
    weight = np.ones(len(frame)) if "weight" not in frame else parse_numbers(frame["weight"])
    source, target = (_positions(frame[end], ids, f"{what}, column {end!r}") for end in ends)
    kept = np.ones(len(frame), dtype=bool)
    for rows, reason in (
        ((source < 0) | (target < 0), f"unknown {relation.between}"),
        (~np.isfinite(weight), "weight is not a finite number"),
        (weight <= 0, "weight is not above 0"),
    ):
        newly = rows & kept
        if newly.any() and cleaning.invalid == "error":
            raise DataError(f"{what}: row {int(newly.argmax())}: {reason}")
        if newly.any():
            elsewhere[f"{what}: {reason}"] = int(newly.sum())
        kept &= ~newly
    return RelationEdges(relation.between, source[kept], target[kept], weight[kept].astype(np.float32))


def _positions(column: pd.Series, ids: IdMap, what: str) -> NDArray[np.int64]:
    """Returns the catalogue position of each cell, -1 where it is missing or unknown."""
    positions = np.full(len(column), -1, dtype=np.int64)
    present = column.notna().to_numpy()
    given = as_id_array(column[present], what)
    if len(given) and len(ids) and given.dtype.kind != ids.ids.dtype.kind:
        raise DataError(
            f"{what} holds {kind_in_words(given)}, such as {given[:1].tolist()[0]!r}, and the {ids.what} ids are "
            f"{kind_in_words(ids.ids)}"
        )
    positions[present] = ids.find(given)
    return positions


def _events(log: Log, catalogue: Mapping[Owner, IdMap]) -> Events:
    return Events(
        user_index=catalogue["user"].index_of(log.user_ids),
        item_index=catalogue["item"].index_of(log.item_ids),
        weight=log.weight,
        timestamp=log.timestamp,
        columns={str(name): log.columns[name].to_numpy() for name in log.columns},
    )


def _aligned(table: _SideTable | None, ids: IdMap) -> pd.DataFrame | None:
    """Brings a side table into catalogue order; ids without a row get missing cells, which keep whole numbers whole."""
    if table is None:
        return None
    rows = IdMap(table.ids, ids.what).find(ids.ids)
    absent = int((rows < 0).sum())
    if absent:
        logger.info("%d %ss of the log have no row in the %s table", absent, ids.what, ids.what)
    return with_gaps(table.frame, rows)
