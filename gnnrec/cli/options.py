"""Turns the words of the command line into modality specifications, splitters and configurations."""

import inspect
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gnnrec.config import from_dict, read_config, suggest
from gnnrec.data.schema import COLUMN_ALIASES, Audio, Image, ModalitySpec, Owner, Relation, Text, Vectors, Video
from gnnrec.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from gnnrec.data.cleaning import Cleaning
    from gnnrec.data.split import Splitter
    from gnnrec.presets import RecommenderConfig

__all__ = [
    "parse_cleaning",
    "parse_config",
    "parse_modalities",
    "parse_numbers",
    "parse_pairs",
    "parse_relations",
    "parse_space",
    "parse_split",
]

_SPLITS = ("random", "leave-last", "by-time", "cold-items", "cold-users", "column")


def parse_pairs(words: Iterable[str], option: str) -> dict[str, str]:
    """Reads words such as ``name=value``.

    Raises:
        ConfigError: A word without ``=``, or a name that occurs twice.
    """
    pairs: dict[str, str] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name or not value:
            raise ConfigError(f"{option} takes NAME=VALUE, not {word!r}")
        if name in pairs:
            raise ConfigError(f"{option} {name} is given twice")
        pairs[name] = value
    return pairs


def parse_numbers(words: Iterable[str], option: str) -> dict[str, float]:
    """Reads words such as ``name=0.7``.

    Raises:
        ConfigError: As :func:`parse_pairs`, or a value that is no number.
    """
    pairs = parse_pairs(words, option)
    try:
        return {name: float(value) for name, value in pairs.items()}
    except ValueError as error:
        raise ConfigError(f"{option} takes NAME=NUMBER: {error}") from error


def parse_modalities(
    given: Mapping[str, Iterable[str]],
    encoders: Iterable[str] = (),
    media_root: Path | None = None,
    text_ids: Collection[Owner] = (),
) -> dict[str, ModalitySpec]:
    """Reads ``--text``, ``--image``, ``--audio``, ``--video`` and ``--vectors``.

    Args:
        given: Kind of modality → words ``NAME=COLUMN``; of texts ``NAME=COLUMN,COLUMN``, of vectors ``NAME=FILE``. A
            name that begins with ``user:`` is a modality of the users.
        encoders: Words ``NAME=ENCODER``.
        media_root: Folder of relative paths.
        text_ids: Whose ids are texts in files of vectors, even where all look like numbers.

    Raises:
        ConfigError: A word that cannot be read, or two modalities of one name.
        DataError: A file of vectors that cannot be read.
    """
    specs: dict[str, ModalitySpec] = {}
    for kind, words in given.items():
        for full_name, value in parse_pairs(words, f"--{kind}").items():
            of, name = _owner_and_name(full_name, "item")
            if name in specs:
                raise ConfigError(f"modality {name!r} is given twice")
            specs[name] = _spec(kind, value, of, media_root, text_ids)
    for full_name, encoder in parse_pairs(encoders, "--encoder").items():
        name = _owner_and_name(full_name, "item")[1]
        spec = specs.get(name)
        if spec is None or isinstance(spec, Vectors):
            raise ConfigError(f"--encoder {full_name}: there is no such text, image, audio or video modality")
        specs[name] = replace(spec, encoder=encoder)
    return specs


def parse_relations(words: Iterable[str]) -> dict[str, Relation]:
    """Reads words ``NAME=FILE`` of relations between users, or ``item:NAME=FILE`` between items.

    Raises:
        ConfigError: A word that cannot be read, or two relations of one name.
    """
    relations: dict[str, Relation] = {}
    for full_name, file in parse_pairs(words, "--relation").items():
        between, name = _owner_and_name(full_name, "user")
        if name in relations:
            raise ConfigError(f"relation {name!r} is given twice")
        relations[name] = Relation(file, between=between)
    return relations


def parse_split(word: str) -> "Splitter":
    """Reads ``KIND`` or ``KIND:OPTION=VALUE,…``, for instance ``random:valid=0.1,test=0.2`` or ``column:x_label``.

    Raises:
        ConfigError: An unknown kind or option, or an impossible value.
    """
    from gnnrec.data import split

    kind, _, rest = word.partition(":")
    if kind not in _SPLITS:
        raise ConfigError(f"--split: unknown kind {kind!r}{suggest(kind, _SPLITS)}")
    function = getattr(split, kind.replace("-", "_"))
    words = [part for part in rest.split(",") if part]
    positional = [part for part in words if "=" not in part]
    options = {name: _value(text) for name, text in parse_pairs((w for w in words if "=" in w), "--split").items()}
    try:
        call = inspect.signature(function).bind(*positional, **options)
    except TypeError as error:
        names = ", ".join(inspect.signature(function).parameters)
        raise ConfigError(f"--split {word!r}: {error}; {kind} takes {names}") from error
    splitter: Splitter = function(*call.args, **call.kwargs)
    return splitter


def parse_cleaning(words: Iterable[str], *, strict: bool = False) -> "Cleaning | None":
    """Reads words such as ``min_user_events=5``; ``strict`` removes nothing and makes a bad row an error.

    Raises:
        ConfigError: An unknown rule, an impossible value, or rules beside ``strict``.
    """
    from gnnrec.data.cleaning import Cleaning

    rules = {name: _value(text) for name, text in parse_pairs(words, "--clean").items()}
    if strict and rules:
        raise ConfigError("--strict removes nothing, so it takes no --clean rules beside it")
    return None if strict else from_dict(Cleaning, rules, "clean")


def parse_config(
    config: Path | None, preset_name: str | None, settings: Iterable[str], seed: int | None, device: str | None
) -> "RecommenderConfig":
    """Starts from a file or a preset and applies single options.

    Raises:
        ConfigError: Both a file and a preset, or anything unknown or impossible in them.
    """
    from gnnrec.presets import RecommenderConfig, preset

    if config is not None and preset_name is not None:
        raise ConfigError("--config and --preset exclude each other; single options go into --set")
    start = read_config(RecommenderConfig, config) if config is not None else preset(preset_name or "gnnrec")
    options = {name: _value(text) for name, text in parse_pairs(settings, "--set").items()}
    options |= {name: value for name, value in (("seed", seed), ("device", device)) if value is not None}
    return start.with_options(options)


def parse_space(words: Iterable[str]) -> dict[str, Any] | None:
    """Reads words ``OPTION`` (its declared range), ``OPTION=LOW..HIGH`` and ``OPTION=[CHOICE,CHOICE]``.

    Returns:
        The space for ``gnnrec.tune``; ``None`` without words.

    Raises:
        ConfigError: A word that cannot be read.
    """
    words = list(words)
    space: dict[str, Any] = {word: None for word in words if "=" not in word}
    for name, text in parse_pairs((word for word in words if "=" in word), "--space").items():
        low, dots, high = text.partition("..")
        given = (_value(low), _value(high)) if dots else _value(text)
        numbers = isinstance(given, tuple) and all(isinstance(bound, int | float) for bound in given)
        if not (numbers or isinstance(given, list)):
            raise ConfigError(f"--space {name} takes LOW..HIGH or [CHOICE,CHOICE], not {text!r}")
        space[name] = given
    return space or None


def _owner_and_name(full_name: str, usual: Owner) -> tuple[Owner, str]:
    """Takes ``user:`` or ``item:`` off a name."""
    for owner in get_args(Owner):
        if full_name.startswith(f"{owner}:"):
            return owner, full_name.removeprefix(f"{owner}:")
    return usual, full_name


def _spec(kind: str, value: str, of: Owner, media_root: Path | None, text_ids: Collection[Owner]) -> ModalitySpec:
    if kind == "text":
        return Text(tuple(column.strip() for column in value.split(",")), of=of)
    if kind == "image":
        return Image(value, of=of, media_root=media_root)
    if kind == "audio":
        return Audio(value, of=of, media_root=media_root)
    if kind == "video":
        return Video(value, of=of, media_root=media_root)
    return _read_vectors(value, of, text_ids)


def _read_vectors(file: str, of: Owner, text_ids: Collection[Owner]) -> Vectors:
    """Reads a table with an id column, or an ``.npy`` matrix whose row number is the id."""
    import numpy as np

    from gnnrec.data.frames import read_frame
    from gnnrec.data.log import required_column

    if file.endswith(".npy"):
        try:
            matrix = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"--vectors: cannot read {file!r}: {error}") from error
        if not isinstance(matrix, np.ndarray):
            raise DataError(f"--vectors: {file!r} holds no single array; is it an .npz file?")
        return Vectors(matrix, np.arange(len(matrix) if matrix.ndim else 0), of)
    role = f"{of}_id"
    frame, _ = read_frame(file, "--vectors", COLUMN_ALIASES[role] if of in text_ids else ())
    column = required_column(frame, role, f"--vectors {file}")
    return Vectors(_matrix(frame.drop(columns=column)), frame[column].to_numpy(), of)


def _matrix(values: "pd.DataFrame") -> Any:
    """Takes a column per dimension, or one column of lists as ``gnnrec export`` writes it; a gap is NaN.

    What is no matrix of numbers even so is left for :class:`Vectors` to refuse.
    """
    import pandas as pd

    if "embedding" in values and not pd.api.types.is_numeric_dtype(rows := values["embedding"]):
        missing, width = rows.isna(), max((len(row) for row in rows.dropna().head(1)), default=0)
        return [[float("nan")] * width if gone else row for gone, row in zip(missing, rows, strict=True)]
    if all(pd.api.types.is_numeric_dtype(dtype) for dtype in values.dtypes):
        return values.to_numpy(dtype=float, na_value=float("nan"))
    return values.to_numpy()


def _value(text: str) -> Any:
    """Reads a number, a boolean, a list or a table as TOML writes it; anything else is a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
