"""Thresholds that cannot be meant are refused where they are written."""

import pytest
from pydantic import ValidationError

from views_dagster.drift.settings import InputDriftSettings


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"extremes_warning": 500, "extremes_error": 10}, "extremes_warning is 500.0, beyond extremes_error, 10.0"),
        ({"completeness_warning": 0.4}, "completeness_warning is 0.4, beyond completeness_error, 0.3"),
        ({"history_months": 3, "min_history_months": 6}, "no check against history would ever run"),
    ],
)
def test_thresholds_that_contradict_each_other_are_refused(settings: dict[str, float], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        InputDriftSettings.model_validate(settings)


def test_a_warning_may_be_where_the_error_is() -> None:
    assert InputDriftSettings(extremes_warning=10, extremes_error=10).extremes_warning == 10
