"""Turns sound files into vectors with transformers models: wav2vec2 and kin, CLAP, Whisper's encoder, AST."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.errors import MediaError, MissingPackageError
from gnnrec.modalities.features import EncoderCard
from gnnrec.modalities.hub import HubModel, load_hub_model

__all__ = ["TransformersAudio", "from_hub", "prepare_waveform", "read_sound", "sound_seconds"]

_SILENCE = 1e-4  # a sound whose loudest sample is below -80 dBFS holds nothing to encode
_MOSTLY = 0.9  # of the stated samples; MP3 files without a header of their length have it estimated
_OGG = b"OggS"
_END_OF_OGG = 1 << 20  # bytes: a page has at most 65,307, and a tag with a picture may come behind the last one
_STREAMED = (0, 0xFFFFFFFF)  # what programs that write WAV into a pipe state as its size


def read_sound(path: str | Path, sampling_rate: int, max_seconds: float = float("inf")) -> NDArray[np.float32]:
    """Reads a sound file (WAV, OGG, FLAC, MP3 …), mixes its channels to one and resamples it.

    Args:
        path: The file.
        sampling_rate: Samples per second of what is returned.
        max_seconds: Only this much is read, from the beginning.

    Returns:
        ``[num_samples]`` in -1 … 1.

    Raises:
        MediaError: The file is absent, damaged, cut short, empty or silent.
        MissingPackageError: soundfile or soxr is not installed.
    """
    soundfile, _ = _sound_packages()
    try:
        _refuse_cut(Path(path))
        with soundfile.SoundFile(path) as file:
            frames = int(min(file.frames, np.ceil(max_seconds * file.samplerate)))
            channels = file.read(frames, dtype="float32", always_2d=True)
            file_rate = file.samplerate
        if len(channels) < _MOSTLY * frames:
            raise MediaError(f"the sound is cut short: {len(channels)} of {frames} samples are there")
    except (OSError, RuntimeError, ValueError) as error:  # libsndfile's errors are RuntimeErrors
        raise MediaError(f"not a readable sound: {error}") from error
    return prepare_waveform(channels, file_rate, sampling_rate)


def prepare_waveform(samples: NDArray[np.floating], samples_rate: float, sampling_rate: int) -> NDArray[np.float32]:
    """Mixes the channels of a sound to one and resamples it.

    Args:
        samples: ``[num_samples]`` or ``[num_samples, num_channels]`` in -1 … 1.
        samples_rate: Their number per second.
        sampling_rate: Samples per second of what is returned.

    Returns:
        ``[num_samples]``.

    Raises:
        MediaError: The sound is empty, silent, or not finite.
        MissingPackageError: soundfile or soxr is not installed.
    """
    _, soxr = _sound_packages()
    channels = samples if samples.ndim == 2 else samples[:, None]
    if channels.size == 0:
        raise MediaError("the sound is empty")
    if not np.isfinite(channels).all():
        raise MediaError("the sound holds samples that are not finite")
    mono = channels.mean(axis=1)
    if np.abs(mono).max() < _SILENCE:
        raise MediaError("the sound is silent")
    waveform: NDArray[np.float32] = soxr.resample(mono, samples_rate, sampling_rate).astype(np.float32)
    if len(waveform) == 0:
        raise MediaError("the sound is empty: it is shorter than one sample")
    return waveform


def sound_seconds(path: str | Path) -> float:
    """Returns the length that a sound file states, or 0 when it cannot be read.

    Raises:
        MissingPackageError: soundfile or soxr is not installed.
    """
    soundfile, _ = _sound_packages()
    try:
        return float(soundfile.info(str(path)).duration)
    except (OSError, RuntimeError):
        return 0.0


class TransformersAudio:
    """A transformers audio model.

    Models that take a fixed length (CLAP 10 s, Whisper 30 s, AST about 10 s) get windows of it, whose vectors are
    averaged; less than half a window at the end is left out. Others get each sound whole. CLAP gives the vector of the
    space it shares with texts, scaled to length 1; AST its pooled vector; the rest the mean of the last hidden states
    over the sound, without padding.

    Args:
        loaded: The model and its feature extractor.
        device: Where the model is.
    """

    modality = "audio"

    def __init__(self, loaded: HubModel, *, device: str = "cpu") -> None:
        self._model, self._extractor, self._device = loaded.model, loaded.preprocessor, device
        if getattr(self._model.config, "is_encoder_decoder", False):
            self._model = self._model.get_encoder()
        self.sampling_rate = int(self._extractor.sampling_rate)
        self._window = _window_samples(self._extractor)
        noise = np.random.default_rng(0).standard_normal(self.sampling_rate).astype(np.float32)
        self.card = EncoderCard(
            name=loaded.name,
            modality="audio",
            dim=self._forward(noise).shape[1],
            package=loaded.package,
            revision=loaded.revision,
            sha256=loaded.sha256,
            preprocessing={"sampling_rate": str(self.sampling_rate), "window_samples": str(self._window)},
        )

    def encode(self, batch: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Returns one vector per waveform, ``[len(batch), card.dim]``."""
        # One sound at a time: padding to a common length would change what wav2vec2 and kin compute.
        vectors = [self._forward(waveform).mean(dim=0).cpu().numpy() for waveform in batch]
        return np.array(vectors, dtype=np.float32).reshape(len(batch), self.card.dim)

    @torch.inference_mode()
    def _forward(self, waveform: NDArray[np.float32]) -> Tensor:
        """Returns one vector per window, ``[num_windows, dim]``."""
        least = self.sampling_rate // 10  # what convolutions need
        size = self._window or max(len(waveform), least)
        windows = [waveform[start : start + size] for start in range(0, len(waveform), size)]
        if len(windows) > 1 and len(windows[-1]) < size / 2:  # it would count as much as a whole one
            windows = windows[:-1]
        windows = [np.pad(window, (0, max(0, least - len(window)))) for window in windows]
        inputs = self._extractor(windows, sampling_rate=self.sampling_rate, return_tensors="pt").to(self._device)
        if hasattr(self._model, "get_audio_features"):
            shared = self._model.get_audio_features(**inputs)
            return F.normalize(getattr(shared, "pooler_output", shared).float(), dim=1)
        output = self._model(**inputs)
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.float()
        hidden: Tensor = output.last_hidden_state.float()
        filled = torch.tensor([len(window) / size for window in windows], device=hidden.device)
        steps = (filled * hidden.shape[1]).ceil().clamp(min=1)
        there = torch.arange(hidden.shape[1], device=hidden.device) < steps.unsqueeze(1)
        return (hidden * there.unsqueeze(-1)).sum(dim=1) / steps.unsqueeze(1)


def from_hub(name: str, device: str = "cpu") -> TransformersAudio:
    """Loads an audio model by hub name or from a folder.

    Raises:
        EncoderError: It cannot be loaded.
    """
    loaded = load_hub_model(name, "AutoFeatureExtractor", device=device, extra="audio")
    return TransformersAudio(loaded, device=device)


def _sound_packages() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except ImportError as error:
        raise MissingPackageError("sounds need soundfile and soxr: pip install 'gnnrec[audio]'") from error
    return soundfile, soxr


def _window_samples(extractor: Any) -> int:
    """Returns the fixed length in samples that a model takes, or 0 when it takes any."""
    for name in ("nb_max_samples", "n_samples"):  # CLAP, Whisper
        if getattr(extractor, name, None):
            return int(getattr(extractor, name))
    if hasattr(extractor, "num_mel_bins") and getattr(extractor, "max_length", None):  # AST: frames of 10 ms
        return int(extractor.max_length * extractor.sampling_rate * 0.010)
    return 0


def _refuse_cut(path: Path) -> None:
    """Raises ``ValueError`` for a WAV file shorter than it states, or an Ogg file (Vorbis, Opus) without its last page.

    libsndfile would read them without a word.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == _OGG:
            file.seek(max(0, path.stat().st_size - _END_OF_OGG))
            _refuse_cut_ogg(file.read())
    if len(head) == 12 and head[:4] == b"RIFF" and head[8:] == b"WAVE":
        (stated,) = struct.unpack("<I", head[4:8])
        there = path.stat().st_size - 8
        if stated not in _STREAMED and there < stated:
            raise ValueError(f"the file is cut short ({there} of {stated} bytes)")


def _refuse_cut_ogg(end: bytes) -> None:
    """Looks at the last page (RFC 3533, section 6): it says that it is the last, and how long its parts are."""
    page = end[end.rfind(_OGG) :]
    if len(page) < 27 or not page[5] & 4 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        raise ValueError("the file is cut short: its last page is not there, or not whole")
