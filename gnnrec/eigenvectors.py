"""Takes matrices apart: symmetric ones into eigenvectors, large ones into the directions in which they stretch most."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["eigenvectors", "leading_directions"]


def eigenvectors(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the eigenvalues ``[n]``, ascending, and the eigenvectors ``[n, n]`` in columns. Cost: ``O(n³)``.

    What torch calls for it may fail to converge where most eigenvalues are 0, as with counts of words, depending on the
    number of threads; NumPy's own build of LAPACK then takes longer and gets there.

    Args:
        symmetric: ``[n, n]``; take double precision where many eigenvalues are 0.
    """
    try:
        value, vector = torch.linalg.eigh(symmetric)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        value, vector = (torch.from_numpy(part).to(symmetric) for part in np.linalg.eigh(symmetric.cpu().numpy()))
    return value, vector


def leading_directions(
    times: Callable[[Tensor], Tensor], transposed_times: Callable[[Tensor], Tensor], start: Tensor, rounds: int
) -> Tensor:
    """Returns an orthonormal basis ``[n, rank]`` of about the leading right singular vectors of a matrix ``[m, n]``.

    Block power iteration of Halko et al. (2011, algorithm 4.4). Cost: ``2 · rounds`` products with ``rank`` columns,
    and ``O(rounds · n · rank²)``.

    Args:
        times: ``[n, rank] -> [m, rank]``, the product with the matrix.
        transposed_times: ``[m, rank] -> [n, rank]``, that with its transpose.
        start: ``[n, rank]`` random numbers; some more columns than directions are wanted.
        rounds: Of iteration; more where the singular values fall slowly.
    """
    basis: Tensor = torch.linalg.qr(start).Q
    for _ in range(rounds):
        basis = torch.linalg.qr(transposed_times(times(basis))).Q
    return basis
