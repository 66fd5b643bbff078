"""New items are described by the items that a relation joins them to."""

import copy
import logging

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.errors import DataError, UnsupportedError
from gnnrec.held_out import take_in

SHOP = gr.synthetic.shop(num_users=120, num_items=60, seed=3)
TASTE = pd.Series(SHOP.item_taste, index=SHOP.items["item_id"])
LOOK = SHOP.vectors(dim=8)
COLD, BARE = ["i07", "i21", "i44"], "i50"  # in the catalogue without interactions; the last one without media as well
QUICK = {"embedding_dim": 16, "epochs": 6, "learning_rate": 0.02, "device": "cpu"}


def joined(frame):
    return gr.Relation(frame, between="item")


@pytest.fixture(scope="module")
def series():
    """Joins each item to the next two of its taste."""
    edges = [
        pd.DataFrame({"source_id": ids[:-step], "target_id": ids[step:]})
        for step in (1, 2)
        for ids in (TASTE.index[taste == TASTE].to_numpy() for taste in range(4))
    ]
    return pd.concat(edges, ignore_index=True)


@pytest.fixture(scope="module")
def fitted(series):
    kept = LOOK.ids != BARE
    data = gr.Dataset.from_frames(
        SHOP.interactions[~SHOP.interactions["item_id"].isin([*COLD, BARE])],
        items=SHOP.items[["item_id"]],
        users=SHOP.users,
        modalities={"look": gr.Vectors(LOOK.matrix[kept], LOOK.ids[kept])},
        relations={"series": joined(series), "follows": SHOP.follows},
    )
    return gr.Recommender(**QUICK).fit(data, progress=False)


@pytest.fixture
def rec(fitted):
    return copy.copy(fitted)


def look(new, like):
    return {"look": gr.Vectors(LOOK.matrix[np.isin(LOOK.ids, like)], [new])}


def edges(new, *others, **columns):
    return {"series": pd.DataFrame({"source_id": new, "target_id": list(others), **columns})}


def vector(rec, item):
    ids, vectors = rec.embeddings("item")
    return vectors[list(ids).index(item)]


def test_an_item_without_media_is_liked_by_those_who_like_its_series(rec):
    for taste in range(4):
        rec.add_items(pd.DataFrame({"item_id": [f"new-{taste}"]}), relations=edges(f"new-{taste}", *of_taste(taste)))
    offered = rec.recommend(SHOP.users["user_id"], k=1, new_item_share=1.0)
    offered = offered[offered["item_id"].str.startswith("new-")]
    assert len(offered) > 50
    right = (
        offered["item_id"].str[-1].astype(int).to_numpy()
        == SHOP.user_taste[SHOP.users["user_id"].searchsorted(offered["user_id"])]
    )
    assert right.mean() > 0.8


def of_taste(taste):
    known = TASTE.drop([*COLD, BARE])
    return known.index[known == taste][:4]


def test_an_added_item_equals_its_twin_in_the_catalogue(rec, series, tmp_path):
    rec.save(tmp_path / "model")
    for one in (rec, gr.load(tmp_path / "model")):
        for cold in [*COLD, BARE]:
            beside = series[(series == cold).any(axis=1)].replace(cold, "twin")
            vectors = None if cold == BARE else look("twin", cold)
            grown = copy.copy(one)
            grown.add_items(pd.DataFrame({"item_id": ["twin"]}), vectors, {"series": beside})
            np.testing.assert_allclose(vector(grown, "twin"), vector(grown, cold), atol=1e-5)


def test_new_items_tell_each_other_what_they_are(rec):
    """One of two has media, the other hears of them through the edge alone; weights of a mean of one cancel."""
    rec.add_items(pd.DataFrame({"item_id": ["a", "b"]}), look("a", "i02"), edges("b", "a", weight=[7.0]))
    alone = copy.copy(rec)
    alone.add_items(vectors=look("c", "i02"))
    np.testing.assert_allclose(vector(alone, "b"), vector(alone, "c"), atol=1e-5)


def test_update_brings_them_along(rec):
    whole = copy.copy(rec)
    events = pd.DataFrame({"user_id": ["eve"], "item_id": ["x"]})
    rec.update(events, pd.DataFrame({"item_id": ["x"]}), relations=edges("x", "i01", "i02"))
    whole.add_items(pd.DataFrame({"item_id": ["x"]}), relations=edges("x", "i01", "i02")).update(events)
    np.testing.assert_array_equal(vector(rec, "x"), vector(whole, "x"))


def test_edges_without_an_effect_are_reported(rec, caplog):
    with caplog.at_level(logging.INFO, "gnnrec"):
        rec.add_items(vectors=look("x", "i02"), relations={"series": edges("x", "i01", "nowhere")["series"]})
        again = edges("y", "i01", "i03")["series"]
        rec.add_items(vectors=look("y", "i02"), relations={"series": pd.concat([again, again.assign(source_id="i09")])})
    assert "'series': unknown item': 1" in caplog.text.replace('"', "'")
    assert 'between known items, which stay as they are": 2' in caplog.text


def test_evaluate_hears_of_the_relations_of_the_test_set(fitted, caplog):
    """Strangers among the items, without media: what series they belong to is all there is to know."""
    new = [f"new-{taste}-{copy}" for taste in range(4) for copy in range(3)]
    wanted = pd.DataFrame(
        [
            (user, item)
            for user, taste in zip(SHOP.users["user_id"], SHOP.user_taste, strict=True)
            for item in new
            if item.startswith(f"new-{taste}")
        ],
        columns=["user_id", "item_id"],
    )
    of_series = pd.concat([edges(item, *of_taste(int(item[4])))["series"] for item in new])
    items = SHOP.items[["item_id"]].merge(pd.DataFrame({"item_id": new}), how="outer")
    recall = {}
    with caplog.at_level(logging.INFO, "gnnrec"):
        for name in ("series", "sequel"):  # of which the fit knew the first
            test = gr.Dataset.from_frames(wanted, items=items, relations={name: joined(of_series)})
            recall[name] = fitted.evaluate(test, ("recall@3",), candidates="cold").values["recall@3"]
    assert recall["series"] > 0.7 > 0.5 > recall["sequel"]
    assert "relation 'sequel': new items are not described by it" in caplog.text


def test_edges_that_cannot_tell_anything_are_counted(rec, caplog):
    alone = copy.copy(rec)
    alone.add_items(vectors=look("x", "i02"))
    with caplog.at_level(logging.WARNING, "gnnrec"):  # loudly, since nothing is left
        rec.add_items(vectors=look("x", "i02"), relations=edges("x", "i01", "i03", "x", weight=[0.0, -1.0, 1.0]))
    assert "'series': an item with itself\": 1" in caplog.text
    assert "'series': weight is not above 0\": 2" in caplog.text
    np.testing.assert_array_equal(vector(rec, "x"), vector(alone, "x"))


@pytest.mark.parametrize("name", ["co_occurs", "similar_by_item"])
def test_a_relation_may_be_called_like_a_derived_one_that_is_not_there(series, name):
    data = gr.Dataset.from_frames(SHOP.interactions, modalities={"look": LOOK}, relations={name: joined(series)})
    rec = gr.Recommender(**{**QUICK, "epochs": 1}, co_occurring_items=0).fit(data, progress=False)
    assert list(rec.state.ranker.relations) == [name]


WRONG = {
    "not a mapping": (
        lambda rec: rec.add_items(vectors=look("x", "i02"), relations=edges("x", "i01")["series"]),
        "relations= is a mapping from names to frames, not a DataFrame",
    ),
    "an unknown relation": (
        lambda rec: rec.add_items(vectors=look("x", "i02"), relations={"sequel": edges("x", "i01")["series"]}),
        r"'sequel' was not there .*\(known between items: series\)",
    ),
    "a relation of users": (
        lambda rec: rec.add_items(vectors=look("x", "i02"), relations={"follows": edges("x", "i01")["series"]}),
        "'follows' was not there",
    ),
    "declared between users": (
        lambda rec: rec.add_items(vectors=look("x", "i02"), relations={"series": gr.Relation(SHOP.follows)}),
        "'series' of new items is between='item', not 'user'",
    ),
    "a missing column": (
        lambda rec: rec.add_items(vectors=look("x", "i02"), relations={"series": pd.DataFrame({"source_id": ["x"]})}),
        "relation 'series': no column 'target_id'",
    ),
    "related to an item without media": (
        lambda rec: rec.add_items(pd.DataFrame({"item_id": ["x"]}), relations=edges("x", BARE)),
        "no medium .*'x'; give them one or relate them to items that have one",
    ),
    "of no new item": (
        lambda rec: rec.update(pd.DataFrame({"user_id": ["eve"], "item_id": ["i01"]}), relations=edges("x", "i01")),
        "those of new items; give items=",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_after_an_error_nothing_has_changed(rec, case):
    call, message = WRONG[case]
    state = rec.state
    with pytest.raises(DataError, match=message):
        call(rec)
    assert rec.state is state


def test_rankers_that_know_no_relations_say_so(rec):
    data = gr.Dataset.from_frames(SHOP.interactions, modalities={"look": LOOK})
    for preset in ("gnnrec", "content-knn"):
        options = {"epochs": 1} if preset == "gnnrec" else {}
        other = gr.Recommender.preset(preset, device="cpu", **options).fit(data, progress=False)
        with pytest.raises(UnsupportedError, match=r"relations of new items: the ranker .* knows none between items"):
            other.add_items(vectors=look("x", "i02"), relations=edges("x", "i01"))


def test_a_misleading_relation_is_not_heard(caplog):
    """Edges between items of different tastes say nothing of what an item is like."""
    ids = TASTE.sort_values(kind="stable").index.to_numpy()
    chance = pd.DataFrame(
        {"source_id": np.tile(ids, 3), "target_id": np.concatenate([np.roll(ids, s) for s in (15, 29, 41)])}
    )
    data = gr.Dataset.from_frames(SHOP.interactions, modalities={"look": LOOK}, relations={"chance": joined(chance)})
    rec = gr.Recommender(**QUICK).fit(data, progress=False)
    assert rec.state.ranker.relations == {"chance": False}
    with caplog.at_level(logging.INFO, "gnnrec"):
        rec.add_items(vectors=look("x", "i02"), relations={"chance": edges("x", "i01", "i30")["series"]})
    assert 'did not help to describe items in the fit": 2' in caplog.text
    rec.add_items(vectors=look("y", "i02"))
    np.testing.assert_allclose(vector(rec, "x"), vector(rec, "y"), atol=1e-6)
    with pytest.raises(DataError, match=r"no medium .*'z'; give them one, or leave them out"):
        rec.add_items(pd.DataFrame({"item_id": ["z"]}), relations={"chance": edges("z", "i01")["series"]})


def test_an_item_that_only_another_one_without_media_tells_of_is_left_out_with_its_edges(rec, caplog):
    """Which describes the other one as if it were not there, whichever end of an edge it is."""
    joins = pd.concat([edges("a", "i01", "b")["series"], edges("c", "a")["series"]])
    new = pd.DataFrame({"item_id": ["a", "b", "c"]})
    events = new.assign(user_id=SHOP.users["user_id"][:3])
    items = SHOP.items[["item_id"]].merge(new, how="outer")
    held_out = take_in(
        rec.state, gr.Dataset.from_frames(events, items=items, relations={"series": joined(joins)}), device="cpu"
    )
    assert "2 of 3 new items of the test set have no medium that the model knows" in caplog.text
    rec.add_items(new[:1], relations=edges("a", "i01"))
    assert held_out.state.items.ids.tolist() == rec.state.items.ids.tolist()
    np.testing.assert_array_equal(held_out.state.ranker.vectors("item"), rec.state.ranker.vectors("item"))


def test_an_edge_without_an_effect_is_counted_for_one_reason(rec, caplog):
    relation = pd.concat([edges("x", "i01")["series"], edges("i09", "i09", "i02")["series"]])
    with caplog.at_level(logging.INFO, "gnnrec"):
        rec.add_items(vectors=look("x", "i02"), relations={"series": relation})
    assert 'an item with itself": 1' in caplog.text
    assert 'between known items, which stay as they are": 1' in caplog.text
