"""Writes ids and embeddings as Parquet files."""

from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnnrec.data.ids import IdArray
from gnnrec.storage import whole_file

__all__ = ["export_parquet"]

Embeddings: TypeAlias = tuple[IdArray, NDArray[np.float32]]


def export_parquet(users: Embeddings, items: Embeddings, folder: Path) -> list[Path]:
    """Writes ``users.parquet`` and ``items.parquet``: an id column and a fixed-size list column ``embedding``.

    Both appear complete or not at all.

    Args:
        users: Ids ``[num_users]`` and vectors ``[num_users, dim]``.
        items: Ids ``[num_items]`` and vectors ``[num_items, dim]``.
        folder: Where to; it is made if need be.

    Returns:
        The two files.

    Raises:
        StorageError: The folder cannot be written.
    """
    tables = {}
    for kind, (ids, vectors) in (("user", users), ("item", items)):
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        tables[folder / f"{kind}s.parquet"] = pa.table({f"{kind}_id": pa.array(ids.tolist()), "embedding": column})
    with ExitStack() as both:
        partial = [both.enter_context(whole_file(file)) for file in tables]
        for file, table in zip(partial, tables.values(), strict=True):
            pq.write_table(table, file)
    return list(tables)
