"""The chart, rendered by Helm itself, with the sets of values that the tests share."""

from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "views-dagster"
RELEASE, NAMESPACE = "month", "forecasts"
NAME = f"{RELEASE}-views-dagster"
IMAGE = "registry.example.org/views-dagster:2024.1"

Manifest = dict[str, Any]

MINIMAL: dict[str, Any] = {
    "image": {"repository": "registry.example.org/views-dagster", "tag": "2024.1"},
    "postgres": {"secretName": "dagster-database"},
    "objectStore": {"url": "s3://forecasts/production"},
    "mlflow": {"trackingUri": "http://mlflow.tracking:5000"},
}
EVERYTHING: dict[str, Any] = {
    **MINIMAL,
    "image": {**MINIMAL["image"], "digest": f"sha256:{'0' * 64}", "pullSecrets": ["registry"]},
    "objectStore": {
        "url": "s3://forecasts/production",
        "endpoint": "http://store.example.org:9000",
        "region": "eu-north-1",
        "allowHttp": True,
        "credentials": {"secretName": "store"},
    },
    "mlflow": {"trackingUri": "https://mlflow.example.org", "credentials": {"secretName": "tracking"}},
    "studies": {"secretName": "studies"},
    "sources": "ucdp_ged:\n  reader: {files: {path: /data/ged.csv}}\n",
    "dataVolume": {"claimName": "sources"},
    "ucdp": {"secretName": "ucdp"},
    "notifications": {
        "webhook": {"secretName": "webhook"},
        "mail": {"host": "smtp.example.org", "from": "a@example.org", "to": "b@example.org", "secretName": "smtp"},
    },
    "environment": {"OMP_NUM_THREADS": "4"},
    "secretEnvironment": [{"name": "WDI_TOKEN", "secretName": "wdi", "key": "token"}],
    "runs": {
        "nodeSelector": {"pool": "training"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "annotations": {"example.org/team": "forecasts"},
    },
    "webserver": {
        "replicas": 2,
        "pathPrefix": "/views",
        "service": {"type": "ClusterIP", "port": 8080, "annotations": {"example.org/a": "b"}},
    },
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "host": "views.example.org",
        "tlsSecretName": "views-tls",
        "annotations": {"example.org/login": "on"},
    },
    "computeLogs": {"claimName": "logs"},
    "scheduling": {"nodeSelector": {"pool": "services"}, "tolerations": [{"key": "services", "operator": "Exists"}]},
    "serviceAccountAnnotations": {"run": {"example.org/role": "writer"}, "step": {"example.org/role": "writer"}},
    "networkPolicy": {
        "webserverFrom": [{"namespace": "ingress-nginx"}, {"cidr": "10.0.0.0/8"}],
        "restrictEgress": True,
        "egress": [{"cidr": "10.1.0.0/16", "ports": [5432, 443]}],
    },
}
BARE: dict[str, Any] = {
    **MINIMAL,
    "runs": {"maxGpuSteps": 1, "retries": 0},
    "webserver": {"readOnly": True},
    "networkPolicy": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
}
"""No GPUs to share, no run started again, nobody starts a run by hand, no policies."""

VALUE_SETS = {"minimal": MINIMAL, "everything": EVERYTHING, "bare": BARE}


def render(values: dict[str, Any]) -> list[Manifest]:
    """What `helm template` prints, as documents."""
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    return [
        document
        for name, text in sorted(files.items())
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


@cache
def rendered(values: str) -> list[Manifest]:
    """The manifests of one of the value sets."""
    return render(VALUE_SETS[values])


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Those of a kind, by name without the release's."""
    return {m["metadata"]["name"].removeprefix(f"{NAME}-"): m for m in manifests if m["kind"] == kind}


def dagster_yaml(manifests: list[Manifest]) -> dict[str, Any]:
    """The instance's configuration, as pods find it in `DAGSTER_HOME`."""
    config: dict[str, Any] = yaml.safe_load(of_kind(manifests, "ConfigMap")["instance"]["data"]["dagster.yaml"])
    return config
