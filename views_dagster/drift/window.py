"""The months that the input checks look at: one month of a table and its history, as dense arrays.

Months x units x columns; NaN is a missing value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.errors import PanelError
from views_dagster.panel import KEYS

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """The tested month and its history.

    Attributes:
        month: the tested month id.
        units: (U,) unit ids that occur in any of the months, ascending.
        columns: P names of the numeric columns.
        present: (H + 1, U) bool, whether the unit has a row; the last row of the array is the tested month.
        values: (H + 1, U, P) float64; NaN where null, NaN, infinite or absent. Each column lies together in memory.
        infinite: (P,) number of infinite values in the tested month.
        rows: the tested month's rows as they came, keys and numeric columns.
    """

    month: int
    units: NDArray[np.int64]
    columns: tuple[str, ...]
    present: NDArray[np.bool_]
    values: Array
    infinite: NDArray[np.int64]
    rows: pl.DataFrame

    @classmethod
    def from_frame(
        cls, frame: pl.DataFrame, month: int, *, history_months: int, ignore: Sequence[str] = ()
    ) -> "Window":
        """Rows of `month` and of the `history_months` before it; other months and non-numeric columns are left out.

        Raises:
            PanelError: the frame has no `month_id`, no `unit_id`, or no numeric column besides them.
        """
        missing = [key for key in KEYS if key not in frame.columns]
        columns = tuple(
            name
            for name, dtype in frame.schema.items()
            if name not in KEYS and name not in ignore and (dtype.is_numeric() or dtype == pl.Boolean)
        )
        if missing or not columns:
            raise PanelError(
                f"the window has no {', '.join(missing) or 'numeric column'}; it has {', '.join(frame.columns)}, "
                "and a drift suite needs month_id, unit_id and at least one numeric column that is not ignored"
            )
        frame = frame.filter(pl.col("month_id").is_between(month - history_months, month)).select(*KEYS, *columns)
        rows = frame.filter(pl.col("month_id") == month)
        keyed = frame.filter(pl.col("unit_id").is_not_null())
        months = np.append(np.setdiff1d(keyed["month_id"].to_numpy(), [month]), month)
        units = keyed["unit_id"].unique().sort().to_numpy().astype(np.int64)
        month_at = np.searchsorted(months, keyed["month_id"].to_numpy())
        at = month_at * len(units) + np.searchsorted(units, keyed["unit_id"].to_numpy())
        present = np.zeros((len(months), len(units)), dtype=bool)
        present.ravel()[at] = True
        by_column = np.full((len(columns), len(months), len(units)), np.nan)
        for position, name in enumerate(columns):
            by_column[position].ravel()[at] = keyed[name].cast(pl.Float64).to_numpy()
            by_column[position][np.isinf(by_column[position])] = np.nan
        infinite = np.array([np.isinf(rows[name].cast(pl.Float64).to_numpy()).sum() for name in columns])
        return cls(month, units, columns, present, by_column.transpose(1, 2, 0), infinite, rows)

    @property
    def history(self) -> int:
        """How many months of history there are."""
        return len(self.present) - 1
