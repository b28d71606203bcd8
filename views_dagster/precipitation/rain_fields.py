"""Rain of intervals as fine fields in mm/h, block by block: read, differenced, converted and checked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.calendar import to_key
from views_dagster.errors import SourceError
from views_dagster.precipitation.boxes import month_of_times
from views_dagster.precipitation.column_times import Records
from views_dagster.precipitation.rain_times import Intervals
from views_dagster.precipitation.units import RAIN
from views_dagster.precipitation.weather_files import BLOCK_BYTES, WeatherField

Floats = NDArray[np.float32]

_FEWEST_ROWS: Final = 16
_FEWEST_CHANGES: Final = 2
"""Changes of day of a month that say whether a count begins anew: at one alone all rain may have grown by chance."""


@dataclass(frozen=True)
class RainLimits:
    """What rain may be, mm/h: negative down to `-tolerance` (taken as none), and at most `highest`."""

    tolerance: float
    highest: float


@dataclass(frozen=True)
class Block:
    """Part of the intervals and part of their rows.

    Attributes:
        which: positions of the T intervals.
        row: number of the first of the fine rows, counted within those that are read.
        fields: (T, K, r, c) float32 mm/h, K members.
        gaps: whether some are NaN.
    """

    which: NDArray[np.intp]
    row: int
    fields: Floats
    gaps: bool


@dataclass
class RainFields:
    """The rain of the files of one grid.

    Attributes:
        files: the files.
        records: their records.
        intervals: the intervals to read.
        hours: hours that each interval, or value if several make an interval, covers.
        rows, columns: part of the grid to read.
        limits: what rain may be.
        negatives: how many negative values were set to zero so far.
        counted, fell: (n,) whether rain had been counted before the day of the interval began, and was less in it.
    """

    files: Sequence[WeatherField]
    records: Records
    intervals: Intervals
    hours: float
    rows: slice
    columns: slice
    limits: RainLimits
    negatives: int = field(default=0)
    counted: NDArray[np.bool_] = field(init=False)
    fell: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.counted, self.fell = np.zeros((2, len(self.intervals.valid_time)), dtype=bool)

    def blocks(self) -> Iterator[Block]:
        """Blocks of at most about `BLOCK_BYTES`, along the chunks in which the files store them, in order of time.

        Raises:
            SourceError: a value below or above the limits, units that are no rain, a file that cannot be read, or a
                count since the start of the day that in a month never begins anew.
        """
        first = self.files[0]
        members = 1 if first.axes.extra is None else first.array.sizes[first.axes.extra]
        columns, rows = self.columns.stop - self.columns.start, self.rows.stop - self.rows.start
        per_interval = self.intervals.plus.shape[1]
        row_bytes = columns * members * 4
        stored_times, _, stored_rows = first.chunk()
        # A chunk is decompressed whole: better fewer rows of all its times than to read it once for each time.
        at_once = max(1, min(BLOCK_BYTES // (row_bytes * rows), 4096))
        tall = rows
        if stored_times > at_once:
            tall = max(
                _FEWEST_ROWS, stored_rows, BLOCK_BYTES // (row_bytes * stored_times) // stored_rows * stored_rows
            )
            at_once = stored_times
        at_once = max(1, at_once // per_interval)
        for start in range(0, len(self.intervals.valid_time), at_once):
            which = np.arange(start, min(start + at_once, len(self.intervals.valid_time)))
            for row in range(0, rows, tall):
                yield self._block(which, row, min(row + tall, rows))
        self._require_resets()

    def _block(self, which: NDArray[np.intp], row: int, stop: int) -> Block:
        plus, minus = self.intervals.plus[which], self.intervals.minus[which]
        before = self.intervals.day_before[which]
        needed = np.unique(np.concatenate([plus.reshape(-1), minus[minus >= 0], before[before >= 0]]))
        rows = slice(self.rows.start + row, self.rows.start + stop)
        values = self._values(needed, rows)
        place = np.searchsorted(needed, plus)
        for at in np.flatnonzero(before >= 0):
            fall = values[np.searchsorted(needed, before[at])] - values[place[at, 0]]
            known = ~np.isnan(fall) & (values[np.searchsorted(needed, before[at])] > self.limits.tolerance)
            self.counted[which[at]] |= known.any()
            self.fell[which[at]] |= (known & (fall > self.limits.tolerance)).any()
        if place.shape[1] > 1:
            fields = values[place[:, 0]]
            for column in place.T[1:]:
                fields += values[column]
            fields /= np.float32(place.shape[1])
        elif np.array_equal(place[:, 0], np.arange(len(needed))) and (minus < 0).all():
            fields = values
        else:
            fields = values[place[:, 0]]
            less = np.flatnonzero(minus >= 0)
            fields[less] -= values[np.searchsorted(needed, minus[less])]
        return self._checked(Block(which, row, fields, gaps=False))

    def _values(self, needed: NDArray[np.intp], rows: slice) -> Floats:
        """(n, K, r, c) values of records in mm/h, or for amounts in mm divided by the hours they are of."""
        parts: list[tuple[NDArray[np.intp], Floats]] = []
        for number in np.unique(self.records.file[needed]):
            mine = np.flatnonzero(self.records.file[needed] == number)
            record = self.records.record[needed[mine]]
            order = np.argsort(record)
            source = self.files[number]
            values = source.values(record[order], rows, self.columns)
            conversion = source.conversion(RAIN)
            factor = conversion.factor / (self.hours if conversion.unit == "mm" else 1.0)
            if factor != 1:
                values *= np.float32(factor)
            parts.append((mine[order], values))
        if len(parts) == 1 and np.array_equal(parts[0][0], np.arange(len(needed))):
            return parts[0][1]
        result = np.empty((len(needed), *parts[0][1].shape[1:]), np.float32)
        for place, values in parts:
            result[place] = values
        return result

    def _checked(self, block: Block) -> Block:
        fields = block.fields
        # Read as whole numbers, floats from 0 up are in order, and negative ones and NaN lie above all of them.
        if fields.view(np.uint32).max() <= np.float32(self.limits.highest).view(np.uint32):
            return block
        lowest, highest = fields.min(), fields.max()
        gaps = bool(np.isnan(lowest))
        if gaps:
            # Infinities stand for no value at all in the block, which is within every limit.
            lowest, highest = (
                np.fmin.reduce(fields, axis=None, initial=np.float32(np.inf)),
                np.fmax.reduce(fields, axis=None, initial=np.float32(-np.inf)),
            )
        if lowest < -self.limits.tolerance:
            raise SourceError(
                f"{self._at(block, lowest)}: negative rain of {lowest:g} mm/h, {self.limits.tolerance:g} is tolerated; "
                "if it means missing, set `missing_value`; if it is rounding, raise `tolerance`"
            )
        if highest > self.limits.highest:
            raise SourceError(
                f"{self._at(block, highest)}: {highest:g} mm/h of rain, at most {self.limits.highest:g} is possible; "
                "if it means missing, set `missing_value`; else correct `units` or `interval`, or raise `highest`"
            )
        if lowest < 0:
            negative = fields < 0
            self.negatives += int(np.count_nonzero(negative))
            fields[negative] = 0
        return Block(block.which, block.row, fields, gaps)

    def _require_resets(self) -> None:
        """SourceError for a month in which the count of the day before goes on at every change of day."""
        month = month_of_times(self.intervals.valid_time)
        for month_id in np.unique(month[self.counted]):
            changes = (month == month_id) & self.counted
            if changes.sum() >= _FEWEST_CHANGES and not self.fell[changes].any():
                source = self.files[self.records.file[self.intervals.plus[np.flatnonzero(changes)[0], 0]]]
                raise SourceError(
                    f"{source.path}: variable {source.array.name}: accumulated rain does not begin anew at 00 UTC, as "
                    f"`since: day` says: at none of {changes.sum()} changes of day in {to_key(int(month_id))} is it "
                    "anywhere less than the day before; if it counts from the start of a forecast, say `since: run`"
                )

    def _at(self, block: Block, value: np.float32) -> str:
        """Where and when in the files a value of the block is."""
        time, _, row, column = (int(at) for at in np.argwhere(block.fields == value)[0])
        row, column = row + block.row + self.rows.start, column + self.columns.start
        interval = block.which[time]
        source = self.files[self.records.file[self.intervals.plus[interval, 0]]]
        flat = source.latitude.ndim == 1
        north = source.latitude[row] if flat else source.latitude[row, column]
        east = source.longitude[column] if flat else source.longitude[row, column]
        return (
            f"{source.path}: variable {source.array.name} at {self.intervals.valid_time[interval]}, latitude "
            f"{north:g}, longitude {east:g}"
        )
