"""A cleaned log with its catalogue, side tables and modality specifications: what everything else starts from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from gnnrec.data.ids import IdMap
from gnnrec.data.schema import ModalitySpec, Owner

__all__ = ["Dataset", "Events", "RelationEdges"]


@dataclass(frozen=True, eq=False)
class Events:
    """Positive events in catalogue positions, in the order of the log.

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
    columns: Mapping[str, NDArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.user_index)


@dataclass(frozen=True, eq=False)
class RelationEdges:
    """Weighted edges between users or between items, in catalogue positions.

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
    """

    users: IdMap
    items: IdMap
    events: Events
    user_table: pd.DataFrame | None = None
    item_table: pd.DataFrame | None = None
    modalities: Mapping[str, ModalitySpec] = field(default_factory=dict)
    relations: Mapping[str, RelationEdges] = field(default_factory=dict)
    frame_library: str = "pandas"

    def interaction_matrix(self) -> sp.csr_matrix:
        """Returns the distinct pairs as a binary float32 matrix ``[num_users, num_items]``."""
        pairs = sp.coo_matrix(
            (np.ones(len(self.events), dtype=np.float32), (self.events.user_index, self.events.item_index)),
            shape=(len(self.users), len(self.items)),
        ).tocsr()
        pairs.data[:] = 1.0
        return pairs
