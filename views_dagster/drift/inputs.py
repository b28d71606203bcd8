"""The input suite: is the newest month of a table whole, and does it look like its history?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from views_dagster.drift.results import CheckInfo, CheckResult, Severity
from views_dagster.drift.settings import InputDriftSettings
from views_dagster.drift.statistics import Statistics, summarise
from views_dagster.drift.suites import Expected, Outcome, validate, verdict
from views_dagster.drift.window import Window
from views_dagster.panel import KEYS

INPUT_CHECKS: Final[Mapping[str, CheckInfo]] = {
    "structure": CheckInfo("The month has rows, every expected column, and each unit exactly once.", "error"),
    "infinite_values": CheckInfo("No value of the month is infinite.", "error"),
    "missing_units": CheckInfo("The units of last month are there.", "error"),
    "new_units": CheckInfo("Few units appear that last month did not have.", "warning"),
    "completeness": CheckInfo("As many cells (units x columns) hold values as in recent months.", "error"),
    "missing_by_column": CheckInfo("No column lost values, against its own recent months.", "error"),
    "missing_by_unit": CheckInfo("No unit lost most of its columns, against its own recent months.", "error"),
    "zeros": CheckInfo("The share of zeros in the whole month is that of recent months.", "warning"),
    "zeros_by_column": CheckInfo(
        "Each column's share of zeros is that of recent months, and no active column is zero everywhere.", "error"
    ),
    "zeros_by_unit": CheckInfo("No unit is zero in most of the columns in which it never was.", "warning"),
    "unchanged_month": CheckInfo("Columns that move every month do not repeat last month in every unit.", "error"),
    "extremes": CheckInfo("No value lies far beyond the farthest value of recent months.", "error"),
    "new_negatives": CheckInfo("No value is negative in a column that never was.", "error"),
    "kl_divergence": CheckInfo(
        "Each column's non-zero values are distributed over history's bins as before (Kullback-Leibler).", "warning"
    ),
    "ks_distance": CheckInfo(
        "Each column's non-zero values are distributed as before (Kolmogorov-Smirnov).", "warning"
    ),
}


@dataclass(frozen=True)
class _Rule:
    """A statistic that must not exceed a threshold, in every row of one of the tables.

    Attributes:
        check, table, statistic: what is tested, where.
        warning, error: settings that hold the thresholds, or the thresholds themselves.
        limit: instead of thresholds, the column that holds each row's own limit (a warning).
        reach: instead of every row, rows beyond this setting are counted, and `warning` and `error` are the shares of
            rows allowed.
        shown: other columns of the table that explain a bad row.
    """

    check: str
    table: Literal["columns", "units", "overall"]
    statistic: str
    warning: str | float | None = None
    error: str | float | None = None
    limit: str | None = None
    reach: str | None = None
    shown: tuple[str, ...] = ()


_RULES: Final = (
    _Rule("infinite_values", "columns", "infinite", error=0.0),
    _Rule(
        "missing_units",
        "overall",
        "missing_units_share",
        "missing_units_warning",
        "missing_units_error",
        shown=("missing_units",),
    ),
    _Rule("new_units", "overall", "new_units_share", "new_units_warning", shown=("new_units",)),
    _Rule(
        "completeness",
        "overall",
        "completeness_fall",
        "completeness_warning",
        "completeness_error",
        shown=("missing_cells_typical",),
    ),
    _Rule("completeness", "overall", "missing_cells", error="missing_cells_error"),
    _Rule(
        "missing_by_column",
        "columns",
        "missing_rise",
        "missing_by_column_warning",
        "missing_by_column_error",
        shown=("missing", "missing_typical"),
    ),
    # However few values a column has, losing the last one is wrong.
    _Rule("missing_by_column", "columns", "lost", error=0.0),
    _Rule(
        "missing_by_unit",
        "units",
        "missing_rise",
        "missing_by_unit_warning",
        "missing_by_unit_error",
        reach="missing_by_unit_rise",
        shown=("missing",),
    ),
    _Rule("zeros", "overall", "zeros_effect", limit="zeros_limit", shown=("zeros", "zeros_low", "zeros_high")),
    _Rule(
        "zeros_by_column",
        "columns",
        "zeros_effect",
        limit="zeros_limit",
        shown=("zeros", "zeros_low", "zeros_high", "silent"),
    ),
    _Rule("zeros_by_column", "columns", "silent", error=0.0),
    _Rule("zeros_by_unit", "units", "dead", "zeros_by_unit_warning", reach="zeros_by_unit_share"),
    _Rule(
        "unchanged_month",
        "overall",
        "unchanged_share",
        "unchanged_month_warning",
        "unchanged_month_error",
        shown=("unchanged_columns", "moving_columns"),
    ),
    _Rule("extremes", "columns", "reach", "extremes_warning", "extremes_error", shown=("outliers",)),
    _Rule("extremes", "columns", "outliers", error="outliers_error"),
    _Rule("new_negatives", "columns", "new_negatives", "new_negatives_warning", "new_negatives_error"),
    _Rule("kl_divergence", "columns", "kl", limit="kl_limit"),
    _Rule("ks_distance", "columns", "ks", limit="ks_limit"),
)


_WORST = 5


def check_input(
    window: pl.DataFrame,
    month: int,
    settings: InputDriftSettings | None = None,
    *,
    columns: Sequence[str] | None = None,
) -> list[CheckResult]:
    """Test one month of a table against its recent history.

    Args:
        window: `month_id`, `unit_id` and numeric columns; rows of `month` and of the months before it. Later months,
            months before the history and non-numeric columns are left out.
        month: month id to test.
        settings: thresholds; the defaults where None.
        columns: names the month must have; where None, those of the window.

    Returns:
        One result for each of `INPUT_CHECKS`, in that order. A check that has nothing to go by (no history, no last
        month, too few values) passes with a note.

    Raises:
        PanelError: the window has no keys or no numeric column.
    """
    settings = settings or InputDriftSettings()
    seen = Window.from_frame(window, month, history_months=settings.history_months, ignore=settings.ignore)
    statistics = summarise(seen, settings)
    wanted = [name for name in (columns or seen.columns) if name not in settings.ignore]
    outcomes = validate(
        {
            "month": seen.rows,
            "columns": statistics.columns,
            "units": statistics.units,
            "overall": statistics.overall,
        },
        [*_on_rows(seen, wanted), *_on_tables(statistics, settings)],
    )
    return [_result(name, seen, wanted, statistics, settings, outcomes.get(name, [])) for name in INPUT_CHECKS]


def _on_rows(window: Window, wanted: Sequence[str]) -> Iterator[Expected]:
    yield Expected("structure", "month", "ExpectTableRowCountToBeBetween", {"min_value": 1}, "error")
    yield Expected(
        "structure", "month", "ExpectTableColumnsToMatchSet", {"column_set": wanted, "exact_match": False}, "error"
    )
    if window.rows.height:
        yield Expected("structure", "month", "ExpectColumnValuesToNotBeNull", {"column": "unit_id"}, "error")
        yield Expected("structure", "month", "ExpectCompoundColumnsToBeUnique", {"column_list": list(KEYS)}, "error")


def _on_tables(statistics: Statistics, settings: InputDriftSettings) -> Iterator[Expected]:
    for rule in _RULES:
        if statistics.table(rule.table)[rule.statistic].count() == 0:
            continue
        if rule.limit is not None:
            yield Expected(
                rule.check,
                rule.table,
                "ExpectColumnPairValuesAToBeGreaterThanB",
                {
                    "column_A": rule.limit,
                    "column_B": rule.statistic,
                    "or_equal": True,
                    "ignore_row_if": "either_value_is_missing",
                },
                "warning",
            )
        for severity, threshold in _thresholds(rule, settings):
            if rule.reach is not None:
                allowed = {"max_value": getattr(settings, rule.reach), "mostly": 1 - threshold}
                yield Expected(
                    rule.check,
                    rule.table,
                    "ExpectColumnValuesToBeBetween",
                    {"column": rule.statistic, **allowed},
                    severity,
                )
            else:
                yield Expected(
                    rule.check,
                    rule.table,
                    "ExpectColumnMaxToBeBetween",
                    {"column": rule.statistic, "max_value": threshold},
                    severity,
                )


def _thresholds(rule: _Rule, settings: InputDriftSettings) -> Iterator[tuple[Severity, float]]:
    graded: tuple[tuple[Severity, str | float | None], ...] = (("warning", rule.warning), ("error", rule.error))
    for severity, threshold in graded:
        if threshold is not None:
            yield severity, float(getattr(settings, threshold) if isinstance(threshold, str) else threshold)


def _result(
    name: str,
    window: Window,
    wanted: Sequence[str],
    statistics: Statistics,
    settings: InputDriftSettings,
    outcomes: Sequence[Outcome],
) -> CheckResult:
    figures: dict[str, float] = {"history_months": float(window.history)}
    thresholds: dict[str, float] = {}
    worst = pl.DataFrame()
    if name == "structure":
        repeated = window.rows.height - window.rows.select(KEYS).n_unique()
        figures |= {"rows": float(window.rows.height), "repeated_rows": float(repeated)}
        gone = [column for column in wanted if column not in window.rows.columns]
        worst = pl.DataFrame({"missing_column": gone}).head(_WORST)
    for rule in _RULES:
        if rule.check != name:
            continue
        table = statistics.table(rule.table)
        thresholds |= _named_thresholds(rule, settings)
        shown = [rule.statistic, *([rule.limit] if rule.limit else []), *rule.shown]
        if table[rule.statistic].count() == 0:
            continue
        if rule.table == "overall":
            figures |= {
                key: value for key, value in table.select(shown).row(0, named=True).items() if value is not None
            }
            continue
        figures[rule.statistic] = float(table[rule.statistic].cast(pl.Float64).max())  # type: ignore[arg-type]
        if rule.reach is not None:
            figures[f"{rule.table}_hit"] = float((table[rule.statistic] > getattr(settings, rule.reach)).sum())
        if worst.is_empty():
            order = pl.col(rule.statistic) / (pl.col(rule.limit) if rule.limit else 1)
            rows = table.filter(pl.col(rule.statistic) > 0).sort(order, descending=True, nulls_last=True)
            worst = rows.select(table.columns[0], *shown).head(_WORST)
    return verdict(name, outcomes, INPUT_CHECKS[name], figures, thresholds, worst, _note(window, settings, outcomes))


def _named_thresholds(rule: _Rule, settings: InputDriftSettings) -> dict[str, float]:
    names = [name for name in (rule.warning, rule.error, rule.reach) if isinstance(name, str)]
    if rule.limit is not None:
        names.append(f"{rule.check}_warning")
    return {name: float(getattr(settings, name)) for name in names}


def _note(window: Window, settings: InputDriftSettings, outcomes: Sequence[Outcome]) -> str:
    if outcomes:
        return ""
    if window.rows.is_empty():
        return "not evaluated: the month has no rows"
    if window.history < settings.min_history_months:
        return f"not evaluated: {window.history} months of history, and {settings.min_history_months} are needed"
    return "not evaluated: nothing in the month can be compared with its history"
