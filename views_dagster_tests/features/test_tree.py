"""The tree against its definition walked node by node, and against the sum over every pair of cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from views_dagster.features.lattice import Cells, Lattice
from views_dagster.features.tree import KERNELS, OFFSET, Tree
from views_dagster.geography import gid_of

Places = list[tuple[int, int]]
places = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 14)), min_size=2, max_size=40, unique=True)


def cells_at(where: Places, months: int = 1) -> Cells:
    gid = np.sort(gid_of([row + 200 for row, _ in where], [column + 380 for _, column in where]))
    return Cells(Lattice(gid), np.ones((len(gid), months), dtype=bool))


def walked(where: Places, values: NDArray[np.float64], theta: float, kernel: int) -> list[float]:
    """VIEWS' tree by its definition: from the root down, one cell and node after the other."""
    rows, columns = zip(*where, strict=True)
    height, width = max(rows) - min(rows), max(columns) - min(columns)
    side = 1
    while side <= max(height, width):
        side *= 2
    points = [
        (column - min(columns) + (side - width) // 2, row - min(rows) + (side - height) // 2) for row, column in where
    ]

    def add(target: int, x: int, y: int, size: int) -> float:
        held = [i for i, (px, py) in enumerate(points) if x <= px < x + size and y <= py < y + size]
        if not held:
            return 0
        tx, ty = points[target]
        distance = np.hypot(tx + 0.5 - x - size / 2 + OFFSET, ty + 0.5 - y - size / 2 + OFFSET)
        if size / distance <= theta:
            return float(values[held].sum() * KERNELS[kernel](distance))
        if size == 1:
            return 0.0 if held == [target] else float(values[held[0]] * KERNELS[kernel](distance))
        half = size // 2
        return sum(add(target, x + dx, y + dy, half) for dx in (0, half) for dy in (0, half))

    return [add(target, 0, 0, side) for target in range(len(where))]


def pairs(where: Places, values: NDArray[np.float64], kernel: int) -> NDArray[np.float64]:
    rows, columns = np.array(where).T
    distance = np.hypot(rows[:, None] - rows + OFFSET, columns[:, None] - columns + OFFSET)
    weights = KERNELS[kernel](distance)
    np.fill_diagonal(weights, 0)
    return np.asarray(weights @ values)


@settings(max_examples=40, deadline=None)
@given(where=places, theta=st.sampled_from([0.2, 0.7, 1.0, 2.0]), kernel=st.integers(0, 2), seed=st.integers(0, 9))
def test_the_tree_is_the_one_that_is_walked_node_by_node(where: Places, theta: float, kernel: int, seed: int) -> None:
    where = sorted(where)
    values = np.random.default_rng(seed).poisson(2.0, (len(where), 2)).astype(float)
    sums = cells_at(where, 2).tree_sums(values, theta, kernel)
    for month in range(2):
        np.testing.assert_allclose(sums[:, month], walked(where, values[:, month], theta, kernel), rtol=1e-12)


@pytest.mark.parametrize("kernel", [0, 1, 2])
def test_theta_zero_is_the_sum_over_pairs_and_small_theta_near_it(kernel: int) -> None:
    where = [(row, column) for row in range(23) for column in range(31) if (row * column) % 5]
    values = np.random.default_rng(kernel).exponential(1.0, len(where))
    exact = pairs(where, values, kernel)
    cells = cells_at(where)
    np.testing.assert_allclose(cells.tree_sums(values[:, None], 0, kernel)[:, 0], exact, rtol=1e-11)
    errors = [
        np.abs(cells.tree_sums(values[:, None], theta, kernel)[:, 0] / exact - 1).max() for theta in (0.1, 0.5, 1.0)
    ]
    assert errors[0] < 0.002
    assert errors[0] < errors[1] < errors[2] < 0.25


def test_two_cells_by_hand() -> None:
    cells = cells_at([(0, 0), (0, 3)])
    sums = cells.tree_sums(np.array([[10.0], [0.0]]), 0.7, 1)
    # The eastern cell is 3.01 east and 0.01 north of the other.
    assert sums[:, 0].tolist() == pytest.approx([0, 10 / np.hypot(3.01, 0.01)])


def test_unknown_counts_as_nothing_and_an_empty_month_is_zero() -> None:
    cells = cells_at([(0, 0), (0, 1), (5, 5)], 2)
    values = np.array([[np.nan, 0.0], [4.0, 0.0], [np.nan, 0.0]])
    known = np.nan_to_num(values)
    for theta in (0, 0.7):
        sums = cells.tree_sums(values, theta, 2)
        assert np.array_equal(sums, cells.tree_sums(known, theta, 2))
        assert not sums[:, 1].any()


def test_interactions_are_kept_only_where_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(40.0).reshape(20, 2)
    cells = np.arange(20)

    def tree() -> Tree:
        return Tree.over(cells, cells % 5, cells // 5)

    kept, again = tree(), tree()
    assert np.array_equal(kept.lag(values, 0.5, 0), kept.lag(values, 0.5, 0))
    monkeypatch.setattr("views_dagster.features.tree.PAIRS_KEPT", 3)
    monkeypatch.setattr("views_dagster.features.tree.TARGETS_AT_ONCE", 7)
    assert np.array_equal(again.lag(values, 0.5, 0), kept.lag(values, 0.5, 0))


def test_a_single_cell_has_no_others() -> None:
    assert cells_at([(3, 3)]).tree_sums(np.array([[5.0]]), 0.7, 0).tolist() == [[0.0]]
