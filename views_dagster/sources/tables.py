"""Sources that are ready panels in a file: a row a unit and month, or a row a unit and year with a publication lag."""

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from views_dagster.calendar import describe_months, to_key, year_month
from views_dagster.errors import QuerysetError, SourceError
from views_dagster.panel import KEYS
from views_dagster.sources.base import PanelReader, RawMonths
from views_dagster.sources.columns import month_id_from, typed
from views_dagster.sources.files import UserPath, digest, read_table


class _Table(PanelReader, ABC):
    """What both tables share."""

    path: UserPath = Field(description="The file: csv, zip of one csv, or parquet.")
    level: str = Field(description="The level whose unit ids the file holds.")
    unit: str = Field(
        description="The file's column of unit ids, whole numbers; rows without one are left out and counted."
    )
    file_columns: Mapping[str, str] = Field(
        alias="columns",
        min_length=1,
        description="`{name in querysets: name in the file}`; numbers, null where unknown.",
    )
    non_negative: frozenset[str] = Field(
        default=frozenset(), description="Names in querysets whose values may not be negative."
    )

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if reserved := set(self.file_columns) & {*KEYS, "year", "month"}:
            raise ValueError(f"columns may not be named {', '.join(sorted(reserved))}")
        if unknown := self.non_negative - set(self.file_columns):
            raise ValueError(f"non_negative names {', '.join(sorted(unknown))}, columns {', '.join(self.file_columns)}")
        return self

    def columns(self, level: str) -> frozenset[str]:
        """The configured names.

        Raises:
            QuerysetError: the table holds units of another level.
        """
        if level != self.level:
            raise QuerysetError(f"{self.path.name} holds units of level {self.level}, not {level}")
        return frozenset(self.file_columns)

    @property
    def row_keys(self) -> Sequence[str]:
        return KEYS

    def panel(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame | None = None) -> pl.LazyFrame:
        return raw.select(*KEYS, *sorted(self.columns(level)))

    def _load(self, times: Mapping[str, str]) -> pl.DataFrame:
        """The file's rows as Int64 `unit_id`, `times` ({name: file column}) as Int32, and the columns as Float64."""
        wanted = [self.unit, *times.values(), *self.file_columns.values()]

        def keep(available: Sequence[str]) -> list[str]:
            if missing := [name for name in wanted if name not in available]:
                raise SourceError(f"{self.path} has no column {', '.join(missing)}; it has {', '.join(available)}")
            return list(dict.fromkeys(wanted))

        table = read_table(self.path, keep=keep)

        def column(name: str, file_column: str, wanted: pl.DataType) -> pl.Series:
            return typed(table[file_column], wanted, origin=str(self.path)).alias(name)

        frame = pl.DataFrame(
            [
                column("unit_id", self.unit, pl.Int64()),
                *(column(name, file_column, pl.Int32()) for name, file_column in times.items()),
                *(column(name, file_column, pl.Float64()) for name, file_column in self.file_columns.items()),
            ]
        )
        for name, file_column in times.items():
            if empty := frame[name].null_count():
                raise SourceError(f"{self.path}: column {file_column} is empty in {empty} rows; fill it in")
        for name in sorted(self.non_negative):
            negative = frame.filter(pl.col(name) < 0)
            if negative.height:
                raise SourceError(
                    f"{self.path}: column {self.file_columns[name]} is negative in {negative.height} rows, first "
                    f"{negative[name][0]} for unit {negative['unit_id'][0]}; correct it, or drop it from non_negative"
                )
        return frame

    def _require_unique(self, frame: pl.DataFrame, time: str) -> None:
        repeated = frame.filter(pl.struct("unit_id", time).is_duplicated())
        if repeated.height:
            when = to_key(repeated[time][0]) if time == "month_id" else repeated[time][0]
            raise SourceError(
                f"{self.path} has {repeated.height} rows that share their unit and {time}, first unit "
                f"{repeated['unit_id'][0]} in {when}; keep one row of each"
            )

    def _provenance(self) -> dict[str, str]:
        return {self.path.name: f"sha256 {digest(self.path)}"}


class MonthTable(_Table):
    """A ready panel with one row a unit and month."""

    kind: Literal["month_table"] = "month_table"
    month_id: str | None = Field(
        default=None, description="The file's column of month ids (1 = January 1980), instead of year and month."
    )
    year: str | None = Field(default=None, description="The file's column of years.")
    month: str | None = Field(default=None, description="The file's column of months 1..12.")

    @model_validator(mode="after")
    def _one_calendar(self) -> Self:
        named = (self.month_id is not None, self.year is not None, self.month is not None)
        if named not in ((True, False, False), (False, True, True)):
            raise ValueError("say which column holds the month: either month_id, or year and month")
        return self

    def read(self, first: int, last: int) -> RawMonths:
        """Rows of months `first..last` (month ids, inclusive), sorted by month and unit; repair: `rows_without_unit`.

        Raises:
            SourceError: the file is missing, damaged or empty, lacks a column or a month, repeats a unit and month, or
                holds something else than numbers, or a negative one where none may be.
        """
        frame = self._months()
        requested = frame.filter(pl.col("month_id").is_between(first, last))
        rows = requested.filter(pl.col("unit_id").is_not_null())
        absent = set(range(first, last + 1)) - set(rows["month_id"].unique().to_list())
        if absent:
            held = describe_months(frame["month_id"].unique().to_list())
            raise SourceError(
                f"{self.path} has no row for {describe_months(absent)}, only for {held}; fetch a newer file"
            )
        self._require_unique(rows, "month_id")
        return RawMonths(
            frame=rows.sort(*KEYS).select(*KEYS, *self.file_columns),
            repairs={"rows_without_unit": requested.height - rows.height},
            provenance=self._provenance(),
        )

    def latest_month(self) -> int | None:
        """The newest month with a value in any of the columns; None where there is none."""
        known = self._months().filter(
            pl.any_horizontal(pl.col(*self.file_columns).is_not_null()), pl.col("unit_id").is_not_null()
        )
        return int(known["month_id"].to_numpy().max()) if known.height else None

    def _months(self) -> pl.DataFrame:
        if self.month_id is not None:
            return self._load({"month_id": self.month_id})
        frame = self._load({name: column for name in ("year", "month") if (column := getattr(self, name))})
        off = frame.filter(~pl.col("month").is_between(1, 12))
        if off.height:
            raise SourceError(f"{self.path}: column {self.month} holds {off['month'][0]}; expected a month 1..12")
        return frame.with_columns(month_id=month_id_from(pl.col("year"), pl.col("month")))


class YearTable(_Table):
    """A ready panel with one row a unit and year, of which a month sees the newest year that was published by then."""

    kind: Literal["year_table"] = "year_table"
    year: str = Field(default="year", description="The file's column of years.")
    publication_lag: int = Field(
        ge=0,
        description="Months from December of a year until its values are published: with 12, those of 2020 are first "
        "seen in 2021-12; with 0, in 2020-12.",
    )

    def read(self, first: int, last: int) -> RawMonths:
        """A row for every unit of the table in each of the months `first..last` (month ids, inclusive), sorted.

        A unit whose newest published year is not in the table has nulls; an older year is not put in its place (a
        queryset does that with `fill`). Repairs: `rows_without_unit` (of the file), `rows_without_year` (those nulls).

        Raises:
            SourceError: the file is missing, damaged or empty, lacks a column, repeats a unit and year, or holds
                something else than numbers, or a negative one where none may be.
        """
        table = self._load({"year": self.year})
        known = table.filter(pl.col("unit_id").is_not_null())
        if known.is_empty():
            raise SourceError(f"{self.path}: column {self.unit} is empty in every row")
        self._require_unique(known, "year")
        months = np.arange(first, last + 1, dtype=np.int32)
        years = [self.newest_year(int(month_id)) for month_id in months]
        rows = (
            pl.DataFrame({"month_id": months, "year": pl.Series(years, dtype=pl.Int32)})
            .join(known.select(pl.col("unit_id").unique()), how="cross")
            .join(known.with_columns(_in_table=True), on=["unit_id", "year"], how="left")
            .sort(*KEYS)
        )
        return RawMonths(
            frame=rows.select(*KEYS, *self.file_columns),
            repairs={
                "rows_without_unit": table.height - known.height,
                "rows_without_year": rows["_in_table"].null_count(),
            },
            provenance=self._provenance(),
        )

    def newest_year(self, month_id: int) -> int:
        """The newest year whose values are published by the end of the month."""
        year, month = year_month(month_id - self.publication_lag)
        return year if month == 12 else year - 1
