import logging

import numpy as np
import pytest

from gnnrec.errors import ConfigError
from gnnrec.modalities.features import Features
from gnnrec.modalities.imputation import impute

NUM = 120
TRAIN = np.arange(NUM) < 80


def features(name: str, values, owners, of="item") -> Features:
    return Features(name, of, np.asarray(values, dtype=np.float32), np.asarray(owners, dtype=np.int64))


def planted(noise: float = 0.0):
    """Two modalities, the second a linear map of the first; every fourth owner lacks the second."""
    random = np.random.default_rng(0)
    text = random.standard_normal((NUM, 6))
    image = text @ random.standard_normal((6, 4)) + 5 + noise * random.standard_normal((NUM, 4))
    there = np.arange(NUM) % 4 != 0
    return {
        "text": features("text", text, np.arange(NUM)),
        "image": features("image", image[there], np.flatnonzero(there)),
    }, image


def imputed_rows(found: Features) -> np.ndarray:
    return found.values[found.owner_index % 4 == 0]


def test_absent_changes_nothing():
    given, _ = planted()
    found = impute(given, NUM, "absent", TRAIN)
    assert found == given


def test_a_linear_map_between_modalities_is_recovered(caplog):
    given, image = planted()
    with caplog.at_level(logging.INFO):
        found = impute(given, NUM, "predict", TRAIN)
    assert found["image"].owner_index.tolist() == list(range(NUM))
    error = imputed_rows(found["image"]) - image[::4]
    assert np.square(error).mean() < 0.01 * image.var()
    np.testing.assert_array_equal(found["image"].values[np.arange(NUM) % 4 != 0], given["image"].values)
    assert found["text"] is given["text"]
    assert "30 of 120 items lacked it and were given a row (predict, from 60 training items)" in caplog.text


def test_more_columns_than_rows_can_be_predicted_from():
    random = np.random.default_rng(1)
    hidden = random.standard_normal((NUM, 2))
    wide = hidden @ random.standard_normal((2, 500))
    there = np.arange(NUM) % 4 != 0
    given = {
        "wide": features("wide", wide, np.arange(NUM)),
        "image": features("image", hidden[there], np.flatnonzero(there)),
    }
    error = imputed_rows(impute(given, NUM, "predict", TRAIN)["image"]) - hidden[::4]
    assert np.square(error).mean() < 0.05


@pytest.mark.parametrize("policy", ["nearest", "predict"])
def test_the_units_of_the_other_modality_do_not_matter(policy):
    given, _ = planted(noise=1.0)
    units, zeros = np.logspace(-3, 3, 6), np.arange(6)
    other = given | {"text": features("text", given["text"].values * units + zeros, np.arange(NUM))}
    one, two = (imputed_rows(impute(g, NUM, policy, TRAIN)["image"]) for g in (given, other))
    np.testing.assert_allclose(one, two, rtol=1e-3)


def test_a_wide_modality_of_noise_does_not_drown_a_narrow_one_that_tells_all():
    given, image = planted()
    noise = np.random.default_rng(1).standard_normal((NUM, 1000))
    found = impute(given | {"noise": features("noise", noise, np.arange(NUM))}, NUM, "predict", TRAIN)["image"]
    assert np.square(imputed_rows(found) - image[::4]).mean() < 0.05 * image.var()


def test_that_a_modality_is_absent_tells_of_another():
    """Items without sound have another picture; the sounds themselves, and the texts, tell nothing."""
    random = np.random.default_rng(0)
    silent, seen = np.arange(NUM) % 3 == 0, np.arange(NUM) % 4 != 0
    given = {
        "text": features("text", random.standard_normal((NUM, 2)), np.arange(NUM)),
        "sound": features("sound", random.standard_normal(((~silent).sum(), 2)), np.flatnonzero(~silent)),
        "image": features("image", silent[seen, None] * 10.0, np.flatnonzero(seen)),
    }
    found = impute(given, NUM, "predict", TRAIN)["image"]
    np.testing.assert_allclose(found.values[:, 0], silent * 10.0, atol=0.5)


def test_neighbours_in_the_other_modality_lend_their_rows():
    """Two clusters in the text; pictures differ between them and not within."""
    cluster = np.arange(NUM) % 2
    text = np.eye(2)[cluster] * 3 + 0.1 * np.random.default_rng(0).standard_normal((NUM, 2))
    there = np.arange(NUM) % 3 != 0
    given = {
        "text": features("text", text, np.arange(NUM)),
        "image": features("image", cluster[there, None] * 10.0, np.flatnonzero(there)),
    }
    found = impute(given, NUM, "nearest", TRAIN)["image"]
    np.testing.assert_allclose(found.values[:, 0], cluster * 10.0)


@pytest.mark.parametrize(("policy", "expected"), [("mean", 4.0), ("median", 2.0)])
def test_statistics_come_from_training_owners_alone(policy, expected):
    given = {"m": features("m", [[1], [2], [9], [1000]], [0, 1, 2, 3])}
    train = np.array([True, True, True, False, False])
    found = impute(given, 5, policy, train)["m"]
    assert found.owner_index.tolist() == [0, 1, 2, 3, 4]
    assert found.values[4, 0] == expected


@pytest.mark.parametrize("policy", ["mean", "median", "nearest", "predict"])
def test_rows_of_other_owners_do_not_leak_into_the_fit(policy):
    given, _ = planted()
    changed = given["image"].values.copy()
    changed[given["image"].owner_index >= 80] = 1e6
    other = given | {"image": features("image", changed, given["image"].owner_index)}
    one, two = (imputed_rows(impute(g, NUM, policy, TRAIN)["image"]) for g in (given, other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("policy", ["nearest", "predict"])
def test_what_one_infers_from_is_scaled_by_training_owners_alone(policy):
    given, _ = planted(noise=1.0)
    changed = given["text"].values.copy()
    changed[80:, 0] = 1e6
    other = given | {"text": features("text", changed, np.arange(NUM))}
    one, two = (impute(g, NUM, policy, TRAIN)["image"].values[:80] for g in (given, other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("policy", ["nearest", "predict"])
def test_owners_without_any_modality_get_the_mean(policy):
    given = {
        "text": features("text", [[0.0], [1.0], [2.0]], [0, 1, 2]),
        "image": features("image", [[1.0], [3.0]], [0, 1]),
    }
    found = impute(given, 4, policy, np.array([True, True, True, False]))
    assert found["image"].values[found["image"].owner_index == 3].tolist() == [[2.0]]
    assert found["text"].values[found["text"].owner_index == 3].tolist() == [[1.0]]


def test_owners_with_several_rows_count_once():
    given = {"m": features("m", [[0], [2], [9]], [0, 0, 1])}
    found = impute(given, 3, "mean", np.array([True, True, False]))["m"]
    assert found.values[-1, 0] == 5.0
    assert found.owner_index.tolist() == [0, 0, 1, 2]


def test_modality_that_no_training_owner_has_stays():
    given = {"m": features("m", [[1.0]], [2])}
    assert impute(given, 3, "mean", np.array([True, True, False]))["m"] is given["m"]


def test_wrong_use():
    given, _ = planted()
    with pytest.raises(ConfigError, match="not 'zero'"):
        impute(given, NUM, "zero", TRAIN)
    mixed = given | {"about": features("about", [[1.0]], [0], of="user")}
    with pytest.raises(ConfigError, match="apart"):
        impute(mixed, NUM, "mean", TRAIN)


def test_what_rounding_leaves_of_a_mean_of_zero_is_no_direction():
    random = np.random.default_rng(0)
    values = random.standard_normal((60, 4))
    values = (values - values.mean(axis=0)) / values.std(axis=0) + [1e-8, 1e-8, 0, 0.01]
    found = impute({"text": features("text", values, np.arange(60))}, 61, "mean", np.arange(61) < 60)["text"]
    np.testing.assert_allclose(found.values[60], [0, 0, 0, 0.01], atol=1e-6)
    assert not found.values[60, :3].any()
