"""The table of predictors that trees and regressions take: level values, means of layers, statistics of NWP members."""

from itertools import pairwise
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from views_dagster.precipitation.columns import Columns

_SMALLEST_RATE = 0.01
_CONSTANT = 1e-6


class Predictors(BaseModel):
    """Which predictors a model sees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profiles: Literal["levels", "layers", "both", "none"] = Field(
        default="both",
        description="levels: each variable at each level; layers: means of layers and differences between neighbouring "
        "layers; both; or none of them",
    )
    layers: int = Field(default=3, ge=1, description="layers of about equally many levels, from the ground up")
    surface: bool = Field(default=True, description="single-level and static fields")
    members: bool = Field(default=False, description="statistics of the NWP members; columns without them are refused")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.profiles == "none" and not self.surface and not self.members:
            raise ValueError("no predictors are left: let profiles, surface or members be seen")
        return self

    def names(self, columns: Columns) -> tuple[str, ...]:
        """(P,) names of the predictors, in the order of `table`."""
        levels = [f"{level:g}{columns.level_unit}" for level in columns.levels]
        names: list[str] = []
        if self.profiles in ("levels", "both"):
            names += [f"{variable}@{level}" for variable in columns.profile_names for level in levels]
        if self.profiles in ("layers", "both"):
            parts = [f"{levels[part[0]]}..{levels[part[-1]]}" for part in self._layers(len(levels))]
            steps = [f"{upper} - {lower}" for lower, upper in pairwise(parts)]
            names += [f"{variable}@{part}" for variable in columns.profile_names for part in (*parts, *steps)]
        if self.surface:
            names += columns.surface_names
        if self.members:
            names += member_statistic_names(columns.edges)
        return tuple(names)

    def table(self, columns: Columns) -> NDArray[np.float32]:
        """(N, P) float32 predictors."""
        rows, variables, levels = columns.profiles.shape
        parts: list[NDArray[np.float32]] = [np.empty((rows, 0), dtype=np.float32)]
        if self.profiles in ("levels", "both"):
            parts.append(columns.profiles.reshape(rows, variables * levels))
        if self.profiles in ("layers", "both"):
            means = np.stack([columns.profiles[:, :, part].mean(axis=2) for part in self._layers(levels)], axis=2)
            both = np.concatenate([means, np.diff(means, axis=2)], axis=2)
            parts.append(both.reshape(rows, variables * both.shape[2]))
        if self.surface:
            parts.append(columns.surface)
        if self.members:
            parts.append(member_statistics(columns.members, columns.edges))
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _layers(self, levels: int) -> list[NDArray[np.intp]]:
        return np.array_split(np.arange(levels), min(self.layers, levels))


def member_statistic_names(edges: tuple[float, ...]) -> list[str]:
    """Names of the columns of `member_statistics`."""
    shares = [f"members >= {edge:g}" for edge in edges]
    return [*shares, "members root mean", "members mean log", "members spread of log", "members largest log"]


def member_statistics(members: NDArray[np.float32], edges: tuple[float, ...]) -> NDArray[np.float32]:
    """(N, B + 3) float32 from members (N, M) in mm/h.

    The share of members at or above each edge; the cube root of their mean, which is nearer to a normal variable than
    rain is; mean, standard deviation and largest of the logarithms, of rates of 0.01 mm/h at least.
    """
    shares = np.stack([(members >= np.float32(edge)).mean(axis=1) for edge in edges], axis=1)
    logs = np.log(np.maximum(members, np.float32(_SMALLEST_RATE)).astype(np.float64))
    rest = [np.cbrt(members.mean(axis=1, dtype=np.float64)), logs.mean(axis=1), logs.std(axis=1), logs.max(axis=1)]
    return np.column_stack([shares, *rest]).astype(np.float32)


def centre_and_scale(table: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each predictor (P,), of a table (N, P).

    A predictor that is constant but for rounding says nothing, and dividing by its spread would make it shout: its
    scale is infinite.
    """
    centre, scale = table.mean(axis=0, dtype=np.float64), table.std(axis=0, dtype=np.float64)
    return centre, np.where(scale > _CONSTANT * np.maximum(np.abs(centre), 1.0), scale, np.inf)


def standardised(
    table: NDArray[np.float32], centre: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(N, P) float32 predictors less their centre, over their scale."""
    return ((table - centre.astype(np.float32)) / scale.astype(np.float32)).astype(np.float32)
