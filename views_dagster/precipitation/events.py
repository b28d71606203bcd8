"""Events: stretches of time of a region that belong together, so that a storm is never on two sides of a split.

An event depends on rows up to its own time alone. A month that is appended can therefore only add events or lengthen
the newest one; the events of earlier months, and their names, stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from views_dagster.errors import PanelError
from views_dagster.precipitation.columns import Columns

WET_RATE: Final = 0.1
"""Box mean rain in mm/h from which a box is wet, as NWP verification counts it."""
DRY_HOURS: Final = 6.0
_HOUR: Final = 3600
_DECIMALS: Final = 4  # of a degree, which float32 holds: a centre written on a border is on it


class Storms(BaseModel):
    """Storms, and the dry stretches between them.

    A storm begins when at least `wet_share` of the observed boxes are wet, and ends after `dry_hours` of fewer. Over a
    large area it may rain somewhere for months: a storm that lasts longer than `storm_block_hours` is cut.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["storms"] = "storms"
    wet_share: float = Field(
        default=0.05, gt=0, le=1, description=f"Share of boxes with at least {WET_RATE} mm/h that makes a time wet."
    )
    dry_hours: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Hours without a wet time, or without data, that end a storm; 6, or the time from one valid time "
        "to the next where that is longer.",
    )
    storm_block_hours: float = Field(
        default=240.0, gt=0, allow_inf_nan=False, description="Storms are cut into events of this many hours."
    )
    dry_block_hours: float = Field(
        default=72.0, gt=0, allow_inf_nan=False, description="Dry stretches are cut into events of this many hours."
    )


class Blocks(BaseModel):
    """Consecutive blocks of time, whatever the weather; they are counted from 1970-01-01."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["blocks"]
    hours: float = Field(gt=0, allow_inf_nan=False, description="Length of a block, hours.")


EventSettings = Annotated[Storms | Blocks, Field(discriminator="kind")]


class Region(BaseModel):
    """Boxes whose centres lie in `west <= longitude < east` and `south <= latitude < north`, in degrees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    west: float = Field(ge=-180, le=360, description="Western border, degrees east.")
    east: float = Field(ge=-180, le=360, description="Eastern border, degrees east; may lie beyond the date line.")
    south: float = Field(ge=-90, le=90, description="Southern border, degrees north.")
    north: float = Field(ge=-90, le=90, description="Northern border, degrees north.")

    @model_validator(mode="after")
    def _has_area(self) -> "Region":
        if self.south >= self.north or self.west == self.east:
            raise ValueError("a region's north lies above its south, and its east differs from its west")
        return self

    @property
    def width(self) -> float:
        """Degrees from west to east."""
        return (self.east - self.west) % 360 or 360.0

    def holds(self, latitude: NDArray[np.floating], longitude: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each point lies in the region; longitudes may run from -180 or from 0."""
        along, up = self._along(longitude), latitude.astype(np.float64).round(_DECIMALS)
        inside: NDArray[np.bool_] = (along < self.width) & (up >= self.south) & (up < self.north)
        return inside

    def distance(self, latitude: NDArray[np.floating], longitude: NDArray[np.floating]) -> NDArray[np.float64]:
        """Degrees from each point to the region, the larger of those along and across; 0 inside."""
        along = self._along(longitude)
        beyond = np.where(along <= self.width, 0.0, np.minimum(along - self.width, 360 - along))
        up = latitude.astype(np.float64)
        across = np.maximum(np.maximum(self.south - up, up - self.north), 0.0)
        return np.maximum(beyond, across)

    def _along(self, longitude: NDArray[np.floating]) -> NDArray[np.float64]:
        """Degrees eastward from the western border, 0..360."""
        along: NDArray[np.float64] = (longitude.astype(np.float64) - self.west).round(_DECIMALS) % 360
        return along


EVERYWHERE: Final = Region(west=-180, east=180, south=-90, north=90)


@dataclass(frozen=True)
class Events:
    """E events of N rows, region by region and by time within.

    Attributes:
        of_row: (N,) the event of each row, -1 for rows in no region.
        region: (E,) position of each event's region among `regions`.
        start, end: (E,) datetime64[s], its first and last valid time.
        wet: (E,) whether it is a storm; always False for blocks.
        regions: names of the regions; one empty name where there are none.
    """

    of_row: NDArray[np.intp]
    region: NDArray[np.intp]
    start: NDArray[np.datetime64]
    end: NDArray[np.datetime64]
    wet: NDArray[np.bool_]
    regions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Its region and first valid time, which identify an event for good."""
        times = np.datetime_as_string(self.start, unit="m")
        return tuple(f"{self.regions[at]} {time}".strip() for at, time in zip(self.region, times, strict=True))

    @cached_property
    def region_of_row(self) -> NDArray[np.intp]:
        """(N,) position of each row's region, -1 for rows in none."""
        return np.where(self.of_row < 0, -1, self.region[self.of_row])


def find_events(columns: Columns, settings: Storms | Blocks, regions: Mapping[str, Region] | None = None) -> Events:
    """The events of all rows; each region, or the whole lattice without regions, has its own.

    Raises:
        PanelError: no rows, no row in a region, or valid times further apart than `dry_hours`.
    """
    if not len(columns):
        raise PanelError("there are no columns in which events could be found")
    seconds = columns.valid_time.astype("datetime64[s]").astype(np.int64)
    of_row = np.full(len(columns), -1, dtype=np.intp)
    starts, ends, wets = [], [], []
    sizes: list[int] = []
    for name, region in (regions or {"": EVERYWHERE}).items():
        # Poles and all: without regions every row counts.
        inside = region.holds(columns.latitude, columns.longitude) if regions else np.ones(len(columns), dtype=bool)
        if not inside.any():
            raise PanelError(f"no column lies in the region {name}; give its borders in degrees east and north")
        times, place = np.unique(seconds[inside], return_inverse=True)
        if isinstance(settings, Storms):
            event, wet = _storms(times, place, columns.rain_mean[inside], settings)
        else:
            event, wet = _blocks(times, settings)
        of_row[inside] = event[place] + sum(sizes)
        first = np.flatnonzero(np.diff(event, prepend=-1))
        sizes.append(len(first))
        starts.append(times[first])
        ends.append(times[np.append(first[1:], len(times)) - 1])
        wets.append(wet[first])
    return Events(
        of_row=of_row,
        region=np.repeat(np.arange(len(sizes)), sizes),
        start=np.concatenate(starts).astype("datetime64[s]"),
        end=np.concatenate(ends).astype("datetime64[s]"),
        wet=np.concatenate(wets),
        regions=tuple(regions or ("",)),
    )


def _storms(
    times: NDArray[np.int64], place: NDArray[np.intp], rain: NDArray[np.float32], settings: Storms
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Event number and whether it is a storm, for each time."""
    steps = np.diff(times)
    between = int(steps.min()) if len(steps) else 0
    dry = max(DRY_HOURS * _HOUR, between) if settings.dry_hours is None else settings.dry_hours * _HOUR
    if between > dry:
        raise PanelError(
            f"valid times are {between / _HOUR:g} hours apart, and a storm ends after {settings.dry_hours:g} dry "
            f"hours: every time would be an event of its own; set dry_hours to {between / _HOUR:g} or more"
        )
    observed = np.bincount(place, weights=np.isfinite(rain), minlength=len(times))
    wet_boxes = np.bincount(place, weights=rain >= WET_RATE, minlength=len(times))
    is_wet = (observed > 0) & (wet_boxes >= settings.wet_share * observed)
    long_ago = np.iinfo(np.int64).min // 2
    last_wet = np.maximum.accumulate(np.where(is_wet, times, long_ago))
    storm = times - last_wet < dry
    begins = np.diff(storm, prepend=~storm[:1]) | np.append(True, steps > dry)
    since = times - np.maximum.accumulate(np.where(begins, times, long_ago))
    length = np.where(storm, settings.storm_block_hours, settings.dry_block_hours) * _HOUR
    begins |= np.append(True, np.diff(since // np.maximum(length, 1)) != 0)
    return np.cumsum(begins) - 1, storm


def _blocks(times: NDArray[np.int64], settings: Blocks) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    # An interval that ends where a block does belongs to the block it fell in.
    block = (times - 1) // max(int(settings.hours * _HOUR), 1)
    return np.cumsum(np.diff(block, prepend=block[:1] - 1) != 0) - 1, np.zeros(len(times), dtype=bool)
