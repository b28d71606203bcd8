"""How the points of a file's grid lie to the boxes: whether they are their centres, or finer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import SourceError
from views_dagster.precipitation.boxes import BoxGrid, wrapped
from views_dagster.precipitation.weather_files import BLOCK_BYTES, WeatherField

OFF_LATTICE: Final = 0.02
"""Share of a step by which a coordinate may differ from a box's centre: rounding to float32 or to millidegrees."""

_ROUNDING: Final = 0.01
"""Share by which cells may be larger than boxes."""


@dataclass(frozen=True)
class BoxPoints:
    """Where in a file's grid the boxes are.

    Attributes:
        box_id: (n,) int64 boxes that the file has, ascending.
        rows, columns: part of the grid to read.
        row, column: positions of the boxes' rows and columns within that part.
    """

    box_id: NDArray[np.int64]
    rows: slice
    columns: slice
    row: NDArray[np.intp]
    column: NDArray[np.intp]

    def read(
        self, source: WeatherField, records: NDArray[np.intp], levels: Sequence[int] | None
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Which of the records, and their (records, levels, n) values at the boxes' centres.

        Args:
            source: a file of the grid.
            records: ascending.
            levels: positions along the extra dimension; None where there is none.
        """
        depth = 1 if levels is None else len(levels)
        size = (self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start) * depth * 4
        at_once = max(1, int(BLOCK_BYTES // size))
        for start in range(0, len(records), at_once):
            part = slice(start, min(start + at_once, len(records)))
            values = source.values(records[part], self.rows, self.columns, levels)
            yield part, values[..., self.row[:, None], self.column].reshape(*values.shape[:-2], -1)


def points_of_boxes(grid: BoxGrid, field: WeatherField) -> BoxPoints:
    """The boxes of which a field on a regular latitude-longitude grid has values at their centres.

    Raises:
        SourceError: the grid is not regular, its points inside the lattice are not centres of boxes that lie side by
            side, or it has none.
    """
    where = f"{field.path}: variable {field.array.name}"
    if field.latitude.ndim != 1:
        raise SourceError(
            f"{where} is on a curvilinear grid; for means over the boxes set `regrid: conservative`, or bring it to "
            "the lattice's latitudes and longitudes first"
        )
    row, at_row = _positions(
        (field.latitude - grid.latitude) / grid.steps[0], grid.rows, "latitudes", field.latitude, grid.latitudes, where
    )
    east = np.mod(field.longitude - grid.longitude_edges[0], 360.0) / grid.steps[1] - 0.5
    column, at_column = _positions(east, grid.columns, "longitudes", field.longitude, grid.longitudes, where)
    rows, columns = (slice(int(at.min()), int(at.max()) + 1) for at in (at_row, at_column))
    return BoxPoints(
        box_id=(row[:, None] * grid.columns + column).reshape(-1),
        rows=rows,
        columns=columns,
        row=at_row - rows.start,
        column=at_column - columns.start,
    )


def require_not_coarser(grid: BoxGrid, source: WeatherField, remedy: str) -> None:
    """SourceError, which ends with the remedy, where the cells of a regular grid are larger than the boxes."""
    if source.latitude.ndim > 1:
        return
    for what, cells, box in zip(
        ("latitude", "longitude"), (source.latitude, source.longitude), grid.steps, strict=True
    ):
        if len(cells) > 1 and (cell := float(np.median(np.abs(wrapped(np.diff(cells)))))) > box * (1 + _ROUNDING):
            raise SourceError(
                f"{source.path}: cells of {cell:g} degrees of {what} are larger than the boxes, {box:g}; {remedy}"
            )


def _positions(
    number: NDArray[np.float64],
    count: int,
    what: str,
    coordinate: NDArray[np.float64],
    centres: NDArray[np.float64],
    where: str,
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Rows (columns) of the lattice that the file has, ascending, and their positions in the file."""
    at = np.flatnonzero((number > -0.5 + OFF_LATTICE) & (number < count - 0.5 - OFF_LATTICE))
    found = np.round(number[at]).astype(np.int64)
    order = np.argsort(found)
    at, found = at[order], found[order]
    expected = f"expected {_listed(centres)}, found {_listed(coordinate)}"
    if not len(at):
        raise SourceError(f"{where} has none of the grid's {what}: {expected}; correct `grid`, or fetch the domain")
    if (np.abs(number[at] - found) > OFF_LATTICE).any() or (np.diff(found) != 1).any():
        finer = len(number) > 1 and float(np.median(np.abs(np.diff(number)))) < 1 - OFF_LATTICE
        remedy = (
            "they are closer together than boxes: for means over the boxes set `regrid: conservative`, for a finer "
            "lattice correct `grid`"
            if finer
            else "correct `grid`, or bring the file to it"
        )
        raise SourceError(f"{where}: the {what} are not those of the grid: {expected}; {remedy}")
    return found, at


def _listed(values: NDArray[np.float64]) -> str:
    if len(values) <= 3:
        return ", ".join(f"{value:g}" for value in values)
    return f"{values[0]:g}, {values[1]:g}, ..., {values[-1]:g} ({len(values)})"
