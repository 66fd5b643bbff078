"""Turns columns of the item table into numbers and classes that a model can learn to predict."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.config import suggest
from gnnrec.data.dataset import Dataset
from gnnrec.errors import DataError

__all__ = ["item_labels"]


def item_labels(dataset: Dataset, columns: Iterable[str]) -> dict[str, NDArray[np.generic]]:
    """Reads labels of items.

    Args:
        dataset: Its item table holds the columns.
        columns: A column of numbers, such as a rating or a sentiment; of lists, such as genres, of which an item may
            have several; or of anything else, such as one category per item. Empty cells are unknown.

    Returns:
        Column → ``[num_items]`` float32 (a number, with mean 0 and deviation 1 over all that are known; NaN: unknown),
        ``[num_items, num_classes]`` float32 (0 and 1, or a row of NaN: unknown), or ``[num_items]`` int64 (a class; -1:
        unknown). Classes are counted in their sorted order.

    Raises:
        DataError: A column that is not there, or has no value at all.
    """
    columns, table = list(columns), dataset.item_table
    if columns and table is None:
        raise DataError(f"labels {columns} are columns of the item table, and the data set has none; give items=")
    labels: dict[str, NDArray[np.generic]] = {}
    for name in columns:
        assert table is not None
        if name not in table.columns:
            raise DataError(f"labels: the item table has no column {name!r}{suggest(name, map(str, table.columns))}")
        if not table[name].notna().any():
            raise DataError(f"labels: column {name!r} of the item table is empty; leave it out")
        labels[name] = _read(table[name])
    return labels


def _read(column: pd.Series) -> NDArray[np.generic]:
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.asarray((numbers - np.nanmean(numbers)) / (np.nanstd(numbers) or 1.0), dtype=np.float32)
    if column.map(pd.api.types.is_list_like).any():
        return _several_classes(column)
    return np.asarray(pd.Categorical(column.astype("string")).codes, dtype=np.int64)


def _several_classes(column: pd.Series) -> NDArray[np.float32]:
    cells = column.reset_index(drop=True)
    parts = cells.explode().dropna().astype("string")
    classes = pd.Categorical(parts)
    matrix = np.zeros((len(cells), len(classes.categories)), dtype=np.float32)
    matrix[parts.index.to_numpy(), classes.codes] = 1
    matrix[~cells.map(pd.api.types.is_list_like).to_numpy(dtype=bool)] = np.nan
    return matrix
