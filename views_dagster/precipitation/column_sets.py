"""What a column set is: which fields of a source of columns models learn from, on which levels, beside which rain.

Nothing here touches data: what cannot be meant fails when definitions load. `column_rows` computes column sets.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator

from views_dagster.errors import QuerysetError
from views_dagster.names import nearest
from views_dagster.precipitation.bands import EDGES
from views_dagster.precipitation.levels import LevelUnit, implausible

KEYS: Final = ("month_id", "valid_time", "box_id")
PLACE: Final = ("latitude", "longitude")
LEVELS: Final = "levels"
RAIN: Final = ("fractions", "rain_mean", "rain_max", "missing")
MEMBERS: Final = "members"
RESERVED: Final = frozenset({*KEYS, *PLACE, LEVELS, *RAIN, MEMBERS})

FieldName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


def _by_own_name(value: object) -> object:
    if not isinstance(value, list | tuple):
        return value
    twice = sorted({str(name) for name in value if value.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is named twice")
    return {name: name for name in value}


Fields = Annotated[
    dict[FieldName, str],
    # The schema must allow the list too: `dg check yaml` looks at nothing else.
    BeforeValidator(_by_own_name, json_schema_input_type=dict[FieldName, str] | list[FieldName]),
]
"""`{name here: name in the source}`, or a list of names that stay as they are."""


class Levels(BaseModel):
    """The levels that all rows are brought to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: LevelUnit = Field(description="Unit of the levels: `hPa` (pressure) or `m` (height).")
    values: tuple[float, ...] | None = Field(
        default=None,
        min_length=1,
        description="The common levels. Without them levels stay as they are, and must be equal in all rows.",
    )
    from_: str | None = Field(
        default=None,
        alias="from",
        description="Profile of the source that gives the level of each value in `unit`, where the source's own levels "
        "are in the other one: its pressure on levels of height, or its height on levels of pressure.",
    )
    extrapolate: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="How far, in `unit`, a common level may lie outside a row's own levels and take the value of the "
        "nearest; rows that would need more are dropped and counted.",
    )

    @field_validator("values")
    @classmethod
    def _distinct(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if values is not None and len(set(values)) < len(values):
            raise ValueError("a level is given twice")
        return values

    @model_validator(mode="after")
    def _can_be_meant(self) -> "Levels":
        if self.values is not None:
            problem = implausible(np.array(self.values, dtype=np.float64), self.unit)
            if problem:
                raise ValueError(problem)
        elif self.from_ is not None:
            raise ValueError("levels taken from a profile differ between rows: give the values to bring them to")
        elif self.extrapolate:
            raise ValueError("extrapolate says nothing where levels stay as they are: give values, or leave it out")
        return self

    @property
    def ascending(self) -> tuple[float, ...] | None:
        """The common levels in ascending height."""
        return None if self.values is None else tuple(sorted(self.values, reverse=self.unit == "hPa"))


class WindFromDirection(BaseModel):
    """Wind that the source gives as speed and direction, turned into components before it is interpolated.

    Direction is the meteorological one: degrees clockwise from north from which the wind blows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    speed: str = Field(description="Field of the source with the speed.")
    direction: str = Field(description="Field of the source with the direction from which it blows, degrees.")
    keep_speed: bool = Field(default=False, description="Whether the speed is a variable too, beside the components.")

    @property
    def sources(self) -> tuple[str, str]:
        """Names of the two fields in the source."""
        return self.speed, self.direction


class WindComponents(BaseModel):
    """Wind that the source gives as components, kept as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    eastward: str = Field(description="Field of the source with the component towards the east.")
    northward: str = Field(description="Field of the source with the component towards the north.")
    keep_speed: bool = Field(default=False, description="Whether the speed is a variable too, beside the components.")

    @property
    def sources(self) -> tuple[str, str]:
        """Names of the two fields in the source."""
        return self.eastward, self.northward


Wind = WindFromDirection | WindComponents
WIND_NAMES: Final = ("eastward_wind", "northward_wind", "wind_speed")


def wind_names(wind: Wind | None, where: Literal["", "surface_"]) -> tuple[str, ...]:
    """Names of the variables that a wind gives."""
    if wind is None:
        return ()
    return tuple(where + name for name in (WIND_NAMES if wind.keep_speed else WIND_NAMES[:2]))


def member_mean_name(width: int) -> str:
    """Name of the variable of the members' mean over a square that many boxes wide."""
    return f"nwp_rain_{width}"


class ColumnSet(BaseModel):
    """A table of columns of air on common levels, each beside the rain that fell and what an NWP ensemble said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(default="", description="What the column set is for; shown with its asset.")
    columns: str = Field(description="Source of the columns.")
    rain: str = Field(description="Source of the rain on the same boxes.")
    members: str | None = Field(default=None, description="Source of the NWP members on the same boxes, if any.")
    levels: Levels = Field(description="The levels that profiles are brought to, or their unit alone.")
    profiles: Fields = Field(
        default_factory=dict,
        description="Profiles to keep: their names in the source, or a mapping from names here to names there. The "
        "source's own levels are a profile called `levels`.",
    )
    wind: Wind | None = Field(
        default=None,
        description="Profiles of wind, `{speed, direction}` or `{eastward, northward}`; they become `eastward_wind`, "
        "`northward_wind` and, with `keep_speed`, `wind_speed`.",
    )
    surface: Fields = Field(default_factory=dict, description="Single-level fields to keep, as in `profiles`.")
    surface_wind: Wind | None = Field(
        default=None, description="Wind on a single level, as in `wind`; its variables are named `surface_...`."
    )
    static: Fields = Field(
        default_factory=dict,
        description="Fields that never change, like orography, as in `profiles`; a box with two values is an error.",
    )
    member_means: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(),
        description="Widths in boxes, odd numbers. The rain of the NWP, the mean of its members over a square that "
        "wide around the box, becomes a single-level variable `nwp_rain_<width>` (cube root of mm/h): what falls in a "
        "box is often forecast for its neighbours.",
    )
    edges: tuple[float, ...] = Field(
        default=EDGES, min_length=1, description="Lower edges in mm/h of the bands of the rain source but the first."
    )

    @field_validator("edges")
    @classmethod
    def _edges_rise(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if not edges[0] > 0 or not all(low < high for low, high in pairwise(edges)) or not np.isfinite(edges[-1]):
            raise ValueError(f"edges {list(edges)} must be positive, finite and rise")
        return edges

    @field_validator("member_means")
    @classmethod
    def _have_a_middle(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if any(width % 2 == 0 for width in widths) or len(set(widths)) < len(widths):
            raise ValueError(f"{list(widths)}: give odd numbers of boxes, each once")
        return widths

    @model_validator(mode="after")
    def _members_are_there(self) -> "ColumnSet":
        if self.member_means and self.members is None:
            raise ValueError("member_means are of the rain of a source that `members` names; name one")
        return self

    @model_validator(mode="after")
    def _names_fit(self) -> "ColumnSet":
        if not self.profile_names:
            raise ValueError("there are no profiles: name some in profiles or wind")
        names = (*self.profile_names, *self.surface_names)
        taken = sorted({name for name in names if name in RESERVED or names.count(name) > 1})
        if taken:
            raise ValueError(f"{', '.join(taken)}: a variable may not be named like another or like a key of the table")
        return self

    @property
    def profile_names(self) -> tuple[str, ...]:
        """Names of the profile variables, in their order: those of `profiles`, then wind."""
        return (*self.profiles, *wind_names(self.wind, ""))

    @property
    def surface_names(self) -> tuple[str, ...]:
        """Names of the single-level variables, in their order: `surface`, its wind, `static`, then means of members."""
        own = (*self.surface, *wind_names(self.surface_wind, "surface_"), *self.static)
        return (*own, *map(member_mean_name, self.member_means))

    @property
    def source_profiles(self) -> tuple[str, ...]:
        """Profiles that are read from the source of columns, each once."""
        wind = self.wind.sources if self.wind else ()
        level = (self.levels.from_,) if self.levels.from_ else ()
        return tuple(dict.fromkeys(name for name in (*self.profiles.values(), *wind, *level) if name != LEVELS))

    @property
    def source_fields(self) -> tuple[str, ...]:
        """Single-level and static fields that are read from the source of columns, each once."""
        wind = self.surface_wind.sources if self.surface_wind else ()
        return tuple(dict.fromkeys((*self.surface.values(), *wind, *self.static.values())))

    @property
    def sources(self) -> frozenset[str]:
        """Names of all sources that computing the column set reads."""
        return frozenset({self.columns, self.rain, *([self.members] if self.members else [])})


def check(
    settings: ColumnSet, offered: Mapping[str, frozenset[str]], level_units: Mapping[str, LevelUnit] | None = None
) -> None:
    """Refuse a column set that names a source or field that does not exist, or takes levels to be in another unit.

    Args:
        offered: `{source: names of its fields}`.
        level_units: `{source of columns: unit of its levels}`, of those that know it.

    Raises:
        QuerysetError: one line for each problem, `place in the YAML: what is wrong`.
    """
    problems = [
        f"{place}: no source is called {name}{nearest(name, offered)}"
        for place, name in (("columns", settings.columns), ("rain", settings.rain), ("members", settings.members))
        if name is not None and name not in offered
    ]
    fields = offered.get(settings.columns)
    if fields is not None:
        problems += [
            f"{place}: {settings.columns} has no field {name}{nearest(name, fields)}"
            for place, name in _mentioned(settings)
            if name not in fields and name != LEVELS
        ]
    unit = (level_units or {}).get(settings.columns)
    if unit is not None and unit != settings.levels.unit and settings.levels.from_ is None:
        problems.append(
            f"levels.unit: levels of {settings.columns} are in {unit}; take that, or name in `from` the profile that "
            f"has the level of each value in {settings.levels.unit}"
        )
    if problems:
        raise QuerysetError("\n".join(problems))


def _mentioned(settings: ColumnSet) -> list[tuple[str, str]]:
    """Every field of the source of columns that the settings name, with where they do."""
    groups = {"profiles": settings.profiles, "surface": settings.surface, "static": settings.static}
    found = [(place, name) for place, group in groups.items() for name in group.values()]
    winds = {"wind": settings.wind, "surface_wind": settings.surface_wind}
    found += [(place, name) for place, wind in winds.items() if wind for name in wind.sources]
    if settings.levels.from_:
        found.append(("levels.from", settings.levels.from_))
    return found
