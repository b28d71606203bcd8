"""The input suite: is the newest month of columns and rain whole and possible, and does it look like its history?"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.calendar import first_day
from views_dagster.drift.distributions import ks_distance
from views_dagster.drift.results import CheckInfo, CheckResult
from views_dagster.drift.statistics import cohens_h
from views_dagster.precipitation.drift.rules import Rule, judge
from views_dagster.precipitation.drift.settings import ColumnDriftSettings
from views_dagster.precipitation.drift.summaries import ColumnSummary, spread_over_months

Array = NDArray[np.float64]

COLUMN_CHECKS: Final[Mapping[str, CheckInfo]] = {
    "structure": CheckInfo("The month has rows, and each box once at each valid time.", "error"),
    "same_fields": CheckInfo("Variables and levels are those of last month.", "error"),
    "missing_times": CheckInfo("As many valid times are there as in earlier months.", "error"),
    "missing_rows": CheckInfo("As many boxes are there at each valid time as in earlier months.", "error"),
    "missing_boxes": CheckInfo("The boxes of last month are there.", "error"),
    "new_boxes": CheckInfo("No boxes appear that last month did not have.", "error"),
    "not_finite": CheckInfo("Every value is a finite number.", "error"),
    "physical_bounds": CheckInfo("Every value is possible for its variable.", "error"),
    "repeated_times": CheckInfo("The profiles of one valid time are not those of the time before.", "error"),
    "mean_shift": CheckInfo("Each variable's mean at each level lies near the monthly means of history.", "error"),
    "spread_shift": CheckInfo("Each variable varies at each level as much as in the months of history.", "error"),
    "ks_distance": CheckInfo("Each variable is distributed at each level as before (Kolmogorov-Smirnov).", "warning"),
    "psi": CheckInfo("Each variable fills history's deciles at each level as before (stability index).", "warning"),
    "rain_missing": CheckInfo("Rain was observed over as much of the area as in earlier months.", "error"),
    "fractions": CheckInfo("The observed fractions of each box are not negative and sum to 1.", "error"),
    "rain_rates": CheckInfo("No rate of rain is negative or absurd.", "error"),
    "rain_consistency": CheckInfo("The mean rain of a box agrees with its fractions and its maximum.", "error"),
    "wet_share": CheckInfo("As much of the area is wet as in the months of history.", "warning"),
}

_FIELD: Final = ("variable", "level")
_RULES: Final = (
    Rule("structure", "overall", "no_rows", error=0.0),
    Rule("structure", "overall", "repeated_rows", error=0.0),
    Rule("same_fields", "overall", "fields_changed", error=0.0),
    Rule("missing_times", "overall", "missing_times_rise", "missing_times_warning", "missing_times_error"),
    Rule("missing_rows", "overall", "missing_rows_rise", "missing_rows_warning", "missing_rows_error"),
    Rule("missing_boxes", "overall", "missing_boxes", "missing_boxes_warning", "missing_boxes_error"),
    Rule("new_boxes", "overall", "new_boxes", "new_boxes_warning", "new_boxes_error"),
    Rule("not_finite", "fields", "not_finite", error=0.0, shown=_FIELD),
    Rule(
        "physical_bounds",
        "fields",
        "beyond_bounds",
        "beyond_bounds_warning",
        "beyond_bounds_error",
        shown=(*_FIELD, "lowest", "highest"),
    ),
    Rule("repeated_times", "overall", "repeated_times", "repeated_times_warning", "repeated_times_error"),
    Rule(
        "mean_shift",
        "fields",
        "mean_shift",
        "mean_shift_warning",
        "mean_shift_error",
        shown=(*_FIELD, "mean", "usual_mean"),
    ),
    Rule(
        "spread_shift",
        "fields",
        "spread_shift",
        "spread_shift_warning",
        "spread_shift_error",
        shown=(*_FIELD, "spread", "usual_spread"),
    ),
    Rule("ks_distance", "fields", "ks", limit="ks_limit", shown=_FIELD),
    Rule("psi", "fields", "psi", limit="psi_limit", shown=_FIELD),
    Rule(
        "rain_missing",
        "overall",
        "rain_missing_rise",
        "rain_missing_warning",
        "rain_missing_error",
        shown=("rain_missing",),
    ),
    Rule("fractions", "overall", "bad_fractions", error=0.0),
    Rule("rain_rates", "overall", "highest_rate", "rain_rate_warning", "rain_rate_error"),
    Rule("rain_rates", "overall", "negative_rate", error=0.0),
    Rule("rain_consistency", "overall", "inconsistent_rain", error="inconsistent_rain_error"),
    Rule(
        "wet_share",
        "overall",
        "wet_share_effect",
        "wet_share_warning",
        shown=("wet_share", "wet_share_low", "wet_share_high"),
    ),
)


def check_columns(
    month: ColumnSummary, history: Sequence[ColumnSummary], settings: ColumnDriftSettings | None = None
) -> list[CheckResult]:
    """Test a month against its recent history.

    Args:
        month: the tested month.
        history: earlier months, in any order; those before the `history_months` are left out, as is what is not
            earlier. Months with other variables or levels than the tested one are left out of comparisons.

    Returns:
        One result for each of `COLUMN_CHECKS`, in that order. A check that has nothing to go by (no history, no rain)
        passes with a note.
    """
    settings = settings or ColumnDriftSettings()
    recent = sorted(
        (each for each in history if month.month - settings.history_months <= each.month < month.month and each.rows),
        key=lambda each: each.month,
    )
    tables = {"overall": _overall(month, recent, settings), "fields": _by_field(month, recent, settings)}
    note = f"not evaluated: {len(recent)} months of history"
    return judge(COLUMN_CHECKS, _RULES, tables, settings, note=note if month.rows else "not evaluated: no rows")


def _overall(month: ColumnSummary, history: Sequence[ColumnSummary], settings: ColumnDriftSettings) -> pl.DataFrame:
    figures: dict[str, float | None] = {
        "no_rows": float(month.rows == 0),
        "repeated_rows": float(month.repeated_rows),
        "repeated_times": month.repeated_times / max(len(month.times), 1),
        "rain_missing": month.rain_missing,
        "bad_fractions": float(month.bad_fractions) if month.rows_with_rain else None,
        "inconsistent_rain": month.inconsistent_rain / month.rows_with_rain if month.rows_with_rain else None,
        "highest_rate": month.rates[1],
        "negative_rate": max(-month.rates[0], 0.0) if month.rows_with_rain else None,
        "wet_share": month.wet_share,
    }
    names = ("fields_changed", "missing_boxes", "new_boxes", "missing_times_rise", "missing_rows_rise")
    figures |= dict.fromkeys((*names, "rain_missing_rise", "wet_share_effect", "wet_share_low", "wet_share_high"))
    if history and month.rows:
        last = history[-1]
        hours = last.hours
        figures |= {
            "fields_changed": float(not _same_fields(month, last)),
            "missing_boxes": len(np.setdiff1d(last.boxes, month.boxes)) / len(last.boxes),
            "new_boxes": len(np.setdiff1d(month.boxes, last.boxes)) / len(last.boxes),
            "missing_times_rise": _rise([_missing_times(each, hours) for each in (*history, month)]),
            "missing_rows_rise": _rise([_missing_rows(each) for each in (*history, month)]),
        }
    known = [each.rain_missing for each in (*history, month) if each.rows_with_rain]
    if month.rows:
        # Where nothing is known the history does not matter: gaps that are usual do not make it so.
        figures["rain_missing_rise"] = _rise(known) if month.rows_with_rain else 1.0
    wet = np.array([each.wet_share for each in history if each.rows_with_rain])
    if len(wet) >= settings.min_history_months and month.rows_with_rain:
        low, high = wet.min(keepdims=True), wet.max(keepdims=True)
        effect = float(np.abs(cohens_h(np.array([month.wet_share]), low, high))[0])
        figures |= {"wet_share_effect": effect, "wet_share_low": float(low[0]), "wet_share_high": float(high[0])}
    frame = pl.DataFrame(figures, schema=dict.fromkeys(figures, pl.Float64), strict=False)
    return frame.with_columns(pl.all().fill_nan(None))


def _by_field(month: ColumnSummary, history: Sequence[ColumnSummary], settings: ColumnDriftSettings) -> pl.DataFrame:
    """One row a variable and level."""
    alike = [each for each in history if _same_fields(month, each)]
    count = len(month.fields)
    nothing = np.full(count, np.nan)
    table: dict[str, Array] = {
        "not_finite": month.not_finite,
        "beyond_bounds": month.beyond_bounds,
        "lowest": month.extremes[:, 0],
        "highest": month.extremes[:, 1],
        "mean": month.mean,
        "spread": month.spread,
    }
    compared = ("usual_mean", "mean_shift", "usual_spread", "spread_shift", "ks", "ks_limit", "psi", "psi_limit")
    table |= dict.fromkeys(compared, nothing)
    if len(alike) >= settings.min_history_months and month.rows:
        means, spreads = (np.stack([getattr(each, name) for each in alike]) for name in ("mean", "spread"))
        # A field without a value in too many months of history has none to be compared with.
        few = np.isfinite(means).sum(axis=0) < settings.min_history_months
        usual_mean, usual_spread = (np.where(few, np.nan, usual) for usual in spread_over_months(alike))
        low, high = np.fmin.reduce(means), np.fmax.reduce(means)
        beyond = np.maximum(np.maximum(low - month.mean, month.mean - high), 0.0)
        # Fields that never varied have no scale of their own.
        scale = np.where(usual_spread > 0, usual_spread, np.maximum(np.abs(usual_mean), 1e-6))
        nearest = np.where(few, np.nan, np.clip(month.spread, np.fmin.reduce(spreads), np.fmax.reduce(spreads)))
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.maximum(month.spread / nearest, nearest / month.spread)
        # Infinity is no number that a suite could show.
        factor = np.where(nearest == month.spread, 1.0, np.minimum(factor, 1e6))
        table |= {"usual_mean": usual_mean, "usual_spread": usual_spread}
        table |= {"mean_shift": beyond / scale, "spread_shift": factor}
        table |= _distances(month, alike, settings)
    names = {"variable": [name for name, _ in month.fields], "level": [level for _, level in month.fields]}
    return pl.DataFrame(names | table).with_columns(pl.col(pl.Float64).fill_nan(None))


def _distances(
    month: ColumnSummary, history: Sequence[ColumnSummary], settings: ColumnDriftSettings
) -> dict[str, Array]:
    """Kolmogorov-Smirnov distance and stability index of each field, and how much of them is usual.

    Usual is what the most different month of history had against the others, a season say, and half as much again: of
    two months at the least. Months without a value of the field do not count.
    """
    points = np.stack([each.quantiles for each in history])
    found = np.full((4, len(month.fields)), np.nan)
    for at in range(len(month.fields)):
        now, before = month.quantiles[at], points[:, at]
        before = before[np.isfinite(before).all(axis=1)]
        if np.isnan(now).any() or len(before) < max(settings.min_history_months, 2):
            continue
        others = [np.sort(np.delete(before, place, axis=0), axis=None) for place in range(len(before))]
        whole = np.sort(before, axis=None)
        for row, distance, least in (
            (0, ks_distance, settings.ks_distance_warning),
            (2, stability_index, settings.psi_warning),
        ):
            usual = max(distance(each, other) for each, other in zip(before, others, strict=True))
            found[row : row + 2, at] = distance(now, whole), max(least, 1.5 * usual)
    return dict(zip(("ks", "ks_limit", "psi", "psi_limit"), found, strict=True))


def stability_index(values: Array, history: Array) -> float:
    """Population stability index of sorted `values` against sorted `history`: sum (p - q) ln(p / q) over ten bins.

    Bins are history's deciles; shares are at least 0.001, so that an empty bin costs a finite amount. Above 0.25 a
    distribution is commonly called changed (Siddiqi 2006, Credit risk scorecards).
    """
    edges = np.unique(np.quantile(history, np.linspace(0.1, 0.9, 9)))
    shares = [
        np.diff(np.searchsorted(sample, edges, side="right") / len(sample), prepend=0.0, append=1.0)
        for sample in (values, history)
    ]
    p, q = (np.maximum(share, 0.001) for share in shares)
    return float(((p - q) * np.log(p / q)).sum())


def _same_fields(month: ColumnSummary, other: ColumnSummary) -> bool:
    return [name for name, _ in month.fields] == [name for name, _ in other.fields] and np.array_equal(
        month.levels, other.levels
    )


def _missing_times(month: ColumnSummary, hours: float) -> float:
    """Share of the valid times that are absent, were there one every so many hours."""
    days = (first_day(month.month + 1) - first_day(month.month)).days
    return max(1 - len(month.times) * hours / (24 * days), 0.0)


def _missing_rows(month: ColumnSummary) -> float:
    """Share of the month's boxes x times that have no row."""
    return 1 - (month.rows - month.repeated_rows) / (len(month.times) * len(month.boxes))


def _rise(values: Sequence[float]) -> float | None:
    """How far the last value lies above the highest before it."""
    before = [value for value in values[:-1] if np.isfinite(value)]
    return max(values[-1] - max(before), 0.0) if before and np.isfinite(values[-1]) else None
