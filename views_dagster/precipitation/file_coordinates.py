"""What the dimensions of a variable in a file are: times, levels or members, latitudes and longitudes."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import SourceError
from views_dagster.precipitation.file_clocks import SECONDS, dates

if TYPE_CHECKING:
    import xarray as xr

_LATITUDE: Final = ("latitude", "lat", "nav_lat", "xlat")
_LONGITUDE: Final = ("longitude", "lon", "nav_lon", "xlong")
_TIME: Final = ("time", "valid_time", "forecast_reference_time", "initial_time", "init_time", "t")
_STEP: Final = ("step", "lead_time", "leadtime", "forecast_period", "prediction_timedelta")


@dataclass(frozen=True)
class Axes:
    """Names of a variable's dimensions.

    Attributes:
        times: none, one, or two: starts of forecasts and steps.
        sizes: how long those are.
        extra: levels or members, if kept.
        y, x: of the grid.
        dropped: dimensions of length 1 that mean nothing here.
    """

    times: tuple[str, ...]
    sizes: tuple[int, ...]
    extra: str | None
    y: str
    x: str
    dropped: tuple[str, ...]

    @property
    def records(self) -> int:
        """How many fields there are."""
        return int(np.prod(self.sizes, dtype=int))

    def pieces(self, records: NDArray[np.intp]) -> list[Mapping[Hashable, slice]]:
        """Slices of the time dimensions that hold these ascending records in this order, as few as possible."""
        if not self.times:
            return [{}]
        length = self.sizes[-1]
        outer, inner = np.divmod(np.asarray(records), length)
        breaks = np.flatnonzero((np.diff(records) != 1) | (np.diff(outer) != 0)) + 1
        pieces: list[Mapping[Hashable, slice]] = []
        for part in np.split(np.arange(len(records)), breaks):
            piece: dict[Hashable, slice] = {self.times[-1]: slice(int(inner[part[0]]), int(inner[part[-1]]) + 1)}
            if len(self.times) == 2:
                piece[self.times[0]] = slice(int(outer[part[0]]), int(outer[part[0]]) + 1)
            pieces.append(piece)
        return pieces


def with_coordinates(dataset: "xr.Dataset", names: Mapping[str, str]) -> "xr.Dataset":
    """The dataset with latitudes and longitudes as coordinates where the file did not declare them to be."""
    known = (*_LATITUDE, *_LONGITUDE, *names.values())
    undeclared = [
        name
        for name in dataset.data_vars
        if str(name).casefold() in known
        or name in known
        or dataset[name].attrs.get("standard_name") in ("latitude", "longitude")
    ]
    return dataset.set_coords(undeclared)


def axes_of(
    array: "xr.DataArray", names: Mapping[str, str], extra: str | None, where: str
) -> tuple[Axes, NDArray[np.float64], NDArray[np.float64]]:
    """The dimensions of a variable, and its latitudes and longitudes.

    Args:
        names: the file's names of `time`, `step`, `latitude`, `longitude`, where it is told them.
        extra: a further dimension to keep; if the variable has it only as a scalar coordinate, it has none.
        where: the file and variable, for messages.

    Raises:
        SourceError: no latitudes or longitudes, points without a grid, or a dimension nobody asked for.
    """
    north = _coordinate(array, names.get("latitude"), "latitude", _LATITUDE, "degrees_north", where)
    east = _coordinate(array, names.get("longitude"), "longitude", _LONGITUDE, "degrees_east", where)
    if north.ndim == east.ndim == 1 and north.dims != east.dims:
        y, x = str(north.dims[0]), str(east.dims[0])
    elif north.ndim == 2 and set(north.dims) == set(east.dims):
        y, x = (str(name) for name in array.dims if name in north.dims)
        north, east = north.transpose(y, x), east.transpose(y, x)
    else:
        raise SourceError(
            f"{where}: latitudes {north.dims} and longitudes {east.dims} are neither the sides of a grid nor given for "
            f"each of its points; bring the file to a regular grid first"
        )
    times = tuple(name for name in map(str, array.dims) if name not in (y, x, extra) and _is_time(array, name, names))
    others = [str(name) for name in array.dims if name not in (y, x, extra, *times)]
    if wide := [name for name in others if array.sizes[name] > 1]:
        raise SourceError(
            f"{where}: dimension {wide[0]} has length {array.sizes[wide[0]]}; pick one with "
            f"`select: {{{wide[0]}: ...}}`"
            + (f", or, if that is the dimension called {extra} in the YAML, correct its name" if extra else "")
        )
    if len(times) == 2 and _is_step(array, times[0], names):
        times = (times[1], times[0])
    if len(times) > 2:
        raise SourceError(f"{where} has the time dimensions {', '.join(times)}; expected a time, or a time and a step")
    axes = Axes(
        times=times,
        sizes=tuple(array.sizes[name] for name in times),
        extra=extra if extra in array.dims else None,
        y=y,
        x=x,
        dropped=tuple(others),
    )
    return axes, np.asarray(north.values, dtype=np.float64), np.asarray(east.values, dtype=np.float64)


def record_times(
    array: "xr.DataArray", axes: Axes, names: Mapping[str, str], where: str
) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]]:
    """Valid time and start of forecast of each record, (n,) datetime64[us], NaT where there is none.

    A record's valid time is its time, plus its step where it has one.

    Raises:
        SourceError: times that are missing, not on the Gregorian calendar, or not sorted out by CF attributes.
    """
    none = np.full(axes.records, np.datetime64("NaT"), "datetime64[us]")
    clock = _found(array, axes, names.get("time"), _TIME)
    step = _found(array, axes, names.get("step"), _STEP)
    if clock is None:
        if axes.times:
            raise SourceError(f"{where}: no times for dimension {axes.times[0]}; name them with `names: {{time: ...}}`")
        return none, none
    time = _spread(array[clock], axes, partial(dates, where=where))
    if step is None:
        return time, none
    lead = _spread(array[step], axes)
    if not np.issubdtype(lead.dtype, np.timedelta64):
        units = str(array[step].attrs.get("units", ""))
        if units not in SECONDS:
            raise SourceError(f"{where}: {step} has units {units!r}; expected one of {', '.join(SECONDS)}")
        lead = np.round(lead * SECONDS[units] * 1e6).astype("timedelta64[us]")
    if clock == "valid_time":
        return time, time - lead.astype("timedelta64[us]")
    return time + lead.astype("timedelta64[us]"), time


def _spread(
    coordinate: "xr.DataArray", axes: Axes, read: "Callable[[xr.DataArray], NDArray[Any]]" = lambda held: held.values
) -> NDArray[Any]:
    """(n,) the coordinate's value for each record."""
    held = tuple(str(name) for name in coordinate.dims)
    shape = tuple(size if name in held else 1 for name, size in zip(axes.times, axes.sizes, strict=True))
    values = read(coordinate.transpose(*(name for name in axes.times if name in held)))
    return np.broadcast_to(np.reshape(values, shape), axes.sizes).reshape(-1).copy()


def _found(array: "xr.DataArray", axes: Axes, told: str | None, usual: tuple[str, ...]) -> str | None:
    """The coordinate of that kind that lies along the time dimensions or is a scalar; dimensions' own names first."""
    names = [told] if told else [*(name for name in axes.times if name.casefold() in usual), *usual]
    if not told:
        names += [str(name) for name in array.coords if array[name].attrs.get("standard_name") in usual]
    return next(
        (name for name in names if name in array.coords and set(map(str, array[name].dims)) <= set(axes.times)), None
    )


def _is_step(array: "xr.DataArray", name: str, names: Mapping[str, str]) -> bool:
    return name == names.get("step") or name.casefold() in _STEP


def _is_time(array: "xr.DataArray", name: str, names: Mapping[str, str]) -> bool:
    if name in (names.get("time"), names.get("step")) or name.casefold() in (*_TIME, *_STEP):
        return True
    return name in array.coords and np.issubdtype(array[name].dtype, np.datetime64)


def _coordinate(
    array: "xr.DataArray", told: str | None, standard: str, usual: tuple[str, ...], units: str, where: str
) -> "xr.DataArray":
    candidates = [told] if told else []
    if not told:
        attributes = {str(name): array[name].attrs for name in array.coords}
        candidates = [name for name in attributes if attributes[name].get("standard_name") == standard]
        candidates += [name for name in attributes if name.casefold() in usual]
        candidates += [name for name in attributes if attributes[name].get("units") == units]
    # A lone latitude or longitude is a point, not the side of a grid.
    found = next((name for name in candidates if name in array.coords and array[name].ndim), None)
    if found is None:
        raise SourceError(
            f"{where} has no {standard}s along its dimensions ({', '.join(map(str, array.dims))}); name them with "
            f"`names: {{{standard}: ...}}`"
        )
    coordinate = array[found]
    if not np.isfinite(np.asarray(coordinate.values, dtype=np.float64)).any():
        raise SourceError(f"{where}: {found} has no numbers")
    return coordinate
