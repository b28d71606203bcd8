"""The chart lints, renders for every set of values, and what it renders is valid and closed."""

import re
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from views_dagster_tests.deployment.rendering import (
    BARE,
    CHART,
    EVERYTHING,
    IMAGE,
    MINIMAL,
    NAME,
    VALUE_SETS,
    dagster_yaml,
    of_kind,
    render,
    rendered,
)

KUBERNETES = ("1.27", "1.30", "1.34", "1.37")
every_value_set = pytest.mark.parametrize("values", VALUE_SETS)


@pytest.mark.parametrize("values", [{}, MINIMAL, EVERYTHING, BARE])
def test_helm_lint_finds_nothing(values: dict[str, Any]) -> None:
    report = helm_python.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] > 1] == []


@every_value_set
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_is_valid(values: str, version: str) -> None:
    for manifest in rendered(values):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_one_value_chooses_where_steps_run() -> None:
    for executor in ("kubernetes", "multiprocess", "in_process"):
        manifests = render({**MINIMAL, "runs": {"executor": executor}})
        settings = of_kind(manifests, "ConfigMap")["environment"]["data"]
        assert settings["VIEWS_EXECUTOR"] == executor


def test_the_chart_has_no_dependency() -> None:
    assert "dependencies" not in yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert not (CHART / "charts").exists()


@pytest.mark.parametrize("missing", ["image", "postgres", "objectStore", "mlflow"])
def test_a_setting_that_is_missing_is_named(missing: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=rf"{missing}\.\w+: name "):
        render({key: value for key, value in MINIMAL.items() if key != missing})


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"webserer": {}}, "'webserer' not allowed"),
        ({"runs": {"executor": "kubernets"}}, "/runs/executor"),
        ({"runs": {"maxGpuStep": 2}}, "'maxGpuStep' not allowed"),
        ({"runs": {"resources": {"limits": {"memory": "4Gi", "cpu": "2"}}}}, "'cpu' not allowed"),
        ({"runs": {"scratch": "20 GB"}}, "/runs/scratch"),
        ({"postgres": {"secretName": "p", "password": "x"}}, "'password' not allowed"),
        ({"objectStore": {"url": "forecasts/production"}}, "/objectStore/url"),
        ({"objectStore": {"url": "s3://forecasts/production/"}}, "/objectStore/url"),
        ({"mlflow": {"trackingUri": "https://me:secret@mlflow.example.org"}}, "/mlflow/trackingUri"),
        ({"environment": {"WDI_TOKEN": "abc"}}, "WDI_TOKEN"),
        ({"environment": {"WDI": "postgresql://me:secret@host/db"}}, "/environment/WDI"),
        ({"networkPolicy": {"webserverFrom": [{"namespce": "x"}]}}, "'namespce' not allowed"),
        ({"notifications": {"mail": {"host": "smtp.example.org"}}}, "/notifications/mail/from"),
        ({"user": 0}, "/user"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=re.escape(named)):
        render({**MINIMAL, **values})


def test_every_object_of_the_schema_refuses_what_it_does_not_know() -> None:
    def closed(schema: Any) -> bool:
        if isinstance(schema, list):
            return all(map(closed, schema))
        if not isinstance(schema, dict):
            return True
        # A map of names has a type for its values instead.
        open_ = schema.get("type") == "object" and schema.get("additionalProperties", True) is True
        return not open_ and all(map(closed, schema.values()))

    with helm_python.Chart.load(CHART) as chart:
        assert chart.schema
        assert closed(chart.schema)


def test_every_value_has_a_rule() -> None:
    with helm_python.Chart.load(CHART) as chart:
        assert chart.schema
        assert set(chart.values) == set(chart.schema["properties"])


def test_the_code_location_names_the_image_that_runs_take() -> None:
    manifests = rendered("minimal")
    (container,) = of_kind(manifests, "Deployment")["code-location"]["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert container["image"] == env["DAGSTER_CURRENT_IMAGE"] == IMAGE
    assert "job_image" not in dagster_yaml(manifests)["run_launcher"]["config"]


def test_a_digest_replaces_the_tag() -> None:
    (container,) = of_kind(rendered("everything"), "Deployment")["daemon"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.org/views-dagster@sha256:{'0' * 64}"


def test_the_environment_is_the_contract_of_deployments() -> None:
    assert of_kind(rendered("everything"), "ConfigMap")["environment"]["data"] == {
        "AWS_ALLOW_HTTP": "true",
        "AWS_ENDPOINT_URL": "http://store.example.org:9000",
        "AWS_REGION": "eu-north-1",
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": "https://mlflow.example.org",
        "OMP_NUM_THREADS": "4",
        "VIEWS_CHECKPOINTS": "s3://forecasts/production/checkpoints",
        "VIEWS_EXECUTOR": "kubernetes",
        "VIEWS_HOME": "/var/lib/views",
        "VIEWS_MAIL_FROM": "a@example.org",
        "VIEWS_MAIL_TO": "b@example.org",
        "VIEWS_MAX_STEPS": "8",
        "VIEWS_SMTP_HOST": "smtp.example.org",
        "VIEWS_SMTP_PORT": "587",
        "VIEWS_SOURCES": "/etc/views/sources.yaml",
        "VIEWS_STEP_SERVICE_ACCOUNT": f"{NAME}-step",
        "VIEWS_TABLES": "s3://forecasts/production/tables",
        "VIEWS_UI_URL": "https://views.example.org/views",
    }


@every_value_set
def test_names_that_manifests_mention_exist(values: str) -> None:
    """Config maps, service accounts and services are those of the release; claims and secrets those that the values name."""
    manifests = rendered(values)
    text = yaml.safe_dump_all([*manifests, dagster_yaml(manifests)])
    ours = {m["metadata"]["name"] for m in manifests}
    mentioned = set(re.findall(rf"\b{NAME}[a-z-]*", text)) - {NAME}
    assert mentioned == ours


def test_a_change_of_configuration_replaces_the_pods() -> None:
    def annotation(values: dict[str, Any]) -> str:
        daemon = of_kind(render(values), "Deployment")["daemon"]
        return daemon["spec"]["template"]["metadata"]["annotations"]["views-dagster/configuration"]

    assert annotation(MINIMAL) == annotation(MINIMAL)
    assert annotation(MINIMAL) != annotation({**MINIMAL, "runs": {"maxConcurrent": 9}})
