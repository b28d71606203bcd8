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
        months = np.unique(month_id).astype(np.int32)
        wanted = np.arange(months[0], months[-1] + 1, dtype=np.int32)
        if len(wanted) != len(months):
            raise PanelError(f"the panel lacks {describe_months(np.setdiff1d(wanted, months).tolist())}")
        units, column = np.unique(frame["unit_id"].to_numpy(), return_inverse=True)
        row = month_id - months[0]
        exists = np.zeros((len(months), len(units)), dtype=bool)
        exists[row, column] = True
        if int(exists.sum()) != frame.height:
            raise PanelError(f"the panel repeats {frame.height - int(exists.sum())} (month_id, unit_id) rows")

        def dense(names: Sequence[str]) -> NDArray[np.float32]:
            values = np.full((len(months), len(units), len(names)), np.nan, dtype=np.float32)
            for position, name in enumerate(names):
                numbers = frame[name].cast(pl.Float32).to_numpy()
                bad = ~np.isfinite(numbers)
                if bad.any():
                    first = int(np.flatnonzero(bad)[0])
                    raise PanelError(
                        f"column {name} is null, NaN or infinite in {int(bad.sum())} rows, first in "
                        f"{to_key(int(month_id[first]))} for unit {int(frame['unit_id'][first])}; "
                        "end its transforms with fill and replace_na"
                    )
                values[row, column, position] = numbers
            return values

        return cls(
            months=months,
            units=units.astype(np.int64),
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
        known = self.exists[:rows].any(axis=0)
        return replace(
            self,
            months=self.months[:rows],
            units=self.units[known],
            exists=self.exists[:rows, known],
            features=self.features[:rows, known],
            target=self.target[:rows, known],
        )
