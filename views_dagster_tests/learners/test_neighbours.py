"""CellNeighbours on the lattice, and conflictology that draws from them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from views_dagster.errors import GeographyError
from views_dagster.geography import gid_of
from views_dagster.learners.baselines import Conflictology
from views_dagster.learners.neighbours import CellNeighbours
from views_dagster.panel import Panel
from views_dagster_tests.learners.panels import panel_of


def square(target: np.ndarray) -> Panel:
    """Units are the 3 x 3 cells of rows 100..102 and columns 200..202, south-west first."""
    cells = gid_of(np.repeat([100, 101, 102], 3), np.tile([200, 201, 202], 3))
    return replace(panel_of(target), units=cells)


def test_positions_are_those_of_the_cells_around() -> None:
    cells = gid_of(np.repeat([100, 101, 102], 3), np.tile([200, 201, 202], 3))
    positions = CellNeighbours(ring=1).positions(cells)
    assert sorted(positions[:, 4]) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert sorted(positions[:, 0]) == [-1, -1, -1, -1, -1, 1, 3, 4]
    assert len(CellNeighbours(ring=2).offsets()) == 24
    # One offset moves every cell the same way.
    offset = CellNeighbours(ring=1).offsets().tolist().index([1, 0])
    assert_array_equal(positions[offset], [3, 4, 5, 6, 7, 8, -1, -1, -1])


def test_the_edges_of_the_map_do_not_touch() -> None:
    edges = gid_of([180, 180], [1, 720])
    assert (CellNeighbours(ring=1).positions(edges) == -1).all()


def test_each_neighbour_and_the_cell_itself_have_their_share() -> None:
    # Every cell has a value of its own, the same in all months, so that a draw tells where it came from.
    panel = square(np.tile(np.arange(1.0, 10.0), (12, 1)))
    learner = Conflictology(window=12, neighbours=CellNeighbours(ring=1, share=0.5))
    draws = learner.fit(panel, steps=[1], seed=1).predict(panel, draws=96, seed=1).draws[:, 0]
    values, times = np.unique(draws[4], return_counts=True)
    assert_array_equal(values, np.arange(1, 10))
    assert_array_equal(times, [6, 6, 6, 6, 48, 6, 6, 6, 6])
    # A corner has three neighbours and takes its own value for the five that are missing.
    values, times = np.unique(draws[0], return_counts=True)
    assert_array_equal(values, [1, 2, 4, 5])
    assert_array_equal(times, [78, 6, 6, 6])


def test_a_draw_is_one_past_month_moved_by_one_offset() -> None:
    rng = np.random.default_rng(0)
    target = rng.permutation(12 * 9).reshape(12, 9).astype(float)
    panel = square(target)
    learner = Conflictology(window=12, neighbours=CellNeighbours(ring=1, share=0.75))
    draws = learner.fit(panel, steps=[1], seed=1).predict(panel, draws=64, seed=1).draws[:, 0]
    positions = np.vstack([np.arange(9), CellNeighbours(ring=1).positions(panel.units)])
    own = np.arange(9)
    worlds = {tuple(target[month, np.where(places >= 0, places, own)]) for month in range(12) for places in positions}
    assert all(tuple(draw) in worlds for draw in draws.T)


def test_a_neighbour_that_did_not_exist_is_not_drawn() -> None:
    target = np.tile(np.arange(1.0, 10.0), (12, 1))
    target[:-1, 8] = np.nan
    panel = square(target)
    learner = Conflictology(window=12, neighbours=CellNeighbours(ring=1, share=0.5))
    draws = learner.fit(panel, steps=[1], seed=1).predict(panel, draws=96, seed=1).draws[:, 0]
    assert np.isfinite(draws).all()
    assert (draws[4] == 9).sum() <= 1


def test_neighbours_need_cells() -> None:
    assert Conflictology(neighbours=CellNeighbours()).needs_cells
    assert not Conflictology().needs_cells
    panel = replace(panel_of(np.ones((12, 1))), units=np.array([260_000]))
    learner = Conflictology(neighbours=CellNeighbours())
    with pytest.raises(GeographyError, match="260000"):
        learner.fit(panel, steps=[1], seed=1).predict(panel, draws=4, seed=1)
