"""Turns text columns of an item table into one text per item, for what reads whole tables and not single media."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gnnrec.data.frames import read_frame
from gnnrec.data.schema import Text
from gnnrec.errors import DataError
from gnnrec.modalities.media import collect_media

__all__ = ["ItemTexts", "read_item_texts"]


@dataclass(frozen=True, eq=False)
class ItemTexts:
    """The texts of the items that have one.

    Attributes:
        item_id: ``[num_texts]`` whose text it is.
        texts: ``[num_texts]`` the columns joined, as :class:`gnnrec.Text` joins them.
        missing: Items without text.
        library: What answers should be given in.
    """

    item_id: pd.Series
    texts: list[str]
    missing: int
    library: str


def read_item_texts(items: Any, columns: str | Sequence[str], what: str) -> ItemTexts:
    """Reads an item table.

    Args:
        items: A frame or path with ``item_id`` and the columns.
        columns: One text column or several.
        what: What the texts are for, for messages.

    Raises:
        DataError: A column is absent.
    """
    table, library = read_frame(items, "item table")
    if "item_id" not in table:
        raise DataError(f"{what}: the item table has no column 'item_id'; it has {', '.join(map(repr, table.columns))}")
    gathered = collect_media(what, Text(columns), table, len(table))
    item_id = table["item_id"].iloc[gathered.owner_index].reset_index(drop=True)
    return ItemTexts(item_id, [str(text) for text in gathered.media], gathered.missing, library)
