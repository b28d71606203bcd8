"""The grid that querysets are computed on: every unit in every month, whether it exists, and what lies around it."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import describe_months, to_key
from views_dagster.errors import MissingMonthsError
from views_dagster.features.lattice import Lattice
from views_dagster.features.registry import Neighbours

EXISTS = "exists"
GRID_KEYS = ("unit_id", "month_id", "month", EXISTS)

TABLE: Final = 2**19

Matrix = NDArray[np.float64]


def in_table(ids: NDArray[np.int64]) -> bool:
    """Whether ids are small enough to be looked up by position, which is faster than a search in millions of rows."""
    return len(ids) > 0 and int(ids.min()) >= 0 and int(ids.max()) < TABLE


def distinct(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ids that occur, ascending."""
    if not in_table(ids):
        return np.unique(ids).astype(np.int64)
    seen = np.zeros(TABLE, dtype=bool)
    seen[ids] = True
    return np.asarray(np.flatnonzero(seen))


@dataclass(frozen=True)
class Grid:
    """All units over consecutive months, unit-major: row = position of the unit * number of months + month - first.

    Attributes:
        first: first month id.
        units: (U,) int64, ascending.
        exists: (U, M) bool.
    """

    first: int
    units: NDArray[np.int64]
    exists: NDArray[np.bool_]

    @classmethod
    def of(cls, units: pl.DataFrame, *, first: int, last: int) -> "Grid":
        """The grid of rows (`month_id`, `unit_id`) of months `first..last`."""
        ids = distinct(units["unit_id"].to_numpy())
        grid = cls(first, ids, np.zeros((len(ids), last - first + 1), dtype=bool))
        grid.exists.reshape(-1)[grid.places(units)] = True
        return grid

    @property
    def months(self) -> int:
        """M, how many months."""
        return int(self.exists.shape[1])

    @property
    def last(self) -> int:
        """Last month id."""
        return self.first + self.months - 1

    def since(self, first: int) -> "Grid":
        """The months from `first` on, with all units."""
        return replace(self, first=first, exists=self.exists[:, first - self.first :])

    def places(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        """Grid row of each row of `frame` (`month_id`, `unit_id`), -1 where its unit or month is not of the grid."""
        unit, month = frame["unit_id"].to_numpy(), frame["month_id"].to_numpy() - self.first
        if in_table(self.units) and in_table(unit):
            position = self._positions[unit]
        else:
            position = np.minimum(np.searchsorted(self.units, unit), len(self.units) - 1)
            position = np.where(self.units[position] == unit, position, -1)
        row = position * self.months + month
        row[(position < 0) | (month < 0) | (month >= self.months)] = -1
        return np.asarray(row)

    def rows_of(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        """Grid row of each row of `frame` (`month_id`, `unit_id`), -1 where its unit does not exist in that month."""
        row = self.places(frame)
        # The last entry answers for -1.
        return np.where(np.append(self.exists, False)[row], row, -1)

    @cached_property
    def _positions(self) -> NDArray[np.int64]:
        """Position of each unit by its id."""
        positions = np.full(TABLE, -1)
        positions[self.units] = np.arange(len(self.units))
        return positions

    def neighbours(self, units: pl.DataFrame) -> Neighbours:
        """Pairs of grid rows from the `neighbours` lists of the units table; only those that exist in the month."""
        pairs = (
            units.filter(pl.col("month_id") >= self.first)
            .select("month_id", "unit_id", neighbour=pl.col("neighbours"))
            .explode("neighbour", empty_as_null=True, keep_nulls=True)
            .drop_nulls("neighbour")
            .sort("unit_id", "month_id", "neighbour")
        )
        row = self.rows_of(pairs)
        neighbour = self.rows_of(pairs.select("month_id", unit_id="neighbour"))
        return Neighbours(row[neighbour >= 0], neighbour[neighbour >= 0])


def alike(rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows of a matrix (U, M) without NaN: an example of each (H,), and which of them each row is (U,)."""
    # Rows are sorted by a random projection; any that it confuses are told apart afterwards.
    projection = rows.astype(np.float64) @ np.random.default_rng(0).random(rows.shape[1])
    _, example, which = np.unique(projection, return_index=True, return_inverse=True)
    apart = np.flatnonzero((rows != rows[example][which]).any(axis=1))
    which[apart] = len(example) + np.arange(len(apart))
    return np.concatenate([example, apart]), which


@dataclass(frozen=True)
class Histories:
    """What happened to units, each distinct history once: units of which no row tells, or of one parent, share one.

    What is done to units one by one need only be done to these: most cells have never seen an event, and those of a
    parent share its values.

    Attributes:
        values: (H, M) float64, NaN where unknown.
        exists: (H, M) bool.
        of_unit: (U,) position of each unit's history.
    """

    values: Matrix
    exists: NDArray[np.bool_]
    of_unit: NDArray[np.int64]

    def since(self, month: int) -> "Histories":
        """The months from `month` (0-based) on."""
        return replace(self, values=self.values[:, month:], exists=self.exists[:, month:])

    def unknown(self, months: int) -> int:
        """In how many of the last `months` months of existing units the value is unknown."""
        unknown = (np.isnan(self.values[:, -months:]) & self.exists[:, -months:]).sum(axis=1)
        return int(unknown @ np.bincount(self.of_unit, minlength=len(unknown)))

    def frame(self, name: str, first: int) -> pl.DataFrame:
        """`grid_frame` of the histories, numbered from 0."""
        return grid_frame(self.values, self.exists, np.arange(len(self.values), dtype=np.int64), name, first)


def grid_frame(
    values: Matrix, exists: NDArray[np.bool_], ids: NDArray[np.int64], name: str, first: int
) -> pl.DataFrame:
    """One row for each unit and month: `unit_id`, `month_id`, `month` (0-based), `exists` and `name`, null for NaN."""
    units, months = values.shape
    month = np.tile(np.arange(months, dtype=np.int32), units)
    return pl.DataFrame(
        {
            "unit_id": np.repeat(ids, months),
            "month_id": month + np.int32(first),
            "month": month,
            EXISTS: exists.reshape(-1),
            name: pl.Series(values.reshape(-1), nan_to_null=True),
        }
    )


@dataclass(frozen=True)
class Domain:
    """The units that a queryset is computed for.

    Attributes:
        level: level of analysis of the units.
        parent_level: the coarser level that `parent_id` refers to; None where the units have no parents.
        grid: all units in the months that are looked at.
        units: rows of the units table of these months, and perhaps of earlier ones: `month_id`, `unit_id` and, where
            they are asked for, `parent_id` or `neighbours`.
        lattice: where the units lie, where they are cells.
    """

    level: str
    parent_level: str | None
    grid: Grid
    units: pl.DataFrame
    lattice: Lattice | None
    _since: dict[int, "Domain"] = field(default_factory=dict, repr=False, compare=False)

    def since(self, first: int) -> "Domain":
        """The months from `first` on, with all units."""
        if first == self.grid.first:
            return self
        if first not in self._since:
            self._since[first] = replace(self, grid=self.grid.since(first))
        return self._since[first]

    @cached_property
    def neighbours(self) -> Neighbours:
        """Which units border which."""
        return self.grid.neighbours(self.units)

    @cached_property
    def alike(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Units that exist in the same months: an example of each kind, and the kind of each unit (U,)."""
        return alike(self.grid.exists)

    @cached_property
    def parents(self) -> Grid:
        """The grid of the parents that hold a unit."""
        held = self.units.select("month_id", unit_id="parent_id").filter(pl.col("month_id") >= self.grid.first)
        return Grid.of(held.drop_nulls(), first=self.grid.first, last=self.grid.last)

    @cached_property
    def parent_histories(self) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """Units that had the same parents: the row in the grid of parents (negative without one) and whether the unit
        exists, (H, M) each; and which of the H each unit is (U,)."""
        row = np.full(self.grid.exists.size + 1, -2)
        # Rows of earlier months are written to the last entry, which is then left out.
        row[self.grid.places(self.units)] = self.parents.places(
            self.units.select("month_id", unit_id=pl.col("parent_id").fill_null(-1))
        )
        kinds = row[:-1].reshape(self.grid.exists.shape)
        example, kind = alike(kinds)
        return kinds[example], self.grid.exists[example], kind


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
