from dataclasses import replace

import numpy as np
import pytest

from views_dagster.calendar import from_key
from views_dagster.precipitation.bands import EDGES, band_of
from views_dagster.precipitation.box_sums import BoxRain
from views_dagster.precipitation.demo_atmosphere import BOXES, GRID, HEIGHTS, LEVELS, Atmosphere, atmosphere
from views_dagster.precipitation.demo_rain import (
    FINE,
    MEMBERS,
    MOST_MISSING,
    boxed_rain,
    ensemble,
    falling_rain,
    fine_rain,
    instability,
    observed,
    potential,
    vapour,
)
from views_dagster.seeds import seed_for

MONTH = from_key("2023-11")
COLD = 280 - 6.4 * HEIGHTS


@pytest.fixture(scope="module")
def air() -> Atmosphere:
    return atmosphere(1, MONTH)


@pytest.fixture(scope="module")
def rain(air: Atmosphere) -> BoxRain:
    return boxed_rain(air, potential(air), 1, MONTH)


def fallen(humidity: np.ndarray, *, ascent: float = 1.0, upslope: float = 0.0) -> float:
    return float(falling_rain(humidity[None], COLD[None], np.array([ascent]), np.array([upslope]))[0])


def moist(*layers: tuple[float, float], dry: float = 0.4) -> np.ndarray:
    """Saturated between these heights, km."""
    humidity = np.full(len(LEVELS), dry)
    for base, top in layers:
        humidity[(base <= HEIGHTS) & (top > HEIGHTS)] = 1.0
    return humidity


def test_saturation_humidity_at_freezing_point() -> None:
    # 6.112 hPa over water: .622 * 6.112 / (1000 - 6.112).
    np.testing.assert_allclose(vapour(np.array(273.15), np.array(1000.0)), 0.0038250, rtol=1e-4)


def test_deep_saturated_air_that_rises_rains_and_dry_air_does_not() -> None:
    deep = moist((0, 8))
    assert fallen(deep) > 1
    assert fallen(deep, ascent=1.5) > fallen(deep) > fallen(deep, ascent=0.2)
    assert fallen(moist()) == 0


def test_rain_that_falls_into_dry_air_does_not_arrive() -> None:
    assert fallen(moist((3.5, 8))) == 0
    assert fallen(moist((0, 8))) > 0


def test_the_order_of_levels_decides_not_their_mean() -> None:
    cloudy = moist((0, 8))
    low_gap, high_gap = cloudy.copy(), cloudy.copy()
    low_gap[:3], high_gap[-8:-5] = 0.4, 0.4
    np.testing.assert_allclose(low_gap.mean(), high_gap.mean())
    assert fallen(high_gap) > 1.5 * fallen(low_gap)


def test_low_cloud_grows_what_falls_into_it_more_on_a_slope() -> None:
    seeder, feeder = moist((2.3, 8), dry=0.8), moist((0, 1.5), dry=0.8)
    both = np.maximum(seeder, feeder)
    assert fallen(both) > fallen(seeder) + fallen(feeder)
    assert fallen(both, upslope=1.0) > 1.2 * fallen(both)
    assert fallen(both, upslope=1.0) > 2 * fallen(feeder, upslope=1.0)
    assert fallen(both, upslope=-1.0) == fallen(both)


def test_instability_rises_with_warm_moist_low_air_and_cold_middle_levels() -> None:
    humidity = np.full(len(LEVELS), 0.7)
    warm_below, cold_aloft = COLD + 3.0 * (HEIGHTS < 1), COLD - 3.0 * (np.abs(HEIGHTS - 5.5) < 1)
    base = instability(humidity, COLD)
    assert instability(humidity, warm_below) > base + 3
    assert instability(humidity, cold_aloft) > base + 3
    moister = humidity.copy()
    moister[:5] = 0.95
    assert instability(moister, COLD) > base + 2


def test_dry_middle_levels_make_cells_rarer_and_stronger(air: Atmosphere) -> None:
    drier = air.humidity.copy()
    middle = (LEVELS <= 750) & (LEVELS >= 500)
    drier[..., middle] *= 0.6
    wet, dry = potential(air), potential(replace(air, humidity=drier))
    unstable = instability(air.humidity, air.temperature) > 2
    cells = unstable & (wet.rarity < 3.5) & (wet.rarity > 1.2)
    assert np.count_nonzero(cells) > 100
    assert (dry.rarity[cells] > wet.rarity[cells]).all()
    assert (dry.strength[cells] > wet.strength[cells]).all()
    assert (dry.wide <= wet.wide + 1e-12).all()


def test_rain_is_a_function_of_columns_and_seeds_move_only_the_rest(air: Atmosphere, rain: BoxRain) -> None:
    again, other = boxed_rain(air, potential(air), 1, MONTH), boxed_rain(air, potential(air), 2, MONTH)
    np.testing.assert_array_equal(again.fractions, rain.fractions)
    known = np.isfinite(rain.mean) & np.isfinite(other.mean)
    assert not np.array_equal(other.mean[known], rain.mean[known])
    assert np.corrcoef(np.sqrt(other.mean[known]), np.sqrt(rain.mean[known]))[0, 1] > 0.8
    dry = replace(air, humidity=0.5 * air.humidity)
    assert np.nanmean(boxed_rain(dry, potential(dry), 1, MONTH).fractions[..., 0]) > 0.9999


def test_boxes_are_the_share_of_their_pixels_in_each_band(air: Atmosphere, rain: BoxRain) -> None:
    rng = np.random.default_rng(seed_for(1, "rain", MONTH))
    fine = fine_rain(air, potential(air), rng)
    seen = observed(len(fine), rng)
    assert fine.shape == (len(air.times.step), GRID.rows * FINE, GRID.columns * FINE)
    assert fine.min() >= 0
    for box in (0, 7, 34, 92):
        row, column = divmod(box, GRID.columns)
        pixels = np.s_[row * FINE : (row + 1) * FINE, column * FINE : (column + 1) * FINE]
        for time in (3, 9, 20):
            rates = fine[time][pixels][seen[time][pixels]]
            np.testing.assert_allclose(rain.missing[time, box], 1 - rates.size / FINE**2, atol=1e-3)
            if rates.size >= MOST_MISSING * FINE**2 + 1:
                shares = np.bincount(band_of(rates), minlength=len(EDGES) + 1) / rates.size
                # Pixels in the south of a box are larger by some parts in ten thousand.
                np.testing.assert_allclose(rain.fractions[time, box], shares, atol=1e-3)
                np.testing.assert_allclose(rain.mean[time, box], rates.mean(), rtol=1e-2, atol=1e-6)
                np.testing.assert_allclose(rain.highest[time, box], rates.max(), rtol=1e-6)


def test_fractions_are_valid_and_fit_the_mean_and_maximum(rain: BoxRain) -> None:
    known = np.isfinite(rain.mean)
    np.testing.assert_array_equal(known, rain.missing <= MOST_MISSING)
    assert 0.8 < known.mean() < 1
    fractions, mean, highest = rain.fractions[known], rain.mean[known], rain.highest[known]
    assert np.isnan(rain.fractions[~known]).all()
    np.testing.assert_allclose(fractions.sum(axis=1, dtype=np.float64), 1, atol=1e-6)
    assert fractions.min() >= 0
    assert (mean <= highest + 1e-6).all()
    least = fractions @ np.array([0, *EDGES], dtype=np.float32)
    assert (mean >= least - 1e-4).all()
    np.testing.assert_array_equal(fractions[np.arange(len(mean)), band_of(highest)] > 0, True)


def test_far_boxes_are_seldom_seen_and_near_ones_nearly_always(rain: BoxRain) -> None:
    by_box = (rain.missing > MOST_MISSING).mean(axis=0).reshape(GRID.rows, GRID.columns)
    assert by_box[-1, -1] > 0.9
    assert by_box[2, 2] < 0.2


def test_rain_is_correlated_across_boxes(rain: BoxRain) -> None:
    wet = np.nan_to_num(np.sqrt(rain.mean)).reshape(-1, GRID.rows, GRID.columns)[:, :8, :8]
    near = np.corrcoef(wet[:, :, 1:].ravel(), wet[:, :, :-1].ravel())[0, 1]
    far = np.corrcoef(wet[:, :, 6:].ravel(), wet[:, :, :-6].ravel())[0, 1]
    assert near > 0.7
    assert near > far + 0.2


def test_members_are_finite_and_share_their_errors(air: Atmosphere) -> None:
    members = ensemble(air, potential(air), 1, MONTH)
    assert members.shape == (len(air.times.step), BOXES, MEMBERS)
    assert members.dtype == np.float32
    assert np.isfinite(members).all()
    assert members.min() == 0
    np.testing.assert_array_equal(ensemble(air, potential(air), 1, MONTH), members)
    assert not np.array_equal(ensemble(air, potential(air), 2, MONTH), members)
    assert not np.array_equal(members[..., 0], members[..., 1])
    pairs = np.corrcoef(np.sqrt(members.reshape(-1, MEMBERS)).T)
    assert pairs.min() > 0.8
