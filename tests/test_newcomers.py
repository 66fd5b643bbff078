"""What people and new items say of themselves, and what stands for what they do not say."""

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr
from gnnrec.errors import DataError, UnsupportedError
from gnnrec.growth import with_new_items

SHOP = gr.synthetic.shop(num_users=160, num_items=60, seed=2)
QUICK = {"embedding_dim": 16, "epochs": 8, "learning_rate": 0.02, "device": "cpu"}
BIO = {"bio": gr.Text("bio", of="user", encoder="wordllama")}
KNOWN, STRANGERS = np.arange(120), np.arange(120, 160)
TASTE = dict(zip(SHOP.items["item_id"], SHOP.item_taste, strict=True))


@pytest.fixture(scope="module")
def fitted():
    """Knows three quarters of the people; the others have only a bio."""
    users = SHOP.users.iloc[KNOWN]
    log = SHOP.interactions[SHOP.interactions["user_id"].isin(users["user_id"])]
    data = gr.Dataset.from_frames(log, users=users, modalities=BIO)
    return gr.Recommender(**QUICK).fit(data, progress=False)


def share_of_taste(answer, people, taste):
    wanted = dict(zip(people, taste, strict=True))
    return np.mean([TASTE[item] == wanted[name] for name, item in zip(answer["query"], answer["item_id"], strict=True)])


class TestProfiles:
    strangers = SHOP.users.iloc[STRANGERS].reset_index(drop=True)
    taste = SHOP.user_taste[STRANGERS]

    def test_a_bio_alone_tells_the_taste(self, fitted):
        people = self.strangers["user_id"].tolist()
        nothing = {name: [] for name in people}
        answer = fitted.recommend_for(nothing, k=5, profiles=self.strangers)
        chance = share_of_taste(fitted.recommend_for(nothing, k=5), people, self.taste)
        assert chance == pytest.approx(0.25, abs=0.1)
        assert share_of_taste(answer, people, self.taste) > 0.6

    def test_with_both_the_history_and_the_bio_count_and_the_history_more_the_longer_it_is(self, fitted):
        people = self.strangers["user_id"].tolist()
        other = (self.taste + 1) % 4  # the histories contradict the bios
        of_other = [SHOP.items["item_id"][SHOP.item_taste == taste].tolist() for taste in other]

        def shares(length, profiles):
            histories = {name: items[:length] for name, items in zip(people, of_other, strict=True)}
            answer = fitted.recommend_for(histories, k=5, profiles=profiles)
            return share_of_taste(answer, people, self.taste), share_of_taste(answer, people, other)

        (own_by_bio, _), (own_by_both, other_by_both) = (shares(length, self.strangers) for length in (0, 1))
        own_by_history, other_by_history = shares(1, None)
        assert own_by_history < own_by_both < own_by_bio
        assert other_by_both < other_by_history
        assert shares(8, self.strangers)[1] > other_by_both

    def test_a_known_person_without_events_is_answered_as_a_stranger_with_that_profile(self):
        """The same forward pass: what `fit` gives a user of the table without events."""
        silent = SHOP.users["user_id"].iloc[0]
        log = SHOP.interactions[SHOP.interactions["user_id"] != silent]
        data = gr.Dataset.from_frames(log, users=SHOP.users, modalities=BIO)
        rec = gr.Recommender(**{**QUICK, "epochs": 2}).fit(data, progress=False)
        known = rec.recommend([silent], k=60)
        by_profile = rec.recommend_for({"x": []}, k=60, profiles=SHOP.users.iloc[:1].assign(user_id="x"))
        assert list(by_profile["item_id"]) == list(known["item_id"])
        np.testing.assert_allclose(by_profile["score"], known["score"], atol=1e-5)

    def test_evaluate_answers_strangers_by_their_profiles(self):
        split = gr.split.cold_users(valid=0.0, test=0.3, seed=5)
        recall = {}
        for name, modalities in (("bio", BIO), ("nothing", {})):
            train, _, test = gr.Dataset.from_frames(SHOP.interactions, users=SHOP.users, modalities=modalities).split(
                split
            )
            rec = gr.Recommender(**QUICK).fit(train, progress=False)
            recall[name] = rec.evaluate(test, ("recall@10",)).values["recall@10"]
        assert recall["bio"] > 1.4 * recall["nothing"]

    def test_vectors_names_and_people_without_a_profile(self, fitted):
        raw = fitted.state.features["bio"].values[:1]
        scaler = fitted.state.preparation.scalers["bio"].arrays
        vector = raw * scaler["scale"] + scaler["shift"]
        bio = SHOP.users[SHOP.users["user_id"] == fitted.state.users.ids[0]]
        histories = [["i01"], [], ["i01"]]
        by_text = fitted.recommend_for(histories, k=5, profiles=bio.assign(user_id=1))
        by_vector = fitted.recommend_for(histories, k=5, user_vectors={"bio": gr.Vectors(vector, [1])})
        assert list(by_text["item_id"]) == list(by_vector["item_id"])
        np.testing.assert_allclose(by_text["score"], by_vector["score"], atol=1e-5)
        plain = fitted.recommend_for(histories, k=5)
        for position in (0, 2):  # who gave no profile is answered as before
            pd.testing.assert_frame_equal(
                by_text[by_text["query"] == position], plain[plain["query"] == position], check_exact=False, rtol=1e-5
            )
        assert list(by_text[by_text["query"] == 1]["item_id"]) != list(plain[plain["query"] == 1]["item_id"])

    def test_blocks_of_people_do_not_matter(self, fitted, monkeypatch):
        people = {name: [] for name in self.strangers["user_id"]}
        whole = fitted.recommend_for(people, k=5, profiles=self.strangers)
        monkeypatch.setattr("gnnrec.answers._BLOCK_SCORES", 7 * 60)
        in_blocks = fitted.recommend_for(people, k=5, profiles=self.strangers)
        pd.testing.assert_frame_equal(whole, in_blocks, rtol=1e-5)

    def test_a_model_that_hears_no_histories_says_so(self):
        data = gr.Dataset.from_frames(SHOP.interactions, users=SHOP.users, modalities=BIO)
        rec = gr.Recommender(**{**QUICK, "epochs": 1, "hops": 0}).fit(data, progress=False)
        with pytest.raises(UnsupportedError, match="hops of at least 1"):
            rec.recommend_for({"x": []}, profiles=SHOP.users.iloc[:1].assign(user_id="x"))


@pytest.mark.parametrize("policy", ["absent", "mean", "median", "nearest", "predict"])
def test_new_items_are_completed_as_those_of_the_fit(policy):
    """An added item that lacks a modality gets what a fit gives a catalogue item that lacks it."""
    look, sound = SHOP.vectors(dim=6), gr.synthetic.shop(num_users=60, num_items=60, seed=2).vectors(dim=4)
    ids = SHOP.items["item_id"].to_numpy()
    has_sound = np.arange(len(ids)) % 5 != 0
    cold = np.flatnonzero(~has_sound)[:3]
    log = SHOP.interactions[~SHOP.interactions["item_id"].isin(ids[cold])]

    def fitted(rows):
        modalities = {
            "look": gr.Vectors(look.matrix[rows], ids[rows]),
            "sound": gr.Vectors(sound.matrix[rows & has_sound], ids[rows & has_sound]),
        }
        data = gr.Dataset.from_frames(log, modalities=modalities)
        return gr.Recommender(**{**QUICK, "epochs": 1, "missing": policy}).fit(data, progress=False)

    everything = fitted(np.ones(len(ids), bool))
    grown = fitted(~np.isin(np.arange(len(ids)), cold))
    grown.add_items(vectors={"look": gr.Vectors(look.matrix[cold], ids[cold])})
    expected, found = (rec.state.features["sound"] for rec in (everything, grown))
    assert len(found) == (has_sound.sum() if policy == "absent" else len(ids))
    for item in ids[cold]:
        rows = [
            feature.values[feature.owner_index == rec.state.items.index_of([item])[0]]
            for feature, rec in ((expected, everything), (found, grown))
        ]
        assert len(rows[0]) == len(rows[1]) == (policy != "absent")
        # `nearest` and `predict` learn from prepared vectors, guesses of the fit among them: close, not equal.
        np.testing.assert_allclose(*rows, atol={"nearest": 0.5, "predict": 0.1}.get(policy, 1e-5))


def test_the_policy_is_saved(tmp_path):
    data = gr.Dataset.from_frames(SHOP.interactions, modalities={"look": SHOP.vectors()})
    rec = gr.Recommender(**{**QUICK, "epochs": 1, "missing": "median"}).fit(data, progress=False)
    rec.save(tmp_path / "model")
    assert gr.load(tmp_path / "model").state.preparation.missing == "median"


def test_people_of_the_table_without_events_change_nobodys_taste():
    """And are answered as somebody with an empty history is."""
    shop = gr.synthetic.shop(num_users=80, num_items=40, seed=0)
    more = pd.concat([shop.users, pd.DataFrame({"user_id": [f"idle{i}" for i in range(240)]})], ignore_index=True)

    def fit(users):
        data = gr.Dataset.from_frames(shop.interactions, users=users, modalities={"look": shop.vectors()})
        return gr.Recommender(embedding_dim=16, epochs=3, content_taste=1.0).fit(data, progress=False)

    few, many = fit(shop.users), fit(more)
    newcomers = many.state.ranker.newcomers
    tastes = many.state.ranker.serving.user_taste
    np.testing.assert_allclose(newcomers.average_taste, tastes[:80].mean(dim=0), atol=1e-6)
    assert newcomers.average_taste.norm() > 0.9 * few.state.ranker.newcomers.average_taste.norm()
    idle, nobody = many.recommend(["idle7"], k=10), many.recommend_for([[]], k=10)
    assert idle["item_id"].tolist() == nobody["item_id"].tolist()
    np.testing.assert_allclose(idle["score"], nobody["score"], atol=1e-4)


def test_new_items_are_completed_by_what_training_knew_alone():
    """Neither by each other's media nor out of nothing."""
    look, sound = SHOP.vectors(dim=6), SHOP.vectors(dim=4)
    data = gr.Dataset.from_frames(SHOP.interactions, modalities={"look": look, "sound": sound})
    state = gr.Recommender(ranker="content-knn", missing="mean").fit(data, progress=False).state
    quiet = {"look": gr.Vectors(look.matrix[:1], ["new"])}
    alone = with_new_items(state, None, quiet, device="cpu")
    loud = {"sound": gr.Vectors(np.full((1, 4), 100.0), ["loud"])}
    beside = with_new_items(state, None, {**quiet, **loud}, device="cpu")
    rows = [
        grown.features["sound"].values[grown.features["sound"].owner_index == grown.items.index_of(["new"])]
        for grown in (alone, beside)
    ]
    assert len(rows[0]) == 1
    np.testing.assert_array_equal(*rows)
    with pytest.raises(DataError, match=r"1 of 2 new items have no medium .*'bare'"):
        with_new_items(state, pd.DataFrame({"item_id": ["new", "bare"]}), quiet, device="cpu")
