from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.errors import ConfigError, DataError
from gnnrec.modalities.encode import encode_dataset
from gnnrec.modalities.reviews import with_reviews

LOG = pd.DataFrame(
    {
        "user_id": ["u", "u", "v", "w", "w", "v"],
        "item_id": ["a", "b", "a", "a", "b", "c"],
        "timestamp": [3, 1, 1, 2, 9, 5],
        "review": ["third", "dull", "first", "second", None, "  "],
    }
)


def cells(table: pd.DataFrame, ids: np.ndarray, of: str) -> dict[str, list[str]]:
    columns = [name for name in table if name.startswith(f"{of}_review_")]
    return {str(owner): row.dropna().tolist() for owner, (_, row) in zip(ids, table[columns].iterrows(), strict=True)}


def test_each_owner_gets_its_latest_reviews_first():
    data = with_reviews(gr.Dataset.from_frames(LOG), limit=2)
    assert cells(data.item_table, data.items.ids, "item") == {"a": ["third", "second"], "b": ["dull"], "c": []}
    assert cells(data.user_table, data.users.ids, "user") == {"u": ["third", "dull"], "v": ["first"], "w": ["second"]}


def test_without_times_the_order_of_the_log_counts():
    data = with_reviews(gr.Dataset.from_frames(LOG.drop(columns="timestamp")), limit=2)
    assert cells(data.item_table, data.items.ids, "item")["a"] == ["second", "first"]


def test_tables_keep_what_they_had():
    items = pd.DataFrame({"item_id": ["c", "b", "a"], "title": ["C", "B", "A"]})
    data = with_reviews(gr.Dataset.from_frames(LOG, items, modalities={"title": gr.Text("title")}), limit=1)
    table = data.item_table.set_index(data.items.ids)
    assert table["title"].to_dict() == {"a": "A", "b": "B", "c": "C"}
    assert table.loc["a", "item_review_1"] == "third"
    assert list(data.modalities) == ["title", "item_reviews", "user_reviews"]


@pytest.mark.parametrize(("parts", "rows"), [(True, [0, 0, 0, 1]), (False, [0, 1])])
def test_a_vector_per_review_or_one_for_all(parts, rows):
    data = with_reviews(gr.Dataset.from_frames(LOG), parts=parts, encoder="hashed-words")
    features = encode_dataset(data)["item_reviews"]
    assert features.owner_index.tolist() == rows
    if not parts:
        (joined,) = gr.Dataset.from_frames(LOG).items.find(["a"])
        alone = encode_dataset(
            gr.Dataset.from_frames(
                LOG,
                pd.DataFrame({"item_id": ["a", "b", "c"], "text": ["third second first", "dull", None]}),
                modalities={"text": gr.Text("text", encoder="hashed-words")},
            )
        )["text"]
        np.testing.assert_allclose(features.values[joined], alone.values[joined], atol=1e-6)


@pytest.mark.parametrize(
    "splitter", [gr.split.random(valid=0.2, test=0.2, seed=0), gr.split.leave_last(), gr.split.cold_items(seed=0)]
)
def test_no_text_of_a_held_out_event_is_ever_read(splitter):
    shop = gr.synthetic.shop(num_users=40, num_items=30, seed=1)
    log = shop.interactions.assign(review=[f"text number {row}" for row in range(len(shop.interactions))])
    train, valid, test = gr.Dataset.from_frames(log, shop.items).split(splitter)
    reviewed = with_reviews(train, limit=1000)
    written = set(train.events.columns["review"])
    held_out = {*valid.events.columns["review"], *test.events.columns["review"]} - written
    assert len(held_out) > 20
    for of, table in (("item", reviewed.item_table), ("user", reviewed.user_table)):
        columns = [name for name in table if name.startswith(f"{of}_review_")]
        found = set(table[columns].melt()["value"].dropna())
        assert found == written
        assert not found & held_out


@pytest.mark.parametrize("splitter", [gr.split.random(seed=0), gr.split.cold_items(seed=0)])
def test_reviews_walk_the_whole_road(splitter):
    """Every review names its item's taste, so a model that learns from nothing but reviews finds it."""
    shop = gr.synthetic.shop(num_users=60, num_items=40, seed=2)
    taste = pd.Series(shop.item_taste, index=shop.items["item_id"])
    words = np.array(["oven butter saucepan", "rose seed compost", "guitar concert drum", "whale coral anchor"])
    log = shop.interactions.assign(review=words[taste[shop.interactions["item_id"]].to_numpy()])
    modalities = {"look": shop.vectors()}
    train, valid, test = gr.Dataset.from_frames(log, shop.items, modalities=modalities).split(splitter)
    train = with_reviews(train, limit=3, encoder="hashed-words")
    rec = gr.Recommender(embedding_dim=16, epochs=2, device="cpu").fit(train, valid=valid, progress=False)
    assert rec.fit_report.media["item_reviews"].given > 20
    assert rec.fit_report.media["user_reviews"].given == train.num_users
    assert 0 < rec.evaluate(test).values["recall@20"] <= 1
    content = gr.Recommender.preset("content-knn").fit(with_reviews_only(train), valid=valid, progress=False)
    similar = content.similar_items(train.items.ids[:10], k=3)
    assert (taste[similar["query"]].to_numpy() == taste[similar["item_id"]].to_numpy()).mean() > 0.9


def with_reviews_only(data: gr.Dataset) -> gr.Dataset:
    return replace(data, modalities={"item_reviews": data.modalities["item_reviews"]})


def test_bad_input_is_named():
    data = gr.Dataset.from_frames(LOG)
    with pytest.raises(DataError, match="no column 'text'; it has 'review'"):
        with_reviews(data, "text")
    with pytest.raises(ConfigError, match="'limit' is at least 1, not 0"):
        with_reviews(data, limit=0)
    with pytest.raises(DataError, match="'item_review_1' already"):
        with_reviews(with_reviews(data))
    items = pd.DataFrame({"item_id": ["a", "b", "c"], "item_review_1": "x"})
    named_alike = gr.Dataset.from_frames(LOG, items)
    with pytest.raises(DataError, match="'item_review_1' already; rename it"):
        with_reviews(named_alike)
