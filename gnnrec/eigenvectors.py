"""Takes symmetric matrices apart into eigenvectors, also those on which a fast algorithm gives up."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["eigenvectors"]


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
