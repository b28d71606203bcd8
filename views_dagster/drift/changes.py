"""The output drift suite: how far has the forecast moved since last month's, for the same target months?"""

from collections.abc import Mapping
from typing import Final

import polars as pl

from views_dagster.drift.distributions import MIN_VALUES
from views_dagster.drift.results import CheckInfo, CheckResult
from views_dagster.drift.settings import OutputDriftSettings
from views_dagster.drift.suites import Expected, validate, verdict

OUTPUT_DRIFT_CHECKS: Final[Mapping[str, CheckInfo]] = {
    "overall_change": CheckInfo("The overall level forecast for the same months is last month's.", "warning"),
    "changed_units": CheckInfo("Few units are far from the level that last month's forecast gave them.", "warning"),
    "new_high_units": CheckInfo("Few units reach a high level that last month's forecast did not expect.", "warning"),
}
_WORST = 5


def check_output_drift(
    forecast: pl.DataFrame, previous: pl.DataFrame | None, settings: OutputDriftSettings | None = None
) -> list[CheckResult]:
    """Compare a forecast with the one made a month earlier by the same model, on the target months both cover.

    Args:
        forecast: rows of one model and target, columns of `FORECAST_SCHEMA`; `unit_id`, `target_month` and `mean` are
            used.
        previous: the same of the month before; None where there is none.
        settings: thresholds; the defaults where None.

    Returns:
        One result for each of `OUTPUT_DRIFT_CHECKS`, in that order. Without an earlier forecast, or without units and
        target months in common, all pass with a note.
    """
    settings = settings or OutputDriftSettings()
    note, units = "not evaluated: no forecast of an earlier month to compare with", pl.DataFrame()
    if previous is not None:
        units = _by_unit(forecast, previous, settings)
        note = "not evaluated: the earlier forecast has no finite means for the same units and target months"
    if units.is_empty():
        return [verdict(name, [], info, {}, {}, pl.DataFrame(), note) for name, info in OUTPUT_DRIFT_CHECKS.items()]
    # Units count equally, however many months they share.
    change = pl.col("change").abs()
    active = units.filter(pl.max_horizontal("log_before", "log_now") >= settings.unit_change)
    overall = units.select(
        change=pl.col("change").mean().abs(),
        limit=pl.min_horizontal(
            settings.overall_change_warning,
            pl.max_horizontal(
                settings.overall_change_share * pl.max_horizontal(pl.col("log_before", "log_now").mean()),
                settings.min_changed_units * settings.unit_change / pl.len(),
            ),
        ),
    )
    changed = {"column": "change", "min_value": -settings.unit_change, "max_value": settings.unit_change}
    outcomes = validate(
        {"units": units, "overall": overall, "active": active},
        [
            Expected(
                "overall_change",
                "overall",
                "ExpectColumnPairValuesAToBeGreaterThanB",
                {"column_A": "limit", "column_B": "change", "or_equal": True},
                "warning",
            ),
            Expected(
                "changed_units",
                "units",
                "ExpectColumnValuesToBeBetween",
                {**changed, "mostly": 1 - settings.changed_units_warning},
                "warning",
            ),
            *(
                [
                    Expected(
                        "changed_units",
                        "active",
                        "ExpectColumnValuesToBeBetween",
                        {**changed, "mostly": 1 - settings.changed_active_units_warning},
                        "warning",
                    )
                ]
                if active.height >= MIN_VALUES
                else []
            ),
            Expected(
                "new_high_units",
                "units",
                "ExpectColumnSumToBeBetween",
                {"column": "newly_high", "max_value": settings.new_high_units_warning},
                "warning",
            ),
        ],
    )
    shared = {"units": float(units.height), "shared_rows": float(units["shared"].sum())}
    far = units.filter(change > settings.unit_change)
    figures = {
        "overall_change": {"overall_change": overall["change"][0], "overall_limit": overall["limit"][0]},
        "changed_units": {
            "changed_units": float(far.height),
            "changed_share": far.height / units.height,
            "active_units": float(active.height),
        },
        "new_high_units": {"new_high_units": float(units["newly_high"].sum())},
    }
    shown = units.select("unit_id", "before", "now", "change").sort(change, descending=True)
    high = units.filter(pl.col("newly_high") > 0).select("unit_id", "before", "now").sort("now", descending=True)
    worst = {"overall_change": shown, "changed_units": shown, "new_high_units": high}
    thresholds: dict[str, dict[str, float]] = {
        "overall_change": settings.model_dump(include={"overall_change_warning", "overall_change_share"}),
        "changed_units": settings.model_dump(
            include={"unit_change", "changed_units_warning", "changed_active_units_warning"}
        ),
        "new_high_units": settings.model_dump(include={"high_level", "new_high_factor", "new_high_units_warning"}),
    }
    return [
        verdict(name, outcomes[name], info, shared | figures[name], thresholds[name], worst[name].head(_WORST), "")
        for name, info in OUTPUT_DRIFT_CHECKS.items()
    ]


def _by_unit(forecast: pl.DataFrame, previous: pl.DataFrame, settings: OutputDriftSettings) -> pl.DataFrame:
    """One row a unit: mean level `before` and `now` over the shared months, their mean log(1 + mean) and its change."""

    def means(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        finite = frame.filter(pl.col("mean").is_finite() & (pl.col("mean") >= 0))
        return finite.select("unit_id", "target_month", pl.col("mean").cast(pl.Float64).alias(name))

    both = means(forecast, "now").join(means(previous, "before"), on=["unit_id", "target_month"])
    now, before = pl.col("now"), pl.col("before")
    units = both.group_by("unit_id").agg(
        now.mean(), before.mean(), log_before=before.log1p().mean(), log_now=now.log1p().mean(), shared=pl.len()
    )
    crossed = (before < settings.high_level) & (now >= settings.high_level) & (now >= settings.new_high_factor * before)
    return units.with_columns(
        change=pl.col("log_now") - pl.col("log_before"), newly_high=crossed.cast(pl.Float64)
    ).sort("unit_id")
