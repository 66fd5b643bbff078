"""The planted logs of the scale benchmark, its oracle, how figures grow, and the page on accelerators."""

import itertools

import numpy as np
import pytest

import accelerator
import scale


def test_a_planted_log_follows_its_own_law():
    log = scale.planted_log(20_000)
    events = log.events
    assert len(events) == 20_000
    assert not events.duplicated(["user_id", "item_id"]).any()
    assert (events[events["part"] == 2].groupby("user_id").size() == 1).all()
    held_for_choice = events.loc[events["part"] == 1, "user_id"]
    assert (held_for_choice % 20 == 0).all()
    assert held_for_choice.is_unique
    chances = log.chances(np.arange(50))
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-5)
    # Seven of ten events are of a person's first taste.
    first = log.tastes[events["user_id"], 0] == log.item_taste[events["item_id"]]
    one_taste = (log.tastes[:, 0] == log.tastes[:, 1])[events["user_id"]]
    assert first[~one_taste].mean() == pytest.approx(0.7, abs=0.03)


def test_the_oracle_knows_more_than_popularity():
    log = scale.planted_log(100_000)
    test = log.events[log.events["part"] == 2]
    people, items = test["user_id"].to_numpy()[:500], test["item_id"].to_numpy()[:500]
    popularity = np.bincount(log.events["item_id"], minlength=len(log.item_taste))
    by_truth = np.argsort(-log.chances(people), axis=1)[:, :20]
    by_popularity = np.argsort(-popularity)[:20]
    assert (by_truth == items[:, None]).any(axis=1).mean() > 1.5 * np.isin(items, by_popularity).mean()


def row(events: int, exponent: float) -> dict:
    value = events**exponent
    seconds = dict.fromkeys(("dataset", "graph", "epoch", "fit"), value)
    return {"events": events, "seconds": seconds, "peak_gib": {"fit": value}}


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_slopes_are_exponents_and_extrapolation_is_at_least_linear(exponent):
    before, last = row(1_000, exponent), row(10_000, exponent)
    for figure in scale._GROWING.values():
        assert scale._slope(before, last, figure) == pytest.approx(exponent)
    label, *values = scale._extrapolated(before, last, 1_000_000)
    assert label == "1,000,000"
    expected = 10_000**exponent * 100 ** max(1.0, exponent)
    assert values == [f"{expected:,.0f}"] * len(scale._GROWING)


def test_memory_is_that_of_its_moments():
    memory = scale._Memory.__new__(scale._Memory)
    memory.samples = list(zip(itertools.count(), [1.0, 5.0, 2.0, 3.0], strict=False))
    assert memory.peak(0.5, 1.5) == 5.0
    assert memory.peak(2.2, 2.8) == 2.0  # nothing was sampled in between: what was held before
    assert memory.peak(2.5, 3.0) == 3.0


def test_the_page_on_accelerators_says_when_there_are_no_figures():
    assert "not been run on any device" in accelerator.page({})
    run = {"pairs": 10, "stored": 20, "seconds": {"gnnrec": [0.5, 0.5]}, "of_bound": [1.25]}
    largest = {"steps": [{"pairs": 64, "peak_gib": 1.5}], "does not fit": 128}
    results = {"device": "D", "versions": {"torch": "2"}, "propagation": [run], "largest": largest}
    text = accelerator.page(results)
    assert "| 10 | 500.00 | 80 | 80% |" in text
    assert "128 pairs do not fit" in text
    assert "not been run" not in text
