"""What a check returns: one named verdict with the figures behind it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class CheckResult:
    """The verdict of one check for one month.

    Attributes:
        name: the check, a key of the suite's table of checks.
        passed: whether every expectation of the check was met.
        severity: of a failed check, the worst of its failed expectations (`error` blocks, `warning` informs); of a
            passed one, the worst it could have had.
        figures: the numbers that were tested.
        thresholds: what they were tested against, under the names of the settings.
        description: what the check tests, in one sentence.
        worst: at most a few rows that name the worst columns or units, worst first; empty where the check has none.
        note: why a check passed without being evaluated, otherwise empty.
    """

    name: str
    passed: bool
    severity: Severity
    figures: Mapping[str, float]
    thresholds: Mapping[str, float]
    description: str
    worst: pl.DataFrame = field(default_factory=pl.DataFrame)
    note: str = ""


@dataclass(frozen=True)
class CheckInfo:
    """What is known of a check before it runs: its sentence and the worst severity a failure can have."""

    description: str
    severity: Severity


def not_evaluated(checks: Mapping[str, CheckInfo], note: str) -> list[CheckResult]:
    """Results of a suite that had nothing to look at."""
    return [
        CheckResult(name, True, info.severity, {}, {}, info.description, note=note) for name, info in checks.items()
    ]
