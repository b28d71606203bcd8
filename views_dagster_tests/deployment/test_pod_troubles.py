"""What the log of a run says of pods that never start, are killed or cannot be asked for."""

from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes
import pytest
from kubernetes.client.rest import ApiException

from resources.pod_troubles import OF_RUN, OF_STEP, explanation, refusal, waiting
from resources.pods import pod_executor
from views_dagster.errors import PlatformError
from views_dagster_tests.deployment.cluster import Cluster, Fate, NeverRuns, Waits, deployment, write_kubeconfig
from views_dagster_tests.deployment.launching import launch, open_instance, submit


def pod(status: dict[str, Any], limits: dict[str, str] | None = None) -> Any:
    """A pod as the client reads it."""
    container = {"name": "dagster", "image": "views:1", "resources": {"limits": limits or {}}}
    return read({"metadata": {"name": "p"}, "spec": {"containers": [container]}, "status": status}, "V1Pod")


def read(value: Any, kind: str) -> Any:
    return kubernetes.client.ApiClient()._ApiClient__deserialize(value, kind)


def ended(code: int, reason: str) -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason}}
    status = {"name": "dagster", "image": "views:1", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"phase": "Failed", "containerStatuses": [status]}


def held(reason: str, message: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    status = {"name": "dagster", "image": "views:2", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"phase": "Pending", "containerStatuses": [status]}


UNSCHEDULED = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        }
    ],
}
LATE = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}


@pytest.mark.parametrize(
    ("pods", "conditions", "words", "again"),
    [
        ([pod(ended(137, "OOMKilled"), {"memory": "8Gi"})], [], ["more than 8Gi", "Raise compute.memory"], False),
        ([pod(ended(137, "Error"))], [], ["killed (exit code 137)", "raise compute.memory"], True),
        (
            [pod({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory"})],
            [],
            ["evicted: The node was low on resource: memory", "compute.memory"],
            True,
        ),
        ([], [], ["Its pod is gone"], True),
        (
            [pod(UNSCHEDULED)],
            [LATE],
            ["longer than its time limit", "never started: no node takes it (0/3", "time_limit"],
            False,
        ),
    ],
    ids=["out of memory", "killed", "evicted", "gone", "out of time"],
)
def test_why_a_pod_ended(pods: list[Any], conditions: list[Any], words: list[str], again: bool) -> None:
    reason, helps = explanation(pods, [read(condition, "V1JobCondition") for condition in conditions], OF_STEP)
    assert reason is not None
    assert all(word in reason for word in words), reason
    assert helps is again


def test_a_pod_that_failed_by_itself_is_left_to_its_log() -> None:
    assert explanation([pod(ended(1, "Error"))], [], OF_STEP) == (None, False)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (UNSCHEDULED, ["no node takes it (0/3 nodes are available: 3 Insufficient nvidia.com/gpu.)", "gpu_type"]),
        (held("ImagePullBackOff", "not found"), ["image views:2 cannot be pulled (not found)", "compute.image"]),
        (
            held("CreateContainerConfigError", 'secret "postgres" not found'),
            ['secret "postgres" not found', "is absent"],
        ),
    ],
    ids=["no GPU", "no image", "no secret"],
)
def test_what_a_pod_waits_for(status: dict[str, Any], words: list[str]) -> None:
    said = waiting([pod(status)], OF_STEP)
    assert said is not None
    assert all(word in said for word in words), said


@pytest.mark.parametrize("status", [{"phase": "Running"}, {"phase": "Pending"}, held("ContainerCreating", "")])
def test_a_pod_that_is_on_its_way_is_not_spoken_of(status: dict[str, Any]) -> None:
    assert waiting([pod(status)], OF_STEP) is None


def test_what_the_api_server_refuses() -> None:
    error = ApiException(status=403, reason="Forbidden")
    error.body = 'jobs.batch is forbidden: User "runs" cannot create'
    assert refusal(error) == (
        'the Kubernetes API server answered 403 Forbidden: jobs.batch is forbidden: User "runs" cannot create. '
        "Give the service account the rights in the chart's role, or the namespace a larger quota"
    )


@dg.op
def alone() -> None:
    pass


@dg.job(executor_def=pod_executor)
def one_step() -> None:
    alone()


@dg.op(tags={"dagster-k8s/config": {"job_spec_config": {"active_deadline_seconds": 4}}})
def wants_a_gpu() -> None:
    pass


@dg.op(tags={"dagster-k8s/config": {"container_config": {"resources": {"limits": {"memory": "8Gi"}}}}})
def wants_memory() -> None:
    pass


@dg.job(executor_def=pod_executor)
def two_steps() -> None:
    wants_a_gpu()
    wants_memory()


def messages_of(job: dg.JobDefinition, home: str) -> tuple[bool, list[str]]:
    """Run a job here, its steps on the cluster of the instance; whether it succeeded, and all that its log says."""
    with dg.DagsterInstance.from_config(home) as instance:
        result = dg.execute_job(dg.reconstructable(job), instance=instance)
        entries = instance.all_logs(result.run_id)
    errors = [entry.dagster_event.event_specific_data for entry in entries if entry.dagster_event]
    return result.success, [entry.user_message for entry in entries] + [str(error) for error in errors]


def said_in(messages: list[str], *words: str) -> bool:
    return any(all(word in message for word in words) for message in messages)


def test_a_step_that_no_api_server_takes_fails_and_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not there, asked as often as it is in production but without the waits in between."""
    monkeypatch.setattr("dagster_k8s.client.time.sleep", lambda seconds: None)
    write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9")
    home = deployment(tmp_path, tmp_path / "kubeconfig")["DAGSTER_HOME"]
    success, messages = messages_of(one_step, home)
    assert not success
    assert said_in(
        messages, "no pod could be started for alone: the Kubernetes API server cannot be reached", "network"
    )
    assert said_in(messages, "The Job of alone could not be deleted: the Kubernetes API server cannot be reached")


def test_a_run_that_no_api_server_takes_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the daemon launches it, with the chart's own launcher."""
    monkeypatch.setattr("dagster_k8s.client.time.sleep", lambda seconds: None)
    write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9")
    with open_instance(tmp_path, tmp_path / "kubeconfig", "minimal") as instance:
        run = submit(instance)
        with pytest.raises(PlatformError, match=rf"run {run.run_id}: the Kubernetes API server cannot be reached .*9"):
            launch(instance, run)
        said = instance.run_launcher.get_run_worker_debug_info(run)
    assert said
    assert said.startswith("Its pod cannot be looked at: the Kubernetes API server cannot be reached")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (ended(137, "OOMKilled"), ["more than 8Gi", "Raise runs.resources of the deployment."]),
        (ended(137, "Error"), ["killed (exit code 137)", "raise runs.resources"]),
        (UNSCHEDULED, ["no node takes it", "runs.nodeSelector", "After runs.startTimeoutSeconds the run fails"]),
    ],
    ids=["out of memory", "killed", "no node"],
)
def test_what_became_of_the_pod_of_a_run_names_the_settings_of_runs(status: dict[str, Any], words: list[str]) -> None:
    pods = [pod(status, {"memory": "8Gi"})]
    said = waiting(pods, OF_RUN) or explanation(pods, [], OF_RUN)[0]
    assert said
    assert all(word in said for word in words), said
    assert "compute" not in said


def test_pods_need_their_run_launcher(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    with pytest.raises(PlatformError, match=r"needs K8sRunLauncher .* in dagster.yaml, not DefaultRunLauncher"):
        messages_of(one_step, str(tmp_path))


@pytest.mark.slow
def test_the_log_of_the_run_says_what_pods_wait_for_and_died_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.pods.HEALTH_SECONDS", 1)
    lacking = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    fates: dict[str, list[Fate]] = {"wants_a_gpu": [Waits(lacking)], "wants_memory": [NeverRuns(137, "", "OOMKilled")]}
    (tmp_path / "cluster").mkdir()
    with Cluster(tmp_path / "cluster", fates) as cluster:
        success, messages = messages_of(two_steps, deployment(tmp_path, cluster.kubeconfig)["DAGSTER_HOME"])
        assert {len(cluster.of_step(step)) for step in fates} == {1}, "no retry gives a node a GPU or a pod memory"
    assert not success
    assert said_in(messages, "The pod of wants_a_gpu waits: no node takes it", lacking)
    assert said_in(messages, "Step wants_a_gpu failed", "longer than its time limit", lacking)
    assert said_in(messages, "Step wants_memory failed", "out of memory: it needed more than 8Gi", "compute.memory")


@pytest.mark.slow
def test_a_step_without_retries_starts_again_when_its_pod_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.pods.HEALTH_SECONDS", 1)
    monkeypatch.setattr("resources.pods.LOST_POD_DELAY", 0)
    (tmp_path / "cluster").mkdir()
    fates: dict[str, list[Fate]] = {"alone": [NeverRuns(137, "")]}
    with Cluster(tmp_path / "cluster", fates) as cluster:
        success, messages = messages_of(one_step, deployment(tmp_path, cluster.kubeconfig)["DAGSTER_HOME"])
        assert len(cluster.of_step("alone")) == 2
    assert success
    assert said_in(messages, "Its pod was killed (exit code 137)")
