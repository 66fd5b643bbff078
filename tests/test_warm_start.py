"""A fit that goes on from an earlier one."""

import numpy as np
import pandas as pd
import pytest
import torch

import gnnrec as gr
from gnnrec.errors import ConfigError, DataError, NotFittedError, UnsupportedError

SHOP = gr.synthetic.shop(num_users=150, num_items=80, seed=3)
QUICK = {"embedding_dim": 16, "epochs": 8, "learning_rate": 0.02, "device": "cpu"}
LOG = SHOP.interactions  # in the order of time
OLD, LATER = LOG[: len(LOG) // 2], LOG[len(LOG) * 3 // 4 :]
BUSY = sorted(set(LOG["user_id"]))[:75]  # the others do nothing between the two fits
BETWEEN = LOG[len(OLD) : len(LOG) * 3 // 4]
GROWN = pd.concat([OLD, BETWEEN[BETWEEN["user_id"].isin(BUSY)]])


def dataset(log, **modalities):
    return gr.Dataset.from_frames(log, modalities={"look": SHOP.vectors(), **modalities})


@pytest.fixture(scope="module")
def fitted():
    return gr.Recommender(**QUICK).fit(dataset(OLD), progress=False)


def going_on(fitted, **options):
    rec = gr.Recommender(config=fitted.config, **options)
    rec._state = fitted.state
    return rec


def directions(rec, users):
    vectors = rec.state.ranker.serving.user[rec.state.users.index_of(users)][:, :-1]
    return (vectors / vectors.norm(dim=1, keepdim=True)).numpy()


def test_ids_of_another_kind_are_refused_and_known_ones_counted(fitted, caplog):
    numbers = LOG.assign(user_id=LOG["user_id"].str[1:].astype(int))
    with pytest.raises(DataError, match="user ids are integers, those of the fit to go on from strings"):
        going_on(fitted).fit(dataset(numbers), warm_start=True, progress=False)
    with caplog.at_level("INFO", "gnnrec"):
        going_on(fitted, epochs=1).fit(dataset(GROWN), warm_start=True, progress=False)
    known, now = len(set(OLD["user_id"])), len(set(GROWN["user_id"]))
    assert f"it knows {known} of {now} users" in caplog.text


def test_one_epoch_from_there_beats_one_from_nothing():
    """Without hops and media a model knows only what it has learned."""
    train, valid = dataset(GROWN), dataset(LATER)
    before = gr.Recommender.preset("mf-bpr", **QUICK).fit(dataset(OLD), progress=False)
    warm = going_on(before, epochs=1).fit(train, valid, warm_start=True, progress=False)
    cold = gr.Recommender(config=warm.config).fit(train, valid, progress=False)
    assert warm.history["recall@20"][0] > 1.3 * cold.history["recall@20"][0]


def test_media_are_scaled_as_the_weights_have_learned(fitted):
    warm = going_on(fitted, epochs=1).fit(dataset(GROWN), warm_start=True, progress=False)
    before, now = (rec.state.preparation.scalers["look"].arrays for rec in (fitted, warm))
    for part, array in before.items():
        np.testing.assert_array_equal(now[part], array)


def test_untouched_people_stay_near(fitted):
    train, valid = dataset(GROWN), dataset(LATER)
    untouched = sorted(set(OLD["user_id"]) - set(BUSY))
    then = directions(fitted, untouched)
    warm = going_on(fitted, epochs=1).fit(train, valid, warm_start=True, progress=False)
    cold = gr.Recommender(config=warm.config).fit(train, valid, progress=False)
    near, elsewhere = ((then * directions(rec, untouched)).sum(axis=1) for rec in (warm, cold))
    assert near.min() > 0.4
    assert near.mean() > 0.8 > 0.5 > elsewhere.mean()


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("gnnrec", {"popularity_weight": 3.0}),
        ("gnnrec", {"popularity_weight": 0.0}),
        ("gnnrec", {"popularity_weight": None}),
        ("vbpr", {}),
        ("mgcn", {}),
    ],
)
def test_without_a_step_it_is_the_model_that_it_started_from(preset, options):
    """Popularity, weighed after training, is not weighed twice; ids may have moved."""
    rec = gr.Recommender.preset(preset, **QUICK, **options).fit(dataset(OLD), dataset(LATER), progress=False)
    again = going_on(rec, learning_rate=1e-12, epochs=1)
    shuffled = OLD.sample(frac=1, random_state=0)
    again.fit(dataset(shuffled), dataset(LATER), warm_start=True, progress=False)
    for kind in ("user", "item"):
        np.testing.assert_allclose(again.embeddings(kind)[1], rec.embeddings(kind)[1], atol=1e-4)


def test_biases_outlive_a_fit_in_which_popularity_counted_nothing(tmp_path):
    rec = gr.Recommender(**QUICK, popularity_weight=0.0).fit(dataset(OLD), progress=False)
    assert not rec.state.ranker.vectors("item")[:, -1].any()
    rec.save(tmp_path / "model")
    again = going_on(gr.load(tmp_path / "model"), learning_rate=1e-12, epochs=1, popularity_weight=2.0)
    again.fit(dataset(OLD), warm_start=True, progress=False)
    trained = rec.state.ranker.model.item_bias.detach()
    assert trained.std() > 0
    assert torch.equal(gr.load(tmp_path / "model").state.ranker.model.item_bias, trained)
    biases = again.state.ranker.vectors("item")[:, -1]
    np.testing.assert_allclose(np.corrcoef(biases, trained)[0, 1], 1, atol=1e-6)


def test_items_and_people_that_came_between_the_fits(fitted):
    rec = going_on(fitted, epochs=1)
    rec.add_items(vectors={"look": gr.Vectors(SHOP.vectors().matrix[:2], ["x", "y"])})
    events = OLD.iloc[:2].assign(user_id=["new", "new"], item_id=["x", "y"])
    rec.update(events).remove_items(["i01"])
    log = gr.Dataset.from_frames(
        pd.concat([OLD, events]),
        modalities={
            "look": gr.Vectors(
                np.concatenate([SHOP.vectors().matrix, SHOP.vectors().matrix[:2]]), [*SHOP.vectors().ids, "x", "y"]
            )
        },
    )
    rec.fit(log, warm_start=True, progress=False)
    assert {"x", "y"} <= set(rec.state.items.ids)
    assert len(rec.state.removed) == 0
    assert set(rec.recommend(["new"], k=90, exclude_seen=False)["item_id"]) == set(rec.state.items.ids)


def test_what_cannot_go_on_says_why_and_leaves_the_old_fit(fitted):
    data = dataset(GROWN)
    with pytest.raises(NotFittedError, match="call fit"):
        gr.Recommender(**QUICK).fit(data, warm_start=True, progress=False)
    state = fitted.state
    for options, error, message in (
        ({"embedding_dim": 8}, ConfigError, "'embedding_dim' was 16 and is 8; set it back"),
        ({"similar_items": 0}, ConfigError, "item relations were"),
        ({"ranker": "item-knn"}, UnsupportedError, "'item-knn' does not train"),
    ):
        rec = going_on(fitted, **options)
        with pytest.raises(error, match=message):
            rec.fit(data, warm_start=True, progress=False)
        assert rec.state is state
    with pytest.raises(ConfigError, match="item modalities were"):
        going_on(fitted).fit(dataset(GROWN, sound=SHOP.vectors(dim=4)), warm_start=True, progress=False)
    labelled = {"labels": ["kind"], "modality_alignment": {"multi-task": 0.1}}
    of_two, of_three = (
        gr.Dataset.from_frames(
            GROWN,
            items=SHOP.items.assign(kind=[f"{i % num}" for i in range(len(SHOP.items))]),
            modalities={"look": SHOP.vectors(), "sound": SHOP.vectors(dim=4)},
        )
        for num in (2, 3)
    )
    before = gr.Recommender(**QUICK, **labelled).fit(of_two, progress=False)
    with pytest.raises(ConfigError, match="labels were"):
        going_on(before, **labelled).fit(of_three, warm_start=True, progress=False)
    knn = gr.Recommender.preset("item-knn").fit(data, progress=False)
    rec = gr.Recommender(**QUICK)
    rec._state = knn.state
    with pytest.raises(UnsupportedError, match="'item-knn' has no weights"):
        rec.fit(data, warm_start=True, progress=False)
