"""The forecast contract: what is refused, and that rows and draws are the same thing."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from views_dagster.errors import ForecastError
from views_dagster.forecasts import FORECAST_SCHEMA, Forecast


def forecast(units: int = 2, steps: int = 3, draws: int = 4, seed: int = 0) -> Forecast:
    values = np.random.default_rng(seed).gamma(0.5, 10, (units, steps, draws)).astype(np.float32)
    return Forecast(origin=529, units=np.arange(units) * 7 + 1, steps=np.arange(1, steps + 1), draws=values)


def rows(made: Forecast) -> pl.DataFrame:
    return made.to_frame(model="m", level="cm", target="y")


def test_rows_of_a_forecast() -> None:
    made = Forecast(
        origin=529,
        units=np.array([5, 9]),
        steps=np.array([1, 2]),
        draws=np.array([[[0, 2], [1, 1]], [[3, 4], [0, 0]]], dtype=np.float32),
    )
    frame = rows(made)
    assert dict(frame.schema) == dict(FORECAST_SCHEMA)
    assert frame.select("unit_id", "step", "target_month", "mean", "draws").rows() == [
        (5, 1, 530, 1.0, [0.0, 2.0]),
        (5, 2, 531, 1.0, [1.0, 1.0]),
        (9, 1, 530, 3.5, [3.0, 4.0]),
        (9, 2, 531, 0.0, [0.0, 0.0]),
    ]
    assert frame.select("month_id", "model", "level", "target").unique().rows() == [(529, "m", "cm", "y")]


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**31))
def test_rows_round_trip_in_any_order(units: int, steps: int, draws: int, seed: int) -> None:
    made = forecast(units, steps, draws, seed)
    back = Forecast.from_frame(rows(made).sample(fraction=1.0, shuffle=True, seed=seed))
    assert back.origin == made.origin
    for name in ("units", "steps", "draws"):
        np.testing.assert_array_equal(getattr(back, name), getattr(made, name))


def test_mean_is_summed_in_double_precision() -> None:
    # In single precision 2**24 + 1 is 2**24.
    draws = np.array([[[2**24, 1, 1]]], dtype=np.float32)
    made = Forecast(origin=529, units=np.array([1]), steps=np.array([1]), draws=draws)
    assert made.mean[0, 0] == (2**24 + 2) / 3


@pytest.mark.parametrize(
    ("value", "problem"), [(np.nan, "not finite"), (np.inf, "not finite"), (-0.5, "negative")], ids=str
)
def test_values_that_no_forecast_may_hold(value: float, problem: str) -> None:
    draws = forecast().draws.copy()
    draws[1, 2, 0] = value
    with pytest.raises(ForecastError, match=f"1 draws are {problem}, first for unit 8 at step 3 from 2024-01"):
        Forecast(origin=529, units=np.array([1, 8]), steps=np.array([1, 2, 3]), draws=draws)


@pytest.mark.parametrize("shape", [(3, 3, 4), (2, 2, 4), (2, 3, 0), (2, 3)])
def test_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ForecastError, match="expected"):
        Forecast(origin=529, units=np.array([1, 8]), steps=np.array([1, 2, 3]), draws=np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.slice(1), "each pair must appear once"),
        (lambda frame: pl.concat([frame, frame.head(1)]), "each pair must appear once"),
        (lambda frame: pl.concat([frame.slice(1), frame.slice(1, 1)]), "each pair must appear once"),
        (lambda frame: frame.with_columns(pl.col("target_month") + 1), "target_month is not month_id"),
        (lambda frame: pl.concat([frame, rows(forecast()).with_columns(model=pl.lit("n"))]), "rows of one model"),
        (lambda frame: frame.with_columns(month_id=pl.col("step").cast(pl.Int32)), "rows of one month_id"),
        (
            lambda frame: frame.with_columns(
                pl.when(pl.col("step") == 2).then(pl.col("draws").list.head(3)).otherwise("draws").alias("draws")
            ),
            r"rows with \[3, 4\] draws",
        ),
        (lambda frame: frame.with_columns(draws=pl.lit(None, pl.List(pl.Float32))), "draws; all must have the same"),
        (lambda frame: frame.with_columns(draws=pl.col("draws").list.eval(pl.element() - 1e6)), "negative"),
        (
            lambda frame: frame.with_columns(
                draws=pl.col("draws").list.eval(pl.when(pl.element() > 0).then(None).otherwise(0.0))
            ),
            "not finite",
        ),
    ],
    ids=["missing", "repeated", "both", "target month", "models", "months", "unequal", "null", "negative", "null draw"],
)
def test_rows_that_are_no_forecast(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(ForecastError, match=message):
        Forecast.from_frame(change(rows(forecast())))
