"""Dates of a file's times, freed of what their storing bent, and the intervals that its time bounds state."""

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import SourceError

if TYPE_CHECKING:
    import xarray as xr

SECONDS: Final = {"seconds": 1, "second": 1, "s": 1, "minutes": 60, "minute": 60, "hours": 3600, "hour": 3600,
                  "h": 3600, "days": 86400, "day": 86400}  # fmt: skip
"""Units of time that files use."""

_MINUTES: Final = (60, 30, 15, 10, 5, 1)
_MINUTE: Final = 60_000_000
_SECOND: Final = 1_000_000
_GREGORIAN: Final = (1901, 2099)


def dates(coordinate: "xr.DataArray", where: str) -> NDArray[np.datetime64]:
    """Dates of a time coordinate as datetime64[us], in its shape.

    Times stored as floating-point numbers miss the minute by as much as those are rounded: they are brought to the
    whole hours, or parts of an hour, that all of them are within rounding of. Dates of a Julian calendar that counts
    from 1901 or later are taken as they are written: until 2099 it has the Gregorian's leap years.

    Raises:
        SourceError: no dates of the Gregorian calendar, or numbers too coarse to tell hours apart.
    """
    named = f"{where}: {coordinate.name}"
    if not np.issubdtype(coordinate.dtype, np.datetime64):
        julian = _julian(coordinate)
        if julian is None:
            raise SourceError(
                f"{named} is of type {coordinate.dtype}; expected dates of the Gregorian calendar, with units such as "
                "'hours since 1900-01-01'"
            )
        return julian
    time = coordinate.values.astype("datetime64[us]")
    if np.isnat(time).any():
        raise SourceError(f"{named} has {int(np.isnat(time).sum())} missing times")
    rounding = _rounding(coordinate, time)
    if not rounding:
        return time
    since = time.astype(np.int64)
    for minutes in _MINUTES:
        whole = minutes * _MINUTE
        nearest = (since + whole // 2) // whole * whole
        if 2 * rounding < whole and (np.abs(since - nearest) <= rounding).all():
            return nearest.astype("datetime64[us]")
    if 2 * rounding >= _MINUTES[0] * _MINUTE:
        raise SourceError(
            f"{named} is stored as {coordinate.encoding['dtype']} in {coordinate.encoding['units']!r}, which tells "
            f"times apart by {rounding / _MINUTE:.0f} minutes only; store it in whole hours, or as float64"
        )
    return time


def bounds_of(dataset: "xr.Dataset", clock: str) -> tuple[NDArray[np.datetime64], NDArray[np.datetime64]] | None:
    """Start and end of the interval of each time, by the bounds that the file has for it (CF), else None."""
    name = dataset[clock].attrs.get("bounds", dataset[clock].encoding.get("bounds"))
    if name not in dataset.variables or dataset[clock].ndim != 1:
        return None
    bounds = dataset[name]
    if bounds.shape != (dataset.sizes[clock], 2):
        return None
    try:
        both = dates(bounds, clock)
    except SourceError:
        return None
    return both[:, 0], both[:, 1]


def _julian(coordinate: "xr.DataArray") -> NDArray[np.datetime64] | None:
    import xarray as xr

    written = coordinate.encoding
    epoch = re.search(r"since\s+(\d+)", str(written.get("units")))
    if written.get("calendar") != "julian" or epoch is None:
        return None
    index = xr.CFTimeIndex(coordinate.values.reshape(-1))  # type: ignore[no-untyped-call]
    time = index.to_datetimeindex(unsafe=True, time_unit="us").to_numpy()
    years = [int(epoch[1]), *(time.astype("datetime64[Y]").astype(int) + 1970)]
    if min(years) < _GREGORIAN[0] or max(years) > _GREGORIAN[1]:
        return None
    found: NDArray[np.datetime64] = time.astype("datetime64[us]").reshape(coordinate.shape)
    return found


def _rounding(coordinate: "xr.DataArray", time: NDArray[Any]) -> int:
    """Microseconds by which stored times may be off; 0 where they are whole minutes or not stored as floats."""
    written = coordinate.encoding
    match = re.match(r"\s*(\w+)\s+since\s+(\d+)-(\d+)-(\d+)", str(written.get("units")))
    stored = np.dtype(written.get("dtype", "int64"))
    if match is None or match[1].casefold() not in SECONDS or stored.kind != "f" or not time.size:
        return 0
    if (time.astype(np.int64) % _MINUTE == 0).all():
        return 0
    seconds = SECONDS[match[1].casefold()]
    epoch = np.datetime64(f"{int(match[2]):04d}-{int(match[3]):02d}-{int(match[4]):02d}", "us")
    largest = np.abs((time - epoch).astype(np.int64)).max() / _SECOND / seconds
    return max(int(np.spacing(stored.type(largest)) * seconds * _SECOND), _SECOND)
