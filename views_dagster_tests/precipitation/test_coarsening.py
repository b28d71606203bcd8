import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from views_dagster.errors import SourceError
from views_dagster.precipitation.bands import EDGES
from views_dagster.precipitation.box_sums import BoxRain, BoxSums, rain_of
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.coarsening import coarsener

GRID = BoxGrid(latitude=50, longitude=-1, step=(1.0, 1.5), rows=3, columns=3)


def coarsened(
    grid: BoxGrid,
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    fields: NDArray[np.float32],
    **settings: float,
) -> tuple[NDArray[np.int64], BoxRain]:
    made = coarsener(grid, latitude, longitude, **settings)
    cut = np.ascontiguousarray(fields[:, made.rows, made.columns])
    gaps = bool(np.isnan(cut).any())
    return made.box_id, rain_of(made.sums(cut, gaps=gaps), max_missing=0.5)


def slowly(
    grid: BoxGrid, latitude: NDArray[np.float64], longitude: NDArray[np.float64], field: NDArray[np.float32], box: int
) -> tuple[float, float, float, list[float]]:
    """Missing share, mean, maximum and shares above the edges of a box, cell by cell, on cells of equal steps."""
    row, column = divmod(box, grid.columns)
    south, north = np.sin(np.radians(grid.latitude_edges[[row, row + 1]]))
    west, east = grid.longitude_edges[[column, column + 1]]
    half_north, half_east = np.diff(latitude)[0] / 2, np.diff(longitude)[0] / 2
    area = rain = 0.0
    above, highest = [0.0] * len(EDGES), -np.inf
    for y, x in np.ndindex(field.shape):
        low, high = sorted(np.sin(np.radians(latitude[y] + np.array([-half_north, half_north]))))
        left, right = longitude[x] - abs(half_east), longitude[x] + abs(half_east)
        tall = max(0.0, min(high, north) - max(low, south))
        wide = max(
            max(0.0, min(right + turn, east) - max(left + turn, west)) for turn in (-360, 0, 360)
        )  # a cell lies in a box once
        if tall * wide < 1e-12 or np.isnan(field[y, x]):
            continue
        area += tall * wide
        rain += tall * wide * float(field[y, x])
        highest = max(highest, float(field[y, x]))
        above = [
            share + tall * wide * bool(field[y, x] >= np.float32(edge))
            for share, edge in zip(above, EDGES, strict=True)
        ]
    return 1 - area / ((north - south) * (east - west)), rain / area, highest, [share / area for share in above]


@pytest.mark.parametrize("writing", ["-180..180", "0..360", "0..360 sorted"])
@pytest.mark.parametrize("direction", [1, -1])
def test_agrees_with_cell_by_cell_overlap(writing: str, direction: int) -> None:
    generator = np.random.default_rng(0)
    latitude, longitude = np.arange(49.2, 53, 0.13)[::direction], np.arange(-2.1, 3.2, 0.17)
    field = generator.gamma(0.4, 4, (len(latitude), len(longitude))).astype(np.float32)
    field[generator.random(field.shape) < 0.5] = 0
    field[generator.random(field.shape) < 0.1] = np.nan
    if writing != "-180..180":
        longitude = longitude % 360
    if writing == "0..360 sorted":
        order = np.argsort(longitude)
        longitude, field = longitude[order], field[:, order]
    box_id, rain = coarsened(GRID, latitude, longitude, field[None])
    assert box_id.tolist() == list(range(9))
    unwrapped = (longitude + 180) % 360 - 180
    for place, box in enumerate(box_id):
        missing, mean, highest, above = slowly(GRID, latitude, unwrapped, field, int(box))
        assert rain.missing[0, place] == pytest.approx(missing, abs=1e-5)
        assert rain.mean[0, place] == pytest.approx(mean, rel=1e-5)
        assert rain.highest[0, place] == np.float32(highest)
        assert np.cumsum(rain.fractions[0, place, ::-1])[::-1][1:] == pytest.approx(above, abs=1e-6)


def test_four_cells_to_a_box_and_an_edge_belongs_to_the_band_above_it() -> None:
    grid = BoxGrid(latitude=0, longitude=0, step=1, rows=1, columns=1)
    field = np.array([[[0.01, 0.5], [10.0, 0.0]]], dtype=np.float32)
    side = np.array([-0.25, 0.25])
    _, rain = coarsened(grid, side, side, field)
    assert rain.fractions[0, 0] == pytest.approx([0.25, 0.25, 0.25, 0, 0.25])
    assert rain.mean[0, 0] == pytest.approx(10.51 / 4)
    assert rain.highest[0, 0] == 10
    assert rain.missing[0, 0] == 0


def test_the_rounding_of_coordinates_lets_no_neighbour_into_a_box() -> None:
    grid = BoxGrid(latitude=50, longitude=3, step=0.2, rows=1, columns=1)
    latitude = (49.9 + 0.02 * (np.arange(-5, 15) + 0.5)).astype(np.float32).astype(np.float64)
    longitude = (2.9 + 0.02 * (np.arange(-5, 15) + 0.5)).astype(np.float32).astype(np.float64)
    field = np.full((1, 20, 20), 9, dtype=np.float32)
    field[:, 5:15, 5:15] = 1
    _, rain = coarsened(grid, latitude, longitude, field)
    assert rain.highest[0, 0] == 1
    assert rain.fractions[0, 0].tolist() == [0, 0, 1, 0, 0]


def test_boxes_all_round_the_globe_conserve_the_mean() -> None:
    grid = BoxGrid(latitude=-75, longitude=0, step=30, rows=6, columns=12)
    latitude, longitude = np.linspace(88, -88, 45), np.arange(0, 360, 7.2)
    field = np.random.default_rng(1).gamma(0.5, 2, (1, 45, 50)).astype(np.float32)
    box_id, rain = coarsened(grid, latitude, longitude, field)
    assert len(box_id) == 72
    weights = np.repeat(grid.areas(), 12)
    edges = np.sin(np.radians(np.clip(np.linspace(90, -90, 46), -90, 90)))
    expected = np.average(field[0].mean(axis=1), weights=-np.diff(edges))
    assert np.average(rain.mean[0], weights=weights) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(2, 30), st.floats(0, 1), st.booleans())
def test_fractions_sum_to_one_and_hold_the_mean(seed: int, rows: int, columns: int, gaps: float, curved: bool) -> None:
    generator = np.random.default_rng(seed)
    latitude, longitude = np.linspace(49.5, 52.4, rows), np.linspace(-1.7, 2.7, columns)
    if curved:
        longitude, latitude = np.meshgrid(longitude, latitude)
    fields = generator.gamma(0.4, 4, (2, rows, columns)).astype(np.float32)
    fields[generator.random(fields.shape) < gaps] = np.nan
    try:
        _, rain = coarsened(GRID, latitude, longitude, fields)
    except SourceError:
        assert curved  # pixels so large that no box holds enough centres
        return
    known = np.isfinite(rain.mean)
    assert np.array_equal(known, rain.missing <= 0.5)
    assert np.array_equal(known, np.isfinite(rain.fractions).all(axis=2))
    fractions = rain.fractions[known]
    assert np.abs(fractions.sum(axis=1, dtype=np.float64) - 1).max(initial=0) < 1e-6
    assert fractions.min(initial=0) >= 0
    lower, upper = np.array([0, *EDGES]), np.array([*EDGES, np.inf])
    mean = rain.mean[known]
    assert (fractions @ lower <= mean + 1e-4).all()
    bounded = fractions[:, -1] == 0
    assert (mean[bounded] <= fractions[bounded, :-1] @ upper[:-1] + 1e-4).all()
    assert (rain.highest[known] >= mean - 1e-4).all()


@pytest.mark.parametrize("curved", [False, True])
def test_parts_of_a_field_add_up_to_the_whole(curved: bool) -> None:
    latitude, longitude = np.linspace(53, 49, 40), np.linspace(-2.5, 3.5, 50)
    if curved:
        longitude, latitude = np.meshgrid(longitude, latitude)
    fields = np.random.default_rng(2).gamma(0.4, 4, (3, 40, 50)).astype(np.float32)
    fields[1, 3:9] = np.nan
    made = coarsener(GRID, latitude, longitude)
    cut = np.ascontiguousarray(fields[:, made.rows, made.columns])
    whole = made.sums(cut)
    parts = BoxSums.plus(
        made.sums(np.ascontiguousarray(cut[:, :11])), made.sums(np.ascontiguousarray(cut[:, 11:]), row=11)
    )
    for name in ("observed", "above", "total", "highest"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-5), name


def test_pixels_count_once_where_their_centre_lies() -> None:
    grid = BoxGrid(latitude=0, longitude=0, step=1, rows=1, columns=2)
    north, east = np.meshgrid(np.linspace(-0.4, 0.4, 5), np.linspace(-0.4, 1.4, 10), indexing="ij")
    turned = north + 0.01 * east, east - 0.01 * north
    field = np.zeros((2, 5, 10), dtype=np.float32)
    field[0, 2, 3], field[0, 0, 7], field[1, :, :5] = 5, 0.2, np.nan
    box_id, rain = coarsened(grid, *turned, field)
    assert box_id.tolist() == [0, 1]
    assert rain.fractions[0].tolist() == [pytest.approx([0.96, 0, 0, 0.04, 0]), pytest.approx([0.96, 0.04, 0, 0, 0])]
    assert rain.mean[0].tolist() == pytest.approx([0.2, 0.008])
    assert rain.missing.tolist() == [[0, 0], [1, 0]]
    assert np.isnan(rain.fractions[1, 0]).all()
    assert rain.fractions[1, 1].tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("curved", [False, True])
def test_boxes_that_the_grid_covers_by_less_than_half_are_left_out(curved: bool) -> None:
    latitude, longitude = np.linspace(49.55, 52.45, 30), np.linspace(-1.7, 1.1, 29)
    if curved:
        longitude, latitude = np.meshgrid(longitude, latitude)
    box_id, rain = coarsened(GRID, latitude, longitude, np.zeros((1, 30, 29), dtype=np.float32))
    assert box_id.tolist() == [0, 1, 3, 4, 6, 7]
    assert rain.missing.max() <= 0.1


def test_a_longitude_that_comes_twice_is_an_error() -> None:
    with pytest.raises(SourceError, match="comes twice"):
        coarsener(GRID, np.linspace(49, 52, 5), np.linspace(0, 360, 37))


def test_latitudes_out_of_order_are_an_error() -> None:
    with pytest.raises(SourceError, match="neither rise nor fall"):
        coarsener(GRID, np.array([49.0, 51, 50]), np.linspace(-1, 3, 5))


def test_a_grid_elsewhere_is_an_error() -> None:
    with pytest.raises(SourceError, match="cover no box"):
        coarsener(GRID, np.linspace(10, 12, 5), np.linspace(-1, 3, 5))
