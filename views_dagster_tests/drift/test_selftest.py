import pytest

from views_dagster.drift.changes import OUTPUT_DRIFT_CHECKS
from views_dagster.drift.inputs import INPUT_CHECKS
from views_dagster.drift.outputs import VALIDITY_CHECKS
from views_dagster.drift.selftest import perturbations, self_test
from views_dagster.drift.settings import InputDriftSettings


def test_every_check_has_one_perturbation() -> None:
    checks = [*INPUT_CHECKS, *VALIDITY_CHECKS, *OUTPUT_DRIFT_CHECKS]
    assert [trial.check for trial in perturbations() if trial.world == "units"] == checks
    assert len(set(checks)) == len(checks)


@pytest.mark.slow
def test_each_perturbation_fires_its_check_and_no_other() -> None:
    table = self_test()
    assert table.height == 5 + len(perturbations())
    assert table.filter(~table["passed"]).to_dicts() == []


@pytest.mark.slow
def test_the_self_test_shows_what_a_loose_threshold_no_longer_catches() -> None:
    table = self_test(inputs=InputDriftSettings(ks_distance_warning=0.9))
    assert table.filter(~table["passed"])["check"].to_list() == ["ks_distance"]
