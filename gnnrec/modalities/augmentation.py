"""Turns media and features into randomly altered copies, for training encoders and models that must not overfit."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnnrec.errors import ConfigError, MissingPackageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "PictureChange",
    "augment_picture",
    "augment_text",
    "augment_waveform",
    "mask_features",
    "noise_features",
    "picture_transform",
]

PictureChange: TypeAlias = Literal["crop", "flip", "colour"]


def picture_transform(
    changes: Sequence[PictureChange] = ("crop", "flip", "colour"), *, size: int = 224, strength: float = 0.4
) -> Callable[["Image"], "Image"]:
    """Builds a random change of pictures, drawn anew (from torch's generator) at each call.

    Args:
        changes: ``crop`` (a random part of at least ``1 - strength`` of the area, resized), ``flip`` (mirrored left
            to right, half of the time), ``colour`` (brightness, contrast and saturation).
        size: Side of the square that ``crop`` gives, in pixels.
        strength: Between 0 and 1.

    Raises:
        ConfigError: An unknown change or an impossible strength.
        MissingPackageError: torchvision is not installed.
    """
    if unknown := set(changes) - {"crop", "flip", "colour"}:
        raise ConfigError(f"pictures can be changed by crop, flip and colour, not by {', '.join(sorted(unknown))}")
    _check_share("strength", strength)
    try:
        from torchvision.transforms import v2
    except ImportError as error:
        raise MissingPackageError("changing pictures needs torchvision: pip install 'gnnrec[image]'") from error
    steps = {
        "crop": v2.RandomResizedCrop(size, scale=(1 - strength, 1.0)),
        "flip": v2.RandomHorizontalFlip(),
        "colour": v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength),
    }
    composed: Callable[[Image], Image] = v2.Compose([steps[change] for change in dict.fromkeys(changes)])
    return composed


def augment_picture(picture: "Image", transform: Callable[["Image"], "Image"], *, seed: int) -> "Image":
    """Applies a random change under a seed and leaves torch's own random stream as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transform(picture)


def augment_waveform(
    waveform: NDArray[np.float32],
    *,
    seed: int,
    noise_db: float | None = 20.0,
    max_shift: float = 0.1,
    mask: float = 0.1,
) -> NDArray[np.float32]:
    """Shifts a sound in time, silences a stretch of it and adds noise.

    Args:
        waveform: ``[num_samples]``.
        seed: Fixes the draw.
        noise_db: Signal-to-noise ratio of the white noise in decibels; ``None`` adds none.
        max_shift: Largest rotation, as a share of the length; samples that leave at the end come in at the start.
        mask: Share of the sound that is silenced, in one stretch.

    Returns:
        ``[num_samples]``.

    Raises:
        ConfigError: A share outside 0 … 1.
    """
    _check_share("max_shift", max_shift)
    _check_share("mask", mask)
    random = np.random.default_rng(seed)
    length = len(waveform)
    limit = int(max_shift * length)
    changed = np.roll(waveform.astype(np.float32), random.integers(-limit, limit, endpoint=True))
    masked = int(mask * length)
    start = random.integers(0, length - masked, endpoint=True)
    changed[start : start + masked] = 0
    if noise_db is not None:
        loudness = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) * 10 ** (-noise_db / 20)
        changed += (loudness * random.standard_normal(length)).astype(np.float32)
    return changed


def augment_text(text: str, *, seed: int, drop: float = 0.1) -> str:
    """Leaves out words at random, but never all of them.

    Args:
        text: Words between white space.
        seed: Fixes the draw.
        drop: Probability that a word is left out.

    Raises:
        ConfigError: A probability outside 0 … 1.
    """
    _check_share("drop", drop)
    words = text.split()
    if not words:
        return text
    draw = np.random.default_rng(seed).random(len(words))
    kept = draw >= drop
    kept[draw.argmax()] = True
    return " ".join(word for word, keep in zip(words, kept, strict=True) if keep)


def noise_features(values: Tensor, level: float, generator: torch.Generator | None = None) -> Tensor:
    """Adds Gaussian noise of ``level`` times the deviation of each column.

    Args:
        values: ``[num_rows, dim]``.
        level: 0 changes nothing.
        generator: Source of randomness, on the device of ``values``.

    Returns:
        ``[num_rows, dim]``.
    """
    noise = torch.randn(values.shape, generator=generator, device=values.device, dtype=values.dtype)
    return values + level * values.std(dim=0, correction=0) * noise


def mask_features(values: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Sets entries to zero at random and stretches the others, so that the expected row is the same.

    Args:
        values: ``[num_rows, dim]``.
        share: Probability that an entry is masked, below 1.
        generator: Source of randomness, on the device of ``values``.

    Returns:
        ``[num_rows, dim]``.

    Raises:
        ConfigError: A share outside 0 … 1, or 1.
    """
    _check_share("share", share)
    if share == 1:
        raise ConfigError("share is below 1: something must remain")
    kept = torch.rand(values.shape, generator=generator, device=values.device) >= share
    return values * kept / (1 - share)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} lies between 0 and 1, not {value}")
