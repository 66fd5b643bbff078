import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gnnrec.errors import ConfigError
from gnnrec.modalities.augmentation import (
    augment_picture,
    augment_text,
    augment_waveform,
    mask_features,
    noise_features,
    picture_transform,
)

WAVE = np.sin(np.arange(1000) / 10).astype(np.float32) + 2


def halves() -> Image.Image:
    """Left half red, right half blue."""
    pixels = np.zeros((60, 60, 3), dtype=np.uint8)
    pixels[:, :30, 0] = pixels[:, 30:, 2] = 200
    return Image.fromarray(pixels)


def test_flip_mirrors_about_half_of_the_pictures():
    transform = picture_transform(["flip"])
    corners = [augment_picture(halves(), transform, seed=seed).getpixel((0, 0)) for seed in range(60)]
    assert set(corners) == {(200, 0, 0), (0, 0, 200)}
    assert 15 < corners.count((0, 0, 200)) < 45


def test_crop_keeps_at_least_its_share_of_the_area():
    transform = picture_transform(["crop"], size=32, strength=0.3)
    changed = [augment_picture(halves(), transform, seed=seed) for seed in range(10)]
    assert {picture.size for picture in changed} == {(32, 32)}
    assert len({picture.tobytes() for picture in changed}) > 1
    reds = [np.asarray(picture)[:, :, 0].astype(float).mean() / 200 for picture in changed]
    assert all(0.2 <= red <= 0.8 for red in reds)  # neither half is ever lost


def test_colour_changes_brightness_and_not_shape():
    transform = picture_transform(["colour"], strength=0.5)
    changed = [np.asarray(augment_picture(halves(), transform, seed=seed)) for seed in range(10)]
    assert len({picture.mean() for picture in changed}) == 10
    for picture in changed:
        assert picture.shape == (60, 60, 3)
        assert (picture[:, :30] == picture[0, 0]).all()


def test_a_seed_fixes_the_picture_and_spares_the_global_stream():
    transform = picture_transform()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = augment_picture(halves(), transform, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert first.tobytes() == augment_picture(halves(), transform, seed=1).tobytes()
    assert first.tobytes() != augment_picture(halves(), transform, seed=2).tobytes()


def test_shift_only_rotates():
    changed = augment_waveform(WAVE, seed=3, noise_db=None, max_shift=0.2, mask=0)
    shifts = [shift for shift in range(-200, 201) if np.array_equal(np.roll(WAVE, shift), changed)]
    assert shifts
    assert shifts != [0]


def test_mask_silences_one_stretch():
    changed = augment_waveform(WAVE, seed=0, noise_db=None, max_shift=0, mask=0.25)
    silent = np.flatnonzero(changed == 0)
    assert len(silent) == 250
    assert silent[-1] - silent[0] == 249
    kept = np.setdiff1d(np.arange(1000), silent)
    np.testing.assert_array_equal(changed[kept], WAVE[kept])


@pytest.mark.parametrize("decibels", [0.0, 20.0])
def test_noise_has_the_ratio_asked_for(decibels):
    wave = np.tile(WAVE, 20)
    noise = augment_waveform(wave, seed=0, noise_db=decibels, max_shift=0, mask=0) - wave
    assert 10 * np.log10(np.square(wave).mean() / np.square(noise).mean()) == pytest.approx(decibels, abs=0.2)


def test_a_seed_fixes_the_sound():
    assert np.array_equal(augment_waveform(WAVE, seed=1), augment_waveform(WAVE, seed=1))
    assert not np.array_equal(augment_waveform(WAVE, seed=1), augment_waveform(WAVE, seed=2))
    assert WAVE[0] == 2  # the original is left alone


@given(st.text(), st.floats(0, 1), st.integers(0, 5))
def test_dropping_words_keeps_their_order_and_at_least_one(text, drop, seed):
    words, kept = text.split(), augment_text(text, seed=seed, drop=drop).split()
    remaining = iter(words)
    assert all(word in remaining for word in kept)
    assert bool(kept) == bool(words)


def test_share_of_dropped_words():
    text = " ".join(map(str, range(2000)))
    assert len(augment_text(text, seed=0, drop=0.3).split()) == pytest.approx(1400, abs=60)
    assert augment_text(text, seed=0, drop=0) == text


def test_feature_noise_is_relative_to_each_column():
    values = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 100.0])
    noise = noise_features(values, 0.1, torch.Generator().manual_seed(1)) - values
    torch.testing.assert_close(noise.std(dim=0), torch.tensor([0.1, 10.0]), rtol=0.05, atol=0)
    assert torch.equal(noise_features(values, 0.0), values)


def test_feature_mask_keeps_the_expectation():
    values = torch.full((2000, 5), 3.0)
    masked = mask_features(values, 0.25, torch.Generator().manual_seed(0))
    assert set(masked.unique().tolist()) == {0.0, 4.0}
    assert masked.mean().item() == pytest.approx(3.0, abs=0.06)
    again = mask_features(values, 0.25, torch.Generator().manual_seed(0))
    assert torch.equal(masked, again)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: picture_transform(["crop", "spin"]), "not by spin"),
        (lambda: picture_transform(strength=2), "strength lies between 0 and 1, not 2"),
        (lambda: augment_waveform(WAVE, seed=0, mask=-1), "mask lies between"),
        (lambda: augment_text("a", seed=0, drop=1.5), "drop lies between"),
        (lambda: mask_features(torch.ones(1, 1), 1.0), "something must remain"),
    ],
)
def test_impossible_options(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
