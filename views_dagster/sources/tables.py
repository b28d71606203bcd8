"""Sources that are ready panels in a file: one row a unit and month, or one row a unit and year with a publication lag."""

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from views_dagster.calendar import describe_months, month_id_of, to_key, year_month
from views_dagster.errors import QuerysetError, SourceError
from views_dagster.panel import KEYS
from views_dagster.sources.base import RawMonths, Reader
from views_dagster.sources.columns import typed
from views_dagster.sources.files import UserPath, digest, read_table


class _Table(Reader, ABC):
    """What both tables share.

    Attributes:
        path: the file (csv, zip of a csv, parquet).
        level: the level whose unit ids the column `unit` holds.
        unit: the file's column of unit ids, whole numbers; rows without one are left out and counted.
        columns: `{name in querysets: name in the file}`; numbers, null where unknown.
        non_negative: names in querysets whose values must not be negative.
    """

    path: UserPath
    level: str
    unit: str
    columns_: Mapping[str, str] = Field(alias="columns", min_length=1)
    non_negative: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if clash := set(self.columns_) & set(KEYS):
            raise ValueError(f"columns may not be named {', '.join(sorted(clash))}")
        if unknown := self.non_negative - set(self.columns_):
            raise ValueError(f"non_negative names {', '.join(sorted(unknown))}; columns are {', '.join(self.columns_)}")
        return self

    def columns(self, level: str) -> frozenset[str]:
        """The configured names; QuerysetError at another level than the table's."""
        if level != self.level:
            raise QuerysetError(f"{self.path.name} holds units of level {self.level}, not {level}")
        return frozenset(self.columns_)

    @property
    def row_keys(self) -> Sequence[str]:
        return KEYS

    def panel(self, raw: pl.LazyFrame, level: str) -> pl.LazyFrame:
        return raw.select(*KEYS, *sorted(self.columns(level)))

    def _load(self, times: Sequence[str]) -> tuple[pl.DataFrame, pl.Series]:
        """The file's rows as `unit_id`, the Int64 columns `times` and the configured ones as Float64; rows without a unit apart."""
        wanted = [self.unit, *times, *self.columns_.values()]

        def keep(available: Sequence[str]) -> list[str]:
            if missing := [name for name in wanted if name not in available]:
                raise SourceError(f"{self.path} has no column {', '.join(missing)}; it has {', '.join(available)[:300]}")
            return list(dict.fromkeys(wanted))

        table, origin = read_table(self.path, keep=keep), self.path.name
        frame = pl.DataFrame(
            [
                typed(table[self.unit], pl.Int64(), origin=origin).alias("unit_id"),
                *(typed(table[name], pl.Int64(), origin=origin).alias(f"time:{name}") for name in times),
                *(typed(table[file], pl.Float64(), origin=origin).alias(name) for name, file in self.columns_.items()),
            ]
        )
        for name in times:
            if frame[f"time:{name}"].has_nulls():
                raise SourceError(f"{self.path}: column {name} is empty in {frame[f'time:{name}'].null_count()} rows")
        for name in sorted(self.non_negative):
            if (negative := frame.filter(pl.col(name) < 0)).height:
                raise SourceError(
                    f"{self.path}: column {self.columns_[name]} is negative in {negative.height} rows, first "
                    f"{negative[name][0]} for unit {negative['unit_id'][0]}"
                )
        return frame
