"""`compute:` blocks: what becomes of each setting in the step's pod, and what a wrong one says."""

from typing import Any

import dagster as dg
import kubernetes
import kubernetes_validate
import pytest
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import (
    DagsterK8sJobConfig,
    UserDefinedDagsterK8sConfig,
    construct_dagster_k8s_job,
    get_user_defined_k8s_config,
)
from pydantic import ValidationError

from views_dagster.components.blocks import CatalogueError
from views_dagster.components.compute import POD_TAG, Compute
from views_dagster.errors import PanelError
from views_dagster_tests.catalogues import Catalogue, catalogue

__all__ = ["catalogue"]

ALIEN = "conflict/models/purple_alien"
BLOCK = """\
  compute:
    gpu: 2
    gpu_type: NVIDIA-A100-SXM4-80GB
    cpu: 500m
    memory: 16Gi
    node_selector: {zone: north}
    tolerations:
      - {key: nvidia.com/gpu, effect: NoSchedule}
      - {key: team, value: views}
    time_limit: 2h
    retries: 3
    retry_delay: 90
    image: registry.example.org/views/cuda:1.2
  maturity: deployed
"""
LAUNCHER = {
    "run_k8s_config": {
        "container_config": {
            "resources": {"limits": {"cpu": "2", "memory": "4Gi"}, "requests": {"cpu": "1", "memory": "4Gi"}}
        },
        "job_spec_config": {"ttl_seconds_after_finished": 600},
    }
}


def built(tags: dict[str, Any]) -> dict[str, Any]:
    """The Kubernetes Job of a step with these op tags, in a deployment whose launcher sets resources for all pods."""
    op = dg.op(name="train", tags=tags)(lambda: None)
    context = K8sContainerContext.create_from_config({"k8s": LAUNCHER}).merge(
        K8sContainerContext(run_k8s_config=get_user_defined_k8s_config(op.tags))
    )
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(job_image="registry.example.org/views:1", dagster_home="/opt/dagster"),
        ["dagster", "api", "execute_step"],
        "dagster-step-1",
        user_defined_k8s_config=context.run_k8s_config,
    )
    manifest: dict[str, Any] = kubernetes.client.ApiClient().sanitize_for_serialization(job)
    kubernetes_validate.validate(manifest, "1.37", strict=True)
    return manifest


def test_every_setting_reaches_the_pod_of_training_and_no_other(catalogue: Catalogue) -> None:
    catalogue.change(ALIEN, "  maturity: deployed\n", BLOCK)
    graph = catalogue.load().resolve_asset_graph()
    steps = {key.to_user_string(): asset for asset in graph.assets_defs for key in asset.keys}
    training = steps.pop("artifacts/purple_alien").op
    assert not [key for key, asset in steps.items() if asset.op.tags.get(POD_TAG) or asset.op.pools]
    job = built(dict(training.tags))
    assert job["spec"]["activeDeadlineSeconds"] == 7200
    assert job["spec"]["ttlSecondsAfterFinished"] == 600
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"zone": "north", "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    assert pod["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "team", "operator": "Equal", "value": "views"},
    ]
    (container,) = pod["containers"]
    assert container["image"] == "registry.example.org/views/cuda:1.2"
    assert container["resources"] == {
        "limits": {"cpu": "500m", "memory": "16Gi", "nvidia.com/gpu": "2"},
        "requests": {"cpu": "500m", "memory": "16Gi"},
    }
    assert training.pools == {"gpu"}
    assert training.retry_policy == dg.RetryPolicy(max_retries=3, delay=90)


def test_nothing_is_asked_for_by_default() -> None:
    assert (Compute().op_tags(), Compute().pool, Compute().retry_policy) == ({}, None, None)
    (container,) = built({})["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "4Gi"}


def test_the_label_of_the_gpus_type_can_be_another() -> None:
    block = Compute.model_validate({"gpu": 1, "gpu_type": "nvidia-l4", "gpu_label": "cloud.google.com/gke-accelerator"})
    made = UserDefinedDagsterK8sConfig.from_dict(block.op_tags()[POD_TAG])
    assert made.pod_spec_config == {"node_selector": {"cloud.google.com/gke-accelerator": "nvidia-l4"}}


@pytest.mark.parametrize(("written", "seconds"), [(30, 30), ("45s", 45), ("90m", 5400), ("2h", 7200), ("1d", 86400)])
def test_durations(written: Any, seconds: int) -> None:
    assert Compute(time_limit=written).time_limit == seconds


@pytest.mark.parametrize("written", [0, -1, True, 1.5, "2 h", "0h", "h", "2w", "1h30m", 2**31, "99999999999d"])
def test_what_is_no_duration(written: Any) -> None:
    with pytest.raises(ValidationError, match="write a number of seconds, or a number with s, m, h or d such as 90m"):
        Compute(time_limit=written)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("{gpus: 1}", "compute.gpus: there is no setting gpus; did you mean gpu?"),
        ("{gpu: one}", "compute.gpu: should be a valid integer"),
        ("{gpu: -1}", "compute.gpu: should be greater than or equal to 0, not -1"),
        (
            "{memory: 8GB}",
            "compute.memory: write a number with Ki, Mi, Gi, Ti, k, M, G or T such as 16Gi or 500M, not '8GB'",
        ),
        ("{cpu: 2}", "compute.cpu: write a number in quotes such as '2', or thousandths such as 500m, not 2"),
        ("{gpu_type: NVIDIA-A100}", "compute: gpu_type NVIDIA-A100 asks for no GPU; write how many as gpu"),
        ("{time_limit: 2 hours}", "compute.time_limit: write a number of seconds, or a number with s, m, h or d"),
        ("{retries: many}", "compute.retries: should be a valid integer"),
        ("{node_selector: {zone: 1}}", "compute.node_selector.zone: should be a valid string, not 1"),
        (
            "{tolerations: [{key: a, efect: NoSchedule}]}",
            "compute.tolerations.0.efect: there is no setting efect; did you mean effect?",
        ),
        (
            "{tolerations: [{key: a, effect: Never}]}",
            "compute.tolerations.0.effect: should be 'NoSchedule', 'PreferNoSchedule' or 'NoExecute', not 'Never'",
        ),
        ("{image: 'views image'}", "compute.image: String should match pattern"),
    ],
)
def test_a_mistake_names_its_line_and_what_is_allowed(catalogue: Catalogue, block: str, expected: str) -> None:
    catalogue.change(ALIEN, "  maturity: deployed\n", f"  maturity: deployed\n  compute: {block}\n")
    with pytest.raises(CatalogueError) as raised:
        catalogue.load()
    assert f"{ALIEN}/defs.yaml:18: {expected}" in str(raised.value)


def test_what_a_machine_is_asked_for_does_not_make_a_model_another(catalogue: Catalogue) -> None:
    key = dg.AssetKey(["artifacts", "purple_alien"])
    before = catalogue.load().resolve_asset_graph().get(key).code_version
    catalogue.change(ALIEN, "  maturity: deployed\n", BLOCK)
    assert catalogue.load().resolve_asset_graph().get(key).code_version == before


@pytest.mark.parametrize(("error", "attempts"), [(PanelError("a gap"), 1), (OSError("no space left"), 3)])
def test_an_error_that_a_retry_cannot_mend_is_not_retried(error: Exception, attempts: int) -> None:
    compute = Compute(retries=2, retry_delay=1)
    tried = []

    @dg.asset(retry_policy=compute.retry_policy)
    @compute.retrying
    def trained() -> None:
        tried.append(1)
        raise error

    result = dg.materialize([trained], raise_on_error=False)
    assert not result.success
    assert len(tried) == attempts
    failure = result.filter_events(lambda event: event.is_step_failure)[0].step_failure_data.error
    assert failure is not None
    assert str(error) in failure.to_string()
