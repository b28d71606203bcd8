"""Computing a column set: raw columns brought to common levels, each beside its rain and what NWP members said.

One month is in memory at a time beside the result: the profiles of a month are large, and no row needs another month.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import describe_months, to_key
from views_dagster.errors import MissingMonthsError, QuerysetError, SourceError
from views_dagster.precipitation.boxes import BoxGrid
from views_dagster.precipitation.column_arrays import as_lists, padded, profile
from views_dagster.precipitation.column_sets import (
    KEYS,
    LEVELS,
    MEMBERS,
    PLACE,
    RAIN,
    WIND_NAMES,
    ColumnSet,
    Wind,
    WindFromDirection,
)
from views_dagster.precipitation.levels import Interpolated, implausible, interpolate
from views_dagster.precipitation.member_means import member_means
from views_dagster.precipitation.raw_checks import (
    BOX,
    Agreement,
    checked_members,
    checked_rain,
    common_levels,
    require_distinct,
    require_fields,
    require_same_places,
)

EASTWARD, NORTHWARD, SPEED = WIND_NAMES


@dataclass(frozen=True)
class ColumnReport:
    """What computing a column set did, in rows, for the months that were asked for.

    Attributes:
        rows: rows returned.
        without_rain: of these, rows whose rain is not known.
        rain_without_columns: rows of rain at whose box and time there is no column.
        without_members: rows returned without NWP members, where the set has a source of them.
        held_below, held_above: rows returned in which a level below (above) the row's own took the nearest value.
        dropped_below, dropped_above: rows dropped because that would have been further than `extrapolate`.
        dropped_incomplete: rows dropped because a variable has no value (at no level, for a profile).
        incomplete: `{field of the source: dropped rows that lack it}`; a row may lack several.
        bridged: rows returned in which some level lacked a value and was interpolated from its neighbours.
        reversed: rows whose levels came from the top down.
    """

    rows: int = 0
    without_rain: int = 0
    rain_without_columns: int = 0
    without_members: int = 0
    held_below: int = 0
    held_above: int = 0
    dropped_below: int = 0
    dropped_above: int = 0
    dropped_incomplete: int = 0
    incomplete: Mapping[str, int] = field(default_factory=dict)
    bridged: int = 0
    reversed: int = 0

    def __add__(self, other: "ColumnReport") -> "ColumnReport":
        names = {**self.incomplete, **other.incomplete}
        both = {name: self.incomplete.get(name, 0) + other.incomplete.get(name, 0) for name in names}
        counts = {key: count for key, count in vars(self).items() if key != "incomplete"}
        summed: dict[str, Any] = {key: count + vars(other)[key] for key, count in counts.items()}
        return ColumnReport(incomplete=both, **summed)


def compute(
    settings: ColumnSet,
    columns: pl.LazyFrame,
    rain: pl.LazyFrame,
    members: pl.LazyFrame | None,
    first: int,
    last: int,
    grid: BoxGrid | None = None,
) -> tuple[pl.DataFrame, ColumnReport]:
    """The rows of months `first..last` (month ids, inclusive), one for each column, and what was done to them.

    Args:
        columns, rain, members: stored raw rows of the sources; of months before `first` only the newest is looked at,
            so that a lattice, levels or an ensemble that changed is noticed.
        grid: the lattice of the boxes, which `member_means` need.

    Returns:
        Rows sorted by time and box: `month_id`, `valid_time`, `box_id`, `latitude`, `longitude`, one List(Float32) per
        profile on common levels, `levels` (the same in every row), one Float32 per single-level field, `fractions`,
        `rain_mean`, `rain_max`, `missing` (null where rain is not known), `members` (null where absent) and, with
        `member_means`, those; rows without members are then dropped.

    Raises:
        MissingMonthsError: no columns in a month.
        QuerysetError: a field does not exist, or is not what it is named as.
        SourceError: rows are repeated; the lattice, as-is levels or the number of members change; bands are not those
            of `edges`; levels cannot be in the stated unit; no row of a month can be used.
    """
    require_fields(settings, columns.collect_schema())
    if (settings.members is None) != (members is None):
        raise QuerysetError("members: rows of a source of members belong to a column set that names one, and only then")
    wanted = pl.col("month_id").is_between(first, last)
    held = columns.filter(wanted).select(pl.col("month_id").unique()).collect()["month_id"]
    absent = sorted(set(range(first, last + 1)) - set(held.to_list()))
    if absent:
        raise MissingMonthsError(
            f"{settings.columns} has no columns in {describe_months(absent)}; materialise it first"
        )
    if settings.member_means and grid is None:
        raise QuerysetError("member_means: the lattice of the boxes is not given")
    agreement = Agreement.before(first, settings, columns, members)
    frames, report = [], ColumnReport()
    for month_id in range(first, last + 1):
        frame, done = _month(settings, columns, rain, members, month_id, agreement, grid)
        frames.append(frame)
        report += done
    return pl.concat(frames), report


def _month(
    settings: ColumnSet,
    columns: pl.LazyFrame,
    rain: pl.LazyFrame,
    members: pl.LazyFrame | None,
    month_id: int,
    agreement: Agreement,
    grid: BoxGrid | None,
) -> tuple[pl.DataFrame, ColumnReport]:
    month = pl.col("month_id") == month_id
    needed = [*KEYS, *PLACE, LEVELS, *settings.source_profiles, *settings.source_fields]
    raw = columns.filter(month).select(needed).collect().sort(BOX)
    require_distinct(raw, settings.columns, month_id)
    require_same_places(raw, settings, month_id, agreement)
    frame, report = _on_levels(settings, raw, month_id, agreement)
    observed = rain.filter(month).select(*BOX, *RAIN).collect()
    require_distinct(observed, settings.rain, month_id)
    unmatched = observed.join(raw.select(BOX), on=BOX, how="anti").height
    frame = frame.join(checked_rain(observed, settings, month_id), on=BOX, how="left", maintain_order="left")
    if members is None:
        frame = frame.with_columns(pl.lit(None, dtype=pl.List(pl.Float32)).alias(MEMBERS))
    else:
        name = str(settings.members)
        said = members.filter(month).select(*BOX, MEMBERS).collect()
        require_distinct(said, name, month_id)
        whole = checked_members(said, name, month_id, agreement)
        frame = frame.join(whole, on=BOX, how="left", maintain_order="left")
        if settings.member_means and grid is not None:
            means = member_means(whole, grid, settings.member_means)
            before = frame.height
            frame = frame.join(means, on=BOX, how="inner", maintain_order="left")
            lost = before - frame.height
            if frame.is_empty():
                raise SourceError(
                    f"{name} has members of no column of {to_key(month_id)}, and member_means are made of them; read "
                    "the source of that month again"
                )
            report += ColumnReport(dropped_incomplete=lost, incomplete={name: lost} if lost else {})
    return frame, report + ColumnReport(
        rows=frame.height,
        without_rain=frame["fractions"].null_count(),
        rain_without_columns=unmatched,
        without_members=0 if members is None else frame[MEMBERS].null_count(),
    )


def _on_levels(
    settings: ColumnSet, raw: pl.DataFrame, month_id: int, agreement: Agreement
) -> tuple[pl.DataFrame, ColumnReport]:
    """The rows that can be used, with their variables and levels; and what became of the others."""
    where = f"{settings.columns} in {to_key(month_id)}"
    own = padded(raw[LEVELS])
    profiles = {name: profile(raw[name], raw[LEVELS], where) for name in settings.source_profiles}
    numbers = {name: raw[name].cast(pl.Float32).fill_null(np.nan).to_numpy() for name in settings.source_fields}
    coordinate = profiles[settings.levels.from_] if settings.levels.from_ else own
    problem = implausible(coordinate, settings.levels.unit)
    if problem:
        raise SourceError(f"levels of {where}: {problem}; set the levels' unit, or `from` to a profile that has it")
    single = {name: numbers[source] for name, source in settings.surface.items()}
    single |= {f"surface_{name}": values for name, values in _wind(settings.surface_wind, numbers).items()}
    single |= {name: numbers[source] for name, source in settings.static.items()}
    deep = {name: own if source == LEVELS else profiles[source] for name, source in settings.profiles.items()}
    deep |= _wind(settings.wind, profiles)
    if settings.wind and settings.wind.keep_speed:
        del deep[SPEED]
    try:
        common = common_levels(settings, coordinate, agreement)
        brought = interpolate(np.stack([*deep.values()], axis=1), coordinate, common, unit=settings.levels.unit)
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from error
    lacking = brought.empty | (brought.bridged if settings.levels.values is None else False)
    for values in single.values():
        lacking |= ~np.isfinite(values)
    keep, report = _kept(settings, brought, lacking)
    report += ColumnReport(incomplete=_incomplete(settings, profiles, numbers, coordinate, lacking))
    if not keep.any():
        raise SourceError(_nothing_left(settings, report, where, len(keep)))
    values = brought.values if keep.all() else brought.values[keep]
    on_levels = {name: values[:, position] for position, name in enumerate(deep)}
    if settings.wind and settings.wind.keep_speed:
        # Of the interpolated components, so that the three agree.
        on_levels[SPEED] = np.hypot(on_levels[EASTWARD], on_levels[NORTHWARD])
    frame = raw.select(*KEYS, *PLACE).filter(keep)
    return frame.with_columns(
        *(as_lists(name, values) for name, values in on_levels.items()),
        as_lists(LEVELS, np.broadcast_to(common, (frame.height, len(common)))),
        *(pl.Series(name, values[keep]) for name, values in single.items()),
    ), report


def _wind(wind: Wind | None, fields: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Components towards east and north (and speed) by name; a calm has no direction and needs none."""
    if wind is None:
        return {}
    first, second = (fields[name] for name in wind.sources)
    if isinstance(wind, WindFromDirection):
        towards = np.radians(second) + np.float32(np.pi)
        eastward, northward = (np.where(first == 0, first, first * part(towards)) for part in (np.sin, np.cos))
    else:
        eastward, northward = first, second
    components = {EASTWARD: eastward, NORTHWARD: northward}
    return {**components, SPEED: np.hypot(eastward, northward)} if wind.keep_speed else components


def _kept(
    settings: ColumnSet, brought: Interpolated, lacking: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], ColumnReport]:
    below = ~lacking & (brought.below > settings.levels.extrapolate)
    above = ~lacking & (brought.above > settings.levels.extrapolate)
    keep = ~(lacking | below | above)
    return keep, ColumnReport(
        held_below=int((keep & (brought.below > 0)).sum()),
        held_above=int((keep & (brought.above > 0)).sum()),
        dropped_below=int(below.sum()),
        dropped_above=int(above.sum()),
        dropped_incomplete=int(lacking.sum()),
        bridged=int((keep & brought.bridged).sum()),
        reversed=int(brought.reversed.sum()),
    )


def _incomplete(
    settings: ColumnSet,
    profiles: Mapping[str, NDArray[np.float32]],
    numbers: Mapping[str, NDArray[np.float32]],
    coordinate: NDArray[np.float32],
    lacking: NDArray[np.bool_],
) -> dict[str, int]:
    """How many of the rows that were dropped for it lack each field: at every level, or at any where levels stay."""
    if not lacking.any():
        return {}
    of_levels = np.any if settings.levels.values is None else np.all
    there = np.isfinite(coordinate[lacking])
    rows = {name: of_levels(~np.isfinite(values[lacking]) | ~there, axis=1) for name, values in profiles.items()} | {
        name: ~np.isfinite(values[lacking]) for name, values in numbers.items()
    }
    return {name: int(where.sum()) for name, where in rows.items() if where.any()}


def _nothing_left(settings: ColumnSet, report: ColumnReport, where: str, rows: int) -> str:
    unit, reach = settings.levels.unit, settings.levels.extrapolate
    names = ", ".join(f"{name} in {count}" for name, count in report.incomplete.items())
    return (
        f"no column of {where} can be used: of {rows}, {report.dropped_incomplete} lack a value"
        f"{f' ({names})' if names else ''}, {report.dropped_below} begin more than {reach:g} {unit} above the lowest "
        f"level and {report.dropped_above} end as far below the highest; choose levels that the source has, or raise "
        "levels.extrapolate"
    )
