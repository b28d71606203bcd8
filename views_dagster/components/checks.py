"""Drift and validity suites as Dagster asset checks, one check result for each named check of a suite."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

import dagster as dg
import polars as pl

from resources.storage import Storage
from views_dagster import calendar
from views_dagster.components.catalogue import MONTHS, check_month
from views_dagster.components.metadata import number
from views_dagster.drift.results import CheckInfo, CheckResult
from views_dagster.reports.tables import markdown_table, short_number
from views_dagster.storage.tables import TableStore

Evaluate = Callable[[TableStore, int], Iterable[CheckResult]]


def suite_checks(
    asset: dg.AssetKey, suite: str, checks: Mapping[str, CheckInfo], evaluate: Evaluate, *, partitioned: bool
) -> dg.AssetChecksDefinition:
    """Checks of `asset` for the month of the run; those that can be errors stop what comes after when they are.

    Args:
        suite: a word for the suite, which starts the name of each check.
        evaluate: given the store and a month id, the results of all `checks`.
        partitioned: keep a state for each month. Not for assets made over ranges: a run would store a row for each
            check and month, and evaluate the newest month alone.
    """
    specs = [
        dg.AssetCheckSpec(
            name=f"{suite}_{name}",
            asset=asset,
            description=info.description,
            blocking=info.severity == "error",
            partitions_def=MONTHS if partitioned else None,
        )
        for name, info in checks.items()
    ]

    @dg.multi_asset_check(
        name=f"{'__'.join(asset.path)}__{suite}", specs=specs, required_resource_keys={"io_manager"}, can_subset=False
    )
    def run_suite(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        storage = cast(Storage, context.resources.io_manager)
        month = check_month(context)
        results = list(evaluate(storage.store, month))
        wrong = [result.name for result in results if not result.passed and result.severity == "error"]
        # A blocking check stops its own run; the note keeps later runs from building on the month as well.
        if wrong:
            storage.store.reject(asset.to_user_string(), month, f"{suite} {', '.join(wrong)}")
        elif any(info.severity == "error" for info in checks.values()):
            storage.store.accept(asset.to_user_string(), month, month)
        for result in results:
            if not result.passed:
                what = f"{asset.to_user_string()} {calendar.to_key(month)}: {result.severity} {suite} {result.name}"
                context.log.warning(f"{what}: {result.note or _in_words(result)}")
            yield _as_check_result(asset, suite, month, result)

    return run_suite


def _as_check_result(asset: dg.AssetKey, suite: str, month: int, result: CheckResult) -> dg.AssetCheckResult:
    metadata: dict[str, dg.MetadataValue] = {"month": dg.MetadataValue.text(calendar.to_key(month))}
    if result.note:
        metadata["note"] = dg.MetadataValue.text(result.note)
    metadata |= {name: number(value) for name, value in result.figures.items()}
    # As text: the UI draws every number over time, and a threshold is none to look at.
    metadata |= {f"threshold {name}": dg.MetadataValue.text(short_number(v)) for name, v in result.thresholds.items()}
    if not result.worst.is_empty():
        metadata["worst"] = dg.MetadataValue.md(markdown_table(result.worst))
    severity = dg.AssetCheckSeverity.ERROR if result.severity == "error" else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=f"{suite}_{result.name}",
        passed=result.passed,
        severity=severity,
        description=result.note or _in_words(result),
        metadata=metadata,
    )


def _in_words(result: CheckResult) -> str:
    """The figures against the thresholds, for the UI's list of results and for notifications."""
    figures, thresholds = (
        ", ".join(f"{name} {short_number(value)}" for name, value in values.items())
        for values in (result.figures, result.thresholds)
    )
    if not (result.passed or result.worst.is_empty()):
        # The variable or unit that the worst figures are of.
        named = result.worst.head(1).select(pl.selectors.string()).rows()
        figures = ": ".join([*(name for row in named for name in row if name), figures])
    return f"{figures}; thresholds: {thresholds}" if thresholds else figures or result.description
