import pytest

from views_dagster.precipitation.drift.columns import COLUMN_CHECKS
from views_dagster.precipitation.drift.diagnoses import DIAGNOSIS_CHECKS, PERFORMANCE_CHECKS
from views_dagster.precipitation.drift.perturbations import perturbations
from views_dagster.precipitation.drift.selftest import self_test
from views_dagster.precipitation.drift.settings import ColumnDriftSettings


def test_every_check_has_one_perturbation() -> None:
    checks = {("columns", name) for name in COLUMN_CHECKS} | {("diagnosis", name) for name in DIAGNOSIS_CHECKS}
    checks |= {("performance", name) for name in PERFORMANCE_CHECKS}
    trials = [(trial.suite, trial.check) for trial in perturbations()]
    assert set(trials) == checks
    assert len(trials) == len(checks)


@pytest.mark.slow
def test_each_perturbation_fires_its_check_and_no_other() -> None:
    table = self_test()
    assert table.height == 3 + len(perturbations())
    assert table.filter(~table["passed"]).to_dicts() == []


@pytest.mark.slow
def test_the_self_test_shows_what_a_loose_threshold_no_longer_catches() -> None:
    table = self_test(columns=ColumnDriftSettings(psi_warning=9))
    assert table.filter(~table["passed"])["check"].to_list() == ["psi"]
