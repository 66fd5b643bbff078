import logging
import os
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest

import gnnrec as gr
from gnnrec.errors import ConfigError, DataError, MissingPackageError
from gnnrec.modalities.encode import encode_modality
from gnnrec.modalities.keywords import item_keywords, with_keywords

ITEMS = pd.DataFrame(
    {
        "item_id": ["a", "b", "c", "d", "e"],
        "title": ["Reef", "Orbit", None, "The reef", "Frost"],
        "plot": [
            "A diver finds a coral reef and a coral garden in 1995.",
            "A space station falls, and the space station burns.",
            "A robot repairs the space station.",
            "Dying coral.",
            None,
        ],
    }
)


def words_of(keywords: pd.DataFrame, item: str) -> list[str]:
    return keywords.loc[keywords["item_id"] == item, "keyword"].tolist()


def test_keywords_are_what_sets_an_item_apart_and_others_share(caplog):
    with caplog.at_level(logging.INFO):
        keywords = item_keywords(ITEMS, ["title", "plot"], max_words=2)
    assert set(words_of(keywords, "a")) == {"coral", "reef"}
    assert set(words_of(keywords, "b")) == {"space", "station", "space station"}
    assert set(keywords["keyword"]) == {"coral", "reef", "space", "station", "space station"}  # no "1995", no "the"
    assert "e" not in set(keywords["item_id"])  # its only word is its own
    assert "0 items without text, 1 without a keyword" in caplog.text


def test_weights_are_those_of_the_formula():
    keywords = item_keywords(ITEMS, "plot")
    weight = keywords.set_index(["item_id", "keyword"])["weight"]
    # In item c both words occur once and in two of four plots, so they weigh the same.
    assert weight["c"].to_dict() == pytest.approx({"space": np.sqrt(0.5), "station": np.sqrt(0.5)})
    both = item_keywords(ITEMS, "plot", min_items=1)
    inside = {word: 1 + np.log(5 / (1 + items)) for word, items in (("coral", 2), ("diver", 1), ("garden", 1))}
    inside |= {"finds": inside["diver"], "reef": inside["diver"]}
    inside["coral"] *= 1 + np.log(2)
    length = np.sqrt(sum(value**2 for value in inside.values()))
    found = both[both["item_id"] == "a"].set_index("keyword")["weight"]
    assert found.to_dict() == pytest.approx({word: value / length for word, value in inside.items()})


def test_only_the_heaviest_are_kept():
    every, few = (item_keywords(ITEMS, "plot", min_items=1, limit=limit) for limit in (50, 2))
    assert few.groupby("item_id").size().max() == 2
    for item in few["item_id"].unique():
        assert words_of(few, item) == words_of(every, item)[:2]


def test_stop_words_may_be_those_of_another_language():
    items = pd.DataFrame({"item_id": [1, 2], "plot": ["der Hund und die Katze", "der Hund und das Pferd"]})
    assert set(item_keywords(items, "plot", stop_words=["der", "und"])["keyword"]) == {"hund"}
    assert "und" in set(item_keywords(items, "plot", stop_words=[])["keyword"])


def test_keywords_become_a_text_column_that_joins_like_items():
    table = with_keywords(ITEMS, item_keywords(ITEMS, "plot"))
    assert table["keywords"].isna().tolist() == [False, False, False, False, True]
    assert table["keywords"][3] == "coral"
    data = gr.Dataset.from_frames(
        pd.DataFrame({"user_id": ["u"] * 5, "item_id": ITEMS["item_id"]}),
        items=table,
        modalities={"keywords": gr.Text("keywords", encoder="hashed-words")},
    )
    features = encode_modality("keywords", data.modalities["keywords"], data.item_table, data.items)
    assert data.items.ids_of(features.owner_index).tolist() == ["a", "b", "c", "d"]
    likeness = features.values @ features.values.T
    assert likeness[1, 2] > 0.9 > 0.1 > abs(likeness[0, 1])
    assert likeness[0, 3] > 0.6


def test_frames_of_polars_give_frames_of_polars():
    items = pl.from_pandas(ITEMS)
    keywords = item_keywords(items, "plot")
    assert isinstance(keywords, pl.DataFrame)
    assert with_keywords(items, keywords)["keywords"][3] == "coral"


def test_bad_input_is_named(monkeypatch):
    with pytest.raises(DataError, match="no column 'story'"):
        item_keywords(ITEMS, "story")
    with pytest.raises(DataError, match="no column 'item_id'; it has 'plot'"):
        item_keywords(ITEMS[["plot"]], "plot")
    with pytest.raises(DataError, match="no keyword occurs in 4 of the 4 items"):
        item_keywords(ITEMS, "plot", min_items=4)
    with pytest.raises(ConfigError, match="'limit' is at least 1, not 0"):
        item_keywords(ITEMS, "plot", limit=0)
    with pytest.raises(DataError, match="has a column 'title' already"):
        with_keywords(ITEMS, item_keywords(ITEMS, "plot"), "title")
    with pytest.raises(DataError, match="has no column 'item_id'"):
        with_keywords(ITEMS[["plot"]], item_keywords(ITEMS, "plot"))
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(MissingPackageError, match=r"gnnrec\[language\]"):
        item_keywords(ITEMS, "plot")


@pytest.mark.data
def test_plots_of_movies(data_dir):
    movies = gr.datasets.load("ml-100k-multimodal", data_dir=os.fspath(data_dir))
    table = movies.item_table.assign(item_id=movies.items.ids)
    column = movies.modalities["plot"].columns
    keywords = item_keywords(table, column, max_words=2)
    assert {"bond", "james bond"} <= set(words_of(keywords, movies.items.ids[movies.items.find([2])[0]]))
    assert {"toy", "toys"} & set(words_of(keywords, 1))
    assert keywords["keyword"].str.split().str.len().max() == 2
    words = keywords["keyword"].str.split().explode()
    assert (words.str.len() > 1).all()  # no rest of "Andy's"
    assert not words.str.match(r"\d").any()  # no years
