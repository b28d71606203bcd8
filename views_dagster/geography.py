"""The one lattice: PRIO-GRID cell ids, their rows, columns and coordinates, all computed and never stored.

Cells are 0.5 degree wide. Row 1 is at 90 S, column 1 at 180 W, and gid = (row - 1) * 720 + column (Tollefsen, Strand &
Buhaug 2012, Journal of Peace Research 49(2)). Distances on the lattice are counted in cells, and its left and right
edge, the 180th meridian, do not touch, as in VIEWS. Nothing outside this module does the arithmetic.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from views_dagster.errors import GeographyError

ROWS: Final = 360
COLUMNS: Final = 720
CELLS: Final = ROWS * COLUMNS
CELL_DEGREES: Final = 0.5

Ids = NDArray[np.int64]


def require_cells(gid: ArrayLike) -> Ids:
    """The ids as int64.

    Raises:
        GeographyError: an id that is no cell; names them.
    """
    ids = np.asarray(gid, dtype=np.int64)
    off = np.unique(ids[(ids < 1) | (ids > CELLS)])
    if len(off):
        raise GeographyError(
            f"{', '.join(map(str, off[:10]))}: no PRIO-GRID cells; ids run from 1 to {CELLS} "
            "(0.5 degree, row 1 at 90 S, column 1 at 180 W)"
        )
    return ids


def row_of(gid: ArrayLike) -> Ids:
    """Row of each cell, 1 (90 S) to 360."""
    return (require_cells(gid) - 1) // COLUMNS + 1


def column_of(gid: ArrayLike) -> Ids:
    """Column of each cell, 1 (180 W) to 720."""
    return (require_cells(gid) - 1) % COLUMNS + 1


def gid_of(row: ArrayLike, column: ArrayLike) -> Ids:
    """Id of the cell in `row` (1..360) and `column` (1..720).

    Raises:
        GeographyError: a row or column off the grid.
    """
    rows, columns = np.asarray(row, dtype=np.int64), np.asarray(column, dtype=np.int64)
    if ((rows < 1) | (rows > ROWS) | (columns < 1) | (columns > COLUMNS)).any():
        raise GeographyError(f"rows run from 1 to {ROWS} and columns from 1 to {COLUMNS}")
    return (rows - 1) * COLUMNS + columns


def latitude_of(gid: ArrayLike) -> NDArray[np.float64]:
    """Latitude of the cell's centre, degrees north."""
    return np.asarray((row_of(gid) - 0.5) * CELL_DEGREES - 90, dtype=np.float64)


def longitude_of(gid: ArrayLike) -> NDArray[np.float64]:
    """Longitude of the cell's centre, degrees east."""
    return np.asarray((column_of(gid) - 0.5) * CELL_DEGREES - 180, dtype=np.float64)


def gid_at(latitude: ArrayLike, longitude: ArrayLike) -> Ids:
    """Id of the cell that holds each point.

    A cell holds its southern and western edge. The north pole belongs to the top row, and 180 E is 180 W.

    Raises:
        GeographyError: a point that is not on the globe (latitude -90..90, longitude -180..180), or not a number.
    """
    north, east = np.asarray(latitude, dtype=np.float64), np.asarray(longitude, dtype=np.float64)
    off = ~((np.abs(north) <= 90) & (np.abs(east) <= 180))
    if off.any():
        first = np.flatnonzero(off)[0]
        raise GeographyError(
            f"{int(off.sum())} points lie off the globe, first ({np.ravel(north)[first]}, {np.ravel(east)[first]}); "
            "latitudes are -90..90, longitudes -180..180 degrees"
        )
    row = np.minimum(np.floor((north + 90) / CELL_DEGREES).astype(np.int64) + 1, ROWS)
    column = np.floor((east + 180) / CELL_DEGREES).astype(np.int64) % COLUMNS + 1
    return gid_of(row, column)


@dataclass(frozen=True)
class Raster:
    """The smallest rectangle of the lattice around some cells: what a computation between neighbours works on.

    Attributes:
        row, column: (U,) int64, 0-based position of each cell in the rectangle, south to north and west to east.
        shape: rows and columns of the rectangle.
        south, west: lattice row and column (1-based) of its first cell.
    """

    row: Ids
    column: Ids
    shape: tuple[int, int]
    south: int
    west: int

    @classmethod
    def around(cls, gid: ArrayLike) -> "Raster":
        """The rectangle around cells (U,), at least one."""
        row, column = row_of(gid), column_of(gid)
        south, west = int(row.min()), int(column.min())
        shape = (int(row.max()) - south + 1, int(column.max()) - west + 1)
        return cls(row - south, column - west, shape, south, west)

    def paint(self, values: NDArray[Any], *, empty: float = 0.0) -> NDArray[Any]:
        """Values (..., U) of the cells as (..., R, C), `empty` elsewhere."""
        painted = np.full((*values.shape[:-1], *self.shape), empty, dtype=values.dtype)
        painted[..., self.row, self.column] = values
        return painted

    def pick(self, painted: NDArray[Any]) -> NDArray[Any]:
        """Undo `paint`: values (..., U) of the cells from (..., R, C)."""
        return painted[..., self.row, self.column]
