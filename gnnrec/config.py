"""Turns option dataclasses into plain dictionaries, TOML and JSON files, and back, strictly; declares search ranges."""

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

from gnnrec.errors import ConfigError, StorageError

__all__ = ["Choices", "Range", "from_dict", "read_config", "searched", "suggest", "to_dict", "write_config"]

T = TypeVar("T")

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers among which a search may look; whole ones if the option is whole.

    Attributes:
        low: The smallest.
        high: The largest.
        log: Spread the search evenly over magnitudes, not over values.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            kind = "positive number" if self.log else "number"
            raise ConfigError(f"a range goes from a {kind} to a larger one, not from {self.low} to {self.high}")


@dataclasses.dataclass(frozen=True)
class Choices:
    """The values among which a search may choose: numbers, texts or booleans.

    Attributes:
        values: At least one.
    """

    values: tuple[bool | int | float | str, ...]

    def __post_init__(self) -> None:
        if not self.values or not all(isinstance(value, bool | int | float | str) for value in self.values):
            raise ConfigError(f"choices are numbers, texts or booleans, not {self.values!r}")


def searched(default: T, space: Range | Choices) -> T:
    """Declares an option's default and, beside it, where ``gnnrec.tune`` looks for a better value.

    A range of a mapping is that of each of its values.
    """
    options: Any = {"default_factory": default.copy} if isinstance(default, dict) else {"default": default}
    declared: T = dataclasses.field(**options, metadata={"search": space})
    return declared


def to_dict(options: Any) -> dict[str, Any]:
    """Returns a dataclass as nested plain values; tuples become lists, as JSON and TOML have them."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    result: dict[str, Any] = plain(options)
    return result


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Builds the dataclass ``kind`` from plain values; missing keys keep their default.

    Args:
        kind: A dataclass whose fields are numbers, strings, booleans, tuples, mappings,
            optional values or further dataclasses.
        values: Plain values, as ``to_dict`` writes them.
        where: Dotted place of ``values`` in the whole configuration, for messages.

    Raises:
        ConfigError: An unknown key (with the nearest known one) or a value of a wrong type.
    """
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            tables = [_place(where, name) for name, hint in hints.items() if key in _names_in(hint)]
            tail = f"; it belongs under [{'] or ['.join(tables)}]" if tables else suggest(key, names)
            raise ConfigError(f"unknown option {_place(where, key)!r}{tail}")
    return kind(**{key: _convert(hints[key], value, _place(where, key)) for key, value in values.items()})


def suggest(name: str, known: typing.Iterable[str]) -> str:
    """Returns the tail of an error message: the nearest known name, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; choose from {', '.join(known)}"


def read_config(kind: type[T], path: str | Path) -> T:
    """Reads a TOML or JSON file into the dataclass ``kind``.

    Raises:
        ConfigError: The file cannot be read or parsed, or holds an unknown or mistyped option.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the configuration {str(path)!r}: {error}") from error
    if not isinstance(values, Mapping):
        raise ConfigError(f"cannot read the configuration {str(path)!r}: it holds {values!r}, not a table of options")
    return from_dict(kind, values)


def write_config(options: Any, path: str | Path) -> None:
    """Writes every option, defaults included, as TOML; options that are ``None`` are left out.

    Raises:
        StorageError: The file cannot be written.
    """
    import tomli_w

    def without_none(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_none(item) for key, item in value.items() if item is not None}
        return value

    try:
        Path(path).write_text(tomli_w.dumps(without_none(to_dict(options))), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write the configuration {str(path)!r}: {error}") from error


def _names_in(hint: Any) -> list[str]:
    """Returns the options of a group; none where it is no group."""
    return [field.name for field in dataclasses.fields(hint)] if dataclasses.is_dataclass(hint) else []


def _place(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Checks ``value`` against one type hint and returns it in that type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"option {where!r} is a table of options, not {value!r}")
        return from_dict(hint, value, where)
    if origin in (typing.Union, types.UnionType):
        for choice in arguments:
            try:
                return _convert(choice, value, where)
            except ConfigError:
                continue
        raise ConfigError(f"option {where!r} cannot be {value!r}; expected {_name(hint)}")
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise ConfigError(f"option {where!r} cannot be {value!r}{suggest(str(value), map(str, arguments))}")
    if origin is tuple and isinstance(value, list | tuple):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise ConfigError(f"option {where!r} needs {len(kinds)} values, got {len(value)}")
        return tuple(_convert(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if isinstance(value, Mapping):
            return {_convert(arguments[0], k, where): _convert(arguments[1], v, where) for k, v in value.items()}
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif hint is int and isinstance(value, Integral) and not isinstance(value, bool):
        if not _SMALLEST <= int(value) <= _LARGEST:
            raise ConfigError(f"option {where!r} cannot be {value!r}; a whole number has at most 64 bits")
        return int(value)
    elif isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"option {where!r} cannot be {value!r}; expected {_name(hint)}")


def _name(hint: Any) -> str:
    return "nothing" if hint is types.NoneType else getattr(hint, "__name__", str(hint))
