import polars as pl
import pytest

from views_dagster.drift.outputs import VALIDITY_CHECKS, check_output_validity, largest_observed
from views_dagster.drift.results import CheckResult
from views_dagster.drift.selftest import DRAWS, MONTH, STEPS, TARGET, UNITS, good_forecast
from views_dagster.drift.settings import OutputValiditySettings
from views_dagster.errors import ForecastError, PanelError

HISTORY = pl.DataFrame({"month_id": [MONTH - 1, MONTH, MONTH + 1], TARGET: [400, 20, 10**9]})


def run(forecast: pl.DataFrame, history: pl.DataFrame = HISTORY, **kwargs: object) -> dict[str, CheckResult]:
    expected: dict[str, object] = {"units": range(1, UNITS + 1), "steps": STEPS, "draws": DRAWS} | kwargs
    results = check_output_validity(forecast, MONTH, history, **expected)  # type: ignore[arg-type]
    assert [result.name for result in results] == list(VALIDITY_CHECKS)
    return {result.name: result for result in results}


def fired(results: dict[str, CheckResult]) -> dict[str, str]:
    return {name: result.severity for name, result in results.items() if not result.passed}


def with_value(value: float) -> pl.DataFrame:
    """The good forecast with every draw and the mean of its first row set to `value`."""
    good = good_forecast()
    first = good.head(1).with_columns(
        pl.lit(value, dtype=pl.Float32).alias("mean"), pl.Series("draws", [[value] * DRAWS], dtype=pl.List(pl.Float32))
    )
    return pl.concat([first, good.slice(1)])


def test_a_diverged_forecast_is_an_error() -> None:
    results = run(with_value(1e21))
    assert fired(results) == {"bound": "error", "high_means": "warning"}
    assert results["bound"].figures["largest_observed"] == 400
    assert results["bound"].thresholds["bound"] == 4000
    assert results["bound"].worst.row(0)[:2] == (1, 1)


def test_the_bound_knows_no_later_month_and_is_inclusive() -> None:
    assert fired(run(with_value(4000.0))) == {"high_means": "warning"}
    assert fired(run(with_value(4001.0))) == {"bound": "error", "high_means": "warning"}


def test_a_target_that_was_always_zero_or_unknown_has_the_floor_for_a_bound() -> None:
    settings = OutputValiditySettings(bound_floor=5, bound_multiple=2)
    for values in ([0.0], [None]):
        history = pl.DataFrame({"month_id": [MONTH], TARGET: values}, schema={"month_id": pl.Int32, TARGET: pl.Float64})
        assert run(with_value(11.0), history, settings=settings)["bound"].thresholds["bound"] == 10
        assert not run(with_value(11.0), history, settings=settings)["bound"].passed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_fire_that_check_alone(value: float) -> None:
    results = run(with_value(value))
    assert fired(results) == {"finite": "error"}
    assert results["finite"].figures["rows_not_finite"] == 1


def test_missing_units_are_named() -> None:
    result = run(good_forecast().filter(pl.col("unit_id") != 7))["complete"]
    assert not result.passed
    assert result.worst.to_dicts() == [{"unit_id": 7, "steps_absent": len(STEPS)}]


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: pl.concat([frame, frame.head(1)]),
        lambda frame: pl.concat([frame.slice(1), frame.slice(1, 1)]),
        lambda frame: frame.with_columns(pl.col("unit_id").replace(1, 999)),
        lambda frame: frame.with_columns(
            pl.col("step").replace(12, 13), target_month=pl.col("target_month")
        ).with_columns(target_month=pl.col("month_id") + pl.col("step").cast(pl.Int32)),
    ],
    ids=["a row twice", "a row for another", "another unit", "another step"],
)
def test_units_and_steps_must_be_the_expected_ones(change: object) -> None:
    assert fired(run(change(good_forecast()))) == {"complete": "error"}  # type: ignore[operator]


@pytest.mark.parametrize(
    "labels",
    [{"month_id": MONTH - 1, "target_month": None}, {"model": None}, {"target_month": MONTH}],
)
def test_labels_must_be_those_of_the_month(labels: dict[str, object]) -> None:
    frame = good_forecast()
    frame = frame.with_columns(pl.lit(value, dtype=frame.schema[name]).alias(name) for name, value in labels.items())
    assert fired(run(frame)) == {"labels": "error"}


def test_two_models_in_one_forecast() -> None:
    frame = good_forecast().with_columns(
        pl.when(pl.col("unit_id") == 1).then(pl.lit("other")).otherwise("model").alias("model")
    )
    assert fired(run(frame)) == {"labels": "error"}


def test_rows_without_draws() -> None:
    frame = good_forecast()
    for empty in ([None], [[]]):
        first = frame.head(1).with_columns(pl.Series("draws", empty, dtype=pl.List(pl.Float32)))
        results = run(pl.concat([first, frame.slice(1)]), draws=None)
        assert fired(results) == {"draw_count": "error"}
        assert results["draw_count"].worst["unit_id"].to_list() == [1]


def test_fewer_draws_than_the_model_should_have() -> None:
    assert fired(run(good_forecast(), draws=DRAWS + 1)) == {"draw_count": "error"}
    assert fired(run(good_forecast(), draws=None)) == {}


def test_a_forecast_without_rows() -> None:
    results = run(good_forecast().clear())
    assert fired(results) == {"labels": "error", "complete": "error"}
    assert results["finite"].note == "not evaluated: the forecast has no rows"


def test_a_single_unit_and_step() -> None:
    frame = good_forecast().filter((pl.col("unit_id") == 3) & (pl.col("step") == 1))
    assert fired(run(frame, units=[3], steps=[1])) == {}


def test_a_frame_that_is_no_forecast() -> None:
    with pytest.raises(ForecastError, match="draws"):
        run(good_forecast().drop("draws"))
    with pytest.raises(PanelError, match=TARGET):
        run(good_forecast(), HISTORY.drop(TARGET))


def test_the_history_may_be_lazy() -> None:
    assert largest_observed(HISTORY.lazy(), TARGET, MONTH) == 400
    results = run(with_value(4001.0), HISTORY.lazy())  # type: ignore[arg-type]
    assert fired(results) == {"bound": "error", "high_means": "warning"}


def test_a_forecast_without_a_finite_row_fails_that_check_alone() -> None:
    frame = good_forecast().with_columns(mean=pl.lit(None, dtype=pl.Float32))
    results = run(frame)
    assert fired(results) == {"finite": "error"}
    assert results["bound"].note == "not evaluated: no row is finite"
