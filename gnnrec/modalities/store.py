"""Keeps encoded vectors on disk under the digest of what they were made from, so that nothing is encoded twice."""

import contextlib
import json
import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gnnrec.config import to_dict
from gnnrec.errors import StorageError
from gnnrec.modalities.features import EncoderCard
from gnnrec.storage import default_cache_dir

__all__ = ["FeatureStore", "open_store", "store_keys"]

logger = logging.getLogger(__name__)

_SHARD_BYTES = 16 * 2**20

_SCHEMA = """
CREATE TABLE IF NOT EXISTS shards (shard INTEGER PRIMARY KEY, dim INTEGER, capacity INTEGER, used INTEGER);
CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, shard INTEGER, position INTEGER, crc INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS vectors_by_shard ON vectors (shard);
"""


def open_store(cache_dir: str | Path | None = None) -> "FeatureStore | None":
    """Opens the store below a cache folder; where nothing can be written it warns and returns ``None``.

    Args:
        cache_dir: The cache folder; :func:`gnnrec.storage.default_cache_dir` when not given.
    """
    folder = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    try:
        return FeatureStore(folder / "features")
    except StorageError as error:
        logger.warning("encoded media are not cached: %s", error)
        return None


def store_keys(card: EncoderCard) -> Callable[[str], str]:
    """Returns what makes the keys of media under one encoder.

    Args:
        card: The encoder, which is written out once, not for each medium.

    Returns:
        From the digest of a medium, see :func:`gnnrec.modalities.media.media_digest`, to its key.
    """
    written = json.dumps(to_dict(card), sort_keys=True)
    return lambda digest: sha256(f"{written}{digest}".encode()).hexdigest()


class FeatureStore:
    """A cache of vectors, safe for several processes, that survives being killed at any moment.

    Vectors lie in preallocated ``.npy`` shards, which are memory-mapped; an SQLite index says where, with a checksum
    of each. Writing a batch is one transaction, which also is the lock between processes: rows of a shard that no
    committed transaction names are free, so what a killed process wrote is simply overwritten. A vector that does not
    match its checksum, or whose shard is gone, counts as absent and is forgotten. It works on local disks; network
    file systems must support SQLite's locks.

    Args:
        folder: Where it lies; made if need be.

    Raises:
        StorageError: The folder cannot be made or written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._prepare()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # locked, not writable: not a matter of content
                    raise
                logger.warning("the index of %s is damaged (%s); starting an empty one", self.folder, error)
                for file in (self._index, *self.folder.glob("shard-*.npy")):
                    file.unlink()
                self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"cannot keep a feature cache in {self.folder}: {error}") from error

    def get(self, keys: Sequence[str], dim: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Looks vectors up.

        Args:
            keys: From :func:`store_keys`.
            dim: Width of the vectors.

        Returns:
            Positions in ``keys`` of those found, ascending ``[num_found]``, and their vectors ``[num_found, dim]``.

        Raises:
            StorageError: The index cannot be read.
        """
        query = (
            "SELECT wanted.key, vectors.key, shard, position, crc FROM json_each(?) AS wanted "
            "JOIN vectors ON vectors.key = wanted.value JOIN shards USING (shard) WHERE dim = ? ORDER BY wanted.key"
        )
        with self._connection() as connection:
            rows = connection.execute(query, (json.dumps(list(keys)), dim)).fetchall()
        values = np.empty((len(rows), dim), dtype=np.float32)
        place = np.array([row[2:] for row in rows], dtype=np.int64).reshape(-1, 3)
        sound = np.zeros(len(rows), dtype=bool)
        for shard in np.unique(place[:, 0]).tolist():
            here = np.flatnonzero(place[:, 0] == shard)
            values[here], sound[here] = self._read(shard, place[here, 1], place[here, 2], dim)
        if not sound.all():
            self._forget([row[1] for row, good in zip(rows, sound, strict=True) if not good])
        positions = np.array([row[0] for row in rows], dtype=np.int64)
        return positions[sound], values[sound]

    def put(self, keys: Sequence[str], values: NDArray[np.float32]) -> None:
        """Adds vectors for good; a key that is there already keeps its vector.

        Args:
            keys: ``[n]`` from :func:`store_keys`.
            values: ``[n, dim]``.

        Raises:
            StorageError: The disk is full or not writable.
        """
        try:
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")  # from here on this process alone writes
                there = connection.execute(
                    "SELECT value FROM json_each(?) AS new JOIN vectors ON vectors.key = new.value",
                    (json.dumps(list(keys)),),
                )
                known = {key for (key,) in there}
                fresh: dict[str, int] = {}
                for row, key in enumerate(keys):
                    if key not in known:
                        fresh.setdefault(key, row)
                new_keys, new_values = list(fresh), np.asarray(values[list(fresh.values())], dtype="<f4")
                start = 0
                while start < len(new_keys):
                    start += self._append(connection, new_keys[start:], new_values[start:])
                connection.execute("COMMIT")
        except OSError as error:
            raise StorageError(f"cannot write to the feature cache {self.folder}: {error}") from error

    def size(self) -> int:
        """Returns how many bytes the stored vectors take."""
        with self._connection() as connection:
            (size,) = connection.execute("SELECT coalesce(sum(used * dim * 4), 0) FROM shards").fetchone()
        return int(size)

    def evict(self, max_bytes: int) -> int:
        """Deletes the shards that were read or written longest ago until the rest fits.

        Args:
            max_bytes: How much may stay.

        Returns:
            How many bytes of vectors were deleted.

        Raises:
            StorageError: The index cannot be written.
        """
        deleted = 0
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            sizes = dict(connection.execute("SELECT shard, used * dim * 4 FROM shards").fetchall())
            total = sum(sizes.values())
            for shard in sorted(sizes, key=lambda shard: (self._last_use(shard), shard)):
                if total - deleted <= max_bytes:
                    break
                connection.execute("DELETE FROM vectors WHERE shard = ?", (shard,))
                connection.execute("DELETE FROM shards WHERE shard = ?", (shard,))
                self._file(shard).unlink(missing_ok=True)
                deleted += sizes[shard]
            connection.execute("COMMIT")
        if deleted:
            logger.info("feature cache %s: evicted %d of %d bytes", self.folder, deleted, total)
        return deleted

    @property
    def _index(self) -> Path:
        return self.folder / "index.sqlite"

    def _file(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:06d}.npy"

    def _last_use(self, shard: int) -> float:
        file = self._file(shard)
        return file.stat().st_mtime if file.exists() else 0.0

    def _prepare(self) -> None:
        with contextlib.closing(sqlite3.connect(self._index, timeout=60)) as connection:
            connection.executescript(_SCHEMA)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Opens the index for one operation; closing without a commit undoes it, as a killed process does."""
        try:
            with contextlib.closing(sqlite3.connect(self._index, timeout=60, isolation_level=None)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise StorageError(f"cannot use the index of the feature cache {self.folder}: {error}") from error

    def _read(
        self, shard: int, positions: NDArray[np.int64], crc: NDArray[np.int64], dim: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Returns rows of a shard ``[n, dim]`` and which of them match their checksum ``[n]``."""
        file = self._file(shard)
        try:
            rows = np.load(file, mmap_mode="r")[positions]
        except (OSError, ValueError, IndexError, EOFError) as error:
            logger.warning("feature cache: %s is damaged (%s); encoding its %d vectors again", file, error, len(crc))
            return np.zeros((len(positions), dim), dtype=np.float32), np.zeros(len(positions), dtype=bool)
        with contextlib.suppress(OSError):  # somebody else's cache may be read only
            file.touch()  # the time of last use, for eviction
        sound = np.array([zlib.crc32(row.tobytes()) for row in rows], dtype=np.int64) == crc
        if not sound.all():
            logger.warning("feature cache: %d vectors of %s are damaged; encoding them again", (~sound).sum(), file)
        return rows, sound

    def _append(self, connection: sqlite3.Connection, keys: list[str], values: NDArray[np.float32]) -> int:
        """Writes as many rows as the open shard takes and returns how many; the caller commits."""
        dim = values.shape[1]
        shard, used, capacity = self._open_shard(connection, dim)
        taken = min(len(keys), capacity - used)
        rows = np.load(self._file(shard), mmap_mode="r+")
        rows[used : used + taken] = values[:taken]
        rows.flush()
        connection.executemany(
            "INSERT INTO vectors VALUES (?, ?, ?, ?)",
            [(keys[i], shard, used + i, zlib.crc32(values[i].tobytes())) for i in range(taken)],
        )
        connection.execute("UPDATE shards SET used = ? WHERE shard = ?", (used + taken, shard))
        return taken

    def _open_shard(self, connection: sqlite3.Connection, dim: int) -> tuple[int, int, int]:
        """Returns number, used rows and capacity of a shard with a free row, made if need be."""
        candidates = connection.execute(
            "SELECT shard, used, capacity FROM shards WHERE dim = ? AND used < capacity ORDER BY shard", (dim,)
        ).fetchall()
        for shard, used, capacity in candidates:
            if self._is_whole(shard, capacity, dim):
                return shard, used, capacity
        capacity = max(1, _SHARD_BYTES // (4 * dim))
        cursor = connection.execute("INSERT INTO shards (dim, capacity, used) VALUES (?, ?, 0)", (dim, capacity))
        shard = int(cursor.lastrowid or 0)
        # All of it, so that a full disk is an error here, and no signal when a row of a hole in the file is written.
        np.save(self._file(shard), np.zeros((capacity, dim), dtype="<f4"))
        return shard, 0, capacity

    def _is_whole(self, shard: int, capacity: int, dim: int) -> bool:
        try:
            return bool(np.load(self._file(shard), mmap_mode="r").shape == (capacity, dim))
        except (OSError, ValueError, EOFError):
            return False

    def _forget(self, keys: list[str]) -> None:
        with self._connection() as connection:
            connection.execute("DELETE FROM vectors WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(keys),))
