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
    history: pl.DataFrame | pl.LazyFrame,
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
        history: `month_id` and a column named after the forecast's target; later months and nulls are left out. Of a
            lazy frame only the largest value is read.
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
    absent, coverage = _coverage(rows, units, steps)
    by_unit = _by_unit(rows)
    outcomes = validate(
        {"labels": _labels(forecast), "coverage": coverage, "units": by_unit},
        [*_on_coverage(month), *_on_values(by_unit, settings, expected_draws, bound, high)],
    )
    note = "not evaluated: no row is finite" if rows.height else "not evaluated: the forecast has no rows"

    figures: dict[str, dict[str, float]] = {
        "labels": {"rows": float(rows.height)},
        "complete": {
            "rows": float(rows.height),
            "rows_due": float(len(units) * len(steps)),
            **{f"rows_{problem}": float(count) for problem, count in coverage.iter_rows()},
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
            "" if name in outcomes else note,
        )
        for name, info in VALIDITY_CHECKS.items()
    ]


def largest_observed(history: pl.DataFrame | pl.LazyFrame, target: str, month: int) -> float:
    """The largest finite value of the column `target` in months up to `month`; 0 where there is none.

    Raises:
        PanelError: the history has no column of the target.
    """
    names = history.collect_schema().names()
    if target not in names:
        raise PanelError(f"the history has no column {target}, which is forecast; it has {', '.join(names)}")
    observed = pl.col(target).cast(pl.Float64)
    seen = history.lazy().filter(pl.col("month_id") <= month).select(observed.filter(observed.is_finite()).max())
    largest = seen.collect().item()
    return float(largest) if largest is not None else 0.0


def _row_figures(forecast: pl.DataFrame) -> pl.DataFrame:
    """One row a forecast row. Magnitudes of rows that are not finite are null: `finite` alone speaks of those."""
    draws, mean = pl.col("draws"), pl.col("mean").cast(pl.Float64)
    bad_draws = pl.lit(False)
    flat = forecast["draws"].explode(empty_as_null=False, keep_nulls=False)
    if flat.null_count() or not flat.is_finite().all():
        bad_draws = draws.list.eval(pl.element().is_finite().not_().fill_null(True)).list.any().fill_null(False)
    rows = forecast.select(
        pl.col("unit_id", "step").cast(pl.Int64),
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


def _labels(forecast: pl.DataFrame) -> pl.DataFrame:
    """The distinct labels of the rows: one row where they are right, with `late` 0 and none of its labels `unknown`."""
    late = pl.col("target_month").cast(pl.Int64) - pl.col("month_id") - pl.col("step").cast(pl.Int64)
    labels = forecast.select("month_id", "model", "level", "target", late=late).unique()
    return labels.select("month_id", "late", unknown=pl.sum_horizontal(pl.all().is_null()).cast(pl.Float64))


def _coverage(rows: pl.DataFrame, units: Sequence[int], steps: Sequence[int]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The (unit, step) pairs due that are absent, and how many are `absent`, `unexpected` and `repeated`."""
    keys = ["unit_id", "step"]
    due = pl.DataFrame({"unit_id": units}, schema={"unit_id": pl.Int64}).join(
        pl.DataFrame({"step": steps}, schema={"step": pl.Int64}), how="cross"
    )
    there = rows.select(keys).unique()
    absent = due.join(there, on=keys, how="anti")
    counts = {
        "absent": absent.height,
        "unexpected": there.height - (due.height - absent.height),
        "repeated": rows.height - there.height,
    }
    return absent, pl.DataFrame({"problem": list(counts), "rows": list(counts.values())})


def _by_unit(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a unit, with the worst of its rows; `without_draws` counts rows that have no list of them."""
    return rows.group_by("unit_id").agg(
        pl.col("draws").is_null().sum().alias("without_draws"),
        pl.col("draws").min().alias("fewest_draws"),
        pl.col("draws").max().alias("most_draws"),
        pl.col("not_finite").sum(),
        pl.col("lowest").min(),
        pl.col("highest", "mean", "gap").max(),
    )


def _on_coverage(month: int) -> Iterator[Expected]:
    def expect(check: str, batch: str, expectation: str, **arguments: object) -> Expected:
        return Expected(check, batch, expectation, arguments, "error")

    yield expect("labels", "labels", "ExpectTableRowCountToEqual", value=1)
    yield expect("labels", "labels", "ExpectColumnValuesToBeInSet", column="month_id", value_set=[month])
    yield expect("labels", "labels", "ExpectColumnValuesToBeInSet", column="late", value_set=[0])
    yield expect("labels", "labels", "ExpectColumnValuesToBeInSet", column="unknown", value_set=[0])
    yield expect("complete", "coverage", "ExpectColumnMaxToBeBetween", column="rows", max_value=0)


def _on_values(
    units: pl.DataFrame, settings: OutputValiditySettings, draws: int, bound: float, high: float
) -> Iterator[Expected]:
    due = max(draws, 1)
    limits: tuple[tuple[str, str, Severity, float], ...] = (
        ("draw_count", "without_draws", "error", 0),
        ("draw_count", "most_draws", "error", due),
        ("finite", "not_finite", "error", 0),
        ("mean_of_draws", "gap", "error", settings.mean_tolerance),
        ("bound", "highest", "error", bound),
        ("high_means", "mean", "warning", high),
    )
    floors = (("draw_count", "fewest_draws", due), ("non_negative", "lowest", 0))
    # A column is empty where no row is finite; that is for `finite` to say.
    for check, column, severity, most in limits:
        if units[column].count():
            arguments = {"column": column, "max_value": most}
            yield Expected(check, "units", "ExpectColumnMaxToBeBetween", arguments, severity)
    for check, column, least in floors:
        if units[column].count():
            arguments = {"column": column, "min_value": least}
            yield Expected(check, "units", "ExpectColumnMinToBeBetween", arguments, "error")


def _most_common(draws: pl.Series) -> int:
    counts = draws.drop_nulls()
    return int(counts.mode().sort()[-1]) if len(counts) else 0


def _range_of(values: pl.Series, lowest: str | None, highest: str | None) -> dict[str, float]:
    named = {lowest: values.min(), highest: values.max()}
    return {name: float(value) for name, value in named.items() if name and isinstance(value, (int, float))}


def _offenders(rows: pl.DataFrame, bad: pl.Expr, by: str, *, descending: bool = True) -> pl.DataFrame:
    return rows.filter(bad).select("unit_id", "step", by).sort(by, descending=descending, nulls_last=True).head(_WORST)
