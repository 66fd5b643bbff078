"""Reads a folder in the format of MMRec: one log with a split column, and feature files by item number."""

import re
from pathlib import Path

import numpy as np

from gnnrec.data.dataset import Dataset
from gnnrec.data.frames import read_frame
from gnnrec.data.log import read_log
from gnnrec.data.schema import Vectors
from gnnrec.errors import DataError

__all__ = ["load_mmrec"]

_FEATURES = re.compile(r"(.+?)_(feat|features)\.npy")


def load_mmrec(folder: str | Path) -> Dataset:
    """Reads the data set of one folder of MMRec (https://github.com/enoche/MMRec).

    The folder holds one ``*.inter`` file (tab-separated: ``userID``, ``itemID``, ``x_label``, …) and any number
    of ``<modality>_feat.npy`` or ``<modality>_features.npy`` matrices whose row number is the item id; all
    rows are items of the catalogue. ``split.column("x_label")`` gives the published split.

    Raises:
        DataError: There is not exactly one log, a matrix cannot be read or holds NaN, the matrices
            have different lengths, or an item id has no row.
    """
    folder = Path(folder)
    logs = sorted(folder.glob("*.inter"))
    if len(logs) != 1:
        raise DataError(f"{str(folder)!r} should hold one .inter file, it holds {len(logs)}")
    interactions, _ = read_frame(logs[0], logs[0].name)
    features = {
        match.group(1): _read_features(path)
        for path in sorted(folder.glob("*.npy"))
        if (match := _FEATURES.fullmatch(path.name))
    }
    lengths = {name: len(spec.ids) for name, spec in features.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{str(folder)!r}: the feature files have different numbers of rows: {lengths}")
    largest = read_log(interactions, {}).item_ids.max()
    if lengths and isinstance(largest, str):
        raise DataError(f"{str(logs[0])!r}: items such as {largest!r} are no row numbers of the feature files")
    for name, length in lengths.items():
        if largest >= length:
            raise DataError(f"{str(folder)!r}: item {largest} has no row in the {length} rows of {name!r}")
    return Dataset.from_frames(interactions, modalities=features, cleaning=None)


def _read_features(path: Path) -> Vectors:
    try:
        matrix = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read {str(path)!r}: {error}") from error
    return Vectors(matrix, ids=np.arange(len(matrix)))
