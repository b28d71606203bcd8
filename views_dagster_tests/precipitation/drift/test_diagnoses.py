import numpy as np
import polars as pl
import pytest

from views_dagster.drift.results import CheckResult
from views_dagster.errors import ForecastError
from views_dagster.precipitation.bands import EDGES
from views_dagster.precipitation.drift.diagnoses import DiagnosisSummary, check_diagnosis, check_performance
from views_dagster.precipitation.drift.perturbations import MONTH, good_diagnosis, good_scores

GOOD = good_diagnosis(MONTH)
DUE = GOOD.select("valid_time", "box_id")


def failed(results: list[CheckResult]) -> dict[str, str]:
    return {result.name: result.severity for result in results if not result.passed}


def test_rows_that_nobody_asked_for_and_rows_twice_are_errors() -> None:
    for forecast, due, figure in (
        (GOOD, DUE.slice(1), "unasked_rows"),
        (pl.concat([GOOD, GOOD.head(2)]), DUE, "repeated_rows"),
        (GOOD.slice(3), DUE, "absent_rows"),
    ):
        results = check_diagnosis(forecast, MONTH, due, EDGES)
        assert failed(results) == {"complete": "error"}
        assert results[0].figures[figure] == {"unasked_rows": 1, "repeated_rows": 2, "absent_rows": 3}[figure]


@pytest.mark.parametrize("fractions", [[0.5, 0.5], [float("nan"), 0, 0, 0, 1], [1.5, -0.5, 0, 0, 0], None])
def test_bad_rows_are_errors(fractions: list[float] | None) -> None:
    row = GOOD.head(1).with_columns(pl.Series("fractions", [fractions], dtype=pl.List(pl.Float32)))
    assert failed(check_diagnosis(pl.concat([row, GOOD.slice(1)]), MONTH, DUE, EDGES)) == {"fractions": "error"}


def test_nothing_at_all_is_incomplete() -> None:
    assert failed(check_diagnosis(GOOD.clear(), MONTH, DUE, EDGES)) == {"complete": "error"}


def test_a_model_that_was_never_sharp_is_not_tested_for_it() -> None:
    flat = GOOD.with_columns(pl.Series("fractions", [[0.8, 0.1, 0.1, 0, 0]] * GOOD.height, dtype=pl.List(pl.Float32)))
    history = [DiagnosisSummary.of(flat, MONTH - back, EDGES) for back in range(1, 13)]
    results = {result.name: result for result in check_diagnosis(flat, MONTH, DUE, EDGES, history)}
    assert not failed(list(results.values()))
    assert results["sharpness"].note


def test_a_month_without_fractions_does_not_silence_sharpness() -> None:
    months = range(MONTH - 13, MONTH)
    history = [DiagnosisSummary.of(good_diagnosis(month), month, EDGES) for month in months]
    history[5] = DiagnosisSummary(MONTH - 8, np.full(len(EDGES), np.nan))
    alike = pl.Series("fractions", [said().mean(axis=0).tolist()] * GOOD.height, dtype=pl.List(pl.Float32))
    assert "sharpness" in failed(check_diagnosis(GOOD.with_columns(alike), MONTH, DUE, EDGES, history))


def test_the_mix_is_compared_with_each_reference() -> None:
    drier = np.array([0.99, 0.01, 0, 0, 0])
    results = check_diagnosis(GOOD, MONTH, DUE, EDGES, references={"same": said(), "drier": drier})
    mix = next(result for result in results if result.name == "band_mix")
    assert (mix.passed, mix.severity) == (False, "warning")
    assert set(mix.worst.filter(pl.col("effect") > 0.35)["reference"]) == {"drier"}


def said() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.stack([*GOOD["fractions"].to_numpy()])


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ForecastError, match="no column rain_mean"):
        check_diagnosis(GOOD.drop("rain_mean"), MONTH, DUE, EDGES)


def test_performance_by_hand() -> None:
    scores = pl.DataFrame(
        {"month_id": range(1, 9), "score": [1.0, 1.2, 0.8, 1.0, 1.4, 0.6, 1.0, 1.74], "reference": [2.0] * 8}
    )
    score, skill = check_performance(scores, 8)
    # Deviations from the median 1 are 0, .2, .2, 0, .4, .4, 0: their median .2.
    assert score.figures["excess"] == pytest.approx(0.74 / (1.4826 * 0.2))
    assert skill.figures["fall"] == pytest.approx(0.5 - 0.13)
    assert score.passed
    assert not skill.passed


def test_performance_needs_history_and_a_score() -> None:
    scores = good_scores()
    assert all(result.note for result in check_performance(scores.filter(pl.col("month_id") >= MONTH - 2), MONTH))
    assert all(result.note for result in check_performance(scores, MONTH + 1))
    without = scores.with_columns(reference=pl.lit(None, pl.Float64))
    assert [bool(result.note) for result in check_performance(without, MONTH)] == [False, True]


def test_months_without_a_score_do_not_count() -> None:
    scores = good_scores()
    unscored = scores.with_columns(score=pl.when(pl.col("month_id") < MONTH).then("score"))
    assert all(result.note.endswith("no score") for result in check_performance(unscored, MONTH))
    some = scores.with_columns(score=pl.when(pl.col("month_id") != MONTH - 3).then("score"))
    assert not failed(check_performance(some, MONTH))
