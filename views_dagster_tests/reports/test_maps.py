"""Maps read back pixel by pixel: where a cell is, what colour it has, where borders run."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from views_dagster.errors import GeographyError
from views_dagster.geography import Raster, gid_at, gid_of
from views_dagster.reports.maps import Kind, Layer, _edges, difference, draw_maps
from views_dagster.reports.scales import LAND, colour_scale

Pixels = NDArray[np.uint8]
SIDE = 30
TOP, RIGHT, BOTTOM, LEFT = 40, 104, 34, 62
"""Pixels around a map."""

DARKEST = (27, 12, 65)
BORDER, OUTLINE = (148, 148, 148), (77, 77, 77)


def cell_map(
    values: NDArray[np.float64],
    units: NDArray[np.int64],
    parents: NDArray[np.int64],
    *,
    title: str,
    measure: str,
    kind: Kind = "amount",
    vmax: float | None = None,
) -> bytes:
    return draw_maps([Layer(values, kind, title, measure, vmax)], units, parents)


def difference_map(
    now: NDArray[np.float64],
    before: NDArray[np.float64] | None,
    units: NDArray[np.int64],
    parents: NDArray[np.int64],
    *,
    title: str,
    measure: str,
) -> bytes:
    return draw_maps([difference(now, before, title=title, measure=measure)], units, parents)


def block(side: int = SIDE, row: int = 200, column: int = 300) -> NDArray[np.int64]:
    """A square of cells, row by row from the south-west."""
    rows, columns = np.mgrid[row : row + side, column : column + side]
    return gid_of(rows.reshape(-1), columns.reshape(-1))


def pixels(png: bytes) -> Pixels:
    """(H, W, 3) of the map of a picture of one, without what is written around it."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))[TOP:-BOTTOM, LEFT:-RIGHT]


def where(picture: Pixels, colour: tuple[int, int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows from the top and columns of the pixels of exactly a colour."""
    return np.nonzero((picture == np.array(colour, np.uint8)).all(axis=2))


def rgb(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def one_high(place: int) -> NDArray[np.float64]:
    values = np.zeros(SIDE**2)
    values[place] = 100
    return values


def drawn(values: NDArray[np.float64], parents: NDArray[np.int64] | None = None, **settings: float) -> Pixels:
    held = np.ones(SIDE**2, dtype=np.int64) if parents is None else parents
    return pixels(cell_map(values, block(), held, title="a title", measure="events", **settings))


@pytest.mark.parametrize(("row", "column"), [(10, 4), (28, 27), (1, 15)])
def test_a_cell_is_a_square_in_its_place_with_north_up(row: int, column: int) -> None:
    picture = drawn(one_high(row * SIDE + column))
    high, wide = where(picture, DARKEST)
    size = int(high.max() - high.min()) + 1
    assert len(high) == size**2
    assert wide.max() - wide.min() + 1 == size
    assert size > 10
    outline_high, outline_wide = where(picture, OUTLINE)
    assert (high.min() - outline_high.min()) // size == SIDE - 1 - row
    assert (wide.min() - outline_wide.min()) // size == column
    assert outline_high.max() - outline_high.min() == SIDE * size
    assert outline_wide.max() - outline_wide.min() == SIDE * size


def test_a_border_runs_between_parents_and_nowhere_else() -> None:
    place = np.arange(SIDE**2)
    west_east = np.where(place % SIDE < 10, 7, 8)
    size = len(np.unique(where(drawn(one_high(200)), DARKEST)[0]))
    high, wide = where(drawn(np.zeros(SIDE**2), west_east), BORDER)
    assert len(np.unique(wide)) == 1
    assert abs(len(high) - SIDE * size) <= 2
    outline = where(drawn(np.zeros(SIDE**2), west_east), OUTLINE)[1]
    assert wide[0] - outline.min() == 10 * size
    assert not len(where(drawn(np.zeros(SIDE**2)), BORDER)[0])


def test_every_pixel_has_the_colour_of_its_cell() -> None:
    """No colour is mixed from two: the cells' own, the land's, and the lines' are all there are."""
    rng = np.random.default_rng(3)
    levels = np.array([0.0, 1.0, 30.0, 100.0])
    values = rng.choice(levels, SIDE**2)
    held = rng.integers(1, 3, SIDE**2)
    picture = drawn(values, held)
    high, wide = where(picture, OUTLINE)
    inside = picture[high.min() : high.max() + 1, wide.min() : wide.max() + 1].reshape(-1, 3)
    colours, norm = colour_scale("amount", 100)
    own = {tuple(int(part) for part in colours(norm(level), bytes=True)[:3]) for level in levels}
    assert len(own) == 4
    assert {tuple(map(int, colour)) for colour in np.unique(inside, axis=0)} == {*own, BORDER, OUTLINE}


def test_nothing_has_the_colour_of_the_land_and_the_sea_is_white() -> None:
    picture = drawn(np.zeros(SIDE**2))
    high, wide = where(picture, OUTLINE)
    land = picture[high.min() + 1 : high.max(), wide.min() + 1 : wide.max()]
    assert (land == np.array(rgb(LAND))).all()
    assert (picture[high.min() - 3, wide.min() - 3] == 255).all()


def test_a_cell_of_which_nothing_is_known_is_land() -> None:
    values = one_high(0)
    unknown = np.where(values > 0, values, np.nan)
    assert (drawn(values) == drawn(unknown)).all()


def test_a_shared_scale_gives_equal_values_equal_colours() -> None:
    low = one_high(37) / 10
    assert len(where(drawn(low), DARKEST)[0])
    assert not len(where(drawn(low, vmax=100), DARKEST)[0])
    both = one_high(400) + low
    colours, norm = colour_scale("amount", 100)
    ten = tuple(int(part) for part in colours(norm(10.0), bytes=True)[:3])
    assert len(where(drawn(low, vmax=100), ten)[0]) == len(where(drawn(both), ten)[0]) > 0


def test_the_same_input_makes_the_same_bytes() -> None:
    made = [
        cell_map(one_high(5), block(), np.ones(SIDE**2, np.int64), title=title, measure="m")
        for title in ("a", "a", "b")
    ]
    assert made[0] == made[1] != made[2]


def test_a_difference_is_blue_for_less_and_red_for_more() -> None:
    units, held = block(), np.ones(SIDE**2, np.int64)
    before = np.zeros(SIDE**2)
    before[40], before[70] = 50, np.nan
    now = np.zeros(SIDE**2)
    now[95], now[70] = 50, 1000
    picture = pixels(difference_map(now, before, units, held, title="t", measure="m"))
    less, more = where(picture, (8, 48, 107)), where(picture, (103, 0, 31))
    assert len(less[0]) == len(more[0]) > 100
    # Cell 40 lies one row north of the southernmost, cell 95 three; what was not forecast before is not a change.
    assert less[0].min() > more[0].max()


def test_it_is_said_that_there_is_nothing_earlier() -> None:
    units, held, values = block(), np.ones(SIDE**2, np.int64), one_high(3)
    nothing = pixels(difference_map(values, None, units, held, title="t", measure="m"))
    same = pixels(difference_map(values, values, units, held, title="t", measure="m"))
    changed = np.nonzero((nothing != same).any(axis=2))
    middle = np.array(nothing.shape[:2]) / 2
    # The note is written across the middle of the map and hides nothing else.
    assert abs(changed[0].mean() - middle[0]) < 20
    assert len(changed[0]) > 500
    assert np.ptp(changed[0]) < 40


@pytest.mark.parametrize("cells", [[(0.1, 0.1)], [(-89.9, -179.9)], [(89.9, 179.9), (-60.0, -30.0)], [(5, 5), (40, 9)]])
def test_single_cells_corners_and_scattered_cells_are_drawn(cells: list[tuple[float, float]]) -> None:
    latitude, longitude = zip(*cells, strict=True)
    units = np.sort(gid_at(latitude, longitude))
    picture = pixels(cell_map(np.full(len(units), 9.0), units, units, title="t", measure="m"))
    assert len(where(picture, DARKEST)[0]) >= len(units)
    assert 100 < picture.shape[0] < 1000
    assert 300 < picture.shape[1] < 1700


def test_several_maps_are_laid_out_in_rows_of_two() -> None:
    layer = Layer(one_high(9), "amount", "t", "m")
    held = np.ones(SIDE**2, np.int64)
    sizes = [Image.open(io.BytesIO(draw_maps([layer] * count, block(), held, title="all"))).size for count in (2, 3, 4)]
    assert sizes[0][0] == sizes[1][0] == sizes[2][0]
    assert sizes[0][1] < sizes[1][1] == sizes[2][1]


def test_what_is_written_around_a_map_is_seen() -> None:
    """Headings, degrees and what the bar counts change the picture where they stand, and nothing else."""
    held = np.ones(SIDE**2, np.int64)
    made = [
        np.asarray(Image.open(io.BytesIO(cell_map(one_high(9), block(), held, title=title, measure=measure))))
        for title, measure in (("", ""), ("a title", ""), ("", "events"))
    ]
    heading, bar = ((made[0] != other).any(axis=2) for other in made[1:])
    assert heading[:TOP].sum() > 100
    assert not heading[TOP:].any()
    assert bar[:, -RIGHT // 2 :].sum() > 100
    assert not bar[:, :-RIGHT].any()
    ink = (made[0] < 100).all(axis=2)
    assert ink[:, :LEFT].any()
    assert ink[-BOTTOM:].any()


@pytest.mark.slow
def test_the_whole_globe_is_a_small_picture() -> None:
    rows, columns = np.mgrid[80:260, 200:560]
    units = gid_of(rows.reshape(-1), columns.reshape(-1))
    assert len(units) == 64_800
    rng = np.random.default_rng(0)
    values = rng.gamma(0.02, 50, len(units))
    held = (rows // 12 * 100 + columns // 15).reshape(-1)
    assert len(cell_map(values, units, held, title="t", measure="m")) < 400_000


@pytest.mark.parametrize(
    ("values", "units", "parents", "told"),
    [
        (np.ones(2), np.array([1, 1]), np.ones(2, np.int64), "2, 1 of them different"),
        (np.ones(0), np.zeros(0, np.int64), np.zeros(0, np.int64), "got 0"),
        (np.ones(3), np.array([1, 2]), np.ones(2, np.int64), "3 values for 2 cells"),
        (np.ones(2), np.array([1, 2]), np.ones(1, np.int64), "parents: 1 values for 2 cells"),
        (np.ones(2), np.array([1, 259_201]), np.ones(2, np.int64), "259201: no PRIO-GRID cells"),
    ],
)
def test_cells_that_cannot_be_drawn(
    values: NDArray[np.float64], units: NDArray[np.int64], parents: NDArray[np.int64], told: str
) -> None:
    with pytest.raises(GeographyError, match=told):
        cell_map(values, units, parents, title="t", measure="m")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=6))
def test_edges_agree_with_walking_around_every_cell(held: list[list[int]]) -> None:
    """0 is sea, everything else a parent; row and column 101 of the lattice is the south-western corner."""
    parent = {
        (row + 101, column + 101): number
        for row, line in enumerate(held)
        for column, number in enumerate(line)
        if number
    }
    if not parent:
        return
    borders, outline = set(), set()
    for (row, column), number in parent.items():
        south, west = (row - 1) / 2 - 90, (column - 1) / 2 - 180
        around = {
            (row, column - 1): ((west, south), (west, south + 0.5)),
            (row, column + 1): ((west + 0.5, south), (west + 0.5, south + 0.5)),
            (row - 1, column): ((west, south), (west + 0.5, south)),
            (row + 1, column): ((west, south + 0.5), (west + 0.5, south + 0.5)),
        }
        for place, edge in around.items():
            if place not in parent:
                outline.add(edge)
            elif parent[place] != number:
                borders.add(edge)
    units = gid_of([row for row, _ in parent], [column for _, column in parent])
    found = _edges(Raster.around(units), np.array(list(parent.values())))
    for segments, expected in zip(found, (borders, outline), strict=True):
        pieces = []
        for start, end in segments:
            steps = round(float(np.abs(end - start).sum()) * 2)
            walk = [tuple(start + (end - start) * part / steps) for part in range(steps + 1)]
            pieces += itertools.pairwise(walk)
        assert len(pieces) == len(expected)
        assert set(pieces) == expected
