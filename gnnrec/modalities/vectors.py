"""Turns vectors that the user brings, matched by id, into features in catalogue order."""

import logging

import numpy as np

from gnnrec.data.ids import IdMap, listed
from gnnrec.data.schema import Vectors
from gnnrec.errors import DataError
from gnnrec.modalities.features import Features, MediaReport

__all__ = ["features_from_vectors"]

logger = logging.getLogger(__name__)


def features_from_vectors(name: str, spec: Vectors, ids: IdMap) -> Features:
    """Matches precomputed vectors to their owners.

    Args:
        name: The modality.
        spec: The matrix and its ids, in the form that :func:`gnnrec.data.build.as_vectors` gives them; an id may occur
            several times.
        ids: All owners.

    Returns:
        One row per row of the matrix, in ascending order of owner; owners without a row lack the modality.

    Raises:
        DataError: The matrix is not finite, or an id is unknown.
    """
    owner_index = ids.find(spec.ids)
    if (owner_index < 0).any():
        unknown = spec.ids[owner_index < 0]
        raise DataError(
            f"modality {name!r}: {len(unknown)} rows belong to unknown {ids.what}s, e.g. {listed(unknown)}; "
            f"leave them out or add them to the {ids.what} table"
        )
    order = np.argsort(owner_index, kind="stable")
    values = spec.matrix[order]
    if not np.isfinite(values).all():
        row = int(order[np.flatnonzero(~np.isfinite(values).all(axis=1))[0]])
        raise DataError(f"modality {name!r}: row {row} of the matrix is not finite in float32; leave such rows out")
    given = len(np.unique(owner_index))
    missing = len(ids) - given
    if missing:
        logger.info("modality %s: %d of %d %ss have no vector", name, missing, len(ids), ids.what)
    return Features(name, spec.of, values, owner_index[order], report=MediaReport(given=given, missing=missing))
