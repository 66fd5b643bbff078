"""Turns item texts into keywords: the words or short phrases that set an item apart and that other items share."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gnnrec.data.frames import read_frame, to_library
from gnnrec.errors import ConfigError, DataError, MissingPackageError
from gnnrec.modalities.item_texts import read_item_texts

__all__ = ["item_keywords", "with_keywords"]

logger = logging.getLogger(__name__)

# A letter, then letters, digits and hyphens: no numbers, which are dates and prices, and no "s" of "Andy's".
_WORD = r"(?u)\b[^\W\d_][\w-]*\w\b"


def item_keywords(
    items: Any,
    columns: str | Sequence[str],
    *,
    limit: int = 10,
    max_words: int = 1,
    min_items: int = 2,
    stop_words: Sequence[str] | None = None,
) -> Any:
    """Finds the keywords of each item by TF-IDF over the catalogue (scikit-learn).

    The weight of a keyword is ``(1 + ln n) × (1 + ln((1 + N) / (1 + d)))`` for ``n`` occurrences in the item's text and
    ``d`` of ``N`` items that have it, divided by the length of all such weights of the item.

    Keywords of new items are found in the table of old and new items together.

    Args:
        items: A frame or path with ``item_id`` and the text columns.
        columns: One text column or several, which are joined.
        limit: At most so many keywords per item, the heaviest.
        max_words: The longest phrase; 2 finds "james bond" beside "bond", and "lord rings", without the stop words.
        min_items: A keyword occurs in so many items at least; what only one item has leads to no other.
        stop_words: Words that never count; scikit-learn's English list when not given, and an empty list for none.

    Returns:
        A frame ``item_id, keyword, weight`` of the library of ``items``, the heaviest of each item first. Items without
        text or keyword have no row, and the log says how many.

    Raises:
        ConfigError: A number is below 1.
        DataError: A column is absent, or no word is in ``min_items`` items.
        MissingPackageError: scikit-learn is not installed.
    """
    for name, value in (("limit", limit), ("max_words", max_words), ("min_items", min_items)):
        if value < 1:
            raise ConfigError(f"item_keywords: option {name!r} is at least 1, not {value}")
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise MissingPackageError("keywords need scikit-learn: pip install 'gnnrec[language]'") from error

    given = read_item_texts(items, columns, "keywords")
    vectorizer = TfidfVectorizer(
        token_pattern=_WORD,
        stop_words="english" if stop_words is None else list(stop_words),
        ngram_range=(1, max_words),
        min_df=min_items,
        sublinear_tf=True,
    )
    try:
        weights = vectorizer.fit_transform(given.texts).tocoo()
    except ValueError as error:  # an empty vocabulary
        raise DataError(
            f"no keyword occurs in {min_items} of the {len(given.texts)} items with text; lower min_items"
        ) from error
    found = pd.DataFrame({"row": weights.row, "word": weights.col, "weight": weights.data})
    found = found.sort_values(["row", "weight", "word"], ascending=[True, False, True])
    found = found.groupby("row", sort=False).head(limit)
    logger.info(
        "%d keywords of %d items; %d items without text, %d without a keyword",
        *(len(found), found["row"].nunique(), given.missing, len(given.texts) - found["row"].nunique()),
    )
    keywords = pd.DataFrame(
        {
            "item_id": given.item_id.to_numpy()[found["row"]],
            "keyword": vectorizer.get_feature_names_out()[found["word"]],
            "weight": found["weight"].to_numpy(dtype=np.float32),
        }
    )
    return to_library(keywords, given.library)


def with_keywords(items: Any, keywords: Any, column: str = "keywords") -> Any:
    """Adds a text column with the keywords of each item, to be used as ``gr.Text("keywords", …)``.

    Args:
        items: A frame or path with ``item_id``.
        keywords: From :func:`item_keywords`; keywords of other items do no harm.
        column: Name of the new column; its cells read ``space station, android``, and are empty for other items.

    Returns:
        The table of the library of ``items``.

    Raises:
        DataError: The table has that column already, or no ``item_id``.
    """
    table, library = read_frame(items, "item table")
    listed, _ = read_frame(keywords, "keywords")
    if "item_id" not in table or column in table:
        fault = f"has a column {column!r} already" if "item_id" in table else "has no column 'item_id'"
        raise DataError(f"the item table {fault}; it has {', '.join(map(repr, table.columns))}")
    joined = listed.groupby("item_id", sort=False)["keyword"].agg(", ".join)
    return to_library(table.assign(**{column: table["item_id"].map(joined)}), library)
