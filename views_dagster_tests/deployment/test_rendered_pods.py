"""Every container, whether the chart or the run launcher makes it, is closed, limited and knows no secret's value."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from views_dagster_tests.deployment.api_server import ApiServer
from views_dagster_tests.deployment.launching import execute, launch, open_instance, submit
from views_dagster_tests.deployment.rendering import (
    EVERYTHING,
    IMAGE,
    NAME,
    VALUE_SETS,
    Manifest,
    of_kind,
    render,
    rendered,
)

PLANTED = "pla1nted-s3cret"


def deployed(values: str) -> dict[str, Manifest]:
    return {name: d["spec"]["template"] for name, d in of_kind(rendered(values), "Deployment").items()}


def launched(folder: Path, values: str) -> dict[str, Manifest]:
    """The job of a run and the job of its step, as the API server gets them."""
    server = ApiServer()
    with server.running(folder) as kubeconfig, open_instance(folder, kubeconfig, values) as instance:
        launch(instance, submit(instance))
        execute(instance)
    return {
        job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: job
        for job in server.jobs.values()
    }


def closed(template: Manifest) -> None:
    """What the pod security standard `restricted` asks, and a root file system that nobody writes to."""
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert all(set(v) - {"name"} <= {"configMap", "emptyDir", "persistentVolumeClaim"} for v in spec["volumes"])
    assert not spec.get("initContainers")
    for container in spec["containers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["privileged"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
        assert "/tmp" in writable
        assert writable <= {"/tmp", "/var/lib/views", "/var/log/views"}
        assert container["image"].split("@")[0].split(":")[0] == IMAGE.split(":")[0]
    assert template["metadata"]["labels"]["app.kubernetes.io/instance"] == "month"


@pytest.mark.parametrize("values", VALUE_SETS)
def test_every_deployment_is_closed_and_probed(values: str) -> None:
    templates = deployed(values)
    assert set(templates) == {"code-location", "daemon", "webserver"}
    for template in templates.values():
        closed(template)
        for container in template["spec"]["containers"]:
            assert {"startupProbe", "livenessProbe"} <= set(container)
    for name in ("code-location", "webserver"):
        assert "readinessProbe" in templates[name]["spec"]["containers"][0]


@pytest.mark.parametrize("values", VALUE_SETS)
def test_runs_and_steps_are_closed_too(tmp_path: Path, values: str) -> None:
    jobs = launched(tmp_path, values)
    assert set(jobs) == {"run_worker", "step_worker"}
    for worker, job in jobs.items():
        for version in ("1.30", "1.37"):
            kubernetes_validate.validate(job, version, strict=True)
        closed(job["spec"]["template"])
        assert job["spec"]["ttlSecondsAfterFinished"] == 86400
        assert job["spec"]["template"]["spec"]["serviceAccountName"] == f"{NAME}-{worker.removesuffix('_worker')}"


def test_a_step_keeps_what_the_chart_gives_and_adds_what_it_asks_for(tmp_path: Path) -> None:
    jobs = launched(tmp_path, "everything")
    run, step = (jobs[name]["spec"]["template"]["spec"] for name in ("run_worker", "step_worker"))
    assert run["containers"][0]["resources"] == {
        "requests": {"cpu": "500m", "memory": "2Gi"},
        "limits": {"memory": "4Gi"},
    }
    assert step["containers"][0]["resources"] == {
        "requests": {"cpu": "6", "memory": "16Gi"},
        "limits": {"memory": "16Gi", "nvidia.com/gpu": "1"},
    }
    assert run["nodeSelector"] == {"pool": "training"}
    assert step["nodeSelector"] == {"pool": "training", "gpu": "a100"}
    for spec in (run, step):
        (container,) = spec["containers"]
        env = {variable["name"]: variable for variable in container["env"]}
        assert env["VIEWS_POSTGRES_URL"]["valueFrom"]["secretKeyRef"] == {"name": "dagster-database", "key": "url"}
        assert env["AWS_ACCESS_KEY_ID"]["valueFrom"]["secretKeyRef"] == {"name": "store", "key": "AWS_ACCESS_KEY_ID"}
        assert env["DAGSTER_HOME"]["value"] == "/opt/dagster/dagster_home"
        assert container["envFrom"] == [{"configMapRef": {"name": f"{NAME}-environment"}}]
        assert {m["mountPath"] for m in container["volumeMounts"]} == {
            "/opt/dagster/dagster_home", "/tmp", "/var/lib/views", "/var/log/views", "/etc/views", "/data",
        }  # fmt: skip
        assert spec["imagePullSecrets"] == [{"name": "registry"}]


def test_services_know_only_the_database() -> None:
    """Webserver and daemon load none of the project's code, so none of its secrets."""
    for name in ("webserver", "daemon"):
        (container,) = deployed("everything")[name]["spec"]["containers"]
        assert [v["name"] for v in container["env"] if "valueFrom" in v] == ["VIEWS_POSTGRES_URL"]
        assert "envFrom" not in container


@pytest.mark.parametrize("values", VALUE_SETS)
def test_secrets_are_named_and_never_made(values: str) -> None:
    manifests = rendered(values)
    assert not of_kind(manifests, "Secret")
    secret = (
        "PASSWORD",
        "SECRET",
        "TOKEN",
        "ACCESS_KEY",
        "POSTGRES_URL",
        "WEBHOOK",
        "STUDIES",
        "SMTP_USER",
        "USERNAME",
    )
    for template in deployed(values).values():
        for variable in template["spec"]["containers"][0]["env"]:
            if any(part in variable["name"] for part in secret):
                assert set(variable) == {"name", "valueFrom"}
    environment = of_kind(manifests, "ConfigMap")["environment"]["data"]
    assert not [name for name in environment if any(part in name for part in secret)]


def test_a_planted_secret_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that launches has every secret in its environment; neither job, command nor event has one of them."""
    names = {
        v["name"] for v in deployed("everything")["code-location"]["spec"]["containers"][0]["env"] if "valueFrom" in v
    }
    assert len(names) == 11
    for name in names:
        monkeypatch.setenv(name, PLANTED)
    server = ApiServer()
    with server.running(tmp_path) as kubeconfig, open_instance(tmp_path, kubeconfig, "everything") as instance:
        launch(instance, submit(instance))
        execute(instance)
        events = [instance.all_logs(run.run_id) for run in instance.get_runs()]
        configuration = instance.info_str()
    assert len(server.jobs) == 2
    for text in (repr(server.jobs), repr(events), configuration, yaml.safe_dump_all(render(EVERYTHING))):
        assert PLANTED not in text


def test_network_policies_close_every_pod_and_open_two(tmp_path: Path) -> None:
    policies = of_kind(rendered("everything"), "NetworkPolicy")
    ours = {"app.kubernetes.io/name": "views-dagster", "app.kubernetes.io/instance": "month"}
    closed_to_all = policies["closed"]["spec"]
    assert closed_to_all == {"podSelector": {"matchLabels": ours}, "policyTypes": ["Ingress"]}
    for job in launched(tmp_path, "everything").values():
        assert ours.items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert policies["webserver"]["spec"]["ingress"] == [
        {
            "from": [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}},
                {"ipBlock": {"cidr": "10.0.0.0/8"}},
            ],
            "ports": [{"port": 3000}],
        }
    ]
    assert set(of_kind(rendered("minimal"), "NetworkPolicy")) == {"closed", "code-location"}
    assert of_kind(rendered("bare"), "NetworkPolicy") == {}


@pytest.mark.parametrize("values", ["minimal", "everything"])
def test_selectors_find_their_pods(values: str) -> None:
    manifests = rendered(values)
    templates = deployed(values)
    wanted: list[tuple[str, dict[str, Any]]] = [
        *((name, service["spec"]["selector"]) for name, service in of_kind(manifests, "Service").items()),
        *((n, b["spec"]["selector"]["matchLabels"]) for n, b in of_kind(manifests, "PodDisruptionBudget").items()),
        *((n, d["spec"]["selector"]["matchLabels"]) for n, d in of_kind(manifests, "Deployment").items()),
    ]
    assert len(wanted) == 8
    for name, selector in wanted:
        assert [n for n, t in templates.items() if selector.items() <= t["metadata"]["labels"].items()] == [name]
