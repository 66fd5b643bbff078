import numpy as np
import pytest
import scipy.stats

import gnnrec as gr
from gnnrec.errors import ConfigError, DataError
from gnnrec.evaluation.protocol import Evaluation
from gnnrec.evaluation.significance import compare, paired_bootstrap


def test_interval_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(60)
    second = first - 0.05 + 0.2 * rng.standard_normal(60)
    ours = paired_bootstrap(first, second, resamples=20_000, confidence=0.9)
    reference = scipy.stats.bootstrap(
        (first, second),
        lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True,
        n_resamples=20_000,
        confidence_level=0.9,
        method="percentile",
        rng=1,
    ).confidence_interval
    assert ours.difference == pytest.approx((first - second).mean())
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=2e-3)


def test_p_value_is_near_that_of_the_t_test() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random(400) + 0.03, rng.random(400)
    ours = paired_bootstrap(first, second)
    assert ours.p_value == pytest.approx(scipy.stats.ttest_rel(first, second).pvalue, abs=0.02)


def test_a_planted_difference_is_found() -> None:
    rng = np.random.default_rng(2)
    second = rng.random(500)
    outcome = paired_bootstrap(second + 0.02 + 0.01 * rng.standard_normal(500), second)
    assert outcome.low > 0.018
    assert outcome.high < 0.022
    assert outcome.p_value == pytest.approx(1 / 10_001)
    # Pairing is what finds it: the users' own spread is far larger.
    assert paired_bootstrap(rng.permutation(second) + 0.02, second).p_value > 0.05


def test_false_alarms_come_as_often_as_promised() -> None:
    rng = np.random.default_rng(3)
    draws = [paired_bootstrap(rng.random(100), rng.random(100), resamples=400, seed=s).p_value for s in range(200)]
    assert np.mean(np.array(draws) < 0.05) == pytest.approx(0.05, abs=0.04)
    assert np.mean(draws) == pytest.approx(0.5, abs=0.1)


def test_equal_models_and_symmetry() -> None:
    values = np.random.default_rng(4).random(50)
    same = paired_bootstrap(values, values)
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    other = values[::-1]
    forward, backward = paired_bootstrap(values**2, other), paired_bootstrap(other, values**2)
    assert (backward.low, backward.high) == pytest.approx((-forward.high, -forward.low))
    assert backward.p_value == forward.p_value


@pytest.mark.parametrize("unit", [0.01, 0.05, 1.0])
def test_the_unit_does_not_matter(unit: float) -> None:
    """Resamples as far away as the difference itself count, however their distance is rounded."""
    ones, nothing = np.arange(10) < 5, np.zeros(10)
    outcomes = [paired_bootstrap(size * ones, nothing, resamples=200).p_value for size in (unit, 1.0)]
    assert outcomes[0] == outcomes[1]


def test_block_boundaries_leave_no_resample_out() -> None:
    # 300,000 users: 13 resamples a block; an unset mean would be far from the truth.
    values = np.ones(300_000)
    outcome = paired_bootstrap(values, np.zeros_like(values), resamples=30)
    assert (outcome.low, outcome.high) == (1.0, 1.0)


def evaluation(values: list[float], users: list[int], ids: list[str] | None = None) -> Evaluation:
    lists, user_ids = np.empty((len(users), 0), dtype=np.int64), None if ids is None else np.array(ids, dtype=object)
    return Evaluation({}, {"recall@20": np.array(values)}, np.array(users), lists, user_ids)


def test_compare() -> None:
    outcome = compare(evaluation([0.5, 1.0], [1, 2]), evaluation([0.0, 0.5], [1, 2]))
    assert outcome.difference == 0.5
    assert str(outcome) == "+0.5000 [+0.5000, +0.5000] (95% interval), p = 0.0001, 2 users"
    with pytest.raises(DataError, match="different users"):
        compare(evaluation([0.5], [1]), evaluation([0.5], [2]))
    with pytest.raises(ConfigError, match="'ndcg@20' was not evaluated, only recall@20"):
        compare(evaluation([0.5], [1]), evaluation([0.5], [1]), "ndcg@20")


def test_users_are_the_same_by_their_ids() -> None:
    first = evaluation([0.1, 0.2, 0.3], [0, 1, 2], ["ann", "bob", "cleo"])
    second = evaluation([0.2, 0.3, 0.1], [0, 1, 2], ["bob", "cleo", "ann"])
    assert compare(first, second).p_value == 1.0
    third = evaluation([0.2, 0.3, 0.1, 0.4], [0, 1, 4, 5], ["bob", "cleo", "dan", "eve"])
    with pytest.raises(DataError, match="1 of 3 are only in the first, and 2 of 4 only in the second"):
        compare(first, third)
    with pytest.raises(DataError, match="only one of the two evaluations knows the ids"):
        compare(first, evaluation([0.1, 0.2, 0.3], [0, 1, 2]))
    second.user_index[0] = 5  # the comparison freezes nothing


def test_models_that_number_their_users_otherwise_are_compared_user_by_user() -> None:
    log = gr.synthetic.shop(num_users=30, num_items=25, seed=0).interactions
    train, _, test = gr.Dataset.from_frames(log).split(gr.split.random(valid=0, test=0.3))
    without_the_first = train.without(users=np.arange(train.num_users) == 0)
    first, second = (
        gr.Recommender.preset("popularity").fit(part, progress=False).evaluate(test, ("ndcg@10",))
        for part in (train, without_the_first)
    )
    values = [dict(zip(one.user_ids, one.per_user["ndcg@10"], strict=True)) for one in (first, second)]
    expected = paired_bootstrap(*([one[user] for user in first.user_ids] for one in values))
    assert first.user_ids.tolist() != second.user_ids.tolist()
    assert compare(first, second, "ndcg@10") == expected


def test_what_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="shapes"):
        paired_bootstrap([1.0], [1.0, 2.0])
    with pytest.raises(DataError, match="shapes"):
        paired_bootstrap([], [])
    with pytest.raises(DataError, match="not finite"):
        paired_bootstrap([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(ConfigError, match="seed=-1"):
        paired_bootstrap([1.0, 2.0], [1.0, 2.0], seed=-1)
    with pytest.raises(ConfigError, match="resamples=0"):
        paired_bootstrap([1.0], [1.0], resamples=0)
    with pytest.raises(ConfigError, match="confidence=95"):
        paired_bootstrap([1.0], [1.0], confidence=95)
