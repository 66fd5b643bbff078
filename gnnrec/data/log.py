"""Turns the frame of interactions into typed columns, and marks the rows in which one cannot be read."""

import datetime
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.config import suggest
from gnnrec.data.schema import COLUMN_ALIASES
from gnnrec.errors import DataError

__all__ = [
    "Fault",
    "Log",
    "as_columns",
    "empty_log",
    "find_column",
    "log_columns",
    "parse_numbers",
    "parse_timestamps",
    "read_log",
    "required_column",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Fault:
    """One way in which rows can be invalid.

    Attributes:
        column: The column at fault, as the frame calls it.
        reason: What is wrong, in words.
        rows: ``[num_rows]`` boolean, true for the invalid rows.
    """

    column: str
    reason: str
    rows: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Log:
    """Interactions in typed columns, one entry for each row of the frame.

    Attributes:
        user_ids: ``[num_rows]`` as the frame has them, possibly missing.
        item_ids: ``[num_rows]`` as the frame has them, possibly missing.
        weight: ``[num_rows]`` float32, not finite where it cannot be read; ``None`` without the column.
        timestamp: ``[num_rows]`` float64 seconds, not finite where it cannot be read; ``None`` without the column.
        columns: All other columns.
        faults: What is invalid in which rows.
    """

    user_ids: pd.Series
    item_ids: pd.Series
    weight: NDArray[np.float32] | None
    timestamp: NDArray[np.float64] | None
    columns: pd.DataFrame
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int:
        return len(self.user_ids)

    def take(self, rows: NDArray[np.bool_]) -> "Log":
        """Returns the marked rows, in order, without their faults."""
        return Log(
            user_ids=self.user_ids[rows],
            item_ids=self.item_ids[rows],
            weight=None if self.weight is None else self.weight[rows],
            timestamp=None if self.timestamp is None else self.timestamp[rows],
            columns=self.columns[rows],
        )


def read_log(frame: pd.DataFrame, columns: Mapping[str, str]) -> Log:
    """Finds the columns of a log and reads them.

    Args:
        frame: The interactions, at least one row.
        columns: Role (``user_id``, ``item_id``, ``weight``, ``timestamp``) → name of the column, where
            the name is not one of the aliases.

    Raises:
        DataError: The frame is empty, has no user or item column, or lacks a column that ``columns`` names.
    """
    if len(frame) == 0:
        raise DataError("interactions: the frame holds no rows")
    names = log_columns(frame, columns)
    user, item, weight, timestamp = names["user_id"], names["item_id"], names.get("weight"), names.get("timestamp")
    faults = [
        Fault(user, "missing user id", frame[user].isna().to_numpy()),
        Fault(item, "missing item id", frame[item].isna().to_numpy()),
    ]
    weights = seconds = None
    if weight is not None:
        with np.errstate(over="ignore"):
            weights = parse_numbers(frame[weight]).astype(np.float32)
        faults.append(Fault(weight, "weight is not a finite number", ~np.isfinite(weights)))
    if timestamp is not None:
        seconds = parse_timestamps(frame[timestamp])
        faults.append(Fault(timestamp, "timestamp cannot be read", ~np.isfinite(seconds)))
    return Log(
        user_ids=frame[user],
        item_ids=frame[item],
        weight=weights,
        timestamp=seconds,
        columns=frame.drop(columns=list(names.values())),
        faults=tuple(faults),
    )


def log_columns(frame: pd.DataFrame, columns: Mapping[str, str], what: str = "interactions") -> dict[str, str]:
    """Returns which column of a log plays which role; roles that no column plays are absent.

    Raises:
        DataError: There is no user or item column, ``columns`` names a column that is not there, or one for two roles,
            or a role is unknown.
    """
    for role, name in columns.items():
        if role not in COLUMN_ALIASES:
            raise DataError(f"columns= has the unknown role {role!r}{suggest(role, COLUMN_ALIASES)}")
        if role in ("weight", "timestamp") and name not in frame.columns:
            raise DataError(f"{what}: no column {name!r} for {role}; there are {_names(frame)}")
    found = {role: required_column(frame, role, what, columns) for role in ("user_id", "item_id")}
    for role in ("weight", "timestamp"):
        if (optional := find_column(frame, role, what, columns)) is not None:
            found[role] = optional
    role_of: dict[str, str] = {}
    for role, name in found.items():
        if role_of.setdefault(name, role) != role:
            raise DataError(f"columns= has {name!r} for both {role_of[name]} and {role}; a column has one role")
    return found


def as_columns(columns: Mapping[str, str] | None) -> Mapping[str, str]:
    """Returns which roles are named; ``None`` names none.

    Raises:
        DataError: It is no mapping.
    """
    if columns is not None and not isinstance(columns, Mapping):
        raise DataError(f"columns= takes a mapping of roles to names, as {{'user_id': 'customer'}}, not {columns!r}")
    return columns or {}


def empty_log() -> Log:
    """Returns the log of a data set that has media only."""
    return Log(
        user_ids=pd.Series([], name="user_id", dtype=object),
        item_ids=pd.Series([], name="item_id", dtype=object),
        weight=None,
        timestamp=None,
        columns=pd.DataFrame(),
    )


def find_column(frame: pd.DataFrame, role: str, what: str, columns: Mapping[str, str]) -> str | None:
    """Returns the column that plays a role: the one the caller named, else the best alias; ``None`` without one."""
    if columns.get(role) in frame.columns:
        return columns[role]
    taken = set(columns.values())
    matches = [name for name in COLUMN_ALIASES[role] if name in frame.columns and name not in taken]
    if len(matches) > 1:
        logger.warning("%s: columns %s could all be %s; using %r", what, matches, role, matches[0])
    return matches[0] if matches else None


def required_column(frame: pd.DataFrame, role: str, what: str, columns: Mapping[str, str] | None = None) -> str:
    """Returns the column that :func:`find_column` finds; without ``columns``, one that is called as usual.

    Raises:
        DataError: There is none.
    """
    name = find_column(frame, role, what, columns or {})
    if name is None:
        hint = f"rename one to {role!r}" if columns is None else f"name it with columns={{{role!r}: ...}}"
        raise DataError(
            f"{what}: no column for {role} (known names: {', '.join(COLUMN_ALIASES[role])}); "
            f"there are {_names(frame)}; {hint}"
        )
    return name


def parse_numbers(column: pd.Series) -> NDArray[np.float64]:
    """Returns a column as float64; what is not a number becomes NaN."""
    numbers = pd.to_numeric(column, errors="coerce")
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))


def parse_timestamps(column: pd.Series) -> NDArray[np.float64]:
    """Returns numbers as they are, and dates and ISO 8601 texts as seconds since 1970 UTC; else NaN.

    Texts without a time zone are taken as UTC.
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        return parse_numbers(column)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _seconds(pd.to_datetime(column, utc=True))
    text = column.astype(object).where(column.notna(), None)
    is_date = text.map(lambda value: isinstance(value, datetime.date | np.datetime64)).astype(bool)
    numbers = parse_numbers(text.where(~is_date, None))
    no_number = text.where(np.isnan(numbers), None).astype("string")  # 1500 is no year
    dates = pd.to_datetime(no_number, format="ISO8601", errors="coerce", utc=True)
    return np.where(np.isnan(numbers), _seconds(dates), numbers)


def _seconds(dates: pd.Series) -> NDArray[np.float64]:
    elapsed = (dates - pd.Timestamp(0, tz="UTC").as_unit("us")) / pd.Timedelta(seconds=1)
    return np.asarray(elapsed.to_numpy(dtype=np.float64, na_value=np.nan))


def _names(frame: pd.DataFrame) -> str:
    return ", ".join(map(repr, frame.columns)) or "none"
