"""Files of weather as xarray datasets, whichever of NetCDF, Zarr and GRIB they are."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from views_dagster.errors import SourceError
from views_dagster.precipitation.file_variables import GRIB_KEYS, FileVariable
from views_dagster.precipitation.netcdf_files import require_whole

if TYPE_CHECKING:
    import xarray as xr


def opened_file(path: str, variable: FileVariable, index: Path) -> "xr.Dataset":
    """The file, lazily, with the variable among what it holds if it has it.

    Args:
        index: folder for the indexes of GRIB files.

    Raises:
        SourceError: the file is of no known format, cut short, or cannot be read.
    """
    import xarray as xr

    kind = _format(path)
    if kind == "netcdf4":
        require_whole(path)
    try:
        if kind == "grib":
            keys = {name: value for name, value in variable.select.items() if name in GRIB_KEYS}
            name = hashlib.sha256(path.encode()).hexdigest()[:16]
            return xr.open_dataset(
                path,
                engine="cfgrib",
                decode_timedelta=True,
                backend_kwargs={
                    "indexpath": str(index / f"{name}.{{short_hash}}.idx"),
                    "filter_by_keys": {"cfVarName": variable.variable, **keys},
                },
            )
        # None of the files' own variables is a duration: `hours` may be the unit of a sunshine duration.
        if kind == "zarr":
            return xr.open_dataset(
                path, engine=kind, decode_timedelta=False, cache=False, consolidated=_is_consolidated(path)
            )
        return xr.open_dataset(
            path,
            engine=kind,
            decode_timedelta=False,
            cache=False,
            group=variable.group,
            create_default_indexes=False,
        )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise SourceError(f"{path} cannot be read as {kind}: {error}") from error


def _format(path: str) -> Literal["grib", "netcdf4", "zarr"]:
    if "://" in path or Path(path).is_dir():
        return "zarr"
    with open(path, "rb") as file:
        head = file.read(8)
    if head.startswith(b"GRIB"):
        return "grib"
    if head.startswith(b"CDF") or head == b"\x89HDF\r\n\x1a\n":
        return "netcdf4"
    raise SourceError(f"{path} is neither NetCDF nor GRIB, nor a Zarr store; fetch it again")


def _is_consolidated(store: str) -> bool | None:
    """Whether a local Zarr store has its metadata in one place; None, for xarray to find out, where it is elsewhere."""
    if "://" in store:
        return None
    root = Path(store, "zarr.json")
    return Path(store, ".zmetadata").exists() or (root.exists() and b"consolidated_metadata" in root.read_bytes())


def held_by_grib(path: str) -> str:
    """Names of the variables of a GRIB file; nothing of another file."""
    if _format(path) != "grib":
        return ""
    from cfgrib.messages import FileIndex, FileStream

    index = FileIndex.from_fieldset(FileStream(path), index_keys=["cfVarName"])
    return ", ".join(sorted(map(str, index.header_values["cfVarName"])))
