"""The input suite on months that are wrong in ways the self-test does not cover, and the statistics behind it."""

from dataclasses import replace

import numpy as np
import pytest

from views_dagster.drift.results import CheckResult
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.drift.columns import COLUMN_CHECKS, check_columns, stability_index
from views_dagster.precipitation.drift.perturbations import BOXES, HISTORY, LEVELS, MONTH, good_columns
from views_dagster.precipitation.drift.settings import ColumnDriftSettings
from views_dagster.precipitation.drift.summaries import ColumnSummary, spread_over_months

TRUTH = good_columns(MONTH)
SUMMARIES = [ColumnSummary.of(good_columns(month), month) for month in range(MONTH - HISTORY, MONTH)]


def failed(results: list[CheckResult]) -> dict[str, str]:
    return {result.name: result.severity for result in results if not result.passed}


def test_a_summary_counts_what_is_there() -> None:
    summary = ColumnSummary.of(TRUTH, MONTH)
    assert summary.rows == len(TRUTH) == 31 * 4 * BOXES
    assert summary.hours == 6
    assert summary.fields[:5] == (*(("temperature", level) for level in LEVELS), ("eastward_wind", LEVELS[0]))
    at = summary.fields.index(("eastward_wind", LEVELS[2]))
    values = TRUTH.profiles[:, 1, 2].astype(np.float64)
    assert summary.mean[at] == pytest.approx(values.mean())
    assert summary.spread[at] == pytest.approx(values.std())
    assert summary.quantiles[at, 100] == pytest.approx(np.median(values), abs=0.05)
    assert summary.wet_share == pytest.approx(1 - TRUTH.fractions[:, 0].mean(), abs=1e-6)


def test_months_together_spread_within_and_between() -> None:
    first, second = (replace(SUMMARIES[0], mean=np.array([mean]), spread=np.array([1.0])) for mean in (0.0, 4.0))
    mean, spread = spread_over_months([first, second])
    assert mean[0] == 2
    assert spread[0] == pytest.approx(np.sqrt(1 + 4))


def test_stability_index_by_hand() -> None:
    history = np.arange(100.0)
    assert stability_index(history, history) == 0
    lower = np.repeat(np.arange(50.0), 2)
    # Ten bins of 0.1: five are now twice as full, and five are empty, which counts as 0.001.
    expected = 5 * (0.2 - 0.1) * np.log(2) + 5 * (0.001 - 0.1) * np.log(0.001 / 0.1)
    assert stability_index(lower, history) == pytest.approx(expected, rel=0.05)


def test_without_history_only_what_needs_none_is_tested() -> None:
    results = check_columns(ColumnSummary.of(TRUTH, MONTH), [])
    assert [result.name for result in results] == list(COLUMN_CHECKS)
    assert not failed(results)
    unjudged = {result.name for result in results if result.note}
    assert unjudged >= {"mean_shift", "ks_distance", "missing_times", "new_boxes", "wet_share"}
    assert not unjudged & {"structure", "physical_bounds", "fractions", "rain_rates"}


def test_later_months_are_no_history() -> None:
    later = [replace(summary, month=MONTH + 1 + at) for at, summary in enumerate(SUMMARIES)]
    assert [result.figures for result in check_columns(ColumnSummary.of(TRUTH, MONTH), later)] == [
        result.figures for result in check_columns(ColumnSummary.of(TRUTH, MONTH), [])
    ]


def test_an_empty_month_is_an_error_and_nothing_else_is_judged() -> None:
    results = check_columns(ColumnSummary.of(TRUTH.take(np.arange(0)), MONTH), SUMMARIES)
    assert failed(results) == {"structure": "error"}


def test_half_a_month_missing_is_an_error() -> None:
    half = TRUTH.take(TRUTH.valid_time <= TRUTH.valid_time[len(TRUTH) // 2])
    assert failed(check_columns(ColumnSummary.of(half, MONTH), SUMMARIES))["missing_times"] == "error"


def test_another_time_step_is_missing_times() -> None:
    every_other = TRUTH.take((TRUTH.valid_time.astype("datetime64[h]").astype(int) // 6) % 2 == 0)
    assert failed(check_columns(ColumnSummary.of(every_other, MONTH), SUMMARIES)) == {"missing_times": "error"}


def test_another_unit_is_an_error_of_bounds_and_mean() -> None:
    profiles = TRUTH.profiles.copy()
    profiles[:, 0] -= np.float32(273.15)
    found = failed(check_columns(ColumnSummary.of(replace(TRUTH, profiles=profiles), MONTH), SUMMARIES))
    assert found["physical_bounds"] == found["mean_shift"] == "error"


def test_a_field_that_stops_varying_is_an_error() -> None:
    profiles = TRUTH.profiles.copy()
    profiles[:, 1, 0] = 5
    found = failed(check_columns(ColumnSummary.of(replace(TRUTH, profiles=profiles), MONTH), SUMMARIES))
    assert found["spread_shift"] == "error"


def test_an_all_dry_month_is_a_warning_alone() -> None:
    dry = np.zeros_like(TRUTH.fractions)
    dry[:, 0] = 1
    none = np.zeros_like(TRUTH.rain_mean)
    month = ColumnSummary.of(replace(TRUTH, fractions=dry, rain_mean=none, rain_max=none), MONTH)
    assert failed(check_columns(month, SUMMARIES)) == {"wet_share": "warning"}


def hidden(columns: Columns, share: float) -> Columns:
    """The columns with the rain of the first share of the rows unknown."""
    unknown = np.arange(len(columns)) < share * len(columns)
    rain = {name: getattr(columns, name).copy() for name in ("fractions", "rain_mean", "rain_max")}
    for values in rain.values():
        values[unknown] = np.nan
    return replace(columns, **rain)


def test_a_feed_that_loses_most_of_the_rain_or_all_of_it_is_an_error() -> None:
    months = {share: ColumnSummary.of(hidden(TRUTH, share), MONTH) for share in (0.0, 0.9, 1.0)}
    found = {share: failed(check_columns(month, SUMMARIES)) for share, month in months.items()}
    assert found[0.0] == {}
    assert found[0.9]["rain_missing"] == "error"
    assert found[1.0] == {"rain_missing": "error"}
    assert failed(check_columns(months[1.0], [])) == {"rain_missing": "error"}
    usual = [replace(each, rain_missing=0.7) for each in SUMMARIES]
    assert failed(check_columns(months[1.0], usual)) == {"rain_missing": "error"}


def test_rain_that_is_not_known_yet_may_be_a_warning() -> None:
    month = ColumnSummary.of(hidden(TRUTH, 1.0), MONTH)
    settings = ColumnDriftSettings(rain_missing_error=1.0)
    assert failed(check_columns(month, SUMMARIES, settings)) == {"rain_missing": "warning"}


def test_a_month_without_known_rain_does_not_make_gaps_usual() -> None:
    unknown = ColumnSummary.of(hidden(good_columns(MONTH - 1), 1.0), MONTH - 1)
    most = ColumnSummary.of(hidden(TRUTH, 0.9), MONTH)
    assert failed(check_columns(most, [*SUMMARIES[:-1], unknown]))["rain_missing"] == "error"


def test_negative_rain_is_an_error() -> None:
    mean = TRUTH.rain_mean.copy()
    mean[np.argmin(mean)] = -0.2
    found = failed(check_columns(ColumnSummary.of(replace(TRUTH, rain_mean=mean), MONTH), SUMMARIES))
    assert found["rain_rates"] == "error"


def test_bounds_can_be_set_for_any_variable() -> None:
    settings = ColumnDriftSettings(bounds={"orography": (0.0, 300.0)})
    results = check_columns(ColumnSummary.of(TRUTH, MONTH, settings), SUMMARIES, settings)
    assert failed(results) == {"physical_bounds": "error"}
    bounds = next(result for result in results if result.name == "physical_bounds")
    assert bounds.worst["variable"].to_list() == ["orography"]
    assert bounds.figures["beyond_bounds"] == pytest.approx(8 / 16)


def test_a_month_of_history_without_a_variable_does_not_silence_its_checks() -> None:
    first = SUMMARIES[0].fields.index(("temperature", LEVELS[0]))
    gone = {name: getattr(SUMMARIES[3], name).copy() for name in ("mean", "spread", "quantiles")}
    for values in gone.values():
        values[first] = np.nan
    history = [ColumnSummary.of(good_columns(MONTH - HISTORY - 1), MONTH - HISTORY - 1), *SUMMARIES]
    history[4] = replace(SUMMARIES[3], **gone)
    warmer = TRUTH.profiles.copy()
    warmer[:, 0, 0] += 20
    results = check_columns(ColumnSummary.of(replace(TRUTH, profiles=warmer), MONTH), history)
    assert {"mean_shift", "ks_distance"} <= failed(results).keys()
    few = check_columns(ColumnSummary.of(replace(TRUTH, profiles=warmer), MONTH), history[1:])
    assert not failed(few)


def test_one_month_of_history_is_no_measure_of_what_is_usual() -> None:
    results = check_columns(ColumnSummary.of(TRUTH, MONTH), SUMMARIES[-1:], ColumnDriftSettings(min_history_months=1))
    assert {result.name for result in results if result.note} == {"ks_distance", "psi"}


def test_inconsistent_rain_is_a_share_of_the_rows_with_rain() -> None:
    summary = replace(ColumnSummary.of(TRUTH, MONTH), rows_with_rain=100, inconsistent_rain=1)
    results = {result.name: result for result in check_columns(summary, [])}
    assert results["rain_consistency"].figures["inconsistent_rain"] == pytest.approx(0.01)
