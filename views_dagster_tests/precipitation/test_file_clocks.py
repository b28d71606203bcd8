"""Times as files store them: rounded floats, a Julian calendar, and bounds that say which instant they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from views_dagster.errors import SourceError
from views_dagster.precipitation.file_clocks import bounds_of, dates

HOURS = np.datetime64("2001-01-01T00", "ns") + np.arange(744) * np.timedelta64(1, "h")


def stored(folder: Path, time: np.ndarray[Any, Any] = HOURS, **encoding: Any) -> xr.Dataset:
    """The times after having been written to a file and read again."""
    xr.Dataset(coords={"time": time}).to_netcdf(folder / "times.nc", encoding={"time": encoding})
    return xr.open_dataset(folder / "times.nc")


@pytest.mark.parametrize("epoch", ["days since 1970-01-01", "days since 2001-01-01", "seconds since 1970-01-01"])
def test_times_rounded_to_float32_are_the_hours_they_were(tmp_path: Path, epoch: str) -> None:
    with stored(tmp_path, units=epoch, dtype="float32") as data:
        assert (data["time"].values != HOURS).any()
        assert np.array_equal(dates(data["time"], "rain"), HOURS)


def test_half_hours_stay_half_hours(tmp_path: Path) -> None:
    middles = HOURS + np.timedelta64(30, "m")
    with stored(tmp_path, middles, units="days since 1970-01-01", dtype="float32") as data:
        assert np.array_equal(dates(data["time"], "rain"), middles)


def test_times_on_no_minute_stay_as_they_are(tmp_path: Path) -> None:
    odd = HOURS + np.timedelta64(17_500, "ms")
    with stored(tmp_path, odd, units="seconds since 1970-01-01", dtype="float64") as data:
        assert np.array_equal(dates(data["time"], "rain"), odd)


def test_numbers_too_coarse_for_hours_are_refused(tmp_path: Path) -> None:
    with (
        stored(tmp_path, units="seconds since 0001-01-01", dtype="float32") as data,
        pytest.raises(SourceError, match=r"rain: time is stored as float32 in .seconds since 0001.*by 68 minutes only"),
    ):
        dates(data["time"], "rain")


def with_calendar(folder: Path, calendar: str, epoch: str) -> xr.Dataset:
    seconds = np.arange(0, 86400 * 2, 1800)
    raw = xr.Dataset(coords={"time": ("time", seconds, {"units": f"seconds since {epoch}", "calendar": calendar})})
    raw.to_netcdf(folder / "times.nc")
    return xr.open_dataset(folder / "times.nc")


def test_a_modern_julian_calendar_has_the_gregorian_dates(tmp_path: Path) -> None:
    with with_calendar(tmp_path, "julian", "2004-02-28 00:00:00 UTC") as data:
        expected = np.datetime64("2004-02-28T00", "us") + np.arange(96) * np.timedelta64(30, "m")
        assert np.array_equal(dates(data["time"], "rain"), expected)


@pytest.mark.parametrize(("calendar", "epoch"), [("julian", "1800-01-01"), ("noleap", "2004-01-01")])
def test_calendars_with_other_dates_are_refused(tmp_path: Path, calendar: str, epoch: str) -> None:
    with with_calendar(tmp_path, calendar, epoch) as data, pytest.raises(SourceError, match="Gregorian calendar"):
        dates(data["time"], "rain")


def test_bounds_are_the_intervals_of_the_times(tmp_path: Path) -> None:
    ends = HOURS + np.timedelta64(1, "h")
    data = xr.Dataset({"time_bnds": (("time", "nv"), np.stack([HOURS, ends], axis=1))}, coords={"time": HOURS})
    assert bounds_of(data, "time") is None
    data["time"].attrs["bounds"] = "time_bnds"
    data["time"].encoding["units"] = "hours since 1990-01-01"
    data.to_netcdf(tmp_path / "times.nc")
    with xr.open_dataset(tmp_path / "times.nc") as read:
        found = bounds_of(read, "time")
    assert found is not None
    assert np.array_equal(found[0], HOURS)
    assert np.array_equal(found[1], ends)
