"""Rings and nearest events against values worked out by hand and a search through all pairs."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from views_dagster.errors import GeographyError
from views_dagster.features.lattice import NO_EVENT, Cells, Lattice, Ring
from views_dagster.geography import COLUMNS, column_of, gid_of, row_of


def block(rows: int, columns: int, months: int = 1, south: int = 180, west: int = 360) -> Cells:
    row, column = np.mgrid[south : south + rows, west : west + columns].reshape(2, -1)
    return Cells(Lattice(gid_of(row, column)), np.ones((rows * columns, months), dtype=bool))


def one(cells: Cells, position: int, value: float = 1.0) -> NDArray[np.float64]:
    values = np.zeros(cells.exists.shape)
    values[position] = value
    return values


def test_a_cell_counts_in_the_eight_around_it_and_not_in_itself() -> None:
    cells = block(5, 5)
    lag = cells.ring_sums(one(cells, 12), Ring(1, 1, 0, normalised=False))[:, 0].reshape(5, 5)
    assert lag[1:4, 1:4].tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert lag.sum() == 8


def test_inner_width_power_and_normalise() -> None:
    cells = block(7, 7)
    centre = one(cells, 24, 100.0)
    outer = cells.ring_sums(centre, Ring(2, 1, 0, normalised=False))[:, 0].reshape(7, 7)
    assert (outer[1:6, 1:6] > 0).sum() == 16
    assert outer[2:5, 2:5].sum() == 0
    weighted = cells.ring_sums(centre, Ring(1, 2, 2, normalised=False))[:, 0].reshape(7, 7)
    assert weighted[3].tolist() == pytest.approx([0, 25, 100, 0, 100, 25, 0])
    assert weighted[2, 2] == pytest.approx(50)
    normalised = cells.ring_sums(centre, Ring(1, 1, 1, normalised=True))[:, 0].reshape(7, 7)
    assert normalised.sum() == pytest.approx(100)
    assert normalised[3, 2] / normalised[2, 2] == pytest.approx(math.sqrt(2))


def test_inner_zero_takes_the_cell_itself() -> None:
    cells = block(3, 3)
    assert cells.ring_sums(one(cells, 4), Ring(0, 2, 0, normalised=False))[:, 0].tolist() == [1] * 9


def test_edges_holes_and_the_180th_meridian_are_nothing() -> None:
    gid = np.sort(gid_of([10, 10, 10, 12], [1, 2, COLUMNS, 1]))
    cells = Cells(Lattice(gid), np.ones((4, 1), dtype=bool))
    sums = cells.ring_sums(np.ones((4, 1)), Ring(1, 1, 0, normalised=False))
    # Columns 1 and 720 do not touch, and the row between the first and the last cell has no cell.
    assert sums[:, 0].tolist() == [1, 1, 0, 0]


def test_unknown_values_count_as_zero_in_a_ring_and_are_left_out_of_a_sum_of_neighbours() -> None:
    cells = block(1, 3)
    values = np.array([[np.nan], [2.0], [np.nan]])
    assert cells.ring_sums(values, Ring(1, 1, 0, normalised=False))[:, 0].tolist() == [2, 0, 2]


def slow_nearest(cells: Cells, values: NDArray[np.float64], k: int, nu: float, cell: float) -> NDArray[np.float64]:
    row, column = row_of(cells.lattice.gid), column_of(cells.lattice.gid)
    result = np.full(values.shape, NO_EVENT)
    for unit, now in np.ndindex(values.shape):
        distances = sorted(
            math.sqrt(
                (cell * (row[unit] - row[u])) ** 2 + (cell * (column[unit] - column[u])) ** 2 + (nu * (now - m)) ** 2
            )
            for u, m in np.argwhere(values > 0)
            if m <= now
        )
        if len(distances) >= k:
            result[unit, now] = distances[k - 1]
    return result


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    k=st.integers(1, 4),
    nu=st.sampled_from([0.0, 0.01, 1.0, 3.0]),
    cell=st.sampled_from([1.0, 0.5]),
)
def test_nearest_events_are_those_of_a_search_through_all(seed: int, k: int, nu: float, cell: float) -> None:
    cells = block(3, 4, months=5)
    generator = np.random.default_rng(seed)
    values = np.where(generator.random((12, 5)) < 0.2, 3.0, generator.choice([0.0, np.nan, -1.0], (12, 5)))
    np.testing.assert_allclose(
        cells.nearest_events(values, k, nu, cell), slow_nearest(cells, values, k, nu, cell), atol=1e-12
    )


def test_nearest_event_by_hand() -> None:
    cells = block(1, 4, months=3)
    values = np.zeros((4, 3))
    values[0, 0] = values[3, 2] = 1
    found = cells.nearest_events(values, 1, 2.0, 1.0)
    assert found[:, 0].tolist() == [0, 1, 2, 3]
    assert found[:, 1].tolist() == pytest.approx([2, math.sqrt(5), math.sqrt(8), math.sqrt(13)])
    assert found[:, 2].tolist() == pytest.approx([3, 2, 1, 0])
    assert cells.nearest_events(values, 3, 2.0, 1.0).tolist() == [[NO_EVENT] * 3] * 4


def test_only_months_that_are_needed_are_searched() -> None:
    cells = block(1, 2, months=3)
    values = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    last = Cells(cells.lattice, cells.exists, needed=2).nearest_events(values, 1, 1.0, 1.0)
    assert np.array_equal(last[:, 2], cells.nearest_events(values, 1, 1.0, 1.0)[:, 2])


def test_a_unit_that_is_no_cell_is_an_error() -> None:
    with pytest.raises(GeographyError, match="259201"):
        Lattice.of(np.array([5, 259_201]))
