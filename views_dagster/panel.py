"""The panel that learners see: unit x month x feature, dense, with a mask of what exists.

Month-major, so that "everything up to month t" is a prefix and a shift by k months is a slice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import describe_months, to_key
from views_dagster.errors import PanelError

KEYS = ("month_id", "unit_id")


@dataclass(frozen=True)
class Panel:
    """Features and one target of all units over consecutive months.

    Attributes:
        months: (M,) int32, consecutive month ids.
        units: (U,) int64, ascending unit ids; every unit that exists in any of the months.
        exists: (M, U) bool, whether the unit exists in the month.
        features: (M, U, P) float32, NaN where the unit does not exist, never NaN where it does.
        feature_names: P names.
        target: (M, U) float32, the observed target in its own unit (deaths, ...), NaN where the unit does not exist.
        target_name: its name.
    """

    months: NDArray[np.int32]
    units: NDArray[np.int64]
    exists: NDArray[np.bool_]
    features: NDArray[np.float32]
    feature_names: tuple[str, ...]
    target: NDArray[np.float32]
    target_name: str

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, *, target: str, features: Sequence[str]) -> "Panel":
        """Build the panel from rows (`month_id`, `unit_id`, `target`, `features`), one a month and existing unit.

        Raises:
            PanelError: no rows, a missing month, a duplicated row, a missing column, or a null, NaN or infinite value.
        """
        missing = [name for name in (*KEYS, target, *features) if name not in frame.columns]
        if missing:
            raise PanelError(f"the panel has no column {', '.join(missing)}; it has {', '.join(frame.columns)}")
        if frame.is_empty():
            raise PanelError("the panel has no rows")
        month_id = frame["month_id"].to_numpy()
        first, last = int(month_id.min()), int(month_id.max())
        months = np.arange(first, last + 1, dtype=np.int32)
        row = month_id - first
        absent = months[np.bincount(row, minlength=len(months)) == 0]
        if len(absent):
            raise PanelError(f"the panel lacks {describe_months(absent.tolist())}")
        units = frame["unit_id"].unique().sort().to_numpy().astype(np.int64)
        ids = frame["unit_id"].to_numpy()
        column = np.searchsorted(units, ids)
        place = row.astype(np.intp) * len(units) + column
        exists = np.zeros((len(months), len(units)), dtype=bool)
        exists.reshape(-1)[place] = True
        if int(exists.sum()) != frame.height:
            raise PanelError(f"the panel repeats {frame.height - int(exists.sum())} (month_id, unit_id) rows")
        in_order = len(place) == exists.size and bool((place[1:] > place[:-1]).all())

        def dense(names: Sequence[str]) -> NDArray[np.float32]:
            values = np.empty((exists.size, len(names)), dtype=np.float32)
            if len(place) < exists.size:
                values.fill(np.nan)
            for position, name in enumerate(names):
                numbers = frame[name].cast(pl.Float32).to_numpy()
                # The sum of finite numbers is finite in float64, and one pass finds that almost all columns are.
                if not np.isfinite(numbers.sum(dtype=np.float64)):
                    bad = ~np.isfinite(numbers)
                    at = int(np.flatnonzero(bad)[0])
                    raise PanelError(
                        f"column {name} is null, NaN or infinite in {int(bad.sum())} rows, first in "
                        f"{to_key(int(month_id[at]))} for unit {int(ids[at])}; "
                        "end its transforms with fill and replace_na"
                    )
                if in_order:
                    values[:, position] = numbers
                else:
                    values[place, position] = numbers
            return values.reshape(*exists.shape, len(names))

        return cls(
            months=months,
            units=units,
            exists=exists,
            features=dense(list(features)),
            feature_names=tuple(features),
            target=dense([target])[:, :, 0],
            target_name=target,
        )

    @property
    def origin(self) -> int:
        """The last month, which is the last observed one."""
        return int(self.months[-1])

    @property
    def current(self) -> NDArray[np.int64]:
        """Positions in `units` of those that exist at the origin: the ones that are forecast."""
        return np.flatnonzero(self.exists[-1])

    def until(self, month_id: int) -> "Panel":
        """The panel as it was known at the end of `month_id`; units that had not appeared by then are left out."""
        if not self.months[0] <= month_id <= self.months[-1]:
            raise PanelError(f"the panel covers {describe_months(self.months.tolist())}, not {to_key(month_id)}")
        rows = int(month_id - self.months[0]) + 1
        existed = self.exists[:rows].any(axis=0)
        # All of them is a view: panels of cells are large, and most cells have always existed.
        known = slice(None) if existed.all() else existed
        return replace(
            self,
            months=self.months[:rows],
            units=self.units[known],
            exists=self.exists[:rows, known],
            features=self.features[:rows, known],
            target=self.target[:rows, known],
        )
