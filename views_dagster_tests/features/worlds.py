"""Small worlds for the tests of features: a reader of ready panels, and tables written as text."""

from collections.abc import Mapping, Sequence

import polars as pl

from views_dagster.features.compute import FeatureReport, compute
from views_dagster.features.querysets import Queryset
from views_dagster.sources.base import RawMonths, Reader


class Ready(Reader):
    """Raw rows that are a panel already."""

    names: tuple[str, ...] = ("x",)
    events: bool = False

    def columns(self, level: str) -> frozenset[str]:
        return frozenset(self.names) if level == "cm" else frozenset()

    @property
    def row_keys(self) -> Sequence[str]:
        return ("month_id", "unit_id")

    def read(self, first: int, last: int) -> RawMonths:
        raise NotImplementedError

    def panel(self, raw: pl.LazyFrame, level: str, units: pl.LazyFrame | None = None) -> pl.LazyFrame:
        return raw.drop_nulls("unit_id")

    @property
    def absent_is_zero(self) -> bool:
        return self.events


def units_table(
    lives: Mapping[int, Sequence[int]], neighbours: Mapping[int, Sequence[int]] | None = None
) -> pl.DataFrame:
    """The units table in which each unit exists in the months listed for it."""
    rows = [(month, unit, list((neighbours or {}).get(unit, []))) for unit, months in lives.items() for month in months]
    schema = {"month_id": pl.Int32, "unit_id": pl.Int64, "neighbours": pl.List(pl.Int64)}
    return pl.DataFrame(rows, schema=schema, orient="row")


def values_table(values: Mapping[tuple[int, int], float | None]) -> pl.DataFrame:
    """A panel of one column, `x`, from `{(unit, month): value}`."""
    rows = [(month, unit, value) for (unit, month), value in values.items()]
    return pl.DataFrame(rows, schema={"month_id": pl.Int32, "unit_id": pl.Int64, "x": pl.Float64}, orient="row")


def queryset_of(**chains: Sequence[str]) -> Queryset:
    """A queryset over `s.x` with one column for each chain, and the raw `x` as its target."""
    columns = {name: {"from": "s.x", "transforms": list(chain)} for name, chain in chains.items()}
    return Queryset.model_validate({"level": "cm", "targets": {"target": {"from": "s.x"}}, "columns": columns})


def run(
    queryset: Queryset, units: pl.DataFrame, values: pl.DataFrame, first: int, last: int, *, events: bool = False
) -> tuple[pl.DataFrame, FeatureReport]:
    """Compute `queryset` where source `s` holds `values`."""
    sources = {"countries": Ready(names=()), "s": Ready(events=events)}
    return compute(queryset, sources, {"countries": units.lazy(), "s": values.lazy()}, first, last)
