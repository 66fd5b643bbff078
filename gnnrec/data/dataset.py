"""A cleaned log with its catalogue, side tables and modality specifications: what everything else starts from."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from gnnrec.data.cleaning import Cleaning, CleaningReport, as_policy
from gnnrec.data.events import Events, RelationEdges
from gnnrec.data.ids import IdMap
from gnnrec.data.log import as_columns
from gnnrec.data.pairs import pair_matrix, place_matrix
from gnnrec.data.restriction import restricted
from gnnrec.data.schema import ModalitySpec, Owner
from gnnrec.data.summary import DatasetSummary, summarise
from gnnrec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from gnnrec.data.build import CleanedLog

__all__ = ["Dataset", "Events", "RelationEdges", "require_datasets"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Interactions of known users with a catalogue of items.

    Attributes:
        users: Ids of all users; the position is the user index.
        items: Ids of the catalogue; the position is the item index.
        events: The positive events.
        user_table: Side table with exactly one row per user, in order; ``None`` without one.
        item_table: Side table with exactly one row per item, in order; ``None`` without one.
        modalities: Name → where the modality's vectors come from.
        relations: Name → edges beside the log.
        frame_library: ``pandas``, ``polars`` or ``pyarrow``: what answers are given in.
        cleaning_report: What was removed when the data set was built; ``None`` if it was not built from frames.
        positive_from: Weight from which an event was positive when the data set was built; ``None``: every event was.
    """

    users: IdMap
    items: IdMap
    events: Events
    user_table: pd.DataFrame | None = None
    item_table: pd.DataFrame | None = None
    modalities: Mapping[str, ModalitySpec] = field(default_factory=dict)
    relations: Mapping[str, RelationEdges] = field(default_factory=dict)
    frame_library: str = "pandas"
    cleaning_report: CleaningReport | None = None
    positive_from: float | None = None

    @classmethod
    def from_frames(
        cls,
        interactions: Any,
        items: Any = None,
        users: Any = None,
        modalities: Mapping[str, ModalitySpec] | None = None,
        relations: Mapping[str, Any] | None = None,
        cleaning: Cleaning | None = Cleaning(),
        *,
        columns: Mapping[str, str] | None = None,
        positive_from: float | None = None,
        media_root: str | Path | None = None,
    ) -> "Dataset":
        """Builds a data set from frames or files.

        The users and items are those of the cleaned log and of the side tables; without a table,
        also those of the vectors. Ids are all integers or all strings.

        Args:
            interactions: The log: a pandas, polars, pyarrow or other narwhals frame, or a path or glob
                of CSV, TSV, Parquet or JSON lines. Columns ``user_id``, ``item_id`` and optionally
                ``weight`` and ``timestamp`` (numbers, dates or ISO 8601 texts); others are kept. ``None`` for
                media without a log, which can be aligned and searched but not fitted.
            items: Side table with one row per ``item_id``.
            users: Side table with one row per ``user_id``.
            modalities: Name → ``Text``, ``Image``, ``Audio``, ``Video`` or ``Vectors``.
            relations: Name → :class:`Relation`, or a frame ``source_id, target_id[, weight]`` between users.
            cleaning: What to remove; ``None`` removes nothing and makes an invalid row an error.
            columns: Role → column name, where it is not one of the known aliases
                (``{"user_id": "customer"}``).
            positive_from: Events with a smaller weight are not positive: they are left out, while their
                users and items stay in the catalogue.
            media_root: Folder of relative media paths, for specifications without one of their own.

        Raises:
            DataError: A frame, column, id or matrix cannot be used; the message names it.
        """
        from gnnrec.data.build import build_dataset  # it constructs data sets, so it imports this module

        return build_dataset(
            interactions, items, users, modalities, relations, cleaning, columns, positive_from, media_root
        )

    @classmethod
    def from_files(
        cls,
        interactions: str | Path,
        folder: str | Path,
        items: Any = None,
        users: Any = None,
        modalities: Mapping[str, ModalitySpec] | None = None,
        relations: Mapping[str, Any] | None = None,
        cleaning: Cleaning | None = Cleaning(),
        *,
        columns: Mapping[str, str] | None = None,
        positive_from: float | None = None,
        media_root: str | Path | None = None,
        keep_columns: Sequence[str] | None = None,
        memory_limit: str = "2GB",
        threads: int | None = None,
    ) -> "Dataset":
        """Builds the data set of :meth:`from_frames` from a log larger than memory, and saves it.

        Arguments that :meth:`from_frames` has too mean the same. Only ids and side tables need fit into memory; the
        events are mapped from the files in ``folder``. Needs ``gnnrec[stream]``. An ingestion that was killed goes on
        from what it had finished when it is called again; until it ends, it works in ``.<name of folder>.ingestion``
        beside ``folder``.

        Args:
            interactions: A path or glob of CSV, TSV, Parquet or JSON lines.
            folder: Where the data set is saved, as by :meth:`save`; an older one there is replaced at the end.
            items: As for :meth:`from_frames`.
            users: As for :meth:`from_frames`.
            modalities: As for :meth:`from_frames`.
            relations: As for :meth:`from_frames`.
            cleaning: As for :meth:`from_frames`.
            columns: As for :meth:`from_frames`.
            positive_from: As for :meth:`from_frames`.
            media_root: As for :meth:`from_frames`.
            keep_columns: Which columns beside the known four the events keep; ``None`` for all. They are loaded as a
                whole. Rows are duplicates only if they are equal in all columns, also in those that are not kept.
            memory_limit: Memory of DuckDB; what exceeds it is written to the disk. The rest takes about as much as
                the libraries, and chunks of rows.
            threads: Threads of DuckDB; one per core if not given.

        Raises:
            DataError: A file, table or matrix cannot be used; the message names it, with column and row.
            StorageError: A folder cannot be written, or another ingestion works on it.
            ConfigError: DuckDB does not understand ``memory_limit`` or ``threads``.
            MissingPackageError: DuckDB is not installed.
        """
        from gnnrec.data.build import assemble  # both construct data sets, so they import this module
        from gnnrec.data.streaming import ingest

        policy, columns = as_policy(cleaning), as_columns(columns)

        def build(log: "CleanedLog") -> Dataset:
            return assemble(log, items, users, modalities, relations, policy, columns, media_root)

        return ingest(
            interactions,
            folder,
            policy,
            build,
            columns=columns,
            positive_from=positive_from,
            keep_columns=keep_columns,
            memory_limit=memory_limit,
            threads=threads,
        )

    @classmethod
    def load(cls, path: str | Path) -> "Dataset":
        """Reads a data set that :meth:`save` or :meth:`from_files` wrote.

        Arrays are mapped from their file: they take memory when they are used.

        Raises:
            StorageError: The folder is absent, damaged, altered or of a newer format.
        """
        from gnnrec.data.storage import load_dataset  # it constructs data sets, so it imports this module

        return load_dataset(path)

    def save(self, path: str | Path) -> None:
        """Writes the data set as a folder of safetensors and Parquet files, all at once or not at all.

        Pictures and sounds are not copied: only their paths are saved.

        Raises:
            StorageError: The folder cannot be written.
            DataError: A table column mixes types that Parquet cannot hold.
        """
        from gnnrec.data.storage import save_dataset

        save_dataset(self, path)

    @property
    def num_users(self) -> int:
        """Number of users in the catalogue."""
        return len(self.users)

    @property
    def num_items(self) -> int:
        """Number of items in the catalogue."""
        return len(self.items)

    def ids(self, owner: Owner) -> IdMap:
        """Returns ``users`` or ``items``."""
        return self.items if owner == "item" else self.users

    def table(self, owner: Owner) -> pd.DataFrame | None:
        """Returns ``user_table`` or ``item_table``."""
        return self.item_table if owner == "item" else self.user_table

    @property
    def text_ids(self) -> tuple[Owner, ...]:
        """Whose ids are texts: those of users, of items, of both, or none."""
        kinds: dict[Owner, str] = {"user": self.users.kind, "item": self.items.kind}
        return tuple(owner for owner, kind in kinds.items() if kind == "str")

    def interaction_matrix(self) -> sp.csr_matrix:
        """Returns the distinct pairs as a binary float32 matrix ``[num_users, num_items]``."""
        return pair_matrix(self.events.user_index, self.events.item_index, (self.num_users, self.num_items))

    def order_matrix(self) -> sp.csr_matrix:
        """Returns the distinct pairs, each with its place in its user's history, ``[num_users, num_items]`` float32.

        The oldest has the place 1; events of the same time stay in the order of the log.

        Raises:
            DataError: The log has no time.
        """
        if self.events.timestamp is None:
            raise DataError("the log has no time; give it a column 'timestamp' (or columns={'timestamp': ...})")
        order = np.argsort(self.events.timestamp, kind="stable")
        shape = (self.num_users, self.num_items)
        return place_matrix(self.events.user_index[order], self.events.item_index[order], shape)

    def pair_weights(self) -> sp.csr_matrix:
        """Returns the mean weight of the events of each pair, ``[num_users, num_items]`` float32.

        Raises:
            DataError: The log has no weights, or one that is not above 0.
        """
        weight = self.events.weight
        if weight is None:
            raise DataError("the log has no weights; give it a column 'weight' (or columns={'weight': ...})")
        if (wrong := weight <= 0).any():
            raise DataError(f"weights of edges must lie above 0; {wrong.sum()} events do not, e.g. {weight.min():g}")
        pairs, shape = (self.events.user_index, self.events.item_index), (self.num_users, self.num_items)
        mean, count = (sp.csr_matrix((values, pairs), shape=shape) for values in (weight, np.ones_like(weight)))
        mean.sum_duplicates()
        count.sum_duplicates()
        mean.data /= count.data
        return mean

    def describe(self) -> DatasetSummary:
        """Returns how much there is, how dense it is, and who lacks which media."""
        return summarise(self)

    def split(
        self, splitter: Callable[["Dataset"], tuple["Dataset", "Dataset", "Dataset"]]
    ) -> tuple["Dataset", "Dataset", "Dataset"]:
        """Returns (train, valid, test); see :mod:`gnnrec.data.split` for the splitters.

        Raises:
            ConfigError: The splitter is none.
        """
        if not callable(splitter):
            raise ConfigError(f"split takes a splitter, such as gnnrec.split.random(test=0.2), not {splitter!r}")
        return splitter(self)

    def with_events_of(self, other: "Dataset") -> "Dataset":
        """Returns this data set with the events of another behind its own.

        Events of users or items that are unknown here are left out, and a warning says how many. Columns that a split
        may go by are left behind.

        Raises:
            DataError: One has weights or times, and the other has none.
        """
        row = self.users.find(other.users.ids)[other.events.user_index]
        column = self.items.find(other.items.ids)[other.events.item_index]
        known = (row >= 0) & (column >= 0)
        if not known.all():
            logger.warning("%d of %d added events are of unknown users or items: left out", (~known).sum(), len(known))
        own, added = self.events, other.events.take(known)

        def joined(name: str, here: NDArray[Any] | None, there: NDArray[Any] | None) -> Any:
            if (here is None) != (there is None):
                raise DataError(f"one part of the log has the column {name!r}, and the other has none; give it to both")
            return None if here is None or there is None else np.concatenate([here, there])

        return self.with_events(
            Events(
                user_index=np.concatenate([own.user_index, row[known]]),
                item_index=np.concatenate([own.item_index, column[known]]),
                weight=joined("weight", own.weight, added.weight),
                timestamp=joined("timestamp", own.timestamp, added.timestamp),
            )
        )

    def with_events(self, events: Events) -> "Dataset":
        """Returns the same catalogue, tables and media with other events."""
        return replace(self, events=events)

    def without(self, items: NDArray[np.bool_] | None = None, users: NDArray[np.bool_] | None = None) -> "Dataset":
        """Returns the data set without some items or users, their events, edges and media; the rest is renumbered.

        Args:
            items: ``[num_items]`` true for the items to leave out.
            users: ``[num_users]`` true for the users to leave out.
        """
        return restricted(self, items, users)


def require_datasets(*, optional: Mapping[str, Any] = MappingProxyType({}), **required: Any) -> None:
    """Refuses a frame or anything else in the place of a data set.

    Args:
        optional: Argument → what was given for it; ``None`` where nothing was.
        **required: Argument → what was given for it.

    Raises:
        DataError: One is no data set; the message names the argument.
    """
    given = {name: value for name, value in optional.items() if value is not None}
    for name, value in (required | given).items():
        if not isinstance(value, Dataset):
            raise DataError(f"{name}= takes a gnnrec.Dataset, not {type(value).__name__}; see Dataset.from_frames")
