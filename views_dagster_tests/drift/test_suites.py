import os

import polars as pl
import pytest

from views_dagster.drift.results import CheckInfo, CheckResult
from views_dagster.drift.suites import Expected, Severity, validate, verdict

FRAME = pl.DataFrame({"x": [1.0, 2.0, None], "y": [1, 1, 2]})


def expected(check: str, limit: float, severity: Severity = "error", column: str = "x") -> Expected:
    return Expected(check, "b", "ExpectColumnMaxToBeBetween", {"column": column, "max_value": limit}, severity)


def judge(*expectations: Expected) -> CheckResult:
    outcomes = validate({"b": FRAME}, expectations)["c"]
    return verdict("c", outcomes, CheckInfo("", "error"), {}, {}, pl.DataFrame(), "")


def test_a_check_is_the_conjunction_of_its_expectations() -> None:
    assert judge(expected("c", 2), expected("c", 2, column="y")).passed
    assert not judge(expected("c", 2), expected("c", 1, column="y")).passed


def test_severity_is_the_worst_of_the_failed_expectations() -> None:
    assert judge(expected("c", 1, "warning"), expected("c", 9, "error")).severity == "warning"
    assert judge(expected("c", 1, "warning"), expected("c", 1.5, "error")).severity == "error"


def test_equal_expectations_of_two_checks_both_count() -> None:
    outcomes = validate({"b": FRAME}, [expected("c", 1), expected("d", 1)])
    assert [[outcome.success for outcome in outcomes[name]] for name in ("c", "d")] == [[False], [False]]


def test_an_expectation_that_cannot_run_is_no_verdict() -> None:
    with pytest.raises(RuntimeError, match="ExpectColumnMaxToBeBetween of check c"):
        validate({"b": FRAME}, [expected("c", 1, column="absent")])


def test_nothing_is_reported_to_anyone(capfd: pytest.CaptureFixture[str]) -> None:
    validate({"b": FRAME}, [expected("c", 1)])
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
    assert capfd.readouterr() == ("", "")
