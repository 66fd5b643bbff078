"""Turns raw feature values into comparable ones, with statistics fitted on training rows only."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from gnnrec.eigenvectors import eigenvectors
from gnnrec.errors import ConfigError, DataError
from gnnrec.modalities.features import Features

__all__ = ["FeatureScaler", "ScalingKind", "fit_scaler", "scale_features"]

ScalingKind: TypeAlias = Literal["none", "standard", "whiten", "robust", "l2"]

_LEAST_SPREAD = 1e-30  # float32 cannot hold the inverse of much less
# A step projects all items. On Amazon Baby an epoch takes 3 s without media, 13 with 4,096 columns and 7 with 1,024.
_MOST_COLUMNS = 1024
_LEAST_VARIANCE = 1e-5  # whitening stretches no direction with less than this share of the largest variance further


@dataclass(frozen=True, eq=False)
class FeatureScaler:
    """A fitted scaling, ``((x - shift) / scale) @ rotation``, of which each part may be absent.

    Attributes:
        kind: ``none``; ``standard`` (mean 0, variance 1); ``robust`` (median 0, interquartile range 1);
            ``whiten`` (mean 0, identity covariance); ``l2`` (each row of length 1, nothing is fitted).
        arrays: The fitted numbers: ``shift`` ``[dim]``, ``scale`` ``[dim]``, ``rotation`` ``[dim, kept]``, float32.
            With ``kind`` they are all that need be saved.
    """

    kind: ScalingKind
    arrays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def width(self) -> int | None:
        """How many columns it was fitted on; ``None`` if it scales any number of them."""
        return next((len(array) for array in self.arrays.values()), None)

    def transform(self, values: ArrayLike) -> NDArray[np.float32]:
        """Scales rows.

        Args:
            values: ``[num_rows, dim]``.

        Returns:
            ``[num_rows, kept]``, ``dim`` columns unless there were too many; under ``l2`` a row of zeros stays.

        Raises:
            DataError: Another width than that fitted on.
        """
        scaled = np.array(values, dtype=np.float32)
        if self.width not in (None, scaled.shape[1]):
            raise DataError(f"the scaling was fitted on {self.width} columns, these rows have {scaled.shape[1]}")
        if self.kind == "l2":
            length = np.linalg.norm(scaled, axis=1, keepdims=True)
            np.divide(scaled, length, out=scaled, where=length > 0)
        if "shift" in self.arrays:
            scaled -= self.arrays["shift"]
        if "scale" in self.arrays:
            scaled /= self.arrays["scale"]
        return scaled @ self.arrays["rotation"] if "rotation" in self.arrays else scaled

    def inverse(self, values: ArrayLike) -> NDArray[np.float32]:
        """Returns rows as they were before :meth:`transform`, but for lengths that ``l2`` took away.

        Of rows that were narrowed comes back what lies in the directions kept.

        Args:
            values: ``[num_rows, kept]``.

        Returns:
            ``[num_rows, dim]``.
        """
        rows = np.array(values, dtype=np.float32)
        if "rotation" in self.arrays:
            rotation = self.arrays["rotation"].astype(np.float64)
            rows = (rows @ np.linalg.solve(rotation.T @ rotation, rotation.T)).astype(np.float32)
        if "scale" in self.arrays:
            rows *= self.arrays["scale"]
        return rows + self.arrays["shift"] if "shift" in self.arrays else rows


def fit_scaler(values: ArrayLike, kind: ScalingKind) -> FeatureScaler:
    """Fits a scaling on training rows; without any it does nothing.

    Columns that are constant there are shifted and not stretched. ``whiten`` is the symmetric (ZCA) transform
    ``C^(-1/2)`` of Kessy, Lewin and Strimmer, "Optimal Whitening and Decorrelation" (2018), eq. 9: of all whitenings
    it changes the rows least. It takes O(rows · dim² + dim³) time and O(dim²) memory.

    Where ``standard``, ``robust`` or ``whiten`` finds more than 1,024 columns, and more rows than columns, it keeps
    the 1,024 directions in which the scaled rows vary most, at the same cost.

    Args:
        values: ``[num_rows, dim]``, the training rows.
        kind: As for :class:`FeatureScaler`.

    Raises:
        ConfigError: An unknown kind.
        DataError: Not a matrix.
    """
    if kind not in get_args(ScalingKind):
        raise ConfigError(f"scaling is one of {', '.join(get_args(ScalingKind))}, not {kind!r}")
    rows = np.asarray(values)
    if rows.ndim != 2:
        raise DataError(f"scaling is fitted on a matrix [rows, dim], not on an array of shape {rows.shape}")
    if kind in ("none", "l2") or len(rows) == 0:
        return FeatureScaler(kind)
    rows = rows.astype(np.float64)
    narrow = _MOST_COLUMNS < rows.shape[1] < len(rows)
    mean = rows.mean(axis=0)
    if kind == "whiten":
        return _scaler(kind, shift=mean, rotation=_whitening(rows - mean, narrow))
    if kind == "robust":
        low, middle, high = np.percentile(rows, [25, 50, 75], axis=0)
        shift, scale = middle, _spread(high - low, rows)
    else:
        shift, scale = mean, _spread(rows.std(axis=0), rows)
    if narrow:
        return _scaler(kind, shift=shift, scale=scale, rotation=_narrowing(((rows - shift) / scale).astype(np.float32)))
    return _scaler(kind, shift=shift, scale=scale)


def scale_features(features: Features, scaler: FeatureScaler) -> Features:
    """Returns the features with scaled values."""
    return replace(features, values=scaler.transform(features.values))


def _scaler(kind: ScalingKind, **arrays: NDArray[np.float64]) -> FeatureScaler:
    return FeatureScaler(kind, {name: array.astype(np.float32) for name, array in arrays.items()})


def _spread(spread: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replaces a spread that is rounding noise beside the size of the numbers, i.e. of a constant column, by 1."""
    noise = np.maximum(10 * np.finfo(np.float32).eps * np.abs(rows).max(axis=0), _LEAST_SPREAD)
    return np.where(spread > noise, spread, 1.0)


def _whitening(centred: NDArray[np.float64], narrow: bool) -> NDArray[np.float64]:
    """Returns the inverse square root of the covariance, ``[dim, dim]``, or its main directions alone, if narrow."""
    variances, directions = _directions(centred)
    if variances.max() <= _LEAST_SPREAD**2:
        return np.eye(len(variances))
    stretched = directions / np.sqrt(np.maximum(variances, _LEAST_VARIANCE * variances.max()))
    rotation: NDArray[np.float64] = stretched[:, -_MOST_COLUMNS:] if narrow else stretched @ directions.T
    return rotation


def _narrowing(scaled: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the main directions ``[dim, kept]`` of rows ``[num_rows, dim]``, stretched to spread as wide as these."""
    variances, directions = _directions(scaled)
    kept, variance = directions[:, -_MOST_COLUMNS:], variances[-_MOST_COLUMNS:].mean()
    return kept if variance <= _LEAST_SPREAD**2 else kept * float(np.sqrt(variances.mean() / variance))


def _directions(centred: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the variances of the main directions, ascending, and these ``[dim, dim]`` in columns."""
    covariance = torch.from_numpy(centred.T @ centred / len(centred))
    variances, directions = (part.numpy() for part in eigenvectors(covariance.double()))
    largest = np.abs(directions).argmax(axis=0)
    signs = np.sign(directions[largest, np.arange(len(largest))])  # of two opposite ones always the same
    return variances, directions * signs
