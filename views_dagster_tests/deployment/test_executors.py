"""One setting chooses where steps run, and what they make is the same everywhere."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from resources.executors import executor_from_environment
from views_dagster.errors import PlatformError
from views_dagster_tests.homes import ROOT, Home

MONTH = "1992-12"
LOCATION = "views_dagster_tests.deployment.small_location"
TABLES = [f"{kind}/{model}" for kind in ("artifacts", "forecasts") for model in ("quiet_echo", "still_water")]


@pytest.mark.parametrize(
    ("chosen", "name"), [("", "in_process"), ("in_process", "in_process"), ("multiprocess", "multiprocess")]
)
def test_the_setting_chooses(monkeypatch: pytest.MonkeyPatch, chosen: str, name: str) -> None:
    monkeypatch.setenv("VIEWS_EXECUTOR", chosen)
    monkeypatch.delenv("VIEWS_MAX_STEPS", raising=False)
    assert executor_from_environment().name == name


@pytest.mark.parametrize("at_once", ["", "3"])
def test_on_a_cluster_steps_are_pods(monkeypatch: pytest.MonkeyPatch, at_once: str) -> None:
    monkeypatch.setenv("VIEWS_EXECUTOR", "kubernetes")
    monkeypatch.setenv("VIEWS_MAX_STEPS", at_once)
    assert executor_from_environment().name == "k8s"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "VIEWS_EXECUTOR",
            "kubernets",
            "VIEWS_EXECUTOR=kubernets: there is no such executor; did you mean kubernetes?",
        ),
        ("VIEWS_EXECUTOR", "celery", "in_process, kubernetes, multiprocess"),
        ("VIEWS_MAX_STEPS", "many", "VIEWS_MAX_STEPS=many: write how many steps of a run may run at once, 1 or more"),
        ("VIEWS_MAX_STEPS", "0", "VIEWS_MAX_STEPS=0: write how many"),
    ],
)
def test_a_setting_that_is_wrong_says_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(PlatformError) as raised:
        executor_from_environment()
    assert message in str(raised.value)


@pytest.mark.slow
def test_processes_make_what_one_process_makes(small_home: Home, tmp_path: Path) -> None:
    expected = small_home.copy(tmp_path / "here")
    expected.run(" or ".join(f"key:{table}" for table in TABLES), MONTH, checks=False)
    home = small_home.copy(tmp_path / "there")
    instance = tmp_path / "dagster"
    instance.mkdir()
    (instance / "dagster.yaml").write_text(yaml.safe_dump({"telemetry": {"enabled": False}}))
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DAGSTER_EVENT_BATCH_SIZE"},
        "DAGSTER_HOME": str(instance),
        "VIEWS_HOME": str(home.folder),
        "VIEWS_TEST_PROJECT": str(home.project),
        "VIEWS_EXECUTOR": "multiprocess",
        "VIEWS_MAX_STEPS": "2",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    dagster = str(Path(sys.executable).with_name("dagster"))
    done = subprocess.run(
        [dagster, "asset", "materialize", "-m", LOCATION, "--select", ",".join(TABLES), "--partition", MONTH],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    digests = home.digests()
    assert {table: digests[table] for table in TABLES} == {table: expected.digests()[table] for table in TABLES}
    with dg.DagsterInstance.from_config(str(instance)) as opened:
        (run,) = opened.get_runs()
        started = opened.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)
    assert {entry.step_key for entry in started} >= {table.replace("/", "__") for table in TABLES}
