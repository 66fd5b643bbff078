"""Reads the vectors of media as directions: every row at length 1, a row of NaN for an owner without the medium."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gnnrec.errors import DataError

__all__ = ["as_matrix", "at_length_one", "present", "random_projections", "row_blocks", "uniformity", "unit_rows"]

_BLOCK = 2**22  # cosines held at once


def as_matrix(name: str, values: ArrayLike | Tensor) -> NDArray[np.float64]:
    """Returns vectors ``[num_owners, width]``; rows of NaN stay.

    Raises:
        DataError: They are no matrix of numbers, or some are infinite.
    """
    plain = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    try:
        matrix = np.asarray(plain, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: expected a matrix of numbers with a row per owner: {error}") from error
    if matrix.ndim != 2 or np.isinf(matrix).any():
        raise DataError(f"{name}: expected a matrix of finite numbers with a row per owner, got shape {matrix.shape}")
    return matrix


def at_length_one(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns rows of length 1; zero stays zero, and NaN stays NaN."""
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(length == 0, 1, length))


def unit_rows(name: str, values: ArrayLike | Tensor) -> NDArray[np.float64]:
    """Returns the directions of vectors ``[num_owners, width]``; see :func:`as_matrix` and :func:`at_length_one`."""
    return at_length_one(as_matrix(name, values))


def present(matrix: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Marks the owners that have the modality ``[num_owners]``."""
    return np.asarray(np.isfinite(matrix).all(axis=1))


def row_blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Cuts the rows of a matrix ``[num_rows, num_columns]`` so that each block holds about 4 million numbers."""
    step = max(1, _BLOCK // num_columns)
    yield from (slice(start, start + step) for start in range(0, num_rows, step))


def uniformity(vectors: ArrayLike | Tensor) -> float:
    """Returns how evenly vectors fill the unit sphere (Wang & Isola, 2020, section 4.1, t = 2).

    The logarithm of the mean of exp(-2 d²) over all pairs of different rows: 0 when all point one way, about -4 when
    they spread over a sphere of many dimensions. NaN for fewer than two rows.

    Args:
        vectors: ``[num_vectors, dim]``, without rows of NaN.
    """
    unit = unit_rows("vectors", vectors)
    if len(unit) < 2:
        return float("nan")
    total = 0.0
    for block in row_blocks(len(unit), len(unit)):
        cosine = unit[block] @ unit.T
        total += float(np.exp(4 * (cosine - 1)).sum())  # the squared distance of unit vectors is 2 - 2 cosine
    itself = float(np.exp(4 * ((unit**2).sum(axis=1) - 1)).sum())  # a row of zeros has no direction, and length 0
    return float(np.log((total - itself) / (len(unit) * (len(unit) - 1))))


def random_projections(
    vectors: Mapping[str, ArrayLike | Tensor], dim: int, *, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Projects each modality to one width by a normal random matrix of its own: a space in which nothing is aligned.

    Lengths and angles within a modality are kept in expectation (Johnson & Lindenstrauss, 1984); across modalities
    cosines are those of chance. Vectors are centred first, since a common mean would make all owners alike.

    Args:
        vectors: Modality → ``[num_owners, width]``; rows of NaN stay.
        dim: Width of the projections.
        seed: Seed of the matrices.
    """
    rng = np.random.default_rng(seed)
    projected = {}
    for name, values in vectors.items():
        matrix = as_matrix(name, values)
        centre = np.nanmean(matrix, axis=0) if np.isfinite(matrix).any() else 0.0
        projected[name] = (matrix - centre) @ rng.normal(size=(matrix.shape[1], dim)) / np.sqrt(dim)
    return projected
