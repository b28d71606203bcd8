"""The demo world as sources: readers of its events, its countries and its yearly covariates, for catalogue entries."""

from collections.abc import Sequence
from datetime import date
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from views_dagster.calendar import from_date, year_month
from views_dagster.conflict.demo_covariates import COLUMNS, CovariateTable, country_years
from views_dagster.conflict.demo_geography import WORLD_LAST
from views_dagster.conflict.demo_world import demo_countries, demo_events, require_covered
from views_dagster.conflict.event_reader import EventReader
from views_dagster.conflict.ucdp_events import month_of, require_every_month, to_event_months
from views_dagster.errors import QuerysetError
from views_dagster.panel import KEYS
from views_dagster.sources.base import PanelReader, RawMonths


def demo_latest_month() -> int:
    """The last complete month of today's calendar, which is what the demo world has published."""
    return min(from_date(date.today()) - 1, WORLD_LAST)


def demo_provenance(seed: int) -> dict[str, str]:
    """Where rows of the demo world come from."""
    return {"demo world": f"synthetic, seed {seed}"}


def _require_cm(what: str, level: str) -> None:
    if level != "cm":
        raise QuerysetError(f"{what} are offered at level cm, not {level}")


class DemoEvents(EventReader):
    """Events of the demo world, with the columns of UCDP GED."""

    kind: Literal["demo_events"] = "demo_events"
    seed: int = Field(default=1, description="Which demo world; all readers of a deployment share one.")

    def read(self, first: int, last: int) -> RawMonths:
        """Event-months of `first..last` (month ids, inclusive), rows of `EVENT_MONTH_SCHEMA`.

        Raises:
            SourceError: a month lies outside 1989-01..2035-12.
        """
        require_covered(first, last)
        touching = demo_events(self.seed).filter(pl.col("month_id") <= last, month_of(pl.col("date_end")) >= first)
        rows = to_event_months(touching, dating=self.dating).filter(pl.col("month_id").is_between(first, last))
        require_every_month(rows, first, last, origin="the demo world")
        return RawMonths(frame=rows, provenance=demo_provenance(self.seed))

    @property
    def invented(self) -> bool:
        return True

    def latest_month(self) -> int:
        return demo_latest_month()


class DemoCountries(PanelReader):
    """Countries of the demo world that exist in each month, with their first-order neighbours."""

    kind: Literal["demo_countries"] = "demo_countries"
    seed: int = Field(default=1, description="Which demo world; all readers of a deployment share one.")

    def columns(self, level: str) -> frozenset[str]:
        """Nothing but which units exist; QuerysetError at another level than cm."""
        _require_cm("countries", level)
        return frozenset()

    @property
    def row_keys(self) -> Sequence[str]:
        return KEYS

    def read(self, first: int, last: int) -> RawMonths:
        """`month_id`, `unit_id`, `name`, `iso3`, `neighbours` of the countries of months `first..last`.

        Raises:
            SourceError: a month lies outside 1989-01..2035-12.
        """
        require_covered(first, last)
        frame = demo_countries(self.seed).filter(pl.col("month_id").is_between(first, last))
        return RawMonths(frame=frame, provenance=demo_provenance(self.seed))

    def panel(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame | None = None) -> pl.LazyFrame:
        _require_cm("countries", level)
        return raw.select(*KEYS)

    @property
    def invented(self) -> bool:
        return True

    @property
    def lists_units(self) -> bool:
        return True

    def latest_month(self) -> int:
        return demo_latest_month()


class DemoYearTable(PanelReader):
    """Yearly covariates of the demo world, of which a month sees the newest year that was published by then."""

    kind: Literal["demo_covariates"] = "demo_covariates"
    table: CovariateTable = Field(description="Columns bear the codes of this publisher in lower case.")
    publication_lag: int = Field(
        default=9, ge=0, description="Months from December of a year until its values are published, as in year_table."
    )
    seed: int = Field(default=1, description="Which demo world; all readers of a deployment share one.")

    def columns(self, level: str) -> frozenset[str]:
        """Names of the table's columns; QuerysetError at another level than cm."""
        _require_cm("covariates", level)
        return frozenset(COLUMNS[self.table])

    @property
    def row_keys(self) -> Sequence[str]:
        return KEYS

    def read(self, first: int, last: int) -> RawMonths:
        """A row for every country that exists in each of the months `first..last`, null where nothing is published.

        Raises:
            SourceError: a month lies outside 1989-01..2035-12.
        """
        require_covered(first, last)
        table = country_years(self.seed, self.table)
        months = np.arange(first, last + 1, dtype=np.int32)
        years = pl.Series([self.newest_year(month) for month in months.tolist()], dtype=pl.Int32)
        rows = (
            pl.DataFrame({"month_id": months, "year": years})
            .join(demo_countries(self.seed).select(*KEYS), on="month_id", how="left")
            .join(table, on=["unit_id", "year"], how="left")
            .select(*KEYS, *COLUMNS[self.table])
            .sort(*KEYS)
        )
        return RawMonths(frame=rows, provenance=demo_provenance(self.seed))

    def newest_year(self, month_id: int) -> int:
        """The newest year whose values are published by the end of the month, as `YearTable` has it."""
        year, month = year_month(month_id - self.publication_lag)
        return year if month == 12 else year - 1

    def panel(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame | None = None) -> pl.LazyFrame:
        _require_cm("covariates", level)
        return raw.select(*KEYS, *COLUMNS[self.table])

    @property
    def invented(self) -> bool:
        return True

    def latest_month(self) -> int:
        return demo_latest_month()
