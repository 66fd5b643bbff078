"""Turns raw feature values into comparable ones, with statistics fitted on training rows only."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnnrec.errors import ConfigError, DataError
from gnnrec.modalities.features import Features

__all__ = ["FeatureScaler", "ScalingKind", "fit_scaler", "scale_features"]

ScalingKind: TypeAlias = Literal["none", "standard", "whiten", "robust", "l2"]

_LEAST_SPREAD = 1e-30  # float32 cannot hold the inverse of much less
_LEAST_VARIANCE = 1e-5  # whitening stretches no direction with less than this share of the largest variance further


@dataclass(frozen=True, eq=False)
class FeatureScaler:
    """A fitted scaling, ``((x - shift) / scale) @ rotation``, of which each part may be absent.

    Attributes:
        kind: ``none``; ``standard`` (mean 0, variance 1); ``robust`` (median 0, interquartile range 1);
            ``whiten`` (mean 0, identity covariance); ``l2`` (each row of length 1, nothing is fitted).
        arrays: The fitted numbers: ``shift`` ``[dim]``, ``scale`` ``[dim]``, ``rotation`` ``[dim, dim]``, float32.
            With ``kind`` they are all that need be saved.
    """

    kind: ScalingKind
    arrays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def transform(self, values: ArrayLike) -> NDArray[np.float32]:
        """Scales rows.

        Args:
            values: ``[num_rows, dim]``.

        Returns:
            ``[num_rows, dim]``; under ``l2`` a row of zeros stays.

        Raises:
            DataError: Another width than that fitted on.
        """
        scaled = np.array(values, dtype=np.float32)
        for array in self.arrays.values():
            if scaled.shape[1] != len(array):
                raise DataError(f"the scaling was fitted on {len(array)} columns, these rows have {scaled.shape[1]}")
        if self.kind == "l2":
            length = np.linalg.norm(scaled, axis=1, keepdims=True)
            np.divide(scaled, length, out=scaled, where=length > 0)
        if "shift" in self.arrays:
            scaled -= self.arrays["shift"]
        if "scale" in self.arrays:
            scaled /= self.arrays["scale"]
        return scaled @ self.arrays["rotation"] if "rotation" in self.arrays else scaled

    def inverse(self, values: ArrayLike) -> NDArray[np.float32]:
        """Returns rows as they were before :meth:`transform`, lengths that ``l2`` took away excepted.

        Args:
            values: ``[num_rows, dim]``.

        Returns:
            ``[num_rows, dim]``.
        """
        rows = np.array(values, dtype=np.float32)
        if "rotation" in self.arrays:
            rows = np.linalg.solve(self.arrays["rotation"].astype(np.float64), rows.T).T.astype(np.float32)
        if "scale" in self.arrays:
            rows *= self.arrays["scale"]
        return rows + self.arrays["shift"] if "shift" in self.arrays else rows


def fit_scaler(values: ArrayLike, kind: ScalingKind) -> FeatureScaler:
    """Fits a scaling on training rows; without any it does nothing.

    Columns that are constant there are shifted and not stretched. ``whiten`` is the symmetric (ZCA) transform
    ``C^(-1/2)`` of Kessy, Lewin and Strimmer, "Optimal Whitening and Decorrelation" (2018), eq. 9: of all whitenings
    it changes the rows least. It takes O(rows · dim² + dim³) time and O(dim²) memory, so think twice above some
    4,000 columns.

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
    if kind == "robust":
        low, middle, high = np.percentile(rows, [25, 50, 75], axis=0)
        return _scaler(kind, shift=middle, scale=_spread(high - low, rows))
    mean = rows.mean(axis=0)
    if kind == "standard":
        return _scaler(kind, shift=mean, scale=_spread(rows.std(axis=0), rows))
    return _scaler(kind, shift=mean, rotation=_whitening(rows - mean))


def scale_features(features: Features, scaler: FeatureScaler) -> Features:
    """Returns the features with scaled values."""
    return replace(features, values=scaler.transform(features.values))


def _scaler(kind: ScalingKind, **arrays: NDArray[np.float64]) -> FeatureScaler:
    return FeatureScaler(kind, {name: array.astype(np.float32) for name, array in arrays.items()})


def _spread(spread: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replaces a spread that is rounding noise beside the size of the numbers, i.e. of a constant column, by 1."""
    noise = np.maximum(10 * np.finfo(np.float32).eps * np.abs(rows).max(axis=0), _LEAST_SPREAD)
    return np.where(spread > noise, spread, 1.0)


def _whitening(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the inverse square root of the covariance, ``[dim, dim]``."""
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    if variances.max() <= _LEAST_SPREAD**2:
        return np.eye(len(variances))
    stretched = directions / np.sqrt(np.maximum(variances, _LEAST_VARIANCE * variances.max()))
    rotation: NDArray[np.float64] = stretched @ directions.T
    return rotation
