"""Small worlds for the tests of features: a reader of ready panels, and tables written as text."""

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from views_dagster.features.compute import FeatureReport, compute
from views_dagster.features.querysets import Queryset
from views_dagster.sources.base import PanelReader, RawMonths


class Ready(PanelReader):
    """Raw rows that are a panel already."""

    names: tuple[str, ...] = ("x",)
    events: bool = False
    level: str = "cm"

    def columns(self, level: str) -> frozenset[str]:
        return frozenset(self.names) if level == self.level else frozenset()

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


class CellUnits(Ready):
    """A table of cells, each in a parent of level cm."""

    names: tuple[str, ...] = ("height",)
    level: str = "pgm"

    @property
    def parent_level(self) -> str:
        return "cm"

    @property
    def lists_units(self) -> bool:
        return True


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
    return _queryset({name: ("s.x", chain) for name, chain in chains.items()}, level="cm", units="countries")


def cell_queryset(**columns: Sequence[str]) -> Queryset:
    """A queryset of cells; each column is its origin followed by its chain, the target the raw `s.x`."""
    return _queryset({name: (first, chain) for name, (first, *chain) in columns.items()}, level="pgm", units="cells")


def _queryset(columns: Mapping[str, tuple[str, Sequence[str]]], level: str, units: str) -> Queryset:
    written = {name: {"from": origin, "transforms": list(chain)} for name, (origin, chain) in columns.items()}
    return Queryset.model_validate(
        {"level": level, "units": units, "targets": {"target": {"from": "s.x"}}, "columns": written}
    )


def cells_table(lives: Mapping[int, Sequence[int]], parent: Callable[[int, int], int]) -> pl.DataFrame:
    """The table of cells that exist in the months listed; `parent(cell, month)` and a `height` of cell / 1000."""
    rows = [(month, cell, parent(cell, month), cell / 1000) for cell, months in lives.items() for month in months]
    schema = {"month_id": pl.Int32, "unit_id": pl.Int64, "parent_id": pl.Int64, "height": pl.Float32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def run(
    queryset: Queryset, units: pl.DataFrame, values: pl.DataFrame, first: int, last: int, *, events: bool = False
) -> tuple[pl.DataFrame, FeatureReport]:
    """Compute `queryset` where source `s` holds `values`."""
    sources = {"countries": Ready(names=()), "s": Ready(events=events)}
    return compute(queryset, sources, {"countries": units.lazy(), "s": values.lazy()}, first, last)
