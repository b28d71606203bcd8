"""Levels of profiles in files: which there are, in which unit, and in which order."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from views_dagster.errors import SourceError
from views_dagster.precipitation.levels import LevelUnit, implausible
from views_dagster.precipitation.units import FIELDS, conversion
from views_dagster.precipitation.weather_files import WeatherField

_SAME = 1e-4


class LevelSettings(BaseModel):
    """The vertical coordinate of the profiles."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimension: str = Field(description="The files' dimension of levels: `level`, `isobaricInhPa`, `heightAboveGround`.")
    unit: LevelUnit = Field(description="`hPa` or `m`; levels that the files give in Pa or km are converted.")
    values: tuple[float, ...] | None = Field(
        default=None,
        min_length=2,
        description="Levels to take, in `unit`; by default all. Where the files number their levels only, these are "
        "their values in the files' order.",
    )

    @model_validator(mode="after")
    def _are_levels(self) -> Self:
        if self.values is not None:
            if len(set(self.values)) < len(self.values):
                raise ValueError("`values` repeats a level")
            if reason := implausible(np.array(self.values), self.unit):
                raise ValueError(reason)
        return self


def level_order(field: WeatherField, settings: LevelSettings) -> tuple[list[int], NDArray[np.float32]]:
    """Positions of the levels in the file in ascending height, and the levels.

    Raises:
        SourceError: the dimension, its unit or a level is not what the settings say.
    """
    where = f"{field.path}: variable {field.array.name}"
    if field.axes.extra is None:
        held = ", ".join(map(str, field.array.dims))
        raise SourceError(f"{where} has no dimension {settings.dimension}; it has {held}")
    if field.extra is None:
        count = field.array.sizes[field.axes.extra]
        if settings.values is None or len(settings.values) != count:
            raise SourceError(
                f"{where}: dimension {settings.dimension} has {count} levels without values; list them in `values`"
            )
        levels = np.array(settings.values, dtype=np.float64)
    else:
        levels = _in_unit(field, settings, where)
    if len(np.unique(levels)) < len(levels):
        raise SourceError(f"{where} repeats a level: {levels.tolist()}")
    if settings.values is None:
        positions = np.arange(len(levels))
    else:
        near = np.abs(levels - np.array(settings.values)[:, None]) <= _SAME * np.abs(settings.values)[:, None]
        if (absent := ~near.any(axis=1)).any():
            wanted = ", ".join(f"{value:g}" for value in np.array(settings.values)[absent])
            held = ", ".join(f"{level:g}" for level in levels)
            raise SourceError(f"{where} lacks the levels {wanted} {settings.unit}; it has {held}")
        positions = near.argmax(axis=1)
    height = -levels if settings.unit == "hPa" else levels
    positions = positions[np.argsort(height[positions])]
    return positions.tolist(), levels[positions].astype(np.float32)


def require_same_levels(
    field: WeatherField, found: NDArray[np.float32], expected: NDArray[np.float32], origin: str, unit: LevelUnit
) -> None:
    """SourceError where a file's levels are not those of the first file."""
    if len(found) == len(expected) and np.allclose(found, expected, rtol=_SAME):
        return
    absent = [f"{level:g}" for level in expected if not np.isclose(found, level, rtol=_SAME).any()]
    more = [f"{level:g}" for level in found if not np.isclose(expected, level, rtol=_SAME).any()]
    differ = [f"lacks {', '.join(absent)}"] * bool(absent) + [f"has {', '.join(more)} besides"] * bool(more)
    raise SourceError(
        f"{field.path}: levels of {field.array.name} ({unit}) are not those of {origin}: it {' and '.join(differ)}; "
        f"fetch the whole file, or take the common levels with `level: {{values: ...}}`"
    )


def _in_unit(field: WeatherField, settings: LevelSettings, where: str) -> NDArray[np.float64]:
    levels = np.asarray(field.extra, dtype=np.float64)
    if field.extra_units:
        found = conversion(field.extra_units, FIELDS, where=f"{where}: dimension {settings.dimension}")
        if found.unit != settings.unit:
            raise SourceError(
                f"{where}: dimension {settings.dimension} is in {field.extra_units}, and `level` says {settings.unit}"
            )
        levels = levels * found.factor + found.offset
    if reason := implausible(levels, settings.unit):
        raise SourceError(f"{where}: dimension {settings.dimension}: {reason}")
    return levels
