"""Which files hold a variable of the weather, as a person writes it: patterns of paths, names, units, selections."""

import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from views_dagster.calendar import describe_months, year_month
from views_dagster.errors import SourceError

GRIB_KEYS: Final = ("typeOfLevel", "shortName", "stepType", "dataType", "paramId", "edition", "level", "number")
"""Keys of GRIB messages by which `select` picks the messages that make up a variable."""

_DIGITS: Final = {"%Y": 4, "%m": 2, "%d": 2, "%H": 2, "%j": 3}
_TOKEN: Final = re.compile("|".join(_DIGITS))


class MovedFiles(BaseModel):
    """Files whose coordinates are moved, because their labels are known to be off or lie between the boxes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: str = Field(description="Path or pattern, as in `files` of the variable.")
    latitude: float = Field(default=0.0, description="Degrees added to the latitudes in these files.")
    longitude: float = Field(default=0.0, description="Degrees added to the longitudes in these files.")


Files = str | MovedFiles | tuple[str | MovedFiles, ...]


class FileVariable(BaseModel):
    """One variable, and the files it is in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: Files = Field(
        description="Path, pattern or Zarr store, or a list of them, one for each domain. `*` matches any text, `**` "
        "any folders, `%Y` and `%m` the year and month (so that only files of the months that are read are opened), "
        "`%d`, `%H` and `%j` any day, hour and day of the year. Paths start at the current folder; `~` is the home "
        "folder. The files of one pattern share their grid."
    )
    variable: str = Field(description="The variable's name in the files; for GRIB the name that cfgrib gives it.")
    units: str | None = Field(
        default=None, description="Units of the values, where the file does not say them; they win over the file's."
    )
    missing_value: float | None = Field(
        default=None, description="A value that means missing, where the file does not say it."
    )
    select: Mapping[str, float | str] = Field(
        default_factory=dict,
        description="`{dimension: coordinate}` for further dimensions; for GRIB also the keys "
        f"{', '.join(GRIB_KEYS)}.",
    )
    group: str | None = Field(
        default=None, description="The group that holds the variable, in NetCDF or HDF5 files that have groups."
    )
    names: Mapping[Literal["time", "step", "latitude", "longitude"], str] = Field(
        default_factory=dict, description="The file's names of coordinates that are not found by themselves."
    )

    @model_validator(mode="after")
    def _some_files(self) -> Self:
        if not self.entries:
            raise ValueError("`files` is empty; name at least one file or pattern")
        return self

    @property
    def entries(self) -> tuple[MovedFiles, ...]:
        """The patterns, each with how far its files are moved."""
        listed = self.files if isinstance(self.files, tuple) else (self.files,)
        return tuple(MovedFiles(files=entry) if isinstance(entry, str) else entry for entry in listed)


def paths(pattern: str, months: range | None = None) -> list[str]:
    """Files that match, sorted; of those with a year or month in their name only the ones of, or next to, the months.

    Raises:
        SourceError: there is none.
    """
    if "://" in pattern:
        return [pattern]
    pattern = str(Path(pattern).expanduser())
    patterns = {pattern}
    if months is not None and ("%Y" in pattern or "%m" in pattern):
        near = [year_month(month) for month in range(months.start - 1, months.stop + 1)]
        patterns = {pattern.replace("%Y", f"{year:04d}").replace("%m", f"{month:02d}") for year, month in near}
    found: set[str] = set()
    for name in patterns:
        name = _TOKEN.sub(lambda match: "[0-9]" * _DIGITS[match[0]], name)
        found.update([name] if os.path.exists(name) else glob.glob(name, recursive=True))
    if not found:
        when = f" for {describe_months(months)}" if months is not None else ""
        raise SourceError(f"no file matches {pattern}{when}; check the path, which is relative to {Path.cwd()}")
    return sorted(found)
