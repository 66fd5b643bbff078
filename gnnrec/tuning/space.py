"""Turns ranges, declared beside the options or given, into the space of a search and the point it starts at."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeAlias

from gnnrec.config import Choices, Range, suggest
from gnnrec.errors import ConfigError
from gnnrec.presets import RecommenderConfig

__all__ = ["GivenSpace", "Point", "SearchSpace", "at_point", "resolve_space", "search_space"]

logger = logging.getLogger(__name__)

SearchSpace: TypeAlias = dict[str, Range | Choices]
# One value for each option of a space.
Point: TypeAlias = dict[str, Any]
# Names whose declared range is meant, or name → (low, high), list of choices, or None for the declared range.
GivenSpace: TypeAlias = Sequence[str] | Mapping[str, Any]


def search_space(config: RecommenderConfig) -> SearchSpace:
    """Returns where each option that the ranker uses is searched, as declared beside it.

    What the configuration switches off by a 0 that lies outside the range stays off: it is not searched. Nor is what
    changes nothing in its model, such as ``relation_weight`` in a published architecture.

    Args:
        config: Where the search starts. A range is widened as far as to hold its option.

    Returns:
        Option → range. The weight of an auxiliary loss is an option ``auxiliary.<name>``.
    """
    value, idle = _values(config), config.idle_options()
    return {
        name: _around(value[name], space)
        for name, space in _declared(config).items()
        if name not in idle and (value[name] != 0 or _contains(space, 0))
    }


def resolve_space(config: RecommenderConfig, given: GivenSpace | None = None) -> tuple[SearchSpace, Point]:
    """Returns the space of a search and the point in it where the configuration lies, or which is nearest to it.

    Args:
        config: Where the search starts.
        given: The options to search, no others; all that declare a range when not given.

    Raises:
        ConfigError: An unknown option, one without a range, impossible values, or nothing to search.
    """
    value = _values(config)
    if given is None:
        space = search_space(config)
    else:
        if isinstance(given, str) or not isinstance(given, Mapping | Sequence):
            raise ConfigError(f"space= takes a list of options, or a mapping from them to ranges, not {given!r}")
        wanted = given if isinstance(given, Mapping) else dict.fromkeys(given)
        space = {name: _read(name, what, config) for name, what in wanted.items()}
    if not space:
        raise ConfigError(f"there is nothing to search: the ranker {config.ranker!r} declares no range; give space=")
    start = {name: _nearest(value[name], where) for name, where in space.items()}
    for name, nearest in start.items():
        if nearest != value[name]:
            logger.info("the search starts at %s = %s, since its space leaves out %s", name, nearest, value[name])
    return space, start


def at_point(config: RecommenderConfig, point: Mapping[str, Any]) -> RecommenderConfig:
    """Returns the configuration with the options of a point.

    Raises:
        ConfigError: An impossible value.
    """
    options: dict[str, Any] = {}
    for name, value in point.items():
        option, _, key = name.partition(".")
        if key:
            whole = next(getattr(group, option) for group in _groups(config) if hasattr(group, option))
            options.setdefault(option, dict(whole))[key] = value
        else:
            options[option] = value
    return config.with_options(options)


def _groups(config: RecommenderConfig) -> list[Any]:
    """Returns the groups of options that the ranker reads."""
    shared = [config.features, config.graph] if config.ranker == "neural" else []
    return [*shared, *config.ranker_options()]


def _values(config: RecommenderConfig) -> dict[str, Any]:
    """Returns the value of every option; those in a mapping are called ``<option>.<key>``."""
    values: dict[str, Any] = {}
    for group in _groups(config):
        for field in fields(group):
            value = getattr(group, field.name)
            inner = {f"{field.name}.{key}": item for key, item in value.items()} if isinstance(value, Mapping) else None
            values |= {field.name: value} if inner is None else inner
    return values


def _declared(config: RecommenderConfig) -> SearchSpace:
    declared = {
        field.name: field.metadata["search"]
        for group in _groups(config)
        for field in fields(group)
        if "search" in field.metadata
    }
    names = {name: name.partition(".")[0] for name in _values(config)}
    return {name: declared[option] for name, option in names.items() if option in declared}


def _read(name: str, given: Any, config: RecommenderConfig) -> Range | Choices:
    """Reads what was given for one option."""
    value = _values(config)
    if name not in value:
        raise ConfigError(f"space: {name!r} is no option of the ranker {config.ranker!r}{suggest(name, value)}")
    declared = _declared(config).get(name)
    if given is None:
        if declared is None:
            raise ConfigError(f"space: the option {name!r} declares no range; give one, such as (low, high)")
        return _around(value[name], declared) if value[name] else _like(value[name], declared)
    if isinstance(given, list):
        given = Choices(tuple(given))
    elif isinstance(given, tuple) and len(given) == 2 and all(isinstance(bound, int | float) for bound in given):
        given = Range(*given, log=isinstance(declared, Range) and declared.log and given[0] > 0)
    if not isinstance(given, Range | Choices):
        raise ConfigError(f"space: {name!r} takes (low, high), a list of choices or None, not {given!r}")
    for possible in given.values if isinstance(given, Choices) else (given.low, given.high):
        at_point(config, {name: possible})
    return _like(value[name], given)


def _like(value: Any, space: Range | Choices) -> Range | Choices:
    """Gives the bounds of a range the type of the option: whole numbers, or not."""
    if isinstance(space, Range) and isinstance(value, float):
        return Range(float(space.low), float(space.high), space.log)
    return space


def _around(value: Any, space: Range | Choices) -> Range | Choices:
    """Widens a space to hold a value."""
    if _contains(space, value):
        return _like(value, space)
    if isinstance(space, Choices):
        return Choices((*space.values, value))
    return _like(value, Range(min(space.low, value), max(space.high, value), space.log))


def _contains(space: Range | Choices, value: Any) -> bool:
    return value in space.values if isinstance(space, Choices) else space.low <= value <= space.high


def _nearest(value: Any, space: Range | Choices) -> Any:
    if isinstance(space, Choices):
        if value in space.values:
            return value
        numbers = [choice for choice in space.values if isinstance(choice, int | float)]
        if numbers and isinstance(value, int | float):
            return min(numbers, key=lambda choice: abs(choice - value))
        return space.values[0]
    return space.low if value is None else min(max(value, space.low), space.high)
