"""The vocabulary of the data layer: column names, modality specifications, relations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from gnnrec.errors import DataError

__all__ = [
    "COLUMN_ALIASES",
    "Audio",
    "Image",
    "MediaSpec",
    "ModalitySpec",
    "Owner",
    "Relation",
    "Text",
    "Vectors",
    "Video",
    "spec_columns",
]

Owner: TypeAlias = Literal["item", "user"]

# Names under which the four columns of a log are found when the caller does not name them, best first.
COLUMN_ALIASES: Mapping[str, tuple[str, ...]] = {
    "user_id": ("user_id", "userId", "userID", "user", "uid", "userid"),
    "item_id": ("item_id", "itemId", "itemID", "item", "iid", "itemid", "movieId", "movie_id", "movieid"),
    "weight": ("weight", "rating", "score", "count"),
    "timestamp": ("timestamp", "datetime", "time", "date"),
}


@dataclass(frozen=True)
class Text:
    """One or more text columns of the item or user table.

    Attributes:
        columns: A column or several; several are joined into one text unless ``parts``.
        of: Whose table holds the columns.
        parts: Encode each column as a row of its own (several vectors for one item).
        encoder: ``"auto"``, the name of a registered encoder, a hub name or a local path.
        pooling: How token vectors become one vector: ``mean``, ``cls``, ``last`` or ``max``.
        max_tokens: Longer texts are truncated to this many tokens, and the log says how many were.
    """

    columns: str | Sequence[str]
    of: Owner = "item"
    parts: bool = False
    encoder: str = "auto"
    pooling: Literal["mean", "cls", "last", "max"] = "mean"
    max_tokens: int = 256


@dataclass(frozen=True)
class Image:
    """A column that holds a path, or a list of paths, of pictures for each row.

    Attributes:
        column: The column with the path(s); relative ones start at ``media_root``.
        of: Whose table holds the column.
        encoder: ``"auto"``, the name of a registered encoder, a hub name or a local path.
        media_root: Folder that relative paths start from; the working directory when not given.
    """

    column: str
    of: Owner = "item"
    encoder: str = "auto"
    media_root: str | Path | None = None


@dataclass(frozen=True)
class Audio:
    """A column that holds a path, or a list of paths, of sound files (WAV, OGG, FLAC, MP3) for each row.

    Attributes:
        column: The column with the path(s); relative ones start at ``media_root``.
        of: Whose table holds the column.
        encoder: ``"auto"``, the name of a registered encoder, a hub name or a local path.
        media_root: Folder that relative paths start from; the working directory when not given.
        max_seconds: Longer sounds are cut after this many seconds.
    """

    column: str
    of: Owner = "item"
    encoder: str = "auto"
    media_root: str | Path | None = None
    max_seconds: float = 30.0


@dataclass(frozen=True)
class Video:
    """A column that holds a path, or a list of paths, of video files for each row.

    Attributes:
        column: The column with the path(s); relative ones start at ``media_root``.
        of: Whose table holds the column.
        encoder: Encoder of the frames, as for :class:`Image`.
        media_root: Folder that relative paths start from; the working directory when not given.
        frames: Number of frames, evenly spaced over the clip, that are encoded and pooled.
        pooling: How the frame vectors become one: ``mean``, ``max``, or ``mean+std`` (twice as wide).
    """

    column: str
    of: Owner = "item"
    encoder: str = "auto"
    media_root: str | Path | None = None
    frames: int = 8
    pooling: Literal["mean", "max", "mean+std"] = "mean"


@dataclass(frozen=True, eq=False)
class Vectors:
    """Precomputed vectors, matched by id and never by position.

    Attributes:
        matrix: ``[rows, dim]`` real numbers (NumPy array, torch tensor or nested lists).
        ids: ``[rows]`` owner ids; an id may occur several times (several vectors for one item),
            and owners without a row simply lack the modality.
        of: Whether the ids are items or users.
    """

    matrix: Any
    ids: Any
    of: Owner = "item"


MediaSpec: TypeAlias = Text | Image | Audio | Video
ModalitySpec: TypeAlias = MediaSpec | Vectors


def spec_columns(spec: MediaSpec) -> list[str]:
    """Returns the table columns that a media specification reads."""
    if isinstance(spec, Text):
        return [spec.columns] if isinstance(spec.columns, str) else list(spec.columns)
    return [spec.column]


@dataclass(frozen=True, eq=False)
class Relation:
    """Edges between users or between items, beside the log.

    Attributes:
        frame: A frame or path with the columns ``source_id``, ``target_id`` and optionally ``weight``.
        between: What both ends are.
    """

    frame: Any
    between: Owner = "user"

    def __post_init__(self) -> None:
        if self.between not in ("user", "item"):
            raise DataError(f"a relation joins users or items, not {self.between!r}")
