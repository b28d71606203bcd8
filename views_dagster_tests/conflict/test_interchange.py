"""Forecasts to the VIEWS formats and back."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from views_dagster.conflict.interchange import (
    from_pred_columns,
    from_prediction_frame,
    read_forecast,
    to_pred_columns,
    to_prediction_frame,
)
from views_dagster.errors import ForecastError, PlatformError, SourceError
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


def test_cells_are_read_under_both_names_of_their_ids() -> None:
    rows = to_pred_columns(forecast(), level="pgm", target="sb_best")
    assert_same(from_pred_columns(rows, origin=529, level="pgm", target="sb_best"), forecast())
    newer = rows.rename({"priogrid_gid": "priogrid_id"})
    assert_same(from_pred_columns(newer, origin=529, level="pgm", target="sb_best"), forecast())


class TestFiles:
    """Somebody's forecast of units 57 and 99, steps 1..3, in a file."""

    @pytest.fixture
    def rows(self) -> pl.DataFrame:
        return to_pred_columns(forecast(), level="cm", target="sb_best")

    @staticmethod
    def read(path: Path, rows: pl.DataFrame | None = None, **changes: Any) -> Forecast:
        if rows is not None:
            rows.write_parquet(path)
        expected = {"origin": 529, "level": "cm", "target": "sb_best", "steps": (1, 2, 3), "draws": 4}
        given = {**expected, "units": np.array([57, 99]), "format": "pred_columns", **changes}
        return read_forecast(path, **given)[0]

    def test_comes_back_with_the_digest_of_the_file(self, rows: pl.DataFrame, tmp_path: Path) -> None:
        file = tmp_path / "theirs.parquet"
        assert_same(self.read(file, rows.sample(fraction=1, shuffle=True, seed=2)), forecast())
        arguments: Any = {"origin": 529, "level": "cm", "target": "sb_best", "steps": (1, 2, 3), "draws": 4}
        found = read_forecast(file, "pred_columns", units=np.array([99, 57]), **arguments)
        assert found[1] == hashlib.sha256(file.read_bytes()).hexdigest()

    def test_a_point_forecast_is_one_draw(self, rows: pl.DataFrame, tmp_path: Path) -> None:
        means = rows.with_columns(pl.col("pred_sb_best").list.mean().cast(pl.Float64))
        read = self.read(tmp_path / "theirs.parquet", means, draws=1)
        np.testing.assert_allclose(read.draws[:, :, 0], forecast().mean)

    def test_one_file_may_hold_many_origins(self, rows: pl.DataFrame, tmp_path: Path) -> None:
        later = rows.with_columns(pl.col("month_id") + 1, pl.lit(530).alias("made_after"))
        both = pl.concat([rows.with_columns(pl.lit(529).alias("made_after")), later])
        file = tmp_path / "all.parquet"
        assert_same(self.read(file, both, origin_column="made_after"), forecast())
        assert self.read(file, origin_column="made_after", origin=530).origin == 530
        with pytest.raises(SourceError, match=r"no forecast from 2024-03, but from 2024-01..2024-02; add it"):
            self.read(file, origin_column="made_after", origin=531)
        with pytest.raises(ForecastError, match="no column origin of month ids"):
            self.read(file, origin_column="origin")

    def test_absent_and_damaged_files(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"no forecast from 2024-01 at .*none.parquet.*put it there"):
            self.read(tmp_path / "none.parquet")
        (tmp_path / "bad.parquet").write_text("not Parquet")
        with pytest.raises(SourceError, match=r"bad.parquet is no Parquet file of forecasts"):
            self.read(tmp_path / "bad.parquet")

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda rows: rows.with_columns(pl.col("country_id").replace(99, 100)), r"do not exist in 2024-01: 100; no row of 1 units: 99"),
            (lambda rows: rows.filter(pl.col("month_id") != 531), r"no row of 2024-03\. It must have each of the 2 units"),
            (lambda rows: rows.with_columns(pl.col("month_id") + 1), r"not asked for: 2024-05; no row of 2024-02"),
            (lambda rows: rows[:-1], r"1 missing rows, first unit 99 in 2024-04"),
            (lambda rows: pl.concat([rows, rows[2:3]]), r"1 repeated rows, first unit 57 in 2024-03"),
            (lambda rows: rows.with_columns(pl.lit([1.0, -2, 3, 4]).alias("pred_sb_best")), r"6 draws are negative, first for unit 57 at step 1"),
            (lambda rows: rows.with_columns(pl.lit([1.0, np.nan, 3, 4]).alias("pred_sb_best")), r"6 draws are not finite, first for unit 57"),
            (lambda rows: rows.with_columns(pl.lit([1.0, None, 3.0, 4.0]).alias("pred_sb_best")), r"6 draws are not finite, first for unit 57"),
            (lambda rows: rows.with_columns(pl.lit([1.0, 2.0]).alias("pred_sb_best")), r"has 2 draws, expected 4; set `draws`"),
            (lambda rows: rows.with_columns(pl.lit("much").alias("pred_sb_best")), r"holds String; write numbers, or lists"),
            (lambda rows: rows.with_columns(pl.col("country_id").cast(pl.Float64)), r"country_id must hold whole numbers"),
            (lambda rows: rows.with_columns(pl.lit(None, pl.Int64).alias("month_id")), r"month_id must hold whole numbers, and no nulls"),
            (lambda rows: rows.drop("country_id"), r"theirs.parquet: the rows have no column country_id; they have month_id, pred_sb_best"),
        ],
        ids=["unknown", "month gone", "shifted", "row gone", "twice", "negative", "nan", "null", "draws", "text", "float ids", "null month", "no ids"],
    )  # fmt: skip
    def test_rows_that_do_not_fit_are_named(
        self, rows: pl.DataFrame, tmp_path: Path, spoil: Callable[[pl.DataFrame], pl.DataFrame], message: str
    ) -> None:
        with pytest.raises(ForecastError, match=message):
            self.read(tmp_path / "theirs.parquet", spoil(rows))

    def test_saved_prediction_frames(self, tmp_path: Path) -> None:
        pytest.importorskip("views_frames", reason="views-frames is not installed")
        folder = tmp_path / "2024-01"
        to_prediction_frame(forecast(), model="a_model", level="cm").save(folder)
        assert_same(self.read(folder, format="prediction_frame"), forecast())
        with pytest.raises(ForecastError, match="is at level cm, expected pgm"):
            self.read(folder, format="prediction_frame", level="pgm")
        (folder / "values.npy").unlink()
        with pytest.raises(SourceError, match="no folder that a PredictionFrame was saved to"):
            self.read(folder, format="prediction_frame")
