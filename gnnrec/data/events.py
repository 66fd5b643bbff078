"""What a data set holds by position in its catalogue: the events of the log, and the edges beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnnrec.data.schema import Owner
from gnnrec.errors import DataError

__all__ = ["Events", "RelationEdges"]


@dataclass(frozen=True, eq=False)
class Events:
    """Positive events in catalogue positions, in the order of the log; the arrays can only be read.

    Attributes:
        user_index: ``[num_events]`` int64.
        item_index: ``[num_events]`` int64.
        weight: ``[num_events]`` float32 confidence, if the log has one.
        timestamp: ``[num_events]`` float64 seconds since 1970 (or whatever number the log gave), if any.
        columns: Every other column of the log, ``[num_events]`` each (for ``split.column``).
    """

    user_index: NDArray[np.int64]
    item_index: NDArray[np.int64]
    weight: NDArray[np.float32] | None = None
    timestamp: NDArray[np.float64] | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _protect(self, "user_index", "item_index", "weight", "timestamp")
        object.__setattr__(self, "columns", {name: _read_only(values) for name, values in self.columns.items()})

    def __len__(self) -> int:
        return len(self.user_index)

    def take(self, rows: NDArray[Any]) -> "Events":
        """Returns the events at the given positions, or under a mask, in that order."""
        return Events(
            user_index=self.user_index[rows],
            item_index=self.item_index[rows],
            weight=None if self.weight is None else self.weight[rows],
            timestamp=None if self.timestamp is None else self.timestamp[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
        )

    def index(self, owner: Owner) -> NDArray[np.int64]:
        """Returns ``user_index`` or ``item_index``."""
        return self.item_index if owner == "item" else self.user_index

    def column(self, name: str) -> NDArray[Any]:
        """Returns one of the other columns.

        Raises:
            DataError: The log has no such column.
        """
        if name not in self.columns:
            known = ", ".join(map(repr, self.columns)) or "no further columns"
            raise DataError(f"the log has no column {name!r}; it has {known}")
        return self.columns[name]


@dataclass(frozen=True, eq=False)
class RelationEdges:
    """Weighted edges between users or between items, in catalogue positions; the arrays can only be read.

    Attributes:
        between: What both ends are.
        source_index: ``[num_edges]`` int64.
        target_index: ``[num_edges]`` int64.
        weight: ``[num_edges]`` float32; ones when the frame had no weight.
    """

    between: Owner
    source_index: NDArray[np.int64]
    target_index: NDArray[np.int64]
    weight: NDArray[np.float32]

    def __post_init__(self) -> None:
        _protect(self, "source_index", "target_index", "weight")


def _protect(owner: Events | RelationEdges, *names: str) -> None:
    """Replaces arrays of a frozen value by views that nobody can write to."""
    for name in names:
        if (array := getattr(owner, name)) is not None:
            object.__setattr__(owner, name, _read_only(array))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
