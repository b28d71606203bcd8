"""The values for Dagster's own chart keep the same contract as the project's chart."""

import re
from pathlib import Path
from typing import Any

import yaml
from dagster import DagsterInstance, Shape
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config_schema

from views_dagster_tests.deployment.rendering import ROOT, dagster_yaml, of_kind, rendered

VALUES: dict[str, Any] = yaml.safe_load((ROOT / "helm" / "official-chart-values.yaml").read_text())
(DEPLOYMENT,) = VALUES["dagster-user-deployments"]["deployments"]
OURS = rendered("minimal")


def test_the_environment_is_the_same() -> None:
    environment = {variable["name"]: variable["value"] for variable in DEPLOYMENT["env"]}
    ours = of_kind(OURS, "ConfigMap")["environment"]["data"]
    # One service account for all; what the image sets already.
    left_out = {"VIEWS_STEP_SERVICE_ACCOUNT", "DAGSTER_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY"}
    assert set(environment) == set(ours) - left_out
    for name in ("VIEWS_EXECUTOR", "VIEWS_HOME", "VIEWS_MAX_STEPS"):
        assert environment[name] == ours[name]


def test_security_is_the_same() -> None:
    template = of_kind(OURS, "Deployment")["daemon"]["spec"]["template"]["spec"]
    closed = template["containers"][0]["securityContext"]
    launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    for block in (DEPLOYMENT, VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], launcher):
        assert block["securityContext"].items() <= closed.items()
        assert len(block["securityContext"]) == len(closed) - 1  # privileged is false by default
    pod = launcher["runK8sConfig"]["podSpecConfig"]["securityContext"]
    assert pod.items() <= template["securityContext"].items()


def test_what_it_adds_to_the_instance_is_what_the_chart_sets() -> None:
    added, ours = VALUES["additionalInstanceConfig"], dagster_yaml(OURS)
    checked = validate_config(Shape(dict(dagster_instance_config_schema())), added)
    assert checked.success, checked.errors
    assert added["run_retries"] == ours["run_retries"]
    assert added["local_artifact_storage"] == ours["local_artifact_storage"]
    assert added["concurrency"] == ours["concurrency"]


def test_dagster_takes_it_together_with_what_that_chart_writes_itself(tmp_path: Path) -> None:
    """It puts the queue, the monitoring and what is added into one dagster.yaml."""
    daemon = VALUES["dagsterDaemon"]
    coordinator = daemon["runCoordinator"]
    # Any other type gets limits of its own, even where the values name none, and no instance opens with both.
    assert coordinator["type"] == "CustomRunCoordinator"
    monitoring = {re.sub("([A-Z])", r"_\1", name).lower(): value for name, value in daemon["runMonitoring"].items()}
    written = {
        "run_coordinator": coordinator["config"]["customRunCoordinator"],
        "run_monitoring": monitoring,
        "run_launcher": {"module": "dagster", "class": "DefaultRunLauncher"},
        **VALUES["additionalInstanceConfig"],
        "local_artifact_storage": {
            "module": "dagster._core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": str(tmp_path)},
        },
    }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(written))
    ours = dagster_yaml(OURS)
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        limits = instance.get_concurrency_config()
        assert limits.run_queue_config
        assert limits.run_queue_config.max_concurrent_runs == ours["concurrency"]["runs"]["max_concurrent_runs"]
        assert limits.pool_config.default_pool_limit == ours["concurrency"]["pools"]["default_limit"]
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_resume_run_attempts == 0


def test_the_code_location_may_write_where_dagster_makes_a_database_without_a_dagster_yaml() -> None:
    home = re.search(r"\bDAGSTER_HOME=(\S+)", (ROOT / "Dockerfile").read_text())
    assert home
    (mount,) = [mount for mount in DEPLOYMENT["volumeMounts"] if mount["mountPath"] == home[1]]
    assert "readOnly" not in mount
    assert "emptyDir" in next(volume for volume in DEPLOYMENT["volumes"] if volume["name"] == mount["name"])


def test_it_makes_no_secret() -> None:
    assert VALUES["generatePostgresqlPasswordSecret"] is False
    assert "postgresqlPassword" not in VALUES["postgresql"]
