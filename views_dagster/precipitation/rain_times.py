"""Which records of files make up the rain of which interval: rates, amounts, accumulations, and means over windows."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import SourceError
from views_dagster.precipitation.boxes import hours_long, in_months
from views_dagster.precipitation.column_times import Records, Stamped

Since = Literal["run", "day"]
"""From when an accumulation counts: the start of the forecast it is of, or 00 UTC."""

_NONE = -1


@dataclass(frozen=True)
class Intervals:
    """n intervals of rain, by valid time, each the difference or the mean of records.

    Attributes:
        valid_time: (n,) datetime64[us] at which they end.
        plus: (n, k) positions of the records whose mean they are.
        minus: (n,) positions of the record to take off, -1 where there is none.
        incomplete: valid times of those that had to be left out, since a record that they need is absent.
        older: valid times of those that were passed over, since a newer run has them.
        day_before: (n,) positions of the last record of an earlier day, for the first interval of a day whose count
            must have begun anew; -1 for all others.
    """

    valid_time: NDArray[np.datetime64]
    plus: NDArray[np.intp]
    minus: NDArray[np.intp]
    incomplete: NDArray[np.datetime64]
    older: NDArray[np.datetime64]
    day_before: NDArray[np.intp]

    def within(self, first: int, last: int) -> "Intervals":
        """Those of months `first..last`."""
        rows = in_months(self.valid_time, first, last)
        return Intervals(
            self.valid_time[rows],
            self.plus[rows],
            self.minus[rows],
            self.incomplete[in_months(self.incomplete, first, last)],
            self.older[in_months(self.older, first, last)],
            self.day_before[rows],
        )


def differences(records: Records, *, hours: float, since: Since, where: str) -> Intervals:
    """Intervals of so many hours between records of one run that accumulate from its start.

    Intervals end at whole multiples of `hours` from the start. Of the same interval in several runs the newest run's is
    taken: it is the shortest forecast.

    Raises:
        SourceError: accumulations of a run that the files do not know.
    """
    step = hours_long(hours)
    if since == "day":
        # 00 UTC ends a day's accumulation.
        run = (records.valid_time - np.timedelta64(1, "us")).astype("datetime64[D]").astype("datetime64[us]")
    elif np.isnat(records.run).any():
        raise SourceError(
            f"{where}: accumulated rain without the start of its forecast (a time and a step); if it accumulates from "
            "00 UTC of each day, say `since: day`"
        )
    else:
        run = records.run
    lead = records.valid_time - run
    number = (lead // step).astype(np.int64)
    at_end = (lead % step == np.timedelta64(0, "us")) & (number > 0)
    # A number for each run and step; those of different runs lie too far apart to be taken for one another.
    _, of_run = np.unique(run, return_inverse=True)
    steps = lead.astype(np.int64)
    key = of_run * (steps.max() + int(step.astype(np.int64)) + 1) + steps
    order = np.argsort(key)
    wanted = key - int(step.astype(np.int64))
    before = order[np.minimum(np.searchsorted(key[order], wanted), len(order) - 1)]
    known = key[before] == wanted
    first = number == 1
    keep = np.flatnonzero(at_end & (known | first))
    minus = np.where(known, before, _NONE)[keep]
    incomplete = records.valid_time[at_end & ~known & ~first]
    day_before = np.where(first & (since == "day"), np.searchsorted(run, run) - 1, _NONE)[keep]
    # Records come sorted by valid time and run: the last of equal times is of the newest run.
    valid = records.valid_time[keep]
    newest = np.append(valid[1:] != valid[:-1], True) if len(valid) else np.zeros(0, bool)
    return Intervals(
        valid[newest], keep[newest][:, None], minus[newest], incomplete, valid[~newest], day_before[newest]
    )


def means(records: Records, *, hours: float, window: float, stamped: Stamped, where: str) -> Intervals:
    """Means over windows, which end at whole multiples of `window` hours since 00 UTC, of values that each cover
    `hours`.

    Raises:
        SourceError: values closer together than what they cover.
    """
    step, long = hours_long(hours), hours_long(window)
    spacing = np.diff(records.valid_time)
    if len(spacing) and spacing.min() < step:
        raise SourceError(
            f"{where}: values come every {spacing.min() / np.timedelta64(1, 'h'):g} hours, and `interval` says that "
            f"each covers {hours:g}; correct `interval`"
        )
    ends = records.valid_time + {"start": step, "middle": step // 2, "end": step * 0}[stamped]
    count = round(window / hours)
    if count == 1:
        rows, none = np.arange(len(ends)), np.full(len(ends), _NONE)
        return Intervals(ends, rows[:, None], none, ends[:0], ends[:0], none)
    number = -(-(ends.astype(np.int64)) // int(long.astype(np.int64)))
    windows, starts, sizes = np.unique(number, return_index=True, return_counts=True)
    whole = sizes == count
    plus = starts[whole][:, None] + np.arange(count)
    valid = (windows * int(long.astype(np.int64))).astype("datetime64[us]")
    none = np.full(len(plus), _NONE)
    return Intervals(valid[whole], plus, none, valid[~whole], valid[:0], none)
