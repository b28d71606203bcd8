"""What people read of a release: the months that have one, its rows, and where it expects the most deaths."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from views_dagster.geography import latitude_of, longitude_of
from views_dagster.reports.outlooks import YEAR
from views_dagster.storage.manifests import ReleasedTable
from views_dagster.storage.tables import TableStore

RELEASED: Final = ReleasedTable("forecasts")
COUNTRIES: Final = "raw/countries"
CELLS: Final = "raw/prio_grid"
COUNTRY_LEVEL, CELL_LEVEL = "cm", "pgm"
_KINDS: Final = {"sb_best": "state-based", "ns_best": "non-state", "os_best": "one-sided"}
COUNTED: Final[Mapping[str, str]] = {target: f"deaths, {kind} ({target})" for target, kind in _KINDS.items()}
"""What each target counts, in words."""

MEASURES: Final[Mapping[str, str]] = {target: f"deaths a month, {kind} ({target})" for target, kind in _KINDS.items()}
"""The same of a single month."""

_LOCATED: Final[Mapping[str, pl.DataType]] = {
    "unit_id": pl.Int64(),
    "parent_id": pl.Int64(),
    "country": pl.String(),
    "latitude": pl.Float64(),
    "longitude": pl.Float64(),
}


@dataclass(frozen=True)
class Release:
    """A complete release of one month.

    Attributes:
        month_id: the last observed month.
        rows: `views_dagster.conflict.release.RELEASE_SCHEMA`, lazily: cells make millions of rows.
        manifest: what it was made from.
    """

    month_id: int
    rows: pl.LazyFrame
    manifest: Mapping[str, Any]

    @property
    def leading(self) -> dict[str, str]:
        """The model or ensemble of each level that people are shown first."""
        return dict(self.manifest["release"]["leading"])


def read_release(store: TableStore, month_id: int) -> Release:
    """The month's release.

    Raises:
        MissingMonthsError: there is none, or it is not complete: its run was stopped before the manifest was written.
    """
    manifest = RELEASED.manifest(store, month_id)
    return Release(month_id, RELEASED.rows(store, month_id, manifest), manifest)


def country_names(store: TableStore, month_id: int, table: str = COUNTRIES) -> dict[int, str]:
    """Names of the countries that exist in the month; empty where the table lacks the month, or names."""
    if month_id not in store.months(table):
        return {}
    listed = store.scan(table, month_id, month_id)
    if "name" not in listed.collect_schema():
        return {}
    return dict(listed.select("unit_id", "name").collect().iter_rows())


def unit_names(store: TableStore, month_id: int, table: str = COUNTRIES, parents: str = COUNTRIES) -> dict[int, str]:
    """What to call the units of a table of countries or of cells: `Mali`, `Mali (12.25 N, 7.75 W)`.

    Args:
        table: lists the units that exist in each month.
        parents: has the names of the countries in which cells lie.
    """
    cells = located_cells(store, month_id, table, parents)
    if cells.is_empty():
        return country_names(store, month_id, table)
    place = pl.format(
        "{} ({} {}, {} {})",
        pl.col("country").fill_null(pl.format("country {}", "parent_id")),
        pl.col("latitude").abs(),
        pl.when(pl.col("latitude") < 0).then(pl.lit("S")).otherwise(pl.lit("N")),
        pl.col("longitude").abs(),
        pl.when(pl.col("longitude") < 0).then(pl.lit("W")).otherwise(pl.lit("E")),
    )
    return dict(cells.select("unit_id", place).iter_rows())


def located_cells(store: TableStore, month_id: int, table: str = CELLS, parents: str = COUNTRIES) -> pl.DataFrame:
    """`unit_id`, `parent_id`, `country` (its name, if known), `latitude` and `longitude` of the month's cells.

    Empty where the table lacks the month, or is not one of cells.
    """
    nothing = pl.DataFrame(schema=_LOCATED)
    if month_id not in store.months(table):
        return nothing
    listed = store.scan(table, month_id, month_id)
    if "parent_id" not in listed.collect_schema():
        return nothing
    cells = listed.select("unit_id", "parent_id").sort("unit_id").collect()
    gid = cells["unit_id"].to_numpy()
    return cells.with_columns(
        country=pl.col("parent_id").replace_strict(
            country_names(store, month_id, parents), default=None, return_dtype=pl.String
        ),
        latitude=latitude_of(gid),
        longitude=longitude_of(gid),
    )


def worst_hit(
    rows: pl.DataFrame | pl.LazyFrame, names: Mapping[int, str], *, model: str, count: int, level: str = COUNTRY_LEVEL
) -> pl.DataFrame:
    """The `count` units with the most expected deaths over the next 12 months, most first.

    Args:
        rows: of a release; those of `model` are of one target.
        names: of the units, from `unit_names`.

    Returns:
        `country` or, of another level, `unit` (its name, or its number), `next_month` and `next_12_months` (expected
        deaths, summed over the months), `p25_next_month` (probability of at least 25 deaths in it) and `p25_highest`
        (the highest such probability of any one of the 12 months).
    """
    unit = "country" if level == COUNTRY_LEVEL else "unit"
    called = pl.col("unit_id").replace_strict(names, default=None, return_dtype=pl.String)
    return _worst(rows, level, model, count).select(
        called.fill_null(pl.col("unit_id").cast(pl.String)).alias(unit),
        "next_month",
        "next_12_months",
        "p25_next_month",
        "p25_highest",
    )


def worst_hit_cells(rows: pl.DataFrame | pl.LazyFrame, cells: pl.DataFrame, *, model: str, count: int) -> pl.DataFrame:
    """The `count` cells with the most expected deaths over the next 12 months, most first.

    Args:
        rows: of a release; those of `model` are of one target.
        cells: from `located_cells`.

    Returns:
        `country` (its name, or its number; null where the cell is not among `cells`), `latitude`, `longitude` of the
        cell's centre, `gid`, `next_month`, `next_12_months`, and `p1_next_month` and `p25_next_month`, the
        probabilities of at least 1 and 25 deaths in the next month.
    """
    found = _worst(rows, CELL_LEVEL, model, count)
    return found.join(cells, on="unit_id", how="left", maintain_order="left").select(
        pl.col("country").fill_null(pl.col("parent_id").cast(pl.String)),
        "latitude",
        "longitude",
        pl.col("unit_id").alias("gid"),
        "next_month",
        "next_12_months",
        "p1_next_month",
        "p25_next_month",
    )


def _worst(rows: pl.DataFrame | pl.LazyFrame, level: str, model: str, count: int) -> pl.DataFrame:
    """`unit_id` and what is said of the next year's deaths, most deaths first; ties by unit."""
    first = pl.col("step") == 1
    return (
        rows.lazy()
        .filter(pl.col("level") == level, pl.col("model") == model, pl.col("step") <= YEAR)
        .group_by("unit_id")
        .agg(
            next_month=pl.col("mean").filter(first).sum().cast(pl.Float64),
            next_12_months=pl.col("mean").cast(pl.Float64).sum(),
            p1_next_month=pl.col("p_at_least_1").filter(first).max(),
            p25_next_month=pl.col("p_at_least_25").filter(first).max(),
            p25_highest=pl.col("p_at_least_25").max(),
        )
        .sort(["next_12_months", "unit_id"], descending=[True, False])
        .head(count)
        .collect()
    )
