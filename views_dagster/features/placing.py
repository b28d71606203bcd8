"""Putting a source on the grid: its panel as one matrix a column, and what of it fits no unit-month.

A column that a source offers only at the level of the units' parents is broadcast: each unit has the value of the
parent that holds it in that month.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import describe_months
from views_dagster.errors import GeographyError, QuerysetError
from views_dagster.features.grid import Domain, Grid, Histories, require_months
from views_dagster.geography import require_cells
from views_dagster.panel import KEYS
from views_dagster.sources.base import PanelReader


@dataclass(frozen=True)
class Outside:
    """Rows of a source that belong to no existing unit-month and were left out.

    Attributes:
        rows: how many.
        sums: what they summed to, by column.
        unknown_units: of these, rows of units that exist in no month, by unit; cells outside the domain are none.
    """

    rows: int
    sums: Mapping[str, float]
    unknown_units: Mapping[int, int]


@dataclass(frozen=True)
class Placed:
    """Columns of a source on a grid.

    Attributes:
        grid: the grid.
        panel: (N) rows with the columns.
        row: (N,) grid row of each.
        zero_from: first month in which a unit without a row has zero rather than nothing known; None for never.
        alike: examples (K,) of units that exist in the same months, and which of them each unit is (U,).
    """

    grid: Grid
    panel: pl.DataFrame
    row: NDArray[np.int64]
    zero_from: int | None
    alike: tuple[NDArray[np.int64], NDArray[np.int64]]

    def histories(self, column: str) -> Histories:
        """What the column was in each unit; units without a row that exist in the same months share a history."""
        shown, of_unit, row = self._shown
        exists = self.grid.exists[shown]
        values = np.full(exists.shape, np.nan)
        if self.zero_from is not None:
            known = np.arange(self.grid.first, self.grid.last + 1) >= self.zero_from
            values[exists & known] = 0
        values.reshape(-1)[row] = self.panel[column].cast(pl.Float64).to_numpy()
        return Histories(values, exists, of_unit)

    @cached_property
    def _shown(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The units whose history is shown (H,): those with a row, then an example of each kind of the others; which
        of them each unit follows (U,); and where each row of the panel stands among them, as a row of H x M."""
        unit, month = np.divmod(self.row, self.grid.months)
        told = np.zeros(len(self.grid.units), dtype=bool)
        told[unit] = True
        example, kind = self.alike
        kinds, position = np.unique(kind[~told], return_inverse=True)
        of_unit = np.cumsum(told) - 1
        of_unit[~told] = told.sum() + position
        shown = np.concatenate([np.flatnonzero(told), example[kinds]])
        return shown, of_unit, of_unit[unit] * self.grid.months + month


def offered(source: PanelReader, level: str | None) -> frozenset[str]:
    """Columns of a source at a level, none where it refuses the level."""
    try:
        return source.columns(level) if level is not None else frozenset()
    except QuerysetError:
        return frozenset()


def place(
    name: str, source: PanelReader, raw: pl.LazyFrame, columns: Sequence[str], domain: Domain, first: int
) -> tuple[Callable[[str], Histories], Outside]:
    """A function from a column of a source to its histories over the domain, and what of the source is left out.

    Args:
        name: of the source, for messages.
        source: its reader.
        raw: its stored raw rows.
        columns: names that it offers at the level of the domain or at that of the parents.
        domain: what to place them on.
        first: month from which on what is left out is counted.

    Raises:
        MissingMonthsError: the raw rows lack a month.
        QuerysetError: several rows of a unit and month, events of an unknown unit, or no row that fits.
        GeographyError: a row of a cell that is not on the lattice.
    """
    raw = raw.filter(pl.col("month_id") <= domain.grid.last)
    held = raw.select(pl.col("month_id").unique()).collect()["month_id"]
    began = require_months(held, domain.grid.last, f"raw rows of {name}")
    zero_from = began if source.absent_is_zero else None
    own = [column for column in columns if column in offered(source, domain.level)]
    of_parents = [column for column in columns if column not in own]
    at_own = at_parents = None
    outside = Outside(0, {}, {})
    if own:
        panel = _panel(_units_panel(source, raw, domain), own, domain.grid.last)
        row = domain.grid.rows_of(panel)
        outside = _outside(name, panel, row, own, first, domain, absent_is_zero=source.absent_is_zero)
        at_own = Placed(domain.grid, panel.filter(row >= 0), _distinct(name, row[row >= 0]), zero_from, domain.alike)
    if of_parents:
        if domain.parent_level is None:
            raise QuerysetError(f"{name} has no column {', '.join(of_parents)} at level {domain.level}")
        panel = _panel(source.panel(raw, domain.parent_level), of_parents, domain.grid.last)
        row = domain.parents.rows_of(panel)
        ids = panel["unit_id"].unique().sort()
        if len(ids) and not source.absent_is_zero and not np.isin(ids.to_numpy(), domain.parents.units).any():
            raise QuerysetError(
                f"no row of {name} is of a unit of level {domain.parent_level} that holds one of level {domain.level}; "
                f"its units are {', '.join(map(str, ids.to_list()[:10]))}: correct the source's unit ids"
            )
        apart = np.arange(len(domain.parents.units))
        at_parents = Placed(
            domain.parents, panel.filter(row >= 0), _distinct(name, row[row >= 0]), zero_from, (apart, apart)
        )

    def histories(column: str) -> Histories:
        if at_own is not None and column in own:
            return at_own.histories(column)
        assert at_parents is not None
        onto, exists, of_unit = domain.parent_histories
        of_parent = at_parents.histories(column)
        parent, month = np.divmod(np.maximum(onto, 0), domain.grid.months)
        values = of_parent.values[of_parent.of_unit[parent], month]
        return Histories(np.where(onto >= 0, values, np.nan), exists, of_unit)

    return histories, outside


def _units_panel(source: PanelReader, raw: pl.LazyFrame, domain: Domain) -> pl.LazyFrame:
    if domain.parent_level is None:
        return source.panel(raw, domain.level)
    first = domain.grid.first
    remembered = raw.filter(pl.col("month_id") >= first - source.panel_memory)
    panel = source.panel(remembered, domain.level, domain.units.lazy().filter(pl.col("month_id") >= first))
    return panel.filter(pl.col("month_id") >= first)


def _panel(panel: pl.LazyFrame, columns: Sequence[str], last: int) -> pl.DataFrame:
    known = (pl.col(column).fill_nan(None) for column in columns)
    return panel.filter(pl.col("month_id") <= last).select(*KEYS, *known).collect()


def _distinct(name: str, row: NDArray[np.int64]) -> NDArray[np.int64]:
    seen = np.zeros(int(row.max(initial=-1)) + 1, dtype=bool)
    seen[row] = True
    if int(seen.sum()) != len(row):
        raise QuerysetError(f"{name} has several rows of the same month and unit; its panel must have one at most")
    return row


def _outside(
    name: str,
    panel: pl.DataFrame,
    row: NDArray[np.int64],
    columns: Sequence[str],
    first: int,
    domain: Domain,
    *,
    absent_is_zero: bool,
) -> Outside:
    """What rows without a unit-month amount to; an error where leaving them out would hide a mistake."""
    homeless = panel.filter(row < 0)
    unknown = homeless.filter(~pl.col("unit_id").is_in(domain.grid.units.tolist()))
    ids = unknown["unit_id"].unique().sort()
    mistaken = absent_is_zero or not (row >= 0).any()
    if domain.lattice is not None:
        # The table of units says which cells are looked at: other cells are no mistake, but what is no cell is one.
        try:
            require_cells(ids.to_numpy())
        except GeographyError as error:
            raise GeographyError(f"rows of {name}: {error}") from error
        mistaken = not absent_is_zero and mistaken
    if len(unknown) and mistaken:
        raise QuerysetError(
            f"{name} has rows of unknown units {', '.join(map(str, ids.to_list()[:10]))} in "
            f"{describe_months(unknown['month_id'].to_list())}, and without them would look like zero or nothing: "
            "correct the source's unit ids, or add the units to the units table"
        )
    left_out = homeless.filter(pl.col("month_id") >= first)
    sums = left_out.select(pl.col(columns).sum()).row(0, named=True)
    strangers = unknown.filter(pl.col("month_id") >= first) if domain.lattice is None else unknown.clear()
    counts = strangers["unit_id"].value_counts(sort=False).sort("unit_id")
    return Outside(left_out.height, sums, dict(counts.iter_rows()))
