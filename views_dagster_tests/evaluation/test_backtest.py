"""Backtests: out of sample by construction, beside the right observations, and stored in stable bytes."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import polars as pl
import pytest

from views_dagster.errors import ArtifactError, PanelError
from views_dagster.evaluation.backtest import BACKTEST_SCHEMA, backtest, from_bytes, summarise, to_bytes
from views_dagster.forecasts import Forecast
from views_dagster.learners.base import FittedModel, Learner
from views_dagster.panel import Panel

FIRST = 121


class FittedLastValue(FittedModel):
    """Forecasts the last observed value plus the number of months seen in training, so that a test can tell both."""

    def __init__(self, months: int, steps: Sequence[int]) -> None:
        self.months = months
        self.steps = np.array(steps)

    def predict(self, panel: Panel, *, draws: int, seed: int) -> Forecast:
        last = panel.target[-1, panel.current]
        values = np.broadcast_to(last[:, None, None], (len(last), len(self.steps), draws)) + self.months
        return Forecast(
            origin=panel.origin, units=panel.units[panel.current], steps=self.steps, draws=values.astype(np.float32)
        )

    def to_files(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "FittedLastValue":
        raise NotImplementedError


class LastValue(Learner):
    """A learner that refuses fewer than `needs` months."""

    kind: Literal["last_value"] = "last_value"
    needs: int = 1

    def fit(self, panel: Panel, *, steps: Sequence[int], seed: int) -> FittedLastValue:
        if len(panel.months) < self.needs:
            raise PanelError(f"{len(panel.months)} months are too few")
        return FittedLastValue(len(panel.months), steps)

    def fitted_type(self) -> type[FittedModel]:
        return FittedLastValue


def panel(months: int = 100) -> Panel:
    """Three units: unit 1 all along, unit 5 until index 80, unit 9 from index 70; y = 1000 * unit + index."""
    index = np.arange(months)
    exists = np.stack([index >= 0, index <= 80, index >= 70], axis=1)
    units = np.array([1, 5, 9])
    target = np.where(exists, 1000.0 * units + index[:, None], np.nan).astype(np.float32)
    return Panel(
        months=(FIRST + index).astype(np.int32),
        units=units,
        exists=exists,
        features=target[:, :, None],
        feature_names=("x",),
        target=target,
        target_name="y",
    )


def run(learner: Learner | None = None, known: Panel | None = None, **settings: object) -> pl.DataFrame:
    defaults: dict[str, object] = {"model": "a_model", "level": "cm", "draws": 4, "seed": 1}
    return backtest(learner or LastValue(), known or panel(), **{**defaults, **settings})  # type: ignore[arg-type]


def test_rows_are_forecasts_from_the_origin_beside_what_came_after() -> None:
    rows = run(origins_back=[12], steps=[1, 12])
    assert rows.schema == pl.Schema(BACKTEST_SCHEMA)
    # The panel's last index is 99, so the origin is index 87; unit 5 is gone. Training saw 88 months.
    assert rows.select("month_id", "unit_id", "step", "target_month", "mean", "observed").rows() == [
        (FIRST + 87, 1, 1, FIRST + 88, 1087 + 88, 1088),
        (FIRST + 87, 1, 12, FIRST + 99, 1087 + 88, 1099),
        (FIRST + 87, 9, 1, FIRST + 88, 9087 + 88, 9088),
        (FIRST + 87, 9, 12, FIRST + 99, 9087 + 88, 9099),
    ]
    assert rows["draws"].list.len().unique().to_list() == [4]
    assert rows.select("model", "level", "target").unique().rows() == [("a_model", "cm", "y")]


def test_units_that_vanish_before_the_target_month_are_left_out() -> None:
    # From index 79, unit 5 is there at step 1 (index 80) and gone at step 3.
    rows = run(origins_back=[20], steps=[1, 3])
    assert rows.filter(pl.col("unit_id") == 5)["step"].to_list() == [1]
    assert rows.filter(pl.col("unit_id") == 9)["step"].to_list() == [1, 3]


def test_steps_beyond_the_last_observed_month_are_left_out() -> None:
    rows = run(origins_back=[2, 6], steps=[1, 3, 6, 12])
    steps = rows.group_by("month_id").agg(pl.col("step").unique().sort()).sort("month_id")
    assert steps.rows() == [(FIRST + 93, [1, 3, 6]), (FIRST + 97, [1])]


def test_nothing_after_the_origin_is_read() -> None:
    known = panel()
    poisoned = panel()
    poisoned.features[88:] = 1e30
    poisoned.target[88:] = 1e30
    settings = {"origins_back": [12], "steps": [1, 6]}
    clean, dirty = run(known=known, **settings), run(known=poisoned, **settings)
    assert clean.drop("observed").equals(dirty.drop("observed"))
    assert (dirty["observed"] == np.float32(1e30)).all()


def test_origins_with_too_little_history_are_left_out() -> None:
    # 100 months: 36 months back leaves 64, 48 back leaves 52.
    rows = run(origins_back=[36, 48], steps=[1], least_history=60)
    assert rows["month_id"].unique().to_list() == [FIRST + 63]
    none = run(known=panel(40), least_history=60)
    assert none.is_empty()
    assert none.schema == pl.Schema(BACKTEST_SCHEMA)


def test_a_learner_that_cannot_be_fitted_is_not_skipped() -> None:
    with pytest.raises(PanelError, match="88 months are too few"):
        run(LastValue(needs=90), origins_back=[12], steps=[1])


def test_bytes_are_stable_and_come_back() -> None:
    rows = run()
    assert from_bytes(to_bytes(rows)).equals(rows)
    assert to_bytes(rows) == to_bytes(run())
    assert from_bytes(to_bytes(run(known=panel(40)))).is_empty()


@pytest.mark.parametrize("data", [b"", b"not parquet", to_bytes(pl.DataFrame({"a": [1]}))])
def test_bytes_that_are_no_backtest_are_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="materialise the artifact again"):
        from_bytes(data)


def scored(draws: list[list[float]], observed: list[float]) -> dict[str, float]:
    cases = len(observed)
    return summarise(
        pl.DataFrame(
            {
                "month_id": [500] * cases,
                "model": ["a_model"] * cases,
                "level": ["cm"] * cases,
                "unit_id": list(range(cases)),
                "step": [1] * cases,
                "target": ["y"] * cases,
                "target_month": [501] * cases,
                "mean": [float(np.mean(row)) for row in draws],
                "draws": draws,
                "observed": observed,
            },
            schema=BACKTEST_SCHEMA,
        )
    )


def test_summary_by_hand() -> None:
    # CRPS of a point is the absolute error: 1 and 3; of zero it is the observation: 4 and 0.
    metrics = scored([[3, 3], [3, 3]], [4, 0])
    assert metrics == pytest.approx(
        {
            "cases": 2,
            "coverage_90": 0,
            "mean_forecast": 3,
            "mean_observed": 2,
            "crps": 2,
            "skill": 0,
            "crps_log1p": (np.log(5 / 4) + np.log(4)) / 2,
            "skill_log1p": 1 - (np.log(5 / 4) + np.log(4)) / np.log(5),
        }
    )


def test_a_perfect_forecast_has_skill_one_and_covers_everything() -> None:
    metrics = scored([[4, 4], [0, 0]], [4, 0])
    assert (metrics["skill"], metrics["coverage_90"], metrics["crps"]) == (1, 1, 0)


def test_skill_is_left_out_where_nothing_was_observed() -> None:
    metrics = scored([[1, 1]], [0])
    assert "skill" not in metrics
    assert metrics["crps"] == 1
    assert all(np.isfinite(value) for value in metrics.values())


def test_no_rows_have_no_summary() -> None:
    assert summarise(pl.DataFrame(schema=BACKTEST_SCHEMA)) == {}
