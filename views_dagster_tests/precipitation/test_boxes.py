import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from views_dagster.calendar import from_key
from views_dagster.precipitation.boxes import BoxGrid, month_of_times, span_of_months, times_of_months

GRID = BoxGrid(latitude=50, longitude=-1, step=(0.5, 1.0), rows=3, columns=4)


def test_boxes_are_numbered_from_the_south_west_row_by_row() -> None:
    row, column = GRID.rows_columns([0, 3, 4, 11])
    assert row.tolist() == [0, 0, 1, 2]
    assert column.tolist() == [0, 3, 0, 3]
    latitude, longitude = GRID.centres([0, 11])
    assert latitude.tolist() == [50, 51]
    assert longitude.tolist() == [-1, 2]


def test_edges_lie_half_a_step_from_centres() -> None:
    assert GRID.latitude_edges.tolist() == [49.75, 50.25, 50.75, 51.25]
    assert GRID.longitude_edges.tolist() == [-1.5, -0.5, 0.5, 1.5, 2.5]


def test_a_point_on_an_edge_is_in_the_box_north_east_of_it() -> None:
    assert GRID.box_of([49.75, 50.25, 51.25, 50.0], [-1.5, -0.5, 0.0, 2.5]).tolist() == [0, 5, -1, -1]


def test_longitudes_of_either_writing_are_the_same_box() -> None:
    assert GRID.box_of([50, 50], [-1.2, 358.8]).tolist() == [0, 0]
    assert np.isnan(GRID.longitudes).sum() == 0
    across = BoxGrid(latitude=0, longitude=179, step=1, rows=1, columns=4)
    assert across.longitudes.tolist() == [179, -180, -179, -178]
    assert across.box_of([0, 0, 0], [180, -180, 182]).tolist() == [1, 1, 3]


def test_a_lattice_all_round_the_globe_has_no_seam() -> None:
    grid = BoxGrid(latitude=0, longitude=0, step=(1, 90), rows=1, columns=4)
    assert grid.box_of([0, 0, 0], [-45.0, 314.9, 359]).tolist() == [0, 3, 0]


def test_areas_of_the_whole_globe_are_its_surface() -> None:
    grid = BoxGrid(latitude=-90, longitude=0, step=2.5, rows=73, columns=144)
    assert grid.areas().sum() * 144 == pytest.approx(4 * np.pi)


def test_no_point_lies_in_no_box() -> None:
    assert GRID.box_of([np.nan], [0.0]).tolist() == [-1]


@given(st.integers(0, 11))
def test_the_centre_of_a_box_lies_in_it(box: int) -> None:
    assert GRID.box_of(*GRID.centres(box)) == box


@pytest.mark.parametrize(
    "settings",
    [
        {"latitude": 89, "rows": 3},
        {"columns": 400},
        {"step": 0},
        {"rows": 0},
        {"colums": 3},
    ],
)
def test_a_lattice_that_cannot_be_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        BoxGrid.model_validate({"latitude": 0, "longitude": 0, "step": 1, "rows": 2, "columns": 2} | settings)


def test_ids_beyond_the_lattice_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.11"):
        GRID.rows_columns([12])


def test_midnight_of_the_first_belongs_to_the_month_before() -> None:
    times = ["2018-05-01T00:00", "2018-05-01T00:00:00.000001", "2018-05-31T23:00", "2018-06-01T00:00", "1969-12-31T01"]
    expected = [from_key(key) for key in ("2018-04", "2018-05", "2018-05", "2018-05")]
    assert month_of_times(np.array(times, dtype="datetime64[us]")).tolist()[:4] == expected
    assert month_of_times(np.array(times[4:], dtype="datetime64[s]")).dtype == np.int32


def test_times_of_months_are_those_that_belong_to_them() -> None:
    month = from_key("2020-02")
    times = times_of_months(month, month, 6)
    assert len(times) == 29 * 4
    assert times[0] == np.datetime64("2020-02-01T06")
    assert times[-1] == np.datetime64("2020-03-01T00")
    assert set(month_of_times(times)) == {month}
    after, until = span_of_months(month, month)
    assert (after, until) == (np.datetime64("2020-02-01"), np.datetime64("2020-03-01"))


def test_lattices_are_equal_by_their_settings_even_after_use() -> None:
    same = BoxGrid(latitude=50, longitude=-1, step=(0.5, 1.0), rows=3, columns=4)
    assert GRID.latitudes.shape == (3,)
    assert same.longitudes.shape == (4,)
    assert same == GRID
    assert hash(same) == hash(GRID)
