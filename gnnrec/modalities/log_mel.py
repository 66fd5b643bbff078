"""Turns waveforms into log-mel spectrograms, and those into vectors without any trained weights."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.errors import MissingPackageError
from gnnrec.modalities.features import EncoderCard

__all__ = ["LogMelAudio", "log_mel", "log_mel_sequence", "log_mel_statistics", "mel_power"]

_RATE = 16_000
_BANDS = 64
_STEPS = 64  # of the fixed-size sequence
_FLOOR = 1e-10  # power below -100 dB counts as this


def log_mel(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the logarithm of the power in 64 mel bands up to 8 kHz, in frames of 25 ms every 10 ms.

    Args:
        waveform: ``[num_samples]`` mono, 16,000 per second.

    Returns:
        ``[1 + num_samples // 160, 64]`` natural logarithms, at least ``log(1e-10)``.
    """
    power = mel_power(waveform, _RATE, bands=_BANDS, fft_length=1024)
    logarithm: NDArray[np.float32] = power.clamp(min=_FLOOR).log().numpy()
    return logarithm


def mel_power(waveform: NDArray[np.float32], sampling_rate: int, *, bands: int, fft_length: int) -> Tensor:
    """Returns the power in mel bands (Slaney's scale and norm, as librosa), ``[1 + num_samples // hop, bands]``.

    Args:
        waveform: ``[num_samples]`` mono.
        sampling_rate: Samples per second.
        bands: Number of mel bands.
        fft_length: Samples of each transform; a Hann window of 25 ms lies in its middle.
    """
    window = sampling_rate * 25 // 1000
    spectrum = torch.stft(
        torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32)),
        n_fft=max(fft_length, window),
        hop_length=sampling_rate // 100,
        win_length=window,
        window=torch.hann_window(window),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return spectrum.abs().square().T @ _mel_filters(max(fft_length, window), bands, sampling_rate)


class LogMelAudio:
    """A fixed summary of the log-mel spectrogram.

    Args:
        name: What the card says.
        dim: Width of a summary.
        summarise: Maps ``[frames, bands]`` to ``[dim]``.
    """

    modality = "audio"
    sampling_rate = _RATE

    def __init__(self, name: str, dim: int, summarise: Callable[[Tensor], Tensor]) -> None:
        self._summarise = summarise
        self.card = EncoderCard(
            name=name,
            modality="audio",
            dim=dim,
            package="gnnrec",
            revision="1",
            preprocessing={"sampling_rate": str(_RATE), "bands": str(_BANDS)},
        )

    def encode(self, batch: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Returns one vector per waveform, ``[len(batch), card.dim]``."""
        vectors = [self._summarise(torch.from_numpy(log_mel(waveform))).numpy() for waveform in batch]
        return np.array(vectors, dtype=np.float32).reshape(len(batch), self.card.dim)


def log_mel_statistics(device: str = "cpu") -> LogMelAudio:
    """Builds the 192-d summary: mean and deviation of each of 64 bands, and deviation of its change between frames.

    Args:
        device: Not used: the transform is cheap.
    """
    return LogMelAudio("log-mel-statistics", 3 * _BANDS, _statistics)


def log_mel_sequence(device: str = "cpu") -> LogMelAudio:
    """Builds the 4096-d sequence: 64 bands averaged over 64 equal stretches of time, time first.

    It is the cached input of the trainable networks in :mod:`gnnrec.nn.audio`: reshape it to ``[rows, 64, 64]``.

    Args:
        device: Not used: the transform is cheap.
    """
    return LogMelAudio(
        "log-mel", _STEPS * _BANDS, lambda frames: F.adaptive_avg_pool1d(frames.T[None], _STEPS)[0].T.flatten()
    )


def _statistics(frames: Tensor) -> Tensor:
    change = frames.diff(dim=0) if len(frames) > 1 else torch.zeros(1, frames.shape[1])
    return torch.cat([frames.mean(dim=0), frames.std(dim=0, correction=0), change.std(dim=0, correction=0)])


@cache
def _mel_filters(fft_length: int, bands: int, sampling_rate: int) -> Tensor:
    """Returns ``[fft_length // 2 + 1, bands]``."""
    try:
        from transformers.audio_utils import mel_filter_bank
    except ImportError as error:
        raise MissingPackageError("mel spectrograms need transformers: pip install 'gnnrec[audio]'") from error
    filters = mel_filter_bank(
        num_frequency_bins=fft_length // 2 + 1,
        num_mel_filters=bands,
        min_frequency=0.0,
        max_frequency=sampling_rate / 2,
        sampling_rate=sampling_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).float()
