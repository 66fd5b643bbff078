"""What is learned from raw vectors before training, and from whose."""

import numpy as np
import pytest
import scipy.sparse as sp

from gnnrec.modalities.features import Features
from gnnrec.modalities.preparation import FeatureConfig, prepare


@pytest.mark.parametrize("owner", ["item", "user"])
@pytest.mark.parametrize("missing", ["absent", "mean"])
def test_only_owners_with_interactions_shape_the_statistics(owner: str, missing: str) -> None:
    """Whoever is new is scaled as later ones will be, and stands for nobody."""
    interactions = sp.csr_matrix(np.diag([1.0, 1, 1, 0, 0]).astype(np.float32))  # owners 3 and 4 are new
    values = np.array([[1.0], [5.0], [99.0]], dtype=np.float32)
    features = {"look": Features("look", owner, values, np.array([0, 1, 3]))}
    prepared, preparation = prepare(features, FeatureConfig("standard", missing), interactions)
    scaler = preparation.scalers["look"]
    assert scaler.arrays["shift"].tolist() == [3]
    spread = np.std([1, 5] if missing == "absent" else [1, 5, 3])
    expected = (np.array([1, 5, 99] if missing == "absent" else [1, 5, 3, 99, 3]) - 3) / spread
    np.testing.assert_allclose(prepared["look"].values[:, 0], expected, rtol=1e-6)


def test_weights_that_are_trained_on_go_on_seeing_the_same_numbers() -> None:
    everybody = sp.csr_matrix(np.eye(4, dtype=np.float32))
    before, now = (
        {"look": Features("look", "item", np.array(rows, dtype=np.float32)[:, None], np.arange(4))}
        for rows in ([1, 3, 1, 3], [7, 8, 7, 9])
    )
    _, earlier = prepare(before, FeatureConfig(), everybody)
    prepared, again = prepare(now, FeatureConfig(), everybody, earlier)
    assert prepared["look"].values[:, 0].tolist() == [5, 6, 5, 7]
    assert again.scalers["look"] is earlier.scalers["look"]
    for config, features in (  # another scaling, another width, another modality: fitted anew
        (FeatureConfig("robust"), now),
        (FeatureConfig(), {"look": Features("look", "item", np.eye(4, 2, dtype=np.float32), np.arange(4))}),
        (FeatureConfig(), {"feel": Features("feel", "item", now["look"].values, np.arange(4))}),
    ):
        anew, alone = (prepare(features, config, everybody, one)[0] for one in (earlier, None))
        for name, one in anew.items():
            np.testing.assert_array_equal(one.values, alone[name].values)
