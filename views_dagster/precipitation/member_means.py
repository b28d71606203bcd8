"""Rain of the NWP around a box: means of its members over squares of boxes, as single-level variables of a column set.

A model that rains in the next box, or in a wider storm than fell, is of more use than its own box says (Theis, Hense
and Damrath 2005, Meteorological Applications 12).
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.column_sets import MEMBERS, member_mean_name
from views_dagster.precipitation.raw_checks import BOX


def member_means(said: pl.DataFrame, grid: BoxGrid, widths: Sequence[int]) -> pl.DataFrame:
    """A row for each of `said`: `valid_time`, `box_id` and a Float32 for each width, the cube root of mm/h.

    Boxes of the square without members, or off the lattice, are left out of its mean; a lattice that goes around the
    globe has no western and eastern ends.

    Args:
        said: rows with members, each box at most once at a time.
        widths: odd widths of squares, in boxes.
    """
    times, time = np.unique(said["valid_time"].to_numpy(), return_inverse=True)
    row, column = grid.rows_columns(said["box_id"].to_numpy())
    around = round(grid.columns * grid.steps[1], 9) == 360
    mean = said[MEMBERS].list.mean().to_numpy().astype(np.float64)
    found = np.empty((len(widths), said.height), dtype=np.float32)
    order = np.argsort(time, kind="stable")
    bounds = np.searchsorted(time[order], np.arange(len(times) + 1))
    field, there = np.zeros((2, grid.rows, grid.columns))
    for rows in (order[bounds[at] : bounds[at + 1]] for at in range(len(times))):
        place = row[rows], column[rows]
        field[:], there[:] = 0.0, 0.0
        field[place], there[place] = mean[rows], 1.0
        for at, width in enumerate(widths):
            total, boxes = (_sum_around(values, width, around)[place] for values in (field, there))
            found[at, rows] = np.cbrt(np.maximum(total / boxes, 0.0))
    return said.select(
        *BOX, *(pl.Series(member_mean_name(width), values) for width, values in zip(widths, found, strict=True))
    )


def _sum_around(field: NDArray[np.float64], width: int, around: bool) -> NDArray[np.float64]:
    """(R, C) sums over the square around each box."""
    reach = width // 2
    for axis, wraps in ((0, False), (1, around)):
        edge = [(reach, reach) if axis == each else (0, 0) for each in (0, 1)]
        padded = np.pad(field, edge, mode="wrap" if wraps else "constant")
        running = np.insert(padded.cumsum(axis), 0, 0.0, axis)
        ends = np.arange(width, running.shape[axis])
        field = running.take(ends, axis) - running.take(ends - width, axis)
    return field
