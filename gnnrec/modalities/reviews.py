"""Turns the review column of a training log into texts of the items and of the people who wrote them."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gnnrec.data.dataset import Dataset
from gnnrec.data.schema import Owner, Text
from gnnrec.errors import ConfigError, DataError

__all__ = ["with_reviews"]

logger = logging.getLogger(__name__)


def with_reviews(
    train: Dataset, column: str = "review", *, limit: int = 10, parts: bool = True, encoder: str = "auto"
) -> Dataset:
    """Adds the modalities ``item_reviews``, what is said of an item, and ``user_reviews``, what a person says.

    Only the events of ``train`` are read. Reviews of held-out events would give the answer away, so split first, and
    give ``fit`` a validation part: the tenth that it else holds out of ``train`` would have its reviews in the texts.

    Args:
        train: The training part, whose log has the column.
        column: The column of the log that holds the reviews; a cell may be empty.
        limit: At most so many texts per item and per person: the latest, by time or else by the order of the log.
        parts: A vector per review, over which the model attends; else all reviews of an owner in one text, the latest
            first, which the encoder cuts at its ``max_tokens``.
        encoder: As for :class:`gnnrec.Text`.

    Returns:
        The same data set with two more modalities, and with the texts in new columns ``item_review_1``, … of the item
        table and ``user_review_1``, … of the user table.

    Raises:
        ConfigError: ``limit`` is below 1.
        DataError: The log has no such column, or a modality or column of these names is there already.
    """
    if limit < 1:
        raise ConfigError(f"with_reviews: option 'limit' is at least 1, not {limit}")
    reviews = train.events.column(column)
    item_table = _with_texts(train, reviews, "item", limit)
    user_table = _with_texts(train, reviews, "user", limit)
    specs = dict(train.modalities)
    for of in ("item", "user"):
        if f"{of}_reviews" in specs:
            raise DataError(f"the data set has a modality '{of}_reviews' already; reviews are added once")
        specs[f"{of}_reviews"] = Text(_columns(of, limit), of=of, parts=parts, encoder=encoder)
    return replace(train, item_table=item_table, user_table=user_table, modalities=specs)


def _with_texts(train: Dataset, reviews: NDArray[np.object_], of: Owner, limit: int) -> pd.DataFrame:
    """Returns the table of the owners with ``limit`` more columns of texts, the latest first."""
    num_owners, table = len(train.ids(of)), train.table(of)
    texts = _latest(train.events.index(of), reviews, train.events.timestamp, limit)
    logger.info("reviews of %d of %d %ss, %d texts", texts["owner"].nunique(), num_owners, of, len(texts))
    cells = texts.pivot(index="owner", columns="rank", values="text")
    cells = cells.reindex(index=range(num_owners), columns=range(limit)).set_axis(_columns(of, limit), axis=1)
    if table is None:
        return cells.rename_axis(None)
    taken = [name for name in cells.columns if name in table]
    if taken:
        raise DataError(f"the {of} table has a column {taken[0]!r} already; rename it")
    return pd.concat([table, cells], axis=1)


def _latest(
    owner_index: NDArray[np.int64], review: NDArray[np.object_], timestamp: NDArray[np.float64] | None, limit: int
) -> pd.DataFrame:
    """Returns ``owner, rank, text`` of the latest reviews that are not blank; rank 0 is the latest of its owner."""
    texts = pd.DataFrame({"owner": owner_index, "text": review})
    if timestamp is not None:
        texts = texts.iloc[np.argsort(timestamp, kind="stable")]
    texts = texts[texts["text"].notna() & (texts["text"].astype(str).str.strip() != "")]
    texts = texts.assign(rank=texts.groupby("owner").cumcount(ascending=False))
    return texts[texts["rank"] < limit]


def _columns(of: Owner, limit: int) -> list[str]:
    return [f"{of}_review_{number}" for number in range(1, limit + 1)]
