import numpy as np
import torch
from sklearn.linear_model import Ridge, RidgeCV

from gnnrec.rankers.ridge import _STRENGTHS, RidgeRegression


def examples(num: int = 60, width: int = 12, dim: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(num, width)) / width**0.5
    return inputs, inputs @ rng.normal(size=(width, dim)) + 2 * rng.normal(size=(num, dim)) + 2


def test_the_map_is_that_of_scikit_learn() -> None:
    inputs, targets = examples()
    expected = RidgeCV(_STRENGTHS).fit(inputs, targets)
    fitted, _ = RidgeRegression.fit(torch.from_numpy(inputs), torch.from_numpy(targets))
    given = torch.from_numpy(inputs[:7]).float()
    np.testing.assert_allclose(fitted(given).numpy(), expected.predict(inputs[:7]), atol=1e-5)
    assert 0.1 < expected.alpha_ < 300  # an inner one was chosen


def test_left_out_examples_are_those_of_fits_without_them() -> None:
    inputs, targets = examples(num=20)
    strength = RidgeCV(_STRENGTHS).fit(inputs, targets).alpha_
    _, left_out = RidgeRegression.fit(torch.from_numpy(inputs), torch.from_numpy(targets))
    for row in (0, 13):
        rest = np.arange(20) != row
        expected = Ridge(strength).fit(inputs[rest], targets[rest]).predict(inputs[[row]])[0]
        np.testing.assert_allclose(left_out[row].numpy(), expected, atol=1e-5)


def test_noise_is_shrunk_to_the_mean() -> None:
    rng = np.random.default_rng(1)
    inputs, targets = rng.normal(size=(200, 30)) / 30**0.5, rng.normal(size=(200, 2)) + 5
    fitted, _ = RidgeRegression.fit(torch.from_numpy(inputs), torch.from_numpy(targets))
    said = fitted(torch.from_numpy(rng.normal(size=(100, 30)) / 30**0.5).float()).numpy()
    assert np.abs(said - targets.mean(axis=0)).mean() < 0.1
