from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.data.labels import item_labels


@pytest.fixture
def shop() -> gr.Dataset:
    items = pd.DataFrame(
        {
            "item_id": ["a", "b", "c", "d"],
            "stars": [4.5, None, 3.0, 1.0],
            "shelf": ["toys", "books", None, "toys"],
            "genres": [["drama", "war"], [], None, ["war"]],
            "imported": [True, False, True, True],
            "blank": [None, None, None, None],
        }
    )
    log = pd.DataFrame({"user_id": [1, 1, 2, 2], "item_id": ["a", "b", "c", "d"]})
    return gr.Dataset.from_frames(log, items=items)


def test_numbers_classes_and_several_classes(shop: gr.Dataset) -> None:
    labels = item_labels(shop, ["stars", "shelf", "genres", "imported"])
    order = shop.items.index_of(np.array(["a", "b", "c", "d"], dtype=object))
    stars = np.array([4.5, 3, 1])
    expected = (stars - stars.mean()) / stars.std()
    np.testing.assert_allclose(labels["stars"][order], np.insert(expected, 1, np.nan), rtol=1e-6)
    np.testing.assert_array_equal(labels["shelf"][order], [1, 0, -1, 1])
    np.testing.assert_array_equal(labels["genres"][order], [[1, 1], [0, 0], [np.nan, np.nan], [0, 1]])
    np.testing.assert_array_equal(labels["imported"][order], [1, 0, 1, 1])
    assert labels["shelf"].dtype == np.int64
    assert labels["stars"].dtype == labels["genres"].dtype == np.float32
    assert item_labels(shop, []) == {}


def test_a_number_that_all_items_share_tells_nothing(shop: gr.Dataset) -> None:
    same = replace(shop, item_table=shop.item_table.assign(stars=[3.0, np.nan, 3.0, 3.0]))
    np.testing.assert_array_equal(item_labels(same, ["stars"])["stars"], [0, np.nan, 0, 0])


def test_a_column_at_fault_is_named(shop: gr.Dataset) -> None:
    with pytest.raises(gr.errors.DataError, match="no column 'shelfs'; did you mean 'shelf'"):
        item_labels(shop, ["shelfs"])
    with pytest.raises(gr.errors.DataError, match="'blank' of the item table is empty"):
        item_labels(shop, ["blank"])
    bare = gr.Dataset.from_frames(pd.DataFrame({"user_id": [1, 2], "item_id": ["a", "b"]}))
    with pytest.raises(gr.errors.DataError, match="the data set has none"):
        item_labels(bare, ["shelf"])
