"""Decides which rows of a log, and which feature rows, are kept, and reports why the others are not."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.data.log import Log
from gnnrec.errors import ConfigError, DataError

__all__ = [
    "STRICT",
    "Cleaning",
    "CleaningReport",
    "as_policy",
    "as_threshold",
    "clean_log",
    "count_removed",
    "drop_invalid",
    "is_positive",
    "rows_of_each",
    "within_event_bounds",
]

logger = logging.getLogger(__name__)

_BLOCK = 1 << 22  # rows that are counted at a time, so that what is computed on the way stays small


@dataclass(frozen=True)
class Cleaning:
    """What is removed from the data. The default removes only invalid rows and exact duplicates.

    The rules on numbers of events never take an item or user that has media (or a row in a side
    table) out of the catalogue; it stays there without events.

    Attributes:
        invalid: Whether rows with a missing id, a weight that is not finite, an unreadable timestamp, an
            unknown end of a relation or a feature that is not finite are dropped or are an error.
        duplicates: Whether rows that equal an earlier one in every column are dropped or kept.
        min_user_events: Users with fewer events leave, repeatedly together with ``min_item_events`` until
            all counts hold (the k-core).
        min_item_events: Items with fewer events leave.
        max_user_events: Users with more events leave first (robots, shared accounts).
        feature_outliers: Rows of ``Vectors`` leave whose distance from the mean row lies more than this
            many standard deviations above the mean distance.

    Raises:
        ConfigError: A bound is not positive or a policy is unknown.
    """

    invalid: Literal["drop", "error"] = "drop"
    duplicates: Literal["drop", "keep"] = "drop"
    min_user_events: int | None = None
    min_item_events: int | None = None
    max_user_events: int | None = None
    feature_outliers: float | None = None

    def __post_init__(self) -> None:
        for name, choices in (("invalid", ("drop", "error")), ("duplicates", ("drop", "keep"))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"cleaning.{name} is one of {choices}, not {getattr(self, name)!r}")
        for name in ("min_user_events", "min_item_events", "max_user_events", "feature_outliers"):
            bound = getattr(self, name)
            if bound is not None and (isinstance(bound, bool) or not isinstance(bound, Real) or not float(bound) > 0):
                raise ConfigError(f"cleaning.{name} must be positive, not {bound!r}; leave it out to switch it off")

    @property
    def bounds_events(self) -> bool:
        """Whether a rule on numbers of events is switched on."""
        return (self.max_user_events, self.min_user_events, self.min_item_events) != (None, None, None)


# What ``cleaning=None`` means: nothing is removed, and an invalid row is an error.
STRICT = Cleaning(invalid="error", duplicates="keep")


def as_policy(cleaning: Cleaning | None) -> Cleaning:
    """Returns the rules that are meant; ``None`` means ``STRICT``.

    Raises:
        ConfigError: Anything else than rules.
    """
    if cleaning is not None and not isinstance(cleaning, Cleaning):
        raise ConfigError(f"cleaning= takes a gnnrec.Cleaning, or None for strict reading, not {cleaning!r}")
    return STRICT if cleaning is None else cleaning


@dataclass(frozen=True)
class CleaningReport:
    """How many rows were removed, and why.

    Attributes:
        rows_in: Rows of the log as it was given.
        rows_out: Positive events that are left.
        removed: Reason → rows of the log; they add up to ``rows_in - rows_out``.
        removed_elsewhere: Reason → rows of side tables, relations and features.
    """

    rows_in: int
    rows_out: int
    removed: Mapping[str, int] = field(default_factory=dict)
    removed_elsewhere: Mapping[str, int] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, int]]:
        """Returns the report as (what, count) rows for a table."""
        return [
            ("rows in", self.rows_in),
            *self.removed.items(),
            ("events out", self.rows_out),
            *self.removed_elsewhere.items(),
        ]

    def __str__(self) -> str:
        removed = [f"{count:,} {reason}" for reason, count in {**self.removed, **self.removed_elsewhere}.items()]
        return f"{self.rows_in:,} rows → {self.rows_out:,} events; removed: {', '.join(removed) or 'nothing'}"


def clean_log(
    log: Log, cleaning: Cleaning, positive_from: float | None = None
) -> tuple[Log, NDArray[np.bool_], CleaningReport]:
    """Removes rows from a log.

    Args:
        log: The log as read.
        cleaning: What to remove.
        positive_from: Rows with a smaller weight are no positive events.

    Returns:
        The rows that are left, a mask ``[rows left]`` of those that are positive events (the others only
        tell that their users and items exist), and the report.

    Raises:
        DataError: A row is invalid and ``cleaning.invalid`` is ``"error"``, ``positive_from`` is given but the
            log has no weight, or no event is left.
    """
    removed: dict[str, int] = {}
    rows_in = len(log)
    log = drop_invalid(log, cleaning, removed)
    if removed:
        logger.warning("removed %d invalid rows of the log: %s", rows_in - len(log), removed)
    if cleaning.duplicates == "drop":
        log = _drop_duplicates(log, removed)
    positive = is_positive(log.weight, positive_from, len(log))
    if positive_from is not None:
        count_removed(removed, f"weight below {positive_from:g}", ~positive)
    kept = np.ones(len(log), dtype=bool)
    if cleaning.bounds_events:
        (user, num_users), (item, num_items) = _codes(log.user_ids), _codes(log.item_ids)
        kept = within_event_bounds(user, item, (num_users, num_items), kept, positive, cleaning, removed)
    report = CleaningReport(rows_in, int((kept & positive).sum()), removed)
    if report.rows_out == 0:
        raise DataError(f"interactions: no events are left: {report}")
    return log.take(kept), positive[kept], report


def drop_invalid(
    log: Log, cleaning: Cleaning, removed: dict[str, int], what: str = "interactions", first_row: int = 0
) -> Log:
    """Leaves out the rows that have a fault, and adds to ``removed`` how many there were for which reason.

    Args:
        log: A log, or consecutive rows of one.
        cleaning: Whether they are dropped or are an error.
        removed: Reason → rows removed before.
        what: What the rows are part of, for messages.
        first_row: Number of the first of the rows in ``what``.

    Raises:
        DataError: A row is invalid and ``cleaning.invalid`` is ``"error"``.
    """
    valid = np.ones(len(log), dtype=bool)
    for fault in log.faults:
        newly = fault.rows & valid  # a row with two faults is counted once
        if not newly.any():
            continue
        if cleaning.invalid == "error":
            raise DataError(f"{what}: row {first_row + int(newly.argmax())}, column {fault.column!r}: {fault.reason}")
        reason = f"{fault.reason} ({fault.column!r})"
        removed[reason] = removed.get(reason, 0) + int(newly.sum())
        valid &= ~newly
    return log if valid.all() else log.take(valid)


def _drop_duplicates(log: Log, removed: dict[str, int]) -> Log:
    """Keeps the first of rows that are equal in all columns, the unnamed ones included."""
    parts = [log.user_ids.rename(None), log.item_ids.rename(None)]
    parts += [pd.Series(values, log.user_ids.index) for values in (log.weight, log.timestamp) if values is not None]
    rows = pd.concat([*parts, *(log.columns[name] for name in log.columns)], axis=1, ignore_index=True)
    try:
        repeated = rows.duplicated().to_numpy()
    except TypeError as error:
        raise DataError(
            f"interactions: a column holds lists ({error}); keep lists in the item or user table"
        ) from error
    if not repeated.any():
        return log
    removed["exact duplicate"] = int(repeated.sum())
    logger.info("removed %d exact duplicates from the log", removed["exact duplicate"])
    return log.take(~repeated)


def as_threshold(positive_from: float | None) -> float | None:
    """Returns the weight from which an event is positive as a plain number.

    Raises:
        ConfigError: It is none.
    """
    if positive_from is None:
        return None
    if isinstance(positive_from, bool) or not isinstance(positive_from, Real) or math.isnan(positive_from):
        raise ConfigError(f"positive_from is a number, or None for all events, not {positive_from!r}")
    return float(positive_from)


def is_positive(weight: NDArray[np.float32] | None, positive_from: float | None, num_rows: int) -> NDArray[np.bool_]:
    """Marks the rows ``[num_rows]`` that are positive events.

    Raises:
        DataError: ``positive_from`` is given but there are no weights.
    """
    if positive_from is None:
        return np.ones(num_rows, dtype=bool)
    if weight is None:
        raise DataError("positive_from= needs a weight column in the interactions (or columns={'weight': ...})")
    return np.asarray(weight >= np.float32(positive_from))


def within_event_bounds(
    user: NDArray[np.integer],
    item: NDArray[np.integer],
    shape: tuple[int, int],
    kept: NDArray[np.bool_],
    positive: NDArray[np.bool_],
    cleaning: Cleaning,
    removed: dict[str, int],
) -> NDArray[np.bool_]:
    """Marks the kept rows whose user and item keep within the allowed numbers of positive events.

    Args:
        user: ``[num_rows]`` numbers of the users, perhaps mapped from a file: they are read in blocks.
        item: ``[num_rows]`` numbers of the items.
        shape: How many users and items there are.
        kept: ``[num_rows]`` rows that have not been removed before.
        positive: ``[num_rows]`` rows that are positive events.
        cleaning: The bounds.
        removed: Reason → rows, to which these rows are added.
    """
    most, num_users, num_items = cleaning.max_user_events, *shape
    if most is not None:
        few_enough = rows_of_each(user, kept & positive, num_users) <= most
        below = _only(kept, (user, few_enough))
        count_removed(removed, f"user with more than {most} events", kept & ~below & positive)
        kept = below
    before, num_kept = kept, -1
    while num_kept != (num_kept := int(kept.sum())):  # an item that leaves may take a user below the bound, and so on
        counted = kept & positive
        enough_of_user = rows_of_each(user, counted, num_users) >= (cleaning.min_user_events or 0)
        enough_of_item = rows_of_each(item, counted, num_items) >= (cleaning.min_item_events or 0)
        kept = _only(kept, (user, enough_of_user), (item, enough_of_item))
    count_removed(removed, "user or item with too few events", before & ~kept & positive)
    return kept


def count_removed(removed: dict[str, int], reason: str, rows: NDArray[np.bool_]) -> None:
    """Adds the marked rows, if there are any, to ``removed``, and logs how many they are."""
    if rows.any():
        removed[reason] = int(rows.sum())
        logger.info("removed %d events: %s", removed[reason], reason)


def _codes(ids: pd.Series) -> tuple[NDArray[np.int64], int]:
    codes, distinct = pd.factorize(ids)
    return codes.astype(np.int64), len(distinct)


def rows_of_each(owner: NDArray[np.integer], counted: NDArray[np.bool_], num_owners: int) -> NDArray[np.int64]:
    """Counts the marked rows of each owner ``[num_owners]``."""
    total = np.zeros(num_owners, dtype=np.int64)
    for rows in _blocks(len(owner)):
        total += np.bincount(owner[rows][counted[rows]], minlength=num_owners)
    return total


def _only(kept: NDArray[np.bool_], *allowed: tuple[NDArray[np.integer], NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Marks the kept rows whose owners are all allowed."""
    left = kept.copy()
    for rows in _blocks(len(kept)):
        for owner, of_owner in allowed:
            left[rows] &= of_owner[owner[rows]]
    return left


def _blocks(num_rows: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, num_rows, _BLOCK))
