"""What xarray does not tell of a NetCDF file: whether all of it has arrived, and which groups it has."""

import warnings
from pathlib import Path
from typing import Final

from views_dagster.errors import SourceError

_CLASSIC: Final = (b"CDF\x01", b"CDF\x02")
_STREAMING: Final = b"\xff\xff\xff\xff"
_HDF5: Final = b"\x89HDF"


def require_whole(path: str) -> None:
    """SourceError where a file in NetCDF's classic format ends before its header says.

    What lies beyond the end is read as zeros: half a file of rain would be a dry half-month. Files of HDF5 know their
    length themselves.
    """
    with open(path, "rb") as file:
        head = file.read(8)
    # A file that is still being written does not say how many records it has.
    if head[:4] not in _CLASSIC or head[4:] == _STREAMING:
        return
    from scipy.io import netcdf_file

    try:
        with warnings.catch_warnings():
            # Its variables are views of the file; none outlives this function.
            warnings.simplefilter("ignore", RuntimeWarning)
            netcdf_file(path, mmap=True).close()
    except (ValueError, IndexError, EOFError) as error:
        raise SourceError(
            f"{path} ends at {Path(path).stat().st_size} bytes, before what its header says is in it; fetch it again"
        ) from error


def held_groups(path: str) -> list[str]:
    """Names of the groups at the root of a NetCDF or HDF5 file; none for files of other formats."""
    if not Path(path).is_file():
        return []
    with open(path, "rb") as file:
        if file.read(4) != _HDF5:
            return []
    import netCDF4

    with netCDF4.Dataset(path) as dataset:
        return list(map(str, dataset.groups))
