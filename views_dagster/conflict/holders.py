"""Which country holds each cell of a domain in each month, as arrays: lookups of many cells and months at once."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.geography import CELLS, COLUMNS, ROWS, column_of, gid_of, require_cells, row_of

OFFSETS: Final = np.array(
    sorted(
        ((row, column) for row in range(-2, 3) for column in range(-2, 3)),
        key=lambda offset: (max(map(abs, offset)) > 1, offset[0] ** 2 + offset[1] ** 2, offset),
    )
)
"""Rows and columns to the cells around one, the nearest first; the first nine are the block of 3 x 3."""

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Holders:
    """Which country holds each cell of the domain in each month; countries by their position in `countries`.

    Attributes:
        first: month id of the first of M months.
        countries: (C,) ids; position 0 stands for none.
        position: (CELLS + 1,) index among the U cells of each PRIO-GRID id, U where it is not in the domain.
        holder: (M, U + 1) int16 position of the country, 0 where the cell is not in the domain; the last column is 0.
        holds: (M, C) whether the country holds any cell.
        cells: the table of units they were made from.
    """

    first: int
    countries: Ints
    position: NDArray[np.int32]
    holder: NDArray[np.int16]
    holds: Flags
    cells: pl.DataFrame

    @classmethod
    def of(cls, units: pl.LazyFrame) -> "Holders":
        cells = units.select(pl.col("month_id").cast(pl.Int32), pl.col("unit_id", "parent_id").cast(pl.Int64)).collect()
        month, gid, parent = (cells[name].to_numpy() for name in ("month_id", "unit_id", "parent_id"))
        first, last = int(month.min()), int(month.max())
        require_cells([gid.min(), gid.max()])
        known = np.flatnonzero(np.bincount(gid, minlength=CELLS + 1))
        countries = np.concatenate([[0], np.flatnonzero(np.bincount(parent))])
        position = np.full(CELLS + 1, len(known), dtype=np.int32)
        position[known] = np.arange(len(known))
        code = np.zeros(countries[-1] + 1, dtype=np.int16)
        code[countries] = np.arange(len(countries))
        row, country = month - first, code[parent]
        holder = np.zeros((last - first + 1, len(known) + 1), dtype=np.int16)
        holder[row, position[gid]] = country
        holds = np.zeros((len(holder), len(countries)), dtype=bool)
        holds[row, country] = True
        return cls(first, countries, position, holder, holds, cells)

    @property
    def last(self) -> int:
        return self.first + len(self.holder) - 1

    def holder_of(self, month: Ints, gid: Ints) -> Ints:
        """Position of the country that holds cell `gid` (0: no cell) in `month` (month id); they broadcast."""
        return self.holder[month - self.first, self.position[gid]].astype(np.int64)

    def around(self, month: Ints, gid: Ints, country: Ints, count: int) -> tuple[Ints, Flags]:
        """The first `count` cells around each gid (N, count), and which of them `country` holds in `month` (N,)."""
        gid = np.maximum(gid, 1)
        row = row_of(gid)[:, None] + OFFSETS[:count, 0]
        column = column_of(gid)[:, None] + OFFSETS[:count, 1]
        on_grid = (row >= 1) & (row <= ROWS) & (column >= 1) & (column <= COLUMNS)
        cells = gid_of(np.clip(row, 1, ROWS), np.clip(column, 1, COLUMNS))
        held = self.holder_of(month[:, None], cells) == country[:, None]
        return cells, held & on_grid & (country > 0)[:, None]
