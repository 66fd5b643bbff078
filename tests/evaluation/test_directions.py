import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from gnnrec.evaluation.directions import random_projections, uniformity


def test_uniformity_equals_the_authors_formula() -> None:
    unit = torch.nn.functional.normalize(torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator()))
    assert uniformity(3 * unit) == pytest.approx(torch.pdist(unit).pow(2).mul(-2).exp().mean().log().item())
    assert uniformity(np.ones((4, 3))) == pytest.approx(0)
    assert np.isnan(uniformity(np.ones((1, 3))))
    # Two alike, and a row without a direction: one pair at distance 0 of three, the others at a squared distance of 2.
    assert uniformity(np.array([[1, 0], [1, 0], [0, 0]])) == pytest.approx(np.log((1 + 2 * np.exp(-4)) / 3))


def test_random_projections_keep_angles_within_a_modality_only() -> None:
    rng = np.random.default_rng(1)
    text = rng.standard_normal((40, 300)) + 5
    text[0] = np.nan
    projected = random_projections({"text": text, "again": text}, 2000)
    assert np.isnan(projected["text"][0]).all()
    centred = text[1:] - text[1:].mean(axis=0)
    np.testing.assert_allclose(cosine_similarity(projected["text"][1:]), cosine_similarity(centred), atol=0.12)
    assert np.abs(cosine_similarity(projected["text"][1:], projected["again"][1:])).max() < 0.12
    repeated = random_projections({"text": text, "again": text}, 2000)
    np.testing.assert_array_equal(projected["again"], repeated["again"])
