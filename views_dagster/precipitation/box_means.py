"""Area-weighted means over boxes of fields on a finer grid: columns brought to the lattice as rain is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import SourceError
from views_dagster.precipitation.box_matching import require_not_coarser
from views_dagster.precipitation.box_sums import BoxSums, Coarsener, Floats, means_of
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.coarsening import coarsener
from views_dagster.precipitation.weather_files import BLOCK_BYTES, WeatherField


@dataclass
class BoxMeans:
    """The boxes that a finer grid covers, and their means.

    Attributes:
        coarsener: of the grid.
        max_missing: largest share of a box that may be missing.
        pixels_missing: how many values within the boxes' rows and columns were missing so far.
    """

    coarsener: Coarsener
    max_missing: float
    pixels_missing: int = field(default=0)

    @property
    def box_id(self) -> NDArray[np.int64]:
        """(n,) boxes that have values, ascending."""
        return self.coarsener.box_id

    def read(
        self, source: WeatherField, records: NDArray[np.intp], levels: Sequence[int] | None
    ) -> Iterator[tuple[slice, Floats]]:
        """Which of the records, and their (records, levels, n) means, NaN where more than `max_missing` is missing.

        Args:
            source: a file of the grid.
            records: ascending.
            levels: positions along the extra dimension; None where there is none.
        """
        depth = 1 if levels is None else len(levels)
        at_once, deep, tall = self._block(source, depth)
        rows = self.coarsener.rows.stop - self.coarsener.rows.start
        for start in range(0, len(records), at_once):
            part = slice(start, min(start + at_once, len(records)))
            means = np.empty((part.stop - start, depth, len(self.box_id)), np.float32)
            for low in range(0, depth, deep):
                taken = None if levels is None else levels[low : low + deep]
                sums = reduce(
                    BoxSums.plus,
                    (
                        self._sums(source, records[part], row, min(row + tall, rows), taken)
                        for row in range(0, rows, tall)
                    ),
                )
                found, _ = means_of(sums, self.max_missing)
                means[:, low : low + deep] = found.reshape(len(means), -1, found.shape[-1])
            yield part, means

    def _block(self, source: WeatherField, depth: int) -> tuple[int, int, int]:
        """Records, levels and rows that are read at once: about `BLOCK_BYTES`, whole chunks of the file if they fit."""
        rows, columns = (each.stop - each.start for each in (self.coarsener.rows, self.coarsener.columns))
        stored, stored_levels, stored_rows = source.chunk()
        at_once = BLOCK_BYTES // (columns * rows * depth * 4)
        if at_once >= stored:
            return at_once // stored * stored, depth, rows
        # A chunk is decompressed whole: better fewer rows and levels of all its times than to read it for each time.
        deep = min(depth, stored_levels)
        tall = BLOCK_BYTES // (columns * deep * stored * 4) // stored_rows * stored_rows
        return stored, deep, min(rows, max(tall, stored_rows))

    def _sums(
        self, source: WeatherField, records: NDArray[np.intp], row: int, stop: int, levels: Sequence[int] | None
    ) -> BoxSums:
        first = self.coarsener.rows.start
        fields = source.values(records, slice(first + row, first + stop), self.coarsener.columns, levels)
        unknown = ~np.isfinite(fields)
        count = int(np.count_nonzero(unknown))
        if count:
            self.pixels_missing += count
            fields = np.where(unknown, np.float32(np.nan), fields)
        return self.coarsener.sums(fields.reshape(-1, *fields.shape[2:]), row=row, gaps=count > 0)


def means_of_boxes(grid: BoxGrid, source: WeatherField, max_missing: float) -> BoxMeans:
    """The boxes of which a field covers enough, on a grid that is not coarser than they are.

    Raises:
        SourceError: cells larger than the boxes, or a grid that covers no box.
    """
    require_not_coarser(
        grid, source, "their means would repeat one cell: use larger boxes, or bring the file to the lattice first"
    )
    try:
        made = coarsener(grid, source.latitude, source.longitude, edges=(), least_cover=1 - max_missing)
    except SourceError as error:
        raise SourceError(f"{source.path}: variable {source.array.name}: {error}") from error
    return BoxMeans(made, max_missing)
