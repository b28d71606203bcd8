"""Columns of a weather model or reanalysis from files: profiles over boxes, single-level and static fields."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
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
from views_dagster.precipitation.file_reader import Hours, WeatherFileReader
from views_dagster.precipitation.file_variables import FileVariable
from views_dagster.precipitation.levels import LevelUnit
from views_dagster.precipitation.units import FIELDS
from views_dagster.precipitation.weather_files import WeatherField, opened, provenance
from views_dagster.sources.base import RawMonths

Floats = NDArray[np.float32]

_FIXED: Final = ("month_id", "valid_time", "box_id", "latitude", "longitude", "levels")


@dataclass(frozen=True)
class _Domain:
    """A variable's files of one grid, the boxes in it, and, but for static fields, the times they are of.

    `levels` are the positions in each file, since files may differ in the order of their levels; None for a variable
    without.
    """

    fields: Sequence[WeatherField]
    points: BoxPoints
    levels: list[list[int]] | None
    targets: Targets | None


class ColumnFiles(WeatherFileReader):
    """Columns from NetCDF, Zarr or GRIB files whose grid is the lattice of boxes."""

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
    gaps: Literal["drop", "keep"] = Field(
        default="drop",
        description="`drop` leaves out each row with a missing value; `keep` keeps rows in which only some levels are "
        "missing, below the ground for example.",
    )

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
        value is missing).

        Raises:
            SourceError: a file, coordinate, unit or level is not what the settings say, a time comes twice, or a month
                has no time at which all variables have values.
        """
        with ExitStack() as stack:
            variables: dict[str, list[_Domain]] = {}
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
                    if months is not None:
                        targets, passed_over = self._targets(fields, first, last)
                        older += passed_over
                    domains.append(_Domain(fields, points_of_boxes(self.grid, fields[0]), positions, targets))
                variables[name] = domains
            levels = expected[0] if expected else np.empty(0, np.float32)
            of_variable = {name: _times(variables[name]) for name in (*self.profiles, *self.surface)}
            for name, held in of_variable.items():
                self._check_months(held, first, last, name)
            times = reduce(np.intersect1d, of_variable.values())
            missing = self._check_months(times, first, last, f"{', '.join(of_variable)} together")
            box_id = self._boxes(variables)
            still = {name: _values(variables[name], box_id, None)[0, :, 0] for name in self.static}
            frames = []
            with_gaps = 0
            for month_id in range(first, last + 1):
                frame, dropped = self._month(
                    variables, still, levels, box_id, times[in_months(times, month_id, month_id)]
                )
                frames.append(frame)
                with_gaps += dropped
            read_from = provenance(
                [field for domains in variables.values() for domain in domains for field in domain.fields]
            )
        return RawMonths(
            frame=pl.concat(frames, rechunk=False),
            repairs={
                "times_missing": missing,
                "times_incomplete": len(np.setdiff1d(np.unique(np.concatenate([*of_variable.values()])), times)),
                "values_of_older_runs": older,
                "rows_with_gaps": with_gaps,
            },
            provenance=read_from,
        )

    def _variables(self) -> Sequence[tuple[FileVariable, str | None]]:
        deep = [(variable, self.level.dimension) for variable in self.profiles.values()]
        return [*deep, *((variable, None) for variable in self.surface.values())]

    @property
    def _hours_between(self) -> float:
        return self.time_step

    def _targets(self, fields: Sequence[WeatherField], first: int, last: int) -> tuple[Targets, int]:
        require_stamped(fields, self.stamped, self.time_step)
        records, older = newest_runs(records_of(fields))
        targets = targets_of(records, hours=self.time_step, average=self.average, stamped=self.stamped)
        return targets.within(in_months(targets.time, first, last)), int(in_months(older, first, last).sum())

    def _boxes(self, variables: Mapping[str, list[_Domain]]) -> NDArray[np.int64]:
        """Boxes that some file of every variable has."""
        seen = np.ones(self.grid.count, dtype=bool)
        for domains in variables.values():
            has = np.zeros(self.grid.count, dtype=bool)
            has[np.concatenate([domain.points.box_id for domain in domains])] = True
            seen &= has
        box_id = np.flatnonzero(seen)
        if not len(box_id):
            raise SourceError("no box of the grid is in the files of all variables; look at their domains")
        return box_id

    def _month(
        self,
        variables: Mapping[str, list[_Domain]],
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
            found = _values(variables[name], box_id, times)
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


def _times(domains: Sequence[_Domain]) -> NDArray[np.datetime64]:
    return np.unique(np.concatenate([domain.targets.time for domain in domains if domain.targets is not None]))


def _values(domains: Sequence[_Domain], box_id: NDArray[np.int64], times: NDArray[np.datetime64] | None) -> Floats:
    """(times, boxes, levels) float32 of a variable in its table unit; the first domain that has a value gives it."""
    result: Floats | None = None
    for domain in domains:
        inside = np.isin(domain.points.box_id, box_id)
        columns = np.searchsorted(box_id, domain.points.box_id[inside])
        found = _read(domain, inside, times)
        if result is None:
            result = np.full((found.shape[0], len(box_id), found.shape[2]), np.nan, np.float32)
        held = result[:, columns]
        result[:, columns] = np.where(np.isnan(held), found, held)
    assert result is not None
    return result


def _read(domain: _Domain, inside: NDArray[np.bool_], times: NDArray[np.datetime64] | None) -> Floats:
    """(times, the domain's boxes, levels) float32, NaN at times that the domain's files do not have."""
    depth = 1 if domain.levels is None else len(domain.levels[0])
    result = np.zeros((1 if times is None else len(times), int(inside.sum()), depth), np.float32)
    count, per_time = np.zeros(len(result), dtype=int), np.ones(len(result), dtype=int)
    for number, field in enumerate(domain.fields):
        if times is None or domain.targets is None:
            record, place = np.zeros(1, dtype=np.intp), np.zeros(1, dtype=np.intp)
            if number:
                break
        else:
            mine = (domain.targets.records.file == number) & np.isin(domain.targets.time, times)
            record, place = domain.targets.records.record[mine], np.searchsorted(times, domain.targets.time[mine])
            per_time[place] = domain.targets.per_time[mine]
        levels = None if domain.levels is None else domain.levels[number]
        order = np.argsort(record)
        conversion = field.conversion(FIELDS)
        for part in np.array_split(order, max(1, -(-len(order) // domain.points.records_at_once(depth)))):
            if not len(part):
                continue
            values = field.values(record[part], domain.points.rows, domain.points.columns, levels)
            boxed = domain.points.of(values)[:, :, inside].transpose(0, 2, 1)
            boxed = boxed * np.float32(conversion.factor) + np.float32(conversion.offset)
            if (per_time[place[part]] == 1).all():
                result[place[part]] = boxed
            else:
                np.add.at(result, place[part], boxed)
            np.add.at(count, place[part], 1)
    result /= per_time.astype(np.float32)[:, None, None]
    result[count != per_time] = np.nan
    return result
