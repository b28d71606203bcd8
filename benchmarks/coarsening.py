"""How fast a month of fine rain becomes fractions of boxes, beside the time of reading its file, and in what memory.

    python -m benchmarks.coarsening                         hourly 1 km rain of 30 days, 1000 x 1000 x 720, NetCDF
    python -m benchmarks.coarsening --format zarr --grid projected
    python -m benchmarks.coarsening --pixels 500 --hours 240 --compression 0

The rain is invented: showers on a few per cent of pixels, as on radar composites. The file is written below the folder
given by --folder, and read by the reader that a deployment uses, to boxes of about 20 km. Prints the seconds of reading
the file through xarray in the same blocks, of the whole reader and each of its two threads, which work at the same time
where there are two cores to spare, and the peak memory of the process. Both readings find
the file in the memory of the operating system, if it fits; from a disk, reading takes longer and coarsening does not.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from views_dagster.calendar import month_id_of
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.file_variables import FileVariable
from views_dagster.precipitation.rain_files import RainFiles
from views_dagster.precipitation.weather_files import opened

MONTH = month_id_of(2020, 6)
SOUTH, WEST = 50.0, -6.0
ROW, COLUMN = 0.009, 0.0145  # degrees of about 1 km
DAY = 24
Result = TypeVar("Result")


def write(path: Path, pixels: int, hours: int, grid: str, kind: str, compression: int) -> None:
    """A file of rain, a day at a time, as float32 in mm/h."""
    import netCDF4
    import zarr

    generator = np.random.default_rng(0)
    north, east = SOUTH + ROW * np.arange(pixels), WEST + COLUMN * np.arange(pixels)
    if grid == "projected":
        # Turned a little, so that neither latitude nor longitude is constant along a side.
        east, north = np.meshgrid(east, north)
        north, east = north + 0.05 * (east - WEST), east - 0.05 * (north - SOUTH)
    sides = ("latitude", "longitude") if grid == "lattice" else ("y", "x")
    dimensions = sides if grid == "projected" else None
    chunks = (min(DAY, hours), min(250, pixels), min(250, pixels))
    showers = (generator.random((DAY, pixels, pixels), dtype=np.float32) - 0.9) * 10
    steady = np.kron(generator.gamma(0.3, 1.0, (DAY, pixels // 50, pixels // 50)), np.ones((50, 50))) - 0.5
    sample = np.round(np.clip(showers + steady[:, :pixels, :pixels], 0, None).astype(np.float32), 2)
    times = np.arange(1, hours + 1)
    coordinates = {
        "latitude": (dimensions or ("latitude",), north, {"units": "degrees_north"}),
        "longitude": (dimensions or ("longitude",), east, {"units": "degrees_east"}),
        "time": (("time",), times, {"units": "hours since 2020-06-01"}),
    }
    frame = xr.Dataset(coords=coordinates)
    if kind == "zarr":
        frame.to_zarr(path, mode="w", consolidated=False)
        group = zarr.open_group(path, mode="r+")
        store = group.create_array(
            "rain", shape=(hours, pixels, pixels), chunks=chunks, dtype="float32", dimension_names=("time", *sides),
            compressors="auto" if compression else None,
            attributes={"units": "mm h-1", "coordinates": "latitude longitude"},
        )  # fmt: skip
        for start in range(0, hours, DAY):
            store[start : start + DAY] = np.roll(sample, start * 7, axis=1)[: hours - start]
        return
    frame.to_netcdf(path, engine="netcdf4")
    with netCDF4.Dataset(path, "a") as file:
        packed: dict[str, Any] = {"zlib": True, "complevel": compression} if compression else {}
        rain = file.createVariable("rain", "f4", ("time", *sides), chunksizes=chunks, fill_value=float("nan"), **packed)
        rain.setncatts({"units": "mm h-1"} | ({"coordinates": "latitude longitude"} if grid == "projected" else {}))
        for start in range(0, hours, DAY):
            rain[start : start + DAY] = np.roll(sample, start * 7, axis=1)[: hours - start]


def read_plainly(path: Path, at_once: int) -> None:
    """Read all values through xarray, some records at once, and do nothing with them."""
    with opened(FileVariable(files=str(path), variable="rain"), range(MONTH, MONTH + 1)) as domains:
        field = domains[0][0]
        count = len(field.valid_time)
        for start in range(0, count, at_once):
            field.values(np.arange(start, min(start + at_once, count)), slice(None), slice(None))


def timed(run: Callable[[], Result]) -> tuple[Result, float, float, float]:
    """What a call returns, its wall seconds, and CPU seconds of this thread and of others."""
    began, busy, mine = time.perf_counter(), time.process_time(), time.thread_time()
    result = run()
    busy, mine = time.process_time() - busy, time.thread_time() - mine
    return result, time.perf_counter() - began, mine, busy - mine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=1000, help="along each side")
    parser.add_argument("--hours", type=int, default=720)
    parser.add_argument("--grid", choices=("lattice", "projected"), default="lattice")
    parser.add_argument("--format", choices=("netcdf", "zarr"), default="netcdf")
    parser.add_argument("--compression", type=int, default=1, help="0 (none) to 9")
    parser.add_argument("--folder", type=Path, help="where to write the file; a temporary folder by default")
    chosen = parser.parse_args()
    boxes = max(2, chosen.pixels // 20 - 2)
    grid = BoxGrid(latitude=SOUTH + 0.2, longitude=WEST + 0.4, step=(0.18, 0.29), rows=boxes, columns=boxes)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        path = Path(folder) / ("rain.zarr" if chosen.format == "zarr" else "rain.nc")
        began = time.perf_counter()
        write(path, chosen.pixels, chosen.hours, chosen.grid, chosen.format, chosen.compression)
        size = sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
        print(f"wrote {size / 1e9:.2f} GB ({chosen.grid}, {chosen.format}) in {time.perf_counter() - began:.1f} s")
        _, wall, *busy = timed(lambda: read_plainly(path, DAY * 2))
        print(f"plain reading {wall:.1f} s wall, {sum(busy):.1f} s CPU")
        before = peak_gigabytes()
        reader = RainFiles(grid=grid, rain=FileVariable(files=str(path), variable="rain"), interval=1.0)
        read, wall, coarsening, reading = timed(lambda: reader.read(MONTH, MONTH))
    values = chosen.pixels**2 * chosen.hours
    print(f"{values / 1e6:.0f} million pixels to {read.frame.height:,} rows of boxes; {dict(read.repairs)}")
    print(
        f"the reader {wall:.1f} s wall; CPU: {reading:.1f} s of the thread that reads and checks, "
        f"{coarsening:.1f} s of the one that coarsens meanwhile"
    )
    print(f"peak memory {peak_gigabytes():.2f} GiB ({before:.2f} before the reader, for writing and reading plainly)")


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
