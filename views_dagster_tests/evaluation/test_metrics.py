import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from views_dagster.evaluation.metrics import (
    IGNORANCE_EDGES,
    brier,
    coverage,
    crps,
    highest_density_interval,
    ignorance,
    interval_score,
    msle,
    pinball,
    quantile_score,
    threshold_weighted_crps,
)

counts = hnp.arrays(np.float64, st.integers(1, 12), elements=st.integers(0, 500).map(float))


def test_crps_by_hand() -> None:
    # Draws 0 and 2, observed 3: mean distance (3 + 1) / 2 = 2; mean distance between draws 1 over all pairs, 2 over
    # pairs of different draws.
    assert crps([0, 2], 3.0) == 2 - 1 / 2
    assert crps([0, 2], 3.0, fair=True) == 2 - 2 / 2


def test_crps_of_one_draw_is_the_absolute_error() -> None:
    assert_array_equal(crps([[5.0], [1.0]], [2.0, 4.0]), [3.0, 3.0])


@given(counts, st.integers(0, 500))
def test_crps_agrees_with_the_double_sum(draws: NDArray[np.float64], observed: int) -> None:
    size = len(draws)
    spread = sum(abs(a - b) for a in draws for b in draws)
    distance = sum(abs(a - observed) for a in draws) / size
    assert_allclose(crps(draws, float(observed)), distance - spread / (2 * size**2), atol=1e-9)
    if size > 1:
        fair = distance - spread / (2 * size * (size - 1))
        assert_allclose(crps(draws, float(observed), fair=True), fair, atol=1e-9)


@given(counts, st.integers(0, 500))
def test_crps_is_the_integrated_squared_difference_of_distributions(draws: NDArray[np.float64], observed: int) -> None:
    # Both distribution functions are steps at whole numbers, so the integral is a sum.
    thresholds = np.arange(0, 501)
    forecast = (draws[:, None] <= thresholds).mean(axis=0)
    assert_allclose(crps(draws, float(observed)), ((forecast - (observed <= thresholds)) ** 2).sum(), atol=1e-9)


@given(counts, st.integers(0, 500), st.integers(0, 500))
def test_threshold_weighted_crps_integrates_from_the_threshold(
    draws: NDArray[np.float64], observed: int, threshold: int
) -> None:
    thresholds = np.arange(threshold, 501)
    forecast = (draws[:, None] <= thresholds).mean(axis=0)
    expected = ((forecast - (observed <= thresholds)) ** 2).sum()
    assert_allclose(threshold_weighted_crps(draws, float(observed), threshold=threshold), expected, atol=1e-9)


def test_crps_is_exact_for_large_values() -> None:
    draws = np.array([159_450.0, 159_451.0], dtype=np.float32)
    assert crps(draws, 159_450.0) == 0.25


def test_scores_work_on_leading_axes_and_keep_unknown_observations_unknown() -> None:
    draws = np.random.default_rng(0).poisson(3, (4, 5, 16)).astype(np.float32)
    observed = np.full((4, 5), 2.0)
    observed[1, 2] = np.nan
    for scores in (
        crps(draws, observed),
        threshold_weighted_crps(draws, observed, threshold=1),
        quantile_score(draws, observed, level=0.5),
        interval_score(draws, observed),
        coverage(draws, observed),
        brier(draws, observed, threshold=1),
        ignorance(draws, observed),
        msle(draws.mean(axis=-1), observed),
    ):
        assert scores.dtype == np.float64
        assert_array_equal(np.isnan(scores), np.isnan(observed))
    assert_allclose(crps(draws, observed)[3, 4], crps(draws[3, 4], 2.0))


def test_shapes_that_numpy_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="do not match"):
        crps(np.zeros((3, 4)), np.zeros(4))
    with pytest.raises(ValueError, match="do not match"):
        crps(np.zeros((3, 0)), np.zeros(3))
    with pytest.raises(ValueError, match="two draws"):
        crps(np.zeros((3, 1)), np.zeros(3), fair=True)


def test_pinball_by_hand() -> None:
    # An observation 10 above the 0.9 quantile costs 0.9 * 10, one 10 below it 0.1 * 10.
    assert_allclose(pinball([0, 10], [10, 0], level=0.9), [9.0, 1.0])
    assert quantile_score([0, 10], 10.0, level=0.5) == 2.5


def test_twice_the_integrated_quantile_score_is_the_crps() -> None:
    draws = np.sort(np.random.default_rng(1).gamma(1, 10, 40))
    levels = (np.arange(40_000) + 0.5) / 40_000
    quantiles = draws[(levels * len(draws)).astype(int)]
    for observed in (0.0, 7.0, 90.0):
        miss = observed - quantiles
        integral = 2 * np.maximum(levels * miss, (levels - 1) * miss).mean()
        assert_allclose(crps(draws, observed), integral, rtol=1e-6)


def test_interval_score_and_coverage_by_hand() -> None:
    # The central 90 % of 0..100 is 5..95; a miss costs 20 times its distance.
    draws = np.tile(np.arange(101.0), (4, 1))
    observed = [5, 50, 98, 1]
    assert_allclose(interval_score(draws, observed, mass=0.9), [90, 90, 90 + 20 * 3, 90 + 20 * 4])
    assert_array_equal(coverage(draws, observed, mass=0.9), [1, 1, 0, 0])


def test_coverage_of_a_calibrated_forecast_is_nominal() -> None:
    values = np.random.default_rng(2).normal(size=(4000, 201))
    assert abs(coverage(values[:, 1:], values[:, 0], mass=0.8).mean() - 0.8) < 0.03


def test_brier_by_hand() -> None:
    # Three of four draws reach 25.
    assert_allclose(brier([[24, 25, 26, 30]] * 2, [25, 24], threshold=25), [0.25**2, 0.75**2])


def test_ignorance_by_hand() -> None:
    # 21 draws of zero and 11 bins: (21 + 1) / 32 for zero, 1 / 32 elsewhere.
    draws = np.zeros((3, 21))
    assert_allclose(ignorance(draws, [0, 1, 5000]), [-np.log2(22 / 32), 5, 5])


def test_ignorance_probabilities_sum_to_one() -> None:
    draws = np.random.default_rng(3).gamma(0.3, 300, 50)
    probabilities = 2 ** -ignorance(np.tile(draws, (len(IGNORANCE_EDGES), 1)), IGNORANCE_EDGES)
    assert_allclose(probabilities.sum(), 1)


def test_ignorance_refuses_values_without_a_bin() -> None:
    with pytest.raises(ValueError, match="no bin"):
        ignorance([-1.0], 0.0)
    with pytest.raises(ValueError, match="ascend"):
        ignorance([1.0], 0.0, edges=(0, 0))


def test_msle_by_hand() -> None:
    assert_allclose(msle([np.e - 1, 0], [0, 0]), [1, 0])


def test_highest_density_interval_by_hand() -> None:
    # Nine of ten draws: 0..8 and 1..20 are the only candidates. Then half: the shortest run of five.
    lower, upper = highest_density_interval([20, 0, 1, 2, 3, 4, 5, 6, 7, 8], mass=0.9)
    assert (lower, upper) == (0, 8)
    lower, upper = highest_density_interval([0, 10, 11, 12, 13, 14, 30, 40, 50, 60], mass=0.5)
    assert (lower, upper) == (10, 14)


def test_highest_density_interval_of_equal_lengths_is_the_lowest() -> None:
    assert highest_density_interval([1, 2, 3, 4], mass=0.5) == (1, 2)


@given(counts, st.sampled_from([0.1, 0.5, 0.55, 0.7, 0.9, 0.99]))
def test_highest_density_interval_is_the_shortest_that_holds_the_mass(draws: NDArray[np.float64], mass: float) -> None:
    def share(low: float, high: float) -> float:
        return float(((draws >= low) & (draws <= high)).mean())

    lower, upper = highest_density_interval(draws, mass=mass)
    assert share(lower, upper) >= mass - 1e-9
    lengths = [high - low for low in draws for high in draws if high >= low and share(low, high) >= mass - 1e-9]
    assert upper - lower == min(lengths)


def test_highest_density_interval_holds_whole_shares_exactly() -> None:
    # 0.55 * 100 is 55.000000000000007 in floating point; 55 draws are enough.
    lower, upper = highest_density_interval(np.arange(100.0), mass=0.55)
    assert upper - lower == 54


@pytest.mark.parametrize("mass", [0.0, 1.0, -0.1, 90.0])
def test_levels_outside_zero_and_one_are_refused(mass: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        highest_density_interval([1.0, 2.0], mass=mass)
    with pytest.raises(ValueError, match="between 0 and 1"):
        interval_score([1.0, 2.0], 1.0, mass=mass)
