"""Turns media columns into features: gathers the media, reads what the cache lacks, encodes it in batches."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from gnnrec.data.dataset import Dataset
from gnnrec.data.ids import IdMap
from gnnrec.data.schema import Audio, Image, MediaSpec, Text, Vectors
from gnnrec.errors import EncoderError, MediaError, StorageError
from gnnrec.modalities.audio import read_sound, sound_seconds
from gnnrec.modalities.encoder import AudioEncoder, Encoder, TextEncoder, resolve
from gnnrec.modalities.features import EncoderCard, Features, MediaReport
from gnnrec.modalities.image import read_picture
from gnnrec.modalities.media import collect_media, media_digest
from gnnrec.modalities.store import FeatureStore, open_store, store_keys
from gnnrec.modalities.vectors import features_from_vectors
from gnnrec.modalities.video import VideoEncoder, read_frames

__all__ = ["Road", "encode_dataset", "encode_modality", "open_road", "same_encoder"]

logger = logging.getLogger(__name__)

_SHOWN = 5  # how many unreadable files a report lists


def encode_dataset(
    dataset: Dataset,
    *,
    cache_dir: str | Path | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> dict[str, Features]:
    """Encodes every modality of a data set.

    Args:
        dataset: Its modalities and its user and item tables.
        cache_dir: Folder that keeps encoded media between runs; ``GNNREC_CACHE_DIR`` or ``~/.cache/gnnrec``
            when not given. Where it cannot be written, a warning says so and nothing is kept.
        device: Where encoders compute.
        progress: Show a progress bar where standard error is a terminal.

    Returns:
        Name of the modality → its features.

    Raises:
        DataError: A table or column is absent, or vectors do not fit.
        EncoderError: An encoder cannot be loaded.
    """
    store = None
    if not all(isinstance(spec, Vectors) for spec in dataset.modalities.values()):
        store = open_store(cache_dir)
    features = {}
    for name, spec in dataset.modalities.items():
        ids, table = dataset.ids(spec.of), dataset.table(spec.of)
        if isinstance(spec, Vectors):
            features[name] = features_from_vectors(name, spec, ids)
        else:
            features[name] = encode_modality(name, spec, table, ids, store=store, device=device, progress=progress)
    return features


def encode_modality(
    name: str,
    spec: MediaSpec,
    table: pd.DataFrame | None,
    ids: IdMap,
    *,
    store: FeatureStore | None = None,
    device: str = "cpu",
    batch_size: int = 32,
    progress: bool = False,
    expected: EncoderCard | None = None,
) -> Features:
    """Encodes one modality. Equal media are encoded once; unreadable ones have no row and are reported.

    Args:
        name: The modality.
        spec: Which columns hold what, and the encoder.
        table: Row ``i`` belongs to ``ids.ids[i]``.
        ids: The owners.
        store: Keeps encoded media between runs; every batch is kept at once, so a killed run goes on where it was.
        device: Where the encoder computes.
        batch_size: Media encoded at a time.
        progress: Show a progress bar where standard error is a terminal.
        expected: The encoder that a model was fitted with. ``encoder="auto"`` then means that one.

    Raises:
        DataError: The table or a column is absent or does not fit.
        EncoderError: The encoder cannot be loaded, is not the expected one, or gives vectors that are not finite.
    """
    started = time.perf_counter()
    gathered = collect_media(name, spec, table, len(ids))
    road = open_road(name, spec, device, expected)
    job = _Job(name, road, gathered.media, store)
    job.run(batch_size, progress=progress)
    values, there = job.rows()
    report = MediaReport(
        given=len(ids) - gathered.missing,
        missing=gathered.missing,
        unreadable=len(job.unreadable),
        truncated=int((job.lengths[there] > road.limit).sum()),
        examples=tuple(f"{gathered.media[i]}: {reason}" for i, reason in sorted(job.unreadable.items())[:_SHOWN]),
        seconds=time.perf_counter() - started,
        cached=job.num_cached,
    )
    _log(name, spec, len(values), len(ids), report)
    return Features(name, spec.of, values, gathered.owner_index[there], road.card, report)


def open_road(name: str, spec: MediaSpec, device: str = "cpu", expected: EncoderCard | None = None) -> "Road":
    """Loads the encoder of a modality and what reads its media.

    Args:
        name: The modality, for messages.
        spec: Its kind and encoder.
        device: Where the encoder computes.
        expected: The encoder that a model was fitted with. ``encoder="auto"`` then means that one.

    Raises:
        EncoderError: The encoder cannot be loaded, or is not the expected one.
    """
    with torch.random.fork_rng(devices=[]):  # an encoder may draw weights before it takes those of its file
        road = _road(spec, device, expected)
    if expected is not None and not same_encoder(road.card, expected):
        raise EncoderError(
            f"modality {name!r} was fitted with {_described(expected)}, but its encoder now is "
            f"{_described(road.card)}; use the former, or fit again"
        )
    return road


def same_encoder(card: EncoderCard, other: EncoderCard) -> bool:
    """Says whether two encoders give the same vectors: same weights, wherever they lie, and same preprocessing."""
    if (card.modality, card.dim, card.preprocessing) != (other.modality, other.dim, other.preprocessing):
        return False
    if card.sha256 or other.sha256:
        return card.sha256 == other.sha256
    return (card.name, card.package, card.revision) == (other.name, other.package, other.revision)


@dataclass(frozen=True)
class Road:
    """What leads from one kind of medium to vectors.

    Attributes:
        encoder: The encoder.
        card: Its card, with the options of reading that change the vectors.
        read: Decodes one medium; raises ``MediaError``.
        measure: Length of each medium (tokens, seconds), which sets the order of encoding.
        limit: Media longer than this are truncated.
    """

    encoder: Encoder
    card: EncoderCard
    read: Callable[[Any], Any]
    measure: Callable[[Sequence[Any]], NDArray[Any]]
    limit: float = float("inf")


def _road(spec: MediaSpec, device: str, expected: EncoderCard | None) -> Road:
    name = spec.encoder
    if name == "auto" and expected is not None:
        name = f"{expected.name}@{expected.revision}" if expected.package == "hub" else expected.name
    if isinstance(spec, Text):
        encoder = resolve("text", name, device, pooling=spec.pooling, max_tokens=spec.max_tokens)
        if isinstance(encoder, TextEncoder):
            return Road(encoder, encoder.card, _itself, encoder.count_tokens, encoder.max_tokens)
        return Road(encoder, encoder.card, _itself, _unmeasured)
    if isinstance(spec, Image):
        encoder = resolve("image", name, device)
        return Road(encoder, encoder.card, read_picture, _unmeasured)
    if isinstance(spec, Audio):
        encoder = resolve("audio", name, device)
        if not isinstance(encoder, AudioEncoder):
            raise EncoderError(f"audio encoder {name!r} has no sampling_rate, so sounds cannot be read for it")
        card = replace(
            encoder.card, preprocessing={**encoder.card.preprocessing, "max_seconds": str(float(spec.max_seconds))}
        )
        read = partial(read_sound, sampling_rate=encoder.sampling_rate, max_seconds=spec.max_seconds)
        return Road(encoder, card, read, _seconds, spec.max_seconds)
    clips = VideoEncoder(resolve("image", name, device), spec.frames, spec.pooling)
    return Road(clips, clips.card, partial(read_frames, num_frames=spec.frames), _unmeasured)


class _Job:
    """Encodes a list of media, each different one once."""

    def __init__(self, name: str, road: Road, media: Sequence[Any], store: FeatureStore | None) -> None:
        self.name, self.road, self.media, self.store = name, road, media, store
        self.unreadable: dict[int, str] = {}  # position → reason
        key_of = store_keys(road.card)
        keys = np.array([self._key(i, key_of) for i in range(len(media))], dtype=object)
        # Which different medium each one is; -1 for files that are not there.
        self._codes, self._keys = pd.factorize(keys)
        self._first = np.flatnonzero((self._codes >= 0) & ~pd.Series(self._codes).duplicated().to_numpy())
        measured = np.asarray(road.measure([media[i] for i in self._first.tolist()]), dtype=np.float64)
        self.lengths = np.append(measured, 0.0)[self._codes]
        self._values = np.empty((len(self._keys), road.card.dim), dtype=np.float32)
        self._done = np.zeros(len(self._keys), dtype=bool)
        self.num_cached = self._take_cached()

    def run(self, batch_size: int, *, progress: bool) -> None:
        """Encodes what the cache did not have, like lengths together: a batch is padded to its longest."""
        pending = np.flatnonzero(~self._done)
        pending = pending[np.argsort(self.lengths[self._first[pending]], kind="stable")]
        console = Console(stderr=True)
        with Progress(console=console, disable=not (progress and console.is_terminal)) as bar:
            task = bar.add_task(self.name, total=len(self._keys), completed=int(self._done.sum()))
            for batch in np.split(pending, range(batch_size, len(pending), batch_size)):
                self._encode(batch)
                bar.advance(task, len(batch))

    def rows(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns the vectors ``[num_rows, dim]`` and the position of the medium of each ``[num_rows]``."""
        there = self._there()
        return self._values[self._codes[there]], there

    def _there(self) -> NDArray[np.int64]:
        return np.flatnonzero((self._codes >= 0) & np.append(self._done, False)[self._codes])

    def _key(self, i: int, key_of: Callable[[str], str]) -> str | None:
        try:
            return key_of(media_digest(self.media[i]))
        except MediaError as error:
            self.unreadable[i] = str(error)
            return None

    def _take_cached(self) -> int:
        """Returns how many media have their vector from the store."""
        if self.store is None or len(self._keys) == 0:
            return 0
        try:
            found, vectors = self.store.get(self._keys.tolist(), self.road.card.dim)
        except StorageError as error:
            self._give_up_store(error)
            return 0
        self._values[found], self._done[found] = vectors, True
        return len(self._there())

    def _encode(self, batch: NDArray[np.int64]) -> None:
        decoded, codes = [], []
        for code in batch:
            try:
                decoded.append(self.road.read(self.media[self._first[code]]))
                codes.append(code)
            except MediaError as error:
                self.unreadable.update(dict.fromkeys(np.flatnonzero(self._codes == code).tolist(), str(error)))
        if not decoded:
            return
        vectors = self.road.encoder.encode(decoded)
        if vectors.shape != (len(decoded), self.road.card.dim) or not np.isfinite(vectors).all():
            raise EncoderError(
                f"modality {self.name!r}: encoder {self.road.card.name!r} gave vectors of shape {vectors.shape} for "
                f"{len(decoded)} media, or some that are not finite; expected [{len(decoded)}, {self.road.card.dim}]"
            )
        self._values[codes], self._done[codes] = vectors, True
        if self.store is not None:
            try:
                self.store.put(self._keys[codes].tolist(), vectors)
            except StorageError as error:
                self._give_up_store(error)

    def _give_up_store(self, error: StorageError) -> None:
        logger.warning("modality %s: going on without the feature cache: %s", self.name, error)
        self.store = None


def _itself(medium: Any) -> Any:
    return medium


def _unmeasured(media: Sequence[Any]) -> NDArray[np.float64]:
    return np.zeros(len(media))


def _seconds(media: Sequence[Path]) -> NDArray[np.float64]:
    return np.array([sound_seconds(path) for path in media], dtype=np.float64)


def _described(card: EncoderCard) -> str:
    source = " ".join(part for part in (card.package, card.revision) if part)
    details = [f"{card.dim}-d", *(f"{key} {value}" for key, value in card.preprocessing.items())]
    if card.sha256:
        details.append(f"SHA-256 {card.sha256[:12]}…")
    return f"{card.name!r} ({source}; {', '.join(details)})"


def _log(name: str, spec: MediaSpec, num_rows: int, num_owners: int, report: MediaReport) -> None:
    summary = (
        f"modality {name}: {num_rows} vectors for {num_owners} {spec.of}s in {report.seconds:.1f} s "
        f"({report.cached} from the cache); {report.missing} {spec.of}s without media, "
        f"{report.unreadable} unreadable, {report.truncated} truncated"
    )
    if report.unreadable:
        logger.warning("%s; e.g. %s", summary, "; ".join(report.examples))
    elif num_rows == 0:
        logger.warning("%s; nothing is left of this modality", summary)
    else:
        logger.info("%s", summary)
