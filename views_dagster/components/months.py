"""The calendar as Dagster knows it: one partition a month."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import count

import dagster as dg

from views_dagster import calendar


class Months(dg.MonthlyPartitionsDefinition):
    """`dg.MonthlyPartitionsDefinition` of whole months in UTC that computes where a month begins.

    Dagster searches a cron schedule for it, for each input of each step through fifty years one by one, which took
    longer than reading the input. All that a definition tells of its windows comes from these two methods.
    """

    def _iterate_time_windows(self, start_timestamp: float, ignore_exclusions: bool = False) -> Iterator[dg.TimeWindow]:
        """The months that begin at a time or later, without end."""
        time = datetime.fromtimestamp(start_timestamp, UTC)
        first = calendar.from_date(time)
        if _window(first).start < time:
            first += 1
        return (_window(month) for month in count(first))

    def _reverse_iterate_time_windows(
        self, end_timestamp: float, ignore_exclusions: bool = False
    ) -> Iterator[dg.TimeWindow]:
        """The months that have ended at a time, the latest first, without end."""
        last = calendar.from_date(datetime.fromtimestamp(end_timestamp, UTC)) - 1
        return (_window(month) for month in count(last, -1))


@cache
def _window(month_id: int) -> dg.TimeWindow:
    begin, end = (datetime(*calendar.year_month(month), 1, tzinfo=UTC) for month in (month_id, month_id + 1))
    return dg.TimeWindow(begin, end)
