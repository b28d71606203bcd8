"""What must never reach a forecast reader does not: diverged models, rows written by hand, poisoned data."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from views_dagster.calendar import from_key
from views_dagster.conflict.demo_readers import DemoEvents, DemoYearTable
from views_dagster.learners.baselines import Conflictology
from views_dagster.sources.base import RawMonths
from views_dagster_tests.homes import SMALL, Home, open_home, write_catalogue

NEWEST, BEFORE = "1992-12", "1992-11"
MONTH = from_key(NEWEST)


def failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What went wrong in each step that failed, from the error up to its cause."""
    found = {}
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error
        texts = []
        while error is not None:
            texts.append(error.message)
            error = error.cause
        found[str(event.step_key)] = "\n".join(texts)
    return found


def failed_checks(result: dg.ExecuteInProcessResult, severity: dg.AssetCheckSeverity) -> set[tuple[str, str]]:
    return {
        (check.asset_key.to_user_string(), check.check_name)
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.severity == severity
    }


def stored(home: Home, table: str, month: str = NEWEST) -> bool:
    return from_key(month) in home.store.months(table)


@pytest.mark.parametrize(
    ("value", "message"), [(1e21, "diverged.*nothing was stored"), (np.nan, "not finite"), (-1.0, "negative")], ids=str
)
def test_a_model_that_diverges_stores_nothing_and_stops_what_comes_after(
    small_copy: Home, monkeypatch: pytest.MonkeyPatch, value: float, message: str
) -> None:
    good = Conflictology.draws_of_units

    def diverges(self: Conflictology, panel: Any, *, draws: int, seed: int) -> Any:
        values = good(self, panel, draws=draws, seed=seed).copy()
        values[3, 5] = value
        return values

    monkeypatch.setattr(Conflictology, "draws_of_units", diverges)
    result = small_copy.release(NEWEST, raise_on_error=False)
    assert not result.success
    broken = failures(result)
    assert set(broken) == {"forecasts__quiet_echo"}
    assert re.search(message, broken["forecasts__quiet_echo"])
    assert not stored(small_copy, "forecasts/quiet_echo")
    assert not stored(small_copy, "ensembles/white_mustang")
    assert not stored(small_copy, "forecasts")
    assert not small_copy.store.exists("release_manifests")
    # A model that is well goes on.
    assert stored(small_copy, "forecasts/still_water")


@pytest.fixture(scope="module")
def released(small_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A released month, to spoil in copies."""
    home = small_home.copy(tmp_path_factory.mktemp("released"))
    home.history(NEWEST, first=NEWEST, checks=False)
    home.release(NEWEST, checks=False)
    return home


def spoil(rows: pl.DataFrame, value: float) -> pl.DataFrame:
    return rows.with_columns(
        draws=pl.when(pl.col("step") == 7)
        .then(pl.col("draws").list.eval(pl.when(pl.int_range(pl.len()) == 2).then(value).otherwise(pl.element())))
        .otherwise("draws")
    )


@pytest.mark.parametrize("value", [1e21, float("nan"), float("inf"), -3.0], ids=str)
def test_bad_rows_written_by_hand_are_refused(released: Home, tmp_path: Path, value: float) -> None:
    """The checks of the model do not run again: the ensemble itself must see it."""
    home = released.copy(tmp_path)
    before = home.store.open("ensembles/white_mustang").version()
    rows = spoil(home.rows("forecasts/quiet_echo", NEWEST), value)
    home.store.write("forecasts/quiet_echo", rows, [MONTH], {})
    result = home.run("key:ensembles/white_mustang", NEWEST, raise_on_error=False)
    assert "ForecastError" in failures(result)["ensembles__white_mustang"]
    assert home.store.open("ensembles/white_mustang").version() == before


def test_rows_that_no_run_recorded_are_not_released(released: Home) -> None:
    rows = released.rows("forecasts/quiet_echo", NEWEST)
    version = released.store.open("forecasts").version()
    released.store.write("forecasts/quiet_echo", spoil(rows, 4.0), [MONTH], {})
    result = released.run("key:forecasts", NEWEST, raise_on_error=False)
    assert "forecasts/quiet_echo for 1992-12 are not the ones that were recorded" in failures(result)["forecasts"]
    assert released.store.open("forecasts").version() == version
    released.store.write("forecasts/quiet_echo", rows, [MONTH], {})
    assert released.run("key:forecasts", NEWEST).success


COVARIATES: dict[str, Any] = {
    **{place: entry for place, entry in SMALL.items() if place != "ensembles/white_mustang"},
    "sources/world_bank": {"reader": {"kind": "demo_covariates", "table": "world_bank"}},
    "features/little": {
        **SMALL["features/little"],
        "columns": {
            **SMALL["features/little"]["columns"],
            "population": {"from": "world_bank.sp_pop_totl", "transforms": ["replace_na(0)", "ln"]},
            "mortality": {"from": "world_bank.sp_dyn_imrt_in", "transforms": ["replace_na(0)"]},
        },
    },
}


@pytest.fixture(scope="module")
def with_covariates(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Raw data and features up to the month before the newest."""
    folder = tmp_path_factory.mktemp("covariates")
    home = open_home(folder, write_catalogue(folder, COVARIATES))
    home.history(BEFORE, checks=False)
    return home


def change(
    columns: list[str], to: Callable[[pl.Expr], pl.Expr]
) -> Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]:
    def poison(newest: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
        return newest.with_columns(to(pl.col(name)).alias(name) for name in columns)

    return poison


def copy_of_last_month(newest: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    return before.with_columns(month_id=pl.lit(MONTH, pl.Int32))


DEATHS, YEARLY = ["best", "low", "high"], ["sp_pop_totl", "sp_dyn_imrt_in"]


@pytest.mark.parametrize(
    ("reader", "table", "poison", "check"),
    [
        (DemoEvents, "raw/ucdp_ged", change(DEATHS, lambda x: x * 0), "input_zeros_by_column"),
        (DemoEvents, "raw/ucdp_ged", change(DEATHS, lambda x: x * 100_000), "input_extremes"),
        (DemoEvents, "raw/ucdp_ged", copy_of_last_month, "input_unchanged_month"),
        (
            DemoYearTable,
            "raw/world_bank",
            change(YEARLY, lambda x: pl.lit(None, pl.Float64)),
            "input_missing_by_column",
        ),
        (DemoYearTable, "raw/world_bank", change(YEARLY, lambda x: x * 1000), "input_extremes"),
        (DemoYearTable, "raw/world_bank", lambda newest, before: newest.head(20), "input_missing_units"),
    ],
    ids=["zero", "x100000", "copied month", "missing", "x1000 yearly", "few units"],
)
def test_a_poisoned_newest_month_stops_before_the_models(
    with_covariates: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reader: type[DemoEvents] | type[DemoYearTable],
    table: str,
    poison: Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame],
    check: str,
) -> None:
    read = reader.read

    def poisoned(self: Any, first: int, last: int) -> RawMonths:
        assert (first, last) == (MONTH, MONTH)
        before = read(self, MONTH - 1, MONTH - 1).frame
        return RawMonths(frame=poison(read(self, first, last).frame, before))

    monkeypatch.setattr(reader, "read", poisoned)
    home = with_covariates.copy(tmp_path)
    result = home.run("*", NEWEST, raise_on_error=False)
    assert not result.success
    assert (table, check) in failed_checks(result, dg.AssetCheckSeverity.ERROR)
    for downstream in ("features/little", "artifacts/quiet_echo", "forecasts/quiet_echo", "forecasts"):
        assert not stored(home, downstream), downstream


def test_the_newest_month_unspoiled_passes(with_covariates: Home, tmp_path: Path) -> None:
    home = with_covariates.copy(tmp_path)
    result = home.run("group:raw_data or group:processed_features", NEWEST)
    assert not failed_checks(result, dg.AssetCheckSeverity.ERROR)
    assert stored(home, "features/little")


def test_a_range_is_checked_at_its_newest_month(small_home: Home, tmp_path: Path) -> None:
    home = small_home.copy(tmp_path)
    result = home.history(BEFORE, first="1992-06")
    checks = result.get_asset_check_evaluations()
    assert {check.asset_key.to_user_string() for check in checks} == {"raw/ucdp_ged", "features/little"}
    assert {check.metadata["month"].value for check in checks} == {BEFORE}
    assert all(check.passed for check in checks if check.severity == dg.AssetCheckSeverity.ERROR)
