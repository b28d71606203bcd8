"""Conservative coarsening of fine fields to boxes: their mean, and of rain fractions by intensity band and maximum.

A `Coarsener` is made once for a fine grid and a lattice of boxes and then given fields, time chunk by time chunk, or
parts of fields, row chunk by row chunk: its sums add up. On a grid of rectangular latitude-longitude cells each cell
counts with the area in which it overlaps the box, on any other grid each pixel counts once, where its centre lies.
"""

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import SourceError
from views_dagster.precipitation.bands import EDGES
from views_dagster.precipitation.box_sums import BoxSums, Coarsener, Floats
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.overlaps import around_the_globe, cell_edges, monotonic, overlap, pixel_areas, snapped

_BOX_ROWS_AT_ONCE: Final = 4
_BOX_COLUMNS_AT_ONCE: Final = 8
_PIXELS_AT_ONCE: Final = 32_768
_WHOLE_BY_CENTRES: Final = 0.9
"""A box entirely inside a grid of pixels holds as many centres as its area says, give or take a row of them."""


def coarsener(
    grid: BoxGrid,
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    *,
    edges: tuple[float, ...] = EDGES,
    least_cover: float = 0.5,
) -> Coarsener:
    """The coarsener for a fine grid.

    Args:
        latitude, longitude: (r,) and (c,) centres of rectangular cells, in either direction, longitudes in any writing;
            or both (r, c), centres of pixels of a curvilinear or projected grid.
        edges: lower edges of all bands but the first, mm/h; none where only the mean is wanted.
        least_cover: boxes of which the fine grid covers a smaller share are left out.

    Raises:
        SourceError: the fine grid has fewer than two rows or columns, or covers no box.
    """
    if min(latitude.shape) < 2 or min(longitude.shape) < 2:
        raise SourceError(f"a grid of {latitude.shape} latitudes and {longitude.shape} longitudes has no cells to sum")
    made: Coarsener = (
        _Rectangles(grid, latitude, longitude, edges, least_cover)
        if latitude.ndim == 1
        else _Pixels(grid, latitude, longitude, edges, least_cover)
    )
    if not len(made.box_id):
        raise SourceError(
            f"latitudes {latitude.min():g}..{latitude.max():g} and longitudes {longitude.min():g}..{longitude.max():g} "
            f"cover no box of the grid, which reaches from {grid.latitude_edges[0]:g} to {grid.latitude_edges[-1]:g} "
            f"north and from {grid.longitude_edges[0]:g} to {grid.longitude_edges[-1]:g} east"
        )
    return made


class _Rectangles(Coarsener):
    """Rectangular cells: the weight of a cell is that of its row times that of its column."""

    def __init__(
        self,
        grid: BoxGrid,
        latitude: NDArray[np.float64],
        longitude: NDArray[np.float64],
        edges: tuple[float, ...],
        least_cover: float,
    ) -> None:
        self.edges = edges
        box_rows = np.sin(np.radians(grid.latitude_edges))
        rows = np.clip(snapped(cell_edges(monotonic(latitude)), grid.latitude_edges), -90, 90)
        rows = np.sin(np.radians(rows))
        low, high = np.minimum(rows[:-1], rows[1:]), np.maximum(rows[:-1], rows[1:])
        by_row = overlap(box_rows, low, high) / np.diff(box_rows)[:, None]
        column, low, high = around_the_globe(grid.longitude_edges, longitude)
        by_column = overlap(grid.longitude_edges, low, high) / grid.steps[1]
        covered = by_row.sum(axis=1)[:, None] * by_column.sum(axis=1)
        self.box_id = np.flatnonzero(covered.reshape(-1) >= least_cover - 1e-6)
        self.rows = _between(np.flatnonzero(by_row.any(axis=0)))
        self.columns = _between(column)
        self._runs = np.split(column - self.columns.start, np.flatnonzero(np.diff(column) != 1) + 1)
        self._by_row = by_row[:, self.rows].astype(np.float32)
        self._by_column = np.ascontiguousarray(by_column.T, dtype=np.float32)
        self._spans = [_between(np.flatnonzero(weights)) for weights in by_column]
        self._groups = _groups(self._spans, _BOX_COLUMNS_AT_ONCE)

    def sums(self, fields: Floats, *, row: int = 0, gaps: bool = True) -> BoxSums:
        from threadpoolctl import threadpool_limits

        # Products this small take several times as long where threads of a busy machine wait for one another.
        with threadpool_limits(1, "blas"):
            return self._sums(fields, row, gaps)

    def _sums(self, fields: Floats, row: int, gaps: bool) -> BoxSums:
        if len(self._runs) > 1:
            fields = np.concatenate([fields[:, :, _between(run)] for run in self._runs], axis=2)
        times, rows, columns = fields.shape
        by_row = np.ascontiguousarray(self._by_row[:, row : row + rows])
        spans = [_between(np.flatnonzero(weights)) for weights in by_row]
        groups = _groups(spans, _BOX_ROWS_AT_ONCE)
        widest = max((span.stop - span.start for _, span in groups), default=0)
        flag, number = np.empty((widest, columns), bool), np.empty((widest, columns), np.float32)
        # One sheet an edge, then one of the rates, then one of the observed share.
        sheets = np.zeros((len(self.edges) + 2, len(by_row), columns), np.float32)
        by_sheet = sheets.reshape(-1, columns)
        boxed = np.zeros((len(by_sheet), len(self._spans)), np.float32)
        highest = np.full((len(by_row), columns), -np.inf, np.float32)
        result = _nothing(times, len(self.edges), len(self.box_id))
        for time, field in enumerate(fields):
            for boxes, span in groups:
                piece, weights = field[span], by_row[boxes, span]
                flags, numbers = flag[: len(piece)], number[: len(piece)]
                for box in range(boxes.start, boxes.stop) if self.edges else ():
                    (np.fmax if gaps else np.maximum).reduce(field[spans[box]], axis=0, out=highest[box])
                # Most of the time it rains hard in few places, and in many not at all.
                top = np.fmax.reduce(highest[boxes], axis=None) if self.edges else np.inf
                for sheet, edge in zip(sheets, self.edges, strict=False):
                    if top >= np.float32(edge):
                        np.copyto(numbers, np.greater_equal(piece, np.float32(edge), out=flags))
                        np.matmul(weights, numbers, out=sheet[boxes])
                    else:
                        sheet[boxes] = 0
                if gaps or time == 0:
                    np.copyto(numbers, np.equal(piece, piece, out=flags))
                    np.matmul(weights, numbers, out=sheets[-1, boxes])
                if top == 0:
                    sheets[-2, boxes] = 0
                    continue
                if gaps:
                    np.multiply(piece, numbers, out=numbers, where=flags)
                    piece = numbers
                np.matmul(weights, piece, out=sheets[-2, boxes])
            for boxes, span in self._groups:
                np.matmul(by_sheet[:, span], self._by_column[span, boxes], out=boxed[:, boxes])
            summed = boxed.reshape(len(sheets), -1)[:, self.box_id]
            result.above[time], result.total[time], result.observed[time] = summed[:-2], summed[-2], summed[-1]
            if self.edges:
                result.highest[time] = _highest_in(highest, self._spans).reshape(-1)[self.box_id]
        return result


class _Pixels(Coarsener):
    """Pixels of any shape: each belongs to the box that holds its centre, and all in a box weigh the same."""

    def __init__(
        self,
        grid: BoxGrid,
        latitude: NDArray[np.float64],
        longitude: NDArray[np.float64],
        edges: tuple[float, ...],
        least_cover: float,
    ) -> None:
        self.edges = edges
        box = grid.box_of(latitude, longitude)
        centres = np.bincount(box[box >= 0], minlength=grid.count)
        area = pixel_areas(latitude, longitude)
        known = (box >= 0) & np.isfinite(area)
        in_box = np.bincount(box[known], weights=area[known], minlength=grid.count)
        pixel = in_box / np.maximum(np.bincount(box[known], minlength=grid.count), 1)
        with np.errstate(divide="ignore"):
            expected = np.repeat(grid.areas(), grid.columns) / pixel
        self.box_id = np.flatnonzero((centres > 0) & (centres >= least_cover * expected))
        place = np.full(grid.count + 1, -1)
        place[self.box_id] = np.arange(len(self.box_id))
        place = place[box]
        inside = place >= 0
        self.rows = _between(np.flatnonzero(inside.any(axis=1)))
        self.columns = _between(np.flatnonzero(inside.any(axis=0)))
        place = place[self.rows, self.columns]
        self._width = self.columns.stop - self.columns.start
        order = np.argsort(place, axis=None, kind="stable")
        self._pixel = order[np.count_nonzero(place < 0) :]
        self._place = place.reshape(-1)[self._pixel]
        self._share = (1 / np.maximum(centres[self.box_id], _WHOLE_BY_CENTRES * expected[self.box_id])).astype(
            np.float32
        )

    def sums(self, fields: Floats, *, row: int = 0, gaps: bool = True) -> BoxSums:
        times, rows, columns = fields.shape
        begin, end = row * self._width, (row + rows) * self._width
        here = (self._pixel >= begin) & (self._pixel < end)
        pixels, places = self._pixel[here] - begin, self._place[here]
        boxes, starts = np.unique(places, return_index=True)
        result = _nothing(times, len(self.edges), len(self.box_id))
        number, picked = np.empty((2, len(pixels)), np.float32)
        for time, field in enumerate(fields.reshape(times, rows * columns)):
            for part, span in _runs(starts, len(pixels)):
                at, taken = boxes[part], starts[part] - span.start
                # All positions are in the field: `clip` only keeps numpy from checking each.
                values = np.take(field, pixels[span], out=picked[span], mode="clip")
                numbers = number[span]
                top = np.inf
                if self.edges:
                    highest = (np.fmax if gaps else np.maximum).reduceat(values, taken)
                    result.highest[time, at] = np.fmax(highest, np.float32(-np.inf))
                    top = np.fmax.reduce(highest)
                for sheet, edge in zip(result.above[time], self.edges, strict=True):
                    if top >= np.float32(edge):
                        np.copyto(numbers, values >= np.float32(edge))
                        sheet[at] = np.add.reduceat(numbers, taken)
                if gaps or time == 0:
                    np.copyto(numbers, values == values)
                    result.observed[time, at] = np.add.reduceat(numbers, taken)
                else:
                    result.observed[time, at] = result.observed[0, at]
                if top != 0:
                    result.total[time, at] = np.add.reduceat(
                        np.nan_to_num(values, copy=False) if gaps else values, taken
                    )
        for sums in (result.observed, result.above, result.total):
            sums *= self._share
        return result


def _nothing(times: int, edges: int, boxes: int) -> BoxSums:
    return BoxSums(
        observed=np.zeros((times, boxes), np.float32),
        above=np.zeros((times, edges, boxes), np.float32),
        total=np.zeros((times, boxes), np.float32),
        highest=np.full((times, boxes), -np.inf, np.float32),
    )


def _between(positions: NDArray[np.intp]) -> slice:
    return slice(int(positions.min()), int(positions.max()) + 1) if len(positions) else slice(0, 0)


def _groups(spans: list[slice], at_once: int) -> list[tuple[slice, slice]]:
    """Runs of box rows (columns) that have fine ones, and the fine rows of each run; few at once stay in the cache."""
    filled = np.flatnonzero([span.stop > span.start for span in spans])
    groups = []
    for start in range(0, len(filled), at_once):
        run = filled[start : start + at_once]
        held = [spans[box] for box in run]
        fine = slice(min(span.start for span in held), max(span.stop for span in held))
        groups.append((_between(run), fine))
    return groups


def _highest_in(rows: Floats, spans: list[slice]) -> Floats:
    """(boxes south-north, boxes west-east) highest of (boxes south-north, fine columns)."""
    bounds = np.array([(span.start, span.stop) for span in spans]).reshape(-1)
    padded = np.concatenate([rows, np.full((len(rows), 1), -np.inf, np.float32)], axis=1)
    found: Floats = np.fmax.reduceat(padded, bounds, axis=1)[:, ::2]
    return np.fmax(found, np.float32(-np.inf))


def _runs(starts: NDArray[np.intp], count: int) -> list[tuple[slice, slice]]:
    """Boxes whose pixels fit the cache together, and their pixels."""
    stops = np.append(starts[1:], count)
    cuts = np.unique(np.searchsorted(starts, np.arange(0, count, _PIXELS_AT_ONCE)))
    cuts = np.append(cuts[cuts < len(starts)], len(starts))
    return [
        (slice(int(a), int(b)), slice(int(starts[a]), int(stops[b - 1]))) for a, b in pairwise(cuts.tolist()) if b > a
    ]
