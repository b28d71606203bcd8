"""From tables of statistics to verdicts: statistics that must not exceed thresholds, one rule each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
from pydantic import BaseModel

from views_dagster.drift.results import CheckInfo, CheckResult, Severity
from views_dagster.drift.suites import Expected, validate, verdict

_WORST: Final = 5


@dataclass(frozen=True)
class Rule:
    """A statistic that must not exceed a threshold, in every row of a table; rows where it is null do not count.

    Attributes:
        check, table, statistic: what is tested, where.
        warning, error: settings that hold the thresholds, or the thresholds themselves.
        limit: instead, the column with each row's own limit (a warning).
        shown: other columns of the table that explain a bad row.
    """

    check: str
    table: str
    statistic: str
    warning: str | float | None = None
    error: str | float | None = None
    limit: str | None = None
    shown: tuple[str, ...] = ()


def judge(
    checks: Mapping[str, CheckInfo],
    rules: Sequence[Rule],
    tables: Mapping[str, pl.DataFrame],
    settings: BaseModel,
    *,
    note: str,
) -> list[CheckResult]:
    """One result for each of `checks`, in that order; a check without a value to test passes with the note."""
    outcomes = validate(tables, [expected for rule in rules for expected in _expected(rule, tables, settings)])
    results = []
    for name, info in checks.items():
        figures: dict[str, float] = {}
        thresholds: dict[str, float] = {}
        worst = pl.DataFrame()
        for rule in rules:
            if rule.check != name:
                continue
            table = tables[rule.table]
            thresholds |= {
                named: float(getattr(settings, named)) for named in (rule.warning, rule.error) if isinstance(named, str)
            }
            if rule.limit is not None:
                thresholds[f"{name}_warning"] = float(getattr(settings, f"{name}_warning"))
            if table[rule.statistic].count() == 0:
                continue
            order = pl.col(rule.statistic) / (pl.col(rule.limit) if rule.limit else 1)
            rows = table.sort(order, descending=True, nulls_last=True)
            figures[rule.statistic] = float(rows[rule.statistic][0])
            numbers = [column for column in rule.shown if rows[column].dtype.is_numeric()]
            figures |= {column: float(rows[column][0]) for column in numbers if rows[column][0] is not None}
            if worst.is_empty() and table.height > 1:
                columns = [*rule.shown, rule.statistic, *([rule.limit] if rule.limit else [])]
                worst = rows.filter(pl.col(rule.statistic) > 0).select(columns).head(_WORST)
        found = outcomes.get(name, [])
        results.append(verdict(name, found, info, figures, thresholds, worst, "" if found else note))
    return results


def _expected(rule: Rule, tables: Mapping[str, pl.DataFrame], settings: BaseModel) -> Iterator[Expected]:
    if tables[rule.table][rule.statistic].count() == 0:
        return
    if rule.limit is not None:
        pair = {"column_A": rule.limit, "column_B": rule.statistic, "or_equal": True}
        pair |= {"ignore_row_if": "either_value_is_missing"}
        yield Expected(rule.check, rule.table, "ExpectColumnPairValuesAToBeGreaterThanB", pair, "warning")
    graded: tuple[tuple[Severity, str | float | None], ...] = (("warning", rule.warning), ("error", rule.error))
    for severity, given in graded:
        if given is not None:
            threshold = float(getattr(settings, given) if isinstance(given, str) else given)
            limits = {"column": rule.statistic, "max_value": threshold}
            yield Expected(rule.check, rule.table, "ExpectColumnMaxToBeBetween", limits, severity)
