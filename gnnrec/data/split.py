"""Splits a data set into (train, valid, test): at random, in time, by cold entities, or as a column says.

Each function here returns a splitter for :meth:`gnnrec.data.dataset.Dataset.split`. The three parts share
the catalogue, the tables and the media; only ``cold_items`` and ``cold_users`` take the held-out
entities out of the parts that must not know them.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.data.dataset import Dataset
from gnnrec.data.log import parse_timestamps
from gnnrec.data.schema import Owner
from gnnrec.errors import ConfigError, DataError

__all__ = ["Splitter", "by_time", "cold_items", "cold_users", "column", "holdout", "leave_last", "random"]

logger = logging.getLogger(__name__)

Splitter: TypeAlias = Callable[[Dataset], tuple[Dataset, Dataset, Dataset]]

Bound: TypeAlias = float | str | datetime

_TRAIN, _VALID, _TEST = 0, 1, 2
_YEAR_1973, _YEAR_2200, _YEAR_5000 = 1e8, 7.2e9, 1e11  # in seconds since 1970, roughly


def random(valid: float = 0.1, test: float = 0.2, seed: int = 0) -> Splitter:
    """Holds out random user–item pairs; every user keeps at least one training pair.

    Repeated events first become one pair, the earliest in the log, so that no pair is on two sides.

    Args:
        valid: Fraction of all pairs for validation.
        test: Fraction of all pairs for testing.
        seed: Seed of the choice.

    Raises:
        ConfigError: The fractions are negative or leave nothing to train on, or the seed is negative.
    """
    _check_fractions(valid, test)
    _check_seed(seed)
    return partial(_split_random, valid=valid, test=test, seed=seed)


def leave_last(valid: int = 1, test: int = 1) -> Splitter:
    """Holds out the last events of every user: the very last for testing, those before for validation.

    Events at the same time count in the order of the log. A user with few events keeps one for
    training, then gives to test, then to validation. Repeats stay, as sequences need them.

    Args:
        valid: Validation events per user.
        test: Test events per user.

    Raises:
        ConfigError: A number is negative or not whole.
    """
    if not all(isinstance(number, int | np.integer) and number >= 0 for number in (valid, test)):
        raise ConfigError(f"leave_last needs whole numbers of events from 0, got valid={valid!r}, test={test!r}")
    return partial(_split_last, valid=valid, test=test)


def by_time(valid: Bound = 0.1, test: Bound = 0.2) -> Splitter:
    """Holds out the latest events of the whole log: train comes before valid, valid before test.

    Args:
        valid: A number below 1 is the fraction of events; any other number, date or ISO 8601 text is
            the time from which on events are for validation.
        test: Likewise for testing; the same kind as ``valid``. Events at the boundary time all
            go to the later part, so that no part sees the time of another. A warning says which part gets none.

    Raises:
        ConfigError: Fractions and times are mixed, or are out of order.
    """
    kinds = {_is_fraction(bound) for bound in (valid, test)}
    if kinds == {True, False} and valid != 0:
        raise ConfigError(f"by_time needs two fractions or two times, got valid={valid!r}, test={test!r}")
    if kinds == {True}:
        _check_fractions(float(valid), float(test))  # type: ignore[arg-type]
    elif valid != 0 and _seconds(valid) > _seconds(test):
        raise ConfigError(f"by_time needs valid before test, got valid={valid!r}, test={test!r}")
    return partial(_split_time, valid=valid, test=test)


def cold_items(valid: float = 0.1, test: float = 0.2, seed: int = 0) -> Splitter:
    """Holds out whole items with all their events, as new items that only their media describe.

    Train knows neither held-out set, valid knows the train and validation items and holds the events
    of the latter, test knows all items and holds the events of the test items.

    Args:
        valid: Fraction of the items with events for validation.
        test: Fraction of the items with events for testing.
        seed: Seed of the choice.

    Raises:
        ConfigError: The fractions are negative or leave nothing to train on, or the seed is negative.
    """
    _check_fractions(valid, test)
    _check_seed(seed)
    return partial(_split_cold, owner="item", valid=valid, test=test, seed=seed)


def cold_users(valid: float = 0.1, test: float = 0.2, seed: int = 0) -> Splitter:
    """Holds out whole users with all their events; otherwise as :func:`cold_items`."""
    _check_fractions(valid, test)
    _check_seed(seed)
    return partial(_split_cold, owner="user", valid=valid, test=test, seed=seed)


def column(name: str, train: Any = 0, valid: Any = 1, test: Any = 2, *, cold: Owner | None = None) -> Splitter:
    """Follows a column of the log, such as the ``x_label`` of published splits.

    Args:
        name: The column.
        train: Its value in training rows.
        valid: Its value in validation rows.
        test: Its value in test rows.
        cold: ``"item"`` or ``"user"`` for published cold-start splits: those that occur only in later
            parts leave the earlier ones, as :func:`cold_items` and :func:`cold_users` do it.

    Raises:
        ConfigError: ``cold`` is neither.
    """
    if cold not in (None, "item", "user"):
        raise ConfigError(f"column: cold is 'item' or 'user', not {cold!r}")
    return partial(_split_column, name=name, labels=(train, valid, test), cold=cold)


def holdout(dataset: Dataset, fraction: float = 0.1, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Holds out pairs for choosing a model, such that every user and item keeps a training pair.

    Apart from that every pair is as likely to be held out as any other, those of rare users and items too.

    Args:
        dataset: The training data.
        fraction: Fraction of all distinct pairs; fewer if the condition does not allow so many.
        seed: Seed of the choice.

    Returns:
        (train, valid): train keeps every event, repeats included, of the pairs that stay.
    """
    _check_fractions(fraction, 0.0)
    _check_seed(seed)
    pair, first = _pairs(dataset)
    order = first[np.random.default_rng(seed).permutation(len(first))]
    user, item = dataset.events.user_index[order], dataset.events.item_index[order]
    free = np.ones(len(order), dtype=bool)
    free[_first_of_each(user)] = False
    free[_first_of_each(item)] = False
    # From the end of the order: at its front rare users and items have only the pairs that they keep.
    held = order[free][::-1][: round(fraction * len(first))]
    stays = ~np.isin(pair, pair[held])
    return (
        dataset.with_events(dataset.events.take(stays)),
        dataset.with_events(dataset.events.take(np.sort(held))),
    )


def _split_random(dataset: Dataset, valid: float, test: float, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    first = _pairs(dataset)[1]
    order = np.random.default_rng(seed).permutation(len(first))
    free = np.ones(len(order), dtype=bool)
    free[_first_of_each(dataset.events.user_index[first[order]])] = False
    # From the end of the order: at its front users with few pairs have only the ones that they keep.
    candidates = order[free][::-1]
    num_test, num_valid = round(test * len(first)), round(valid * len(first))
    part = _assigned(len(first), candidates, num_valid, num_test)
    if len(candidates) < num_test + num_valid:
        logger.warning("only %d pairs can be held out if every user keeps one for training", len(candidates))
    return _parts(dataset.with_events(dataset.events.take(first)), part)


def _split_last(dataset: Dataset, valid: int, test: int) -> tuple[Dataset, Dataset, Dataset]:
    events = dataset.events
    order = np.lexsort((_timestamps(dataset), events.user_index))  # stable: ties stay in the order of the log
    user = events.user_index[order]
    num_events = np.bincount(user, minlength=dataset.num_users)
    from_last = np.cumsum(num_events)[user] - 1 - np.arange(len(user))
    num_test = np.minimum(test, np.maximum(num_events - 1, 0))
    num_valid = np.minimum(valid, np.maximum(num_events - 1 - num_test, 0))
    part = np.full(len(events), _TRAIN)
    part[order[from_last < (num_test + num_valid)[user]]] = _VALID
    part[order[from_last < num_test[user]]] = _TEST
    return _parts(dataset, part)


def _split_time(dataset: Dataset, valid: Bound, test: Bound) -> tuple[Dataset, Dataset, Dataset]:
    time = _timestamps(dataset)
    if _is_fraction(test):
        in_order = np.append(np.sort(time), np.inf)
        num_test, num_valid = round(float(test) * len(time)), round(float(valid) * len(time))  # type: ignore[arg-type]
        test_from, valid_from = in_order[len(time) - num_test], in_order[len(time) - num_test - num_valid]
    else:
        test_from = _seconds(test)
        valid_from = test_from if valid == 0 else _seconds(valid)
        _check_times(time, valid_from, test_from)
    part = np.where(time >= test_from, _TEST, np.where(time >= valid_from, _VALID, _TRAIN))
    return _parts(dataset, part)


def _check_times(time: NDArray[np.float64], valid_from: float, test_from: float) -> None:
    """Refuses times before all events, and warns of those that leave nothing to validate on or to test on."""
    if len(time) == 0:
        return
    unit = "numbers of the log are taken as they are, and dates as seconds since 1970"
    if time.min() > _YEAR_5000:
        unit += ", so those of a log in milliseconds have to be divided by 1,000"
    reach = f"its times go from {_moment(time.min())} to {_moment(time.max())} ({unit})"
    if valid_from <= time.min():
        raise DataError(f"the log has no event to train on before {_moment(valid_from)}: {reach}")
    if valid_from < test_from and not ((time >= valid_from) & (time < test_from)).any():
        logger.warning("no event to validate on from %s to %s: %s", _moment(valid_from), _moment(test_from), reach)
    if test_from > time.max():
        logger.warning("no event to test on from %s on: %s", _moment(test_from), reach)


def _moment(seconds: float) -> str:
    """Returns a time as a number and, where it can be one of our days, as a date."""
    date = f", {pd.Timestamp(seconds, unit='s').isoformat()}" if _YEAR_1973 < seconds < _YEAR_2200 else ""
    return f"{seconds:.15g}{date}"


def _split_cold(
    dataset: Dataset, owner: Owner, valid: float, test: float, seed: int
) -> tuple[Dataset, Dataset, Dataset]:
    entity = dataset.events.index(owner)
    order = np.random.default_rng(seed).permutation(np.unique(entity))
    num_test, num_valid = round(test * len(order)), round(valid * len(order))
    part = _assigned(len(dataset.ids(owner)), order, num_valid, num_test)
    return _take_out(_parts(dataset, part[entity]), owner, part)


def _assigned(number: int, order: NDArray[np.int64], num_valid: int, num_test: int) -> NDArray[np.int64]:
    """Returns the part of each of ``number`` things: the first in ``order`` are for testing, the next to validate."""
    part = np.full(number, _TRAIN)
    part[order[:num_test]] = _TEST
    part[order[num_test : num_test + num_valid]] = _VALID
    return part


def _take_out(
    parts: tuple[Dataset, Dataset, Dataset], owner: Owner, part: NDArray[np.int64]
) -> tuple[Dataset, Dataset, Dataset]:
    """Takes the test entities out of valid, and both held-out sets out of train."""
    train, valid, test = parts
    if owner == "item":
        return train.without(items=part != _TRAIN), valid.without(items=part == _TEST), test
    return train.without(users=part != _TRAIN), valid.without(users=part == _TEST), test


def _split_column(
    dataset: Dataset, name: str, labels: tuple[Any, Any, Any], cold: Owner | None
) -> tuple[Dataset, Dataset, Dataset]:
    values = dataset.events.column(name)
    series = pd.Series(values)
    series = series.mask(series.isna(), None) if series.dtype == object else series  # pd.NA has no truth
    part = np.full(len(values), -1)
    for number, label in enumerate(labels):
        part[series.eq(label).fillna(False).to_numpy(dtype=bool)] = number
    if not (part == _TRAIN).any():
        raise DataError(f"column {name!r} never says {labels[0]!r} (train); it holds {pd.unique(values)[:5].tolist()}")
    if (part < 0).any():
        logger.warning("%d events are in no part: their %r is something else", int((part < 0).sum()), name)
    parts = _parts(dataset, part)
    if cold is None:
        return parts
    first_part = np.full(len(dataset.ids(cold)), _TRAIN)  # of the parts in which an item or user occurs, the earliest
    for number in (_TEST, _VALID, _TRAIN):
        first_part[parts[number].events.index(cold)] = number
    return _take_out(parts, cold, first_part)


def _parts(dataset: Dataset, part: NDArray[np.int64]) -> tuple[Dataset, Dataset, Dataset]:
    train, valid, test = (dataset.with_events(dataset.events.take(part == number)) for number in range(3))
    if len(train.events) == 0:
        raise DataError("the split leaves no event to train on; hold out less")
    logger.info("split into %d train, %d valid, %d test events", len(train.events), len(valid.events), len(test.events))
    return train, valid, test


def _pairs(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the number of each event's pair, and the events at which a pair occurs first, in log order."""
    pair = dataset.events.user_index * dataset.num_items + dataset.events.item_index
    return pair, np.sort(_first_of_each(pair))


def _first_of_each(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray(np.unique(values, return_index=True)[1])


def _timestamps(dataset: Dataset) -> NDArray[np.float64]:
    if dataset.events.timestamp is None:
        raise DataError("this split needs a timestamp column in the interactions (or columns={'timestamp': ...})")
    return dataset.events.timestamp


def _is_fraction(bound: Bound) -> bool:
    return isinstance(bound, int | float | np.integer | np.floating) and bool(0 <= bound < 1)


def _seconds(time: Bound) -> float:
    seconds = float(parse_timestamps(pd.Series([time]))[0])
    if not np.isfinite(seconds):
        raise ConfigError(f"by_time cannot read the time {time!r}; give seconds, a date or an ISO 8601 text")
    return seconds


def _check_fractions(valid: float, test: float) -> None:
    if not (_is_fraction(valid) and _is_fraction(test) and valid + test < 1):
        raise ConfigError(
            f"fractions must be numbers, not negative, and add up to less than 1, got {valid!r} and {test!r}"
        )


def _check_seed(seed: int) -> None:
    if not (isinstance(seed, int | np.integer) and seed >= 0):
        raise ConfigError(f"a seed is a whole number from 0, got {seed!r}")
