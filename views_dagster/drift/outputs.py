"""The validity suite: may this forecast be stored, and used by others?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import polars as pl

from views_dagster.drift.results import CheckInfo, CheckResult, Severity
from views_dagster.drift.settings import OutputValiditySettings
from views_dagster.drift.suites import Expected, validate, verdict
from views_dagster.errors import ForecastError, PanelError
from views_dagster.forecasts import FORECAST_SCHEMA

VALIDITY_CHECKS: Final[Mapping[str, CheckInfo]] = {
    "labels": CheckInfo(
        "There are rows; all name the same model, level and target, this month, and month + step.", "error"
    ),
    "complete": CheckInfo("Each unit has each step exactly once, and there are no others.", "error"),
    "draw_count": CheckInfo("Every row has the same, expected number of draws.", "error"),
    "finite": CheckInfo("No mean and no draw is null, NaN or infinite.", "error"),
    "non_negative": CheckInfo("No mean and no draw is negative.", "error"),
    "mean_of_draws": CheckInfo("The mean of each row is the mean of its draws.", "error"),
    "bound": CheckInfo(
        "No draw and no mean exceeds a multiple of the largest value ever observed in any unit.", "error"
    ),
    "high_means": CheckInfo("No mean exceeds the largest value ever observed in any unit.", "warning"),
}
_WORST = 5


def check_output_validity(
    forecast: pl.DataFrame,
    month: int,
    history: pl.DataFrame,
    settings: OutputValiditySettings | None = None,
    *,
    units: Sequence[int],
    steps: Sequence[int],
    draws: int | None = None,
) -> list[CheckResult]:
    """Test the forecast of one model and target against the forecast contract and against what was ever observed.

    The bound of the draws is `bound_multiple` times the largest value observed in any unit up to `month`, which counts
    as at least `bound_floor`, so that a target that was zero so far can still be forecast.

    Args:
        forecast: columns of `FORECAST_SCHEMA`, rows as they are stored; they need not be valid.
        month: month id of the forecast, its last observed month.
        history: `month_id` and a column named after the forecast's target; later months and nulls are left out.
        settings: thresholds; the defaults where None.
        units, steps: what the forecast must cover, each pair once.
        draws: how many draws each row must have; where None, as many as most rows have.

    Returns:
        One result for each of `VALIDITY_CHECKS`, in that order. A forecast without rows fails `labels` and `complete`;
        its other checks pass with a note.

    Raises:
        ForecastError: the frame lacks a column of the contract.
        PanelError: the history has no column of the target.
    """
    settings = settings or OutputValiditySettings()
    missing = [name for name in FORECAST_SCHEMA if name not in forecast.columns]
    if missing:
        raise ForecastError(f"the forecast has no column {', '.join(missing)}; it has {', '.join(forecast.columns)}")
    targets = forecast["target"].drop_nulls()
    largest = largest_observed(history, targets[0], month) if len(targets) else 0.0
    bound = settings.bound(largest)
    high = settings.high_means_multiple * max(largest, settings.bound_floor)
    rows = _row_figures(forecast)
    expected_draws = draws if draws is not None else _most_common(rows["draws"])
    absent = _absent(forecast, units, steps)
    expectations = list(_on_coverage(month, units, steps))
    if rows.height:
        expectations += _on_values(settings, expected_draws, bound, high)
    outcomes = validate({"forecast": rows}, expectations)

    figures: dict[str, dict[str, float]] = {
        "labels": {"rows": float(rows.height)},
        "complete": {
            "rows": float(rows.height),
            "rows_due": float(len(units) * len(steps)),
            "rows_absent": float(absent.height),
        },
        "draw_count": _range_of(rows["draws"], "fewest_draws", "most_draws"),
        "finite": {"rows_not_finite": float(rows["not_finite"].sum())},
        "non_negative": _range_of(rows["lowest"], "lowest", None),
        "mean_of_draws": _range_of(rows["gap"], None, "largest_gap"),
        "bound": {"largest_observed": largest} | _range_of(rows["highest"], None, "highest"),
        "high_means": {"largest_observed": largest} | _range_of(rows["mean"], None, "highest_mean"),
    }
    thresholds: dict[str, dict[str, float]] = {
        "draw_count": {"draws": float(expected_draws)},
        "mean_of_draws": {"mean_tolerance": settings.mean_tolerance},
        "bound": {"bound": bound, "bound_multiple": settings.bound_multiple},
        "high_means": {"high_means": high, "high_means_multiple": settings.high_means_multiple},
    }
    worst = {
        "complete": absent.group_by("unit_id")
        .agg(steps_absent=pl.len())
        .sort("steps_absent", "unit_id", descending=[True, False]),
        "draw_count": _offenders(rows, pl.col("draws").ne_missing(expected_draws), "draws"),
        "finite": _offenders(rows, pl.col("not_finite") > 0, "not_finite"),
        "non_negative": _offenders(rows, pl.col("lowest") < 0, "lowest", descending=False),
        "mean_of_draws": _offenders(rows, pl.col("gap") > settings.mean_tolerance, "gap"),
        "bound": _offenders(rows, pl.col("highest").is_not_null(), "highest"),
        "high_means": _offenders(rows, pl.col("mean").is_not_null(), "mean"),
    }
    return [
        verdict(
            name,
            outcomes.get(name, []),
            info,
            figures[name],
            thresholds.get(name, {}),
            worst.get(name, pl.DataFrame()).head(_WORST),
            "" if name in outcomes else "not evaluated: the forecast has no rows",
        )
        for name, info in VALIDITY_CHECKS.items()
    ]


def largest_observed(history: pl.DataFrame, target: str, month: int) -> float:
    """The largest finite value of the column `target` in months up to `month`; 0 where there is none.

    Raises:
        PanelError: the history has no column of the target.
    """
    if target not in history.columns:
        raise PanelError(f"the history has no column {target}, which is forecast; it has {', '.join(history.columns)}")
    observed = history.filter(pl.col("month_id") <= month)[target].cast(pl.Float64)
    largest = observed.filter(observed.is_finite()).max()
    return float(largest) if isinstance(largest, (int, float)) else 0.0


def _row_figures(forecast: pl.DataFrame) -> pl.DataFrame:
    """One row a forecast row. Magnitudes of rows that are not finite are null: `finite` alone speaks of those."""
    draws, mean = pl.col("draws"), pl.col("mean").cast(pl.Float64)
    bad_draws = draws.list.eval(pl.element().is_finite().not_().fill_null(True)).list.any().fill_null(False)
    rows = forecast.select(
        "month_id",
        "unit_id",
        "step",
        "model",
        "level",
        "target",
        late=pl.col("target_month").cast(pl.Int64) - pl.col("month_id") - pl.col("step").cast(pl.Int64),
        draws=draws.list.len().cast(pl.Float64),
        not_finite=(bad_draws | mean.is_finite().not_().fill_null(True)).cast(pl.Float64),
        mean=mean,
        mean_of_draws=draws.list.mean().cast(pl.Float64),
        lowest=pl.min_horizontal(draws.list.min().cast(pl.Float64), mean),
        highest=pl.max_horizontal(draws.list.max().cast(pl.Float64), mean),
    )
    gap = (pl.col("mean") - pl.col("mean_of_draws")).abs() / (1 + pl.col("mean_of_draws").abs())
    return rows.with_columns(gap=gap).with_columns(
        pl.when(pl.col("not_finite") == 0).then(pl.col("mean", "lowest", "highest", "gap"))
    )


def _absent(forecast: pl.DataFrame, units: Sequence[int], steps: Sequence[int]) -> pl.DataFrame:
    due = pl.DataFrame({"unit_id": units}, schema={"unit_id": pl.Int64}).join(
        pl.DataFrame({"step": steps}, schema={"step": pl.Int64}), how="cross"
    )
    return due.join(forecast.select(pl.col("unit_id", "step").cast(pl.Int64)), on=["unit_id", "step"], how="anti")


def _on_coverage(month: int, units: Sequence[int], steps: Sequence[int]) -> Iterator[Expected]:
    def expect(check: str, expectation: str, **arguments: object) -> Expected:
        return Expected(check, "forecast", expectation, arguments, "error")

    yield expect("labels", "ExpectTableRowCountToBeBetween", min_value=1)
    yield expect("labels", "ExpectColumnValuesToBeInSet", column="month_id", value_set=[month])
    yield expect("labels", "ExpectColumnValuesToBeInSet", column="late", value_set=[0])
    for name in ("month_id", "late", "model", "level", "target"):
        yield expect("labels", "ExpectColumnValuesToNotBeNull", column=name)
    for name in ("model", "level", "target"):
        yield expect("labels", "ExpectColumnUniqueValueCountToBeBetween", column=name, max_value=1)
    yield expect("complete", "ExpectTableRowCountToEqual", value=len(units) * len(steps))
    yield expect("complete", "ExpectCompoundColumnsToBeUnique", column_list=["unit_id", "step"])
    yield expect("complete", "ExpectColumnDistinctValuesToEqualSet", column="unit_id", value_set=list(units))
    yield expect("complete", "ExpectColumnDistinctValuesToEqualSet", column="step", value_set=list(steps))


def _on_values(settings: OutputValiditySettings, draws: int, bound: float, high: float) -> Iterator[Expected]:
    def between(check: str, column: str, severity: Severity = "error", **limits: float) -> Expected:
        return Expected(check, "forecast", "ExpectColumnValuesToBeBetween", {"column": column, **limits}, severity)

    yield Expected("draw_count", "forecast", "ExpectColumnValuesToNotBeNull", {"column": "draws"}, "error")
    yield between("draw_count", "draws", min_value=max(draws, 1), max_value=max(draws, 1))
    yield between("finite", "not_finite", max_value=0)
    yield between("non_negative", "lowest", min_value=0)
    yield between("mean_of_draws", "gap", max_value=settings.mean_tolerance)
    yield between("bound", "highest", max_value=bound)
    yield between("high_means", "mean", "warning", max_value=high)


def _most_common(draws: pl.Series) -> int:
    counts = draws.drop_nulls()
    return int(counts.mode().sort()[-1]) if len(counts) else 0


def _range_of(values: pl.Series, lowest: str | None, highest: str | None) -> dict[str, float]:
    named = {lowest: values.min(), highest: values.max()}
    return {name: float(value) for name, value in named.items() if name and isinstance(value, (int, float))}


def _offenders(rows: pl.DataFrame, bad: pl.Expr, by: str, *, descending: bool = True) -> pl.DataFrame:
    return rows.filter(bad).select("unit_id", "step", by).sort(by, descending=descending, nulls_last=True).head(_WORST)
