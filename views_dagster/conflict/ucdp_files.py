"""UCDP GED from files as UCDP publishes them: an annual release, Candidate releases, and the check of yearly totals."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Self

import polars as pl
from pydantic import Field, model_validator

from views_dagster.calendar import month_id_of, year_month
from views_dagster.conflict.event_reader import EventReader
from views_dagster.conflict.ucdp_events import VIOLENCE, clean, normalise, published_columns
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
from views_dagster.sources.base import RawMonths
from views_dagster.sources.files import UserPath, digest, read_table

_TOTALS_NAMES: Final = (
    ("country_id_cy", "year_cy", "{}_total_deaths_best_cy"),
    ("gwno", "year", "ged_{}_best"),
)


class UcdpFiles(EventReader):
    """UCDP GED events read from an annual release and Candidate releases in local files.

    Months up to the end of the annual release are read from it alone. Beyond, every Candidate release is read: a later
    one may revise, withdraw or add events of earlier months.
    """

    kind: Literal["ucdp_files"] = "ucdp_files"
    annual: UserPath | None = Field(
        default=None,
        description="The annual release (csv, zip of one csv, parquet). Its version, and so the years it covers, is "
        "taken from its name (`GEDEvent_v25_1.csv`, `ged251-csv.zip`); without one it covers the whole years of its "
        "events.",
    )
    candidates: tuple[UserPath, ...] | str = Field(
        default=(),
        description="Paths of Candidate releases, or one glob pattern. Their names hold their versions "
        "(`GEDEvent_v25_0_9.csv`), which say the months they cover.",
    )
    totals: UserPath | None = Field(
        default=None, description="UCDP's country-year dataset, to compare the annual release with."
    )

    @model_validator(mode="after")
    def _some_file(self) -> Self:
        if self.annual is None and not self.candidates:
            raise ValueError("name an annual release, candidates, or both")
        if self.annual is None and self.totals is not None:
            raise ValueError("totals are compared with the annual release; name one")
        return self

    def read(self, first: int, last: int) -> RawMonths:
        """Event-months of `first..last` (month ids, inclusive); see `event_months` for how releases combine.

        Raises:
            SourceError: a file is missing, damaged, empty or breaks its schema; a Candidate file's name holds no
                version; no file covers a month.
        """
        files: list[tuple[Path, Release]] = []
        if self.annual is not None:
            files.append((self.annual, _release(self.annual, _annual_coverage(self.annual))))
        if not files or last > files[0][1].coverage.last:
            candidates = [(path, _candidate_coverage(path)) for path in self._candidate_paths()]
            coverages = [*(release.coverage for _, release in files), *(coverage for _, coverage in candidates)]
            # Before the Candidate files are parsed: a month that is not out yet is answered at once.
            require_coverage(coverages, first, last)
            files += [(path, _release(path, coverage)) for path, coverage in candidates]
        frame, repairs = event_months([release for _, release in files], first, last, dating=self.dating)
        provenance = {
            path.name: f"UCDP GED {version_in(path.stem) or 'of unknown version'}, {release.events.height} events, "
            f"sha256 {digest(path)}"
            for path, release in files
        }
        if self.totals is not None and first <= files[0][1].coverage.last:
            differing = self._off_totals(files[0][1], self.totals, first, last)
            repairs |= {"country_years_off_totals": differing.height}
            provenance |= {self.totals.name: f"sha256 {digest(self.totals)}; {_describe_totals(differing)}"}
        return RawMonths(frame=frame, repairs=repairs, provenance=provenance)

    def latest_month(self) -> int | None:
        """Newest month that the files cover; read from their names where these say it."""
        last = [_candidate_coverage(path).last for path in self._candidate_paths() if path.is_file()]
        if self.annual is not None and self.annual.is_file():
            coverage = _annual_coverage(self.annual) or whole_years(_events(self.annual))
            last.append(coverage.last)
        return max(last, default=None)

    def _candidate_paths(self) -> list[Path]:
        if not isinstance(self.candidates, str):
            return list(self.candidates)
        if not glob.has_magic(self.candidates):
            return [Path(self.candidates).expanduser()]
        return [Path(path) for path in sorted(glob.glob(str(Path(self.candidates).expanduser()), recursive=True))]

    def _off_totals(self, annual: Release, totals: Path, first: int, last: int) -> pl.DataFrame:
        events, _ = clean(annual.events, origin=annual.origin)
        january = month_id_of(year_month(first)[0], 1)
        december = month_id_of(year_month(last)[0], 12)
        return check_totals(events.filter(pl.col("month_id").is_between(january, december)), read_totals(totals))


def _annual_coverage(path: Path) -> Coverage | None:
    version = version_in(path.stem)
    if version is None:
        return None
    coverage = _coverage(path, version)
    if not coverage.annual:
        raise SourceError(f"{path} is Candidate release {version} by its name; configure it under candidates")
    return coverage


def _candidate_coverage(path: Path) -> Coverage:
    version = version_in(path.stem)
    if version is None:
        raise SourceError(
            f"{path}: the name holds no version; name the file as UCDP does, such as GEDEvent_v25_0_9.csv"
        )
    coverage = _coverage(path, version)
    if coverage.annual:
        raise SourceError(f"{path} is annual release {version} by its name; configure it under annual")
    return coverage


def _coverage(path: Path, version: str) -> Coverage:
    try:
        return coverage_of(version)
    except ValueError as error:
        raise SourceError(f"{path}: {error}; name the file as UCDP does, such as GEDEvent_v25_0_9.csv") from error


def _release(path: Path, coverage: Coverage | None) -> Release:
    events = _events(path)
    return Release(origin=path.name, coverage=coverage or whole_years(events), events=events)


def _events(path: Path) -> pl.DataFrame:
    return normalise(read_table(path, keep=published_columns), origin=path.name)


def read_totals(path: Path) -> pl.DataFrame:
    """UCDP's Country-Year Dataset on Organized Violence as `country_id`, `year`, `type_of_violence`, `best` (deaths).

    Column names as published (`country_id_cy`, `year_cy`, `sb_total_deaths_best_cy`) or short (`gwno`, `year`,
    `ged_sb_best`).

    Raises:
        SourceError: the file cannot be read, lacks one of these columns, or holds something else than whole numbers.
    """

    def names(available: Sequence[str]) -> list[str]:
        for country, year, deaths in _TOTALS_NAMES:
            wanted = [country, year, *(deaths.format(violence) for violence in VIOLENCE)]
            if set(wanted) <= set(available):
                return wanted
        return []

    try:
        table = read_table(path, keep=names).cast(pl.Int64)
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path} holds something else than whole numbers: {error}") from error
    return (
        table.rename(dict(zip(table.columns, ("country_id", "year", *VIOLENCE), strict=True)))
        .unpivot(on=list(VIOLENCE), index=["country_id", "year"], variable_name="violence", value_name="best")
        .with_columns(pl.col("violence").replace_strict(VIOLENCE, return_dtype=pl.Int8).alias("type_of_violence"))
        .select("country_id", "year", "type_of_violence", pl.col("best").fill_null(0))
    )


def check_totals(events: pl.DataFrame, totals: pl.DataFrame) -> pl.DataFrame:
    """Country-years in which the events do not add up to UCDP's own totals, in the years that the events touch.

    Args:
        events: cleaned events (`EVENT_SCHEMA`); the year is that of `date_start`.
        totals: as `read_totals` returns them.

    Returns:
        Rows `year`, `country_id`, `type_of_violence`, `events_best`, `totals_best`, `difference` (deaths, events minus
        totals), the largest difference first; no row where all agree.
    """
    keys = ["year", "country_id", "type_of_violence"]
    summed = events.group_by(pl.col("date_start").dt.year().cast(pl.Int64).alias("year"), *keys[1:]).agg(
        pl.col("best").sum().alias("events_best")
    )
    return (
        totals.filter(pl.col("year").is_in(summed["year"].unique().implode()))
        .rename({"best": "totals_best"})
        .join(summed, on=keys, how="full", coalesce=True)
        .with_columns(pl.col("events_best", "totals_best").fill_null(0))
        .with_columns((pl.col("events_best") - pl.col("totals_best")).alias("difference"))
        .filter(pl.col("difference") != 0)
        .select(*keys, "events_best", "totals_best", "difference")
        .sort(pl.col("difference").abs(), *keys, descending=[True, False, False, False])
    )


def _describe_totals(differing: pl.DataFrame) -> str:
    if differing.is_empty():
        return "all country-years agree"
    year, country, violence, events, totals, _ = differing.row(0)
    name = {code: short for short, code in VIOLENCE.items()}[violence]
    return (
        f"{differing.height} country-years differ, most of all {name} in country {country} in {year}: "
        f"{events} deaths in the events, {totals} in the totals"
    )
