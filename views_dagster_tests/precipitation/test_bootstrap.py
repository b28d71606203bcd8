import numpy as np
import pytest

from views_dagster.precipitation.bootstrap import central_interval, resample_counts, share_above


def test_each_resample_draws_as_many_events_as_there_are_and_each_equally_often() -> None:
    counts = resample_counts(20, 4000, seed=1)
    assert (counts.sum(axis=1) == 20).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.07)
    assert (resample_counts(20, 10, seed=1) == counts[:10]).all()
    assert (resample_counts(20, 10, seed=2) != counts[:10]).any()


def test_the_interval_is_that_of_the_percentiles() -> None:
    found = central_interval(np.arange(1001.0), 0.9, events=5)
    np.testing.assert_allclose([found.low, found.high], [50.0, 950.0])


def test_an_interval_of_means_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = []
    for trial in range(200):
        events = rng.normal(0, 1, 60)
        means = resample_counts(60, 400, seed=trial) @ events / 60
        ends = central_interval(means, 0.9, events=60)
        covered.append(ends.low <= 0 <= ends.high)
    assert 0.83 < np.mean(covered) < 0.96


def test_undefined_resamples_are_left_out_but_not_most_of_them() -> None:
    some, most = np.arange(100.0), np.arange(100.0)
    some[:40], most[:50] = np.nan, np.nan
    found = central_interval(np.stack([some, most, np.full(100, np.nan)], axis=1), 0.98, events=5)
    assert found.low[0] == pytest.approx(40 + 0.59)
    assert np.isnan(found.low[1:]).all()
    assert np.isnan(found.high[1:]).all()


def test_one_event_has_no_interval() -> None:
    assert np.isnan(central_interval(np.ones(100), 0.9, events=1).low)


def test_share_of_resamples_above() -> None:
    values = np.array([[1.0, np.nan], [-1.0, np.nan], [2.0, np.nan], [np.nan, np.nan]])
    found = share_above(values, 0.0)
    assert found[0] == pytest.approx(2 / 3)
    assert np.isnan(found[1])


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="within 0 and 1"):
        central_interval(np.ones(3), 95, events=3)
