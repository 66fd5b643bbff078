"""Items come and go, events and people come, and nothing is ever half done."""

import copy
import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch

import gnnrec as gr
from gnnrec import growth
from gnnrec.errors import DataError, EncoderError, UnknownIdError, UnsupportedError
from gnnrec.modalities import scaling
from gnnrec.modalities.encoder import register_encoder
from gnnrec.modalities.features import EncoderCard
from gnnrec.rankers.neural import NeuralRanker

SHOP = gr.synthetic.shop(num_users=80, num_items=50, seed=5)
LOOK = SHOP.vectors(dim=8)
QUICK = {"embedding_dim": 16, "epochs": 4, "learning_rate": 0.02, "device": "cpu"}
REMOVED = "i05"


class MeanColour:
    """Sees of a picture nothing but its mean colour."""

    modality = "image"
    card = EncoderCard(name="mean-colour", modality="image", dim=3)

    def encode(self, pictures):
        return np.stack([np.asarray(picture, dtype=np.float32).mean(axis=(0, 1)) for picture in pictures])


register_encoder("image", "mean-colour", lambda device: MeanColour())


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    items = SHOP.write_media(folder)
    (folder / "broken.png").write_bytes(b"no picture")
    return folder, items


@pytest.fixture(scope="module")
def fitted(media):
    folder, items = media
    data = gr.Dataset.from_frames(
        SHOP.interactions,
        items,
        SHOP.users,
        modalities={
            "look": LOOK,
            "picture": gr.Image("picture", encoder="mean-colour"),
            "bio": gr.Text("bio", of="user", encoder="wordllama"),
        },
        media_root=folder,
    )
    return gr.Recommender(**QUICK).fit(data, progress=False).remove_items([REMOVED])


@pytest.fixture
def rec(fitted):
    """A recommender that a test may change without touching the others'."""
    return copy.copy(fitted)


def look(*ids, rows=None):
    return {"look": gr.Vectors(LOOK.matrix[: len(ids)] if rows is None else rows, list(ids))}


def log(*pairs, **columns):
    return pd.DataFrame({"user_id": [user for user, _ in pairs], "item_id": [item for _, item in pairs], **columns})


def pairs_of(state, user):
    return set(state.items.ids_of(state.train[state.users.index_of([user])].indices))


class TestRemoveItems:
    def test_a_removed_item_is_in_no_answer(self, rec):
        everybody = rec.state.users.ids
        first = rec.recommend(everybody, k=50, exclude_seen=False)
        assert REMOVED not in set(first["item_id"])
        gone = first["item_id"].value_counts().index[:3].tolist()
        rec.remove_items(gone)
        histories = [SHOP.items["item_id"].tolist()[:3], []]
        answers = [
            rec.recommend(everybody, k=50, exclude_seen=False),
            rec.recommend(["stranger"], k=50, on_unknown="popular"),
            rec.recommend(everybody, k=50, include_items=[*gone, "i00", "i01"], exclude_seen=False),
            rec.recommend(everybody, k=50, new_item_share=0.5, exclude_seen=False),
            rec.recommend_for(histories, k=50),
            rec.similar_items(rec.state.items.ids, k=50),
        ]
        for answer in answers:
            assert len(answer)
            assert not set(answer["item_id"]) & {*gone, REMOVED}
        ids, vectors = rec.embeddings("item")
        assert set(ids) == set(rec.state.items.ids) - {*gone, REMOVED}
        assert len(vectors) == len(ids)
        left = first[~first["item_id"].isin(gone)]
        assert list(answers[0]["item_id"]) == list(left["item_id"])  # the others keep their order

    def test_exports_lack_it(self, rec, tmp_path):
        frame = pd.read_parquet(rec.export(tmp_path)[1])
        assert set(frame["item_id"]) == set(SHOP.items["item_id"]) - {REMOVED}

    def test_it_still_shapes_people_and_answers_what_is_like_it(self, rec):
        user = SHOP.interactions["user_id"][SHOP.interactions["item_id"] == "i07"].iloc[0]
        before = rec.embeddings("user")[1]
        neighbours = list(rec.similar_items(["i07"], k=3)["item_id"])
        rec.remove_items(["i07"])
        np.testing.assert_array_equal(rec.embeddings("user")[1], before)
        assert "i07" in pairs_of(rec.state, user)
        assert list(rec.similar_items(["i07"], k=3)["item_id"]) == neighbours
        by_removed, by_nothing = (rec.recommend_for([history], k=20) for history in (["i07"], []))
        assert not np.allclose(by_removed["score"], by_nothing["score"])
        rec.update(log(("newcomer", "i07")))
        assert pairs_of(rec.state, "newcomer") == {"i07"}

    def test_events_on_it_count_as_missed(self, rec):
        test = gr.Dataset.from_frames(log(("newcomer", "i09")))
        assert rec.evaluate(test, ("recall@50",)).values["recall@50"] == 1
        rec.remove_items(["i09"])
        for candidates in ("all", "cold"):
            assert rec.evaluate(test, ("recall@50",)).values["recall@50"] == 0, candidates

    def test_it_stays_removed_when_saved_and_when_the_catalogue_grows(self, rec, tmp_path):
        rec.add_items(vectors=look("x", "y")).remove_items(["x"]).save(tmp_path / "model")
        loaded = gr.load(tmp_path / "model")
        assert list(loaded.state.items.ids_of(loaded.state.removed)) == [REMOVED, "x"]
        loaded.add_items(vectors=look("z"))
        answer = loaded.recommend(SHOP.users["user_id"], k=60, exclude_seen=False)
        assert {"y", "z"} <= set(answer["item_id"])
        assert not set(answer["item_id"]) & {REMOVED, "x"}

    def test_a_fit_starts_with_what_its_data_say(self, rec, media):
        data = gr.Dataset.from_frames(SHOP.interactions)
        rec.fit(data, progress=False)
        assert len(rec.state.removed) == 0


class TestUpdate:
    def test_repeated_and_known_pairs_change_nothing(self, rec, caplog):
        state = rec.state
        user = state.users.ids[0]
        known = next(iter(pairs_of(state, user)))
        with caplog.at_level(logging.INFO, "gnnrec"):
            rec.update(log((user, known), (user, known), (user, known), time=[1, 2, 3]))
        assert "0 new pairs of 0 users, 0 of them new; 3 events repeat a pair" in caplog.text
        assert rec.state.ranker is state.ranker
        assert (rec.state.train != state.train).nnz == 0
        fresh = sorted(set(state.items.ids) - pairs_of(state, user))[0]
        with caplog.at_level(logging.INFO, "gnnrec"):
            rec.update(log((user, fresh), (user, fresh), ("newcomer", known), time=[1, 2, 3]))
        assert "2 new pairs of 2 users, 1 of them new; 1 events repeat a pair" in caplog.text
        assert rec.state.train.nnz == state.train.nnz + 2
        assert set(rec.state.train.data) == {1.0}

    def test_equals_a_state_that_took_all_events_at_once(self, rec):
        rec.add_items(vectors=look("x"))
        events = log(("a", "i01"), ("a", "x"), ("b", "i03"), ("b", "i01"), ("b", "x"))
        whole = copy.copy(rec)
        whole.update(events)
        rec.update(events[:1]).update(events[2:]).update(events[1:2])
        np.testing.assert_array_equal(rec.state.train.toarray(), whole.state.train.toarray())
        for kind in ("user", "item"):
            np.testing.assert_allclose(rec.embeddings(kind)[1], whole.embeddings(kind)[1], atol=1e-6)

    def test_new_items_move_towards_their_people_and_survive_saving(self, rec, tmp_path):
        rec.add_items(vectors=look("x", "y"))
        before = dict(zip(*rec.embeddings("item"), strict=True))
        events = log(*((user, "x") for user in SHOP.users["user_id"][:8]), ("eve", "i01"))
        rec.update(events[:3])
        rec.save(tmp_path / "model")
        again = gr.load(tmp_path / "model").update(events[3:])
        rec.update(events[3:])
        after = dict(zip(*rec.embeddings("item"), strict=True))
        assert [item for item in after if not np.array_equal(after[item], before[item])] == ["x"]
        np.testing.assert_array_equal(again.embeddings("item")[1], rec.embeddings("item")[1])
        liked = SHOP.users["user_id"][:8]
        ids, users = rec.embeddings("user")
        mean = users[np.isin(ids, liked)].mean(axis=0)
        assert mean @ after["x"] > mean @ before["x"]
        x = rec.state.items.index_of(["x"])
        unit = rec.state.ranker.serving.item_now[:, :-1]
        expected = torch.nn.functional.cosine_similarity(unit[x], unit)
        torch.testing.assert_close(rec.state.ranker.similar(x)[0], expected)

    def test_late_events_count_and_are_reported(self, rec, caplog, tmp_path):
        newest = SHOP.interactions["timestamp"].max()
        assert rec.state.last_event == newest
        with caplog.at_level(logging.INFO, "gnnrec"):
            rec.update(
                log(("late", "i01"), ("late", "i02"), ("late", "i03"), time=[newest - 9, newest - 8, newest + 7])
            )
        assert "2 events are older than the newest one known" in caplog.text
        assert pairs_of(rec.state, "late") == {"i01", "i02", "i03"}
        rec.save(tmp_path / "model")
        assert gr.load(tmp_path / "model").state.last_event == newest + 7
        caplog.clear()
        rec.update(log(("late", "i04")))
        assert "older" not in caplog.text
        assert rec.state.last_event == newest + 7
        rec.update(log(("late", "i05"), time=[newest]))
        assert rec.state.last_event == newest + 7

    def test_bad_rows_are_dropped_and_reported(self, rec, caplog):
        rec.update(log(("newcomer", "i01"), (None, "i02"), ("newcomer", None)))
        assert "removed 2 invalid rows" in caplog.text
        assert pairs_of(rec.state, "newcomer") == {"i01"}
        with pytest.raises(DataError, match="row 1, column 'user_id'"):
            rec.update(log(("newcomer", "i01"), (None, "i02")), cleaning=None)

    def test_brings_new_items_along(self, rec):
        whole = copy.copy(rec)
        events = log(("newcomer", "x"), ("newcomer", "i01"))
        rec.update(events, vectors=look("x", "y"))
        whole.add_items(vectors=look("x", "y")).update(events)
        for kind in ("user", "item"):
            np.testing.assert_array_equal(rec.embeddings(kind)[1], whole.embeddings(kind)[1])
        assert pairs_of(rec.state, "newcomer") == {"x", "i01"}

    @pytest.mark.parametrize(
        "rows", [torch.eye(8)[:1].bfloat16(), torch.eye(8)[:1].requires_grad_(), np.eye(8)[:1].tolist()]
    )
    def test_vectors_of_new_items_come_in_every_form_that_a_data_set_takes(self, rec, rows):
        expected = rec.add_items(vectors=look("x", rows=np.eye(8)[:1])).state.features["look"].values[-1]
        rec.add_items(vectors=look("y", rows=rows))
        np.testing.assert_array_equal(rec.state.features["look"].values[-1], expected)

    def test_a_table_of_new_items(self, rec, media):
        folder, items = media
        picture = items["picture"].dropna().iloc[0]
        rec.update(log(("newcomer", "x")), pd.DataFrame({"item_id": ["x"], "picture": [str(folder / picture)]}))
        assert rec.state.catalogue.item_table["picture"].iloc[-1].endswith(picture)
        assert len(rec.state.features["picture"]) == items["picture"].notna().sum() + 1


def test_new_items_of_wide_vectors_are_narrowed_as_those_of_the_fit(monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "_MOST_COLUMNS", 5)
    data = gr.Dataset.from_frames(SHOP.interactions, modalities={"look": LOOK})
    rec = gr.Recommender(**QUICK).fit(data, progress=False)
    assert rec.state.features["look"].dim == 5
    with pytest.raises(DataError, match="new vectors are 5 wide, the fitted ones 8"):
        rec.add_items(vectors=look("x", rows=np.ones((1, 5))))
    twin = rec.state.items.ids[3]
    rec.add_items(vectors=look("x", rows=LOOK.matrix[LOOK.ids == twin]))
    rec.save(tmp_path / "model")
    for one in (rec, gr.load(tmp_path / "model")):
        values = one.state.features["look"].values
        np.testing.assert_allclose(values[-1], values[3], atol=1e-5)


# What goes wrong → the call, the error, what its message names.
WRONG = {
    "an id that exists": (lambda rec: rec.add_items(vectors=look("x", "i00")), DataError, "exist already: 'i00'"),
    "an id that was removed": (lambda rec: rec.add_items(vectors=look("x", REMOVED)), DataError, "'i05'.*other ids"),
    "ids of another kind": (lambda rec: rec.add_items(vectors=look(7)), DataError, "must be strings"),
    "no media at all": (lambda rec: rec.add_items(pd.DataFrame({"item_id": ["x"]})), DataError, "no medium.*'x'"),
    "one without media": (
        lambda rec: rec.add_items(pd.DataFrame({"item_id": ["x", "y"]}), look("x")),
        DataError,
        "1 of 2 new items have no medium.*'y'",
    ),
    "another width": (
        lambda rec: rec.add_items(vectors=look("x", rows=np.ones((1, 3)))),
        DataError,
        "'look': new vectors are 3 wide, the fitted ones 8",
    ),
    "an unknown modality": (
        lambda rec: rec.add_items(vectors={"smell": gr.Vectors(np.ones((1, 8)), ["x"])}),
        DataError,
        "'smell' was not there.*look, picture",
    ),
    "a modality of people": (
        lambda rec: rec.add_items(vectors={"bio": gr.Vectors(np.ones((1, 8)), ["x"])}),
        DataError,
        "'bio' was not there.*known of items: look, picture",
    ),
    "not a number": (
        lambda rec: rec.add_items(vectors=look("x", "y", rows=np.array([[1.0] * 8, [np.nan] * 8]))),
        DataError,
        "'look': row 1 .* not finite",
    ),
    "infinite": (
        lambda rec: rec.add_items(vectors=look("x", rows=np.full((1, 8), np.inf))),
        DataError,
        "'look': row 0 .* not finite",
    ),
    "an id twice": (lambda rec: rec.add_items(pd.DataFrame({"item_id": ["x", "x"]})), DataError, "repeated: 'x'"),
    "no rows": (lambda rec: rec.add_items(), DataError, "no row"),
    "vectors of nobody": (
        lambda rec: rec.add_items(pd.DataFrame({"item_id": ["x"]}), look("x", "stray")),
        DataError,
        "'stray'",
    ),
    "removing the unknown": (lambda rec: rec.remove_items(["i01", "nonsense"]), UnknownIdError, "'nonsense'"),
    "removing twice": (lambda rec: rec.remove_items(["i01", REMOVED]), UnknownIdError, "removed already: 'i05'"),
    "removing a single string": (lambda rec: rec.remove_items("i01"), DataError, "single value 'i01'"),
    "events on unknown items": (
        lambda rec: rec.update(log(("u01", "i01"), ("new", "nonsense"))),
        UnknownIdError,
        "'nonsense'; give their media beside the events",
    ),
    "new items, and an event on another": (
        lambda rec: rec.update(log(("u01", "x"), ("u01", "nonsense")), vectors=look("x")),
        UnknownIdError,
        "'nonsense'",
    ),
    "good events, bad new items": (
        lambda rec: rec.update(log(("u01", "i01")), vectors=look("x", rows=np.ones((1, 3)))),
        DataError,
        "3 wide",
    ),
    "an array without ids": (
        lambda rec: rec.add_items(vectors={"look": LOOK.matrix}),
        DataError,
        "modality 'look': expected gnnrec.Vectors",
    ),
    "a column of another kind": (
        lambda rec: rec.add_items(pd.DataFrame({"item_id": ["x"], "title": [7]}), vectors=look("x")),
        DataError,
        "column 'title' holds numeric values, and string values",
    ),
    "a history that is an id": (lambda rec: rec.recommend_for(["i01"]), DataError, "single value 'i01'"),
    "no list of people": (lambda rec: rec.recommend(7), DataError, "single value 7"),
    "a filter that is an id": (
        lambda rec: rec.recommend(["u01"], include_items="i01"),
        DataError,
        "single value 'i01'",
    ),
    "users of another kind": (lambda rec: rec.update(log((7, "i01"))), DataError, "must be strings"),
    "no event left": (lambda rec: rec.update(log((None, "i01"))), DataError, "no events are left"),
    "a history of unknown items": (lambda rec: rec.recommend_for([["i01", "nonsense"]]), UnknownIdError, "'nonsense'"),
    "a profile of nobody": (
        lambda rec: rec.recommend_for({"ann": []}, profiles=pd.DataFrame({"user_id": ["bob"], "bio": ["soup"]})),
        DataError,
        "no history of 'bob'",
    ),
    "a profile twice": (
        lambda rec: rec.recommend_for({"ann": []}, profiles=pd.DataFrame({"user_id": ["ann"] * 2, "bio": ["a", "b"]})),
        DataError,
        "repeated: 'ann'",
    ),
    "a profile without media": (
        lambda rec: rec.recommend_for({"ann": []}, profiles=pd.DataFrame({"user_id": ["ann"], "age": [7]})),
        DataError,
        r"none of their columns .* \(bio\)",
    ),
    "a profile of another width": (
        lambda rec: rec.recommend_for({"ann": []}, user_vectors={"bio": gr.Vectors(np.ones((1, 3)), ["ann"])}),
        DataError,
        "'bio': new vectors are 3 wide",
    ),
    "a profile of an item's modality": (
        lambda rec: rec.recommend_for({"ann": []}, user_vectors={"look": gr.Vectors(np.ones((1, 8)), ["ann"])}),
        DataError,
        "'look' was not there.*known of users: bio",
    ),
}


def everything(rec, folder):
    """Returns all answers, and the digests of all saved files."""
    rec.save(folder)
    return (
        rec.recommend(rec.state.users.ids, k=60),
        rec.similar_items(rec.state.items.ids, k=60),
        pd.DataFrame(rec.embeddings("user")[1]),
        pd.DataFrame(rec.embeddings("item")[1]),
        pd.Series(json.loads((folder / "manifest.json").read_text())["files"]),
    )


@pytest.fixture(scope="module")
def before(fitted, tmp_path_factory):
    return everything(fitted, tmp_path_factory.mktemp("before") / "model")


def assert_as_before(rec, before, tmp_path):
    for now, then in zip(everything(rec, tmp_path / "model"), before, strict=True):
        assert now.equals(then)


@pytest.mark.parametrize("case", WRONG)
def test_after_an_error_all_is_as_before(rec, before, tmp_path, case):
    call, error, message = WRONG[case]
    state = rec.state
    with pytest.raises(error, match=message):
        call(rec)
    assert rec.state is state
    assert_as_before(rec, before, tmp_path)


@pytest.mark.parametrize("step", ["attach", "update"])
def test_after_a_failure_half_way_all_is_as_before(rec, before, tmp_path, monkeypatch, step):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(NeuralRanker, step, fail)
    with pytest.raises(MemoryError):
        rec.update(log(("u01", "x"), ("new", "i01")), vectors=look("x"))
    assert_as_before(rec, before, tmp_path)


def test_a_broken_picture_is_reported_and_refused_only_if_there_is_nothing_else(rec, media, before, tmp_path, caplog):
    folder, items = media
    whole = [str(folder / picture) for picture in items["picture"].dropna().iloc[:3]]
    new = pd.DataFrame({"item_id": ["w", "x", "y", "z"], "picture": [*whole, str(folder / "broken.png")]})
    with pytest.raises(DataError, match=r"1 of 4 .* 'z'.*unreadable: .*broken\.png"):
        rec.add_items(new)
    assert_as_before(rec, before, tmp_path)
    rec.add_items(new, look("z"))
    assert "1 unreadable" in caplog.text
    assert "broken.png" in caplog.text
    assert {"w", "x", "y", "z"} <= set(rec.recommend(["u01"], k=60)["item_id"])


def test_another_encoder_than_that_of_the_fit_is_refused(rec, media, before, tmp_path, monkeypatch):
    folder, items = media
    monkeypatch.setattr(MeanColour, "card", EncoderCard(name="mean-colour", modality="image", dim=3, sha256="other"))
    with pytest.raises(EncoderError, match="'picture' was fitted with 'mean-colour'"):
        rec.add_items(pd.DataFrame({"item_id": ["x"], "picture": [str(folder / items["picture"].dropna().iloc[0])]}))
    assert_as_before(rec, before, tmp_path)


def test_documented_choices_that_are_no_errors(rec):
    everybody = rec.state.users.ids
    once, twice = (rec.recommend_for([history], k=9) for history in (["i01", "i02"], ["i01", "i02", "i01"]))
    pd.testing.assert_frame_equal(once, twice, check_exact=True)
    average = np.mean(rec.embeddings("user")[1], axis=0)
    nobody = rec.recommend_for([[]], k=5)
    ids, vectors = rec.embeddings("item")
    assert list(nobody["item_id"]) == list(ids[np.argsort(-(vectors @ average), kind="stable")[:5]])
    state = rec.state
    assert rec.remove_items([]).recommend(everybody).equals(rec.recommend(everybody))
    assert len(rec.remove_items(state.items.ids[np.arange(len(state.items)) != 5]).recommend(everybody)) == 0


def test_rankers_without_media_refuse_items_and_profiles_and_still_remove(media):
    knn = gr.Recommender.preset("item-knn").fit(gr.Dataset.from_frames(SHOP.interactions), progress=False)
    state = knn.state
    with pytest.raises(UnsupportedError, match="'item-knn' has no use for profiles"):
        knn.recommend_for({"ann": []}, user_vectors={"bio": gr.Vectors(np.ones((1, 3)), ["ann"])})
    assert knn.state is state
    knn.remove_items(["i01"])
    assert "i01" not in set(knn.recommend(state.users.ids, k=50, exclude_seen=False)["item_id"])
    with pytest.raises(UnsupportedError, match="has no use for profiles; 'neural' has"):
        state.ranker.fold_in_with_profiles(state.train[:1], {})


def test_further_rows_keep_the_kind_of_a_column():
    table = pd.DataFrame({"genre": pd.Categorical(["a", "b"]), "year": [1999, 2001], "note": [None, None]})
    stacked = growth._stacked(table, pd.DataFrame({"genre": ["c"], "year": [2.5], "note": ["text"]}))
    assert stacked["genre"].tolist() == ["a", "b", "c"]
    assert stacked["year"].tolist() == [1999, 2001, 2.5]
    assert stacked["note"].iloc[2] == "text"
    with pytest.raises(DataError, match="column 'year' holds string values, and numeric values"):
        growth._stacked(table, pd.DataFrame({"genre": ["c"], "year": ["c. 1999"], "note": [None]}))


def test_a_column_of_times_stays_one_while_cells_are_missing():
    times = pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"]))
    table = pd.DataFrame({"released": pd.Series([times[0], None], dtype=object)})
    stacked = growth._stacked(table, pd.DataFrame({"released": times}))
    assert stacked["released"].tolist()[2:] == times.tolist()
    with pytest.raises(DataError, match="column 'released' holds string values, and datetime values"):
        growth._stacked(table, pd.DataFrame({"released": ["soon"]}))


@pytest.mark.parametrize(
    "cells",
    [
        ("a red fox", "a blue bird", ["a grey wolf", "a green frog"]),  # texts, and new items with lists
        (["a red fox"], ["a blue bird", "a white owl"], "a grey wolf"),
        ("a red fox", ["a blue bird", "a white owl"], "a grey wolf"),  # both from the beginning
    ],
)
def test_a_cell_holds_a_text_or_a_list_of_them_whatever_the_others_hold(cells, tmp_path):
    first, second, new = cells
    items = pd.DataFrame({"item_id": SHOP.items["item_id"], "tale": [first, second, None, " "] + [first] * 46})
    data = gr.Dataset.from_frames(
        SHOP.interactions, items, modalities={"tale": gr.Text("tale", parts=True, encoder="wordllama"), "look": LOOK}
    )
    assert data.describe().modalities["tale"] == (48, 2)
    rec = gr.Recommender(**QUICK).fit(data, progress=False)
    rec.add_items(pd.DataFrame({"item_id": ["x"], "tale": [new]}))
    rec.save(tmp_path / "model")
    loaded = gr.load(tmp_path / "model")
    assert list(loaded.recommend(["u01"])["item_id"]) == list(rec.recommend(["u01"])["item_id"])
    kept = loaded.state.catalogue.item_table["tale"][[0, 1, 50]]
    assert list(map(list, kept)) == [[cell] if isinstance(cell, str) else cell for cell in (first, second, new)]
