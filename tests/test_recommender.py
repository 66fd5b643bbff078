import copy
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import gnnrec as gr
from gnnrec.fitting import learns_from_media
from gnnrec.modalities import encoder
from gnnrec.rankers.neural import NeuralRanker
from gnnrec.search import Searcher

SHOP = gr.synthetic.shop(num_users=150, num_items=80, seed=3)
VECTORS = SHOP.vectors()
PAIR = pd.DataFrame({"user_id": ["a"], "item_id": ["x"]})
QUICK = {"embedding_dim": 16, "epochs": 6, "learning_rate": 0.02, "device": "cpu"}


def dataset(**options):
    return gr.Dataset.from_frames(SHOP.interactions, SHOP.items, SHOP.users, modalities={"look": VECTORS}, **options)


@pytest.fixture(scope="module")
def parts():
    return dataset().split(gr.split.random(seed=1))


@pytest.fixture(scope="module")
def fitted(parts):
    train, valid, _ = parts
    return gr.Recommender(**QUICK).fit(train, valid=valid, progress=False)


@pytest.fixture
def rec(fitted, tmp_path_factory):
    """A recommender that a test may grow without touching the others'."""
    return copy.copy(fitted)


def pairs(frame):
    return list(zip(frame["user_id"], frame["item_id"], strict=True))


class TestFit:
    def test_default_beats_popularity_and_finds_the_planted_taste(self, parts, fitted):
        train, valid, test = parts
        popular = gr.Recommender.preset("popularity").fit(train, valid=valid, progress=False)
        ours, theirs = (rec.evaluate(test).values["recall@20"] for rec in (fitted, popular))
        assert ours > 1.3 * theirs
        answer = fitted.recommend(train.users.ids, k=5)
        taste_of_item = dict(zip(SHOP.items["item_id"], SHOP.item_taste, strict=True))
        taste_of_user = dict(zip(SHOP.users["user_id"], SHOP.user_taste, strict=True))
        match = [taste_of_item[item] == taste_of_user[user] for user, item in pairs(answer)]
        assert np.mean(match) > 0.6  # chance is 1 / 4

    def test_same_seed_same_bits_other_seed_other_bits(self, parts):
        train, valid, _ = parts
        vectors = [
            gr.Recommender(**{**QUICK, "epochs": 2, "seed": seed}, known_content_taste=0.5)
            .fit(train, valid, progress=False)
            .embeddings("user")[1]
            for seed in (5, 5, 6)
        ]
        np.testing.assert_array_equal(vectors[0], vectors[1])
        assert not np.allclose(vectors[0], vectors[2])

    def test_without_validation_a_tenth_is_held_out_and_hidden_as_seen(self):
        train = dataset()
        rec = gr.Recommender(**QUICK).fit(train, progress=False)
        all_pairs = train.interaction_matrix().nnz
        assert rec.state.valid.nnz == pytest.approx(all_pairs / 10, rel=0.2)
        assert rec.state.train.nnz + rec.state.valid.nnz == all_pairs
        assert "recall@20" in rec.history

    def test_a_pair_of_training_is_no_pair_of_validation(self):
        log = SHOP.interactions.sort_values("user_id", kind="stable").reset_index(drop=True)
        log["timestamp"] = np.arange(len(log))
        first_again = log.drop_duplicates("user_id").assign(timestamp=len(log))
        train, valid, _ = gr.Dataset.from_frames(pd.concat([log, first_again])).split(gr.split.leave_last(2, 0))
        state = gr.Recommender.preset("popularity").fit(train, valid, progress=False).state
        assert state.train.multiply(valid.interaction_matrix()).nnz > 0
        assert state.train.multiply(state.valid).nnz == 0
        assert state.valid.nnz > 0

    def test_refit_takes_over_the_linear_part_and_its_weight(self, tmp_path):
        train = dataset()
        options = {**QUICK, "linear_part": "ease"}
        chosen = gr.Recommender(**options).fit(train, progress=False).state.ranker.config.model.linear_weight
        assert chosen in (0.05, 0.1, 0.2, 0.4, 0.8)
        final = gr.Recommender(**options).fit(train, refit=True, progress=False)
        linear = final.state.ranker.linear
        assert final.state.ranker.config.model.linear_weight == chosen
        assert (linear.ranker.interactions != train.interaction_matrix()).nnz == 0
        final.save(tmp_path / "model")
        again, users = gr.load(tmp_path / "model"), final.state.users.ids
        assert again.recommend(users, 5).equals(final.recommend(users, 5))

    def test_refit_learns_from_all_pairs_for_the_best_number_of_epochs(self):
        train = dataset()
        chosen = gr.Recommender(**QUICK).fit(train, progress=False)
        final = gr.Recommender(**QUICK).fit(train, refit=True, progress=False)
        assert final.state.train.nnz == train.interaction_matrix().nnz
        assert final.state.valid.nnz == 0
        assert len(final.history) == chosen.state.best_epoch

    def test_a_refit_forgets_the_decay_of_a_linear_part_that_does_not_pay(self, monkeypatch):
        monkeypatch.setattr("gnnrec.rankers.neural_fit.best_linear_part", lambda *_: (None, "none", None))
        final = gr.Recommender(**QUICK, linear_decay=1.0).fit(dataset(), refit=True, progress=False)
        assert final.state.ranker.linear is None

    def test_validation_may_hold_only_cold_items(self):
        train, valid, test = dataset().split(gr.split.cold_items(seed=2))
        rec = gr.Recommender(**QUICK).fit(train, valid=valid, progress=False)
        among_cold = rec.evaluate(test, ("recall@5",), candidates="cold").values["recall@5"]
        chance = 5 / (len(test.items) - len(train.items))
        assert among_cold > 1.5 * chance

    def test_resumed_run_equals_uninterrupted_run(self, parts, tmp_path, monkeypatch):
        train, valid, _ = parts
        whole = gr.Recommender(**QUICK).fit(train, valid, run_dir=tmp_path / "whole", progress=False)
        calls = 0

        def die(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == 4:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        from gnnrec.training import loop

        original = loop._validate
        monkeypatch.setattr(loop, "_validate", die)
        with pytest.raises(KeyboardInterrupt):
            gr.Recommender(**QUICK).fit(train, valid, run_dir=tmp_path / "cut", progress=False)
        monkeypatch.setattr(loop, "_validate", original)
        resumed = gr.Recommender(**QUICK).fit(train, valid, run_dir=tmp_path / "cut", resume=True, progress=False)
        for kind in ("user", "item"):
            np.testing.assert_array_equal(whole.embeddings(kind)[1], resumed.embeddings(kind)[1])
        drop = ["seconds"]
        pd.testing.assert_frame_equal(whole.history.drop(columns=drop), resumed.history.drop(columns=drop))

    def test_unfitted(self):
        with pytest.raises(gr.errors.NotFittedError, match="call fit"):
            gr.Recommender().recommend(["u001"])

    def test_unknown_option_names_the_nearest(self):
        with pytest.raises(gr.errors.ConfigError, match="did you mean 'hops'"):
            gr.Recommender(hop=2)
        with pytest.raises(gr.errors.ConfigError, match="embedding_dim"):
            gr.Recommender(embedding_dim=0)
        with pytest.raises(gr.errors.ConfigError, match="lightgcn"):
            gr.Recommender.preset("lightgcm")

    def test_training_set_without_events(self, parts):
        from gnnrec.data.dataset import Events

        nothing = np.zeros(0, dtype=np.int64)
        with pytest.raises(gr.errors.DataError, match="no events"):
            gr.Recommender(**QUICK).fit(parts[0].with_events(Events(nothing, nothing)))

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_absent_device(self, parts):
        with pytest.raises(gr.errors.ConfigError, match="no CUDA device"):
            gr.Recommender(**{**QUICK, "device": "cuda"}).fit(parts[0])


class TestRecommend:
    def test_tidy_ranked_and_unseen(self, parts, fitted):
        train, valid, _ = parts
        users = list(train.users.ids[[7, 2, 9]])
        answer = fitted.recommend(users, k=6)
        assert list(answer.columns) == ["user_id", "item_id", "score", "rank"]
        assert list(answer["user_id"].unique()) == users
        assert answer.groupby("user_id")["rank"].apply(list).map(lambda ranks: ranks == [1, 2, 3, 4, 5, 6]).all()
        assert (answer.groupby("user_id")["score"].diff().dropna() <= 0).all()
        seen = set()
        for part in (train, valid):
            events = part.events
            seen |= set(zip(part.users.ids_of(events.user_index), part.items.ids_of(events.item_index), strict=True))
        assert not seen & set(pairs(answer))
        again = fitted.recommend(users, k=80, exclude_seen=False)
        assert len(again) == 3 * 80
        assert seen & set(pairs(again))

    @pytest.mark.parametrize("part", ["none", "ease"])
    def test_score_is_the_inner_product_of_the_embeddings_and_the_linear_part(self, parts, part):
        rec = gr.Recommender(**QUICK, linear_part=part).fit(parts[0], parts[1], progress=False)
        (users, user_vectors), (items, item_vectors) = rec.embeddings("user"), rec.embeddings("item")
        answer = rec.recommend(users[:4], k=3)
        user = [list(users).index(user) for user in answer["user_id"]]
        item = [list(items).index(item) for item in answer["item_id"]]
        expected = (user_vectors[user] * item_vectors[item]).sum(axis=1)
        if part == "ease":
            linear = rec.state.ranker.linear
            added = linear.factor * linear.ranker.score(np.array(user))[range(len(item)), item].numpy()
            assert np.abs(added).max() > 0.01
            expected = expected + added
        np.testing.assert_allclose(answer["score"], expected, atol=1e-6)

    def test_filters(self, fitted):
        users, items = fitted.state.users.ids[:5], list(fitted.state.items.ids)
        answer = fitted.recommend(users, k=80, include_items=items[:10], exclude_items=items[:3], exclude_seen=False)
        assert set(answer["item_id"]) == set(items[3:10])
        with pytest.raises(gr.errors.UnknownIdError, match="'nonsense'"):
            fitted.recommend(users, include_items=["nonsense"])
        assert len(fitted.recommend(users, include_items=[])) == 0

    def test_more_than_there_is_gives_fewer_rows(self, fitted):
        user = fitted.state.users.ids[:1]
        seen = fitted.state.seen[0].nnz
        assert len(fitted.recommend(user, k=10_000)) == len(fitted.state.items) - seen

    def test_who_has_seen_everything_gets_nothing(self):
        frame = pd.DataFrame({"user_id": ["all"] * 6 + ["b", "c"], "item_id": [*"abcdef", "a", "b"]})
        rec = gr.Recommender.preset("popularity").fit(gr.Dataset.from_frames(frame), progress=False)
        answer = rec.recommend(["all", "b"], k=3)
        assert set(answer["user_id"]) == {"b"}
        assert list(rec.recommend(["all"], k=3).columns) == ["user_id", "item_id", "score", "rank"]

    @pytest.mark.parametrize("k", [0, -1, 2.5, True])
    def test_impossible_k(self, fitted, k):
        with pytest.raises(gr.errors.ConfigError, match="k must be"):
            fitted.recommend(fitted.state.users.ids[:1], k=k)

    def test_unknown_users(self, fitted):
        known = fitted.state.users.ids[0]
        with pytest.raises(gr.errors.UnknownIdError, match="'stranger'"):
            fitted.recommend([known, "stranger"])
        assert set(fitted.recommend([known, "stranger"], on_unknown="skip")["user_id"]) == {known}
        alone = fitted.recommend([known], k=3)
        pd.testing.assert_frame_equal(fitted.recommend(["stranger", known], k=3, on_unknown="skip"), alone)
        nobody = fitted.recommend(["stranger"], on_unknown="skip")
        assert len(nobody) == 0
        assert nobody.dtypes.equals(fitted.recommend([known]).dtypes)  # so that files of parts can be read as one
        popular = fitted.recommend(["stranger"], k=3, on_unknown="popular")
        best = np.argsort(-fitted.state.popularity, kind="stable")[:3]
        assert list(popular["item_id"]) == list(fitted.state.items.ids_of(best))
        with pytest.raises(gr.errors.ConfigError, match="on_unknown"):
            fitted.recommend([known], on_unknown="ignore")

    def test_one_string_is_not_a_list_of_users(self, fitted):
        with pytest.raises(gr.errors.DataError, match="single value"):
            fitted.recommend("u001")

    @pytest.mark.parametrize(("convert", "kind"), [(pl.from_pandas, pl.DataFrame), (pa.Table.from_pandas, pa.Table)])
    def test_answers_come_in_the_library_of_the_log(self, convert, kind):
        data = gr.Dataset.from_frames(convert(SHOP.interactions))
        rec = gr.Recommender.preset("item-knn").fit(data, progress=False)
        assert isinstance(rec.recommend(data.users.ids[:2], k=2), kind)
        assert isinstance(rec.similar_items(data.items.ids[:2], k=2), kind)
        assert isinstance(rec.recommend_for([list(data.items.ids[:2])], k=2), kind)


class TestPeopleAndItems:
    def test_history_finds_the_taste(self, fitted):
        for taste in range(4):
            of_taste = SHOP.items["item_id"][SHOP.item_taste == taste]
            history = list(of_taste[:6])
            answer = fitted.recommend_for({"somebody": history}, k=8)
            assert set(answer["query"]) == {"somebody"}
            assert not set(answer["item_id"]) & set(history)
            assert answer["item_id"].isin(of_taste).mean() > 0.5

    def test_fold_in_of_a_known_history_resembles_the_known_user(self, fitted):
        state = fitted.state
        histories = [list(state.items.ids_of(row.indices)) for row in state.train[:30]]
        folded = fitted.recommend_for(histories, k=5)
        known = fitted.recommend(state.users.ids[:30], k=5)
        sets = [folded.groupby("query")["item_id"].agg(set), known.groupby("user_id")["item_id"].agg(set)]
        common = np.mean([len(a & b) / 5 for a, b in zip(*sets, strict=True)])
        assert common > 0.5

    def test_histories_that_say_nothing(self, fitted):
        assert len(fitted.recommend_for([[]], k=4)) == 4
        assert len(fitted.recommend_for([], k=4)) == 0
        with pytest.raises(gr.errors.UnknownIdError, match="'nonsense'"):
            fitted.recommend_for([["nonsense"]])

    def test_similar_items_share_the_taste_and_leave_out_the_item(self, fitted):
        items = SHOP.items["item_id"].to_numpy()
        answer = fitted.similar_items(items[:20], k=5)
        assert (answer["query"] != answer["item_id"]).all()
        taste = dict(zip(items, SHOP.item_taste, strict=True))
        assert np.mean(answer["query"].map(taste) == answer["item_id"].map(taste)) > 0.6


class TestGrow:
    def test_new_items_reach_people_of_their_taste_and_change_nothing_else(self, rec):
        users = rec.state.users.ids
        before = rec.recommend(users, k=5)
        names = [f"new-{taste}" for taste in range(4)]
        rows = [int(np.flatnonzero(SHOP.item_taste == taste)[0]) for taste in range(4)]
        rec.add_items(vectors={"look": gr.Vectors(VECTORS.matrix[rows], names)})
        after = rec.recommend(users, k=5, exclude_items=names)
        pd.testing.assert_frame_equal(before, after, rtol=1e-5)
        best_new = rec.recommend(users, k=1, include_items=names)
        taste_of_user = dict(zip(SHOP.users["user_id"], SHOP.user_taste, strict=True))
        right = [taste_of_user[user] == int(item[-1]) for user, item in pairs(best_new)]
        assert np.mean(right) > 0.5  # chance is .25
        assert set(rec.similar_items(["new-2"], k=3)["item_id"]) <= set(rec.state.items.ids)

    def test_new_item_keeps_its_row_of_the_table(self, rec):
        frame = pd.DataFrame({"item_id": ["fresh"], "title": ["Fresh bread"], "colour": ["brown"]})
        rec.add_items(frame, vectors={"look": gr.Vectors(VECTORS.matrix[:1], ["fresh"])})
        table = rec.state.catalogue.item_table
        assert len(table) == len(rec.state.items)
        assert table["title"].iloc[-1] == "Fresh bread"

    @pytest.mark.parametrize(
        ("items", "vectors", "message"),
        [
            (None, {"look": gr.Vectors(VECTORS.matrix[:1], ["i00"])}, "exist already: 'i00'"),
            (None, {"look": gr.Vectors(np.ones((1, 3)), ["x"])}, "3 wide, the fitted ones 16"),
            (None, {"smell": gr.Vectors(VECTORS.matrix[:1], ["x"])}, "'smell' was not there"),
            (None, {"look": gr.Vectors(VECTORS.matrix[:1] * np.nan, ["x"])}, "not finite"),
            (pd.DataFrame({"item_id": ["x", "x"]}), None, "repeated: 'x'"),
            (pd.DataFrame({"item_id": ["x"]}), None, "no medium"),
            (pd.DataFrame({"name": ["x"]}), None, "no column for item_id"),
            (None, None, "no row"),
            (None, {"look": gr.Vectors(VECTORS.matrix[:1], [7])}, "must be strings"),
        ],
    )
    def test_bad_new_items_change_nothing(self, rec, items, vectors, message):
        state = rec.state
        with pytest.raises(gr.errors.DataError, match=message):
            rec.add_items(items, vectors)
        assert rec.state is state

    def test_presets_that_cannot_add_items_say_which_can(self, parts):
        knn = gr.Recommender.preset("item-knn").fit(parts[0], parts[1], progress=False)
        with pytest.raises(gr.errors.UnsupportedError, match=r"cannot add items.*'neural' can"):
            knn.add_items(vectors={"look": gr.Vectors(VECTORS.matrix[:1], ["x"])})
        with pytest.raises(gr.errors.UnsupportedError, match=r"cannot add items.*'neural' can"):
            knn.add_items(SHOP.items.head(1).assign(item_id="x"))
        with pytest.raises(gr.errors.UnsupportedError, match="neural"):
            knn.embeddings("user")

    def test_update_moves_a_user_towards_the_new_taste(self, rec):
        user = rec.state.users.ids[0]
        other = (SHOP.user_taste[0] + 1) % 4
        liked = SHOP.items["item_id"][SHOP.item_taste == other].tolist()[:10]
        before = rec.recommend([user], k=10)["item_id"].isin(SHOP.items["item_id"][SHOP.item_taste == other]).mean()
        others = rec.recommend(rec.state.users.ids[1:], k=5)
        rec.update(pd.DataFrame({"user_id": [user] * 10, "item_id": liked}))
        answer = rec.recommend([user], k=10)
        assert not set(answer["item_id"]) & set(liked)
        after = rec.recommend([user], k=10)["item_id"].isin(SHOP.items["item_id"][SHOP.item_taste == other]).mean()
        assert after > before
        pd.testing.assert_frame_equal(others, rec.recommend(rec.state.users.ids[1:], k=5))

    def test_update_takes_the_threshold_of_the_fit(self, tmp_path):
        log = SHOP.interactions.assign(weight=5.0)
        log.loc[::3, "weight"] = 1.0
        data = gr.Dataset.from_frames(log, positive_from=4)
        gr.Recommender.preset("popularity").fit(data, progress=False).save(tmp_path / "model")
        rec = gr.load(tmp_path / "model")
        events = pd.DataFrame({"user_id": "new", "item_id": ["i01", "i02", "i03"], "weight": [1.0, 4.0, 3.5]})
        rec.update(events)
        assert rec.state.train[rec.state.users.index_of(["new"])].indices == rec.state.items.index_of(["i02"])
        rec.update(events.drop(columns="weight"))  # what is not weighed is positive
        assert rec.state.train[rec.state.users.index_of(["new"])].nnz == 3

    def test_texts_of_new_items_that_look_like_numbers_stay_texts(self, tmp_path):
        items = pd.DataFrame({"item_id": ["a", "b"], "title": ["Heat", "Alien"], "code": ["007", "x"], "year": [1, 2]})
        log = pd.DataFrame({"user_id": [1, 2], "item_id": ["a", "b"]})
        title = gr.Text("title", encoder="hashed-words")
        data = gr.Dataset.from_frames(log, items, modalities={"title": title})
        rec = gr.Recommender.preset("content-knn").fit(data, progress=False)
        (tmp_path / "new.csv").write_text("item_id,title,code,year\nc,1984,12,3\n")
        rec.add_items(tmp_path / "new.csv")
        assert rec.state.catalogue.item_table.iloc[2].tolist() == ["1984", "12", 3]

    def test_files_of_number_like_ids_are_read_as_the_fit_has_them(self, tmp_path):
        log = pd.DataFrame({"user_id": ["007", "7", "x"], "item_id": ["01", "1", "x"]})
        look = gr.Vectors(np.eye(3, dtype=np.float32), ["01", "1", "x"])
        data = gr.Dataset.from_frames(log, items=log[["item_id"]], modalities={"look": look})
        rec = gr.Recommender.preset("content-knn").fit(data, progress=False)
        (tmp_path / "items.csv").write_text("item_id\n001\n")
        (tmp_path / "events.csv").write_text("user_id,item_id\n007,1\n08,001\n")
        rec.add_items(tmp_path / "items.csv", vectors={"look": gr.Vectors(np.ones((1, 3)), ["001"])})
        rec.update(tmp_path / "events.csv")
        pairs = rec.state.train.tocoo()
        known = set(zip(rec.state.users.ids_of(pairs.row), rec.state.items.ids_of(pairs.col), strict=True))
        assert known == {("007", "01"), ("7", "1"), ("x", "x"), ("007", "1"), ("08", "001")}

    def test_ids_of_new_items_are_found_as_those_of_the_fit_were(self, tmp_path):
        items = pd.DataFrame({"movieId": ["01", "1"], "title": ["Heat", "Alien"], "uid": [3, 4]})
        log = pd.DataFrame({"userId": ["007", "7"], "movieId": ["01", "1"]})
        data = gr.Dataset.from_frames(log, items, modalities={"title": gr.Text("title", encoder="hashed-words")})
        rec = gr.Recommender.preset("content-knn").fit(data, progress=False)
        (tmp_path / "new.csv").write_text("movieId,title,uid\n001,Heat,5\n")
        rec.add_items(tmp_path / "new.csv")
        assert rec.state.items.ids.tolist() == ["01", "1", "001"]
        assert rec.state.catalogue.item_table["uid"].tolist() == [3, 4, 5]
        named = gr.Dataset.from_frames(log, items.assign(item=[8, 9]), columns={"item_id": "movieId"})
        rec = gr.Recommender.preset("content-knn")
        rec.fit(replace(named, modalities=data.modalities), progress=False)
        rec.add_items(pd.DataFrame({"item": [10], "movieId": ["x"], "title": ["Heat"]}))
        assert rec.state.items.ids.tolist() == ["01", "1", "x"]  # what was another column stays one

    def test_update_with_a_new_user_equals_fold_in(self, rec):
        history = SHOP.items["item_id"].tolist()[:4]
        folded = rec.recommend_for([history], k=5)
        rec.update(pd.DataFrame({"user_id": ["newcomer"] * 4, "item_id": history}))
        known = rec.recommend(["newcomer"], k=5)
        assert list(known["item_id"]) == list(folded["item_id"])
        np.testing.assert_allclose(known["score"], folded["score"], atol=1e-6)

    def test_update_on_unknown_items_changes_nothing(self, rec):
        state = rec.state
        with pytest.raises(gr.errors.UnknownIdError, match=r"'nonsense'.*add_items first"):
            rec.update(pd.DataFrame({"user_id": ["a"], "item_id": ["nonsense"]}))
        with pytest.raises(gr.errors.DataError, match="item_id"):
            rec.update(pd.DataFrame({"user_id": ["a"]}))
        assert rec.state is state


class TestEvaluate:
    def test_masks(self, parts, fitted):
        _, valid, test = parts
        strict, mmrec = (fitted.evaluate(test, mask=mask) for mask in ("train+valid", "train"))
        assert strict.values["recall@20"] >= mmrec.values["recall@20"]
        # How much popularity counts is chosen after the best epoch, by the same pairs.
        assert fitted.evaluate(valid, mask="train").values["recall@20"] >= fitted.history["recall@20"].max() - 1e-6
        assert fitted.evaluate(valid).values["recall@20"] == 0  # hidden by the mask

    def test_the_model_is_that_of_the_best_epoch(self, parts):
        train, valid, _ = parts
        options = {"popularity_weight": 1.0, "linear_part": "none", "known_content_taste": 0.0}
        rec = gr.Recommender(**QUICK, **options).fit(train, valid, progress=False)
        best = rec.history["recall@20"].max()
        assert rec.evaluate(valid, mask="train").values["recall@20"] == pytest.approx(best, abs=1e-6)

    def test_unseen_items_are_attached_and_forgotten_again(self):
        train, _, test = dataset().split(gr.split.cold_items(seed=4))
        rec = gr.Recommender(**QUICK).fit(train, progress=False)
        state = rec.state
        cold = rec.evaluate(test, candidates="cold").values["recall@20"]
        assert rec.state is state
        events = test.events
        new = [item for item in test.items.ids if item not in set(train.items.ids)]
        held_out = set(test.items.ids_of(events.item_index))
        assert held_out <= set(new)
        by_hand = copy.copy(rec)
        rows = test.items.index_of(new)
        by_hand.add_items(vectors={"look": gr.Vectors(np.asarray(test.modalities["look"].matrix)[rows], new)})
        answer = by_hand.recommend(train.users.ids, k=20, include_items=new)
        truth = pd.DataFrame(
            {"user_id": test.users.ids_of(events.user_index), "item_id": test.items.ids_of(events.item_index)}
        ).drop_duplicates()
        hits = answer.merge(truth).groupby("user_id").size()
        expected = (hits.reindex(truth["user_id"].unique()).fillna(0) / truth.groupby("user_id").size()).mean()
        assert cold == pytest.approx(expected, abs=1e-6)

    def test_unseen_items_that_nothing_describes_count_as_missed(self, caplog):
        train, _, test = dataset().split(gr.split.cold_items(seed=4))
        rec = gr.Recommender(**QUICK).fit(train, progress=False)
        new = [item for item in test.items.ids if item not in set(train.items.ids)]
        all_described = rec.evaluate(test, ["recall@20"], candidates="cold")
        look = test.modalities["look"]
        described = np.isin(look.ids, new[1:])
        partly = replace(test, modalities={"look": gr.Vectors(np.asarray(look.matrix)[described], look.ids[described])})
        with pytest.raises(gr.errors.DataError, match="no medium"):
            rec.add_items(pd.DataFrame({"item_id": new[:1]}))
        caplog.clear()
        found = rec.evaluate(partly, ["recall@20"], candidates="cold")
        assert f"1 of {len(new)} new items of the test set have no medium" in caplog.text
        assert found.num_users == all_described.num_users
        assert new[0] not in set(test.items.ids_of(found.top_items[found.top_items >= 0]))
        assert rec.evaluate(replace(test, modalities={}), ["recall@20"]).values["recall@20"] == 0

    def test_rankers_without_media_miss_unseen_items(self, caplog):
        train, _, test = dataset().split(gr.split.cold_items(seed=4))
        popular = gr.Recommender.preset("popularity").fit(train, progress=False)
        assert popular.evaluate(test).values["recall@20"] == 0
        assert "count as missed" in caplog.text

    def test_a_graph_model_without_media_misses_unseen_items_rather_than_guess(self, caplog):
        train, _, test = dataset().split(gr.split.cold_items(seed=4))
        rec = gr.Recommender.preset("lightgcn", embedding_dim=8, epochs=2).fit(train, progress=False)
        assert rec.evaluate(test).values["recall@20"] == 0
        assert "count as missed" in caplog.text

    def test_unseen_people_with_and_without_a_history(self):
        train, _, test = dataset().split(gr.split.cold_users(seed=5))
        rec = gr.Recommender(**QUICK).fit(train, progress=False)
        history, targets, _ = test.split(gr.split.random(valid=0.5, test=0.0, seed=0))
        with_history = rec.evaluate(targets, history=history).values["recall@20"]
        strangers = rec.evaluate(targets).values["recall@20"]
        assert with_history > 1.2 * strangers > 0

    def test_the_threshold_of_the_fit_says_what_is_to_be_found(self, caplog):
        log = SHOP.interactions.assign(weight=5.0)
        rec = gr.Recommender.preset("item-knn").fit(gr.Dataset.from_frames(log, positive_from=4), progress=False)
        rest = pd.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["i01", "i02", "i03"], "weight": [5.0, 1.0, 1.0]})
        with caplog.at_level(logging.INFO, "gnnrec"):
            assert rec.evaluate(gr.Dataset.from_frames(rest)).num_users == 1  # b liked nothing
        assert "2 of 3 events are not positive: weight below 4" in caplog.text
        assert rec.evaluate(gr.Dataset.from_frames(rest, positive_from=0)).num_users == 2  # who says so has it so
        found = [
            rec.evaluate(gr.Dataset.from_frames(rest[:1]), ("auc",), history=gr.Dataset.from_frames(history)).values
            for history in (rest[1:2].assign(weight=4.0), rest[1:].assign(weight=[1.0, 4.0]))
        ]
        assert found[0] != found[1]  # whom a disliked item tells of nothing

    def test_unknown_options(self, parts, fitted):
        for options in ({"mask": "test"}, {"candidates": "warm"}, {"metrics": ["recal@20"]}):
            with pytest.raises(gr.errors.ConfigError):
                fitted.evaluate(parts[2], **options)


class TestEmbeddingsAndExport:
    def test_export_round_trip(self, fitted, tmp_path):
        files = fitted.export(tmp_path / "out")
        assert [file.name for file in files] == ["users.parquet", "items.parquet"]
        frame = pd.read_parquet(files[1])
        ids, vectors = fitted.embeddings("item")
        assert list(frame["item_id"]) == list(ids)
        np.testing.assert_array_equal(np.stack(frame["embedding"]), vectors)

    def test_exports_come_in_pairs(self, fitted, tmp_path, monkeypatch):
        before = {file: file.read_bytes() for file in fitted.export(tmp_path)}
        write, written = pq.write_table, []

        def full(table, path):
            if written:
                raise OSError(28, "No space left on device")
            written.append(write(table.slice(0, 1), path))

        monkeypatch.setattr(pq, "write_table", full)
        with pytest.raises(gr.errors.StorageError, match="No space left"):
            fitted.export(tmp_path)
        assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before

    def test_export_says_what_the_vectors_lack(self, parts, tmp_path, caplog):
        for part, said in (("none", False), ("ease", True)):
            caplog.clear()
            gr.Recommender(**QUICK, linear_part=part).fit(*parts[:2], progress=False).export(tmp_path / part)
            assert ("fit with linear_part='none'" in caplog.text) == said

    def test_bad_requests(self, fitted, tmp_path):
        with pytest.raises(gr.errors.ConfigError, match="'pickle'"):
            fitted.export(tmp_path, formats=("pickle",))
        for no_list in ("parquet", 5, ()):
            with pytest.raises(gr.errors.ConfigError, match="give a list"):
                fitted.export(tmp_path, formats=no_list)
        with pytest.raises(gr.errors.ConfigError, match="'thing'"):
            fitted.embeddings("thing")
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(gr.errors.StorageError, match="cannot write"):
            fitted.export(tmp_path / "file")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_what_was_fitted_on_a_gpu_goes_on_without_one(parts, tmp_path, caplog):
    fitted = gr.Recommender.preset("popularity").fit(*parts[:2], progress=False)
    fitted.config = fitted.config.with_options({"device": "cuda"})
    fitted.save(tmp_path / "model")
    with caplog.at_level("WARNING"):
        rec = gr.load(tmp_path / "model")
    assert "device='cuda', which is not here" in caplog.text
    assert rec.config.device == "auto"
    assert rec.evaluate(parts[2], ("recall@5",)).values == pytest.approx(
        fitted_on_cpu(parts).evaluate(parts[2], ("recall@5",)).values
    )


def fitted_on_cpu(parts):
    return gr.Recommender.preset("popularity", device="cpu").fit(*parts[:2], progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "'seed' lies between 0"),
        ({"seed": 2**63}, "'seed' cannot be 9223372036854775808"),
        ({"learning_rate": np.nan}, "nan"),
    ],
)
def test_options_that_are_no_numbers_are_refused(options, message):
    with pytest.raises(gr.errors.ConfigError, match=message):
        gr.Recommender(**options)


@pytest.mark.parametrize("has_time", [True, False])
def test_validation_knows_which_events_came_first(monkeypatch, has_time):
    """A pair that repeats came when it came first; without a time nobody knows."""
    log = pd.DataFrame(
        {"user_id": list("uuuuvvvv"), "item_id": list("abcabcde"), "timestamp": [1, 2, 3, 4, 9, 8, 7, 6]}
    )
    tasks = []
    fit = NeuralRanker.fit
    monkeypatch.setattr(
        NeuralRanker, "fit", classmethod(lambda cls, task, config: tasks.append(task) or fit(task, config))
    )
    train = gr.Dataset.from_frames(log if has_time else log.drop(columns="timestamp"))
    valid = gr.Dataset.from_frames(pd.DataFrame({"user_id": ["u"], "item_id": ["e"]}))
    gr.Recommender(embedding_dim=4, epochs=1, device="cpu").fit(train, valid, progress=False)
    order = tasks[0].validation.order
    if has_time:
        assert order.toarray().tolist() == [[1, 2, 3, 0, 0], [0, 0, 0, 0, 0]]  # v has no validation pair
    else:
        assert order is None


def test_a_refit_keeps_its_own_checkpoint_and_goes_on(tmp_path):
    shop = gr.synthetic.shop(num_users=40, num_items=20, seed=0)
    data = gr.Dataset.from_frames(shop.interactions)
    options = {"embedding_dim": 8, "epochs": 3}
    whole = gr.Recommender(**options).fit(data, refit=True, run_dir=tmp_path, progress=False)
    assert (tmp_path / "checkpoint").is_dir()
    assert (tmp_path / "refit" / "checkpoint").is_dir()
    again = gr.Recommender(**options).fit(data, refit=True, run_dir=tmp_path, resume=True, progress=False)
    np.testing.assert_array_equal(again.embeddings("user")[1], whole.embeddings("user")[1])


def test_checkpoints_are_asked_of_a_training_alone(tmp_path):
    with pytest.raises(
        gr.errors.ConfigError, match="the ranker 'ease' does not train, so run_dir= gets no checkpoints"
    ):
        gr.Recommender.preset("ease").fit(dataset(), run_dir=tmp_path, progress=False)
    with pytest.raises(gr.errors.ConfigError, match="resume=True needs run_dir="):
        gr.Recommender.preset("ease").fit(dataset(), resume=True, progress=False)


def test_validation_pairs_that_repeat_training_pairs_are_none(caplog):
    shop = gr.synthetic.shop(num_users=40, num_items=20, seed=0)
    data = gr.Dataset.from_frames(shop.interactions)
    rec = gr.Recommender(embedding_dim=8, epochs=3).fit(data, data, progress=False)
    assert "a tenth of the training pairs is held out instead" in caplog.text
    assert "recall@20" in rec.history  # of a tenth that was held out


def test_a_linear_weight_counts_where_nothing_can_be_held_out():
    log = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"]})
    for refit in (False, True):
        rec = gr.Recommender(embedding_dim=8, epochs=2, linear_weight=0.2)
        rec.fit(gr.Dataset.from_frames(log), refit=refit, progress=False)
        assert rec.state.ranker.linear.name == "random-walk"


def test_any_hashable_names_a_history():
    log = pd.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "z"]})
    rec = gr.Recommender.preset("popularity").fit(gr.Dataset.from_frames(log), progress=False)
    answer = rec.recommend_for({("a", 1): ["x"], ("b", 2): ["y"]}, k=2, new_item_share=np.float32(0.5))
    assert answer["query"].tolist() == [("a", 1)] * 2 + [("b", 2)] * 2


@pytest.mark.parametrize(
    ("options", "read"),
    [
        ({"content": "none", "similar_items": 0}, False),
        ({"content": "none", "similar_items": 3}, True),  # the graph still joins items that look alike
        ({"content": "add", "similar_items": 0}, True),
        ({"ranker": "content-knn"}, True),
        ({"ranker": "item-knn"}, False),
    ],
)
def test_media_are_read_where_something_learns_from_them(options, read):
    assert learns_from_media(gr.Recommender(**options).config) is read


def small_log():
    return gr.Dataset.from_frames(pd.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "z"]}))


def test_changes_from_several_threads_are_all_kept():
    rec = gr.Recommender.preset("ease").fit(small_log(), progress=False)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: rec.update(pd.DataFrame({"user_id": [f"n{i}"], "item_id": ["x"]})), range(40)))
    assert len(rec.state.users) == 42


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda rec: pickle.loads(pickle.dumps(rec))])
def test_a_copy_goes_its_own_way(copied):
    rec = gr.Recommender.preset("ease").fit(small_log(), progress=False)
    rec._searcher = Searcher()  # which holds encoders and a lock
    other = copied(rec)
    other.update(pd.DataFrame({"user_id": ["new"], "item_id": ["x"]}))
    assert (len(rec.state.users), len(other.state.users)) == (2, 3)


def test_load_and_fit_leave_the_random_numbers_of_their_caller_alone(tmp_path, monkeypatch):
    items = pd.DataFrame({"item_id": ["x", "y", "z"], "title": ["a", "b", "c"]})
    data = gr.Dataset.from_frames(
        pd.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "z"]}),
        items,
        modalities={"title": gr.Text("title", encoder="drawing")},
    )

    def drawing(device, **_):
        torch.rand(3)  # as for weights that are then read from a file
        return encoder.resolve("text", "hashed-words", device)

    monkeypatch.setattr(encoder, "_FACTORIES", {"text": dict(encoder._FACTORIES["text"])})
    encoder.register_encoder("text", "drawing", drawing)
    for act in (
        lambda: gr.Recommender(embedding_dim=4, epochs=1).fit(data, progress=False).save(tmp_path / "model"),
        lambda: gr.load(tmp_path / "model"),
    ):
        torch.manual_seed(0)
        act()
        after = torch.rand(1)
        torch.manual_seed(0)
        assert after == torch.rand(1)


def test_histories_may_come_one_by_one():
    rec = gr.Recommender.preset("ease").fit(small_log(), progress=False)
    assert rec.recommend_for(["x"] for _ in range(2))["query"].unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda rec: rec.fit(pd.DataFrame()), "train= takes a gnnrec.Dataset, not DataFrame; see Dataset.from_frames"),
        (lambda rec: rec.fit(small_log(), pd.DataFrame()), "valid= takes a gnnrec.Dataset, not DataFrame"),
        (lambda rec: gr.tune(pd.DataFrame(), trials=1), "train= takes a gnnrec.Dataset, not DataFrame"),
        (lambda rec: rec.evaluate(pd.DataFrame()), "test= takes a gnnrec.Dataset, not DataFrame"),
        (lambda rec: rec.fit(None), "train= takes a gnnrec.Dataset, not NoneType"),
        (lambda rec: rec.evaluate(None), "test= takes a gnnrec.Dataset, not NoneType"),
        (lambda rec: small_log().split("random"), r"takes a splitter, such as gnnrec.split.random\(.*not 'random'"),
        (lambda rec: rec.update(PAIR, cleaning="strict"), "cleaning= takes a gnnrec.Cleaning, or None .*not 'strict'"),
        (lambda rec: rec.update(PAIR, columns="user_id"), "columns= takes a mapping of roles to names.*not 'user_id'"),
        (lambda rec: gr.Dataset.from_frames(PAIR, cleaning="strict"), "cleaning= takes a gnnrec.Cleaning"),
        (lambda rec: gr.Dataset.from_files("x.csv", "x", cleaning="strict"), "cleaning= takes a gnnrec.Cleaning"),
        (lambda rec: gr.Dataset.from_files("x.csv", "x", columns="user_id"), "columns= takes a mapping"),
        (lambda rec: gr.Dataset.from_files(PAIR, "x"), "takes a path or glob, not DataFrame; see from_frames"),
        (lambda rec: gr.tune(small_log(), trials=1, space="hops"), "space= takes a list of options, .*not 'hops'"),
        (lambda rec: rec.add_items(vectors=gr.Vectors(np.eye(1), ["q"])), "a mapping of modalities to gnnrec.Vectors"),
    ],
)
def test_what_is_easily_given_instead_is_named(act, message):
    rec = gr.Recommender.preset("content-knn").fit(
        gr.Dataset.from_frames(SHOP.interactions, modalities={"look": SHOP.vectors()}), progress=False
    )
    with pytest.raises(gr.errors.GnnrecError, match=message):
        act(rec)


def test_a_metric_is_a_name(fitted):
    with pytest.raises(gr.errors.ConfigError, match="a metric is a name such as 'recall@20', not 20"):
        fitted.evaluate(small_log(), metrics=[20])


def test_a_whole_number_reads_alike_beside_a_gap_and_without():
    """Pandas makes floats of a column with a missing cell, and a new item has the number itself."""
    items = SHOP.items[["item_id", "title"]].assign(year=1990.0 + np.arange(len(SHOP.items)))
    items.loc[3, "year"] = np.nan
    words = {"words": gr.Text(["title", "year"], encoder="hashed-words")}
    data = gr.Dataset.from_frames(SHOP.interactions, items, modalities=words)
    rec = gr.Recommender.preset("content-knn").fit(data, progress=False)
    rec.add_items(items.iloc[[5]].assign(item_id="again", year=[1995]))
    feature = rec.state.features["words"]
    np.testing.assert_array_equal(feature.values[-1], feature.values[feature.owner_index == 5][0])


@pytest.mark.parametrize("numbers", [np.uint64([2**63 + 1, 1]), np.int64([2**60 + 1, 1]), np.array([True, False])])
def test_whole_numbers_of_items_stay_whole_beside_new_items_that_have_none(tmp_path, numbers):
    log = pd.DataFrame({"user_id": [1, 2], "item_id": ["a", "b"]})
    items = pd.DataFrame({"item_id": ["a", "b"], "number": numbers})
    data = gr.Dataset.from_frames(log, items, modalities={"look": gr.Vectors(np.eye(2), ["a", "b"])})
    rec = gr.Recommender.preset("content-knn").fit(data, progress=False)
    rec.add_items(vectors={"look": gr.Vectors(np.ones((1, 2)), ["c"])}).save(tmp_path / "model")
    column = gr.load(tmp_path / "model").state.catalogue.item_table["number"]
    assert [int(number) for number in column[:2]] == numbers.tolist()
    assert pd.isna(column[2])


def test_new_items_fit_the_columns_of_the_item_table(tmp_path):
    """Some may lack a whole number, a date may be a text, and what is in no column is not looked at."""
    log = pd.DataFrame({"user_id": [1, 2], "item_id": ["a", "b"]})
    items = pd.DataFrame({"item_id": ["a", "b"], "ean": [2**60 + 1, 1], "day": pd.to_datetime(["2001-01-01"] * 2)})
    data = gr.Dataset.from_frames(log, items, modalities={"look": gr.Vectors(np.eye(2), ["a", "b"])})
    rec = gr.Recommender.preset("content-knn").fit(data, progress=False)
    new = pd.DataFrame({"item_id": ["c", "d"], "ean": [7, None], "odd": [1, "x"], "day": ["2021-01-01", None]})
    rec.add_items(new, vectors={"look": gr.Vectors(np.ones((2, 2)), ["c", "d"])}).save(tmp_path / "model")
    table = gr.load(tmp_path / "model").state.catalogue.item_table
    assert table["ean"].tolist() == [2**60 + 1, 1, 7, pd.NA]
    assert table["day"].dt.year.tolist()[:3] == [2001, 2001, 2021]
    with pytest.raises(gr.errors.DataError, match="column 'day' holds string values, and datetime values"):
        rec.add_items(
            pd.DataFrame({"item_id": ["e"], "day": ["soon"]}), vectors={"look": gr.Vectors(np.ones((1, 2)), ["e"])}
        )
    with pytest.raises(gr.errors.DataError, match="ids must be all integers or all strings"):
        rec.add_items(pd.DataFrame({"item_id": [5, "e"]}))


@pytest.mark.parametrize("device", ["mps", "xpu", "cuda:7"])
def test_a_device_that_is_not_here_is_refused_before_anything_is_read(device):
    with pytest.raises(gr.errors.ConfigError, match=f"option 'device' is '{device}'"):
        gr.Recommender(device=device).fit(small_log(), progress=False)


@pytest.mark.parametrize("kind", ["user", "item"])
def test_embeddings_may_be_written_to(fitted, kind):
    _, vectors = fitted.embeddings(kind)
    before = vectors.copy()
    vectors += 1
    np.testing.assert_array_equal(fitted.embeddings(kind)[1], before)
