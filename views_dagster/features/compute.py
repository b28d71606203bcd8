"""Running a queryset: the grid of units and months, and the columns compiled to one lazy polars plan over it.

Every unit has a row in every calendar month, so that "k months ago" means that also for a unit that vanishes and
returns; months in which it does not exist hold null at every step of a chain and are left out at the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import describe_months, to_key
from views_dagster.errors import MissingMonthsError, QuerysetError
from views_dagster.features.querysets import ColumnSpec, Queryset
from views_dagster.features.registry import Neighbours
from views_dagster.sources.base import Reader

EXISTS = "exists"


@dataclass(frozen=True)
class Outside:
    """Rows of a source that belong to no existing unit-month and were left out, and what they summed to."""

    rows: int
    sums: Mapping[str, float]
    unknown_units: tuple[int, ...]


@dataclass(frozen=True)
class FeatureReport:
    """What computing a queryset did, for the months that were asked for.

    Attributes:
        rows: rows returned, one for each unit and month in which it exists.
        missing: `{source.column: rows in which it was unknown}`, before any transform.
        nulls: `{target or column: rows in which it is null}`, after all transforms.
        outside: `{source: rows left out}`, only sources that had some.
    """

    rows: int
    missing: Mapping[str, int]
    nulls: Mapping[str, int]
    outside: Mapping[str, Outside]


@dataclass(frozen=True)
class Grid:
    """All units over consecutive months, unit-major: row = position of the unit * number of months + month - first.

    Attributes:
        first: first month id.
        months: M, how many.
        units: (U,) int64, ascending.
        exists: (U * M,) bool.
    """

    first: int
    months: int
    units: NDArray[np.int64]
    exists: NDArray[np.bool_]

    @classmethod
    def of(cls, units: pl.DataFrame, *, last: int) -> "Grid":
        """The grid of a units table (`month_id`, `unit_id`), one row for each unit and month in which it exists.

        Raises:
            MissingMonthsError: the table lacks a month up to `last`.
            QuerysetError: a unit and month appear twice.
        """
        first = require_months(units["month_id"], last, "the units")
        ids = units["unit_id"].unique().sort().to_numpy().astype(np.int64)
        months = last - first + 1
        row = np.searchsorted(ids, units["unit_id"].to_numpy()) * months + units["month_id"].to_numpy() - first
        exists = np.zeros(len(ids) * months, dtype=bool)
        exists[row] = True
        if int(exists.sum()) != len(row):
            raise QuerysetError(f"the units table repeats {len(row) - int(exists.sum())} rows of month_id and unit_id")
        return cls(first, months, ids, exists)

    def rows_of(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        """Grid row of each row of `frame` (`month_id`, `unit_id`), -1 where its unit does not exist in that month."""
        unit, month = frame["unit_id"].to_numpy(), frame["month_id"].to_numpy() - self.first
        position = np.minimum(np.searchsorted(self.units, unit), len(self.units) - 1)
        row = position * self.months + month
        inside = (self.units[position] == unit) & (month >= 0) & (month < self.months)
        inside[inside] = self.exists[row[inside]]
        return np.where(inside, row, -1)

    def frame(self) -> pl.DataFrame:
        """`unit_id`, `month_id`, `month` (0-based) and `exists` of every grid row."""
        month = np.tile(np.arange(self.months, dtype=np.int32), len(self.units))
        return pl.DataFrame(
            {
                "unit_id": np.repeat(self.units, self.months),
                "month_id": month + np.int32(self.first),
                "month": month,
                EXISTS: self.exists,
            }
        )

    def neighbours(self, units: pl.DataFrame) -> Neighbours:
        """Pairs of grid rows from the `neighbours` lists of the units table; only those that exist in the month."""
        pairs = (
            units.select("month_id", "unit_id", neighbour=pl.col("neighbours"))
            .explode("neighbour", empty_as_null=True, keep_nulls=True)
            .drop_nulls("neighbour")
            .sort("unit_id", "month_id", "neighbour")
        )
        row = self.rows_of(pairs)
        neighbour = self.rows_of(pairs.select("month_id", unit_id="neighbour"))
        return Neighbours(row[neighbour >= 0], neighbour[neighbour >= 0])


def require_months(month_ids: pl.Series, last: int, what: str) -> int:
    """First of `month_ids`, where they hold every month from it to `last`.

    Raises:
        MissingMonthsError: they do not.
    """
    held = month_ids.unique()
    first = held.min()
    if not isinstance(first, int):
        raise MissingMonthsError(f"{what} have no month up to {to_key(last)}; materialise them first")
    lacking = np.setdiff1d(np.arange(first, last + 1), held.to_numpy())
    if len(lacking):
        raise MissingMonthsError(f"{what} lack {describe_months(lacking.tolist())}; materialise these months first")
    return first


def compute(
    queryset: Queryset, sources: Mapping[str, Reader], raw: Mapping[str, pl.LazyFrame], first: int, last: int
) -> tuple[pl.DataFrame, FeatureReport]:
    """Targets and columns of months `first..last` (month ids, inclusive), from raw rows of months up to `last` alone.

    Args:
        queryset: one that `check` accepts with these `sources`.
        sources: the readers of `queryset.sources`.
        raw: their stored raw rows; the units' have `month_id`, `unit_id` and, where a transform needs it, `neighbours`.
        first: first month to return; chains see everything before it.
        last: last month to return.

    Returns:
        Rows `month_id` int32, `unit_id` int64, targets and columns float32, sorted by month and unit, one for each unit
        and month in which it exists; and the report.

    Raises:
        MissingMonthsError: the units or a source lack a month.
        QuerysetError: a source has several rows of a unit and month, events of an unknown unit, or no row that fits.
    """
    specs = queryset.specs
    needs_neighbours = any(step.transform.needs_neighbours for spec in specs.values() for step in spec.steps)
    wanted = ["month_id", "unit_id", *(["neighbours"] if needs_neighbours else [])]
    units = raw[queryset.units].filter(pl.col("month_id") <= last).select(wanted).collect()
    grid = Grid.of(units, last=last)
    if not grid.first <= first <= last:
        raise MissingMonthsError(f"the units begin in {to_key(grid.first)}; {to_key(first)} cannot be computed")

    frame = grid.frame()
    outside = {}
    for source in sorted({spec.source for spec in specs.values()}):
        used = sorted({spec.column for spec in specs.values() if spec.source == source})
        values, left_out = place(source, sources[source], raw[source], queryset.level, used, grid, first, last)
        frame = frame.with_columns(values)
        if left_out.rows:
            outside[source] = left_out

    asked = pl.col(EXISTS) & (pl.col("month_id") >= first)
    inputs = sorted({spec.from_ for spec in specs.values()})
    missing = frame.filter(asked).select(pl.col(inputs).null_count())
    neighbours = grid.neighbours(units) if needs_neighbours else None
    result = (
        compile_columns(frame.lazy(), specs, neighbours, all_exist=bool(grid.exists.all()))
        .filter(asked)
        .drop(EXISTS)
        .sort("month_id", "unit_id")
        .collect()
    )
    nulls = result.select(pl.col(list(specs)).null_count())
    return result, FeatureReport(result.height, missing.row(0, named=True), nulls.row(0, named=True), outside)


def place(
    name: str, source: Reader, raw: pl.LazyFrame, level: str, columns: list[str], grid: Grid, first: int, last: int
) -> tuple[list[pl.Series], Outside]:
    """`columns` of a source as grid columns named `<source>.<column>`, and what of months `first..last` is left out."""
    raw = raw.filter(pl.col("month_id") <= last)
    began = require_months(raw.select(pl.col("month_id").unique()).collect()["month_id"], last, f"raw rows of {name}")
    panel = (
        source.panel(raw, level)
        .select(pl.col("month_id", "unit_id"), pl.col(columns).cast(pl.Float64).fill_nan(None))
        .filter(pl.col("month_id") <= last)
        .collect()
    )
    row = grid.rows_of(panel)
    placed = row >= 0
    homeless = panel.filter(~placed)
    unknown = homeless.filter(~pl.col("unit_id").is_in(grid.units.tolist()))
    ids = unknown["unit_id"].unique().sort().to_list()
    if len(unknown) and (source.absent_is_zero or not placed.any()):
        raise QuerysetError(
            f"{name} has rows of unknown units {', '.join(map(str, ids[:10]))} in "
            f"{describe_months(unknown['month_id'].to_list())}, and without them would look like zero or nothing: "
            "correct the source's unit ids, or add the units to the units table"
        )
    left_out = homeless.filter(pl.col("month_id") >= first)
    row, inside = row[placed], panel.filter(placed)
    if len(np.unique(row)) != len(row):
        raise QuerysetError(f"{name} has several rows of the same month and unit; its panel must have one at most")

    base = np.full(len(grid.exists), np.nan)
    if source.absent_is_zero:
        in_source = np.arange(grid.months) >= began - grid.first
        base[grid.exists & np.tile(in_source, len(grid.units))] = 0
    series = []
    for column in columns:
        values = base.copy()
        values[row] = inside[column].to_numpy()
        series.append(pl.Series(f"{name}.{column}", values, nan_to_null=True))
    sums = left_out.select(pl.col(columns).sum()).row(0, named=True)
    return series, Outside(left_out.height, sums, tuple(ids))


def compile_columns(
    frame: pl.LazyFrame, specs: Mapping[str, ColumnSpec], neighbours: Neighbours | None, *, all_exist: bool
) -> pl.LazyFrame:
    """One lazy plan for all chains over the grid: a stage for each position in the chains.

    Chains that begin alike share columns, so each distinct beginning is computed once. Each stage reads columns of the
    stage before it, which keeps expressions small; columns that nothing reads any more are dropped.
    """
    keys = ["month_id", "unit_id", "month", EXISTS]
    chains = {name: [spec.from_] for name, spec in specs.items()}
    for name, spec in specs.items():
        for step in spec.steps:
            chains[name].append(f"{chains[name][-1]} | {step}")
    for depth in range(1, max(map(len, chains.values()))):
        stage = {}
        for name, spec in specs.items():
            if depth < len(chains[name]):
                before, after = chains[name][depth - 1 : depth + 1]
                step = spec.steps[depth - 1]
                value = step.transform.apply(pl.col(before), step.arguments, neighbours)
                stage[after] = value if all_exist else pl.when(pl.col(EXISTS)).then(value)
        needed = {chain[min(depth, len(chain) - 1)] for chain in chains.values()}
        frame = frame.with_columns(**stage).select(*keys, *sorted(needed))
    outputs = [pl.col(chains[name][-1]).cast(pl.Float32).alias(name) for name in specs]
    return frame.select("month_id", "unit_id", EXISTS, *outputs)
