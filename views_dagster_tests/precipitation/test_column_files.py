from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xarray as xr
import yaml
from pydantic import ValidationError

from views_dagster.calendar import from_key
from views_dagster.errors import SourceError
from views_dagster.precipitation.column_files import ColumnFiles
from views_dagster.precipitation.file_variables import FileVariable
from views_dagster.precipitation.rain_files import MemberFiles, RainFiles
from views_dagster.precipitation.weather_files import opened
from views_dagster.sources.base import RawMonths
from views_dagster_tests.precipitation.weather_worlds import (
    LATITUDES,
    LONGITUDES,
    PRESSURES,
    heights,
    profiles,
    settings,
    six_hourly,
    surface,
    temperature,
    write_profiles,
)

JANUARY, FEBRUARY = from_key("2001-01"), from_key("2001-02")

REANALYSIS = """
kind: column_files
first_month: 2001-01
time_step: 6h
level: {dimension: level, unit: hPa}
profiles:
  temperature: {files: FOLDER/air.%Y.nc, variable: air}
surface:
  pressure: {files: FOLDER/sp_*.nc, variable: sp}
static:
  orography: {files: FOLDER/z.nc, variable: z}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two months of a reanalysis: temperature in a file a year, pressure in a file a month."""
    write_profiles(tmp_path / "air.2001.nc", profiles(six_hourly("2001-01-01", "2001-03-01")))
    surface(six_hourly("2001-01-01", "2001-01-31")).to_netcdf(tmp_path / "sp_200101.nc")
    surface(six_hourly("2001-02-01", "2001-03-01")).to_netcdf(tmp_path / "sp_200102.nc")
    heights().to_netcdf(tmp_path / "z.nc")
    return tmp_path


def reader(folder: Path, **changes: Any) -> ColumnFiles:
    return ColumnFiles.model_validate(settings(REANALYSIS, folder) | changes)


def read(folder: Path, first: int = JANUARY, last: int = JANUARY, **changes: Any) -> RawMonths:
    return reader(folder, **changes).read(first, last)


def test_a_reanalysis_is_read_by_yaml_alone(folder: Path) -> None:
    rows = read(folder, JANUARY, FEBRUARY)
    frame = rows.frame
    # January has 124 times: 06 UTC of the 1st to 00 UTC of February 1st.
    assert frame.group_by("month_id").len().sort("month_id").rows() == [(JANUARY, 124 * 15), (FEBRUARY, 112 * 15)]
    assert dict(frame.schema) == {
        "month_id": pl.Int32,
        "valid_time": pl.Datetime("us"),
        "box_id": pl.Int64,
        "latitude": pl.Float32,
        "longitude": pl.Float32,
        "levels": pl.List(pl.Float32),
        "temperature": pl.List(pl.Float32),
        "pressure": pl.Float32,
        "orography": pl.Float32,
    }
    assert frame.select("valid_time", "box_id").equals(
        frame.select("valid_time", "box_id").sort("valid_time", "box_id")
    )
    assert rows.repairs == {"times_missing": 0, "times_incomplete": 0, "values_of_older_runs": 0, "rows_with_gaps": 0}
    # Box 7 is the second row from the south and the third column from the west: 50 N, 0 E.
    row = frame.filter(pl.col("box_id") == 7, pl.col("valid_time") == pl.datetime(2001, 1, 2))
    assert row.select("latitude", "longitude").row(0) == (50, 0)
    assert row["levels"].to_list() == [list(PRESSURES)]
    time = np.datetime64("2001-01-02")
    expected = [temperature(time, level, 50, 0) for level in PRESSURES]
    assert row["temperature"].to_list()[0] == pytest.approx(expected, abs=6e-4)
    assert row["pressure"].item() == pytest.approx(1000.5)
    assert row["orography"].item() == pytest.approx(50)
    # Box 0 lies west of Greenwich: 47.5 N, 5 W, in the file 355 E.
    west = frame.filter(pl.col("box_id") == 0)
    assert west["longitude"][0] == -5
    assert west["pressure"][0] == pytest.approx((100_000 + 47.5 + 355) / 100)


def test_nothing_else_than_the_months_asked_for_is_opened(folder: Path) -> None:
    (folder / "air.1999.nc").write_bytes(b"of another year")
    assert read(folder).frame.height == 124 * 15


def test_the_newest_whole_month_and_the_first(folder: Path) -> None:
    assert reader(folder).latest_month() == FEBRUARY
    assert reader(folder).begins == JANUARY
    assert reader(folder).row_keys == ("month_id", "valid_time", "box_id")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_stores_are_read_like_files(folder: Path, version: int) -> None:
    expected = read(folder).frame
    data = xr.open_dataset(folder / "air.2001.nc").load()
    data["air"].encoding.clear()
    (folder / "air.2001.nc").unlink()
    data.to_zarr(folder / "air.2001.nc", zarr_format=version, consolidated=version == 2)
    assert read(folder).frame.equals(expected)


def test_reversed_levels_and_latitudes_give_the_same_rows(folder: Path) -> None:
    expected = read(folder).frame
    data = profiles(six_hourly("2001-01-01", "2001-03-01")).isel(level=slice(None, None, -1), lat=slice(None, None, -1))
    write_profiles(folder / "air.2001.nc", data.transpose("lat", "time", "lon", "level"))
    assert read(folder).frame.equals(expected)


@pytest.mark.parametrize("more", [PRESSURES[::-1], (700.0, *PRESSURES), (850.0, 500.0, 1000.0)])
def test_each_file_may_have_its_own_order_of_levels(folder: Path, more: tuple[float, ...]) -> None:
    expected = read(folder, JANUARY, FEBRUARY).frame
    write_profiles(folder / "air.2001.nc", profiles(six_hourly("2001-01-01", "2001-01-20")))
    write_profiles(folder / "air.2001b.nc", profiles(six_hourly("2001-01-21", "2001-03-01"), more))
    files = {"temperature": {"files": str(folder / "air.*.nc"), "variable": "air"}}
    level = {"dimension": "level", "unit": "hPa", "values": PRESSURES}
    assert read(folder, JANUARY, FEBRUARY, profiles=files, level=level).frame.equals(expected)


def test_levels_in_pascal_are_the_same_levels(folder: Path) -> None:
    data = profiles(six_hourly("2001-01-01", "2001-03-01"))
    data = data.assign_coords(level=("level", data.level.values * 100, {"units": "Pa"}))
    write_profiles(folder / "air.2001.nc", data)
    assert read(folder).frame["levels"][0].to_list() == list(PRESSURES)
    with pytest.raises(SourceError, match="is in Pa, and `level` says m"):
        read(folder, level={"dimension": "level", "unit": "m"})


def test_some_of_the_levels(folder: Path) -> None:
    frame = read(folder, level={"dimension": "level", "unit": "hPa", "values": [500, 850]}).frame
    assert frame["levels"][0].to_list() == [850, 500]
    with pytest.raises(
        SourceError, match=r"air\.2001\.nc: variable air lacks the levels 700 hPa; it has 1000, 850, 500"
    ):
        read(folder, level={"dimension": "level", "unit": "hPa", "values": [500, 700]})


def test_a_level_missing_in_one_file_is_an_error(folder: Path) -> None:
    times = six_hourly("2001-01-01", "2001-03-01")
    write_profiles(folder / "air.2001.nc", profiles(times[:100]))
    write_profiles(folder / "air.more.2001.nc", profiles(times[100:], (1000.0, 500.0)))
    with pytest.raises(
        SourceError, match=r"air\.more\.2001\.nc: levels of air \(hPa\) are not those of .*it lacks 850;"
    ):
        read(folder, profiles={"temperature": {"files": f"{folder}/air*.nc", "variable": "air"}})


def test_times_that_are_missing_are_counted_and_a_month_without_any_is_an_error(folder: Path) -> None:
    times = six_hourly("2001-01-01", "2001-03-01")
    half_a_day = (times >= np.datetime64("2001-01-10")) & (times < np.datetime64("2001-01-10T12"))
    write_profiles(folder / "air.2001.nc", profiles(times[~half_a_day]))
    rows = read(folder)
    assert rows.frame.height == 122 * 15
    assert rows.repairs["times_missing"] == 2
    assert rows.repairs["times_incomplete"] == 2  # pressure has them
    write_profiles(folder / "air.2001.nc", profiles(times[times < np.datetime64("2001-01-31")]))
    with pytest.raises(SourceError, match="no complete time of temperature in 2001-02"):
        read(folder, JANUARY, FEBRUARY)


def test_a_time_that_comes_twice_is_an_error_that_names_the_files(folder: Path) -> None:
    surface(six_hourly("2001-01-31", "2001-02-02")).to_netcdf(folder / "sp_again.nc")
    with pytest.raises(SourceError, match=r"sp has 12 valid times twice.*sp_2001.*and .*sp_again"):
        read(folder)


def test_rows_with_gaps_are_dropped_or_kept(folder: Path) -> None:
    data = profiles(six_hourly("2001-01-01", "2001-03-01"))
    data["air"][4, 0, 4, 0] = np.nan  # 50 N, 0 E at 1000 hPa
    data["air"][5, :, 4, 0] = np.nan
    write_profiles(folder / "air.2001.nc", data)
    dropped = read(folder)
    assert dropped.repairs["rows_with_gaps"] == 2
    assert dropped.frame.height == 124 * 15 - 2
    kept = read(folder, gaps="keep")
    assert kept.repairs["rows_with_gaps"] == 1
    row = kept.frame.filter(pl.col("box_id") == 7, pl.col("valid_time") == pl.datetime(2001, 1, 2))
    assert np.isnan(row["temperature"].to_list()[0]).tolist() == [True, False, False]


def test_a_month_of_gaps_only_is_an_error(folder: Path) -> None:
    data = profiles(six_hourly("2001-01-01", "2001-03-01"))
    data["air"][:, 0] = np.nan
    write_profiles(folder / "air.2001.nc", data)
    with pytest.raises(SourceError, match=r"all 1860 columns of 2001-01 have a missing value: .* in 1860.*gaps: keep"):
        read(folder)


def test_finer_times_are_thinned_or_averaged(folder: Path) -> None:
    thin = read(folder, time_step="1d").frame
    assert thin.height == 31 * 15
    mean = read(folder, time_step="24h", average=True).frame
    assert mean.height == 31 * 15
    row = mean.filter(pl.col("box_id") == 7, pl.col("valid_time") == pl.datetime(2001, 1, 2))
    # Of 06, 12, 18 and 24 UTC of January 1st.
    expected = temperature(np.datetime64("2001-01-01T15"), 850, 50, 0)
    assert row["temperature"].to_list()[0][1] == pytest.approx(expected, abs=6e-4)
    stamped = read(folder, time_step="24h", average=True, stamped="start").frame
    row = stamped.filter(pl.col("box_id") == 7, pl.col("valid_time") == pl.datetime(2001, 1, 2))
    expected = temperature(np.datetime64("2001-01-01T09"), 850, 50, 0)
    assert row["temperature"].to_list()[0][1] == pytest.approx(expected, abs=6e-4)


def test_a_mean_of_fewer_values_than_others_is_left_out(folder: Path) -> None:
    times = six_hourly("2001-01-01", "2001-03-01")
    write_profiles(folder / "air.2001.nc", profiles(times[times != np.datetime64("2001-01-10T12")]))
    rows = read(folder, time_step="24h", average=True)
    assert rows.repairs["times_missing"] == 1
    assert rows.frame.filter(pl.col("valid_time") == pl.datetime(2001, 1, 11)).is_empty()


def test_a_later_month_with_other_times_changes_no_mean_of_an_earlier_one(folder: Path) -> None:
    daily: dict[str, Any] = {"time_step": "1d", "average": True, "stamped": "start", "surface": {}}
    expected = read(folder, **daily).frame
    three_hourly = np.arange("2001-02-01", "2001-03-01", np.timedelta64(3, "h"), dtype="datetime64[ns]")
    january = six_hourly("2001-01-01", "2001-01-31")
    data = profiles(np.concatenate([january[january < three_hourly[0]], three_hourly]))
    write_profiles(folder / "air.2001.nc", data)
    assert read(folder, **daily).frame.equals(expected)
    both = read(folder, JANUARY, FEBRUARY, **daily).frame
    assert both.filter(pl.col("month_id") == JANUARY).equals(expected)
    # The mean of 00, 03, ..., 21 UTC lies 10.5 hours after midnight, and an hour is a thousandth of a kelvin.
    first = both.filter(pl.col("month_id") == FEBRUARY)["temperature"].list.first()[0]
    assert first == pytest.approx(temperature(three_hourly[:1], 1000, 47.5, 355)[0] + 0.0105, abs=1e-3)


def test_daily_means_stamped_with_their_start_belong_to_the_day_that_ends(folder: Path) -> None:
    times = six_hourly("2001-01-01", "2001-03-01")[::4]
    write_profiles(folder / "air.2001.nc", profiles(times))
    frame = read(folder, time_step="24h", stamped="start", surface={}).frame
    row = frame.filter(pl.col("box_id") == 7, pl.col("valid_time") == pl.datetime(2001, 1, 2))
    assert row["temperature"].to_list()[0][1] == pytest.approx(temperature(times[0], 850, 50, 0), abs=6e-4)
    assert frame["valid_time"].n_unique() == 31


def test_of_several_runs_the_newest_is_taken(folder: Path) -> None:
    """Forecasts of 12 hours every 6 hours, with a time and a step."""
    runs = six_hourly("2001-01-01", "2001-03-01")
    steps = np.array([6.0, 12.0])
    values = np.stack([profiles(runs)["air"].values + step for step in steps], axis=1)
    data = profiles(runs).drop_vars("air").assign_coords(step=("step", steps, {"units": "hours"}))
    data["air"] = (("time", "step", "level", "lat", "lon"), values, {"units": "K"})
    data.to_netcdf(folder / "air.2001.nc")
    rows = read(folder)
    row = rows.frame.filter(pl.col("box_id") == 7, pl.col("valid_time") == pl.datetime(2001, 1, 2))
    expected = temperature(np.datetime64("2001-01-01T18"), 850, 50, 0) + 6
    assert row["temperature"].to_list()[0][1] == pytest.approx(expected, abs=1e-3)
    assert rows.repairs["values_of_older_runs"] == 123  # but for 06 UTC of January 1st, which has one run


def test_two_domains_fill_one_lattice_and_the_first_wins_where_both_are(folder: Path) -> None:
    whole = surface(six_hourly("2001-01-01", "2001-03-01"))
    west = whole.sel(longitude=[355, 357.5, 0])
    east = whole.sel(longitude=slice(0, 20)) + 100
    east["sp"].attrs["units"] = "Pa"
    west.to_netcdf(folder / "west.nc")
    east.to_netcdf(folder / "east.nc")
    expected = read(folder).frame
    domains = {"files": [f"{folder}/west.nc", f"{folder}/east.nc"], "variable": "sp"}
    frame = read(folder, surface={"pressure": domains}).frame
    difference = (frame["pressure"] - expected["pressure"]).to_numpy().reshape(124, 3, 5)
    assert difference[..., :3] == pytest.approx(0)
    assert difference[..., 3:] == pytest.approx(1, abs=1e-3)


def test_moved_files_lie_on_the_lattice(folder: Path) -> None:
    data = surface(six_hourly("2001-01-01", "2001-03-01"))
    data.assign_coords(latitude=data.latitude + 1.0, longitude=data.longitude - 0.5).to_netcdf(folder / "moved.nc")
    with pytest.raises(
        SourceError, match=r"moved\.nc: .*latitudes are not those of the grid: expected 47\.5, 50, 52\.5"
    ):
        read(folder, surface={"pressure": {"files": f"{folder}/moved.nc", "variable": "sp"}})
    files = {"files": f"{folder}/moved.nc", "latitude": -1.0, "longitude": 0.5}
    frame = read(folder, surface={"pressure": {"files": files, "variable": "sp"}}).frame
    assert frame.equals(read(folder).frame)


def test_a_grid_that_changed_between_files_is_an_error(folder: Path) -> None:
    data = surface(six_hourly("2001-02-01", "2001-03-01")).isel(latitude=slice(1, None))
    data.to_netcdf(folder / "sp_200102.nc")
    with pytest.raises(SourceError, match=r"sp_200102\.nc: the grid changed: .*7x144 points.*found 6x144 points"):
        read(folder)


def test_a_finer_or_coarser_grid_is_not_the_lattice(folder: Path) -> None:
    with pytest.raises(SourceError, match="latitudes are not those of the grid"):
        read(folder, grid={"latitude": 47.5, "longitude": -5.0, "step": 5.0, "rows": 2, "columns": 3})
    with pytest.raises(SourceError, match="latitudes are not those of the grid"):
        read(folder, grid={"latitude": 47.5, "longitude": -5.0, "step": 1.25, "rows": 5, "columns": 5})
    with pytest.raises(SourceError, match="has none of the grid's latitudes"):
        read(folder, grid={"latitude": 10, "longitude": -5.0, "step": 2.5, "rows": 2, "columns": 3})


def test_units_are_never_guessed(folder: Path) -> None:
    data = surface(six_hourly("2001-01-01", "2001-03-01"))
    del data["sp"].attrs["units"]
    data.to_netcdf(folder / "sp_200101.nc")
    (folder / "sp_200102.nc").unlink()
    variable = {"files": f"{folder}/sp_*.nc", "variable": "sp"}
    with pytest.raises(SourceError, match=r"sp_200101\.nc: variable sp has no units attribute; .*`units:`"):
        read(folder)
    assert read(folder, surface={"pressure": variable | {"units": "hPa"}}).frame["pressure"][0] > 1e5
    data["sp"].attrs["units"] = "furlong"
    data.to_netcdf(folder / "sp_200101.nc")
    with pytest.raises(SourceError, match="units 'furlong' are not known"):
        read(folder)


def test_further_dimensions_must_be_picked(folder: Path) -> None:
    variable = {"files": f"{folder}/air.%Y.nc", "variable": "air"}
    with pytest.raises(SourceError, match=r"dimension level has length 3; pick one with `select: \{level: \.\.\.\}`"):
        read(folder, surface={"t850": variable})
    frame = read(folder, surface={"t850": variable | {"select": {"level": 850}}}).frame
    assert frame["t850"].to_list() == frame["temperature"].list.get(1).to_list()
    with pytest.raises(SourceError, match="dimension level has no 700"):
        read(folder, surface={"t700": variable | {"select": {"level": 700}}})


def test_a_value_that_means_missing_can_be_stated(folder: Path) -> None:
    data = surface(six_hourly("2001-01-01", "2001-03-01"))
    data["sp"] = data["sp"].copy(data=data["sp"].values.copy())
    data["sp"][4, 4, 0] = -9999
    data.to_netcdf(folder / "sp.nc")
    variable = {"files": f"{folder}/sp.nc", "variable": "sp", "missing_value": -9999}
    assert read(folder, surface={"pressure": variable}).repairs["rows_with_gaps"] == 1


def test_files_that_are_not_there_or_damaged(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"no file matches .*/air\.%Y\.nc for 2005-06"):
        read(folder, from_key("2005-06"), from_key("2005-06"))
    with pytest.raises(SourceError, match=r"z\.nc has no variable height; it has z"):
        read(folder, static={"orography": {"files": f"{folder}/z.nc", "variable": "height"}})
    (folder / "z.nc").write_bytes(b"<html>not found</html>")
    with pytest.raises(SourceError, match=r"z\.nc is neither NetCDF nor GRIB"):
        read(folder)
    whole = (folder / "air.2001.nc").read_bytes()
    (folder / "air.2001.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"air\.2001\.nc cannot be read as netcdf4"):
        read(folder)


def test_other_calendars_are_refused(folder: Path) -> None:
    data = xr.Dataset(
        {"sp": (("time", "lat", "lon"), np.ones((2, len(LATITUDES), len(LONGITUDES))), {"units": "Pa"})},
        coords={
            "time": ("time", [0, 6], {"units": "hours since 2001-01-01", "calendar": "360_day"}),
            "lat": LATITUDES,
            "lon": LONGITUDES,
        },
    )
    data.to_netcdf(folder / "sp_200101.nc")
    with pytest.raises(SourceError, match="dates of the Gregorian calendar"):
        read(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surface": {"temperature": {"files": "a.nc", "variable": "t"}}}, "name of two columns"),
        ({"surface": {"levels": {"files": "a.nc", "variable": "t"}}}, "name of two columns"),
        ({"profiles": {}}, "at least 1"),
        ({"time_step": "six hours"}, "not a length of time"),
        ({"level": {"dimension": "level", "unit": "hPa", "values": [85000, 50000]}}, "hPa"),
        ({"profiles": {"t": {"files": [], "variable": "t"}}}, "name at least one file"),
        ({"first_month": "2001"}, "YYYY-MM"),
    ],
)
def test_settings_that_cannot_be_meant(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        reader(tmp_path, **changes)


def test_real_columns(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(project)
    written = yaml.safe_load((project / "docs/examples/meteonet.yaml").read_text())
    before = sorted(path.name for path in (shared_data / "precipitation/meteonet").iterdir())
    rows = ColumnFiles.model_validate(written["atmosphere"]).read(from_key("2018-05"), from_key("2018-05"))
    # 16 of 24 hours have all levels; 58 x 80 and 53 x 80 points share one box.
    assert rows.frame.height == 16 * (58 * 80 + 53 * 80 - 1)
    assert rows.repairs == {
        "times_missing": 744 - 16,
        "times_incomplete": 8,
        "values_of_older_runs": 0,
        "rows_with_gaps": 0,
    }
    assert rows.frame["levels"][0].to_list() == [20, 100, 500, 875, 1375, 2000, 3000]
    pressure = np.stack(rows.frame["pressure"].to_list())
    assert (np.diff(pressure, axis=1) < 0).all()
    assert rows.frame["temperature_2m"].is_between(250, 300).all()
    assert rows.frame["relative_humidity_2m"].is_between(0.2, 1.05).all()
    assert sorted(path.name for path in (shared_data / "precipitation/meteonet").iterdir()) == before


def test_the_examples_are_settings_of_readers() -> None:
    examples = Path(__file__).resolve().parents[2] / "docs/examples"
    kinds = {"column_files": ColumnFiles, "rain_files": RainFiles, "member_files": MemberFiles}
    for name in ("meteonet.yaml", "reanalysis.yaml"):
        written = yaml.safe_load((examples / name).read_text())
        grids = {kinds[entry["kind"]].model_validate(entry).grid for entry in written.values()}
        assert len(grids) == 1


def test_files_of_one_grid_share_their_coordinates(folder: Path) -> None:
    """Years of half-hourly rain are fifty thousand files, and a global grid's coordinates 40 kilobytes."""
    variable = FileVariable(files=f"{folder}/sp_*.nc", variable="sp")
    with opened(variable, None) as domains:
        first, second = domains[0]
        assert first.path != second.path
        assert first.latitude is second.latitude
        assert first.longitude is second.longitude
        assert not second.array.coords
