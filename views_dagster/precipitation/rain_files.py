"""Rain from files: fine rain as fractions of boxes by band, and forecasts of the box mean by the members of NWP."""

from abc import ABC
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import groupby
from typing import Final, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from views_dagster.errors import SourceError
from views_dagster.precipitation.bands import EDGES
from views_dagster.precipitation.box_matching import require_not_coarser
from views_dagster.precipitation.box_sums import BoxRain, BoxSums, Coarsener, rain_of
from views_dagster.precipitation.boxes import month_of_times
from views_dagster.precipitation.coarsening import coarsener
from views_dagster.precipitation.column_arrays import as_lists
from views_dagster.precipitation.column_times import Stamped, records_of, require_stamped
from views_dagster.precipitation.file_reader import Hours, WeatherFileReader, read_ahead
from views_dagster.precipitation.file_variables import FileVariable
from views_dagster.precipitation.rain_fields import RainFields, RainLimits
from views_dagster.precipitation.rain_times import Since, differences, means
from views_dagster.precipitation.weather_files import WeatherField, opened, provenance
from views_dagster.sources.base import RawMonths

_KEYS: Final = ("valid_time", "box_id")


class _Rain(WeatherFileReader, ABC):
    """What rain and members share: where the values are, and the intervals they are of."""

    rain: FileVariable = Field(description="The variable of rain: a rate, or the amount of an interval.")
    interval: Hours = Field(
        description="Time that a value covers, `1h`; for accumulated rain, the intervals into which it is differenced."
    )
    window: Hours | None = Field(
        default=None, description="Time over which several values are averaged, `6h`, counted from 00 UTC."
    )
    stamped: Stamped = Field(
        default="end", description="Whether the files' times are those of the start, middle or end of the interval."
    )
    accumulated: bool = Field(default=False, description="Whether values are amounts since an earlier start.")
    since: Since = Field(
        default="run", description="Start of an accumulation: `run`, of the forecast; `day`, 00 UTC of each day."
    )
    tolerance: float = Field(
        default=0.05,
        ge=0,
        description="Negative rain down to -tolerance mm/h is packing's rounding and set to 0; more is an error.",
    )
    highest: float = Field(default=500.0, gt=0, description="Rain above this, mm/h, is an error.")
    max_missing: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="A box of which a larger share is missing has no values; one that the grid covers less, no rows.",
    )

    @model_validator(mode="after")
    def _intervals_fit(self) -> Self:
        if self.window is not None and (self.window / self.interval) % 1:
            raise ValueError(f"`window` of {self.window:g} hours is not a multiple of `interval`, {self.interval:g}")
        if self.accumulated and self.window is not None:
            raise ValueError("accumulated rain is differenced over `interval`; leave `window` out and set `interval`")
        if self.accumulated and self.stamped != "end":
            raise ValueError("accumulated rain is stamped with the end of the time it has been counted")
        if self.since != "run" and not self.accumulated:
            raise ValueError("`since` is for accumulated rain")
        return self

    @property
    def _hours_between(self) -> float:
        return self.window or self.interval

    def _read(
        self, first: int, last: int, dimension: str | None, edges: tuple[float, ...], rows: "_Rows"
    ) -> tuple[pl.DataFrame, dict[str, int], dict[str, str]]:
        """Rows of all domains by time and box, what was repaired, and where they came from."""
        frames: list[pl.DataFrame] = []
        repairs = {"times_missing": 0, "intervals_incomplete": 0, "values_of_older_runs": 0, "negatives_set_to_0": 0}
        read_from: list[WeatherField] = []
        with opened(self.rain, range(first, last + 1), extra=dimension) as domains:
            for files in domains:
                for field in files:
                    self._check_file(field)
                made = self._coarsener(files[0], edges)
                fields = self._fields(files, made, first, last)
                frames.extend(self._boxes(fields, made, rows))
                repairs["intervals_incomplete"] += len(fields.intervals.incomplete)
                repairs["values_of_older_runs"] += len(fields.intervals.older)
                repairs["negatives_set_to_0"] += fields.negatives
                read_from.extend(files)
        frame = pl.concat(frames) if frames else pl.DataFrame(schema={"valid_time": pl.Datetime("us")})
        times = frame["valid_time"].unique().to_numpy().astype("datetime64[us]")
        repairs["times_missing"] = self._check_months(times, first, last, f"variable {self.rain.variable}")
        if len(domains) > 1:
            # The domain that has more of a box gives it.
            whole = frame.sort(*_KEYS, "missing", maintain_order=True).unique(
                list(_KEYS), keep="first", maintain_order=True
            )
            repairs["boxes_in_two_domains"] = frame.height - whole.height
            frame = whole
        month = pl.Series("month_id", month_of_times(frame["valid_time"].to_numpy()))
        return frame.select(month, pl.all()), repairs, provenance(read_from)

    def _coarsener(self, field: WeatherField, edges: tuple[float, ...]) -> Coarsener:
        try:
            made = coarsener(self.grid, field.latitude, field.longitude, edges=edges, least_cover=1 - self.max_missing)
        except SourceError as error:
            raise SourceError(f"{field.path}: variable {field.array.name}: {error}") from error
        return made

    def _check_file(self, field: WeatherField) -> None:
        """SourceError where a file is not of the kind that the reader is for."""

    def _fields(self, files: Sequence[WeatherField], made: Coarsener, first: int, last: int) -> RainFields:
        require_stamped(files, self.stamped, self.interval)
        records = records_of(files)
        where = f"{files[0].path}: variable {files[0].array.name}"
        intervals = (
            differences(records, hours=self.interval, since=self.since, where=where)
            if self.accumulated
            else means(records, hours=self.interval, window=self._hours_between, stamped=self.stamped, where=where)
        )
        return RainFields(
            files=files,
            records=records,
            intervals=intervals.within(first, last),
            hours=self.interval,
            rows=made.rows,
            columns=made.columns,
            limits=RainLimits(self.tolerance, self.highest),
        )

    def _boxes(self, fields: RainFields, made: Coarsener, rows: "_Rows") -> Iterator[pl.DataFrame]:
        """Rows of each run of intervals, as its blocks come in."""
        blocks = read_ahead(fields.blocks())
        for which, of_run in groupby(blocks, key=lambda block: (int(block.which[0]), int(block.which[-1]))):
            sums = reduce(
                BoxSums.plus,
                (
                    made.sums(block.fields.reshape(-1, *block.fields.shape[2:]), row=block.row, gaps=block.gaps)
                    for block in of_run
                ),
            )
            times = fields.intervals.valid_time[which[0] : which[1] + 1]
            keys = {
                "valid_time": pl.Series(np.repeat(times, len(made.box_id))).cast(pl.Datetime("us")),
                "box_id": pl.Series(np.tile(made.box_id, len(times))),
            }
            members = len(sums.total) // len(times)
            yield pl.DataFrame(keys | rows(rain_of(sums, self.max_missing), members))


_Rows = Callable[[BoxRain, int], dict[str, pl.Series]]
"""Columns of the table from rain of T * K fields, members varying fastest, and K."""


class RainFiles(_Rain):
    """Observed, analysed or finely modelled rain, coarsened to fractions of boxes by band."""

    kind: Literal["rain_files"] = "rain_files"
    edges: tuple[float, ...] = Field(
        default=EDGES, min_length=1, description="Lower edges of all bands but the first, mm/h."
    )

    @model_validator(mode="after")
    def _edges_ascend(self) -> Self:
        if self.edges[0] <= 0 or (np.diff(self.edges) <= 0).any():
            raise ValueError(f"edges must be positive and ascend, got {list(self.edges)}")
        return self

    def read(self, first: int, last: int) -> RawMonths:
        """Rain of months `first..last` (month ids, inclusive), sorted by time and box.

        Columns as `month_id`, `valid_time` (end of the interval), `box_id`, `fractions` (List(f32), B), `rain_mean` and
        `rain_max` (mm/h), all null where more than `max_missing` of the box is, and `missing`. Repairs:
        `times_missing`, `intervals_incomplete`, `values_of_older_runs`, `negatives_set_to_0` (fine pixels),
        `boxes_in_two_domains` (rows).

        Raises:
            SourceError: a file, coordinate, unit or value is not what the settings say, a time comes twice, or a month
                has no time.
        """
        frame, repairs, read_from = self._read(first, last, None, self.edges, _fraction_rows)
        return RawMonths(frame=frame, repairs=repairs, provenance=read_from)

    def _variables(self) -> Sequence[tuple[FileVariable, str | None]]:
        return [(self.rain, None)]

    def _check_file(self, field: WeatherField) -> None:
        require_not_coarser(self.grid, field, "there is nothing to take fractions of: use larger boxes, or finer rain")


class MemberFiles(_Rain):
    """Box means of the rain that each member of a numerical weather prediction had."""

    kind: Literal["member_files"] = "member_files"
    members: int = Field(default=1, ge=1, description="How many members the files have.")
    dimension: str = Field(
        default="number", description="The files' dimension of members; files without it have one member."
    )

    def read(self, first: int, last: int) -> RawMonths:
        """Members of months `first..last` (month ids, inclusive), sorted by time and box.

        Columns as `month_id`, `valid_time` (end of the interval), `box_id` and `members` (List(f32), M, mm/h), null
        where more than `max_missing` of the box is missing in any member. Repairs as in `RainFiles.read`.

        Raises:
            SourceError: as in `RainFiles.read`, or the files have another number of members.
        """
        frame, repairs, read_from = self._read(first, last, self.dimension, (), _member_rows)
        return RawMonths(frame=frame.drop("missing"), repairs=repairs, provenance=read_from)

    def _variables(self) -> Sequence[tuple[FileVariable, str | None]]:
        return [(self.rain, self.dimension)]

    def _check_file(self, field: WeatherField) -> None:
        found = 1 if field.axes.extra is None else field.array.sizes[field.axes.extra]
        if found != self.members:
            raise SourceError(
                f"{field.path}: variable {field.array.name} has {found} members, and `members` says {self.members}; "
                "what is fitted on one ensemble cannot use another: make a source of each"
            )


def _fraction_rows(rain: BoxRain, members: int) -> dict[str, pl.Series]:
    bands = rain.fractions.shape[-1]
    known = pl.Series(np.isfinite(rain.mean).reshape(-1))
    columns = pl.DataFrame(
        {
            "fractions": as_lists("fractions", rain.fractions.reshape(-1, bands)),
            "rain_mean": rain.mean.reshape(-1),
            "rain_max": rain.highest.reshape(-1),
        }
    ).select(pl.when(known).then(pl.all()))
    return {**columns.to_dict(), "missing": pl.Series(rain.missing.reshape(-1))}


def _member_rows(rain: BoxRain, members: int) -> dict[str, pl.Series]:
    boxes = rain.mean.shape[1]
    means = rain.mean.reshape(-1, members, boxes).transpose(0, 2, 1).reshape(-1, members)
    missing = rain.missing.reshape(-1, members, boxes).max(axis=1).reshape(-1)
    known = pl.Series(np.isfinite(means).all(axis=1))
    lists = pl.select(members=pl.when(known).then(as_lists("members", means)))["members"]
    return {"members": lists, "missing": pl.Series(missing)}
