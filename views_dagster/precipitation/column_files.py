"""Columns of a weather model or reanalysis from files: profiles over boxes, single-level and static fields."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import reduce
from itertools import chain
from typing import Final, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from views_dagster.calendar import describe_months
from views_dagster.errors import SourceError
from views_dagster.precipitation.box_matching import BoxPoints, points_of_boxes
from views_dagster.precipitation.box_means import BoxMeans, means_of_boxes
from views_dagster.precipitation.boxes import in_months, month_of_times
from views_dagster.precipitation.column_arrays import as_lists
from views_dagster.precipitation.column_levels import LevelSettings, level_order, require_same_levels
from views_dagster.precipitation.column_times import (
    Stamped,
    Targets,
    newest_runs,
    records_of,
    require_stamped,
    targets_of,
)
from views_dagster.precipitation.column_values import Domain, times_of, values_of
from views_dagster.precipitation.file_reader import Hours, WeatherFileReader
from views_dagster.precipitation.file_variables import FileVariable
from views_dagster.precipitation.levels import LevelUnit
from views_dagster.precipitation.units import FIELDS
from views_dagster.precipitation.weather_files import WeatherField, opened, provenance
from views_dagster.sources.base import RawMonths

Floats = NDArray[np.float32]

_MAX_MISSING: Final = 0.5
_FIXED: Final = ("month_id", "valid_time", "box_id", "latitude", "longitude", "levels")


class ColumnFiles(WeatherFileReader):
    """Columns from NetCDF, Zarr or GRIB files whose points are the centres of the boxes, or finer."""

    kind: Literal["column_files"] = "column_files"
    level: LevelSettings = Field(description="The dimension of levels in the files, and its unit.")
    profiles: Mapping[str, FileVariable] = Field(
        min_length=1, description="`{name in the table: variable with levels}`."
    )
    surface: Mapping[str, FileVariable] = Field(
        default_factory=dict, description="`{name in the table: variable without levels}`."
    )
    static: Mapping[str, FileVariable] = Field(
        default_factory=dict, description="`{name in the table: variable that does not change}`, orography for example."
    )
    time_step: Hours = Field(description="Time from one column of a box to the next, `6h`; counted from 00 UTC.")
    average: bool = Field(
        default=False, description="Whether values at finer times are averaged over the time step before a valid time."
    )
    stamped: Stamped = Field(
        default="end",
        description="`end`: a value belongs to the time the file gives it, or is the mean of an interval that ends "
        "then; `start`, `middle`: it is the mean of an interval that starts, or has its middle, then.",
    )
    regrid: Literal["conservative"] | None = Field(
        default=None,
        description="`conservative`: the files are finer than the boxes, and each field becomes its area-weighted mean "
        "over the box, level by level; if not set, the files' points are the centres of boxes.",
    )
    max_missing: float = Field(
        default=_MAX_MISSING,
        ge=0,
        lt=1,
        description="With `regrid`: a mean of which a larger share of the box is missing is no value; a box that a "
        "grid covers less has no rows.",
    )
    gaps: Literal["drop", "keep"] = Field(
        default="drop",
        description="`drop` leaves out each row with a missing value; `keep` keeps rows in which only some levels are "
        "missing, below the ground for example.",
    )

    @model_validator(mode="after")
    def _missing_share_is_of_means(self) -> Self:
        if self.max_missing != _MAX_MISSING and self.regrid is None:
            raise ValueError("`max_missing` is for `regrid: conservative`")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [*_FIXED, *self.profiles, *self.surface, *self.static]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{', '.join(sorted(repeated))} is the name of two columns of the table")
        return self

    @property
    def fields(self) -> frozenset[str]:
        """Names of profiles, single-level and static fields."""
        return frozenset({*self.profiles, *self.surface, *self.static})

    @property
    def level_unit(self) -> LevelUnit:
        """Unit of the levels."""
        return self.level.unit

    @property
    def lists_units(self) -> bool:
        return True

    def read(self, first: int, last: int) -> RawMonths:
        """Columns of months `first..last` (month ids, inclusive), sorted by time and box.

        Values are in the units of `precipitation/units.py`. Repairs: `times_missing` (of the times that the months
        should have, those without columns), `times_incomplete` (those of them at which some variables have values),
        `values_of_older_runs` (passed over, since a newer run has the valid time), `rows_with_gaps` (left out since a
        value is missing) and, with `regrid`, `pixels_missing` (fine values without which means were made, or not).

        Raises:
            SourceError: a file, coordinate, unit or level is not what the settings say, a time comes twice, or a month
                has no time at which all variables have values.
        """
        with ExitStack() as stack:
            variables: dict[str, list[Domain]] = {}
            expected: tuple[Floats, str] | None = None
            older = 0
            for name, variable in chain(self.profiles.items(), self.surface.items(), self.static.items()):
                dimension = self.level.dimension if name in self.profiles else None
                months = None if name in self.static else range(first, last + 1)
                domains = []
                for fields in stack.enter_context(opened(variable, months, extra=dimension)):
                    positions: list[list[int]] | None = None
                    if dimension is not None:
                        positions = []
                        for field in fields:
                            order, levels = level_order(field, self.level)
                            positions.append(order)
                            expected = expected or (levels, field.path)
                            require_same_levels(field, levels, *expected, self.level.unit)
                    targets = None
                    self._require_means(fields[0], over_time=self.average and months is not None)
                    if months is not None:
                        targets, passed_over = self._targets(fields, first, last)
                        older += passed_over
                    domains.append(Domain(fields, self._boxes_in(fields[0]), positions, targets))
                variables[name] = domains
            levels = expected[0] if expected else np.empty(0, np.float32)
            of_variable = {name: times_of(variables[name]) for name in (*self.profiles, *self.surface)}
            for name, held in of_variable.items():
                self._check_months(held, first, last, name)
            times = reduce(np.intersect1d, of_variable.values())
            missing = self._check_months(times, first, last, f"{', '.join(of_variable)} together")
            box_id = self._boxes(variables)
            still = {name: values_of(variables[name], box_id, None)[0, :, 0] for name in self.static}
            frames = []
            with_gaps = 0
            for month_id in range(first, last + 1):
                frame, dropped = self._month(
                    variables, still, levels, box_id, times[in_months(times, month_id, month_id)]
                )
                frames.append(frame)
                with_gaps += dropped
            of_all = [domain for domains in variables.values() for domain in domains]
            read_from = provenance([field for domain in of_all for field in domain.fields])
            averaged = [domain.boxes.pixels_missing for domain in of_all if isinstance(domain.boxes, BoxMeans)]
        return RawMonths(
            frame=pl.concat(frames, rechunk=False),
            repairs={
                "times_missing": missing,
                "times_incomplete": len(np.setdiff1d(np.unique(np.concatenate([*of_variable.values()])), times)),
                "values_of_older_runs": older,
                "rows_with_gaps": with_gaps,
                **({"pixels_missing": sum(averaged)} if averaged else {}),
            },
            provenance=read_from,
        )

    def _variables(self) -> Sequence[tuple[FileVariable, str | None]]:
        deep = [(variable, self.level.dimension) for variable in self.profiles.values()]
        return [*deep, *((variable, None) for variable in self.surface.values())]

    @property
    def _hours_between(self) -> float:
        return self.time_step

    def _boxes_in(self, field: WeatherField) -> BoxPoints | BoxMeans:
        if self.regrid is None:
            return points_of_boxes(self.grid, field)
        return means_of_boxes(self.grid, field, self.max_missing)

    def _require_means(self, field: WeatherField, *, over_time: bool) -> None:
        """SourceError where the values would be averaged and are directions."""
        if (self.regrid or over_time) and field.conversion(FIELDS).unit == "degree":
            asked = " and ".join(["`regrid`"] * bool(self.regrid) + ["`average`"] * over_time)
            raise SourceError(
                f"{field.path}: variable {field.array.name} is in {field.units}, and {asked} would average it: the "
                "mean of 350 and 10 degrees is not 180; give the components of the wind"
            )

    def _targets(self, fields: Sequence[WeatherField], first: int, last: int) -> tuple[Targets, int]:
        require_stamped(fields, self.stamped, self.time_step)
        records, older = newest_runs(records_of(fields))
        targets = targets_of(records, hours=self.time_step, average=self.average, stamped=self.stamped)
        return targets.within(in_months(targets.time, first, last)), int(in_months(older, first, last).sum())

    def _boxes(self, variables: Mapping[str, list[Domain]]) -> NDArray[np.int64]:
        """Boxes that some file of every variable has."""
        seen = np.ones(self.grid.count, dtype=bool)
        for domains in variables.values():
            has = np.zeros(self.grid.count, dtype=bool)
            has[np.concatenate([domain.boxes.box_id for domain in domains])] = True
            seen &= has
        box_id = np.flatnonzero(seen)
        if not len(box_id):
            raise SourceError("no box of the grid is in the files of all variables; look at their domains")
        return box_id

    def _month(
        self,
        variables: Mapping[str, list[Domain]],
        still: Mapping[str, Floats],
        levels: Floats,
        box_id: NDArray[np.int64],
        times: NDArray[np.datetime64],
    ) -> tuple[pl.DataFrame, int]:
        """Rows of some times, and how many were left out; SourceError where all were."""
        rows = np.ones((len(times), len(box_id)), dtype=bool)
        values: dict[str, Floats] = {}
        lacking: dict[str, int] = {}
        for name in (*self.profiles, *self.surface):
            found = values_of(variables[name], box_id, times)
            known = np.isfinite(found)
            usable = known.any(axis=2) if self.gaps == "keep" else known.all(axis=2)
            lacking[name] = int(rows.size - usable.sum())
            rows &= usable
            values[name] = found
        for name, field in still.items():
            lacking[name] = int(np.isnan(field).sum()) * len(times)
            rows &= np.isfinite(field)
        if not rows.any():
            where = ", ".join(f"{name} in {count}" for name, count in lacking.items() if count)
            raise SourceError(
                f"all {rows.size} columns of {describe_months(month_of_times(times).tolist())} have a missing value: "
                f"{where}; look at the files, or set `gaps: keep` if levels are missing below the ground"
            )
        time, place = np.nonzero(rows)
        north, east = self.grid.centres(box_id[place])
        columns = {
            "month_id": pl.Series(month_of_times(times)[time]),
            "valid_time": pl.Series(times[time]).cast(pl.Datetime("us")),
            "box_id": pl.Series(box_id[place]),
            "latitude": pl.Series(north.astype(np.float32)),
            "longitude": pl.Series(east.astype(np.float32)),
            "levels": as_lists("levels", np.broadcast_to(levels, (len(time), len(levels)))),
            **{name: as_lists(name, values.pop(name)[rows]) for name in self.profiles},
            **{name: pl.Series(values.pop(name)[rows][:, 0]) for name in self.surface},
            **{name: pl.Series(field[place]) for name, field in still.items()},
        }
        return pl.DataFrame(columns), int(rows.size - len(time))
