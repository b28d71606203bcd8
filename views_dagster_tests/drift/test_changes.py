import math

import polars as pl
import pytest

from views_dagster.drift.changes import OUTPUT_DRIFT_CHECKS, check_output_drift
from views_dagster.drift.results import CheckResult
from views_dagster.drift.settings import OutputDriftSettings


def forecast(means: dict[int, list[float]], first_target: int) -> pl.DataFrame:
    """Means of each unit for consecutive target months."""
    return pl.DataFrame(
        [
            {"unit_id": unit, "target_month": first_target + at, "mean": mean}
            for unit, values in means.items()
            for at, mean in enumerate(values)
        ],
        schema={"unit_id": pl.Int64, "target_month": pl.Int32, "mean": pl.Float32},
    )


def run(now: pl.DataFrame, before: pl.DataFrame | None, **thresholds: float) -> dict[str, CheckResult]:
    results = check_output_drift(now, before, OutputDriftSettings(**thresholds))  # type: ignore[arg-type]
    assert [result.name for result in results] == list(OUTPUT_DRIFT_CHECKS)
    return {result.name: result for result in results}


def test_only_shared_target_months_are_compared() -> None:
    before = forecast({1: [999, 3, 3], 2: [999, 0, 0]}, first_target=10)
    now = forecast({1: [7, 7, 999], 2: [0, 0, 999]}, first_target=11)
    results = run(now, before)
    # Unit 1 moved by log 8 - log 4 = log 2, unit 2 by nothing.
    assert results["overall_change"].figures["overall_change"] == pytest.approx(math.log(2) / 2)
    assert results["overall_change"].figures["shared_rows"] == 4
    assert not results["overall_change"].passed
    assert results["overall_change"].severity == "warning"
    # log 2 is just below 0.7.
    assert results["changed_units"].figures["changed_units"] == 0


def test_changed_units_count_in_both_directions() -> None:
    before = forecast({1: [9], 2: [9], 3: [9], 4: [9]}, 10)
    now = forecast({1: [99], 2: [0], 3: [9], 4: [9]}, 10)
    assert run(now, before, changed_units_warning=0.5)["changed_units"].passed
    result = run(now, before, changed_units_warning=0.49)["changed_units"]
    assert not result.passed
    assert result.figures["changed_share"] == 0.5
    assert set(result.worst["unit_id"].head(2)) == {1, 2}


def test_newly_high_units_cross_the_level_and_grow_by_the_factor() -> None:
    before = forecast({1: [24], 2: [10], 3: [30], 4: [0]}, 10)
    now = forecast({1: [26], 2: [25], 3: [90], 4: [24]}, 10)
    result = run(now, before, new_high_units_warning=0)["new_high_units"]
    assert not result.passed
    assert result.worst["unit_id"].to_list() == [2]
    assert run(now, before, new_high_units_warning=1)["new_high_units"].passed


@pytest.mark.parametrize("before", [None, forecast({1: [1.0]}, 500), forecast({9: [1.0]}, 10), forecast({}, 10)])
def test_nothing_to_compare_with_passes_with_a_note(before: pl.DataFrame | None) -> None:
    for result in run(forecast({1: [5.0]}, 10), before).values():
        assert result.passed
        assert result.note.startswith("not evaluated: ")


def test_means_that_are_not_finite_are_left_to_the_validity_suite() -> None:
    before = forecast({1: [1], 2: [1]}, 10)
    now = forecast({1: [1], 2: [float("inf")]}, 10)
    assert run(now, before)["overall_change"].figures["units"] == 1


def test_forecasts_near_zero_are_held_to_a_share_of_their_level() -> None:
    before = forecast({unit: [0.02] for unit in range(1000)}, 10)
    doubled = forecast({unit: [0.04] for unit in range(1000)}, 10)
    result = run(doubled, before)["overall_change"]
    assert not result.passed
    assert result.figures["overall_limit"] == pytest.approx(0.25 * math.log(1.04))
    assert run(forecast({unit: [0.024] for unit in range(1000)}, 10), before)["overall_change"].passed


def test_the_share_of_changed_units_is_also_that_of_units_that_could_change() -> None:
    quiet = {unit: [0.0] for unit in range(100, 1000)}
    before = forecast({unit: [9.0] for unit in range(30)} | quiet, 10)
    now = forecast({unit: [9.0] for unit in range(60, 90)} | quiet, 10)
    both = [pl.concat([f, forecast({u: [0.0] for u in o}, 10)]) for f, o in ((before, range(60, 90)), (now, range(30)))]
    result = run(both[1], both[0])["changed_units"]
    assert not result.passed
    assert (result.figures["changed_units"], result.figures["active_units"]) == (60, 60)
    assert result.figures["changed_share"] == pytest.approx(60 / 960)
