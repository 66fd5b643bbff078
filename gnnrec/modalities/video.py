"""Turns video clips into vectors: evenly spaced frames, through an image encoder, pooled."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gnnrec.errors import EncoderError, MediaError, MissingPackageError
from gnnrec.modalities.encoder import Encoder

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from PIL.Image import Image

__all__ = ["FramePooling", "VideoEncoder", "read_frames"]

FramePooling: TypeAlias = Literal["mean", "max", "mean+std"]

_USUAL_TOLERANCE = 1.0  # seconds for which a clip may last longer than its pictures do
_PICTURES = 32  # frames that go through the image encoder at once


def read_frames(path: str | Path, num_frames: int) -> list["Image"]:
    """Reads frames in the middles of equal stretches of a clip; a short clip may give the same frame twice.

    Args:
        path: A video file that FFmpeg can read.
        num_frames: How many.

    Returns:
        ``num_frames`` RGB pictures in order.

    Raises:
        MediaError: The file is absent, damaged, or holds no pictures.
        MissingPackageError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingPackageError("videos need PyAV: pip install 'gnnrec[video]'") from error

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError("the file holds no pictures")
            stream = container.streams.video[0]
            start = _start(container, stream)
            seconds, of_pictures = _duration(container, stream, start)
            times = (np.arange(num_frames) + 0.5) * seconds / num_frames
            tolerance = max(seconds / num_frames, _USUAL_TOLERANCE) if of_pictures else math.inf
            return [_frame_at(container, stream, start, float(time), tolerance) for time in times]
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"not a readable video: {error}") from error


class VideoEncoder:
    """Encodes the frames of a clip as pictures and pools their vectors.

    Args:
        frames: Encoder of the pictures.
        num_frames: Frames per clip, for the card.
        pooling: ``mean``, ``max``, or ``mean+std`` (mean and deviation side by side: twice as wide).

    Raises:
        EncoderError: An unknown pooling or no frames.
    """

    modality = "video"

    def __init__(self, frames: Encoder, num_frames: int, pooling: FramePooling = "mean") -> None:
        if pooling not in ("mean", "max", "mean+std") or num_frames < 1:
            raise EncoderError(
                f"a video needs at least one frame and pooling mean, max or mean+std, not {num_frames} and {pooling!r}"
            )
        self._frames, self._pooling = frames, pooling
        self.card = replace(
            frames.card,
            modality="video",
            dim=frames.card.dim * (2 if pooling == "mean+std" else 1),
            preprocessing={**frames.card.preprocessing, "frames": str(num_frames), "frame_pooling": pooling},
        )

    def encode(self, batch: Sequence[Sequence["Image"]]) -> NDArray[np.float32]:
        """Returns one vector per clip, ``[len(batch), card.dim]``.

        Args:
            batch: The frames of each clip, equally many.
        """
        if not batch:
            return np.empty((0, self.card.dim), dtype=np.float32)
        pictures = [picture for clip in batch for picture in clip]
        encoded = [self._frames.encode(pictures[i : i + _PICTURES]) for i in range(0, len(pictures), _PICTURES)]
        vectors = np.concatenate(encoded).reshape(len(batch), len(batch[0]), -1)  # [clips, frames, dim]
        if self._pooling == "max":
            return np.asarray(vectors.max(axis=1))
        if self._pooling == "mean":
            return np.asarray(vectors.mean(axis=1))
        return np.concatenate([vectors.mean(axis=1), vectors.std(axis=1)], axis=1)


def _start(container: "InputContainer", stream: "VideoStream") -> float:
    """Returns the time at which a clip starts, in seconds."""
    if container.format.name == "avi":  # whose streams may start later than FFmpeg says, which is always 0
        first = next(container.decode(stream), None)
        return 0.0 if first is None else float(first.time or 0)
    return float((stream.start_time or 0) * (stream.time_base or 1))


def _duration(container: "InputContainer", stream: "VideoStream", start: float) -> tuple[float, bool]:
    """Returns how many seconds a clip lasts, and whether that is said of its pictures alone, and not of its sound."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base), True
    if stated := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):  # of Matroska
        hours, minutes, seconds = map(float, stated.groups())
        return 3600 * hours + 60 * minutes + seconds - start, True
    if container.duration is not None:
        return float(container.duration / 1_000_000) - start, len(container.streams) == 1
    raise MediaError("the video states no duration; write it into a container such as MP4")


def _frame_at(
    container: "InputContainer", stream: "VideoStream", start: float, seconds: float, tolerance: float
) -> "Image":
    """Jumps to the last key frame before a time and decodes until it is reached, or nearly."""
    tick = float(stream.time_base or 1)
    frames: Iterator[Any] = iter(())
    frame: Any = None
    # A container without an index, such as MPEG-TS, may lead to a frame that cannot be decoded by itself, or behind.
    for entry in (start + seconds, start):
        container.seek(round(entry / tick), stream=stream)
        frames = container.decode(stream)
        frame = next(frames, None)
        if frame is not None and frame.key_frame and (frame.time or 0) <= start + seconds + tick / 2:
            break
    while frame is not None and (frame.time is None or frame.time + tick / 2 < start + seconds):
        following = next(frames, None)
        if following is None:
            break
        frame = following
    shown = 0.0 if frame is None else float((frame.duration or 0) * (frame.time_base or 0))
    if frame is None or (frame.time is not None and frame.time + shown + tolerance < start + seconds):
        raise MediaError(
            f"the video is cut short: there is no picture at {seconds:.1f} s, though it should last longer"
        )
    picture: Image = frame.to_image()
    return picture
