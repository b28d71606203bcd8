import numpy as np
import pytest

from views_dagster.calendar import from_key
from views_dagster.precipitation.demo_atmosphere import (
    BOXES,
    HEIGHTS,
    LEVELS,
    PROFILES,
    SURFACE,
    Atmosphere,
    atmosphere,
    orography,
)
from views_dagster.precipitation.demo_storms import MARGIN, QUIET, SIDE

JANUARY, JULY = from_key("2023-01"), from_key("2023-07")
CLOUD, HUMIDITY, TEMPERATURE, EASTWARD, NORTHWARD = range(len(PROFILES))


@pytest.fixture(scope="module")
def january() -> Atmosphere:
    return atmosphere(1, JANUARY)


@pytest.fixture(scope="module")
def july() -> Atmosphere:
    return atmosphere(1, JULY)


def test_heights_are_those_of_the_standard_atmosphere() -> None:
    of = dict(zip(LEVELS.tolist(), HEIGHTS.tolist(), strict=True))
    assert of[1000.0] == pytest.approx(0.111, abs=0.01)
    assert of[850.0] == pytest.approx(1.457, abs=0.01)
    assert of[500.0] == pytest.approx(5.574, abs=0.02)
    assert (np.diff(HEIGHTS) > 0).all()


def test_a_month_is_made_from_its_seed_alone(january: Atmosphere) -> None:
    again = atmosphere(1, JANUARY)
    np.testing.assert_array_equal(again.profiles, january.profiles)
    np.testing.assert_array_equal(again.surface, january.surface)
    other = atmosphere(2, JANUARY)
    assert other.profiles.shape != january.profiles.shape or not np.allclose(other.profiles, january.profiles)


def test_columns_are_whole_and_plausible(january: Atmosphere, july: Atmosphere) -> None:
    for air in (january, july):
        count = len(air.times.step)
        assert air.profiles.shape == (count, BOXES, len(PROFILES), len(LEVELS))
        assert air.surface.shape == (count, BOXES, len(SURFACE))
        assert air.profiles.dtype == air.surface.dtype == np.float32
        assert np.isfinite(air.profiles).all()
        assert np.isfinite(air.surface).all()
        cloud, humidity = air.profiles[:, :, CLOUD], air.profiles[:, :, HUMIDITY]
        assert cloud.min() == 0
        assert 0.9 < cloud.max() <= 1
        assert humidity.min() >= 1
        assert 95 < humidity.max() <= 105
        assert 200 < air.profiles[:, :, TEMPERATURE].min() < air.profiles[:, :, TEMPERATURE].max() < 320
        assert np.hypot(air.profiles[:, :, EASTWARD], air.profiles[:, :, NORTHWARD]).max() < 90
        assert 850 < air.surface[:, :, 0].min() < air.surface[:, :, 0].max() < 1060


def test_summer_is_warm_and_the_tropopause_is_cold(january: Atmosphere, july: Atmosphere) -> None:
    assert july.surface[:, :, 1].mean() - january.surface[:, :, 1].mean() > 8
    for air in (january, july):
        mean = air.profiles[:, :, TEMPERATURE].mean(axis=(0, 1))
        assert (np.diff(mean[LEVELS >= 300]) < 0).all()
        assert mean[-1] < 225
        # Between a stable and a dry adiabatic atmosphere.
        middle = np.flatnonzero(LEVELS == 500)[0]
        assert 5.5 < (mean[0] - mean[middle]) / (HEIGHTS[middle] - HEIGHTS[0]) < 8.5


def test_ground_is_the_same_always_and_high_ground_is_cold_with_low_pressure(
    january: Atmosphere, july: Atmosphere
) -> None:
    np.testing.assert_array_equal(january.surface[0, :, 2], july.surface[-1, :, 2])
    inner = orography(1)[MARGIN:-MARGIN, MARGIN:-MARGIN].reshape(-1)
    np.testing.assert_allclose(january.surface[0, :, 2], inner, rtol=1e-6)
    assert inner.min() >= 0
    assert inner.max() > 600
    assert not np.array_equal(orography(1), orography(2))
    for which, slope in ((1, -0.0065), (0, -1013 / 8400)):
        found = np.polyfit(january.surface[0, :, 2], january.surface[:, :, which].mean(axis=0), 1)[0]
        assert found == pytest.approx(slope, rel=0.15)


def test_neighbouring_levels_and_boxes_resemble_each_other(january: Atmosphere) -> None:
    humidity = january.profiles[:, :, HUMIDITY].reshape(-1, len(LEVELS))
    similar = np.corrcoef(humidity.T)
    assert np.diag(similar, 1).min() > 0.6
    assert similar[0, -1] < 0.4
    field = humidity[:, 4].reshape(-1, 10, 10)
    assert np.corrcoef(field[:, :, 1:].ravel(), field[:, :, :-1].ravel())[0, 1] > 0.6


def test_storms_are_cloudy(january: Atmosphere) -> None:
    stormy = (january.times.kind != QUIET)[january.times.run]
    cloud = january.profiles[:, :, CLOUD].mean(axis=(1, 2))
    assert cloud[stormy].mean() > 2 * cloud[~stormy].mean()


def test_wind_turns_clockwise_with_height_where_air_rises(january: Atmosphere) -> None:
    assert january.ascent.shape == (len(january.times.step), SIDE, SIDE)
    low, high = np.flatnonzero(LEVELS == 950)[0], np.flatnonzero(LEVELS == 600)[0]
    wind = january.eastward + 1j * january.northward
    turning = -np.angle(wind[..., high] / wind[..., low])
    windy = np.abs(wind[..., low]) > 3
    assert np.corrcoef(turning[windy], january.ascent[windy])[0, 1] > 0.5
