import logging

import numpy as np
import pytest
import torch

from gnnrec.data.build import as_vectors
from gnnrec.data.ids import IdMap
from gnnrec.data.schema import Vectors
from gnnrec.errors import DataError
from gnnrec.modalities.vectors import features_from_vectors

IDS = IdMap(["a", "b", "c", "d"], "item")


@pytest.mark.parametrize("as_matrix", [np.array, torch.tensor, list])
def test_rows_follow_ids_and_not_positions(as_matrix, caplog):
    matrix = as_matrix([[3.0, 0.5], [1.0, 0.5], [3.5, 0.5]])
    with caplog.at_level(logging.INFO):
        found = features_from_vectors("vgg", as_vectors("vgg", Vectors(matrix, ["c", "a", "c"])), IDS)
    assert found.values.tolist() == [[1.0, 0.5], [3.0, 0.5], [3.5, 0.5]]
    assert found.values.dtype == np.float32
    assert found.owner_index.tolist() == [0, 2, 2]
    assert (found.report.given, found.report.missing) == (2, 2)
    assert found.encoder is None
    assert "2 of 4 items have no vector" in caplog.text


@pytest.mark.parametrize(
    ("matrix", "ids", "message"),
    [
        ([[1.0], [2.0]], ["a", "z"], "1 rows belong to unknown items, e.g. 'z'"),
        ([[1.0], [2.0]], [1, 2], "2 rows belong to unknown items"),
        ([[1.0], [np.nan]], ["b", "a"], "row 1 of the matrix is not finite"),
        ([[1e300]], ["a"], "row 0 of the matrix is not finite in float32"),
    ],
)
def test_vectors_that_do_not_fit(matrix, ids, message):
    with pytest.raises(DataError, match=message):
        features_from_vectors("vgg", as_vectors("vgg", Vectors(matrix, ids)), IDS)
