import numpy as np
import pytest

from gnnrec.modalities.log_mel import log_mel, log_mel_sequence, log_mel_statistics, mel_power


def tone(hertz: float, seconds: float = 1.0, rate: int = 16_000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_mel_power_is_that_of_librosa():
    librosa = pytest.importorskip("librosa")
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    expected = librosa.feature.melspectrogram(y=noise, sr=16_000, n_fft=400, hop_length=160, n_mels=40)
    found = mel_power(noise, 16_000, bands=40, fft_length=400).numpy().T
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_a_higher_tone_lies_in_a_higher_band():
    loudest = [int(log_mel(tone(hertz)).mean(axis=0).argmax()) for hertz in (200, 1000, 4000, 7000)]
    assert loudest == sorted(set(loudest))


def test_a_frame_every_ten_milliseconds_and_a_floor():
    assert log_mel(tone(440, 0.5)).shape == (51, 64)
    np.testing.assert_allclose(log_mel(np.zeros(1600, dtype=np.float32)), np.log(1e-10), rtol=1e-6)


def test_statistics_are_mean_deviation_and_change():
    wave = np.concatenate([tone(300), tone(3000)])
    mean, deviation, change = log_mel_statistics().encode([wave])[0].reshape(3, 64)
    frames = log_mel(wave)
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(deviation, frames.std(axis=0), rtol=1e-3)
    np.testing.assert_allclose(change, np.diff(frames, axis=0).std(axis=0), rtol=1e-3)
    assert log_mel_statistics().encode([]).shape == (0, 192)


def test_sequence_keeps_the_order_of_time():
    rising = log_mel_sequence().encode([np.concatenate([tone(300), tone(3000)])])[0].reshape(64, 64)
    early, late = rising[:30].mean(axis=0).argmax(), rising[34:].mean(axis=0).argmax()
    assert early < late
    flat = log_mel_sequence().encode([tone(300, 0.1)])  # fewer frames than steps
    assert np.isfinite(flat).all()
