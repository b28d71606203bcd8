"""Forecasts to and from the formats of the VIEWS ecosystem: `pred_<target>` list columns and PredictionFrames.

Both name a row by the predicted month and the unit; neither says from which month it was predicted, so whoever reads
one has to know the origin.
"""

from types import ModuleType
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.errors import ForecastError, PlatformError
from views_dagster.forecasts import Forecast

UNIT_COLUMNS: Final = {"cm": "country_id", "pgm": "priogrid_gid"}


def to_pred_columns(forecast: Forecast, *, level: str, target: str) -> pl.DataFrame:
    """Rows `month_id` (the predicted month), `country_id` or `priogrid_gid`, and `pred_<target>`, a list of draws.

    Sorted by month, then unit: the index of the layout. Another target's frame is joined on these two columns.

    Raises:
        ForecastError: an unknown level.
    """
    month, unit, draws = _time_major(forecast)
    values = pl.Series(draws, dtype=pl.Array(pl.Float32, draws.shape[1]))
    return pl.DataFrame({"month_id": month, _unit_column(level): unit, f"pred_{target}": values.arr.to_list()})


def from_pred_columns(rows: pl.DataFrame, *, origin: int, level: str, target: str) -> Forecast:
    """Undo `to_pred_columns`, rows in any order; `origin` is the last month that the forecast had seen.

    Raises:
        ForecastError: a missing column, a month that is not after the origin, or rows that break the forecast contract.
    """
    wanted = ["month_id", _unit_column(level), f"pred_{target}"]
    missing = [name for name in wanted if name not in rows.columns]
    if missing:
        raise ForecastError(f"the rows have no column {', '.join(missing)}; they have {', '.join(rows.columns)}")
    month, unit, draws = (rows[name] for name in wanted)
    return _from_rows(month.to_numpy(), unit.to_numpy(), draws, origin=origin)


def to_prediction_frame(forecast: Forecast, *, model: str, level: str) -> Any:
    """A `views_frames.PredictionFrame` (views-frames 2): (months x units, draws), sorted by month, then unit.

    Raises:
        ForecastError: an unknown level.
        PlatformError: views-frames is not installed.
    """
    frames = _views_frames()
    _unit_column(level)
    month, unit, draws = _time_major(forecast)
    index = frames.SpatioTemporalIndex(time=month, unit=unit, level=frames.SpatialLevel(level))
    return frames.PredictionFrame(draws, index, frames.FrameMetadata(model=model))


def from_prediction_frame(frame: Any, *, origin: int) -> Forecast:
    """Undo `to_prediction_frame`, rows in any order; `origin` is the last month that the forecast had seen.

    Raises:
        ForecastError: a month that is not after the origin, or rows that break the forecast contract.
    """
    values = np.asarray(frame.values)
    draws = pl.Series(values, dtype=pl.Array(pl.Float32, values.shape[1])).arr.to_list()
    return _from_rows(frame.index.time, frame.index.unit, draws, origin=origin)


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


def _unit_column(level: str) -> str:
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
