"""The columns that learners see: model profiles over boxes, the rain that was observed there, and NWP members.

A row is one box at one valid time. What a model may not know (the rain) stands in the same object, so that splits,
scores and pictures take rows together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.intp] | NDArray[np.bool_]


@dataclass(frozen=True)
class Columns:
    """N columns.

    Attributes:
        month_id: (N,) int32.
        valid_time: (N,) datetime64[s], UTC, the end of the interval in which the rain fell.
        box_id: (N,) int64, row * columns_of_the_lattice + column.
        latitude, longitude: (N,) float32 of the box's centre, degrees.
        profiles: (N, V, L) float32, never NaN.
        profile_names: V names.
        levels: (L,) float32, ascending in height: metres, or hPa from high to low.
        level_unit: `m` or `hPa`.
        surface: (N, S) float32 single-level and static fields, never NaN.
        surface_names: S names.
        fractions: (N, B) float32 of the box by band; rows sum to 1, or are all NaN where rain was not observed.
        rain_mean, rain_max: (N,) float32, mm/h over the box, NaN where not observed.
        missing: (N,) float32, share of the box's fine pixels without a value.
        members: (N, M) float32, box mean rain of each NWP member, mm/h; M is 0 where there are none.
        edges: lower edges of all bands but the first, mm/h; B = len(edges) + 1.
    """

    month_id: NDArray[np.int32]
    valid_time: NDArray[np.datetime64]
    box_id: NDArray[np.int64]
    latitude: NDArray[np.float32]
    longitude: NDArray[np.float32]
    profiles: NDArray[np.float32]
    profile_names: tuple[str, ...]
    levels: NDArray[np.float32]
    level_unit: str
    surface: NDArray[np.float32]
    surface_names: tuple[str, ...]
    fractions: NDArray[np.float32]
    rain_mean: NDArray[np.float32]
    rain_max: NDArray[np.float32]
    missing: NDArray[np.float32]
    members: NDArray[np.float32]
    edges: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.box_id)

    @property
    def observed(self) -> NDArray[np.bool_]:
        """(N,) whether the rain of the row is known."""
        return np.isfinite(self.fractions[:, 0])

    def take(self, rows: Index) -> "Columns":
        """The rows at these positions, in this order, or where this mask is true."""
        per_row = {
            field.name: getattr(self, field.name)[rows]
            for field in fields(self)
            if field.name not in ("profile_names", "levels", "level_unit", "surface_names", "edges")
        }
        return replace(self, **per_row)


def positions(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Positions of `wanted` among `names`; ValueError where one is absent."""
    return [list(names).index(name) for name in wanted]
