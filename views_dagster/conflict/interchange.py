"""Forecasts to and from the formats of the VIEWS ecosystem: `pred_<target>` list columns and PredictionFrames.

Both name a row by the predicted month and the unit; neither says from which month it was predicted, so whoever reads
one has to know the origin.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import describe_months, to_key
from views_dagster.errors import ForecastError, PlatformError, SourceError
from views_dagster.forecasts import Forecast
from views_dagster.names import listed
from views_dagster.sources.files import digest

FileFormat = Literal["pred_columns", "prediction_frame"]
UNIT_COLUMNS: Final = {"cm": ("country_id",), "pgm": ("priogrid_gid", "priogrid_id")}
"""What the layout calls the unit; the first name is written, each is read."""

MONTH_PLACEHOLDER: Final = "{month}"
"""Stands in the path of a forecast's file for the partition key of its origin."""

_FRAME_FILES: Final = ("header.json", "identifiers.npz", "values.npy")


def to_pred_columns(forecast: Forecast, *, level: str, target: str) -> pl.DataFrame:
    """Rows `month_id` (the predicted month), `country_id` or `priogrid_gid`, and `pred_<target>`, a list of draws.

    Sorted by month, then unit: the index of the layout. Another target's frame is joined on these two columns.

    Raises:
        ForecastError: an unknown level.
    """
    month, unit, draws = _time_major(forecast)
    values = pl.Series(draws, dtype=pl.Array(pl.Float32, draws.shape[1]))
    return pl.DataFrame({"month_id": month, _unit_columns(level)[0]: unit, f"pred_{target}": values.arr.to_list()})


def from_pred_columns(rows: pl.DataFrame, *, origin: int, level: str, target: str) -> Forecast:
    """Undo `to_pred_columns`, rows in any order; `origin` is the last month that the forecast had seen.

    Raises:
        ForecastError: a missing column, a month that is not after the origin, or rows that break the forecast contract.
    """
    return _from_rows(*_pred_rows(rows, level, target), origin=origin)


def to_prediction_frame(forecast: Forecast, *, model: str, level: str) -> Any:
    """A `views_frames.PredictionFrame` (views-frames 2): (months x units, draws), sorted by month, then unit.

    Raises:
        ForecastError: an unknown level.
        PlatformError: views-frames is not installed.
    """
    frames = _views_frames()
    _unit_columns(level)
    month, unit, draws = _time_major(forecast)
    index = frames.SpatioTemporalIndex(time=month, unit=unit, level=frames.SpatialLevel(level))
    return frames.PredictionFrame(draws, index, frames.FrameMetadata(model=model))


def from_prediction_frame(frame: Any, *, origin: int) -> Forecast:
    """Undo `to_prediction_frame`, rows in any order; `origin` is the last month that the forecast had seen.

    Raises:
        ForecastError: a month that is not after the origin, or rows that break the forecast contract.
    """
    return _from_rows(*_frame_rows(frame), origin=origin)


def read_forecast(
    path: Path,
    format: FileFormat,
    *,
    origin: int,
    level: str,
    target: str,
    units: NDArray[np.int64],
    steps: Sequence[int],
    draws: int,
    origin_column: str | None = None,
) -> tuple[Forecast, str]:
    """Somebody's forecast from a file, and the SHA-256 of what was read.

    Args:
        path: a Parquet file of `pred_<target>`, a list of draws or one number, or a folder that a PredictionFrame was
            saved to.
        units, steps, draws: what it must hold, no more and no less.
        origin_column: column of `pred_columns` with the month id of each row's origin, where one file holds several.

    Raises:
        SourceError: the file is absent or damaged, or has no rows from this origin.
        ForecastError: a missing column, unknown or missing units, missing or surplus months, repeated rows, another
            number of draws, a null, NaN, infinite or negative draw. Each is named.
    """
    if not path.exists():
        raise SourceError(
            f"there is no forecast from {to_key(origin)} at {path}, which is relative to {Path.cwd()}; put it there "
            "and materialise again, correct the path, or set the maturity to retired"
        )
    if format == "prediction_frame":
        frame = _load_frame(path)
        if frame.index.level.value != level:
            raise ForecastError(f"{path} is at level {frame.index.level.value}, expected {level}")
        month, unit, values = _frame_rows(frame)
        found = hashlib.sha256("".join(digest(path / name) for name in _FRAME_FILES).encode()).hexdigest()
    else:
        try:
            rows = _of_origin(pl.read_parquet(path), path, origin, origin_column)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{path} is no Parquet file of forecasts: {error}") from error
        try:
            month, unit, values = _pred_rows(rows, level, target)
        except ForecastError as error:
            raise ForecastError(f"{path}: {error}") from None
        found = digest(path)
    try:
        _require_coverage(month, unit, origin=origin, units=units, steps=steps)
        forecast = _from_rows(month, unit, values, origin=origin)
    except ForecastError as error:
        raise ForecastError(f"{path}: {error}") from None
    if forecast.draws.shape[2] != draws:
        raise ForecastError(f"{path} has {forecast.draws.shape[2]} draws, expected {draws}; set `draws` to what it has")
    return forecast, found


def _of_origin(rows: pl.DataFrame, path: Path, origin: int, column: str | None) -> pl.DataFrame:
    """The rows made from `origin`."""
    if column is None:
        return rows
    if column not in rows.columns or not rows[column].dtype.is_integer():
        raise ForecastError(
            f"{path} has no column {column} of month ids, which says from which month a row was predicted; it has "
            f"{', '.join(rows.columns)}. Name the column, or write {MONTH_PLACEHOLDER} in the path"
        )
    chosen = rows.filter(pl.col(column) == origin)
    if chosen.is_empty():
        there = describe_months(rows[column].drop_nulls().unique().to_list()) or "no month"
        raise SourceError(f"{path} has no forecast from {to_key(origin)}, but from {there}; add it to the file")
    return chosen


def _load_frame(path: Path) -> Any:
    frames = _views_frames()
    try:
        return frames.PredictionFrame.load(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{path} is no folder that a PredictionFrame was saved to ({', '.join(_FRAME_FILES)}): {error}"
        ) from error


def _require_coverage(
    month: NDArray[np.int64], unit: NDArray[np.int64], *, origin: int, units: NDArray[np.int64], steps: Sequence[int]
) -> None:
    """Refuse rows that are not each of `units` in each of the months `origin` + `steps` once."""
    months = origin + np.asarray(steps, dtype=np.int64)
    problems = []
    if len(unknown := np.setdiff1d(unit, units)):
        problems.append(f"{len(unknown)} units that do not exist in {to_key(origin)}: {listed(unknown)}")
    if len(missing := np.setdiff1d(units, unit)):
        problems.append(f"no row of {len(missing)} units: {listed(missing)}")
    if len(surplus := np.setdiff1d(month, months)):
        problems.append(f"months that are not asked for: {describe_months(surplus.tolist())}")
    if len(absent := np.setdiff1d(months, month)):
        problems.append(f"no row of {describe_months(absent.tolist())}")
    if not problems:
        pairs, times = np.unique(np.stack([month, unit]), axis=1, return_counts=True)
        twice, whole = pairs[:, times > 1], len(units) * len(months)
        if twice.size:
            problems.append(f"{twice.shape[1]} repeated rows, first unit {twice[1, 0]} in {to_key(int(twice[0, 0]))}")
        elif pairs.shape[1] < whole:
            there = np.zeros((len(months), len(units)), dtype=bool)
            there[np.searchsorted(months, month), np.searchsorted(np.sort(units), unit)] = True
            first = np.argwhere(~there)[0]
            problems.append(
                f"{whole - pairs.shape[1]} missing rows, first unit {np.sort(units)[first[1]]} "
                f"in {to_key(int(months[first[0]]))}"
            )
    if problems:
        raise ForecastError(
            f"the forecast has {'; '.join(problems)}. It must have each of the {len(units)} units of "
            f"{to_key(origin)} in each of {describe_months(months.tolist())} once"
        )


def _pred_rows(rows: pl.DataFrame, level: str, target: str) -> tuple[NDArray[np.int64], NDArray[np.int64], pl.Series]:
    """(predicted month, unit, list of draws) of each row of the layout."""
    names = _unit_columns(level)
    units = [name for name in names if name in rows.columns]
    values = f"pred_{target}"
    missing = [name for name in ("month_id", values) if name not in rows.columns]
    missing += [] if units else [" or ".join(names)]
    if missing:
        raise ForecastError(f"the rows have no column {', '.join(missing)}; they have {', '.join(rows.columns)}")
    keys = rows.select("month_id", units[0])
    if odd := [name for name, dtype in keys.schema.items() if not dtype.is_integer() or keys[name].null_count()]:
        raise ForecastError(f"{' and '.join(odd)} must hold whole numbers, and no nulls")
    draws = rows[values]
    if not isinstance(draws.dtype, pl.List | pl.Array):
        draws = draws.reshape((-1, 1)).arr.to_list() if len(draws) else draws.cast(pl.List(draws.dtype))
    elif isinstance(draws.dtype, pl.Array):
        draws = draws.arr.to_list()
    inner = draws.dtype.inner if isinstance(draws.dtype, pl.List) else None
    if inner is None or not inner.is_numeric():
        raise ForecastError(f"{values} holds {rows[values].dtype}; write numbers, or lists of them")
    month, unit = (keys[name].cast(pl.Int64).to_numpy() for name in keys.columns)
    return month, unit, draws


def _frame_rows(frame: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], pl.Series]:
    """(predicted month, unit, list of draws) of each row of a PredictionFrame."""
    values = np.asarray(frame.values)
    draws = pl.Series(values, dtype=pl.Array(pl.Float32, values.shape[1])).arr.to_list()
    return np.asarray(frame.index.time), np.asarray(frame.index.unit), draws


def _time_major(forecast: Forecast) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """(predicted month, unit, draws) of each row, by month, then unit."""
    units, steps, draws = forecast.draws.shape
    month = np.repeat(forecast.origin + forecast.steps, units)
    return month, np.tile(forecast.units, steps), forecast.draws.transpose(1, 0, 2).reshape(-1, draws)


def _from_rows(month: NDArray[np.int64], unit: NDArray[np.int64], draws: pl.Series, *, origin: int) -> Forecast:
    if (month <= origin).any():
        raise ForecastError(f"the forecast predicts month {int(month.min())}, which is not after its origin {origin}")
    columns = {"unit_id": unit, "step": month - origin, "target_month": month, "draws": draws}
    return Forecast.from_frame(
        pl.DataFrame(columns).with_columns(
            pl.lit(origin, pl.Int32).alias("month_id"),
            pl.col("target_month").cast(pl.Int32),
            *(pl.lit("imported").alias(name) for name in ("model", "level", "target")),
        )
    )


def _unit_columns(level: str) -> tuple[str, ...]:
    if level not in UNIT_COLUMNS:
        raise ForecastError(f"the level {level!r} has no such layout; there are {', '.join(UNIT_COLUMNS)}")
    return UNIT_COLUMNS[level]


def _views_frames() -> ModuleType:
    from importlib import import_module

    try:
        return import_module("views_frames")
    except ModuleNotFoundError as error:
        raise PlatformError(
            "PredictionFrames need the package views-frames; pip install 'views-frames>=2,<3'"
        ) from error
