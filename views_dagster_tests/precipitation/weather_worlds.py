"""Small weather files as publishers write them: a reanalysis, and gridded daily rain on a finer grid."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml
from numpy.typing import NDArray

PRESSURES = (1000.0, 850.0, 500.0)
LATITUDES = np.arange(60, 44.9, -2.5)
LONGITUDES = np.arange(0, 360, 2.5)
SINCE_1900 = {"units": "hours since 1900-01-01 00:00:0.0", "calendar": "standard", "dtype": "float64"}
GRID = {"latitude": 47.5, "longitude": -5.0, "step": 2.5, "rows": 3, "columns": 5}


def six_hourly(first: str, last: str) -> NDArray[np.datetime64]:
    """Times at 00, 06, 12 and 18 UTC of the days first..last."""
    return np.arange(np.datetime64(first), np.datetime64(last) + 1, np.timedelta64(6, "h")).astype("datetime64[ns]")


def temperature(time: NDArray[np.datetime64], level: float, latitude: float, longitude: float) -> Any:
    """What a reanalysis says, K: its value can be worked out from where and when it is."""
    hours = (np.asarray(time, dtype="datetime64[h]") - np.datetime64("2001-01-01", "h")).astype(float)
    return 250 + level / 50 + latitude / 10 + np.mod(longitude, 360) / 100 + hours / 1000


def profiles(times: NDArray[np.datetime64], levels: tuple[float, ...] = PRESSURES) -> xr.Dataset:
    """Temperature on levels, all round the globe: longitudes 0..360, latitudes from north to south."""
    values = temperature(times[:, None, None, None], np.array(levels)[:, None, None], LATITUDES[:, None], LONGITUDES)
    return xr.Dataset(
        {"air": (("time", "level", "lat", "lon"), values, {"units": "degK"})},
        coords={
            "time": ("time", times, {"standard_name": "time"}),
            "level": ("level", np.array(levels, dtype=np.float32), {"units": "millibar", "positive": "down"}),
            "lat": ("lat", LATITUDES.astype(np.float32), {"units": "degrees_north"}),
            "lon": ("lon", LONGITUDES.astype(np.float32), {"units": "degrees_east"}),
        },
    )


def write_profiles(path: Path, data: xr.Dataset) -> None:
    """As packed 16-bit numbers."""
    packing = {"dtype": "int16", "scale_factor": 0.001, "add_offset": 280.0, "_FillValue": np.int16(-32767)}
    data.to_netcdf(path, encoding={"air": packing, "time": SINCE_1900})


def surface(times: NDArray[np.datetime64]) -> xr.Dataset:
    """Pressure at the surface, Pa, with the time and level names of a newer publisher."""
    values = np.broadcast_to(100_000 + LATITUDES[:, None] + LONGITUDES, (len(times), len(LATITUDES), len(LONGITUDES)))
    return xr.Dataset(
        {"sp": (("valid_time", "latitude", "longitude"), values.astype(np.float32), {"units": "Pa"})},
        coords={
            "valid_time": ("valid_time", times),
            "latitude": ("latitude", LATITUDES, {"standard_name": "latitude", "units": "degrees_north"}),
            "longitude": ("longitude", LONGITUDES, {"standard_name": "longitude", "units": "degrees_east"}),
            "number": 0,
            "expver": ("valid_time", np.array(["0001"] * len(times))),
        },
    )


def heights() -> xr.Dataset:
    """Geopotential at the surface, m2 s-2, with a time dimension of one."""
    values = np.broadcast_to(9.80665 * LATITUDES[:, None], (1, len(LATITUDES), len(LONGITUDES)))
    data = surface(six_hourly("2001-01-01", "2001-01-01")[:1]).drop_vars(("sp", "expver"))
    return data.assign(z=(("valid_time", "latitude", "longitude"), values, {"units": "m**2 s**-2"}))


def daily_rain(first: str, last: str, step: float = 0.5) -> xr.Dataset:
    """Rain of days, mm/day, stamped with their start, on a grid 0..360 from south to north.

    On the n-th day of the year it rains 24 * n mm/day east of Greenwich and nothing west of it.
    """
    days = np.arange(np.datetime64(first), np.datetime64(last) + 1).astype("datetime64[ns]")
    latitude, longitude = np.arange(40 + step / 2, 65, step), np.arange(step / 2, 360, step)
    number = (days.astype("datetime64[D]") - days.astype("datetime64[Y]")).astype(int) + 1
    east = longitude < 180
    values = np.broadcast_to(24.0 * number[:, None, None] * east, (len(days), len(latitude), len(longitude)))
    return xr.Dataset(
        {"precip": (("time", "lat", "lon"), values.astype(np.float32), {"units": "mm/day"})},
        coords={
            "time": ("time", days),
            "lat": ("lat", latitude, {"units": "degrees_north"}),
            "lon": ("lon", longitude, {"units": "degrees_east"}),
        },
    )


def settings(text: str, folder: Path) -> dict[str, Any]:
    """YAML of one reader, with FOLDER for the folder of the files and the lattice filled in."""
    loaded: dict[str, Any] = yaml.safe_load(text.replace("FOLDER", str(folder)))
    return {"grid": GRID} | loaded
