"""Turns sounds into 256-d vectors with the voice network whose weights the package ``resemblyzer`` ships."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gnnrec.modalities.features import EncoderCard
from gnnrec.modalities.log_mel import mel_power
from gnnrec.modalities.packaged import package_version, packaged_file

__all__ = ["VoiceAudio", "VoiceNetwork", "resemblyzer"]

RESEMBLYZER_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"

_RATE = 16_000
_BANDS = 40
_HOP = _RATE // 100
_PART = 160  # frames: 1.6 s
_STEP = 77  # frames between the starts of two parts: 1.3 parts a second
_COVERAGE = 0.75  # the last part is kept if the sound fills this share of it
_LOUDNESS = 10 ** (-30 / 20)  # root mean square that quieter sounds are raised to


class VoiceNetwork(nn.Module):
    """Three LSTM layers over 40 mel bands and a linear layer; trained to tell speakers apart.

    From "Generalized End-to-End Loss for Speaker Verification" (Wan et al., 2018), section 2, in the form of the
    package ``resemblyzer``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_BANDS, 256, num_layers=3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Tensor) -> Tensor:
        """Maps mel power ``[batch, frames, 40]`` to vectors of length 1, ``[batch, 256]``."""
        _, (hidden, _) = self.lstm(mels)
        return F.normalize(F.relu(self.linear(hidden[-1])), dim=1)


class VoiceAudio:
    """The normalised mean of the vectors of overlapping parts of 1.6 s.

    Unlike in the package, silences inside the sound are kept: not every sound is speech.

    Args:
        network: The trained network.
        card: What identifies it.
        device: Where it computes.
    """

    modality = "audio"
    sampling_rate = _RATE

    def __init__(self, network: VoiceNetwork, card: EncoderCard, device: str = "cpu") -> None:
        self._network = network.requires_grad_(requires_grad=False).eval().to(device)
        self._device = device
        self.card = card

    @torch.inference_mode()
    def encode(self, batch: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Returns one vector of length 1 per waveform, ``[len(batch), 256]``."""
        if not batch:
            return np.empty((0, self.card.dim), dtype=np.float32)
        parts = [_parts(waveform) for waveform in batch]
        vectors = self._network(torch.cat(parts).to(self._device)).split([len(part) for part in parts])
        means: NDArray[np.float32] = F.normalize(torch.stack([v.mean(dim=0) for v in vectors]), dim=1).cpu().numpy()
        return means


def resemblyzer(device: str = "cpu") -> VoiceAudio:
    """Loads the voice network with the weights inside the package ``resemblyzer``, which itself is not imported.

    Raises:
        EncoderError: The weights are not the known ones.
        MissingPackageError: The package is not installed.
    """
    weights = packaged_file("resemblyzer", "pretrained.pt", RESEMBLYZER_SHA256, extra="voice")
    state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
    network = VoiceNetwork()
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    card = EncoderCard(
        name="resemblyzer",
        modality="audio",
        dim=256,
        package="resemblyzer",
        revision=package_version("resemblyzer"),
        sha256=RESEMBLYZER_SHA256,
        preprocessing={"sampling_rate": str(_RATE), "part": "1.6 s", "normalised": "l2"},
    )
    return VoiceAudio(network, card, device)


def _parts(waveform: NDArray[np.float32]) -> Tensor:
    """Cuts a sound into overlapping parts, ``[num_parts, 160, 40]`` mel power."""
    loudness = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    if 0 < loudness < _LOUDNESS:
        waveform = waveform * np.float32(_LOUDNESS / loudness)
    num_frames = int(np.ceil((len(waveform) + 1) / _HOP))
    starts = np.arange(0, max(1, num_frames - _PART + _STEP + 1), _STEP)
    if len(starts) > 1 and len(waveform) / _HOP - starts[-1] < _COVERAGE * _PART:
        starts = starts[:-1]
    missing = int(starts[-1] + _PART) * _HOP - len(waveform)
    mels = mel_power(np.pad(waveform, (0, max(0, missing))), _RATE, bands=_BANDS, fft_length=400)
    return torch.stack([mels[start : start + _PART] for start in starts])
