"""The lattice of grid boxes that rows are about, and the month a valid time belongs to."""

from typing import Annotated, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from views_dagster.calendar import first_day, month_id_of

Degrees = Annotated[float, Field(gt=0, le=90)]

_EPOCH: Final = month_id_of(1970, 1)
_INSTANT: Final = np.timedelta64(1, "us")
_ROUNDING: Final = 1e-9


class BoxGrid(BaseModel):
    """A regular latitude-longitude lattice of boxes, numbered from the south-west: `row * columns + column`.

    Boxes may cross any meridian; longitudes of the one box are the same whether written 0..360 or -180..180.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    latitude: float = Field(ge=-90, le=90, description="Latitude of the centre of the south-west box, degrees north.")
    longitude: float = Field(
        ge=-180, lt=360, description="Longitude of the centre of the south-west box, degrees east."
    )
    step: Degrees | tuple[Degrees, Degrees] = Field(
        description="Degrees from one centre to the next, or `[degrees of latitude, degrees of longitude]`."
    )
    rows: int = Field(ge=1, description="Boxes from south to north.")
    columns: int = Field(ge=1, description="Boxes from west to east.")

    @model_validator(mode="after")
    def _fits_the_globe(self) -> Self:
        south, north = self.latitude_edges[[0, -1]]
        # A box centred on a pole is cut off there by whoever needs areas.
        if self.latitudes[-1] > 90 + _ROUNDING:
            raise ValueError(f"{self.rows} rows reach from {south:g} to {north:g} degrees north")
        if self.columns * self.steps[1] > 360 + _ROUNDING:
            raise ValueError(f"{self.columns} columns of {self.steps[1]:g} degrees are more than 360 degrees")
        return self

    @property
    def steps(self) -> tuple[float, float]:
        """Degrees of latitude and of longitude from one centre to the next."""
        return self.step if isinstance(self.step, tuple) else (self.step, self.step)

    @property
    def count(self) -> int:
        """How many boxes there are."""
        return self.rows * self.columns

    @property
    def latitudes(self) -> NDArray[np.float64]:
        """(rows,) centres, from south to north."""
        return np.asarray(self.latitude + self.steps[0] * np.arange(self.rows), dtype=np.float64)

    @property
    def longitudes(self) -> NDArray[np.float64]:
        """(columns,) centres from west to east, within -180..180, so not ascending where the lattice crosses 180."""
        return wrapped(self.longitude + self.steps[1] * np.arange(self.columns))

    @property
    def latitude_edges(self) -> NDArray[np.float64]:
        """(rows + 1,) edges from south to north, at most 90 degrees from the equator."""
        return np.clip(self.latitude + self.steps[0] * (np.arange(self.rows + 1) - 0.5), -90, 90)

    @property
    def longitude_edges(self) -> NDArray[np.float64]:
        """(columns + 1,) edges from west to east, ascending: they may pass 180 or 360."""
        return np.asarray(self.longitude + self.steps[1] * (np.arange(self.columns + 1) - 0.5), dtype=np.float64)

    def rows_columns(self, box_id: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row (0 southernmost) and column (0 westernmost) of boxes; ValueError for an id that is not on the lattice."""
        ids = np.asarray(box_id, dtype=np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= self.count):
            raise ValueError(f"box ids are 0..{self.count - 1}, got {ids.min()}..{ids.max()}")
        row, column = np.divmod(ids, self.columns)
        return row, column

    def centres(self, box_id: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitude and longitude of the boxes' centres, longitudes within -180..180."""
        row, column = self.rows_columns(box_id)
        return self.latitudes[row], self.longitudes[column]

    def box_of(self, latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.int64]:
        """Box that holds each point, -1 where none does; a southern or western edge belongs to the box.

        Longitudes may be written 0..360 or -180..180; NaN lies in no box.
        """
        north = (np.asarray(latitude, dtype=np.float64) - self.latitude) / self.steps[0] + 0.5
        east = np.mod(np.asarray(longitude, dtype=np.float64) - self.longitude_edges[0], 360.0) / self.steps[1]
        # Decimal degrees are not binary ones: a point written on an edge lands within rounding of it.
        with np.errstate(invalid="ignore"):
            row, column = np.floor(north + _ROUNDING), np.floor(east + _ROUNDING)
            if round(self.columns * self.steps[1], 9) == 360:
                column = np.mod(column, self.columns)
            inside = (row >= 0) & (row < self.rows) & (column >= 0) & (column < self.columns)
        ids = np.where(inside, row * self.columns + column, -1)
        return ids.astype(np.int64)

    def areas(self) -> NDArray[np.float64]:
        """(rows,) area of a box of each row on a sphere of radius 1, steradian."""
        band = np.diff(np.sin(np.radians(self.latitude_edges)))
        return np.asarray(band * np.radians(self.steps[1]), dtype=np.float64)


def wrapped(longitude: ArrayLike) -> NDArray[np.float64]:
    """Longitudes within -180..180 (180 excluded)."""
    return np.asarray(np.mod(np.asarray(longitude, dtype=np.float64) + 180.0, 360.0) - 180.0, dtype=np.float64)


def month_of_times(valid_time: ArrayLike) -> NDArray[np.int32]:
    """Month id of each valid time: the month of the instant before it.

    A valid time ends the interval that its rain fell in, so 00:00 of the 1st belongs to the month before.
    """
    last_instant = np.asarray(valid_time, dtype="datetime64[us]") - _INSTANT
    return (last_instant.astype("datetime64[M]").astype(np.int64) + _EPOCH).astype(np.int32)


def span_of_months(first: int, last: int) -> tuple[np.datetime64, np.datetime64]:
    """(after, until): valid times of months `first..last` are those later than `after` and not later than `until`."""
    after, until = (np.datetime64(first_day(month_id), "us") for month_id in (first, last + 1))
    return after, until


def in_months(times: NDArray[np.datetime64], first: int, last: int) -> NDArray[np.bool_]:
    """Which valid times belong to months `first..last`."""
    after, until = span_of_months(first, last)
    inside: NDArray[np.bool_] = (times > after) & (times <= until)
    return inside


def times_of_months(first: int, last: int, hours: float) -> NDArray[np.datetime64]:
    """The valid times of months `first..last` when one comes every so many hours, counted from 00 UTC of 1970-01-01."""
    after, until = span_of_months(first, last)
    step = hours_long(hours)
    origin = np.datetime64(0, "us")
    begin = (after - origin) // step + 1
    end = (until - origin) // step
    return origin + np.arange(begin, end + 1) * step


def hours_long(hours: float) -> np.timedelta64:
    """So many hours as a numpy duration in microseconds."""
    return np.timedelta64(round(hours * 3_600_000_000), "us")
