"""Writes ids and embeddings as Parquet files."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnnrec.data.ids import IdArray
from gnnrec.errors import StorageError

__all__ = ["export_parquet"]

Embeddings: TypeAlias = tuple[IdArray, NDArray[np.float32]]


def export_parquet(users: Embeddings, items: Embeddings, folder: Path) -> list[Path]:
    """Writes ``users.parquet`` and ``items.parquet``: an id column and a fixed-size list column ``embedding``.

    Each file appears complete or not at all.

    Args:
        users: Ids ``[num_users]`` and vectors ``[num_users, dim]``.
        items: Ids ``[num_items]`` and vectors ``[num_items, dim]``.
        folder: Where to; it is made if need be.

    Returns:
        The two files.

    Raises:
        StorageError: The folder cannot be written.
    """
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, (ids, vectors) in (("user", users), ("item", items)):
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            table = pa.table({f"{kind}_id": pa.array(ids.tolist()), "embedding": column})
            file = folder / f"{kind}s.parquet"
            partial = file.with_suffix(".partial")
            pq.write_table(table, partial)
            partial.replace(file)
            files.append(file)
    except OSError as error:
        raise StorageError(f"cannot write embeddings to {str(folder)!r}: {error}") from error
    return files
