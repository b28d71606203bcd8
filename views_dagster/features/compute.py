"""Running a queryset: which months each chain of transforms needs, and the chains run over the histories of units.

Every unit has a place in every calendar month, so that "k months ago" means that also for a unit that vanishes and
returns; months in which it does not exist hold null at every step of a chain and are left out at the end.

One input column is taken at a time, so that memory holds the results, in float32, and the steps of one column's chains.
A chain is read from the months it remembers alone: a month appended to a long history costs a month and its window,
and for what remembers all of the past a pass over the distinct histories of its one column.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import to_key
from views_dagster.errors import MissingMonthsError, QuerysetError
from views_dagster.features.grid import (
    EXISTS,
    GRID_KEYS,
    Domain,
    Grid,
    Histories,
    grid_frame,
    require_months,
)
from views_dagster.features.lattice import Cells, Lattice
from views_dagster.features.placing import Outside, place
from views_dagster.features.querysets import Queryset, Step
from views_dagster.sources.base import PanelReader

INPUT: Final = "input"

Steps = tuple[Step, ...]


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


def compute(
    queryset: Queryset, sources: Mapping[str, PanelReader], raw: Mapping[str, pl.LazyFrame], first: int, last: int
) -> tuple[pl.DataFrame, FeatureReport]:
    """Targets and columns of months `first..last` (month ids, inclusive), from raw rows of months up to `last` alone.

    Args:
        queryset: one that `check` accepts with these `sources`.
        sources: the readers of `queryset.sources`.
        raw: their stored raw rows; the units' have `month_id`, `unit_id` and, where a transform needs it, `neighbours`,
            where units have parents `parent_id`.
        first: first month to return; chains see everything before it.
        last: last month to return.

    Returns:
        Rows `month_id` int32, `unit_id` int64, targets and columns float32, sorted by month and unit, one for each unit
        and month in which it exists; and the report.

    Raises:
        MissingMonthsError: the units or a source lack a month.
        QuerysetError: a source has several rows of a unit and month, events of an unknown unit, or no row that fits.
        GeographyError: units are cells, and one is not on the lattice.
    """
    specs = queryset.specs
    chains = {name: spec.steps for name, spec in specs.items()}
    parent_level = sources[queryset.units].parent_level
    units = raw[queryset.units].filter(pl.col("month_id") <= last)
    began = require_months(units.select(pl.col("month_id").unique()).collect()["month_id"], last, "the units")
    if not began <= first <= last:
        raise MissingMonthsError(f"the units begin in {to_key(began)}; {to_key(first)} cannot be computed")

    windows = _windows(chains, began, first)
    # Units without parents are few, and all that ever existed are known: an event of another one is an error.
    earliest = began if parent_level is None else min(windows.values())
    needs_neighbours = any(step.transform.needs_neighbours for steps in chains.values() for step in steps)
    context = "neighbours" if needs_neighbours and parent_level is None else None
    wanted = ["month_id", "unit_id", *filter(None, [context, parent_level and "parent_id"])]
    rows = units.filter(pl.col("month_id") >= earliest).select(wanted).collect()
    grid = Grid.of(rows, first=earliest, last=last)
    if repeated := rows.height - int(grid.exists.sum()):
        raise QuerysetError(f"the units table repeats {repeated} rows of month_id and unit_id")
    domain = Domain(queryset.level, parent_level, grid, rows, None if parent_level is None else Lattice.of(grid.units))
    asked = Asked.of(grid, first)

    columns: dict[str, pl.Series] = {}
    missing: dict[str, int] = {}
    outside = {}
    for source in sorted({spec.source for spec in specs.values()}):
        of_source = {name: spec for name, spec in specs.items() if spec.source == source}
        onto = domain if parent_level is None else domain.since(min(windows[name] for name in of_source))
        used = sorted({spec.column for spec in of_source.values()})
        histories_of, left_out = place(source, sources[source], raw[source], used, onto, first)
        if left_out.rows:
            outside[source] = left_out
        for column in used:
            histories = histories_of(column)
            missing[f"{source}.{column}"] = histories.unknown(last - first + 1)
            of_column = {name: spec for name, spec in of_source.items() if spec.column == column}
            for window in sorted({windows[name] for name in of_column}):
                here = {name: chains[name] for name in of_column if windows[name] == window}
                within = histories.since(window - onto.grid.first)
                columns.update(evaluate(within, domain.since(window), here, asked))
    frame = pl.DataFrame(asked.keys() + [columns[name].alias(name) for name in specs])
    nulls = {name: columns[name].null_count() for name in specs}
    return frame, FeatureReport(frame.height, missing, nulls, outside)


def _windows(chains: Mapping[str, Steps], began: int, first: int) -> dict[str, int]:
    """First month that each column is computed from, for values from month `first` on.

    It is where the units began for what remembers all of the past. The others share the longest of their windows: it
    costs little more, and what their chains have in common is computed once.
    """
    starts = {name: _start(steps, first, began) for name, steps in chains.items()}
    bounded = min((start for start in starts.values() if start > began), default=began)
    return {name: bounded if start > began else began for name, start in starts.items()}


def _start(steps: Steps, first: int, began: int) -> int:
    """First month that `steps` look at for values from month `first` on, where nothing is before month `began`."""
    memories = [step.memory for step in steps]
    if None in memories:
        return began
    return max(began, first - sum(memory for memory in memories if memory is not None))


@dataclass(frozen=True)
class Asked:
    """The rows that are returned: existing units in the months that were asked for, by month and unit.

    Attributes:
        first: first of the months.
        units: (U,) int64.
        exists: (A, U) bool.
    """

    first: int
    units: NDArray[np.int64]
    exists: NDArray[np.bool_]

    @classmethod
    def of(cls, grid: Grid, first: int) -> "Asked":
        """The rows of months from `first` on."""
        return cls(first, grid.units, np.ascontiguousarray(grid.since(first).exists.T))

    def keys(self) -> list[pl.Series]:
        """`month_id` and `unit_id`."""
        month, unit = np.nonzero(self.exists)
        return [
            pl.Series("month_id", (self.first + month).astype(np.int32)),
            pl.Series("unit_id", self.units[unit]),
        ]

    def series(self, values: NDArray[np.float32], of_unit: NDArray[np.int64]) -> pl.Series:
        """The rows from a matrix (H, M) of histories, null for NaN."""
        by_month = np.take(np.ascontiguousarray(values[:, -len(self.exists) :].T), of_unit, axis=1)
        return pl.Series(by_month.reshape(-1)[self._places], nan_to_null=True)

    @cached_property
    def _places(self) -> slice | NDArray[np.int64]:
        return slice(None) if self.exists.all() else np.flatnonzero(self.exists)


def evaluate(
    histories: Histories, domain: Domain, chains: Mapping[str, Steps], asked: Asked
) -> Iterator[tuple[str, pl.Series]]:
    """Run chains that begin with the same values; yields each one's name with the rows that were asked for.

    What is done to each unit alone is done once for each distinct history, up to the first transform across units of
    each chain. That one sees all units, and after it each unit has its own history.
    """
    alone: dict[str, Steps] = {}
    across: dict[tuple[str, Step], dict[str, Steps]] = {}
    for name, steps in chains.items():
        cut = next((i for i, step in enumerate(steps) if step.transform.across_units), None)
        if cut is None:
            alone[name] = steps
        else:
            before = " | ".join(map(str, steps[:cut])) or "as it is"
            alone[before] = steps[:cut]
            across.setdefault((before, steps[cut]), {})[name] = steps[cut + 1 :]
    frame = compile_chains(histories.frame(INPUT, domain.grid.first).lazy(), alone, histories.exists).collect()
    shape = histories.values.shape
    for name in alone.keys() & chains.keys():
        yield name, asked.series(frame[name].cast(pl.Float32).to_numpy().reshape(shape), histories.of_unit)
    for (before, step), chains_after in across.items():
        whole = frame[before].to_numpy().reshape(shape)
        needed = min(_start(steps, asked.first, domain.grid.first) for steps in chains_after.values())
        after = run_across(step, replace(histories, values=whole), domain, needed)
        yield from evaluate(after, domain.since(needed), chains_after, asked)


def run_across(step: Step, histories: Histories, domain: Domain, needed: int) -> Histories:
    """A transform across units: its values in months from `needed` on, each unit's apart."""
    start = _start((step,), needed, domain.grid.first)
    seen = domain.since(start)
    values = histories.values[:, start - domain.grid.first :][histories.of_unit]
    context = seen.neighbours if seen.lattice is None else Cells(seen.lattice, seen.grid.exists, needed - start)
    frame = grid_frame(values, seen.grid.exists, seen.grid.units, INPUT, start)
    result = frame.lazy().select(step.transform.apply(pl.col(INPUT), step.arguments, context)).collect().to_series()
    matrix = result.to_numpy().reshape(values.shape)[:, needed - start :]
    exists = domain.since(needed).grid.exists
    return Histories(np.where(exists, matrix, np.nan), exists, np.arange(len(exists)))


def compile_chains(frame: pl.LazyFrame, chains: Mapping[str, Steps], exists: NDArray[np.bool_]) -> pl.LazyFrame:
    """One lazy plan for chains over the grid: a stage for each position in them; a column for each chain.

    Chains that begin alike share columns, so each distinct beginning is computed once. Each stage reads columns of the
    stage before it, which keeps expressions small; columns that nothing reads any more are dropped.
    """
    all_exist = bool(exists.all())
    written = {name: [INPUT] for name in chains}
    for name, steps in chains.items():
        for step in steps:
            written[name].append(f"{written[name][-1]} | {step}")
    for depth in range(1, max(map(len, written.values()))):
        stage = {}
        for name, steps in chains.items():
            if depth < len(written[name]):
                before, after = written[name][depth - 1 : depth + 1]
                step = steps[depth - 1]
                value = step.transform.apply(pl.col(before), step.arguments)
                stage[after] = value if all_exist else pl.when(pl.col(EXISTS)).then(value)
        needed = {chain[min(depth, len(chain) - 1)] for chain in written.values()}
        frame = frame.with_columns(**stage).select(*GRID_KEYS, *sorted(needed))
    return frame.select(pl.col(written[name][-1]).alias(name) for name in chains)
