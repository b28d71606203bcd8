"""Columns that are finer than the boxes, read by `regrid: conservative`, against means that are made cell by cell."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xarray as xr
from numpy.typing import NDArray

from views_dagster.calendar import from_key
from views_dagster.errors import SourceError
from views_dagster.precipitation import box_means
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.column_files import ColumnFiles
from views_dagster_tests.precipitation.weather_worlds import settings

JUNE = from_key("2003-06")
GRID = {"latitude": 48.0, "longitude": -1.0, "step": 1.0, "rows": 2, "columns": 3}
LEVELS = (500.0, 850.0, 1000.0)

# As ERA5 comes: points every quarter of a degree from north to south, of which every fifth lies on an edge of boxes.
LATITUDES, LONGITUDES = np.arange(50, 46.99, -0.25), np.arange(-2, 2.01, 0.25)

YAML = """
kind: column_files
first_month: 2003-06
time_step: 12h
level: {dimension: pressure_level, unit: hPa}
regrid: conservative
profiles:
  temperature: {files: FOLDER/t.nc, variable: t}
surface:
  humidity: {files: FOLDER/r2.nc, variable: r2}
static:
  orography: {files: FOLDER/z.nc, variable: z}
"""


def fine(seed: int, *shape: int) -> NDArray[np.float64]:
    """Values without any order in space, so that a weight that is wrong is seen."""
    return np.random.default_rng(seed).normal(280, 10, (*shape, len(LATITUDES), len(LONGITUDES)))


def dataset(name: str, values: NDArray[np.float64], units: str, **names: Any) -> xr.Dataset:
    north, east = names.get("latitude", LATITUDES), names.get("longitude", LONGITUDES)
    coordinates: dict[str, Any] = {
        "valid_time": ("valid_time", np.arange("2003-06-01T12", "2003-06-04T12", 12, dtype="datetime64[h]")),
        "pressure_level": ("pressure_level", np.array(LEVELS), {"units": "hPa"}),
        "latitude": ("latitude", north, {"units": "degrees_north"}),
        "longitude": ("longitude", east, {"units": "degrees_east"}),
    }
    dimensions = ["latitude", "longitude"] if values.ndim == 2 else ["valid_time", "latitude", "longitude"]
    if values.ndim == 4:
        dimensions.insert(1, "pressure_level")
    return xr.Dataset(
        {name: (dimensions, values.astype(np.float32), {"units": units})},
        {each: coordinates[each] for each in dimensions},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three days, twice a day, at a quarter of a degree; heights on the boxes themselves."""
    dataset("t", fine(1, 6, 3), "K").to_netcdf(tmp_path / "t.nc")
    dataset("r2", fine(2, 6), "%").to_netcdf(tmp_path / "r2.nc")
    height = np.arange(6.0).reshape(2, 3)[::-1]
    dataset("z", height, "m", latitude=[49.0, 48.0], longitude=[359.0, 0.0, 1.0]).to_netcdf(tmp_path / "z.nc")
    return tmp_path


def read(folder: Path, **changes: Any) -> tuple[pl.DataFrame, dict[str, int]]:
    rows = ColumnFiles.model_validate(settings(YAML, folder) | {"grid": GRID} | changes).read(JUNE, JUNE)
    return rows.frame, dict(rows.repairs)


def slowly(field: NDArray[np.float64], box: int, steps: float = 0.25) -> float:
    """Mean of a field over a box: each cell weighs as much as the part of it that lies in the box, on the sphere."""
    grid = BoxGrid.model_validate(GRID)
    row, column = divmod(box, grid.columns)
    south, west = grid.latitude_edges[row], grid.longitude_edges[column]
    area = total = 0.0
    for y, x in np.ndindex(field.shape):
        low, high = max(LATITUDES[y] - steps / 2, south), min(LATITUDES[y] + steps / 2, south + 1)
        wide = min(LONGITUDES[x] + steps / 2, west + 1) - max(LONGITUDES[x] - steps / 2, west)
        if high <= low or wide <= 0 or np.isnan(field[y, x]):
            continue
        weight = (np.sin(np.radians(high)) - np.sin(np.radians(low))) * wide
        area, total = area + weight, total + weight * float(np.float32(field[y, x]))
    return total / area


def of(frame: pl.DataFrame, time: int, box: int) -> dict[str, Any]:
    return frame.filter(pl.col("box_id") == box).sort("valid_time").row(time, named=True)


@pytest.mark.parametrize("block", [2**28, 3000, 1])
def test_each_level_and_field_is_the_mean_over_the_box(
    folder: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    data = xr.load_dataset(folder / "t.nc")
    data.to_netcdf(folder / "t.nc", encoding={"t": {"chunksizes": (4, 2, 5, 7)}})
    monkeypatch.setattr(box_means, "BLOCK_BYTES", block)
    frame, repairs = read(folder)
    assert frame.height == 6 * 6
    assert frame["levels"][0].to_list() == [1000, 850, 500]
    assert repairs["pixels_missing"] == repairs["rows_with_gaps"] == 0
    for time, box in ((0, 0), (3, 4), (5, 5)):
        row = of(frame, time, box)
        # Files have the highest level first, rows the lowest.
        expected = [slowly(fine(1, 6, 3)[time, level], box) for level in (2, 1, 0)]
        assert row["temperature"] == pytest.approx(expected, abs=1e-3)
        assert row["humidity"] == pytest.approx(slowly(fine(2, 6)[time], box) / 100, abs=1e-5)
        assert row["orography"] == pytest.approx(box)


def test_the_writing_of_longitudes_and_the_order_of_dimensions_do_not_matter(folder: Path) -> None:
    expected, _ = read(folder)
    data = xr.load_dataset(folder / "t.nc")
    data = data.assign_coords(longitude=data.longitude % 360).sortby("longitude").isel(latitude=slice(None, None, -1))
    data.transpose("longitude", "latitude", "valid_time", "pressure_level").to_netcdf(folder / "turned.nc")
    frame, _ = read(folder, profiles={"temperature": {"files": f"{folder}/turned.nc", "variable": "t"}})
    assert np.stack(frame["temperature"].to_list()) == pytest.approx(np.stack(expected["temperature"].to_list()))
    assert frame.drop("temperature").equals(expected.drop("temperature"))


def test_missing_pixels_are_counted_and_a_mean_without_too_many_is_none(folder: Path) -> None:
    values = fine(1, 6, 3)
    values[2, 0, :, 8] = np.nan  # of 13 rows of the meridian through the middle of boxes 1 and 4, which read 9
    values[4, 1, LATITUDES >= 48.5] = np.inf  # all of the northern boxes
    dataset("t", values, "K").to_netcdf(folder / "t.nc")
    frame, repairs = read(folder)
    row = of(frame, 2, 4)
    assert row["temperature"][2] == pytest.approx(slowly(values[2, 0], 4), abs=1e-3)
    # The grid's 13 columns from -1.5 to 1.5 east, and its 9 rows from 47.5 to 49.5 north, 5 of them from 48.5 on.
    assert repairs["pixels_missing"] == 9 + 5 * 13
    assert repairs["rows_with_gaps"] == 3
    assert frame.height == 36 - 3
    _, repairs = read(folder, max_missing=0.2)
    assert repairs["rows_with_gaps"] == 3 + 2
    kept, repairs = read(folder, gaps="keep")
    assert repairs["rows_with_gaps"] == 0
    assert np.isnan(of(kept, 4, 4)["temperature"]).tolist() == [False, True, False]


def test_a_box_that_a_grid_covers_by_less_than_half_has_no_rows(folder: Path) -> None:
    data = xr.load_dataset(folder / "r2.nc")
    data.sel(longitude=slice(-2, 0.5)).to_netcdf(folder / "r2.nc")
    frame, repairs = read(folder)
    assert frame["box_id"].unique().to_list() == [0, 1, 3, 4]
    assert repairs["pixels_missing"] == 0


def test_a_mean_over_the_box_of_a_mean_over_the_day(folder: Path) -> None:
    frame, _ = read(folder, time_step="1d", average=True, stamped="end")
    expected = np.mean([slowly(fine(2, 6)[time], 3) for time in (0, 1)])
    assert of(frame, 0, 3)["humidity"] == pytest.approx(expected / 100, abs=1e-5)


def test_pixels_of_a_projection_count_where_their_centres_lie(folder: Path) -> None:
    north, east = np.meshgrid(LATITUDES, LONGITUDES + 0.05, indexing="ij")
    data = xr.Dataset(
        {"r2": (("valid_time", "y", "x"), fine(2, 6).astype(np.float32), {"units": "%"})},
        coords=xr.load_dataset(folder / "r2.nc").coords["valid_time"].coords
        | {"latitude": (("y", "x"), north + 0.05), "longitude": (("y", "x"), east)},
    )
    data.to_netcdf(folder / "r2.nc")
    frame, _ = read(folder)
    inside = (np.abs(north + 0.05 - 48) < 0.5) & (np.abs(east - 0) < 0.5)
    assert inside.sum() == 16
    assert of(frame, 1, 1)["humidity"] == pytest.approx(fine(2, 6)[1][inside].mean() / 100, abs=1e-5)
    with pytest.raises(SourceError, match=r"curvilinear grid; .*`regrid: conservative`"):
        read(folder, regrid=None, profiles=on_boxes(folder))


def test_without_the_setting_finer_columns_are_an_error_that_names_it(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"t\.nc: .*latitudes are not those of the grid.*set `regrid: conservative`"):
        read(folder, regrid=None)


def test_a_single_row_beside_the_boxes_is_an_error(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    values = fine(1, 6, 3)[..., :1, :3]
    dataset("t", values, "K", latitude=[48.2], longitude=[-1.0, 0.0, 1.0]).to_netcdf(folder / "t.nc")
    with pytest.raises(SourceError, match=r"expected 48, found 48\.2; correct `grid`, or bring the file to it"):
        read(folder, regrid=None, grid={**GRID, "rows": 1})
    assert not [warning for warning in recwarn if "empty slice" in str(warning.message)]


def test_columns_coarser_than_the_boxes_are_an_error(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"z\.nc: cells of 1 degrees of latitude are larger than the boxes, 0\.5"):
        read(folder, grid={"latitude": 48.0, "longitude": -1.0, "step": 0.5, "rows": 2, "columns": 3})


@pytest.mark.parametrize("changes", [{}, {"regrid": None, "average": True, "time_step": "1d"}])
def test_directions_have_no_mean(folder: Path, changes: dict[str, Any]) -> None:
    where = {} if not changes else {"latitude": [49.0, 48.0], "longitude": [-1.0, 0.0, 1.0]}
    values = fine(3, 6)[:, :2, :3] if where else fine(3, 6)
    dataset("wd", values, "degrees", **where).to_netcdf(folder / "wd.nc")
    files = {"files": f"{folder}/wd.nc", "variable": "wd"}
    with pytest.raises(SourceError, match=r"wd\.nc: variable wd is in degrees, and `(regrid|average)` would average"):
        read(folder, surface={"direction": files}, **({"profiles": on_boxes(folder)} if where else {}), **changes)


def test_directions_that_do_not_change_have_no_mean_over_the_box_either(folder: Path) -> None:
    dataset("aspect", fine(3), "degrees").to_netcdf(folder / "aspect.nc")
    static = {"aspect": {"files": f"{folder}/aspect.nc", "variable": "aspect"}}
    with pytest.raises(SourceError, match=r"aspect is in degrees, and `regrid` would average"):
        read(folder, static=static)
    # The mean over time is not taken of what has none.
    dataset("aspect", fine(3)[:2, :3], "degrees", latitude=[49.0, 48.0], longitude=[-1.0, 0.0, 1.0]).to_netcdf(
        folder / "aspect.nc"
    )
    daily: dict[str, Any] = {"regrid": None, "average": True, "time_step": "1d", "surface": {}}
    frame, _ = read(folder, static=static, profiles=on_boxes(folder), **daily)
    assert frame["aspect"].max() == pytest.approx(fine(3)[:2, :3].max())


def on_boxes(folder: Path) -> dict[str, Any]:
    values = fine(1, 6, 3)[..., :2, :3]
    dataset("t", values, "K", latitude=[49.0, 48.0], longitude=[-1.0, 0.0, 1.0]).to_netcdf(folder / "boxes.nc")
    return {"temperature": {"files": f"{folder}/boxes.nc", "variable": "t"}}


def test_a_share_of_missing_pixels_is_for_means_alone(folder: Path) -> None:
    with pytest.raises(ValueError, match="`max_missing` is for `regrid: conservative`"):
        read(folder, regrid=None, max_missing=0.1)
