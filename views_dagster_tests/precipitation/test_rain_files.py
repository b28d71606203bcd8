from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xarray as xr
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from views_dagster.calendar import from_key
from views_dagster.errors import SourceError
from views_dagster.precipitation import rain_fields
from views_dagster.precipitation.rain_files import MemberFiles, RainFiles
from views_dagster.sources.base import RawMonths
from views_dagster_tests.precipitation.weather_worlds import daily_rain, settings

JANUARY, FEBRUARY = from_key("2001-01"), from_key("2001-02")
DAILY = """
kind: rain_files
first_month: 2001-01
interval: 1d
stamped: start
rain: {files: FOLDER/precip.%Y.nc, variable: precip}
"""
HOURLY_GRID = {"latitude": 0.0, "longitude": 0.0, "step": 1.0, "rows": 1, "columns": 2}


def read_daily(folder: Path, first: int = JANUARY, last: int = JANUARY, **changes: Any) -> RawMonths:
    return RainFiles.model_validate(settings(DAILY, folder) | changes).read(first, last)


def hourly(
    values: NDArray[np.floating[Any]], *, units: str = "mm", start: str = "2001-01-01T01", **more: Any
) -> xr.Dataset:
    """Values of hours, (T, ..., 4, 8), on cells of a quarter of a degree: 16 in each of two boxes."""
    times = np.datetime64(start, "ns") + np.arange(len(values)) * np.timedelta64(1, "h")
    dimensions = ("time", *more, "lat", "lon")
    return xr.Dataset(
        {"rain": (dimensions, values.astype(np.float32), {"units": units})},
        coords={
            "time": times,
            "lat": ("lat", np.arange(-0.375, 0.5, 0.25), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(-0.375, 1.5, 0.25), {"units": "degrees_east"}),
            **more,
        },
    )


def hours(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, 4, 8) rain, half of it none."""
    generator = np.random.default_rng(seed)
    rain = generator.gamma(0.5, 4, (count, 4, 8)) * (generator.random((count, 4, 8)) < 0.5)
    return rain.astype(np.float32)


def read_hourly(folder: Path, data: xr.Dataset | None = None, **changes: Any) -> RawMonths:
    if data is not None:
        data.to_netcdf(folder / "rain.nc")
    files = {"files": str(folder / "rain.nc"), "variable": "rain"}
    written = {"grid": HOURLY_GRID, "interval": "1h", "rain": files, "tolerance": 0.01} | changes
    return RainFiles.model_validate(written).read(JANUARY, JANUARY)


def test_gridded_daily_rain_is_read_by_yaml_alone(tmp_path: Path) -> None:
    daily_rain("2000-12-28", "2001-02-28").to_netcdf(tmp_path / "precip.2001.nc")
    rows = read_daily(tmp_path, JANUARY, FEBRUARY)
    frame = rows.frame
    assert dict(frame.schema) == {
        "month_id": pl.Int32,
        "valid_time": pl.Datetime("us"),
        "box_id": pl.Int64,
        "fractions": pl.List(pl.Float32),
        "rain_mean": pl.Float32,
        "rain_max": pl.Float32,
        "missing": pl.Float32,
    }
    assert frame.height == 59 * 15
    assert rows.repairs == {
        "times_missing": 0,
        "intervals_incomplete": 0,
        "values_of_older_runs": 0,
        "negatives_set_to_0": 0,
    }
    # January 3rd has 3 mm/h east of Greenwich and ends at 00 UTC of the 4th; the box at 0 E has half of it.
    day = frame.filter(pl.col("valid_time") == pl.datetime(2001, 1, 4))
    assert day["box_id"].to_list() == list(range(15))
    assert day["rain_mean"].to_list()[5:10] == pytest.approx([0, 0, 1.5, 3, 3])
    assert day["rain_max"].to_list()[5:10] == [0, 0, 3, 3, 3]
    assert day["fractions"].to_list()[5:8] == [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], pytest.approx([0.5, 0, 0.5, 0, 0])]
    # January 31st is of January, though its valid time is February 1st.
    last = frame.filter(pl.col("month_id") == JANUARY)["valid_time"].max()
    assert last == datetime(2001, 2, 1)


@pytest.mark.parametrize(("last_day", "month"), [("2001-02-27", JANUARY), ("2001-02-28", FEBRUARY)])
def test_the_newest_whole_month(tmp_path: Path, last_day: str, month: int) -> None:
    daily_rain("2000-12-28", last_day).to_netcdf(tmp_path / "precip.2001.nc")
    source = RainFiles.model_validate(settings(DAILY, tmp_path))
    assert source.latest_month() == month
    assert source.begins == JANUARY


def test_an_all_dry_month_is_a_month(tmp_path: Path) -> None:
    frame = read_hourly(tmp_path, hourly(np.zeros((744, 4, 8)))).frame
    assert frame.height == 744 * 2
    assert (np.stack(frame["fractions"].to_list()) == [1, 0, 0, 0, 0]).all()
    assert frame["rain_max"].max() == 0


def test_rates_and_amounts_in_any_units_are_the_same_rain(tmp_path: Path) -> None:
    values = hours(48)
    expected = read_hourly(tmp_path, hourly(values, units="mm/hr")).frame
    assert expected["rain_mean"][0] == pytest.approx(float(values[0, :, :4].mean()), rel=1e-3)
    for units, factor in (("mm", 1), ("m", 1e-3), ("kg m**-2", 1), ("kg m-2 s-1", 1 / 3600), ("mm/day", 24)):
        frame = read_hourly(tmp_path, hourly(values * factor, units=units)).frame
        assert frame["rain_mean"].to_numpy() == pytest.approx(expected["rain_mean"].to_numpy(), rel=1e-5)
    with pytest.raises(SourceError, match="units 'K' are not known"):
        read_hourly(tmp_path, hourly(values, units="K"))


def test_accumulations_of_runs_are_differenced_and_the_newest_run_is_taken(tmp_path: Path) -> None:
    """Runs at 00 and 12 UTC of 18 hours each: the hours 13 to 18 of the first are also in the second."""
    first, second = hours(18, seed=1), hours(18, seed=2)
    steps = np.arange(1, 19)
    data = (
        hourly(np.zeros((2, 4, 8)))
        .drop_vars(("rain", "time"))
        .assign_coords(
            time=np.array(["2001-01-01T00", "2001-01-01T12"], dtype="datetime64[ns]"),
            step=("step", steps.astype(float), {"units": "hours"}),
        )
    )
    total = np.stack([first.cumsum(axis=0), second.cumsum(axis=0)])
    data["rain"] = (("time", "step", "lat", "lon"), total, {"units": "mm"})
    rows = read_hourly(tmp_path, data, accumulated=True)
    whole = read_hourly(tmp_path, hourly(np.concatenate([first[:12], second])))
    assert rows.repairs["values_of_older_runs"] == 6
    assert rows.frame.select("valid_time", "box_id").equals(whole.frame.select("valid_time", "box_id"))
    assert rows.frame["rain_mean"].to_numpy() == pytest.approx(whole.frame["rain_mean"].to_numpy(), abs=1e-4)
    # Over three hours: 18 hours in 6 intervals, of which the second run replaces two.
    longer = read_hourly(tmp_path, data, accumulated=True, interval="3h").frame
    assert longer["valid_time"].n_unique() == 10
    assert longer["rain_mean"][0] == pytest.approx(float(first[:3, :, :4].mean()), rel=1e-3)
    # A step that is missing takes the hours on both sides of it with it.
    gap = read_hourly(tmp_path, data.isel(step=steps != 3), accumulated=True)
    assert gap.repairs["intervals_incomplete"] == 2
    # Hours 15 and 16, which the second run lacks, are in the first.
    assert gap.frame["valid_time"].n_unique() == 30 - 2
    with pytest.raises(SourceError, match=r"without the start of its forecast.*since: day"):
        read_hourly(tmp_path, hourly(first), accumulated=True)


def test_accumulations_since_midnight(tmp_path: Path) -> None:
    rain = hours(72)
    total = rain.reshape(3, 24, 4, 8).cumsum(axis=1).reshape(72, 4, 8)
    rows = read_hourly(tmp_path, hourly(total), accumulated=True, since="day")
    expected = read_hourly(tmp_path, hourly(rain)).frame
    assert rows.frame["rain_mean"].to_numpy() == pytest.approx(expected["rain_mean"].to_numpy(), abs=1e-3)


@pytest.mark.parametrize("times", [96, 5])
def test_a_count_that_goes_on_over_midnight_is_not_since_midnight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(rain_fields, "BLOCK_BYTES", times * 4 * 8 * 4)
    rain = hours(96)
    says = (
        r"rain\.nc: variable rain: accumulated rain does not begin anew at 00 UTC.*at none of 3 changes of day in 2001"
    )
    with pytest.raises(SourceError, match=says):
        read_hourly(tmp_path, hourly(rain.cumsum(axis=0)), accumulated=True, since="day")
    # Also where files begin within a day, and after days without rain.
    rain[:24] = 0
    data = hourly(rain.cumsum(axis=0)).isel(time=slice(15, None))
    with pytest.raises(SourceError, match="at none of 2 changes of day in 2001-01"):
        read_hourly(tmp_path, data, accumulated=True, since="day")
    assert read_hourly(tmp_path, hourly(np.zeros((96, 4, 8))), accumulated=True, since="day").frame.height == 96 * 2


def test_a_count_that_begins_anew_may_grow_over_midnight(tmp_path: Path) -> None:
    rain = np.zeros((72, 4, 8), np.float32)
    # It begins to rain before the first midnight, more each hour; on the next day it is dry from 06 UTC on.
    rain[22:30] = np.arange(1, 9)[:, None, None]
    total = rain.reshape(3, 24, 4, 8).cumsum(axis=1).reshape(72, 4, 8)
    frame = read_hourly(tmp_path, hourly(total), accumulated=True, since="day").frame
    assert frame["rain_mean"].max() == 8
    first = read_hourly(tmp_path, hourly(total[:36]), accumulated=True, since="day").frame
    assert first.equals(frame.head(first.height))


def test_means_over_windows(tmp_path: Path) -> None:
    rain = hours(27)
    rows = read_hourly(tmp_path, hourly(rain), window="6h")
    assert rows.frame["valid_time"].unique().sort().dt.hour().to_list() == [6, 12, 18, 0]
    assert rows.repairs["intervals_incomplete"] == 1
    assert rows.repairs["times_missing"] == 120
    mean = rain[:6].mean(axis=0)[:, :4]
    box = rows.frame.row(0, named=True)
    assert box["rain_mean"] == pytest.approx(float(mean.mean()), rel=1e-3)
    assert box["rain_max"] == pytest.approx(float(mean.max()), rel=1e-6)


def test_small_negatives_are_set_to_zero_and_counted(tmp_path: Path) -> None:
    rain = hours(24)
    rain[2, 0, 0] = rain[3, 1, 1] = -0.005
    rows = read_hourly(tmp_path, hourly(rain))
    assert rows.repairs["negatives_set_to_0"] == 2
    rain[5, 1, 2] = -0.02
    with pytest.raises(
        SourceError,
        match=r"rain\.nc: variable rain at 2001-01-01T06:00:00\.000000, latitude -0\.125, longitude 0\.125: negative "
        r"rain of -0\.02 mm/h, 0\.01 is tolerated",
    ):
        read_hourly(tmp_path, hourly(rain))


def test_absurd_rain_is_an_error_that_names_time_and_place(tmp_path: Path) -> None:
    rain = hours(24)
    rain[5, 3, 7] = 501
    with pytest.raises(SourceError, match=r"2001-01-01T06.*latitude 0\.375, longitude 1\.375: 501 mm/h of rain"):
        read_hourly(tmp_path, hourly(rain))
    assert read_hourly(tmp_path, highest=600).frame["rain_max"].max() == 501


def test_boxes_with_too_many_gaps_have_no_fractions(tmp_path: Path) -> None:
    rain = hours(24)
    rain[0, :2, :4], rain[1, :3, :4] = np.nan, np.nan
    frame = read_hourly(tmp_path, hourly(rain)).frame
    assert frame["missing"].to_list()[:4] == pytest.approx([0.5, 0, 0.75, 0], abs=2e-3)
    for name in ("fractions", "rain_mean", "rain_max"):
        assert frame[name].is_null().to_list()[:4] == [False, False, True, False]
    assert read_hourly(tmp_path, max_missing=0.8).frame["fractions"].null_count() == 0


def test_a_time_that_comes_twice_or_too_soon(tmp_path: Path) -> None:
    data = hourly(hours(24))
    with pytest.raises(SourceError, match="rain has 24 valid times twice"):
        read_hourly(tmp_path, xr.concat([data, data], "time"))
    with pytest.raises(SourceError, match="values come every 1 hours, and `interval` says that each covers 3"):
        read_hourly(tmp_path, data, interval="3h")


def test_bounds_that_say_another_instant_are_an_error(tmp_path: Path) -> None:
    data = hourly(hours(48), start="2001-01-01T00")
    time = data["time"].values
    data["bounds"] = (("time", "side"), np.stack([time, time + np.timedelta64(1, "h")], axis=1))
    data["time"].attrs["bounds"] = "bounds"
    data["time"].encoding["units"] = "hours since 1990-01-01"
    with pytest.raises(
        SourceError, match=r"a time is the start of the 1 hours that its value covers.*`stamped: start`"
    ):
        read_hourly(tmp_path, data)
    first = read_hourly(tmp_path, stamped="start").frame["valid_time"].min()
    assert first == datetime(2001, 1, 1, 1)
    # Bounds of other intervals, such as those of the time since a forecast began, say nothing about the hour.
    data["bounds"] = data["bounds"].copy(data=np.stack([time - np.timedelta64(5, "h"), time], axis=1))
    assert read_hourly(tmp_path, data, stamped="start").frame["valid_time"].min() == first


@pytest.mark.parametrize("records", [False, True])
def test_a_file_that_ends_early_is_not_a_dry_month(tmp_path: Path, records: bool) -> None:
    data = hourly(hours(744) + 1)[["time", "lat", "lon", "rain"]]
    data.to_netcdf(
        tmp_path / "rain.nc", format="NETCDF3_64BIT", engine="netcdf4", unlimited_dims=["time"] if records else []
    )
    assert read_hourly(tmp_path).frame["rain_mean"].min() > 0  # type: ignore[operator]
    whole = (tmp_path / "rain.nc").read_bytes()
    (tmp_path / "rain.nc").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(SourceError, match=r"rain.nc ends at \d+ bytes, before what its header says"):
        read_hourly(tmp_path)


def test_damage_inside_a_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "rain.nc"
    hourly(hours(744)).to_netcdf(path, encoding={"rain": {"chunksizes": (24, 4, 8), "zlib": True}})
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 3000] = bytes(3000)
    path.write_bytes(bytes(damaged))
    with pytest.raises(SourceError, match=r"rain.nc: variable rain cannot be read: .*; fetch the file again"):
        read_hourly(tmp_path)


def test_a_variable_in_a_group(tmp_path: Path) -> None:
    data = hourly(hours(744))
    expected = read_hourly(tmp_path, data).frame
    (tmp_path / "rain.nc").unlink()
    data.to_netcdf(tmp_path / "rain.nc", group="Grid")
    with pytest.raises(SourceError, match="has none and the groups Grid, one of which `group:` may name"):
        read_hourly(tmp_path)
    files = {"files": str(tmp_path / "rain.nc"), "variable": "rain", "group": "Grid"}
    assert read_hourly(tmp_path, rain=files).frame.equals(expected)


def test_hours_that_are_missing_are_counted(tmp_path: Path) -> None:
    data = hourly(np.zeros((744, 4, 8)))
    rows = read_hourly(tmp_path, data.isel(time=np.r_[0:100, 112:744]))
    assert rows.repairs["times_missing"] == 12
    assert rows.frame.height == 732 * 2
    with pytest.raises(SourceError, match="no complete time of variable rain in 2001-02"):
        RainFiles.model_validate(
            {"grid": HOURLY_GRID, "interval": "1h", "rain": {"files": str(tmp_path / "rain.nc"), "variable": "rain"}}
        ).read(JANUARY, FEBRUARY)


def test_cells_larger_than_boxes_have_no_fractions(tmp_path: Path) -> None:
    grid = {"latitude": 0.0, "longitude": 0.0, "step": 0.2, "rows": 2, "columns": 2}
    with pytest.raises(SourceError, match=r"cells of 0\.25 degrees of latitude are larger than the boxes, 0\.2"):
        read_hourly(tmp_path, hourly(hours(24)), grid=grid)


@pytest.mark.parametrize("bytes_at_once", [200, 4000])
@pytest.mark.parametrize("stored", [(1, 4, 8), (24, 2, 4)])
def test_blocks_of_any_size_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_at_once: int, stored: tuple[int, int, int]
) -> None:
    rain = hours(48)
    rain[7, :3, :4] = np.nan
    expected = read_hourly(tmp_path, hourly(rain), tolerance=0).frame
    hourly(rain).to_netcdf(tmp_path / "rain.nc", encoding={"rain": {"chunksizes": stored}})
    monkeypatch.setattr(rain_fields, "BLOCK_BYTES", bytes_at_once)
    monkeypatch.setattr(rain_fields, "_FEWEST_ROWS", 1)
    frame = read_hourly(tmp_path).frame
    for name in ("rain_mean", "rain_max", "missing"):
        ours, theirs = (values[name].fill_null(-1).to_numpy() for values in (frame, expected))
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_the_box_of_two_domains_is_that_of_which_more_is_there(tmp_path: Path) -> None:
    rain = hours(24)
    data = hourly(rain)
    data.isel(lon=slice(0, 6)).to_netcdf(tmp_path / "west.nc")
    data.isel(lon=slice(3, 8)).to_netcdf(tmp_path / "east.nc")
    expected = read_hourly(tmp_path, data)
    files = {"files": [str(tmp_path / "west.nc"), str(tmp_path / "east.nc")], "variable": "rain"}
    rows = read_hourly(tmp_path, rain=files)
    assert rows.repairs["boxes_in_two_domains"] == 24
    assert rows.frame["missing"].max() == 0
    assert rows.frame["rain_mean"].to_numpy() == pytest.approx(expected.frame["rain_mean"].to_numpy())


def test_rain_on_a_projected_grid(tmp_path: Path) -> None:
    rain = hours(24)
    data = hourly(rain).rename(lat="y", lon="x")
    north, east = np.meshgrid(data.y.values, data.x.values, indexing="ij")
    data = data.drop_vars(("y", "x")).assign(
        lat=(("y", "x"), north + 0.01 * east, {"standard_name": "latitude"}),
        lon=(("y", "x"), east, {"standard_name": "longitude"}),
    )
    frame = read_hourly(tmp_path, data).frame
    assert frame["rain_mean"][0] == pytest.approx(float(rain[0, :, :4].mean()), rel=1e-5)
    assert frame["rain_max"][1] == rain[0, :, 4:].max()
    assert frame["missing"].max() == 0


def test_the_bands_are_those_of_the_edges(tmp_path: Path) -> None:
    frame = read_hourly(tmp_path, hourly(np.full((24, 4, 8), 1.0)), edges=[0.1, 1.0]).frame
    assert frame["fractions"][0].to_list() == [0, 0, 1]


def read_members(folder: Path, data: xr.Dataset, **changes: Any) -> RawMonths:
    data.to_netcdf(folder / "members.nc")
    files = {"files": str(folder / "members.nc"), "variable": "rain"}
    written = {"kind": "member_files", "grid": HOURLY_GRID, "interval": "1h", "rain": files} | changes
    return MemberFiles.model_validate(written).read(JANUARY, JANUARY)


def test_members_are_box_means(tmp_path: Path) -> None:
    rain = np.stack([hours(24, seed) for seed in range(3)], axis=1)
    rain[4, 1, :3, :4] = np.nan
    rows = read_members(tmp_path, hourly(rain, number=[0, 1, 2]), members=3)
    assert rows.frame.columns == ["month_id", "valid_time", "box_id", "members"]
    assert rows.frame["members"].to_list()[1] == pytest.approx(rain[0, :, :, 4:].mean(axis=(1, 2)).tolist(), rel=1e-3)
    assert rows.frame["members"].is_null().to_list()[8] is True
    assert rows.frame["members"].null_count() == 1
    with pytest.raises(SourceError, match="has 3 members, and `members` says 18"):
        read_members(tmp_path, hourly(rain, number=[0, 1, 2]), members=18)


def test_a_file_without_members_has_one(tmp_path: Path) -> None:
    rain = hours(24)
    rows = read_members(tmp_path, hourly(rain))
    assert rows.frame["members"][0].to_list() == pytest.approx([float(rain[0, :, :4].mean())], rel=1e-3)
    with pytest.raises(SourceError, match=r"dimension draw has length 2; pick one"):
        read_members(tmp_path, hourly(np.stack([rain, rain], axis=1), draw=[0, 1]))
    named = read_members(tmp_path, hourly(np.stack([rain, rain], axis=1), draw=[0, 1]), members=2, dimension="draw")
    assert named.frame["members"].list.len().unique().to_list() == [2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": "90min"}, "not a multiple"),
        ({"accumulated": True, "window": "3h"}, "leave `window` out"),
        ({"accumulated": True, "stamped": "start"}, "stamped with the end"),
        ({"since": "day"}, "for accumulated rain"),
        ({"edges": [0.5, 0.1]}, "ascend"),
        ({"max_missing": 1}, "less than 1"),
        ({"tolerence": 1}, "not permitted"),
    ],
)
def test_settings_that_cannot_be_meant(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        read_hourly(tmp_path, **changes)


def test_real_rain_and_members(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(project)
    written = yaml.safe_load((project / "docs/examples/meteonet.yaml").read_text())
    month = from_key("2018-05")
    rain = RainFiles.model_validate(written["rain"]).read(month, month)
    fractions = np.stack(rain.frame["fractions"].to_list())
    assert np.abs(fractions.sum(axis=1, dtype=np.float64) - 1).max() < 1e-6
    assert rain.frame["valid_time"].n_unique() == 24
    assert rain.repairs["negatives_set_to_0"] > 0
    assert rain.frame["rain_max"].max() == pytest.approx(18.3, abs=0.1)
    members = MemberFiles.model_validate(written["nwp"]).read(month, month)
    assert members.repairs["boxes_in_two_domains"] == 24
    assert members.frame.height == 24 * (58 * 80 + 53 * 80 - 1)
    both = rain.frame.join(members.frame, on=["valid_time", "box_id"])
    assert both.height == rain.frame.height
    # The coarse model has the rain where the fine one has it, at about the right amount.
    coarse = both["members"].list.first()
    assert np.corrcoef(coarse, both["rain_mean"])[0, 1] > 0.5
    assert 0.5 < coarse.mean() / both["rain_mean"].mean() < 2
