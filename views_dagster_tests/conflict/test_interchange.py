"""Forecasts to the VIEWS formats and back."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from views_dagster.conflict.interchange import (
    from_pred_columns,
    from_prediction_frame,
    to_pred_columns,
    to_prediction_frame,
)
from views_dagster.errors import ForecastError, PlatformError
from views_dagster.forecasts import Forecast


def forecast() -> Forecast:
    """Draw s of unit u at step k is 100 u + 10 k + s."""
    unit, step, draw = np.meshgrid([57, 99], [1, 2, 3], np.arange(4), indexing="ij")
    draws = (100 * unit + 10 * step + draw).astype(np.float32)
    return Forecast(origin=529, units=np.array([57, 99]), steps=np.array([1, 2, 3]), draws=draws)


def assert_same(one: Forecast, other: Forecast) -> None:
    assert one.origin == other.origin
    np.testing.assert_array_equal(one.units, other.units)
    np.testing.assert_array_equal(one.steps, other.steps)
    np.testing.assert_array_equal(one.draws, other.draws)


def test_list_columns_by_hand() -> None:
    rows = to_pred_columns(forecast(), level="cm", target="sb_best")
    assert rows.columns == ["month_id", "country_id", "pred_sb_best"]
    assert rows.schema["pred_sb_best"] == pl.List(pl.Float32)
    assert rows.row(0) == (530, 57, [5710, 5711, 5712, 5713])
    assert rows.row(1) == (530, 99, [9910, 9911, 9912, 9913])
    assert rows["month_id"].to_list() == [530, 530, 531, 531, 532, 532]
    assert to_pred_columns(forecast(), level="pgm", target="sb_best").columns[1] == "priogrid_gid"


def test_list_columns_come_back_in_any_order() -> None:
    rows = to_pred_columns(forecast(), level="cm", target="sb_best").sample(fraction=1, shuffle=True, seed=1)
    assert_same(from_pred_columns(rows, origin=529, level="cm", target="sb_best"), forecast())


def test_a_pandas_index_survives_parquet(tmp_path: Path) -> None:
    rows = to_pred_columns(forecast(), level="cm", target="sb_best")
    frame = rows.to_pandas().set_index(["month_id", "country_id"])
    frame.to_parquet(tmp_path / "predictions.parquet")
    stored = pl.read_parquet(tmp_path / "predictions.parquet")
    assert_same(from_pred_columns(stored, origin=529, level="cm", target="sb_best"), forecast())


def test_rows_that_are_no_forecast_are_refused() -> None:
    rows = to_pred_columns(forecast(), level="cm", target="sb_best")
    with pytest.raises(ForecastError, match="no column pred_ns_best"):
        from_pred_columns(rows, origin=529, level="cm", target="ns_best")
    with pytest.raises(ForecastError, match="month 530, which is not after its origin 530"):
        from_pred_columns(rows, origin=530, level="cm", target="sb_best")
    with pytest.raises(ForecastError, match="each pair must appear once"):
        from_pred_columns(rows.head(5), origin=529, level="cm", target="sb_best")
    with pytest.raises(ForecastError, match="level 'country'"):
        to_pred_columns(forecast(), level="country", target="sb_best")


def test_prediction_frames_come_back() -> None:
    pytest.importorskip("views_frames", reason="views-frames is not installed")
    frame = to_prediction_frame(forecast(), model="a_model", level="cm")
    assert frame.values.shape == (6, 4)
    assert frame.index.level.value == "cm"
    assert frame.index.time.tolist() == [530, 530, 531, 531, 532, 532]
    assert frame.index.unit.tolist() == [57, 99] * 3
    assert frame.metadata.model == "a_model"
    assert_same(from_prediction_frame(frame, origin=529), forecast())
    assert_same(from_prediction_frame(frame.select(np.arange(6)[::-1]), origin=529), forecast())


def test_without_views_frames_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "views_frames", None)
    with pytest.raises(PlatformError, match="pip install 'views-frames"):
        to_prediction_frame(forecast(), model="a_model", level="cm")
