"""The verdicts: Great Expectations suites over pandas batches, one `validate` call a batch.

A check is the conjunction of its expectations. Each carries the check's name in `meta` and a Great Expectations
severity: `critical` where its failure is an error, `warning` where it is a warning.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from views_dagster.drift.results import CheckInfo, CheckResult, Severity

_SEVERITY: Mapping[Severity, str] = {"error": "critical", "warning": "warning"}


@dataclass(frozen=True)
class Expected:
    """One expectation: its Great Expectations class name, arguments, and the batch it looks at."""

    check: str
    batch: str
    expectation: str
    arguments: Mapping[str, Any]
    severity: Severity


@dataclass(frozen=True)
class Outcome:
    """What became of one expectation; `observed` is the figure it measured, where it measures one."""

    expected: Expected
    success: bool
    observed: float | None


def validate(batches: Mapping[str, pl.DataFrame], expectations: Sequence[Expected]) -> dict[str, list[Outcome]]:
    """Outcomes by check. One ephemeral context, one suite and one `validate` call for each batch that has expectations.

    Raises:
        RuntimeError: an expectation could not be evaluated; a check that did not run must not look as if it passed.
    """
    # Read when great_expectations is first imported; without it every context reports to a server.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import great_expectations.expectations as gxe
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("drift")
    outcomes: dict[str, list[Outcome]] = {}
    for name, frame in batches.items():
        wanted = [expected for expected in expectations if expected.batch == name]
        if not wanted:
            continue
        pandas_frame = pd.DataFrame({column: frame[column].to_numpy() for column in frame.columns})
        definition = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        suite = gx.ExpectationSuite(
            name=name,
            expectations=[
                getattr(gxe, expected.expectation)(
                    **expected.arguments,
                    severity=_SEVERITY[expected.severity],
                    meta={"check": expected.check, "position": position},
                )
                for position, expected in enumerate(wanted)
            ],
        )
        # batch.validate and not a ValidationDefinition: the latter cannot store numpy 2 booleans.
        batch = definition.get_batch(batch_parameters={"dataframe": pandas_frame})
        report = batch.validate(suite, result_format="BASIC")
        if len(report.results) != len(wanted):
            raise RuntimeError(
                f"{len(report.results)} of {len(wanted)} expectations on the batch {name} were evaluated"
            )
        for result in report.results:
            expected = wanted[result.expectation_config.meta["position"]]
            if result.exception_info.get("raised_exception", True):
                raise RuntimeError(
                    f"{expected.expectation} of check {expected.check} failed to run: {result.exception_info}"
                )
            observed = result.result.get("observed_value")
            number = float(observed) if isinstance(observed, (int, float)) else None
            outcomes.setdefault(expected.check, []).append(Outcome(expected, bool(result.success), number))
    return outcomes


def verdict(
    name: str,
    outcomes: Sequence[Outcome],
    info: CheckInfo,
    figures: Mapping[str, float],
    thresholds: Mapping[str, float],
    worst: pl.DataFrame,
    note: str,
) -> CheckResult:
    """The conjunction of `outcomes`; a failed check is an error when any of its failed expectations is one."""
    failed = [outcome.expected.severity for outcome in outcomes if not outcome.success]
    severity: Severity = info.severity
    if failed:
        severity = "error" if "error" in failed else "warning"
    return CheckResult(name, not failed, severity, figures, thresholds, info.description, worst, note)
