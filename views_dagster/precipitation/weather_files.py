"""Weather variables in files: NetCDF, Zarr and GRIB opened lazily through xarray and brought to one form.

Nothing about a file is guessed: units come from its attributes or from the YAML, coordinates from CF attributes, common
names or the YAML, and what fits neither is a SourceError that names the file. Which files there are is in
`file_variables`; what rows are made of the values is for the readers.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from views_dagster.errors import SourceError
from views_dagster.precipitation.boxes import wrapped
from views_dagster.precipitation.file_clocks import bounds_of
from views_dagster.precipitation.file_coordinates import Axes, axes_of, record_times, with_coordinates
from views_dagster.precipitation.file_formats import held_by_grib, opened_file
from views_dagster.precipitation.file_variables import GRIB_KEYS, FileVariable, MovedFiles, paths
from views_dagster.precipitation.netcdf_files import held_groups
from views_dagster.precipitation.units import Conversion, conversion

if TYPE_CHECKING:
    import xarray as xr

BLOCK_BYTES: Final = 256 * 2**20
"""Most bytes of float32 values that are read at once."""


@dataclass(frozen=True)
class WeatherField:
    """One variable of one open file.

    Attributes:
        path: the file.
        array: the variable, lazily, with dimensions (time dimensions..., extra, y, x).
        axes: which dimensions those are.
        latitude, longitude: (y,) and (x,), or both (y, x), degrees, moved if the YAML moves them.
        valid_time: (n,) datetime64[us] of the file's n records (n is 1 and the time NaT for a field without time).
        run: (n,) datetime64[us] when the forecast that a record is of started; NaT where the file knows none.
        covers: (n,) start and end of the interval that each record is of, or None where the file does not say.
        extra: (k,) coordinate of the extra dimension (levels or members), or None.
        extra_units: units attribute of that coordinate, or None.
        units: what the values are in.
        missing_value: a further value that means missing.
    """

    path: str
    array: "xr.DataArray"
    axes: Axes
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    valid_time: NDArray[np.datetime64]
    run: NDArray[np.datetime64]
    covers: tuple[NDArray[np.datetime64], NDArray[np.datetime64]] | None
    extra: NDArray[Any] | None
    extra_units: str | None
    units: str
    missing_value: float | None

    def conversion(self, table: Mapping[str, Conversion]) -> Conversion:
        """How the values are converted; SourceError where the table does not have their units."""
        return conversion(self.units, table, where=f"{self.path}: variable {self.array.name}")

    def same_grid(self, other: "WeatherField") -> bool:
        """Whether both have the same coordinates, to within rounding to float32."""
        return all(
            mine.shape == theirs.shape and np.allclose(mine, theirs, rtol=0, atol=1e-4)
            for mine, theirs in ((self.latitude, other.latitude), (wrapped(self.longitude), wrapped(other.longitude)))
        )

    def values(
        self, records: NDArray[np.intp], rows: slice, columns: slice, extra: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """(records, extra, y, x) float32 as the file has them (scale and offset applied), NaN where missing.

        Args:
            records: which records, ascending; consecutive ones are read at once.
            rows, columns: which part of the grid.
            extra: which of the extra dimension, all by default; without such a dimension its axis has length 1.
        """
        cut = self.array.isel({self.axes.y: rows, self.axes.x: columns})
        if self.axes.extra is not None and extra is not None:
            cut = cut.isel({self.axes.extra: _as_slice(list(extra))})
        order = (*self.axes.times, *((self.axes.extra,) if self.axes.extra else ()), self.axes.y, self.axes.x)
        parts = []
        for piece in self.axes.pieces(records):
            try:
                part = np.asarray(cut.isel(piece).transpose(*order).values, dtype=np.float32)
            except (OSError, RuntimeError, EOFError) as error:
                raise SourceError(
                    f"{self.path}: variable {self.array.name} cannot be read: {error}; fetch the file again"
                ) from error
            count = int(np.prod(part.shape[: len(self.axes.times)], dtype=int))
            parts.append(part.reshape(count, -1, *part.shape[-2:]))
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self.missing_value is not None:
            values = np.where(values == np.float32(self.missing_value), np.float32(np.nan), values)
        return values

    def chunk(self) -> tuple[int, int, int]:
        """Records, levels or members, and rows that are stored together."""
        stored = self.array.encoding.get("preferred_chunks") or {}
        time = self.axes.times[-1] if self.axes.times else None
        records, extra, rows = (int(stored.get(name, 1)) for name in (time, self.axes.extra, self.axes.y))
        return records, extra, rows


@contextmanager
def opened(
    variable: FileVariable, months: range | None, *, extra: str | None = None
) -> Iterator[list[list[WeatherField]]]:
    """The variable's files for the months, or all, open while the context lasts: a list for each grid.

    Args:
        months: month ids.
        extra: name of a further dimension to keep, of levels or members.

    Raises:
        SourceError: no file, a file that cannot be read or lacks the variable, coordinates or units, or files of one
            pattern that differ in their grid.
    """
    with ExitStack() as stack:
        index = stack.enter_context(tempfile.TemporaryDirectory(prefix="grib_index_"))
        domains: list[list[WeatherField]] = []
        for entry in variable.entries:
            fields = [_open(path, variable, entry, extra, Path(index), stack) for path in paths(entry.files, months)]
            for number, field in enumerate(fields):
                if not field.same_grid(fields[0]):
                    raise SourceError(
                        f"{field.path}: the grid changed: expected that of {fields[0].path}, "
                        f"{_described(fields[0])}, found {_described(field)}; list files of different grids apart"
                    )
                fields[number] = replace(field, latitude=fields[0].latitude, longitude=fields[0].longitude)
            same = next((domain for domain in domains if domain[0].same_grid(fields[0])), None)
            if same is None:
                domains.append(fields)
            else:
                same.extend(fields)
        yield domains


def newest_time(variable: FileVariable, extra: str | None = None) -> np.datetime64:
    """The newest valid time in the file of each pattern whose name sorts last; `extra` as in `opened`.

    Raises:
        SourceError: no file, or one that cannot be read or has no times.
    """
    newest: list[np.datetime64] = []
    with ExitStack() as stack:
        index = stack.enter_context(tempfile.TemporaryDirectory(prefix="grib_index_"))
        for entry in variable.entries:
            field = _open(paths(entry.files)[-1], variable, entry, extra, Path(index), stack)
            newest.append(field.valid_time.max())
    return max(newest)


def provenance(fields: Sequence[WeatherField]) -> dict[str, str]:
    """What the fields were read from: for each folder how many files, their size, the newest, and a digest of names,
    sizes and times of change (files of weather are too large to read twice)."""
    by_folder: dict[str, set[str]] = {}
    for field in fields:
        folder, _, name = field.path.rpartition("/")
        by_folder.setdefault(folder, set()).add(name)
    described = {}
    for folder, names in sorted(by_folder.items()):
        states = [(name, os.stat(f"{folder}/{name}")) for name in sorted(names) if os.path.exists(f"{folder}/{name}")]
        lines = "\n".join(f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states)
        newest = max((state.st_mtime for _, state in states), default=0.0)
        described[folder or "."] = (
            f"{len(names)} files, {sum(state.st_size for _, state in states)} bytes, newest of "
            f"{datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M} UTC, names, sizes and times sha256 "
            f"{hashlib.sha256(lines.encode()).hexdigest()}"
        )
    return described


def _open(
    path: str, variable: FileVariable, moved: MovedFiles, extra: str | None, index: Path, stack: ExitStack
) -> WeatherField:
    import xarray as xr

    dataset = stack.enter_context(opened_file(path, variable, index))
    if variable.variable not in dataset.variables:
        held = ", ".join(str(name) for name in dataset.data_vars) or held_by_grib(path)
        groups = held_groups(path)
        inside = f" and the groups {', '.join(groups)}, one of which `group:` may name" if groups else ""
        raise SourceError(f"{path} has no variable {variable.variable}; it has {held or 'none'}{inside}")
    names = {str(name): told for name, told in variable.names.items()}
    array = with_coordinates(dataset, names)[variable.variable]
    if extra in array.coords and extra not in array.dims:
        array = array.expand_dims(extra)
    where = f"{path}: variable {variable.variable}"
    for name, wanted in variable.select.items():
        if name not in GRIB_KEYS or name in array.dims:
            array = _selected(array, name, wanted, where)
    axes, latitude, longitude = axes_of(array, names, extra, where)
    array = array.isel(dict.fromkeys(axes.dropped, 0))
    valid_time, run = record_times(array, axes, names, where)
    units = variable.units if variable.units is not None else array.attrs.get("units")
    if not units:
        raise SourceError(f"{where} has no units attribute; say what it is in with `units:`")
    coordinate = array[axes.extra] if axes.extra is not None and axes.extra in array.coords else None
    return WeatherField(
        path=path,
        # Years of half-hourly files are tens of thousands: none keeps coordinates of its own.
        array=xr.DataArray(array.variable, name=array.name),
        axes=axes,
        latitude=latitude + moved.latitude,
        longitude=longitude + moved.longitude,
        valid_time=valid_time,
        run=run,
        covers=bounds_of(dataset, axes.times[0]) if len(axes.times) == 1 and axes.times[0] in dataset.coords else None,
        extra=None if coordinate is None else np.asarray(coordinate.values),
        extra_units=None if coordinate is None else coordinate.attrs.get("units"),
        units=str(units),
        missing_value=variable.missing_value,
    )


def _selected(array: "xr.DataArray", name: str, wanted: float | str, where: str) -> "xr.DataArray":
    if name not in array.coords:
        known = ", ".join(map(str, array.coords))
        raise SourceError(f"{where}: `select` names {name}, which has no coordinate; coordinates are {known}")
    held = np.atleast_1d(array[name].values)
    at = np.flatnonzero(held == wanted) if isinstance(wanted, str) else np.flatnonzero(np.isclose(held, wanted))
    if len(at) != 1:
        raise SourceError(f"{where}: dimension {name} has no {wanted}, it has {held.tolist()[:20]}")
    return array.isel({name: int(at[0])}) if name in array.dims else array


def _as_slice(positions: list[int]) -> slice | list[int]:
    start, stop = positions[0], positions[-1] + 1
    return slice(start, stop) if positions == list(range(start, stop)) else positions


def _described(field: WeatherField) -> str:
    latitude, longitude = field.latitude, field.longitude
    return (
        f"{'x'.join(str(size) for size in field.array.shape[-2:])} points, latitudes {latitude.flat[0]:g}.."
        f"{latitude.flat[-1]:g}, longitudes {longitude.flat[0]:g}..{longitude.flat[-1]:g}"
    )
