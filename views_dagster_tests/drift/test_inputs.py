from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from views_dagster.drift.inputs import INPUT_CHECKS, check_input
from views_dagster.drift.results import CheckResult
from views_dagster.drift.selftest import MONTH, good_window
from views_dagster.drift.settings import InputDriftSettings
from views_dagster.errors import PanelError

NOW = pl.col("month_id") == MONTH
VALUES = pl.all().exclude("month_id", "unit_id")


def run(frame: pl.DataFrame, month: int = MONTH, **kwargs: object) -> dict[str, CheckResult]:
    results = check_input(frame, month, **kwargs)  # type: ignore[arg-type]
    assert [result.name for result in results] == list(INPUT_CHECKS)
    return {result.name: result for result in results}


def fired(results: dict[str, CheckResult]) -> dict[str, str]:
    return {name: result.severity for name, result in results.items() if not result.passed}


@pytest.mark.parametrize(
    ("poison", "check"),
    [
        (lambda frame: frame.with_columns(pl.when(~NOW).then(VALUES)), "missing_by_column"),
        (lambda frame: frame.with_columns(pl.when(NOW).then(VALUES * 0).otherwise(VALUES)), "zeros_by_column"),
        (
            lambda frame: pl.concat(
                [frame.filter(~NOW), frame.filter(pl.col("month_id") == MONTH - 1).with_columns(month_id=MONTH)],
                how="vertical_relaxed",
            ),
            "unchanged_month",
        ),
        (lambda frame: frame.filter(~NOW | (pl.col("unit_id") % 10 > 0)), "missing_units"),
        (lambda frame: frame.with_columns(pl.when(NOW).then(VALUES * 1000).otherwise(VALUES)), "extremes"),
    ],
    ids=["all missing", "all zero", "last month copied", "a tenth of the units gone", "times 1000"],
)
def test_a_poisoned_newest_month_is_an_error(poison: Callable[[pl.DataFrame], pl.DataFrame], check: str) -> None:
    assert fired(run(poison(good_window())))[check] == "error"


def test_the_worst_rows_name_the_column_and_the_figures_say_how_far() -> None:
    frame = good_window().with_columns(pl.when(~(NOW & (pl.col("unit_id") <= 60))).then("index").name.keep())
    result = run(frame)["missing_by_column"]
    assert (result.passed, result.severity) == (False, "warning")
    assert result.worst.row(0, named=True) == {
        "column": "index",
        "missing_rise": 0.5,
        "missing": 0.5,
        "missing_typical": 0.0,
    }
    assert result.figures["missing_rise"] == 0.5
    assert result.thresholds == {"missing_by_column_warning": 0.1, "missing_by_column_error": 0.5}


def test_severity_grows_with_the_share_of_units_gone() -> None:
    good = good_window()
    assert fired(run(good.filter(~NOW | (pl.col("unit_id") > 1)))) == {"missing_units": "warning"}
    assert fired(run(good.filter(~NOW | (pl.col("unit_id") > 5)))) == {"missing_units": "error"}


def test_an_expected_column_that_is_not_there() -> None:
    result = run(good_window(), columns=["month_id", "unit_id", "index", "price"])["structure"]
    assert not result.passed
    assert result.worst["missing_column"].to_list() == ["price"]


def test_a_unit_without_an_id() -> None:
    frame = good_window().with_columns(
        pl.when(~(NOW & (pl.col("unit_id") == 1))).then(pl.col("unit_id")).alias("unit_id")
    )
    assert fired(run(frame)) == {"structure": "error", "missing_units": "warning"}


def test_ignored_columns_are_not_tested() -> None:
    frame = good_window().with_columns(pl.when(~(NOW & (pl.col("unit_id") <= 61))).then("index").name.keep())
    assert fired(run(frame)) == {"missing_by_column": "error"}
    assert fired(run(frame, settings=InputDriftSettings(ignore=("index",)))) == {}


def test_the_divergence_is_the_one_of_its_definition() -> None:
    good = good_window()
    frame = good.with_columns(pl.when(NOW).then(pl.col("growth") + 4).otherwise(pl.col("growth")).alias("growth"))
    worst = run(frame)["kl_divergence"].worst.row(0, named=True)
    history = good.filter(~NOW)["growth"].to_numpy()
    values = frame.filter(NOW)["growth"].to_numpy()
    edges = np.quantile(history, np.linspace(0, 1, 11))
    # 1 % of the weight goes to the two tails and 1 % to empty inner bins, of which there are none.
    expected = np.array([0.005, *[0.98 * 0.1] * 10, 0.005]) / 0.99
    inner = np.histogram(values, edges)[0]
    observed = np.array([(values < edges[0]).sum(), *inner, (values > edges[-1]).sum()]) / len(values)
    some = observed > 0
    assert worst["column"] == "growth"
    assert worst["kl"] == pytest.approx((observed[some] * np.log(observed[some] / expected[some])).sum(), rel=1e-6)


class TestDegenerateInput:
    def test_an_empty_month_is_an_error_and_the_rest_says_why_it_was_not_tested(self) -> None:
        results = run(good_window().filter(~NOW))
        assert fired(results) == {"structure": "error", "missing_units": "error", "completeness": "error"}
        assert results["ks_distance"].note == "not evaluated: the month has no rows"

    def test_an_empty_table(self) -> None:
        assert fired(run(good_window().clear())) == {"structure": "error", "completeness": "error"}

    def test_a_first_month_passes_with_a_note(self) -> None:
        results = run(good_window().filter(NOW))
        assert fired(results) == {}
        assert results["extremes"].note == "not evaluated: 0 months of history, and 6 are needed"
        assert results["structure"].note == ""

    def test_a_first_month_without_any_value_is_an_error(self) -> None:
        assert fired(run(good_window().filter(NOW).with_columns(VALUES * None))) == {"completeness": "error"}

    @pytest.mark.parametrize("unit", [1, 2, 4])
    def test_a_single_unit(self, unit: int) -> None:
        assert fired(run(good_window().filter(pl.col("unit_id") == unit))) == {}

    def test_columns_without_values_through_history(self) -> None:
        good = good_window().with_columns(never=pl.lit(None, dtype=pl.Float64))
        results = run(good)
        assert fired(results) == {}

    def test_a_column_whose_values_begin_this_month(self) -> None:
        good = good_window().with_columns(pl.when(NOW).then("growth").alias("begins"))
        assert fired(run(good)) == {}

    def test_no_numeric_column(self) -> None:
        with pytest.raises(PanelError, match="numeric column"):
            check_input(good_window().select("month_id", "unit_id"), MONTH)


@pytest.mark.slow
def test_real_months_are_quiet_and_real_poison_is_not(shared_data: Path) -> None:
    panel = pl.read_parquet(shared_data / "conflict" / "ucdp_country_month.parquet").select(
        "month_id", "ged_sb_best", "ged_ns_best_1m", "ged_os_best_1m", unit_id="gwno"
    )
    for month in (310, 345, 400, 455, 512):
        assert fired(run(panel, month)) == {}
        now = pl.col("month_id") == month
        assert "error" in fired(run(panel.with_columns(pl.when(~now).then(VALUES)), month)).values()
        zero = panel.with_columns(pl.when(now).then(VALUES * 0).otherwise(VALUES))
        assert "error" in fired(run(zero, month)).values()
        huge = panel.with_columns(pl.when(now).then(VALUES * 1000).otherwise(VALUES))
        assert "error" in fired(run(huge, month)).values()
