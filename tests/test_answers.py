"""Places of a list that are kept for new items."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import gnnrec as gr
from gnnrec.answers import NewItems, ranked_frame
from gnnrec.data.ids import IdMap
from gnnrec.errors import ConfigError

ITEMS = IdMap([f"i{i}" for i in range(8)])
IS_NEW = np.array([0, 0, 0, 0, 0, 1, 1, 1], dtype=bool)
SCORES = torch.tensor([[9.0, 8, 7, 6, 5, 4, 3, 2]])


def ranked(share, k=4, scores=SCORES, is_new=IS_NEW, **options):
    new = None if share is None else NewItems(is_new, share)
    queries = pd.Series(np.arange(len(scores)))
    frame = ranked_frame(lambda rows: scores[rows], queries, "query", ITEMS, k, new=new, **options)
    assert frame.groupby("query")["rank"].agg(list).map(lambda ranks: ranks == list(range(1, len(ranks) + 1))).all()
    assert (frame.groupby("query")["score"].diff().dropna() <= 0).all()
    return frame["item_id"].tolist()


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (None, ["i0", "i1", "i2", "i3"]),
        (0, ["i0", "i1", "i2", "i3"]),
        (0.1, ["i0", "i1", "i2", "i3"]),  # .4 of a place
        (0.125, ["i0", "i1", "i2", "i5"]),  # half a place is one
        (0.5, ["i0", "i1", "i5", "i6"]),
        (1, ["i0", "i5", "i6", "i7"]),  # three new ones are all there are
    ],
)
def test_share(share, expected):
    assert ranked(share) == expected


def test_known_items_do_not_leave_their_places_either():
    """A share is kept for each kind, also where new items score best."""
    assert ranked(0.25, scores=-SCORES) == ["i7", "i4", "i3", "i2"]
    assert ranked(None, scores=-SCORES) == ["i7", "i6", "i5", "i4"]


def test_whoever_is_short_is_helped_out():
    assert ranked(0.0, k=7) == ["i0", "i1", "i2", "i3", "i4", "i5", "i6"]
    assert ranked(0.5, k=20) == [f"i{i}" for i in range(8)]
    assert ranked(0.5, is_new=np.zeros(8, bool)) == ["i0", "i1", "i2", "i3"]
    assert ranked(0.5, is_new=np.ones(8, bool)) == ["i0", "i1", "i2", "i3"]


def test_filters_come_first_and_each_row_counts_for_itself():
    scores = torch.cat([SCORES, SCORES])
    hidden = sp.csr_matrix(([1.0, 1.0, 1.0], ([1, 1, 1], [5, 6, 0])), shape=(2, 8))
    assert ranked(0.5, scores=scores, exclude=hidden) == ["i0", "i1", "i5", "i6", "i1", "i2", "i3", "i7"]
    assert ranked(0.5, allowed=np.arange(8) != 5) == ["i0", "i1", "i6", "i7"]
    assert ranked(0.5, allowed=np.zeros(8, bool)) == []


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "half", True])
def test_impossible_shares(share):
    with pytest.raises(ConfigError, match="new_item_share"):
        NewItems(IS_NEW, share)


def test_new_are_the_items_without_interactions():
    shop = gr.synthetic.shop(num_users=60, num_items=30, seed=1)
    data = gr.Dataset.from_frames(shop.interactions, modalities={"look": shop.vectors()})
    rec = gr.Recommender(embedding_dim=8, epochs=2, device="cpu").fit(data, progress=False)
    rec.add_items(vectors={"look": gr.Vectors(shop.vectors().matrix[:4], ["a", "b", "c", "d"])})
    people = rec.state.users.ids
    for answer in (
        rec.recommend(people, k=5, new_item_share=0.4).groupby("user_id"),
        rec.recommend_for([["i01"], []], k=5, new_item_share=0.4).groupby("query"),
    ):
        assert (answer["item_id"].agg(lambda items: items.isin(["a", "b", "c", "d"]).sum()) == 2).all()
    rec.update(pd.DataFrame({"user_id": ["u01"] * 3, "item_id": ["a", "b", "c"]}))
    answer = rec.recommend([people[5]], k=5, new_item_share=1.0)
    assert (answer["item_id"] == "d").sum() == 1
    assert rec.recommend(["nobody"], k=1, on_unknown="popular", new_item_share=1.0)["item_id"].tolist() == ["d"]


def test_equal_scores_stay_in_the_order_of_items():
    is_new = np.arange(8) % 3 == 1
    assert ranked(0.5, scores=torch.ones(1, 8), is_new=is_new) == ["i0", "i1", "i2", "i4"]
    assert ranked(None, scores=torch.ones(1, 8)) == ["i0", "i1", "i2", "i3"]


def test_columns_are_of_one_type_with_and_without_rows():
    nothing, something = (
        ranked_frame(lambda rows: SCORES[:, :8].expand(len(rows), -1), people, "query", ITEMS, 2)
        for people in (pd.Series([], dtype=str), pd.Series(["ann", "bob"], dtype=str))
    )
    assert len(nothing) == 0
    assert len(something) == 4
    assert nothing.dtypes.to_dict() == something.dtypes.to_dict()
