"""Every fusion fits, answers, is saved and takes in new items."""

import numpy as np
import pandas as pd
import pytest
import torch

import gnnrec as gr
from gnnrec.errors import ConfigError
from gnnrec.nn.fusion import FUSIONS
from gnnrec.testing import planted_graph

QUICK = {"embedding_dim": 12, "epochs": 5, "learning_rate": 0.02, "similar_items": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def planted():
    return planted_graph()


@pytest.fixture(scope="module")
def data(planted):
    """Two pictures of most items, which tell the taste, and a sound of some, which is noise."""
    rng = np.random.default_rng(1)
    user, item = planted.train.nonzero()
    look = planted.features["content"].values
    num_items = len(look)
    twice = np.concatenate([np.arange(num_items - 4), np.arange(num_items // 2)])  # the last four lack a picture
    return gr.Dataset.from_frames(
        pd.DataFrame({"user_id": [f"u{index}" for index in user], "item_id": [f"i{index}" for index in item]}),
        pd.DataFrame({"item_id": [f"i{index}" for index in range(num_items)]}),
        modalities={
            "look": gr.Vectors(look[twice], [f"i{index}" for index in twice]),
            "sound": gr.Vectors(rng.normal(size=(30, 5)), [f"i{index}" for index in range(30)]),
        },
    )


def purity(answer: pd.DataFrame, planted) -> float:
    user = answer["user_id"].str[1:].astype(int)
    item = answer["item_id"].str[1:].astype(int)
    return float(np.mean(planted.user_taste[user] == planted.item_taste[item]))


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_makes_a_recommender(name: str, data, planted, tmp_path) -> None:
    rec = gr.Recommender(fusion=name, **QUICK).fit(data, progress=False)
    users = rec.state.users.ids
    answer = rec.recommend(users, k=5)
    assert purity(answer, planted) > 0.6  # chance is .25

    rec.save(tmp_path / "saved")
    again = gr.load(tmp_path / "saved")
    assert type(again.state.ranker.model.items.fusion) is FUSIONS[name]
    pd.testing.assert_frame_equal(again.recommend(users, k=5), answer)

    look = planted.features["content"].values
    twins = gr.Vectors(look[:4], [f"new-{taste}" for taste in planted.item_taste[:4]])
    again.add_items(vectors={"look": twins})
    best = again.recommend(users, k=1, include_items=list(twins.ids))
    taste = planted.user_taste[best["user_id"].str[1:].astype(int)]
    assert np.mean(best["item_id"].str[-1].astype(int) == taste) > 0.5


def test_fixed_shares_reach_the_model(data, tmp_path) -> None:
    options = QUICK | {"epochs": 1}
    rec = gr.Recommender(fusion="weighted", modality_shares={"look": 0.2}, **options).fit(data, progress=False)
    rec.save(tmp_path / "saved")
    for fitted in (rec, gr.load(tmp_path / "saved")):
        weights = fitted.state.ranker.model.items.fusion.weights
        torch.testing.assert_close(weights, torch.tensor([0.2, 0.8]))
    with pytest.raises(ConfigError, match=r"'looks'.*did you mean 'look'"):
        gr.Recommender(fusion="weighted", modality_shares={"looks": 1.0}, **options).fit(data, progress=False)
    with pytest.raises(ConfigError, match=r"'projections' names 'looks', .*did you mean 'look'"):
        gr.Recommender(projections={"looks": "linear"}, **options).fit(data, progress=False)
    with pytest.raises(ConfigError, match=r"modality_shares.*weighted"):
        gr.Recommender(modality_shares={"look": 1.0}, **options)


def test_a_preset_says_once_which_shares_have_no_media(data, caplog) -> None:
    gr.Recommender.preset("freedom", embedding_dim=8, epochs=2).fit(data, progress=False)
    assert caplog.text.count("names 'image', of which there are no media") == 1
    caplog.clear()
    gr.Recommender.preset("freedom", embedding_dim=8, epochs=1, modality_shares={"look": 0.1}).fit(data, progress=False)
    assert "of which there are no media" not in caplog.text
