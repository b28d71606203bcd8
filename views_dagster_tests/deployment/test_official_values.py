"""The values for Dagster's own chart keep the same contract as the project's chart."""

from typing import Any

import yaml
from dagster import Shape
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
    assert added["concurrency"]["pools"] == ours["concurrency"]["pools"]


def test_it_makes_no_secret() -> None:
    assert VALUES["generatePostgresqlPasswordSecret"] is False
    assert "postgresqlPassword" not in VALUES["postgresql"]
