"""Which records of files make up which valid times of columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import SourceError
from views_dagster.precipitation.boxes import hours_long, month_of_times
from views_dagster.precipitation.weather_files import WeatherField

Stamped = Literal["start", "middle", "end"]
"""Which instant of the interval that a value is of its time is."""


@dataclass(frozen=True)
class Records:
    """n records of some files, in order of valid time.

    Attributes:
        file: (n,) which file.
        record: (n,) which of its records.
        valid_time, run: (n,) datetime64[us], run NaT where unknown.
    """

    file: NDArray[np.intp]
    record: NDArray[np.intp]
    valid_time: NDArray[np.datetime64]
    run: NDArray[np.datetime64]

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Records":
        """The records at these positions, or where this mask is true."""
        return Records(self.file[rows], self.record[rows], self.valid_time[rows], self.run[rows])


def records_of(fields: Sequence[WeatherField]) -> Records:
    """All records of files of one grid, by valid time, then run.

    Raises:
        SourceError: a field has no times, or one valid time comes twice from the same run, or from no run.
    """
    for field in fields:
        if np.isnat(field.valid_time).any():
            raise SourceError(f"{field.path}: variable {field.array.name} has no times")
    counts = [len(field.valid_time) for field in fields]
    valid = np.concatenate([field.valid_time for field in fields])
    run = np.concatenate([field.run for field in fields])
    file = np.repeat(np.arange(len(fields)), counts)
    record = np.concatenate([np.arange(count) for count in counts])
    order = np.lexsort((run, valid))
    found = Records(file[order], record[order], valid[order], run[order])
    same = (found.valid_time[1:] == found.valid_time[:-1]) & ~(found.run[1:] != found.run[:-1])
    same |= (found.valid_time[1:] == found.valid_time[:-1]) & np.isnat(found.run[1:]) & np.isnat(found.run[:-1])
    if same.any():
        at = int(np.flatnonzero(same)[0])
        files = dict.fromkeys(fields[found.file[position]].path for position in (at, at + 1))
        raise SourceError(
            f"variable {fields[0].array.name} has {int(same.sum())} valid times twice, the first "
            f"{found.valid_time[at]} in {' and '.join(files)}; keep one of them"
        )
    return found


def require_stamped(fields: Sequence[WeatherField], stamped: Stamped, hours: float) -> None:
    """SourceError where a file's time bounds, of so many hours each, say that its times are another instant of them."""
    long = hours_long(hours)
    for field in fields:
        if field.covers is None:
            continue
        start, end = field.covers
        if not len(start) or (end - start != long).any():
            continue
        instants: dict[Stamped, NDArray[np.datetime64]] = {"start": start, "middle": start + long // 2, "end": end}
        found = [name for name, instant in instants.items() if np.array_equal(instant, field.valid_time)]
        if found and stamped not in found:
            raise SourceError(
                f"{field.path}: variable {field.array.name}: by the file's time bounds a time is the {found[0]} of the "
                f"{hours:g} hours that its value covers, and `stamped` says {stamped}; set `stamped: {found[0]}`"
            )


def newest_runs(records: Records) -> tuple[Records, NDArray[np.datetime64]]:
    """Of records of one valid time that of the newest run, and the valid times of the others."""
    last = np.append(records.valid_time[1:] != records.valid_time[:-1], True)
    return records.take(last), records.valid_time[~last]


@dataclass(frozen=True)
class Targets:
    """Records and the valid time of the columns each goes into.

    Attributes:
        records: n records.
        time: (n,) datetime64[us].
        per_time: (n,) how many records the time is the mean of.
    """

    records: Records
    time: NDArray[np.datetime64]
    per_time: NDArray[np.intp]

    def within(self, inside: NDArray[np.bool_]) -> "Targets":
        """Those where the mask is true."""
        return Targets(self.records.take(inside), self.time[inside], self.per_time[inside])


def targets_of(records: Records, *, hours: float, average: bool, stamped: Stamped) -> Targets:
    """Columns' valid times, one every `hours` since 00 UTC, and the records that each is of.

    Not averaged, a record stamped at the end, or with the instant it is of, belongs to that time; one that is stamped
    at the start or in the middle of its interval belongs to the time at which the interval ends. Records at other times
    are passed over. Averaged, all records of the interval that ends at the valid time are taken; times that have fewer
    than others of their month are left out, so that what a later month's files hold changes no earlier month.
    """
    step = hours_long(hours)
    since = records.valid_time.astype(np.int64)
    length = int(step.astype(np.int64))
    if average:
        # An instant on the boundary is the last of the interval before it, unless it is the start of its own.
        number = since // length + 1 if stamped != "end" else -(-since // length)
        time = (number * length).astype("datetime64[us]")
        per_time = length // _spacing(since, month_of_times(time), length)
        _, at, counts = np.unique(time, return_inverse=True, return_counts=True)
        whole = counts[at] == per_time
        return Targets(records.take(whole), time[whole], per_time[whole])
    shift = {"start": length, "middle": length // 2, "end": 0}[stamped]
    on_time = (since + shift) % length == 0
    time = (since[on_time] + shift).astype("datetime64[us]")
    return Targets(records.take(on_time), time, np.ones(len(time), dtype=np.intp))


def _spacing(since: NDArray[np.int64], month: NDArray[np.int32], most: int) -> NDArray[np.int64]:
    """(n,) shortest time between records of each record's month, `most` at most; a lone record takes that of all."""
    order = np.argsort(since, kind="stable")
    gaps, of_month = np.diff(since[order]), month[order]
    apart = gaps > 0
    shortest = int(gaps[apart].min(initial=most))
    months, at = np.unique(month, return_inverse=True)
    found = np.full(len(months), np.iinfo(np.int64).max)
    inside = apart & (of_month[1:] == of_month[:-1])
    np.minimum.at(found, np.searchsorted(months, of_month[1:][inside]), gaps[inside])
    return np.minimum(np.where(found == np.iinfo(np.int64).max, shortest, found), most)[at]
