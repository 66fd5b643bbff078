"""Turns the column or columns of a media specification into one flat list of media with the owner of each."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.data.ids import EXACT_IN_A_FLOAT
from gnnrec.data.schema import MediaSpec, Text, spec_columns
from gnnrec.errors import DataError, MediaError
from gnnrec.storage import file_sha256

__all__ = ["MediaList", "collect_media", "media_digest"]


@dataclass(frozen=True, eq=False)
class MediaList:
    """Texts or paths, in the order of their owners.

    Attributes:
        media: ``[num_media]`` texts (``str``) or paths.
        owner_index: ``[num_media]`` int64, ascending.
        missing: Owners without any.
    """

    media: list[str] | list[Path]
    owner_index: NDArray[np.int64]
    missing: int


def collect_media(name: str, spec: MediaSpec, table: pd.DataFrame | None, num_owners: int) -> MediaList:
    """Gathers the media of all owners.

    Args:
        name: The modality, for messages.
        spec: Which columns of the table hold what.
        table: Row ``i`` belongs to owner ``i``. A cell is a text or path, a list of them, or empty
            (``None``, NaN, white space, an empty list).
        num_owners: Rows that the table must have.

    Raises:
        DataError: There is no table, it lacks a column, its length is wrong, or a path is not text.
    """
    columns = spec_columns(spec)
    if table is None:
        raise DataError(
            f"modality {name!r} reads {', '.join(map(repr, columns))} of the {spec.of} table; there is none"
        )
    absent = [column for column in columns if column not in table.columns]
    if absent:
        have = ", ".join(map(str, table.columns))
        raise DataError(f"modality {name!r}: the {spec.of} table has no column {absent[0]!r}; it has {have}")
    if len(table) != num_owners:
        raise DataError(f"modality {name!r}: the {spec.of} table has {len(table)} rows for {num_owners} {spec.of}s")
    cells = zip(*(table[column].tolist() for column in columns), strict=True)
    if isinstance(spec, Text):
        per_owner: list[Any] = [_texts(row, parts=spec.parts) for row in cells]
    else:
        root = Path(spec.media_root or "")
        per_owner = [_paths(row[0], root, f"modality {name!r}, row {i}") for i, row in enumerate(cells)]
    counts = np.array([len(media) for media in per_owner], dtype=np.int64)
    return MediaList(
        media=[medium for media in per_owner for medium in media],
        owner_index=np.repeat(np.arange(num_owners), counts),
        missing=int((counts == 0).sum()),
    )


def media_digest(medium: str | Path) -> str:
    """Returns the SHA-256 of a text, or of the content of a file.

    Raises:
        MediaError: The file cannot be read.
    """
    if isinstance(medium, str):
        return hashlib.sha256(medium.encode("utf-8", "surrogatepass")).hexdigest()
    try:
        return file_sha256(medium)
    except (OSError, ValueError) as error:  # a ValueError where the path itself is none
        raise MediaError(getattr(error, "strerror", None) or str(error)) from error


def _texts(row: Iterable[Any], *, parts: bool) -> list[str]:
    """Returns the texts of one owner: its columns joined, or one text per column; a list reads as a list."""
    texts = [", ".join(map(_written, _values(cell))).strip() for cell in row]
    given = [text for text in texts if text]
    return given if parts else [" ".join(given)] if given else []


def _written(value: Any) -> str:
    """Returns a value as text: 1995 of the float that pandas makes of it where another row of the column is empty."""
    whole = (
        isinstance(value, float | np.floating) and float(value).is_integer() and abs(float(value)) < EXACT_IN_A_FLOAT
    )
    return str(int(value)) if whole else str(value)


def _paths(cell: Any, root: Path, where: str) -> list[Path]:
    values = _values(cell)
    wrong = [value for value in values if not isinstance(value, str | Path)]
    if wrong:
        raise DataError(f"{where}: expected a path or a list of paths, got {wrong[0]!r}")
    return [root / value for value in values if str(value).strip()]


def _values(cell: Any) -> list[Any]:
    """Returns what a cell holds as a list, without nulls."""
    if isinstance(cell, list | tuple | set | np.ndarray):
        return [value for value in cell if not _is_null(value)]
    return [] if _is_null(cell) else [cell]


def _is_null(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))
