"""The verdicts: Great Expectations suites over pandas batches, one `validate` call a batch.

A check is the conjunction of its expectations. Each carries the check's name in `meta` and a Great Expectations
severity: `critical` where its failure is an error, `warning` where it is a warning.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import polars as pl

from views_dagster.drift.results import CheckInfo, CheckResult, Severity

if TYPE_CHECKING:
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.datasource.fluent import PandasDatasource

_ONE_AT_A_TIME = Lock()
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
    """What became of one expectation."""

    expected: Expected
    success: bool


def validate(batches: Mapping[str, pl.DataFrame], expectations: Sequence[Expected]) -> dict[str, list[Outcome]]:
    """Outcomes by check. One suite and one `validate` call for each batch that has expectations.

    Raises:
        RuntimeError: an expectation could not be evaluated; a check that did not run must not look as if it passed.
    """
    outcomes: dict[str, list[Outcome]] = {}
    # The execution engine that all batches share knows one of them as the active one.
    with _ONE_AT_A_TIME:
        for name, frame in batches.items():
            wanted = [expected for expected in expectations if expected.batch == name]
            if wanted:
                for outcome in _validate_batch(name, frame, wanted):
                    outcomes.setdefault(outcome.expected.check, []).append(outcome)
    return outcomes


def _validate_batch(name: str, frame: pl.DataFrame, wanted: Sequence[Expected]) -> Iterator[Outcome]:
    definition = _batch_definition(name)
    import great_expectations as gx
    import great_expectations.expectations as gxe
    import pandas as pd

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
    pandas_frame = pd.DataFrame({column: frame[column].to_numpy() for column in frame.columns})
    # batch.validate and not a ValidationDefinition: the latter cannot store numpy 2 booleans.
    batch = definition.get_batch(batch_parameters={"dataframe": pandas_frame})
    report = batch.validate(suite, result_format="BOOLEAN_ONLY")
    if len(report.results) != len(wanted):
        raise RuntimeError(f"{len(report.results)} of {len(wanted)} expectations on the batch {name} were evaluated")
    for result in report.results:
        expected = wanted[result.expectation_config.meta["position"]]
        if result.exception_info.get("raised_exception", True):
            raise RuntimeError(
                f"{expected.expectation} of check {expected.check} failed to run: {result.exception_info}"
            )
        yield Outcome(expected, bool(result.success))


@cache
def _batch_definition(name: str) -> "BatchDefinition[Any]":
    """The batch called `name`. Each is made once: registering one rewrites the context's configuration."""
    return _source().add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)


@cache
def _source() -> "PandasDatasource":
    # Read when great_expectations is first imported; without it every context reports to a server.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context.data_sources.add_pandas("drift")


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
