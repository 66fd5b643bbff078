import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gnnrec.errors import ConfigError, DataError
from gnnrec.modalities.scaling import FeatureScaler, fit_scaler

KINDS = ["none", "standard", "whiten", "robust", "l2"]


def correlated(num_rows: int = 300, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.standard_normal((num_rows, 5)) @ random.standard_normal((5, 5)) + [1, -2, 3, 50, 0]).astype("f4")


@pytest.mark.parametrize(("kind", "reference"), [("standard", "StandardScaler"), ("robust", "RobustScaler")])
def test_agrees_with_scikit_learn(kind, reference):
    from sklearn import preprocessing

    train, other = correlated(), correlated(20, seed=1)
    expected = getattr(preprocessing, reference)().fit(train.astype(np.float64)).transform(other)
    np.testing.assert_allclose(fit_scaler(train, kind).transform(other), expected, atol=2e-4)


def test_whitening_is_that_of_principal_components_turned_back():
    from sklearn.decomposition import PCA

    train, other = correlated().astype(np.float64), correlated(20, seed=1)
    components = PCA(whiten=True).fit(train)
    expected = components.transform(other) @ components.components_ * np.sqrt(len(train) / (len(train) - 1))
    np.testing.assert_allclose(fit_scaler(train, "whiten").transform(other), expected, atol=2e-3)


def test_whitened_rows_are_uncorrelated():
    whitened = fit_scaler(correlated(), "whiten").transform(correlated())
    np.testing.assert_allclose(np.cov(whitened.T, bias=True), np.eye(5), atol=1e-3)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)


def test_whitening_with_fewer_rows_than_columns_does_not_blow_up_noise():
    rows = np.random.default_rng(0).standard_normal((5, 40))
    other = np.random.default_rng(1).standard_normal((5, 40))
    assert np.abs(fit_scaler(rows, "whiten").transform(other)).max() < 3_000  # 1 / sqrt(1e-5) of a few


@pytest.mark.parametrize("kind", ["standard", "whiten", "robust"])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_constant_columns_are_not_stretched(kind, constant):
    rows = np.full((7, 3), constant, dtype=np.float32)
    np.testing.assert_allclose(fit_scaler(rows, kind).transform(rows + 2), 2.0, rtol=0.1)


def test_unit_length_keeps_rows_of_zeros():
    assert fit_scaler([[3.0, 4.0]], "l2").transform([[3.0, 4.0], [0.0, 0.0]]).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)],
        [0.0, 0.0],
    ]


@pytest.fixture(scope="module")
def wide():
    """1,150 rows that vary widely in 30 directions and hardly in the other 1,070 of their columns."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((1200, 30)) @ random.standard_normal((30, 1100))
    rows += 0.01 * random.standard_normal(rows.shape) + 3
    return rows[:1150].astype(np.float32), rows[1150:].astype(np.float32)


@pytest.mark.parametrize("kind", ["standard", "robust"])
def test_of_many_columns_the_main_directions_are_kept(wide, kind):
    from sklearn import preprocessing

    train, other = wide
    fitted = fit_scaler(train, kind)
    scaled = fitted.transform(other)
    assert (fitted.width, scaled.shape) == (1100, (50, 1024))
    full = preprocessing.StandardScaler() if kind == "standard" else preprocessing.RobustScaler()
    rows = full.fit_transform(train.astype(np.float64))
    main = np.linalg.svd(rows, full_matrices=False)[2][:1024].T
    stretch = (rows**2).mean() / ((rows @ main) ** 2).mean()
    projected = full.transform(other) @ main
    np.testing.assert_allclose(scaled @ scaled.T, projected @ projected.T * stretch, rtol=1e-3, atol=0.1)
    assert (fitted.transform(train) ** 2).mean() == pytest.approx((rows**2).mean(), rel=1e-4)
    rotation = fitted.arrays["rotation"]  # of two opposite directions the same on every machine
    assert (rotation[np.abs(rotation).argmax(axis=0), np.arange(1024)] > 0).all()
    np.testing.assert_allclose(fitted.inverse(scaled), other, atol=0.05)  # but for the noise, it is all there


def test_whitened_main_directions_are_uncorrelated(wide):
    train, other = wide
    fitted = fit_scaler(train, "whiten")
    np.testing.assert_allclose(np.cov(fitted.transform(train).T, bias=True)[-30:, -30:], np.eye(30), atol=1e-3)
    np.testing.assert_allclose(fitted.inverse(fitted.transform(other)), other, atol=0.05)


def test_all_columns_are_kept_of_few_rows_or_where_nothing_is_fitted(wide):
    train, _ = wide
    assert fit_scaler(train[:1100], "standard").transform(train).shape == train.shape
    assert fit_scaler(train, "l2").transform(train).shape == train.shape


@pytest.mark.parametrize("kind", KINDS)
def test_saved_state_gives_the_same_numbers(kind):
    fitted = fit_scaler(correlated(), kind)
    again = FeatureScaler(kind, fitted.arrays)
    assert (again.transform(correlated(9, seed=2)) == fitted.transform(correlated(9, seed=2))).all()
    assert set(fitted.arrays) == {
        "none": set(), "l2": set(), "standard": {"shift", "scale"}, "robust": {"shift", "scale"},
        "whiten": {"shift", "rotation"},
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_without_training_rows_nothing_is_fitted(kind):
    assert fit_scaler(np.empty((0, 4)), kind).arrays == {}


@settings(max_examples=30, deadline=None)
@given(
    rows=arrays(np.float32, (6, 3), elements=st.floats(-1e4, 1e4, width=32)),
    kind=st.sampled_from(KINDS),
)
def test_result_is_always_finite_and_the_input_untouched(rows, kind):
    before = rows.copy()
    scaled = fit_scaler(rows, kind).transform(rows)
    assert np.isfinite(scaled).all()
    assert scaled.dtype == np.float32
    assert (rows == before).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("least", [1e-45, 1e-38, 1e-31, 1e-29])
def test_numbers_next_to_zero_are_a_constant_or_scaled(kind, least):
    rows = np.zeros((6, 3), dtype=np.float32)
    rows[0, 0] = least
    assert np.isfinite(fit_scaler(rows, kind).transform(rows)).all()


def test_wrong_use():
    with pytest.raises(ConfigError, match="not 'minmax'"):
        fit_scaler([[1.0]], "minmax")
    with pytest.raises(DataError, match=r"shape \(1,\)"):
        fit_scaler([1.0], "standard")
    with pytest.raises(DataError, match="fitted on 1 columns, these rows have 2"):
        fit_scaler([[1.0], [2.0]], "standard").transform([[1.0, 2.0]])
