"""Warm and cold items beside each other, and what each further interaction of a newcomer gives."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.cold_start_report import VIEWS, evaluate_cold_start, few_shot_items, few_shot_people
from gnnrec.errors import ConfigError, DataError, UnsupportedError

NUM_USERS, NUM_ITEMS, TASTES = 90, 60, 3
SHOTS = (0, 1, 2, 5)


@pytest.fixture(scope="module")
def data():
    """Everybody likes the items of one of three tastes, which content shows; people came in the order of the ids."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(NUM_USERS), 12)
    items = np.concatenate(
        [user % TASTES + TASTES * rng.permutation(NUM_ITEMS // TASTES)[:12] for user in range(NUM_USERS)]
    )
    log = pd.DataFrame({"user_id": users, "item_id": items, "timestamp": np.arange(len(users))})
    content = np.eye(TASTES)[np.arange(NUM_ITEMS) % TASTES] + rng.normal(0, 0.1, (NUM_ITEMS, TASTES))
    vectors = gr.Vectors(content.astype(np.float32), ids=np.arange(NUM_ITEMS))
    return gr.Dataset.from_frames(log, modalities={"content": vectors})


@pytest.fixture(scope="module")
def cold_parts(data):
    train, _, test = data.split(gr.split.cold_items(valid=0.0, test=0.3, seed=0))
    train, warm = gr.split.holdout(train, 0.1, seed=0)
    return train, warm, test


def fit(train: gr.Dataset, preset: str = "gnnrec") -> gr.Recommender:
    options = {} if preset == "popularity" else {"embedding_dim": 8, "epochs": 8}
    return gr.Recommender.preset(preset, **options).fit(train, progress=False)


def test_the_views_are_those_of_evaluate(cold_parts):
    train, warm, test = cold_parts
    rec = fit(train)
    report = evaluate_cold_start(rec.state, test, warm)
    assert tuple(report.evaluations) == tuple(report.random) == VIEWS
    recall = {view: one.values["recall@20"] for view, one in report.evaluations.items()}
    assert recall["cold among all"] == rec.evaluate(test).values["recall@20"]
    assert recall["cold among cold"] == rec.evaluate(test, candidates="cold").values["recall@20"]
    assert report.harmonic_mean() == pytest.approx(2 / (1 / recall["warm"] + 1 / recall["cold among all"]))
    assert report.random["cold among cold"].values["recall@20"] == 1  # 18 new items
    assert evaluate_cold_start(rec.state, test, warm, k=3).random["cold among cold"].values["recall@3"] == 3 / 18
    frame = report.to_frame().set_index(["view", "metric"])
    assert frame.loc[("warm", "recall@20"), "value"] == recall["warm"]
    assert frame.loc[("warm", "recall@20"), "num_users"] == warm.interaction_matrix().getnnz(axis=1).astype(bool).sum()
    assert f"{recall['warm']:.4f}" in str(report)
    assert len(rec.state.items) == train.num_items  # the state is as it was
    views, chances = report.evaluations["warm"], report.random["warm"]
    assert views.user_ids.tolist() == chances.user_ids.tolist() == rec.state.users.ids_of(views.user_index).tolist()


def test_new_items_compete_with_warm_ones(cold_parts):
    train, warm, test = cold_parts
    rec = fit(train)
    in_one_list = evaluate_cold_start(rec.state, test, warm, k=5).evaluations["warm"]
    alone = rec.evaluate(warm, ["recall@5"])
    assert in_one_list.values["recall@5"] < alone.values["recall@5"]
    np.testing.assert_array_equal(in_one_list.user_index, alone.user_index)


def test_items_without_events_in_a_shared_catalogue_are_cold(data):
    cold = data.events.item_index % 5 == 0
    held_out = ~cold & (np.arange(len(data.events)) % 10 == 0)
    train = data.with_events(data.events.take(~cold & ~held_out))
    test = data.with_events(data.events.take(cold | held_out))
    rec = fit(train)
    report = evaluate_cold_start(rec.state, test)
    for view, events in (("warm", held_out), ("cold among all", cold), ("cold among cold", cold)):
        users = np.unique(data.events.user_index[events])
        np.testing.assert_array_equal(report.evaluations[view].user_index, users)
    only_cold = data.with_events(data.events.take(cold))
    expected = rec.evaluate(only_cold, candidates="cold").values["ndcg@20"]
    assert report.evaluations["cold among cold"].values["ndcg@20"] == expected
    assert expected > report.random["cold among cold"].values["ndcg@20"] + 0.2


def test_a_ranker_that_takes_in_no_items_finds_none(cold_parts):
    train, warm, test = cold_parts
    report = evaluate_cold_start(fit(train, "popularity").state, test, warm)
    assert report.evaluations["cold among all"].values["recall@20"] == 0
    assert report.evaluations["warm"].values["recall@20"] > 0
    assert report.harmonic_mean() == 0


def test_people_gain_with_every_interaction(data):
    train, _, test = data.split(gr.split.cold_users(valid=0.0, test=0.3, seed=0))
    curve = few_shot_people(fit(train).state, test, shots=SHOTS, k=10)
    recall = [curve[count].values["recall@10"] for count in SHOTS]
    assert all(one.num_users == 27 for one in curve.values())
    assert recall[0] < 0.4  # the average taste
    assert recall[1] > recall[0] + 0.3
    assert recall[-1] > 0.6  # the taste is known: 10 of the 15 items of it that are not hidden
    popular = few_shot_people(fit(train, "popularity").state, test, shots=SHOTS, k=10)
    assert len({one.values["recall@10"] for one in popular.values()}) == 1  # it hears nothing: nothing else differs


def test_the_first_interactions_in_time_are_told(data):
    train, _, test = data.split(gr.split.cold_users(valid=0.0, test=0.3, seed=0))
    rec = fit(train)
    person = int(test.events.user_index[0])
    items = test.items.ids_of(test.events.item_index[test.events.user_index == person])
    curve = few_shot_people(rec.state, test, shots=(0, 3), k=5)
    expected = rec.recommend_for([items[:3]], k=5)["item_id"].tolist()
    row = np.flatnonzero(curve[3].user_index == person)[0]
    assert test.items.ids_of(curve[3].top_items[row]).tolist() == expected


def test_items_are_told_through_update(data):
    train, _, test = data.split(gr.split.cold_items(valid=0.0, test=0.3, seed=0))
    rec = fit(train)
    curve = few_shot_items(rec.state, test, shots=(0, 2), candidates="cold", k=5)
    assert curve[0].values["recall@5"] > 0.5  # by their content: 5 of the 18
    assert curve[0].num_users == curve[2].num_users
    assert (curve[0].top_items != curve[2].top_items).any()
    # With room for all items everything is found: no test pair is among the hidden ones.
    assert few_shot_items(rec.state, test, shots=(0, 2), k=60)[2].values["recall@60"] == 1


def test_events_tell_what_content_does_not(data):
    """Where all items look alike a new one is nobody's, until some people choose it."""
    alike = gr.Vectors(np.ones((NUM_ITEMS, TASTES), np.float32), ids=np.arange(NUM_ITEMS))
    blind = replace(data, modalities={"content": alike})
    train, _, test = blind.split(gr.split.cold_items(valid=0.0, test=0.3, seed=0))
    state = (
        gr.Recommender(embedding_dim=16, epochs=15, learning_rate=0.02, device="cpu").fit(train, progress=False).state
    )
    curve = few_shot_items(state, test, shots=(0, 1, 5), candidates="cold", k=5)
    recall = [point.values["recall@5"] for point in curve.values()]
    assert recall[0] < 0.45  # 5 of the 18 would be .28 by chance
    assert min(recall[1:]) > max(0.7, recall[0] + 0.3)


def test_what_cannot_be_measured_is_named(data):
    train, _, test = data.split(gr.split.cold_users(valid=0.0, test=0.3, seed=0))
    state = fit(train, "popularity").state
    for shots in ((), (1, 1), (-1, 2)):
        with pytest.raises(ConfigError, match="different numbers"):
            few_shot_people(state, test, shots=shots)
    with pytest.raises(DataError, match="no new user has more"):
        few_shot_people(state, test, shots=(0, 12))
    with pytest.raises(DataError, match="no new item has more"):
        few_shot_items(state, train)
    with pytest.raises(ConfigError, match="'warm'"):
        few_shot_items(state, test, candidates="warm")


def test_the_curve_is_drawn(data, tmp_path):
    train, _, test = data.split(gr.split.cold_users(valid=0.0, test=0.3, seed=0))
    curve = few_shot_people(fit(train, "popularity").state, test, shots=(0, 1))
    gr.evaluation.plot_few_shot({"popularity": curve, "again": curve}, tmp_path / "curve.svg")
    assert "<!-- known interactions -->" in (tmp_path / "curve.svg").read_text()
    with pytest.raises(DataError, match="other numbers"):
        gr.evaluation.plot_few_shot({"a": curve, "b": {0: curve[0]}}, tmp_path / "curve.svg")
    with pytest.raises(DataError, match="no model"):
        gr.evaluation.plot_few_shot({}, tmp_path / "curve.svg")


def test_the_trade_off_begins_at_what_the_report_says():
    """Content of two signs makes most items equal, so places are given by the order of the catalogue."""
    shop = gr.synthetic.shop(num_users=50, num_items=30, seed=0)
    signs = gr.Vectors(np.sign(shop.vectors().matrix[:, :2]), shop.vectors().ids)
    data = gr.Dataset.from_frames(shop.interactions, modalities={"look": signs})
    train, _, test = data.split(gr.split.cold_items(valid=0, test=0.2))
    train, warm = gr.split.holdout(train, fraction=0.1)
    rec = gr.Recommender.preset("content-knn").fit(train, progress=False)
    for k in (3, 5, 10):
        report = evaluate_cold_start(rec.state, test, warm, k=k)
        metric = f"recall@{k}"
        assert report.trade_off.known_recall(0) == pytest.approx(report.evaluations["warm"].values[metric])
        assert report.trade_off.new_recall(0) == pytest.approx(report.evaluations["cold among all"].values[metric])


def test_chance_offers_no_removed_items(cold_parts):
    train, warm, test = cold_parts
    rec = fit(train)
    new = np.setdiff1d(test.items.ids, train.items.ids)
    matrix = dict(zip(test.modalities["content"].ids, test.modalities["content"].matrix, strict=True))
    rec.add_items(vectors={"content": gr.Vectors(np.stack([matrix[one] for one in new]), new)})
    rec.remove_items(new[4:])
    left = test.without(items=np.isin(test.items.ids, new[4:]))
    report = evaluate_cold_start(rec.state, left, warm, k=5)
    assert report.random["cold among cold"].values["recall@5"] == 1  # four items for five places
    with pytest.raises(ConfigError, match="'auc' was not measured; there are recall@5, ndcg@5"):
        report.harmonic_mean("auc")


def test_a_ranker_that_takes_in_no_items_says_so(cold_parts):
    train, _, test = cold_parts
    with pytest.raises(UnsupportedError, match="cannot add items"):
        few_shot_items(fit(train, "popularity").state, test, shots=(0, 1))


def test_items_are_told_the_first_events_and_nothing_of_what_is_to_be_found(data):
    train, _, test = data.split(gr.split.cold_items(valid=0.0, test=0.3, seed=0))
    rec = fit(train)
    curve = few_shot_items(rec.state, test, shots=(0, 2), k=60)
    events = pd.DataFrame(
        {
            "user_id": test.users.ids[test.events.user_index],
            "item_id": test.items.ids[test.events.item_index],
            "timestamp": test.events.timestamp,
        }
    )
    first = events.sort_values("timestamp").groupby("item_id").head(2)
    matrix = test.modalities["content"]
    new = np.setdiff1d(test.items.ids, train.items.ids)
    rec.add_items(vectors={"content": gr.Vectors(matrix.matrix[np.isin(matrix.ids, new)], new)}).update(first)
    ranked = rec.recommend(rec.state.users.ids[curve[2].user_index], k=60)["item_id"].tolist()
    assert rec.state.items.ids_of(curve[2].top_items[curve[2].top_items >= 0]).tolist() == ranked
    told = set(first[["user_id", "item_id"]].itertuples(index=False, name=None))
    for point in curve.values():  # the same candidates at each
        person, place = np.nonzero(point.top_items >= 0)
        users = rec.state.users.ids_of(point.user_index[person])
        items = rec.state.items.ids_of(point.top_items[person, place])
        assert not told & set(zip(users.tolist(), items.tolist(), strict=True))


@pytest.mark.parametrize("owner", ["item", "user"])
def test_no_removed_item_is_ranked_for_or_beside_newcomers(data, owner):
    splitter, measure = {
        "item": (gr.split.cold_items, few_shot_items),
        "user": (gr.split.cold_users, few_shot_people),
    }[owner]
    train, _, test = data.split(splitter(valid=0.0, test=0.3, seed=0))
    rec = gr.Recommender.preset("content-knn").fit(train, progress=False)
    rec.remove_items(train.items.ids[:30])
    for point in measure(rec.state, test, shots=(0, 2), k=60).values():
        assert not np.isin(point.top_items, rec.state.removed).any()


@pytest.mark.parametrize("measure", [evaluate_cold_start, few_shot_people, few_shot_items])
def test_something_else_than_a_state_and_data_sets(cold_parts, measure):
    train, _, test = cold_parts
    rec = fit(train, "popularity")
    with pytest.raises(DataError, match=r"give the fitted state, such as recommender\.state, not Recommender"):
        measure(rec, test)
    with pytest.raises(DataError, match=r"test= takes a gnnrec\.Dataset, not DataFrame"):
        measure(rec.state, pd.DataFrame())
