"""Turns media in hand (strings, paths, pictures, waveforms) into vectors, as the encoder of a fitted modality does."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gnnrec.data.schema import Audio, Image, MediaSpec, Text
from gnnrec.errors import EncoderError, MediaError, MissingPackageError
from gnnrec.modalities.audio import prepare_waveform
from gnnrec.modalities.encode import Road, open_road
from gnnrec.modalities.encoder import AudioEncoder
from gnnrec.modalities.features import EncoderCard
from gnnrec.modalities.hub import shared_media
from gnnrec.modalities.image import upright_rgb

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["Medium", "QueryEncoders"]

logger = logging.getLogger(__name__)

_FASTEST = 10_000_000  # samples per second

Medium: TypeAlias = Literal["text", "image", "audio"]

_SHOWN_BY = {"video": "image"}  # clips are encoded as pictures
_BATCH = 32  # media that are encoded at a time


class QueryEncoders:
    """The encoders of queries: each is loaded when it is first needed, and kept.

    Args:
        device: Where they compute.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._roads: list[tuple[MediaSpec, EncoderCard, Road | None]] = []
        self._loading = Lock()

    def encode(self, name: str, spec: MediaSpec, card: EncoderCard, media: Sequence[Any]) -> NDArray[np.float32]:
        """Encodes media as those of a fitted modality were encoded.

        Args:
            name: The modality.
            spec: Its specification.
            card: Its encoder.
            media: Texts; paths of pictures, PIL pictures or arrays ``[height, width, 3]``; paths of sounds or pairs
                (waveform, samples per second).

        Returns:
            ``[len(media), card.dim]``.

        Raises:
            MediaError: One of the media is empty or cannot be read.
            EncoderError: The encoder of the fit is not to be had.
        """
        road = self._kept(spec, card, lambda: open_road(name, spec, self.device, card))
        assert road is not None
        return _encoded(road, media)

    def is_joint(self, card: EncoderCard, medium: Medium) -> bool:
        """Says whether the model behind an encoder brings another kind of medium into the space of its vectors.

        Models such as CLIP, SigLIP and CLAP do.

        Args:
            card: The encoder of a fitted modality.
            medium: What the query is.

        Raises:
            EncoderError: The model is another one than that of the fit.
        """
        return self._tower(card, medium) is not None

    def encode_jointly(self, card: EncoderCard, medium: Medium, media: Sequence[Any]) -> NDArray[np.float32]:
        """Encodes media into the space of a joint encoder, where :meth:`is_joint`.

        Args:
            card: The encoder of a fitted modality.
            medium: What the media are.
            media: As for :meth:`encode`.

        Returns:
            ``[len(media), card.dim]``.

        Raises:
            MediaError: One of the media is empty or cannot be read.
        """
        road = self._tower(card, medium)
        assert road is not None
        return _encoded(road, media)

    def _tower(self, card: EncoderCard, medium: Medium) -> Road | None:
        spec = _tower_spec(card, medium)
        return self._kept(spec, card, lambda: _open_tower(spec, card, medium, self.device))

    def _kept(self, spec: MediaSpec, card: EncoderCard, load: Callable[[], Road | None]) -> Road | None:
        with self._loading:  # who asks meanwhile waits, instead of loading the same model once more
            for known_spec, known_card, road in self._roads:
                if (known_spec, known_card) == (spec, card):
                    return road
            road = load()
            self._roads.append((spec, card, road))
            return road


def _tower_spec(card: EncoderCard, medium: Medium) -> MediaSpec:
    """Returns the specification of another medium for the model of an encoder."""
    name = f"{card.name}@{card.revision}" if card.package == "hub" else card.name
    if medium == "text":
        return Text((), encoder=name)
    return Image("", encoder=name) if medium == "image" else Audio("", encoder=name)


def _open_tower(spec: MediaSpec, card: EncoderCard, medium: Medium, device: str) -> Road | None:
    """Loads the encoder of another medium in the same model, or nothing where there is none."""
    if card.package not in ("hub", "local") or card.preprocessing.get("frame_pooling", "mean") != "mean":
        return None
    try:
        if not {medium, _SHOWN_BY.get(card.modality, card.modality)} <= shared_media(spec.encoder):
            return None
    except (EncoderError, MissingPackageError) as error:
        logger.info("encoder %r is taken for one of a single medium: %s", card.name, error)
        return None
    road = open_road(f"{medium} beside {card.name}", spec, device)
    if (road.card.sha256, road.card.dim) != (card.sha256, card.dim):
        raise EncoderError(
            f"the {medium} encoder in {card.name!r} ({road.card.dim}-d) does not belong to the {card.modality} "
            f"encoder of the fit ({card.dim}-d), so their vectors cannot be compared; use the model of the fit"
        )
    return road


def _encoded(road: Road, media: Sequence[Any]) -> NDArray[np.float32]:
    decoded = [_decoded(road, medium, position) for position, medium in enumerate(media)]
    batches = [decoded[start : start + _BATCH] for start in range(0, len(decoded), _BATCH)]
    vectors = [road.encoder.encode(batch) for batch in batches]
    return np.concatenate(vectors) if vectors else np.zeros((0, road.card.dim), dtype=np.float32)


def _decoded(road: Road, medium: Any, position: int) -> Any:
    """Returns one medium as the encoder takes it."""
    kind = road.card.modality
    read = {"text": _text, "image": _picture, "audio": _waveform}[kind]
    try:
        return read(road, medium)
    except MediaError as error:
        shown = f" ({str(medium)!r})" if kind != "text" and isinstance(medium, str | Path) else ""
        raise MediaError(f"{kind} query {position}{shown}: {error}") from error


def _text(road: Road, words: Any) -> str:
    if not isinstance(words, str):
        raise MediaError(f"a text is a string, not {type(words).__name__}")
    text: str = words.strip()
    if not text:
        raise MediaError("the text is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MediaError(f"the text is none: {error}") from error
    num_tokens = int(road.measure([text])[0])
    if num_tokens > road.limit:
        logger.warning("a text query of %d tokens was cut to the first %d", num_tokens, road.limit)
    return text


def _picture(road: Road, picture: Any) -> "Picture":
    if isinstance(picture, str | Path):
        decoded: Picture = road.read(Path(picture))
        return decoded
    try:
        from PIL import Image as PillowImage
    except ImportError as error:
        raise MissingPackageError("pictures need Pillow: pip install 'gnnrec[image]'") from error

    if isinstance(picture, np.ndarray):
        return PillowImage.fromarray(_pixels(picture))
    if not isinstance(picture, PillowImage.Image):
        raise MediaError(
            f"a picture is a path, a PIL image or an array [height, width, 3], not {type(picture).__name__}"
        )
    try:
        return upright_rgb(picture)
    except MediaError:
        raise
    except Exception as error:  # what Pillow opened need not be whole
        raise MediaError(f"not a readable picture: {error}") from error


def _pixels(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns an array of bytes; numbers that are not whole are taken as shares of full brightness."""
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise MediaError(f"an array of a picture has the shape [height, width, 3], not {list(array.shape)}")
    if array.dtype.kind == "f":
        array = array * 255.0
    elif array.dtype.kind not in "iu":
        raise MediaError(f"an array of a picture holds numbers, not {array.dtype}")
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 255):
        raise MediaError("the numbers of a picture are whole ones in 0 … 255 or shares in 0 … 1")
    pixels: NDArray[np.uint8] = array.round().astype(np.uint8)
    return pixels


def _waveform(road: Road, sound: Any) -> NDArray[np.float32]:
    if isinstance(sound, str | Path):
        _say_if_cut(float(road.measure([Path(sound)])[0]), road.limit)
        decoded: NDArray[np.float32] = road.read(Path(sound))
        return decoded
    if not (isinstance(sound, tuple) and len(sound) == 2 and isinstance(sound[0], np.ndarray)):
        raise MediaError("a sound is a path or a pair (waveform, samples per second)")
    samples, rate = sound
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fi":
        raise MediaError(f"a waveform is an array [samples] or [samples, channels] of numbers, not {samples.dtype}")
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.number) or not 1 <= rate <= _FASTEST:
        raise MediaError(f"the sampling rate is a number from 1 to {_FASTEST:,} per second, not {rate!r}")
    if samples.dtype.kind == "i":
        samples = samples / np.iinfo(samples.dtype).max
    _say_if_cut(len(samples) / rate, road.limit)
    kept = samples[: math.ceil(min(len(samples), road.limit * rate))].astype(np.float32)
    assert isinstance(road.encoder, AudioEncoder)
    return prepare_waveform(kept, float(rate), road.encoder.sampling_rate)


def _say_if_cut(seconds: float, limit: float) -> None:
    if seconds > limit:
        logger.warning("a sound query of %.1f s was cut to its first %.1f s", seconds, limit)
