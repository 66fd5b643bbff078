"""From real PNG, WAV and text files to recommendations, on a shop whose truth is known."""

import numpy as np
import pandas as pd
import pytest

import gnnrec as gr

QUICK = {"embedding_dim": 16, "epochs": 5, "learning_rate": 0.02, "device": "cpu"}


@pytest.fixture(scope="module")
def shop():
    return gr.synthetic.shop(num_users=120, num_items=60, seed=11)


@pytest.fixture(scope="module")
def folder(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    shop.write_media(folder)
    return folder


def media_dataset(shop, folder, modalities):
    items = shop.write_media(folder)
    return gr.Dataset.from_frames(shop.interactions, items, shop.users, modalities=modalities, media_root=folder)


@pytest.mark.parametrize(
    "modality",
    [
        {"picture": gr.Image("picture")},
        {"sound": gr.Audio("sound", encoder="log-mel-statistics")},
        {"text": gr.Text(("title", "description"))},
    ],
    ids=lambda modality: next(iter(modality)),
)
def test_each_raw_medium_alone_ranks_new_items(shop, tmp_path, modality):
    name = next(iter(modality))
    data = media_dataset(shop, tmp_path, modality)
    train, _, test = data.split(gr.split.cold_items(valid=0.0, test=0.3, seed=1))
    rec = gr.Recommender(**QUICK).fit(train, progress=False)
    assert rec.fit_report.media[name].given > 0.7 * len(train.items)
    cold = rec.evaluate(test, ("recall@5",), candidates="cold").values["recall@5"]
    chance = 5 / (len(test.items) - len(train.items))
    assert cold > 1.5 * chance


def test_a_sound_network_trained_with_the_ranking_ranks_new_items(shop, tmp_path):
    data = media_dataset(shop, tmp_path, {"sound": gr.Audio("sound", encoder="log-mel")})
    train, _, test = data.split(gr.split.cold_items(valid=0.0, test=0.3, seed=1))
    options = {**QUICK, "epochs": 12, "projections": {"sound": "log-mel-cnn"}, "similar_items": 0}
    rec = gr.Recommender(**options).fit(train, progress=False)
    cold = rec.evaluate(test, ("recall@5",), candidates="cold").values["recall@5"]
    assert cold > 1.5 * 5 / (len(test.items) - len(train.items))
    with pytest.raises(gr.errors.ConfigError, match="did you mean 'log-mel-cnn'"):
        gr.Recommender(projections={"sound": "log-mel-cn"})


def test_all_media_missing_ones_included(shop, tmp_path):
    data = media_dataset(
        shop,
        tmp_path,
        {
            "picture": gr.Image("picture"),
            "sound": gr.Audio("sound", encoder="log-mel-statistics"),
            "text": gr.Text(("title", "description")),
        },
    )
    rec = gr.Recommender(**QUICK).fit(data, progress=False)
    table = data.item_table
    for name in ("picture", "sound"):
        report = rec.fit_report.media[name]
        assert report.missing == table[name].isna().sum() > 0
        assert len(rec.state.features[name]) == table[name].notna().sum()
    without = set(np.flatnonzero(table["picture"].isna())) - set(rec.state.features["picture"].owner_index)
    assert len(without) == table["picture"].isna().sum()  # absent, never a row of zeros


def test_damaged_media_are_absent_and_reported(shop, tmp_path, caplog):
    from PIL import Image

    items = shop.write_media(tmp_path)
    pictures, sounds = items["picture"].dropna().tolist(), items["sound"].dropna().tolist()
    jpeg = tmp_path / pictures[0]
    jpeg.write_bytes(b"\xff\xd8\xff\xe0 this is no picture")
    huge = tmp_path / pictures[1]
    Image.new("1", (20_000, 20_000)).save(huge, format="PNG")
    wave = tmp_path / sounds[0]
    wave.write_bytes(wave.read_bytes()[:60])
    (tmp_path / sounds[1]).unlink()
    data = gr.Dataset.from_frames(
        shop.interactions,
        items,
        modalities={"picture": gr.Image("picture"), "sound": gr.Audio("sound", encoder="log-mel-statistics")},
        media_root=tmp_path,
    )
    rec = gr.Recommender(**QUICK).fit(data, progress=False)
    for name, lost in (("picture", pictures[:2]), ("sound", sounds[:2])):
        report = rec.fit_report.media[name]
        assert report.unreadable == 2
        for path in lost:
            assert any(path in example for example in report.examples)
        owners = data.items.index_of(items["item_id"][items[name].isin(lost)])
        assert not set(owners) & set(rec.state.features[name].owner_index)
    assert "2 unreadable" in caplog.text


def test_new_items_from_raw_media_use_the_encoder_of_the_fit(shop, folder, tmp_path):
    items = shop.write_media(folder)
    known = items.iloc[:-4]
    log = shop.interactions[shop.interactions["item_id"].isin(known["item_id"])]
    data = gr.Dataset.from_frames(log, known, modalities={"picture": gr.Image("picture")}, media_root=folder)
    rec = gr.Recommender(**QUICK).fit(data, progress=False)
    rec.save(tmp_path / "model")
    rec = gr.load(tmp_path / "model")
    new = items.iloc[-4:].dropna(subset=["picture"])[["item_id", "title", "picture"]]
    rec.add_items(new)
    taste = dict(zip(shop.items["item_id"], shop.item_taste, strict=True))
    similar = rec.similar_items(new["item_id"], k=5)
    assert np.mean(similar["query"].map(taste) == similar["item_id"].map(taste)) > 0.5  # chance is .25
    unreadable = pd.DataFrame({"item_id": ["broken"], "picture": ["pictures/nowhere.png"]})
    state = rec.state
    with pytest.raises(gr.errors.DataError, match="'broken'"):
        rec.add_items(unreadable)
    assert rec.state is state
