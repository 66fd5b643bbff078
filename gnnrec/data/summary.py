"""Describes a data set in a few numbers: how much there is, how dense, and who lacks which media."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.data.schema import Vectors, spec_columns

if TYPE_CHECKING:
    from gnnrec.data.dataset import Dataset

__all__ = ["DatasetSummary", "has_media", "summarise"]


@dataclass(frozen=True)
class DatasetSummary:
    """What a data set holds.

    Attributes:
        users: Users in the catalogue.
        items: Items in the catalogue.
        events: Positive events.
        pairs: Distinct user–item pairs among them.
        density: Pairs over ``users × items``.
        median_events_per_user: Over users with at least one event.
        median_events_per_item: Over items with at least one event.
        users_without_events: Users that only a table, vectors or non-positive rows tell of.
        items_without_events: Items likewise.
        modalities: Name → (owners that have it, owners that lack it).
        relations: Name → edges.
    """

    users: int
    items: int
    events: int
    pairs: int
    density: float
    median_events_per_user: float
    median_events_per_item: float
    users_without_events: int
    items_without_events: int
    modalities: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    relations: Mapping[str, int] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, str]]:
        """Returns the summary as (what, value) rows for a table."""
        return [
            ("users", f"{self.users:,} ({self.users_without_events:,} without events)"),
            ("items", f"{self.items:,} ({self.items_without_events:,} without events)"),
            ("events", f"{self.events:,}"),
            ("pairs", f"{self.pairs:,} (density {self.density:.3%})"),
            ("events per user", f"{self.median_events_per_user:g} (median)"),
            ("events per item", f"{self.median_events_per_item:g} (median)"),
            *(
                (f"modality {name}", f"{have:,} have it, {lack:,} lack it")
                for name, (have, lack) in self.modalities.items()
            ),
            *((f"relation {name}", f"{edges:,} edges") for name, edges in self.relations.items()),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{what:<24}{value}" for what, value in self.rows())


def summarise(dataset: "Dataset") -> DatasetSummary:
    """Counts what a data set holds."""
    events_of_user = np.bincount(dataset.events.user_index, minlength=dataset.num_users)
    events_of_item = np.bincount(dataset.events.item_index, minlength=dataset.num_items)
    pairs = dataset.interaction_matrix().nnz
    owners = {name: has_media(dataset, name) for name in dataset.modalities}
    return DatasetSummary(
        users=dataset.num_users,
        items=dataset.num_items,
        events=len(dataset.events),
        pairs=pairs,
        density=pairs / max(1, dataset.num_users * dataset.num_items),
        median_events_per_user=_median(events_of_user),
        median_events_per_item=_median(events_of_item),
        users_without_events=int((events_of_user == 0).sum()),
        items_without_events=int((events_of_item == 0).sum()),
        modalities={name: (int(have.sum()), int((~have).sum())) for name, have in owners.items()},
        relations={name: len(edges.source_index) for name, edges in dataset.relations.items()},
    )


def has_media(dataset: "Dataset", name: str) -> NDArray[np.bool_]:
    """Marks the users or items ``[num_users or num_items]`` for which a modality is given.

    A cell counts as given if it is neither missing nor blank nor an empty list; whether a file
    really lies at the path is found out by encoding it.
    """
    spec = dataset.modalities[name]
    ids, table = dataset.ids(spec.of), dataset.table(spec.of)
    have = np.zeros(len(ids), dtype=bool)
    if isinstance(spec, Vectors):
        have[ids.index_of(spec.ids)] = True
        return have
    assert table is not None  # checked when the data set was built
    for column in spec_columns(spec):
        have |= _given(table[column])
    return have


def _given(column: pd.Series) -> NDArray[np.bool_]:
    """Marks cells that hold something: no missing value, blank text or empty list."""
    text = column.astype(object).where(column.notna(), "")
    is_list = text.map(lambda cell: isinstance(cell, list | tuple | np.ndarray)).to_numpy(dtype=bool)
    lengths = text.where(is_list, text.astype(str).str.strip()).str.len()
    return (lengths > 0).to_numpy(dtype=bool)


def _median(counts: NDArray[np.int64]) -> float:
    return float(np.median(counts[counts > 0])) if (counts > 0).any() else 0.0
