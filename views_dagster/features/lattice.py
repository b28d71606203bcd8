"""What happens between the cells of the lattice: rings, sums over all cells, nearest past events.

Works on (cells, months) matrices, every month apart; `grid_transforms` offers it to querysets. The definitions are
those of VIEWS' views_transformation_library (splag4d, spatial_tree, spacetime_distance). Distances are in cells.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.features.tree import Tree, exact_sums
from views_dagster.geography import Raster, column_of, require_cells, row_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]
Rectangle = tuple[int, int, int, int]

NO_EVENT: Final = 999.0


@dataclass(frozen=True)
class Ring:
    """A square ring of cells around a cell, and what each of them counts.

    Attributes:
        inner: cells nearer than this (in rows and in columns) are left out; 0 takes the cell itself too, with weight 1.
        width: how many cells wide the ring is.
        power: weights are distance ** -power.
        normalised: whether weights are divided by their sum over the whole ring.
    """

    inner: int
    width: int
    power: float
    normalised: bool

    def weights(self) -> tuple[Indices, Indices, Matrix]:
        """Row offsets, column offsets and weights, (N,) each."""
        radius = self.inner + self.width - 1
        row, column = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
        inside = np.maximum(np.abs(row), np.abs(column)) >= self.inner
        row, column = row[inside], column[inside]
        distance = np.hypot(row, column)
        weight = np.where(distance > 0, distance, 1.0) ** -self.power
        return row, column, weight / weight.sum() if self.normalised else weight


@dataclass(frozen=True)
class Lattice:
    """Cells and how they lie to each other; what is computed from their places alone is kept.

    Attributes:
        gid: (U,) int64, ascending.
    """

    gid: Indices
    _rings: dict[Ring, "csr_matrix[Any]"] = field(default_factory=dict, init=False, repr=False, compare=False)
    _trees: dict[Rectangle, "Tree"] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, gid: Indices) -> "Lattice":
        """Cells by ascending id.

        Raises:
            GeographyError: an id that is no cell; names it.
        """
        return cls(require_cells(gid))

    @cached_property
    def raster(self) -> Raster:
        """The rectangle around the cells."""
        return Raster.around(self.gid)

    @cached_property
    def row(self) -> Indices:
        """(U,) row of each cell."""
        return row_of(self.gid)

    @cached_property
    def column(self) -> Indices:
        """(U,) column of each cell."""
        return column_of(self.gid)

    def ring(self, ring: Ring) -> "csr_matrix[Any]":
        """(U, U) float64: row c holds the weights of the cells in the ring around cell c; off the grid is nothing."""
        from scipy.sparse import csr_matrix

        if ring not in self._rings:
            row, column, weight = ring.weights()
            radius = ring.inner + ring.width - 1
            position = self.raster.paint(np.arange(len(self.gid), dtype=np.int32), empty=-1)
            position = np.pad(position, radius, constant_values=-1)
            beside = position[self.raster.row[:, None] + radius + row, self.raster.column[:, None] + radius + column]
            there = beside >= 0
            ends = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
            weights = np.broadcast_to(weight, there.shape)[there]
            self._rings[ring] = csr_matrix((weights, beside[there], ends), shape=(len(self.gid),) * 2)
        return self._rings[ring]

    def tree(self, rectangle: Rectangle) -> "Tree":
        """The tree over the cells in a rectangle: its first and last row, its first and last column."""
        if rectangle not in self._trees:
            south, north, west, east = rectangle
            inside = (self.row >= south) & (self.row <= north) & (self.column >= west) & (self.column <= east)
            cells = np.flatnonzero(inside)
            self._trees[rectangle] = Tree.over(cells, self.column[cells] - west, self.row[cells] - south)
        return self._trees[rectangle]


@dataclass(frozen=True)
class Cells:
    """The cells of a grid over consecutive months.

    Attributes:
        lattice: where the U cells lie.
        exists: (U, M) bool, whether the cell exists in the month.
        needed: first month (0-based) whose values are asked for; those of earlier ones may be anything.
    """

    lattice: Lattice
    exists: NDArray[np.bool_]
    needed: int = 0

    def sum(self, x: pl.Expr) -> pl.Expr:
        """Sum of `x` over the 8 cells around that exist and are known; 0 without any, null where none is known."""

        def summed(values: Matrix) -> Matrix:
            around = self.lattice.ring(Ring(1, 1, 0, normalised=False))
            known = ~np.isnan(values)
            total = around @ np.where(known, values, 0)
            unknown = around @ (self.exists & ~known).astype(np.float64)
            total[(unknown > 0) & (around @ known.astype(np.float64) == 0)] = np.nan
            return np.asarray(total)

        return self.apply(x, summed)

    def apply(self, x: pl.Expr, function: Callable[[Matrix], Matrix]) -> pl.Expr:
        """`function` of the whole (U, M) matrix, NaN for null, as an expression over the unit-major grid."""

        def run(series: pl.Series) -> pl.Series:
            result = function(series.to_numpy().reshape(len(self.lattice.gid), -1))
            return pl.Series(result.reshape(-1), nan_to_null=True)

        return x.map_batches(run, return_dtype=pl.Float64)

    def ring_sums(self, values: Matrix, ring: Ring) -> Matrix:
        """Weighted sums (U, M) over the ring around each cell; what is unknown or not a cell counts as 0."""
        return np.asarray(self.lattice.ring(ring) @ np.nan_to_num(values, posinf=np.inf, neginf=-np.inf))

    def tree_sums(self, values: Matrix, theta: float, kernel: int) -> Matrix:
        """Sums (U, M) over all other cells, weighted by `KERNELS[kernel]` of the distance; unknown counts as 0.

        Each month's tree stands in the rectangle around the cells that exist in that month, so that no later cell moves
        it. At `theta` 0 the sum is the exact one, by fast Fourier transforms.
        """
        values = np.nan_to_num(values, posinf=np.inf, neginf=-np.inf)
        result = np.zeros_like(values)
        for rectangle, months in self._rectangles():
            tree = self.lattice.tree(rectangle)
            within = np.ix_(tree.cells, months)
            if theta > 0:
                result[within] = tree.lag(np.ascontiguousarray(values[within]), theta, kernel)
            else:
                result[within] = exact_sums(self.lattice.gid[tree.cells], values[within], kernel)
        return result

    def _rectangles(self) -> Iterator[tuple[Rectangle, Indices]]:
        """The rectangles around the cells that exist, each with its months (0-based)."""
        row, column = self.lattice.row[:, None], self.lattice.column[:, None]
        far = np.iinfo(np.int64).max
        sides = [
            np.where(self.exists, row, far).min(axis=0),
            np.where(self.exists, row, 0).max(axis=0),
            np.where(self.exists, column, far).min(axis=0),
            np.where(self.exists, column, 0).max(axis=0),
        ]
        distinct, which = np.unique(np.stack(sides, axis=1), axis=0, return_inverse=True)
        for number, (south, north, west, east) in enumerate(distinct.tolist()):
            yield (south, north, west, east), np.flatnonzero(which == number)

    def nearest_events(self, values: Matrix, k: int, nu: float, cell: float) -> Matrix:
        """Distance (U, M) to the k-th nearest event (value above 0) up to and in the month, 999 without k events.

        The distance is sqrt((cell * cells)^2 + (nu * months)^2). Of each cell only its k latest events can count, which
        keeps a month's KD-tree small however long the history is.
        """
        from scipy.spatial import cKDTree

        months = values.shape[1]
        unit, month = np.nonzero(values > 0)
        overtaken = np.full(len(unit), months)
        same = unit[k:] == unit[:-k]
        overtaken[:-k][same] = month[k:][same]
        places = np.column_stack([self.lattice.row, self.lattice.column, np.zeros(len(self.lattice.gid))]) * cell
        result = np.full(values.shape, NO_EVENT)

        def fill(now: int) -> None:
            current = (month <= now) & (now < overtaken)
            if not current.any():
                return
            events = places[unit[current]]
            events[:, 2] = nu * (now - month[current])
            here = np.flatnonzero(self.exists[:, now])
            found, _ = cKDTree(events, compact_nodes=False, balanced_tree=False).query(places[here], [k])
            distance = np.asarray(found)[:, 0]
            result[here, now] = np.where(np.isfinite(distance), distance, NO_EVENT)

        # A thread has months of its own: one month's search is too short to be divided.
        with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
            for _ in pool.map(fill, range(self.needed, months)):
                pass
        return result
