"""Main directions and correlated projections against plain linear algebra and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA

from gnnrec.retrieval.common_directions import correlated_projections, main_directions


def rows(num_rows: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, width, generator=generator) * torch.arange(1, width + 1) + 3


def test_without_ridge_all_directions_vary_alike() -> None:
    y = main_directions(x := rows(200, 5, seed=0), 5, ridge=0).coordinates(x)
    torch.testing.assert_close(y.mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.T @ y / 200, torch.eye(5), atol=1e-4, rtol=0)


def test_with_ridge_small_directions_stay_small() -> None:
    x = rows(500, 5, seed=0)
    y = main_directions(x, 5, ridge=1).coordinates(x)
    variance = torch.linalg.eigvalsh(torch.cov(x.T, correction=0))
    expected = variance / (variance + variance.mean())
    torch.testing.assert_close(y.square().mean(dim=0), expected / expected.mean(), rtol=1e-3, atol=1e-4)


def test_the_largest_directions_are_kept_and_no_more_than_there_are() -> None:
    x = rows(500, 5, seed=0)
    all_directions, two = main_directions(x, 9, ridge=0), main_directions(x, 2, ridge=0)
    assert all_directions.basis.shape == (5, 5)
    # Up to their common scale, two of them are the last two of all.
    ratio = two.basis / all_directions.basis[:, -2:]
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-3, atol=0)


def test_two_modalities_are_projected_as_by_canonical_correlation() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(400, 2))
    x, y = (hidden @ rng.normal(size=(2, 4)) + 0.5 * rng.normal(size=(400, 4)) for _ in range(2))
    parts = [torch.tensor(values, dtype=torch.float32) for values in (x, y)]
    coordinates = [main_directions(part, 4, ridge=0).coordinates(part) for part in parts]
    a, b = (c @ w for c, w in zip(coordinates, correlated_projections(coordinates, 2), strict=True))
    reference = CCA(n_components=2).fit(x, y).transform(x, y)
    for d in range(2):
        ours = np.corrcoef(a[:, d], b[:, d])[0, 1]
        theirs = np.corrcoef(reference[0][:, d], reference[1][:, d])[0, 1]
        assert ours == pytest.approx(theirs, abs=1e-3)
        assert abs(np.corrcoef(a[:, d], reference[0][:, d])[0, 1]) > 0.999


def test_columns_beyond_all_directions_are_zero() -> None:
    blocks = correlated_projections([rows(30, 2, seed=0), rows(30, 3, seed=1)], 7)
    assert [tuple(block.shape) for block in blocks] == [(2, 7), (3, 7)]
    assert all(not block[:, 5:].any() for block in blocks)
    assert all(block[:, :5].any() for block in blocks)


def test_columns_count_by_the_square_of_their_eigenvalue() -> None:
    """Directions in which the modalities agree more are longer."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(4000, 3, generator=generator) * torch.tensor([3.0, 1.0, 0.3])
    coordinates = []
    for _ in range(2):
        x = shared + torch.randn(4000, 3, generator=generator)
        coordinates.append(main_directions(x, 3, ridge=0).coordinates(x))
    joint = torch.cat(coordinates, dim=1)
    agreement = torch.linalg.eigvalsh(joint.T @ joint / len(joint)).flip(0)[:3]
    length = torch.cat(correlated_projections(coordinates, 3)).norm(dim=0)
    torch.testing.assert_close(length / length[0], (agreement / agreement[0]).square(), rtol=1e-3, atol=1e-4)
