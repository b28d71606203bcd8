"""The months are the windows that Dagster's own monthly partitions have."""

from datetime import UTC, datetime
from itertools import islice

import dagster as dg
from hypothesis import given
from hypothesis import strategies as st

from views_dagster.components.catalogue import HISTORY, MONTHS
from views_dagster.components.months import Months

DAGSTERS = dg.MonthlyPartitionsDefinition(start_date="1990-01", fmt="%Y-%m")
BOUNDARIES = st.builds(lambda year, month: datetime(year, month, 1), st.integers(1931, 2099), st.integers(1, 12))
TIMES = BOUNDARIES | st.datetimes(datetime(1931, 1, 1), datetime(2099, 12, 31))


@given(TIMES)
def test_windows_before_and_after_any_time(time: datetime) -> None:
    timestamp = time.replace(tzinfo=UTC).timestamp()
    for name in ("_iterate_time_windows", "_reverse_iterate_time_windows"):
        ours, dagsters = (islice(getattr(months, name)(timestamp), 3) for months in (MONTHS, DAGSTERS))
        assert list(ours) == list(dagsters)


def test_partitions_and_what_they_depend_on() -> None:
    now = datetime(2024, 2, 1, tzinfo=UTC)
    assert isinstance(MONTHS, Months)
    assert MONTHS == DAGSTERS
    assert MONTHS.get_partition_keys(now) == DAGSTERS.get_partition_keys(now)
    assert MONTHS.get_last_partition_key() == DAGSTERS.get_last_partition_key()
    assert not MONTHS.has_partition_key("1989-12")
    assert MONTHS.has_partition_key("1990-01")
    chosen = MONTHS.empty_subset().with_partition_keys(["1999-03"])
    upstream = HISTORY.get_upstream_mapped_partitions_result_for_partitions(chosen, MONTHS, MONTHS, now)
    assert list(upstream.partitions_subset.get_partition_keys()) == MONTHS.get_partition_keys(now)[: 9 * 12 + 3]
