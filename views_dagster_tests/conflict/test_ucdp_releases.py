from datetime import date
from typing import Any

import polars as pl
import pytest

from views_dagster.calendar import from_key
from views_dagster.conflict.ucdp_releases import (
    Coverage,
    Release,
    coverage_of,
    event_months,
    require_coverage,
    version_in,
    whole_years,
)
from views_dagster.errors import SourceError
from views_dagster_tests.conflict.events import events, row

DECEMBER, JANUARY, FEBRUARY, MARCH = from_key("2023-12"), from_key("2024-01"), from_key("2024-02"), from_key("2024-03")


def _release(version: str, *rows: dict[str, Any]) -> Release:
    return Release(origin=f"v{version}", coverage=coverage_of(version), events=events(*rows))


def _ids(rows: pl.DataFrame) -> list[tuple[int, int, float]]:
    return rows.select("month_id", "id", "best").rows()


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("GEDEvent_v25_1", "25.1"),
        ("ged251-csv", "25.1"),
        ("GEDEvent_v22_1 (2)", "22.1"),
        ("GEDEvent_v25_0_9", "25.0.9"),
        ("GEDEvent_v23_0_10", "23.0.10"),
        ("ged_candidate_23_0_10", "23.0.10"),
        ("GEDEvent_v24_01_24_03", "24.01.24.03"),
        ("GEDEvent_v24_9_6", "24.9.6"),
        ("ged_events", None),
        ("events_2024_01", None),
    ],
)
def test_versions_are_read_from_file_names(name: str, version: str | None) -> None:
    assert version_in(name) == version


@pytest.mark.parametrize(
    ("version", "first", "last", "annual"),
    [
        ("25.1", "1989-01", "2024-12", True),
        ("24.0.3", "2024-03", "2024-03", False),
        ("23.0.10", "2023-10", "2023-10", False),
        ("24.01.24.03", "2024-01", "2024-03", False),
        ("24.9.6", "2024-01", "2024-06", False),
    ],
)
def test_what_versions_cover(version: str, first: str, last: str, annual: bool) -> None:
    assert coverage_of(version) == Coverage(from_key(first), from_key(last), annual)


@pytest.mark.parametrize("version", ["latest", "24.0.13", "2025.1", "24.05.24.03", "25.0.09", "v25.1", "24.00.24.03"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match=r"version|ends before it starts|month must be"):
        coverage_of(version)


def test_an_annual_release_without_version_covers_the_whole_years_of_its_events() -> None:
    rows = events(row(id=1, date_start=date(1999, 5, 1)), row(id=2, date_start=date(2001, 2, 1)))
    assert whole_years(rows) == Coverage(from_key("1999-01"), from_key("2001-12"), annual=True)
    with pytest.raises(SourceError, match="date_start"):
        whole_years(rows.with_columns(month_id=pl.lit(None, dtype=pl.Int32)))


def test_months_that_no_release_covers_are_named() -> None:
    with pytest.raises(SourceError, match=r"covers 2024-01, 2024-03; those at hand cover 1989-01..2023-12, 2024-02:"):
        require_coverage([coverage_of("24.1"), coverage_of("24.0.2")], DECEMBER, MARCH)


def test_the_annual_release_wins_in_its_years_and_candidates_go_on_from_there() -> None:
    annual = _release("24.1", row(id=1, date_start=date(2023, 12, 5), best=10, high=10))
    preliminary = _release(
        "23.0.12",
        row(id=1, date_start=date(2023, 12, 5), best=4, low=4),
        row(id=2, date_start=date(2023, 12, 6), best=99, high=99),
    )
    january = _release("24.0.1", row(id=3, date_start=date(2024, 1, 7), best=3))
    rows, repairs = event_months([january, preliminary, annual], DECEMBER, JANUARY, dating="split_by_day")
    assert _ids(rows) == [(DECEMBER, 1, 10.0), (JANUARY, 3, 3.0)]
    assert repairs["superseded_events"] == 2


def test_an_annual_event_keeps_the_part_that_falls_into_the_next_year() -> None:
    """30 December to 2 January: two of four days in January, although the Candidate release holds the event too."""
    spanning = {"date_start": date(2023, 12, 30), "date_end": date(2024, 1, 2), "low": 0, "high": 100}
    annual = _release("24.1", row(id=1, best=8, **spanning))
    january = _release("24.0.1", row(id=1, best=80, **spanning), row(id=2, date_start=date(2024, 1, 7), best=3))
    rows, repairs = event_months([annual, january], DECEMBER, JANUARY, dating="split_by_day")
    assert _ids(rows) == [(DECEMBER, 1, 4.0), (JANUARY, 1, 4.0), (JANUARY, 2, 3.0)]
    assert (repairs["ends_after_release"], repairs["late_events"], repairs["superseded_events"]) == (1, 1, 1)


def test_a_later_candidate_release_revises_adds_to_and_keeps_earlier_months() -> None:
    january = _release(
        "24.0.1",
        row(id=1, date_start=date(2024, 1, 1), best=5),
        row(id=2, date_start=date(2024, 1, 2), best=5),
    )
    february = _release(
        "24.0.2",
        row(id=2, date_start=date(2024, 1, 2), best=7),
        row(id=3, date_start=date(2024, 1, 3), best=6),
        row(id=4, date_start=date(2024, 2, 4), best=4),
    )
    rows, repairs = event_months([february, january], JANUARY, FEBRUARY, dating="split_by_day")
    assert _ids(rows) == [(JANUARY, 1, 5.0), (JANUARY, 2, 7.0), (JANUARY, 3, 6.0), (FEBRUARY, 4, 4.0)]
    assert (repairs["superseded_events"], repairs["late_events"]) == (1, 2)


def test_a_consolidated_release_withdraws_what_it_lacks() -> None:
    january = _release("24.0.1", row(id=1, date_start=date(2024, 1, 1)), row(id=2, date_start=date(2024, 1, 2)))
    march = _release("24.0.3", row(id=3, date_start=date(2024, 3, 2)))
    quarter = _release(
        "24.01.24.03",
        row(id=2, date_start=date(2024, 1, 2), best=8),
        row(id=3, date_start=date(2024, 3, 2), best=8),
    )
    rows, _ = event_months([quarter, january, march], JANUARY, JANUARY, dating="split_by_day")
    assert _ids(rows) == [(JANUARY, 2, 8.0)]
    for either_order in ([march, quarter], [quarter, march]):
        rows, _ = event_months(either_order, MARCH, MARCH, dating="split_by_day")
        assert _ids(rows) == [(MARCH, 3, 8.0)]


def test_repairs_are_summed_over_releases() -> None:
    releases = [_release("24.0.1", row(id=1, low=9)), _release("24.0.2", row(id=2, low=9, date_start=date(2024, 2, 1)))]
    assert event_months(releases, JANUARY, FEBRUARY, dating="start")[1]["bounds_widened"] == 2
    assert event_months(releases, FEBRUARY, FEBRUARY, dating="start")[1]["bounds_widened"] == 1


@pytest.mark.parametrize(
    ("version", "start", "covered"),
    [
        ("24.1", date(2024, 1, 1), "1989-01..2023-12"),
        ("24.1", date(1988, 12, 31), "1989-01..2023-12"),
        ("24.0.1", date(2024, 2, 1), "2024-01"),
    ],
)
def test_an_event_dated_outside_its_release_is_an_error(version: str, start: date, covered: str) -> None:
    release = _release(version, row(id=1), row(id=55, date_start=start))
    if version == "24.1":
        release = _release(version, row(id=1, date_start=date(2023, 1, 1)), row(id=55, date_start=start))
    month = release.coverage.last
    with pytest.raises(SourceError, match=rf"v{version}: 1 events start outside {covered},.* id 55;"):
        event_months([release], month, month, dating="start")


def test_a_candidate_release_with_many_earlier_events_has_wrong_years() -> None:
    late = [row(id=number, date_start=date(2022, 1, 5), date_end=date(2022, 1, 5)) for number in range(21)]
    own = [row(id=100 + number, date_start=date(2023, 1, 5), date_end=date(2023, 1, 5)) for number in range(79)]
    month = from_key("2023-01")
    _, repairs = event_months([_release("23.0.1", *late[:20], *own)], month, month, dating="start")
    assert repairs["events_of_earlier_months"] == 20
    few = [_release("23.0.1", *late, *own)]
    assert event_months(few, month, month, dating="start")[1]["events_of_earlier_months"] == 21
    with pytest.raises(SourceError, match="21 of 51 events start before 2023-01"):
        event_months([_release("23.0.1", *late, *own[:30])], month, month, dating="start")


def test_the_same_release_twice_is_an_error() -> None:
    release = _release("24.0.1", row())
    with pytest.raises(SourceError, match=r"v24.0.1 and v24.0.1 are the same release"):
        event_months([release, release], JANUARY, JANUARY, dating="start")


def test_a_covered_month_without_any_event_is_an_error() -> None:
    releases = [_release("24.0.1", row()), _release("24.0.2", row(id=2, date_start=date(2024, 1, 30)))]
    with pytest.raises(SourceError, match=r"v24.0.2 has not one event in 2024-02"):
        event_months(releases, JANUARY, FEBRUARY, dating="start")
