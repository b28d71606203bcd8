"""Cells of the lattice: ids, rows, columns, centres, points on edges, and the rectangle around some of them."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from views_dagster.errors import GeographyError
from views_dagster.geography import (
    CELLS,
    Raster,
    column_of,
    gid_at,
    gid_of,
    latitude_of,
    longitude_of,
    require_cells,
    row_of,
)


def test_the_first_and_the_last_cell() -> None:
    assert (row_of([1, 720, 721, CELLS]).tolist(), column_of([1, 720, 721, CELLS]).tolist()) == (
        [1, 1, 2, 360],
        [1, 720, 1, 720],
    )
    assert (latitude_of([1]).item(), longitude_of([1]).item()) == (-89.75, -179.75)


@given(st.lists(st.integers(1, CELLS), min_size=1))
def test_row_and_column_give_the_cell_back(gid: list[int]) -> None:
    assert gid_of(row_of(gid), column_of(gid)).tolist() == gid
    assert gid_at(latitude_of(gid), longitude_of(gid)).tolist() == gid


def test_edges_poles_and_the_180th_meridian() -> None:
    assert gid_at([-90, 90, 0, 0, 0.5], [-180, 0, 180, -180, 0.5]).tolist() == [
        1,
        gid_of(360, 361).item(),
        gid_of(181, 1).item(),
        gid_of(181, 1).item(),
        gid_of(182, 362).item(),
    ]


@pytest.mark.parametrize(("latitude", "longitude"), [(90.1, 0), (0, 180.5), (float("nan"), 0)])
def test_a_point_off_the_globe_is_refused(latitude: float, longitude: float) -> None:
    with pytest.raises(GeographyError, match="1 points lie off the globe"):
        gid_at([latitude], [longitude])


@pytest.mark.parametrize("gid", [0, CELLS + 1, -5])
def test_an_id_off_the_grid_is_named(gid: int) -> None:
    with pytest.raises(GeographyError, match=f"{gid}: no PRIO-GRID cells"):
        require_cells([1, gid])


def test_ids_and_coordinates_agree_with_the_published_grid(shared_data: object) -> None:
    grid = pl.read_parquet(f"{shared_data}/conflict/prio_grid.parquet")
    gid = grid["gid"].to_numpy()
    for name, computed in (("row", row_of), ("col", column_of), ("lat", latitude_of), ("lon", longitude_of)):
        np.testing.assert_array_equal(grid[name].to_numpy(), computed(gid))


def test_a_raster_is_the_smallest_rectangle_and_paints_and_picks() -> None:
    raster = Raster.around([gid_of(10, 20).item(), gid_of(12, 19).item()])
    assert (raster.shape, raster.south, raster.west) == ((3, 2), 10, 19)
    values = np.array([[1.0, 2.0], [3.0, 4.0]])
    painted = raster.paint(values)
    assert painted[0].tolist() == [[0, 1], [0, 0], [2, 0]]
    np.testing.assert_array_equal(raster.pick(painted), values)
