import colorsys
import sys
import wave

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gnnrec.data.synthetic import shop
from gnnrec.errors import ConfigError, MissingPackageError


@pytest.fixture(scope="module")
def small():
    return shop(seed=3)


def test_the_same_seed_gives_the_same_shop(small):
    pd.testing.assert_frame_equal(small.interactions, shop(seed=3).interactions)
    pd.testing.assert_frame_equal(small.items, shop(seed=3).items)
    assert not small.interactions.equals(shop(seed=4).interactions)


def test_events_follow_the_planted_probabilities():
    many = shop(num_users=40, num_items=12, num_tastes=3, events_per_user=1, seed=1)
    assert many.scores().shape == (40, 12)
    np.testing.assert_allclose(many.scores().sum(axis=1), 1.0)
    # The share of events per (user taste, item) over many users approaches the planted probability.
    large = shop(num_users=60_000, num_items=12, num_tastes=3, events_per_user=1, seed=1)
    first = large.interactions.drop_duplicates("user_id")
    user = large.users.reset_index().set_index("user_id")["index"][first["user_id"]].to_numpy()
    item = large.items.reset_index().set_index("item_id")["index"][first["item_id"]].to_numpy()
    counted = np.zeros((3, 12))
    np.add.at(counted, (large.user_taste[user], item), 1)
    counted /= counted.sum(axis=1, keepdims=True)
    planted = large.scores()[[np.argmax(large.user_taste == taste) for taste in range(3)]]
    np.testing.assert_allclose(counted, planted, atol=0.015)


def test_popularity_is_a_power_law_within_each_taste(small):
    for taste in range(4):
        popularity = np.sort(small.popularity[small.item_taste == taste])[::-1]
        np.testing.assert_allclose(popularity, np.arange(1, len(popularity) + 1) ** -0.8)


def test_ratings_and_follows_tell_the_taste(small):
    user_taste = dict(zip(small.users["user_id"], small.user_taste, strict=True))
    item_taste = dict(zip(small.items["item_id"], small.item_taste, strict=True))
    liked = small.interactions["user_id"].map(user_taste) == small.interactions["item_id"].map(item_taste)
    assert ((small.interactions["rating"] >= 4) == liked).all()
    alike = small.follows["source_id"].map(user_taste) == small.follows["target_id"].map(user_taste)
    assert 0.7 < alike.mean() < 0.9
    assert (small.follows["source_id"] != small.follows["target_id"]).all()


def test_media_are_real_files_that_show_the_taste_and_some_are_missing(small, tmp_path):
    items = small.write_media(tmp_path)
    for column in ("picture", "sound", "text_file"):
        assert 0.02 < items[column].isna().mean() < 0.25
    hue, root = [], []
    for taste, row in zip(small.item_taste, items.itertuples(), strict=True):
        if isinstance(row.picture, str):
            colour = np.asarray(Image.open(tmp_path / row.picture)).mean(axis=(0, 1)) / 255
            hue.append((taste, colorsys.rgb_to_hsv(*colour)[0]))
        if isinstance(row.sound, str):
            with wave.open(str(tmp_path / row.sound)) as file:
                signal = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
                spectrum = np.abs(np.fft.rfft(signal))
                loud = np.sort(np.argsort(spectrum)[-3:]) * file.getframerate() / len(signal)
                root.append((taste, loud[0]))
        if isinstance(row.text_file, str):
            assert (tmp_path / row.text_file).read_text().strip() == row.description
    for taste, value in hue:
        assert (value - taste / 8 + 0.5) % 1 == pytest.approx(0.5, abs=0.02)
    for taste, frequency in root:
        assert frequency == pytest.approx(220 * 2 ** (taste / 4), abs=4)


def test_the_data_set_holds_all_of_it(small, tmp_path):
    data = small.dataset(tmp_path, relations={"follows": small.follows})
    summary = data.describe()
    assert (summary.users, summary.items, summary.events) == (300, 120, len(small.interactions))
    assert summary.modalities["text"] == (120, 0)
    assert summary.modalities["picture"][1] > 0
    assert summary.relations == {"follows": len(small.follows)}
    assert data.modalities["picture"].media_root == tmp_path
    vectors = small.vectors(dim=8)
    assert vectors.matrix.shape == (120, 8)
    same = small.item_taste[:, None] == small.item_taste
    distance = np.linalg.norm(vectors.matrix[:, None] - vectors.matrix, axis=-1)
    assert distance[same].mean() < 0.7 * distance[~same].mean()


def test_impossible_shops_are_refused():
    with pytest.raises(ConfigError, match="num_tastes must be 2 to 8"):
        shop(num_tastes=9)
    with pytest.raises(ConfigError, match="at least as many"):
        shop(num_items=3)


def test_pictures_without_pillow_say_what_to_install(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingPackageError, match=r"gnnrec\[image\]"):
        small.write_media(tmp_path)
