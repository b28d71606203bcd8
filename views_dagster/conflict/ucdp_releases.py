"""UCDP GED releases: what a version covers, which release wins where several speak of the same event, and their months.

The annual release (`25.1`) covers 1989 to the year before its number. Monthly Candidate releases (`25.0.9` =
September 2025) are preliminary and cover their own month; consolidated ones reissue several months (`25.01.25.06` =
January to June 2025, `25.9.6` the same). Where the releases are read from is no business of this module.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import polars as pl

from views_dagster.calendar import describe_months, month_id_of, year_month
from views_dagster.conflict.ucdp_events import Dating, clean, month_of, require_every_month, to_event_months
from views_dagster.errors import SourceError

GED_FIRST_MONTH: Final = month_id_of(1989, 1)
FEW: Final = 20
MOST_EARLIER: Final = 0.25
"""Share of a Candidate release's events that may have happened before its months; a few in a hundred do."""

_RANGE = re.compile(r"(?<!\d)(\d{2})[._](\d{2})[._](\d{2})[._](\d{2})(?!\d)")
_MONTHLY = re.compile(r"(?<!\d)(\d{2})[._]([09])[._](\d{1,2})(?!\d)")
_ANNUAL = re.compile(r"(?:(?<!\d)(\d{2})[._]|(?<=ged)(\d{2}))(\d)(?![\d._]*\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Coverage:
    """Months (ids, inclusive) whose events a release publishes, and whether it is an annual release."""

    first: int
    last: int
    annual: bool = False

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Orders releases by authority: annual over Candidate, then the last month, then the number of months."""
        return (self.annual, self.last, self.last - self.first)


@dataclass(frozen=True)
class Release:
    """One release: its events (`EVENT_SCHEMA`, as `normalise` returns them) and where they were read from."""

    origin: str
    coverage: Coverage
    events: pl.DataFrame


def version_in(name: str) -> str | None:
    """The release version in a file name, in the API's spelling (`GEDEvent_v25_0_9.csv` is `25.0.9`), or None."""
    if match := _RANGE.search(name):
        return ".".join(match.groups())
    if match := _MONTHLY.search(name):
        return f"{match[1]}.{match[2]}.{int(match[3])}"
    if match := _ANNUAL.search(name):
        return f"{match[1] or match[2]}.{match[3]}"
    return None


def coverage_of(version: str) -> Coverage:
    """What a version such as `25.1`, `25.0.9`, `25.9.6` or `25.01.25.06` covers; ValueError where it is no such."""
    if version_in(version) != version:
        raise ValueError(f"{version!r} is not a UCDP GED version such as 25.1, 25.0.9 or 25.01.25.06")
    parts = [int(part) for part in version.split(".")]
    year = 2000 + parts[0]
    if len(parts) == 2:
        return Coverage(GED_FIRST_MONTH, month_id_of(year - 1, 12), annual=True)
    if len(parts) == 3:
        last = month_id_of(year, parts[2])
        return Coverage(last if parts[1] == 0 else month_id_of(year, 1), last)
    first, last = month_id_of(year, parts[1]), month_id_of(2000 + parts[2], parts[3])
    if first > last:
        raise ValueError(f"{version!r} ends before it starts")
    return Coverage(first, last)


def whole_years(events: pl.DataFrame) -> Coverage:
    """Coverage of an annual release whose version is unknown: the whole years from its first event to its last."""
    months = events["month_id"].drop_nulls().to_numpy()
    if len(months) == 0:
        raise SourceError("no event of the annual release has a date_start; fetch it again")
    first_year, _ = year_month(int(months.min()))
    last_year, _ = year_month(int(months.max()))
    return Coverage(month_id_of(first_year, 1), month_id_of(last_year, 12), annual=True)


def require_coverage(coverages: Sequence[Coverage], first: int, last: int) -> None:
    """SourceError naming the months of `first..last` that no release covers."""
    covered = {month for coverage in coverages for month in range(coverage.first, coverage.last + 1)}
    if uncovered := set(range(first, last + 1)) - covered:
        raise SourceError(
            f"no configured UCDP release covers {describe_months(uncovered)}; those at hand cover "
            f"{describe_months(covered)}: add the releases of the months that are missing"
        )


def event_months(
    releases: Sequence[Release], first: int, last: int, *, dating: Dating
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Event-months of `first..last` (month ids, inclusive) from several releases, and what was repaired or left out.

    The annual release outranks Candidate releases; a later one outranks an earlier one. An event is taken from the
    highest-ranked release that holds its id; an event that starts in a month which a higher-ranked release covers, and
    is not in that release, was withdrawn and is left out. Events are taken whole: what falls after the last month of
    their release stays in those later months.

    Returns:
        Rows of `EVENT_MONTH_SCHEMA`, sorted by month and id; counts of events that start in the requested months: those
        of `clean`, `superseded_events` (left out as above), `late_events` (in a Candidate release after that of their
        own month, kept) and `ends_after_release` (kept); and `events_of_earlier_months` in the Candidate releases of
        the requested months.

    Raises:
        SourceError: a month that no release covers or in which nothing happened; two releases with equal coverage; an
            event that starts outside an annual release's years, after a Candidate release's month or before 1989; a
            Candidate release much of which starts before its months; what `clean` refuses.
    """
    require_coverage([release.coverage for release in releases], first, last)
    ranked = sorted(releases, key=lambda release: release.coverage.rank)
    for lower, higher in pairwise(ranked):
        if lower.coverage == higher.coverage:
            raise SourceError(f"{lower.origin} and {higher.origin} are the same release; configure one of them")

    repairs: dict[str, int] = {}
    cleaned = []
    for rank, release in enumerate(ranked):
        events, counts = clean(release.events, origin=release.origin, months=(first, last))
        counts |= _check_dates(events, release, first, last)
        repairs = {name: repairs.get(name, 0) + count for name, count in counts.items()}
        cleaned.append(events.with_columns(rank=pl.lit(rank, dtype=pl.Int32)))
    events = pl.concat(cleaned)
    wins = (pl.col("rank") == pl.col("rank").max().over("id")) & ~_covered_by_higher(ranked)
    requested = pl.col("month_id").is_between(first, last)
    repairs["superseded_events"] = events.filter(~wins & requested).height
    touching = (pl.col("month_id") <= last) & (month_of(pl.col("date_end")) >= first)
    rows = to_event_months(events.filter(wins & touching).drop("rank"), dating=dating).filter(requested)
    require_every_month(rows, first, last, origin=", ".join(release.origin for release in releases))
    return rows, repairs


def _covered_by_higher(ranked: Sequence[Release]) -> pl.Expr:
    covers = (
        (pl.col("rank") < rank) & pl.col("month_id").is_between(release.coverage.first, release.coverage.last)
        for rank, release in enumerate(ranked)
    )
    return pl.any_horizontal(*covers)


def _check_dates(events: pl.DataFrame, release: Release, first: int, last: int) -> dict[str, int]:
    coverage, month = release.coverage, pl.col("month_id")
    before = month < coverage.first
    covered = describe_months(range(coverage.first, coverage.last + 1))
    outside = events.filter((month > coverage.last) | (before & coverage.annual) | (month < GED_FIRST_MONTH))
    if outside.height:
        ids = ", ".join(map(str, outside["id"].head(5)))
        raise SourceError(
            f"{release.origin}: {outside.height} events start outside {covered}, "
            f"which the release covers: id {ids}; check that it is the release its name says"
        )
    early = events.filter(before).height
    if early > max(FEW, MOST_EARLIER * events.height):
        raise SourceError(
            f"{release.origin}: {early} of {events.height} events start before {covered}, which the release covers; "
            "late reports are few: check the years of their dates"
        )
    asked = coverage.first <= last and coverage.last >= first
    requested = events.filter(month.is_between(first, last))
    counts: dict[str, int] = requested.select(
        late_events=before.sum(), ends_after_release=(month_of(pl.col("date_end")) > coverage.last).sum()
    ).row(0, named=True)
    return counts | {"events_of_earlier_months": early if asked else 0}
